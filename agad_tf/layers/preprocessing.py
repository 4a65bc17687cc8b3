"""From stored images to the model's range, in the graph, so that training, scoring and exports share it."""

import keras
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.pixels import CROPS, PREPROCESSING


@keras.saving.register_keras_serializable("agad_tf")
class ImagePreprocessing(keras.layers.Layer):
    """Resizes uint8 images and maps 0..255 to `value_range`.

    Bilinear with half-pixel centres, antialiased where it shrinks, as `tf.image.resize(antialias=True)`;
    `agad_tf.pixels` holds the same definition in NumPy for boards without TensorFlow. Float images are taken
    as being in the model's range already and pass unchanged.

    Args:
        image_size: (height, width) of the output.
        value_range: the values that 0 and 255 are mapped to.
        crop: "stretch" resizes the whole image, whatever its aspect; "centre" resizes the largest window in
            its middle that has the aspect of `image_size`.
        version: of the resize, 1 or 2; 1, of models saved before there was another, shrinks without
            antialiasing.

    Raises:
        InputError: another `crop` or `version`.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        value_range: tuple[float, float] = (-1.0, 1.0),
        crop: str = "stretch",
        version: int = PREPROCESSING,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if version not in (1, 2):
            raise InputError(f"preprocessing expects version 1 or 2, received {version!r}: leave it out")
        self.version = version
        if crop not in CROPS:
            raise InputError(f"crop expects one of {', '.join(CROPS)}, received {crop!r}")
        self.crop = crop
        self.image_size = tuple(image_size)
        self.value_range = tuple(value_range)

    def call(self, images):
        """Maps uint8 (batch, any height, any width, channels) to float (batch, height, width, channels).

        Raises:
            InputError: whole numbers other than uint8, floats of another size.
        """
        images = tf.convert_to_tensor(images)
        if images.dtype == tf.uint8:
            return self.resize_and_scale(images)
        if not images.dtype.is_floating:
            raise InputError(f"expected uint8 or float images, received {images.dtype.name}: convert them")
        if images.shape.rank == 4 and not images.shape[1:3].is_compatible_with(self.image_size):
            raise InputError(
                f"expected float images of {self.image_size[0]}x{self.image_size[1]}, received "
                f"{images.shape[1]}x{images.shape[2]}: resize them or pass uint8, which the model resizes"
            )
        return tf.cast(images, self.compute_dtype)

    def resize_and_scale(self, images):
        """As `call` of uint8 images, for numbers from 0 to 255 of any type."""
        low, high = self.value_range
        if self.crop == "centre":
            images = self._centre(images)
        if tuple(images.shape[1:3]) != self.image_size:
            # Both work in float32 and leave the range 0..255 as it is.
            if self.version == 1:
                images = tf.image.resize(images, self.image_size, method="bilinear", antialias=False)
            else:
                images = resize_antialiased(images, self.image_size)
        return tf.cast(images, self.compute_dtype) * ((high - low) / 255.0) + low

    def _centre(self, images):
        # Whole numbers, as in agad_tf.pixels.centre_crop: both cut at the same pixel.
        shape = tf.shape(images)
        height, width = shape[1], shape[2]
        high, wide = self.image_size
        inner_height = tf.clip_by_value((2 * width * high + wide) // (2 * wide), 1, height)
        inner_width = tf.clip_by_value((2 * height * wide + high) // (2 * high), 1, width)
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        return images[:, top : top + inner_height, left : left + inner_width, :]

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "value_range": self.value_range,
            "crop": self.crop,
            "version": self.version,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**({"version": 1} | config))


def resize_antialiased(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """`tf.image.resize(images, size, antialias=True)` as two products of matrices.

    Runs on any device, inside XLA and in runtimes other than TensorFlow, which have no operation for it.

    Args:
        images: (batch, height, width, channels), any numbers.
        size: (height, width) of the result.

    Returns:
        float32 (batch, *size, channels).
    """
    shape, channels = tf.shape(images), images.shape[3]
    batch, height, width = shape[0], shape[1], shape[2]
    rows = tf.reshape(tf.cast(images, tf.float32), [batch, height, width * channels])
    rows = tf.reshape(tf.matmul(_weights(height, size[0])[None], rows), [-1, width, channels])
    resized = tf.matmul(_weights(width, size[1])[None], rows)
    return tf.reshape(resized, [batch, *size, channels])


def _weights(before: tf.Tensor, after: int) -> tf.Tensor:
    """What each output pixel takes of each input pixel along one axis, float32 (after, before)."""
    before = tf.cast(before, tf.float32)
    scale = before / after
    centres = (tf.range(after, dtype=tf.float32) + 0.5) * scale
    places = tf.range(before) + 0.5
    weights = tf.nn.relu(1.0 - tf.abs(places[None] - centres[:, None]) / tf.maximum(scale, 1.0))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)
