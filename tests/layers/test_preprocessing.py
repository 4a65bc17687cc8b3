"""The NumPy resize agrees with TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf

from agad_tf.data.sources.images import resize_uint8
from agad_tf.layers import ImagePreprocessing
from agad_tf.pixels import centre_crop, preprocess, resize_antialiased, resize_bilinear

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


@pytest.mark.parametrize(("before", "after"), [*SIZES, ((640, 480), (64, 64)), ((9, 300), (20, 31))])
@pytest.mark.parametrize("channels", [1, 3])
def test_antialiased_twins_equal_tensorflow(before, after, channels):
    images = np.random.default_rng(0).integers(0, 256, (3, *before, channels), dtype=np.uint8)
    expected = tf.image.resize(images, after, method="bilinear", antialias=True).numpy()
    received = resize_antialiased(images, after)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, rtol=0, atol=255e-5)
    np.testing.assert_allclose(resize_antialiased(images[1], after), received[1], atol=1e-4)
    layer = ImagePreprocessing(after, (0.0, 1.0))
    np.testing.assert_allclose(layer(images), expected / 255, rtol=0, atol=1e-5)
    np.testing.assert_allclose(preprocess(images, after, (0.0, 1.0)), expected / 255, rtol=0, atol=1e-5)
    assert np.abs(resize_uint8(images, after).astype(int) - np.rint(expected)).max() <= 1


def test_antialiasing_reads_every_pixel():
    # The triangle over four pixels that become one: all weigh, the middle two most.
    row = np.array([[200, 0, 100, 200]], np.uint8)[..., None]
    weights = np.array([5, 7, 7, 5]) / 24
    np.testing.assert_allclose(resize_antialiased(row, 1)[0, 0, 0], row[0, :, 0] @ weights, rtol=1e-6)


def test_files_of_before_keep_their_resize(tmp_path):
    import keras

    from agad_tf import AGAD

    images = np.random.default_rng(0).integers(0, 256, (4, 33, 17, 1), dtype=np.uint8)
    new, old = (AGAD((8, 8, 1), "encoder_decoder", preprocessing=version) for version in (2, 1))
    np.testing.assert_allclose(old.preprocess(images), preprocess(images, (8, 8), version=1), atol=1e-5)
    assert np.abs(new.preprocess(images) - old.preprocess(images)).max() > 0.1
    for model, version in ((new, 2), (old, 1)):
        assert model.identity.preprocessing == version
        model.save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").identity.preprocessing == version
        model.save_weights(tmp_path / "model.weights.h5")
        other = AGAD((8, 8, 1), "encoder_decoder")
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(other.preprocess(images), model.preprocess(images))
    config = new.get_config()
    del config["preprocessing"]  # as it was saved before there was another
    assert AGAD.from_config(config).identity.preprocessing == 1
    with pytest.raises(ValueError, match="preprocessing expects version 1 or 2, received 3"):
        AGAD((8, 8, 1), "encoder_decoder", preprocessing=3)


def test_antialiasing_inside_xla():
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 9, 3), dtype=np.uint8)
    layer = ImagePreprocessing((8, 8))
    np.testing.assert_allclose(tf.function(layer, jit_compile=True)(images), layer(images), atol=1e-5)


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
