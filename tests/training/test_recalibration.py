"""A new threshold without training: from the run's own samples or given ones, with the old one kept."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from run_cases import scores_of, untrained_run
from sklearn.datasets import load_digits

from agad_tf.cli import main
from agad_tf.commands.evaluation import recalibration_text
from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import Calibration, calibrate
from agad_tf.training.configuration import configure
from agad_tf.training.evaluate import calibration_problem
from agad_tf.training.open import evaluation_data, load_for
from agad_tf.training.recalibration import recalibrate


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A run of digit 8 with 37 held-out normals, and held-out anomalies, without calibration."""
    path = tmp_path_factory.mktemp("runs") / "eight"
    return untrained_run(path, normal_classes="8", gamma=0.35, validation=0.3)


@pytest.fixture
def run(eight):
    """The run without calibrations."""
    for file in eight.path.glob("calibration*"):
        file.unlink()
    return eight


def again(run):
    """The run as the next process finds it, without loading its model."""
    return replace(run, calibration=Calibration.load(run.path / "calibration.json"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Every digit 8, those of the training part too, and every digit 1."""
    folder = tmp_path_factory.mktemp("images")
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for name, digit in (("good", 8), ("bad", 1)):
        (folder / name).mkdir()
        for index in np.flatnonzero(digits.target == digit):
            Image.fromarray(pixels[index]).save(folder / name / f"{index:04d}.png")
    return folder


def test_from_the_held_out_normals_and_the_old_one_is_kept(run):
    fresh = run.path
    normals = scores_of(run, "validation_normal")
    first = recalibrate(run, rate=0.05)
    assert first.calibration == calibrate(
        normals,
        scores_of(run, "validation_anomaly"),
        rate=0.05,
        score="reconstruction",
        split="held-out normals of the training part",
    )
    assert (first.previous, first.kept_as, first.left_out) == (None, None, 0)
    second = recalibrate(again(run), rate=0.2)
    third = recalibrate(again(run), rate=0.1, confidence=0.8)
    assert second.previous == first.calibration
    assert third.kept_as == fresh / "calibration-2.json"
    assert Calibration.load(fresh / "calibration-1.json") == first.calibration
    assert Calibration.load(fresh / "calibration-2.json") == second.calibration
    assert again(run).calibration == third.calibration
    assert second.calibration.threshold < first.calibration.threshold
    assert not list(fresh.glob(".*partial*"))


def test_policies_follow_from_the_wanted_figure(run):
    anomalies = scores_of(run, "validation_anomaly")
    found = recalibrate(run, recall=0.9).calibration
    assert found.policy == "wanted_recall"
    assert np.mean(anomalies > found.threshold) >= 0.9
    assert recalibrate(run, quantile=0.8).calibration.quantile == 0.8
    assert recalibrate(run, policy="best_f1").calibration.n_anomaly == len(anomalies)


def test_evaluate_score_and_report_use_the_new_calibration(run, images, tmp_path):
    recalibrate(run, rate=0.05)
    result = json.loads(invoke("recalibrate", run.path, "--rate", 0.4, "--json").stdout)
    threshold = Calibration.load(run.path / "calibration.json").threshold
    assert (result["false_alarm_rate"], result["threshold"]) == (0.4, threshold)
    assert result["kept_as"] == str(run.path / "calibration-1.json")

    page = tmp_path / "report.html"
    evaluated = json.loads(invoke("evaluate", run.path, "--json", f"--report={page}").stdout)
    assert evaluated["threshold"] == threshold
    scores = scores_of(run, "test_normal")
    assert evaluated["false_alarm_rate"] == pytest.approx(np.mean(scores > threshold), abs=1e-6)
    assert evaluated["report"] == str(page)
    text = page.read_text()
    assert f'class="auroc" value="{evaluated["auroc"]!r}"' in text
    assert f'class="threshold" value="{threshold!r}"' in text
    alarms = int((scores > threshold).sum())
    assert f"{alarms} of {len(scores)}</data>" in text
    assert "encoder_decoder" in text
    assert "normal samples held out" in text

    rows = list(csv.DictReader(io.StringIO(invoke("score", run.path, images / "good").stdout)))
    for row in rows:
        assert row["is_anomaly"] == str(float(np.float32(row["score"])) > threshold)
    assert len({row["is_anomaly"] for row in rows}) == 2


def test_words_for_people():
    calibration = {"policy": "false_alarm_rate", "false_alarm_rate": 0.1, "confidence": None}
    result = calibration | {"threshold": 2.5, "n_normal": 37, "n_anomaly": None, "split": "held-out normals"}
    result |= {"previous_threshold": 3.5, "left_out": 4, "kept_as": "r/calibration-2.json", "run": "r"}
    text = recalibration_text(result)
    assert "threshold 2.5 (before: 3.5)" in text
    assert "on average at most 10 %" in text
    assert "4 given samples were left out" in text
    assert "calibration-2.json" in text


def test_given_normals_leave_out_what_was_trained_on(run, images):
    done = recalibrate(run, rate=0.05, normals=images / "good")
    trained = len(run.split.train_normal)
    assert done.left_out == trained
    assert done.calibration.n_normal == len(list((images / "good").iterdir())) - trained
    assert done.calibration.n_anomaly is None  # the run's own anomalies belong to its own normals
    both = recalibrate(run, recall=0.8, normals=images / "good", anomalies=images / "bad")
    assert both.calibration.n_anomaly > 100


def test_given_normals_of_several_sizes_and_of_a_labelled_archive(run, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(25):
        side = 8 + 2 * (index % 3)
        Image.fromarray(rng.integers(0, 256, (side, side), np.uint8)).save(tmp_path / f"{index:02d}.png")
    mixed = recalibrate(run, normals=tmp_path, rate=0.1).calibration
    first = np.asarray(Image.open(tmp_path / "01.png"))[None, ..., None]
    assert np.min(np.abs(mixed.normal_scores - run.model.predict(first, verbose=0))) < 1e-4
    x = rng.integers(0, 256, (40, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "labelled.npz", x=x, y=np.repeat([8, 3], [30, 10]))
    labelled = recalibrate(run, normals=tmp_path / "labelled.npz", rate=0.1).calibration
    np.testing.assert_allclose(
        labelled.normal_scores, np.sort(run.model.predict(x[:30], verbose=0)), rtol=1e-5
    )


def test_which_class_of_other_data_is_normal(run, images, tmp_path):
    """What the source says, then what is called as in the run; never the same position in another list."""
    normal_of = {"configuration": run.configuration | {"split": {"normal_classes": ["0"]}}}
    _, split = evaluation_data(replace(run, **normal_of), images)
    samples = load_for(run, images)
    assert {samples.class_names[c] for c in samples.classes[split.test_normal]} == {"good"}
    x = np.zeros((4, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "named.npz", x=x, y=[0, 1, 1, 0], class_names=["3", "8"])
    _, split = evaluation_data(run, tmp_path / "named.npz")
    assert split.test_normal.tolist() == [1, 2]
    np.savez(tmp_path / "other.npz", x=x, y=[0, 1, 1, 0], class_names=["cat", "dog"])
    with pytest.raises(InputError, match="received the classes cat, dog: name the normal class"):
        evaluation_data(run, tmp_path / "other.npz")
    _, split = evaluation_data(run, tmp_path / "other.npz", ["dog"])
    assert split.test_normal.tolist() == [1, 2]


def test_mistakes_are_told_and_change_nothing(run, images, tmp_path):
    fresh = run.path
    recalibrate(run, rate=0.05)
    before = (fresh / "calibration.json").read_bytes()
    with pytest.raises(InputError, match="add 62 more"):
        recalibrate(run, rate=0.01)
    with pytest.raises(InputError, match="takes no rate"):
        recalibrate(run, policy="quantile", quantile=0.9, rate=0.1)
    with pytest.raises(InputError, match="best_f1"):
        recalibrate(run, policy="best_f1", normals=images / "good")
    np.savez(tmp_path / "other.npz", x=np.zeros((5, 8, 8, 1), np.uint8), y=np.arange(5))
    with pytest.raises(InputError, match="expected normals to calibrate on, received none"):
        recalibrate(run, normals=tmp_path / "other.npz")
    with pytest.raises(InputError, match="wanted_recall"):
        recalibrate(run, policy="magic")
    invoke("recalibrate", tmp_path / "no_run", code=2)
    assert (fresh / "calibration.json").read_bytes() == before
    assert not list(fresh.glob("calibration-*"))


def test_train_takes_the_wanted_rate_and_refuses_before_training(run, tmp_path):
    configuration = configure(settings=[("rate", 0.2), ("confidence", 0.9)])
    assert configuration["calibration"] == {
        "policy": "false_alarm_rate",
        "rate": 0.2,
        "confidence": 0.9,
        "recall": None,
        "quantile": None,
    }
    assert calibration_problem(run.split, configuration["calibration"]) is None
    for option, words in (
        (["--rate", ".001"], "999 held-out normals"),
        (["--set", "policy=best_f1"], "labelled anomalies"),
        (["--set", "policy=quantile"], "expects quantile"),
    ):
        data = "--data", "digits", "--normal-class", 8, "--gamma", 0, "--detector", "agad"
        result = invoke("train", *data, *option, "--out", tmp_path / "never", code=2)
        assert words in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("never*"))
