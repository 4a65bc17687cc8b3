"""The networks' convolutions in the form a CPU computes fastest; weights and results are those of Keras.

On CPUs TensorFlow computes the input gradient of a convolution, and so every transposed convolution, slower
than a convolution (`benchmarks/convolutions.py` measures by how much). Here both are written as convolutions:
an input gradient of stride 1 is a convolution with the flipped kernel, a transposed convolution of stride 2
is a convolution to each of the four sub-pixel phases and `depth_to_space`. Where a GPU is present the Keras
layers' own operations are used.
"""

from typing import ClassVar

import keras
import tensorflow as tf

from agad_tf.keras_private import flat_layers


class _FixedConv(keras.layers.Conv2D):
    """A `Conv2D` of fixed geometry whose operation is `operation(x, kernel)` on CPU."""

    geometry: ClassVar[dict] = {}

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, **self.geometry, **_free(kwargs))

    def convolution_op(self, inputs, kernel):
        if _has_gpu():
            return super().convolution_op(inputs, kernel)
        return self.operation(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))

    def operation(self, x, kernel):
        return _OPERATIONS[type(self)](x, kernel)


class _FixedConvTranspose(keras.layers.Conv2DTranspose):
    """A `Conv2DTranspose` of fixed geometry whose operation is `operation(y, kernel)` on CPU."""

    geometry: ClassVar[dict] = {}

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, **self.geometry, **_free(kwargs))

    def call(self, inputs):
        if _has_gpu():
            return super().call(inputs)
        outputs = self.operation(inputs, tf.cast(self.kernel, inputs.dtype))
        if self.use_bias:
            outputs += tf.cast(self.bias, outputs.dtype)
        return self.activation(outputs)

    def operation(self, y, kernel):
        return _OPERATIONS[type(self)](y, kernel)


@keras.saving.register_keras_serializable("agad_tf")
class SameConv(_FixedConv):
    """`Conv2D(filters, 3, padding="same")`."""

    geometry: ClassVar[dict] = {"kernel_size": 3, "padding": "same"}


@keras.saving.register_keras_serializable("agad_tf")
class DownConv(_FixedConv):
    """`Conv2D(filters, 4, strides=2, padding="same")`; even sides only."""

    geometry: ClassVar[dict] = {"kernel_size": 4, "strides": 2, "padding": "same"}


@keras.saving.register_keras_serializable("agad_tf")
class HalveConv(_FixedConv):
    """`Conv2D(filters, 3, strides=2, padding="same")`; even sides only."""

    geometry: ClassVar[dict] = {"kernel_size": 3, "strides": 2, "padding": "same"}


@keras.saving.register_keras_serializable("agad_tf")
class UpConv(_FixedConvTranspose):
    """`Conv2DTranspose(filters, 4, strides=2, padding="same")`."""

    geometry: ClassVar[dict] = {"kernel_size": 4, "strides": 2, "padding": "same"}


@keras.saving.register_keras_serializable("agad_tf")
class WidenConv(_FixedConvTranspose):
    """`Conv2DTranspose(filters, 2, strides=2)`."""

    geometry: ClassVar[dict] = {"kernel_size": 2, "strides": 2}


def drop_gradients(network: keras.layers.Layer) -> None:
    """Makes the layers of a network compute their operations alone, for a graph that is never trained.

    A gradient of one's own leaves nodes in the graph that keep a runtime from fusing a convolution with what
    follows, and a warning when the graph is loaded.
    """
    for layer in flat_layers(network):
        if type(layer) in _OPERATIONS:
            layer.operation = _without_gradient(_OPERATIONS[type(layer)])


def _without_gradient(operation):
    return lambda x, kernel: operation.__wrapped__(x, kernel)[0]


def _has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _free(config: dict) -> dict:
    """Constructor arguments of a saved layer less those that its class fixes."""
    return {k: v for k, v in config.items() if k not in ("kernel_size", "strides", "padding")}


@tf.custom_gradient
def _same(x, kernel):
    """3×3 convolution of x (B, H, W, I) with a kernel (3, 3, I, O) to (B, H, W, O)."""

    def gradient(upstream):
        flipped = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
        return tf.nn.conv2d(upstream, flipped, 1, "SAME"), _kernel_gradient(x, upstream, kernel, stride=1)

    return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient


@tf.custom_gradient
def _down(x, kernel):
    """Stride-2 convolution of x (B, H, W, I) with a kernel (4, 4, I, O) to (B, H/2, W/2, O)."""

    def gradient(upstream):
        return _transpose(upstream, kernel), _kernel_gradient(x, upstream, kernel)

    return tf.nn.conv2d(x, kernel, 2, "SAME"), gradient


@tf.custom_gradient
def _halve(x, kernel):
    """Stride-2 convolution of x (B, H, W, I) with a kernel (3, 3, I, O) to (B, H/2, W/2, O)."""

    def gradient(upstream):
        return _transpose(upstream, kernel), _kernel_gradient(x, upstream, kernel)

    return tf.nn.conv2d(x, kernel, 2, "SAME"), gradient


@tf.custom_gradient
def _up(y, kernel):
    """Transpose of `_down` in its first argument: y (B, h, w, O), kernel (4, 4, I, O) to (B, 2h, 2w, I)."""

    def gradient(upstream):
        return tf.nn.conv2d(upstream, kernel, 2, "SAME"), _kernel_gradient(upstream, y, kernel)

    return _transpose(y, kernel), gradient


# Of each sub-pixel phase along one axis: its last tap, and the padding before and after. Its other taps are
# every second one before the last.
_PHASES = {3: ((2, [1, 0]), (1, [0, 0])), 4: ((3, [1, 0]), (2, [0, 1]))}
_FEW = 8  # image channels up to which one convolution to all phases is faster than one to each


def _transpose(y, kernel):
    """Transposed convolution of stride 2 and "same" padding, to twice the size.

    Args:
        y: (B, h, w, O).
        kernel: (3, 3, I, O) or (4, 4, I, O).

    Returns:
        (B, 2h, 2w, I): pixels (2i + p, 2j + q) are a convolution of y with those taps that meet them.
    """
    size, inputs, outputs = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    if y.shape[1:3] == (1, 1):  # the other taps meet padding
        met = kernel[size - 3 : size - 1, size - 3 : size - 1]
        image = tf.matmul(y[:, 0, 0], tf.reshape(met, [4 * inputs, outputs]), transpose_b=True)
        return tf.reshape(image, [-1, 2, 2, inputs])
    if inputs <= _FEW:
        # A 4×4 kernel whose first row and column are 0 reads the same pixels.
        padded = kernel if size == 4 else tf.pad(kernel, [[1, 0], [1, 0], [0, 0], [0, 0]])
        return _all_phases(y, padded)
    kernel = tf.transpose(kernel, [0, 1, 3, 2])
    images = [
        tf.nn.conv2d(y, kernel[row::-2, column::-2], 1, [[0, 0], above_below, left_right, [0, 0]])
        for row, above_below in _PHASES[size]
        for column, left_right in _PHASES[size]
    ]
    return tf.nn.depth_to_space(tf.concat(images, axis=-1), 2)


def _all_phases(y, kernel):
    """As `_transpose`, by one convolution to all four phases, on a grid one larger; kernel (4, 4, I, O)."""
    inputs, outputs = kernel.shape[2], kernel.shape[3]
    # Kernel row 2a + p, column 2b + q is tap (a, b) of sub-pixel phase (p, q); a transpose flips the taps.
    phases = tf.reshape(kernel, [2, 2, 2, 2, inputs, outputs])  # (a, p, b, q, I, O)
    phases = tf.transpose(phases, [0, 2, 5, 1, 3, 4])  # (a, b, O, p, q, I)
    phases = tf.reverse(tf.reshape(phases, [2, 2, outputs, 4 * inputs]), [0, 1])
    image = tf.nn.conv2d(y, phases, 1, [[0, 0], [1, 1], [1, 1], [0, 0]])  # (B, h + 1, w + 1, 4 I)
    image = tf.nn.depth_to_space(image, 2)
    return image[:, 1:-1, 1:-1]


@tf.custom_gradient
def _widen(y, kernel):
    """2×2 transposed convolution of stride 2: y (B, h, w, O), kernel (2, 2, I, O) to (B, 2h, 2w, I)."""

    def gradient(upstream):
        return tf.nn.conv2d(upstream, kernel, 2, "VALID"), _kernel_gradient(upstream, y, kernel)

    inputs, outputs = kernel.shape[2], kernel.shape[3]
    phases = tf.reshape(tf.transpose(kernel, [3, 0, 1, 2]), [1, 1, outputs, 4 * inputs])  # (1, 1, O, p q I)
    return tf.nn.depth_to_space(tf.nn.conv2d(y, phases, 1, "VALID"), 2), gradient


def _kernel_gradient(x, y, kernel, stride: int = 2):
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=tf.shape(kernel), out_backprop=y, strides=[1, stride, stride, 1], padding="SAME"
    )


_OPERATIONS = {SameConv: _same, DownConv: _down, HalveConv: _halve, UpConv: _up, WidenConv: _widen}
