"""The local score of AGAD in every export: score and heat map are the model's own."""

import json

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from agad_cases import batch, make, photographs, train_once
from scipy import stats

from agad_tf.edge import EdgeModel
from agad_tf.edge_metadata import check_metadata
from agad_tf.export.agreement import FLOAT16, FLOAT32, agreement, rounded_size
from agad_tf.export.onnx import export_onnx
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.tflite import export_tflite, metadata


@pytest.fixture(scope="module")
def trained():
    model = make((16, 16, 3), number=31, score="local")
    train_once(model, *batch([0] * 6 + [1] * 2, (16, 16, 3)))
    model.prepare_scoring(photographs(24, (16, 16, 3)))
    return model


@pytest.fixture(params=["local", "fused"])
def model(request, trained):
    trained.score = request.param
    trained.prepare_scoring(photographs(24, (16, 16, 3)))
    return trained


IMAGES = photographs(7, (21, 13, 3), seed=3)


def check(model, scores, reconstruction, error_map=None, tolerance=FLOAT32):
    assert agreement(model.predict(IMAGES, verbose=0), scores, rounded_size(model)) <= tolerance
    expected = model.explain(IMAGES)
    for shown, own in zip((reconstruction, error_map), expected, strict=True):
        if shown is not None:
            np.testing.assert_allclose(shown, own, atol=tolerance)
    np.testing.assert_array_equal(model.anomaly_map(IMAGES), expected[1])


def test_saved_model(model, tmp_path):
    signatures = tf.saved_model.load(str(export_saved_model(model, tmp_path / "parts"))).signatures
    shown = signatures["explain"](images=IMAGES)
    scores = signatures["serving_default"](images=IMAGES)["score"]
    check(model, scores, shown["reconstruction"], shown["error_map"])


def test_onnx(model, tmp_path):
    path = export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    check(model, *session.run(["score", "reconstruction"], {"images": IMAGES}))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_tflite(model, tmp_path, precision):
    path = export_tflite(model, tmp_path / "m.tflite", precision, photographs(16, (16, 16, 3)))
    runner = EdgeModel(path)
    tolerance = FLOAT32 if precision == "float32" else FLOAT16
    check(model, runner.score(IMAGES), *runner.explain(IMAGES), tolerance)


def test_int8_keeps_the_ranking(trained, tmp_path):
    trained.score = "local"
    trained.prepare_scoring(photographs(24, (16, 16, 3)))
    path = export_tflite(trained, tmp_path / "m.tflite", "int8", photographs(64, (16, 16, 3)))
    images = photographs(100, (16, 16, 3), seed=8)
    scores = EdgeModel(path).score(images)
    assert stats.spearmanr(scores, trained.predict(images, verbose=0))[0] > 0.99
    assert len(np.unique(scores)) > 90


@pytest.mark.parametrize(
    ("name", "value"),
    [("map_mean", "AAAA"), ("map_deviation", "no"), ("kernel", [0.5, 0.5]), ("count", 0), ("map_mean", None)],
)
def test_damaged_maps_are_told(trained, name, value):
    trained.score = "local"
    about = json.loads(json.dumps(metadata(trained, "float32", None, None)))
    check_metadata(about)
    about["score"]["parts"][0][name] = value
    with pytest.raises((KeyError, TypeError, ValueError)):
        check_metadata(about)
