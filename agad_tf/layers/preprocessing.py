"""From stored images to the model's range, in the graph, so that training, scoring and exports share it."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("agad_tf")
class ImagePreprocessing(keras.layers.Layer):
    """Resizes uint8 images and maps 0..255 to `value_range`.

    Bilinear with half-pixel centres and without antialiasing (`tf.image.resize`); `agad_tf.edge` holds the
    same definition in NumPy for boards without TensorFlow. Float images are taken as being in the model's
    range already and pass unchanged.

    Args:
        image_size: (height, width) of the output.
        value_range: the values that 0 and 255 are mapped to.
    """

    def __init__(self, image_size: tuple[int, int], value_range: tuple[float, float] = (-1.0, 1.0), **kwargs):
        super().__init__(**kwargs)
        self.image_size = tuple(image_size)
        self.value_range = tuple(value_range)

    def call(self, images):
        """Maps uint8 (batch, any height, any width, channels) to float (batch, height, width, channels)."""
        if images.dtype != tf.uint8:
            return tf.cast(images, self.compute_dtype)
        low, high = self.value_range
        if tuple(images.shape[1:3]) != self.image_size:
            # tf.image.resize works in float32 and leaves the range 0..255 as it is.
            images = tf.image.resize(images, self.image_size, method="bilinear", antialias=False)
        return tf.cast(images, self.compute_dtype) * ((high - low) / 255.0) + low

    def get_config(self):
        return {**super().get_config(), "image_size": self.image_size, "value_range": self.value_range}
