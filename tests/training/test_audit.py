"""The audit: training-mode batch norm as it is elsewhere, a model left as it was."""

import json

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from run_cases import untrained_run
from sklearn.datasets import load_digits

from agad_tf import AGAD, InputError
from agad_tf.cli import main
from agad_tf.evaluation.metrics import auroc
from agad_tf.training.audit import (
    MODES,
    AuditObserver,
    audit_run,
    audit_scores,
    audit_text,
    batch_mode_scores,
    summary,
)
from agad_tf.training.open import load_split


@pytest.fixture(scope="module")
def images():
    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None], digits.target


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    """An untrained run of digit 8 among the first 400 digits."""
    folder = tmp_path_factory.mktemp("runs")
    np.savez(folder / "few.npz", x=images[0][:400], y=images[1][:400])
    settings = {"normal_classes": "8", "gamma": 0.0, "epochs": 1, "fit.batch_size": 16}
    return untrained_run(folder / "eight", folder / "few.npz", **settings)


def weights_of(model):
    return [np.array(weight) for weight in model.get_weights()]


@pytest.mark.parametrize("score", ["reconstruction", "fused"])
def test_scores_are_those_of_networks_in_training_mode(images, score):
    x = images[0][:50]
    model = AGAD((8, 8, 1), "encoder_decoder", bn_strategy="adv_prop", score=score)
    model.prepare_scoring(images[0][100:200])
    before = weights_of(model)
    scores = batch_mode_scores(model, x, batch_size=20)
    for left, right in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(left, right)
    for network in model.scoring_networks().values():
        for norm in network.batch_norms():
            assert (norm.trainable, norm.momentum) == (False, 0.9)

    expected = []
    for network in model.scoring_networks().values():
        network.trainable = True
    for start in (0, 20, 40):
        batch = model.preprocess(tf.constant(x[start : start + 20]))
        redrawn = model.scoring_generator(batch, route=0, training=True)
        parts = [tf.sqrt(tf.reduce_sum((batch - redrawn) ** 2, [1, 2, 3]))]
        if score == "fused":
            parts.append(-model.scoring_discriminator(batch, route=0, training=True)[0])
            errors = tf.reduce_mean(tf.abs(batch - redrawn), axis=-1, keepdims=True)
            parts.append(model.local_score(errors)[:, 0])
            parts = [
                (part - model.score_means[i]) / model.score_deviations[i] for i, part in enumerate(parts)
            ]
        expected.append(sum(parts))
    np.testing.assert_allclose(scores, np.concatenate(expected), rtol=2e-4, atol=2e-4)


def test_neighbours_matter_in_training_mode_only(images):
    x = images[0][:40]
    model = AGAD((8, 8, 1), "encoder_decoder", score="reconstruction")
    model.prepare_scoring(images[0][100:200])
    order = np.random.default_rng(0).permutation(40)
    shuffled = batch_mode_scores(model, x[order], 10)
    straight = batch_mode_scores(model, x, 10)[order]
    assert np.abs(shuffled - straight).max() > 0.01
    np.testing.assert_allclose(
        model.predict(x[order], verbose=0), model.predict(x, verbose=0)[order], rtol=1e-5
    )


def test_modes_see_the_same_samples_in_their_order(run, monkeypatch):
    from agad_tf.training import audit

    samples, split = load_split(run.configuration)
    seen = []

    def first_pixels(model, x, batch_size):
        seen.append((np.asarray(x), batch_size))
        return np.asarray(x).reshape(len(x), -1).sum(1)

    monkeypatch.setattr(audit, "batch_mode_scores", first_pixels)
    result = audit_scores(run.model, samples, split, batch_size=32)
    rows = np.concatenate([split.test_normal, split.test_anomaly])
    labels = np.repeat([0, 1], [len(split.test_normal), len(split.test_anomaly)])
    brightness = samples.x[rows].reshape(len(rows), -1).sum(1)
    assert result["batch_shuffled"] == result["batch_ordered"] == pytest.approx(auroc(labels, brightness))
    (shuffled, _), (ordered, size) = seen
    assert size == 32
    wanted = np.concatenate(
        [samples.x[rows[(labels == 1) & (samples.classes[rows] == c)]] for c in (0, 1, 2, 3, 4, 5, 6, 7, 9)]
    )
    np.testing.assert_array_equal(ordered[len(split.test_normal) :], wanted)
    assert not np.array_equal(shuffled, ordered)
    assert result["inference"] == pytest.approx(
        auroc(labels, run.model.predict(samples.x[rows], verbose=0)), abs=1e-6
    )


def test_audit_of_a_run_with_and_without_retraining(run):
    before = (run.path / "model.keras").read_bytes()
    first = audit_run(run, batch_size=64)
    assert first["curve"] is None
    assert set(first["saved"]) == set(MODES)
    assert "--retrain" in audit_text(first)

    second = audit_run(run, retrain=True, batch_size=64)
    assert second["saved"] == pytest.approx(first["saved"], abs=1e-6)
    assert [record["epoch"] for record in second["curve"]] == [1]
    assert second["last"] == second["curve"][-1]
    assert second["best"]["batch_ordered"] == {"epoch": 1, "auroc": second["last"]["batch_ordered"]}
    assert (run.path / "model.keras").read_bytes() == before

    # Read back, not trained again.
    command = ["audit", str(run.path), "--batch-size", "64", "--json"]
    kept = json.loads(CliRunner().invoke(main, command, catch_exceptions=False).stdout)
    assert kept["curve"] == second["curve"]
    assert audit_run(run, batch_size=32)["curve"] is None  # another batch size: not what was kept
    lines = audit_text(kept).splitlines()
    assert "best test epoch" in lines[0]
    assert f"{kept['saved']['inference']:.4f}" in lines[1]
    assert "(epoch 1)" in lines[3]
    with pytest.raises(InputError, match="batch_size"):
        audit_run(run, batch_size=1)


def test_watching_leaves_the_model_alone(run, monkeypatch):
    samples, split = load_split(run.configuration)
    monkeypatch.setattr(run.model, "prepare_scoring", lambda: None)
    before = weights_of(run.model)
    observer = AuditObserver(samples, split, 64)
    observer.set_model(run.model)
    observer.on_epoch_end(2)
    for left, right in zip(weights_of(run.model), before, strict=True):
        np.testing.assert_array_equal(left, right)
    assert observer.records == [{"epoch": 3} | audit_scores(run.model, samples, split, 64)]


CURVE = [
    {"epoch": 1, "inference": 0.9, "batch_shuffled": None, "batch_ordered": 0.95},
    {"epoch": 2, "inference": 0.8, "batch_shuffled": None, "batch_ordered": 0.99},
]


def test_best_epochs_are_found_by_mode_and_collapse_is_no_number():
    found = summary(CURVE)
    assert found["best"]["inference"] == {"epoch": 1, "auroc": 0.9}
    assert found["best"]["batch_ordered"] == {"epoch": 2, "auroc": 0.99}
    assert found["best"]["batch_shuffled"] is None
    saved = {"inference": 0.8, "batch_shuffled": None, "batch_ordered": 0.99}
    text = audit_text(
        found | {"saved": saved, "n_normal": 1, "n_anomaly": 2, "score": "fused", "batch_size": 4}
    )
    assert "n/a" in text.splitlines()[2]
