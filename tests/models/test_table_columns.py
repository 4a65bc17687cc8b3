"""Detectors of tables: columns by name at every door, and values that differ in digits float32 lacks."""

import keras
import numpy as np
import pytest

from agad_tf import AABiGAN
from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.tflite import export_tflite
from agad_tf.scoring.detectors import open_detector

pandas = pytest.importorskip("pandas", reason="pandas is an optional extra")
OFFSET = 5_400_123.0


@pytest.fixture(scope="module")
def trained():
    """A detector trained on a frame with a large offset, the frame and its rows."""
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"northing": OFFSET + rng.normal(0, 0.04, 96), "v": rng.normal(size=96)})
    keras.utils.set_random_seed(0)
    model = AABiGAN((2,), backbone="mlp")
    model.fit(frame, batch_size=32, epochs=1, verbose=0)
    return model, frame, frame.to_numpy()


def test_columns_go_by_name(trained, tmp_path):
    model, frame, rows = trained
    turned = frame[["v", "northing"]]
    assert model.identity.columns == ("northing", "v")
    expected = model.predict(rows, verbose=0)
    np.testing.assert_array_equal(model.predict(turned, verbose=0), expected)
    np.testing.assert_allclose(model(turned).numpy(), expected, rtol=1e-5)
    y = np.arange(96) % 2
    assert model.evaluate(turned, y, verbose=0) == model.evaluate(rows, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(turned, verbose=0), expected)
    for door in (model.predict, loaded.predict, model):
        with pytest.raises(InputError, match="missing: 'v'; unknown: 'w'"):
            door(turned.rename(columns={"v": "w"}))


def test_digits_after_a_large_offset_reach_the_score(trained):
    model, _, rows = trained
    scores = model.predict(rows, verbose=0)
    near = rows + np.array([0.02, 0])  # float32 steps are 0.5 there
    assert len(np.unique(model.predict(near[:1], verbose=0) - scores[:1])) == 1
    assert (model.predict(near, verbose=0) != scores).all()
    np.testing.assert_allclose(model(rows).numpy(), scores, rtol=1e-5)
    small, shifted = AABiGAN((2,), backbone="mlp"), AABiGAN((2,), backbone="mlp")
    shifted.set_weights(small.get_weights())
    for detector, x in ((small, rows - np.array([OFFSET, 0])), (shifted, rows)):
        detector.preprocess.adapt(x)
    expected = small.predict(rows - np.array([OFFSET, 0]), verbose=0)
    np.testing.assert_allclose(shifted.predict(rows, verbose=0), expected, rtol=1e-4, atol=1e-4)


def test_exports_keep_names_and_digits(trained, tmp_path):
    model, frame, rows = trained
    turned = frame[["v", "northing"]]
    expected = model.predict(rows, verbose=0)
    export_tflite(model, tmp_path / "model.tflite")
    edge = EdgeModel(tmp_path / "model.tflite")
    np.testing.assert_allclose(edge.score(rows), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(edge.score(turned), edge.score(rows))
    version = export_saved_model(model, tmp_path / "saved")
    for path in (tmp_path / "model.tflite", version):
        detector = open_detector(path)
        assert detector.identity.columns == ("northing", "v")
        np.testing.assert_allclose(detector.score(list(rows))["score"], expected, rtol=1e-4, atol=1e-5)
