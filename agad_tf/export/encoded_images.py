"""Image files to pixels inside a graph, as `agad_tf.pixels.read_image` decodes them outside of one."""

import tensorflow as tf

from agad_tf.pixels import MAX_PIXELS

_STRIPE = 256  # rows that are composited or made grey at once, in wider numbers than the pixels


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
        tf.errors.InvalidArgumentError: when run, for bytes that are neither or are damaged, and for more than
            `agad_tf.pixels.MAX_PIXELS` pixels by the file's header: nothing is decoded then.
    """
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")

    def jpeg():
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
        with tf.control_dependencies([_check_size(height, width)]):
            content = tf.identity(encoded)
        pixels = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
        return _in_stripes(pixels, lambda rows: _with_channels(rows, channels), channels)

    def png():
        # Width and height are the first entries of the first chunk; of something else the decoder says so.
        header = tf.strings.substr(encoded, 0, 24)
        header = tf.strings.join([header, tf.constant(b"\0" * 24)])  # of a file that is shorter
        size = tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.int32, little_endian=False)
        with tf.control_dependencies([_check_size(size[1], size[0])]):
            content = tf.identity(encoded)
        pixels = tf.io.decode_png(content, channels=4)
        return _in_stripes(pixels, lambda rows: _with_channels(_over_black(rows), channels), channels)

    return tf.ensure_shape(tf.cond(is_jpeg, jpeg, png), (None, None, channels))


def _check_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    """Refuses a file of some kilobytes that would become gigabytes."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.Assert(
        pixels <= MAX_PIXELS,
        [f"expected an image of at most {MAX_PIXELS} pixels, received", height, "x", width],
    )


def _in_stripes(pixels: tf.Tensor, change, channels: int) -> tf.Tensor:
    """`change` of uint8 (height, width, c), some rows at a time: a whole image in int32 is four of it."""
    height = tf.shape(pixels)[0]
    count = (height + _STRIPE - 1) // _STRIPE
    stripes = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=(None, None, channels))

    def step(index, stripes):
        return index + 1, stripes.write(index, change(pixels[index * _STRIPE : (index + 1) * _STRIPE]))

    _, stripes = tf.while_loop(
        lambda index, _: index < count, step, (tf.constant(0), stripes), parallel_iterations=1
    )
    return stripes.concat()


def _over_black(pixels: tf.Tensor) -> tf.Tensor:
    """RGBA to RGB over black, rounded like Pillow's compositing over opaque black."""
    wide = tf.cast(pixels, tf.int32)
    return tf.cast((wide[..., :3] * wide[..., 3:] + 127) // 255, tf.uint8)


def _with_channels(pixels: tf.Tensor, channels: int) -> tf.Tensor:
    """RGB as it is, or its luma by the weights of training: the decoders have weights of their own."""
    if channels == 3:
        return pixels
    luma = tf.reduce_sum(tf.cast(pixels, tf.int32) * tf.constant([19595, 38470, 7471]), -1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(luma + 0x8000, 16), tf.uint8)
