"""AA-BiGAN beside the nearest normals: its two scores, their sum, saving, exports, the command line."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from bigan_cases import rows
from click.testing import CliRunner

import agad_tf
from agad_tf.cli import main
from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.export.agreement import FLOAT16, FLOAT32, agreement, rounded_size
from agad_tf.export.onnx import export_onnx
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.tflite import export_tflite
from agad_tf.scoring.detectors import open_detector

NORMALS = 40


def trained(literal=False, **settings):
    keras.utils.set_random_seed(0)
    model = agad_tf.AABiGANNeighbours((5,), latent_dim=4, **settings)
    model.compile(literal=literal)
    x = np.concatenate([rows(NORMALS), 2 * rows(4, seed=9)])
    model.fit(x, np.repeat([0, 1], [NORMALS, 4]), batch_size=22, min_anomalies=2, verbose=0)
    return model


@pytest.fixture(scope="module")
def model():
    return trained()


def parts_of(model, x):
    scaled = model.preprocess(tf.constant(x))
    return np.stack([model.raw_score(name, scaled) for name in model.score_names])


def test_the_fused_score_is_the_error_and_twice_the_distance_standardised_on_training_normals(model):
    x = rows(7, seed=3)
    of_normals = parts_of(model, rows(NORMALS))
    expected = (parts_of(model, x) - of_normals.mean(1, keepdims=True)) / of_normals.std(1, keepdims=True)
    assert model.score == "fused"
    np.testing.assert_allclose(
        model.predict(x, verbose=0), expected[0] + 2 * expected[1], rtol=1e-3, atol=2e-3
    )


def test_its_parts_are_those_of_aa_bigan_and_of_neighbours(model):
    x = rows(7, seed=3)
    scaled = np.asarray(model.preprocess(tf.constant(x)))
    redrawn = np.asarray(model.reconstruct(x))
    normals = np.asarray(model.preprocess(tf.constant(rows(NORMALS))))
    away = np.sort(np.linalg.norm(scaled[:, None] - normals[None], axis=-1), axis=1)[:, 4]
    expected = np.stack([np.linalg.norm(scaled - redrawn, axis=1), away])
    np.testing.assert_allclose(parts_of(model, x), expected, rtol=1e-4)


def test_labelled_anomalies_are_not_among_the_normals_and_a_second_fit_forgets_the_first():
    model = trained()
    assert model.normals.shape == (NORMALS, 5)
    model.fit(rows(12, seed=4), verbose=0)
    kept = np.asarray(model.preprocess(tf.constant(rows(12, seed=4))))
    assert model.normals.shape == (12, 5)
    assert all(np.abs(np.asarray(model.normals) - row).max(axis=1).min() < 1e-6 for row in kept)


def test_weights_fill_a_new_detector(model, tmp_path):
    model.save_weights(tmp_path / "it.weights.h5")
    new = agad_tf.AABiGANNeighbours((5,), latent_dim=4)
    new.load_weights(tmp_path / "it.weights.h5")
    x = rows(7, seed=3)
    np.testing.assert_array_equal(new.predict(x, verbose=0), model.predict(x, verbose=0))


def test_distances_are_float32_whatever_the_networks_compute_in():
    model = trained(dtype="float64")
    x = rows(7, seed=3)
    scaled = np.asarray(model.preprocess(tf.constant(x)))
    away = np.sort(np.linalg.norm(scaled[:, None] - np.asarray(model.normals)[None], axis=-1), axis=1)[:, 4]
    np.testing.assert_allclose(model.raw_score("distance", scaled), away, rtol=1e-4)
    assert np.isfinite(model.predict(x, verbose=0)).all()


def test_the_paper_alone_is_the_reconstruction_error():
    assert trained(literal=True).score == "reconstruction"


@pytest.mark.parametrize("score", ["reconstruction", "distance", "fused"])
@pytest.mark.parametrize("form", ["savedmodel", "float32", "float16", "onnx"])
def test_exports_score_like_the_model(model, score, form, tmp_path):
    x = rows(9, seed=5)
    before, model.score = model.score, score
    try:
        if form == "savedmodel":
            path = export_saved_model(model, tmp_path / "it")
        elif form == "onnx":
            pytest.importorskip("tf2onnx")
            path = export_onnx(model, tmp_path / "it.onnx")
        else:
            path = export_tflite(model, tmp_path / "it.tflite", form)
        scores = EdgeModel(path).score(x) if form.startswith("float") else open_detector(path).scores(x)
        tolerance = FLOAT16 if form == "float16" else FLOAT32
        assert agreement(model.predict(x, verbose=0), scores, rounded_size(model)) <= tolerance
    finally:
        model.score = before


def test_what_cannot_be_is_one_line(model, tmp_path):
    with pytest.raises(InputError, match=r"expects rows \(features,\), received images"):
        agad_tf.AABiGANNeighbours((16, 16, 1))
    with pytest.raises(InputError, match="k expects a whole number above 0, received 0"):
        agad_tf.AABiGANNeighbours((5,), k=0)
    with pytest.raises(InputError, match="take float32 or float16"):
        export_tflite(model, tmp_path / "it.tflite", "int8", representative=rows(9))
    with pytest.raises(InputError, match=r"^AABiGANNeighbours expects fit before predict, .*: call fit$"):
        agad_tf.AABiGANNeighbours((5,), score="distance").predict(rows(3), verbose=0)


def test_from_the_command_line(tmp_path):
    x = np.concatenate([rows(120), 3 * rows(12, seed=9)])
    np.savez(tmp_path / "rows.npz", X=x, y=np.repeat([0, 1], [120, 12]))
    given = [
        "train",
        "--detector",
        "aa_bigan_neighbours",
        "--data",
        str(tmp_path / "rows.npz"),
        "--epochs",
        "2",
    ]
    result = CliRunner().invoke(main, [*given, "--quiet", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "run/metrics.json").read_text())["auroc"] > 0.8
    loaded = keras.saving.load_model(tmp_path / "run/model.keras")
    assert loaded.score == "fused"
    exported = ["export", str(tmp_path / "run"), "--to", str(tmp_path / "saved")]
    result = CliRunner().invoke(main, exported)
    assert result.exit_code == 0, result.output
    assert open_detector(tmp_path / "saved/1").scores(x[:3]).shape == (3,)
