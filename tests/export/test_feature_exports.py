"""Exports of the detector on frozen features hold the network, and score and show like the model."""

import io

import feature_cases
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.export.agreement import FLOAT16, FLOAT32, agreement, rounded_size
from agad_tf.export.from_run import _check_no_threshold
from agad_tf.export.parity import compare
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.tflite import export_tflite
from agad_tf.models import FeatureDiscriminator


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


def test_int8_holds_the_weights_in_8_bits_and_keeps_the_ranking(tmp_path):
    """Weights of layers with 1024 and more; on a board, and with no samples to take ranges from."""
    keras.utils.set_random_seed(0)
    model = FeatureDiscriminator((64, 64, 1), features=feature_cases.small_network(), units=(64, 32))
    model.compile(label_after=2)
    x, y = feature_cases.parts(30, range(24, 30)), np.repeat([0, 1], [24, 6])
    model.fit(x, y, epochs=1, steps_per_epoch=8, verbose=0)
    files = {kind: export_tflite(model, tmp_path / f"{kind}.tflite", kind) for kind in ("float32", "int8")}
    edge = EdgeModel(files["int8"])
    assert edge.metadata["precision"] == "int8"
    tensors = edge._interpreter.get_tensor_details()
    eight = [about["shape"].tolist() for about in tensors if about["dtype"] == np.int8]
    assert sum(shape == [64, 1, 1, 24] for shape in eight) == 6  # three members of two discriminators
    assert files["int8"].stat().st_size < files["float32"].stat().st_size - 3 * 24 * 64 * 6
    fresh = feature_cases.parts(24, range(8), (80, 72, 1), seed=4)
    expected, scores = model.predict(fresh, verbose=0), edge.score(fresh)
    report = compare(expected, scores, np.repeat([1, 0], [8, 16]))
    assert report["spearman"] > 0.95
    assert report["auroc_drop"] < 0.05
    assert report["difference_max"] > 0  # it is not float32


def test_int8_wants_a_threshold_from_its_own_scores():
    _check_no_threshold(None)
    given = calibrate(np.arange(40.0), split="normals of photos/")
    with pytest.raises(InputError, match=r"received one from other samples \(normals of photos/\)"):
        _check_no_threshold(given)
