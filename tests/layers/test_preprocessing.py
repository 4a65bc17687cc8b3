"""The NumPy resize agrees with TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf

from agad_tf.layers import ImagePreprocessing
from agad_tf.pixels import centre_crop, preprocess, resize_bilinear

SIZES = [
    ((7, 5), (13, 11)),
    ((13, 11), (7, 5)),
    ((28, 28), (32, 32)),
    ((33, 17), (8, 31)),
    ((1, 9), (4, 3)),
    ((64, 64), (3, 1)),
]


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_twin_equals_tensorflow(before, after, channels):
    images = np.random.default_rng(0).integers(0, 256, (4, *before, channels), dtype=np.uint8)
    expected = tf.image.resize(images, after, method="bilinear", antialias=False).numpy()
    received = resize_bilinear(images, after)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, rtol=0, atol=255e-4)
    np.testing.assert_array_equal(resize_bilinear(images[1], after), received[1])


def test_known_values():
    # Doubling [0, 100]: positions -.25, .25, .75, 1.25 in half-pixel coordinates.
    row = np.array([[0, 100]], np.uint8)[..., None]
    np.testing.assert_allclose(resize_bilinear(row, (1, 4))[0, :, 0], [0, 25, 75, 100])
    # Without antialiasing, shrinking four pixels to one reads the middle two alone.
    row = np.array([[200, 0, 100, 200]], np.uint8)[..., None]
    np.testing.assert_allclose(resize_bilinear(row, 1)[0, 0, 0], 50)


def test_same_size_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_bilinear(images, (9, 7)), images)


@pytest.mark.parametrize(("shape", "size"), [((4, 4), 2), ((1, 0, 4, 1), 2), ((1, 4, 4, 1), 0)])
def test_refuses_other_input(shape, size):
    with pytest.raises(ValueError, match="resize_bilinear expects"):
        resize_bilinear(np.zeros(shape), size)


CROPPED = [((7, 5), (8, 8)), ((5, 7), (8, 8)), ((40, 30), (16, 32)), ((1, 9), (4, 4)), ((28, 28), (32, 32)),
           ((333, 500), (64, 48))]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), CROPPED)
@pytest.mark.parametrize("crop", ["stretch", "centre"])
def test_layer_equals_its_twin(before, after, crop):
    images = np.random.default_rng(0).integers(0, 256, (3, *before, 3), dtype=np.uint8)
    layer = ImagePreprocessing(after, crop=crop)
    expected = layer(images).numpy()
    assert expected.shape == (3, *after, 3)
    np.testing.assert_allclose(preprocess(images, after, crop=crop), expected, rtol=0, atol=2e-4)
    # In a graph that does not know the size, as in an export.
    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
    np.testing.assert_array_equal(tf.function(layer, input_signature=signature)(images), expected)


def test_centre_crop_keeps_the_middle():
    image = np.arange(5 * 9, dtype=np.uint8).reshape(1, 5, 9, 1)
    np.testing.assert_array_equal(centre_crop(image, (8, 8)), image[:, :, 2:7])
    np.testing.assert_array_equal(centre_crop(image, (1, 9)), image[:, 2:3])
    np.testing.assert_array_equal(centre_crop(image, (5, 9)), image)
    # A rest of one pixel stays at the bottom and right.
    np.testing.assert_array_equal(centre_crop(image[:, :, :8], (5, 5)), image[:, :, 1:6])


def test_crop_is_kept_and_checked():
    layer = ImagePreprocessing((8, 8), (0.0, 1.0), crop="centre")
    again = ImagePreprocessing.from_config(layer.get_config())
    assert (again.image_size, again.value_range, again.crop) == ((8, 8), (0.0, 1.0), "centre")
    with pytest.raises(ValueError, match="crop expects one of stretch, centre, received 'middle'"):
        ImagePreprocessing((8, 8), crop="middle")


def test_crop_reaches_the_saved_model(tmp_path):
    import keras

    from agad_tf import AGAD
    from agad_tf.export.saved_model import export_saved_model

    images = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 1), dtype=np.uint8)
    scores = {}
    for crop in ("stretch", "centre"):
        model = AGAD((8, 8, 1), backbone="encoder_decoder", score="reconstruction", crop=crop)
        model.compile()
        model.prepare_scoring(images)
        scores[crop] = model.predict(images, verbose=0)
        if crop == "centre":
            model.save(tmp_path / "model.keras")
            loaded = keras.saving.load_model(tmp_path / "model.keras")
            np.testing.assert_array_equal(loaded.predict(images, verbose=0), scores[crop])
            np.testing.assert_allclose(
                model.predict(np.ascontiguousarray(images[:, :, 2:10]), verbose=0), scores[crop], rtol=1e-5
            )
            exported = tf.saved_model.load(str(export_saved_model(model, tmp_path / "exports")))
            received = exported.signatures["serving_default"](images=tf.constant(images))["score"]
            np.testing.assert_allclose(received, scores[crop], rtol=1e-5)
    assert not np.allclose(scores["stretch"], scores["centre"], rtol=1e-3)
