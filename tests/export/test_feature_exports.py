"""Exports of the detector on frozen features hold the network, and score and show like the model."""

import io

import feature_cases
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.export.agreement import FLOAT16, FLOAT32, agreement, rounded_size
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.tflite import export_tflite


@pytest.fixture(scope="module")
def fitted():
    x = feature_cases.parts(30, range(24, 30))
    model = feature_cases.make(compiled={"label_after": 2})
    model.fit(x, np.repeat([0, 1], [24, 6]), epochs=1, steps_per_epoch=8, verbose=0)
    return model, feature_cases.parts(6, range(3), (80, 72, 1), seed=4)


@pytest.mark.parametrize("score", ["fused", "global", "local", "labels"])
def test_saved_model(fitted, score, tmp_path):
    model, x = fitted
    model.score = score
    expected, size = model.predict(x, verbose=0), rounded_size(model)
    signatures = tf.saved_model.load(str(export_saved_model(model, tmp_path / "it"))).signatures
    scores = signatures["serving_default"](images=tf.constant(x))["score"].numpy()
    assert agreement(expected, scores, size) <= FLOAT32
    files = []
    for image in x:
        Image.fromarray(image[..., 0]).save(stream := io.BytesIO(), "PNG")
        files.append(stream.getvalue())
    scores = signatures["score_encoded"](image_bytes=tf.constant(files))["score"].numpy()
    assert agreement(expected, scores, size) <= FLOAT32
    shown = signatures["explain"](images=tf.constant(x))["anomaly_map"].numpy()
    np.testing.assert_allclose(shown, model.anomaly_map(x), rtol=1e-4, atol=1e-5)
    model.score = "fused"


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", FLOAT32), ("float16", FLOAT16)])
def test_tflite(fitted, precision, tolerance, tmp_path):
    model, x = fitted
    path = export_tflite(model, tmp_path / "it.tflite", precision)
    expected = model.predict(x, verbose=0)
    assert agreement(expected, EdgeModel(path).score(x), rounded_size(model)) <= tolerance


def test_int8_is_refused(fitted, tmp_path):
    model, x = fitted
    with pytest.raises(InputError, match="take float32 or float16"):
        export_tflite(model, tmp_path / "it.tflite", "int8", representative=x)
