"""Real runs of a grid: watched, killed, resumed, shared among workers."""

import numpy as np
import pytest

from study.lines import read_lines, runs_in
from study.runner import run
from study.training import (
    Parts,
    samples_of,
    split_of,
    train,
    training,
)

TINY = training("digits", "agad", 3, backbone="encoder_decoder", epochs=2, image_size=8)


@pytest.mark.slow
def test_a_real_run_watched_trains_the_same_weights(tmp_path):
    import keras

    from study.training import make_model

    lines = train(TINY, tmp_path)
    reported = {line["policy"]: line for line in lines if line["chosen"]}
    assert set(reported) == {"last", "normal_only", "all_labels"}
    assert len({line["split_sha256"] for line in lines}) == 1
    assert not list(tmp_path.iterdir())  # checkpoints are gone
    assert [look[0] for look in reported["last"]["curve"]] == [1, 2]
    assert reported["last"]["train_normal"] > 100

    samples = samples_of("digits")
    split = split_of(TINY, samples)
    keras.utils.set_random_seed(0)
    model = make_model(TINY, samples)
    rows = split.train_normal
    model.fit(samples.x[rows], np.zeros(len(rows), int), epochs=2, seed=0, batch_size=256, verbose=0)
    from agad_tf.evaluation.metrics import auroc

    tests = np.concatenate([split.test_normal, split.test_anomaly])
    labels = np.repeat([0, 1], [len(split.test_normal), len(split.test_anomaly)])
    unwatched = auroc(labels, model.predict(samples.x[tests], verbose=0))
    assert reported["last"]["auroc"] == pytest.approx(unwatched, abs=2e-5)


def judged(lines):
    """What lines say about scores, without seconds."""
    return [{k: v for k, v in line.items() if "seconds" not in k and k != "commit"} for line in lines]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    whole = train(TINY, tmp_path / "whole")
    monkeypatch.setattr("study.training.CHECKPOINT_EVERY", 1)
    look = Parts.look
    seen = []

    def killed(self, scores):
        seen.append(len(seen))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return look(self, scores)

    monkeypatch.setattr(Parts, "look", killed)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "cut")
    assert list(tmp_path.glob("cut/*/*.checkpoint"))
    again = train(TINY, tmp_path / "cut")
    assert seen == [0, 1, 2]  # the first look was not made again
    assert judged(again) == judged(whole)
    assert again[0]["cpu_seconds"] is None


@pytest.mark.slow
def test_a_run_killed_between_its_last_epoch_and_its_lines_trains_no_epoch_again(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr("study.training.lines_of", killed)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, tmp_path / "cut")
    look = Parts.look
    looks = []
    monkeypatch.setattr(Parts, "look", lambda self, scores: looks.append(1) or look(self, scores))
    again = train(TINY, tmp_path / "cut")
    assert not looks
    assert again[0]["epoch_cpu_seconds"] > 0
    assert judged(again) == judged(train(TINY, tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray"])
def test_workers_give_the_lines_that_one_process_gives(tmp_path, backend):
    if backend == "ray":
        ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'agad-tf[ray]'")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    jobs = [training("digits", "isolation_forest", normal, image_size=8) for normal in (0, 1, 2)]
    lines = {}
    for workers, name in ((1, "loky"), (2, backend)):
        path = tmp_path / f"{workers}.jsonl"
        outcome = run(jobs, path, train, tmp_path, workers, name, tell=lambda line: None)
        assert (outcome.done, outcome.failed) == (3, 0), read_lines(path)
        lines[workers] = sorted(
            judged(runs_in(path)), key=lambda line: (line["config_sha256"], line["policy"])
        )
    assert lines[1] == lines[2]
