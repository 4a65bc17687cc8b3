"""The NumPy resize agrees with TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf

from agad_tf.edge import resize_bilinear

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
