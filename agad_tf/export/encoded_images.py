"""Image files to pixels inside a graph, as `agad_tf.pixels.read_image` decodes them outside of one."""

import tensorflow as tf


def decode_in_graph(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes the bytes of one JPEG or PNG file.

    Transparent pixels are composited over black, 16-bit samples keep their high byte, colour becomes
    ITU-R 601 luma for one channel, palettes become colours. EXIF rotation is not applied: TensorFlow has no
    operation that reads it.

    Args:
        encoded: string scalar.
        channels: 1 or 3.

    Returns:
        uint8 (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: when run, for bytes that are neither or are damaged.
    """
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")

    def jpeg():
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def png():
        pixels = tf.cast(tf.io.decode_png(encoded, channels=4), tf.int32)
        # Rounded like Pillow's compositing over opaque black.
        return tf.cast((pixels[..., :3] * pixels[..., 3:] + 127) // 255, tf.uint8)

    pixels = tf.ensure_shape(tf.cond(is_jpeg, jpeg, png), (None, None, 3))
    if channels == 3:
        return pixels
    # decode_png and decode_jpeg have weights of their own for grey; these are those of training.
    weights = tf.constant([19595, 38470, 7471])
    luma = tf.reduce_sum(tf.cast(pixels, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(luma + 0x8000, 16), tf.uint8)
