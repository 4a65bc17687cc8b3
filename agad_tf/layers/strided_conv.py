"""4×4 convolutions of stride 2 and their transposes, in the form a CPU computes fastest.

TensorFlow's transposed convolution, which is also the input gradient of every strided convolution, is slower
than a plain convolution on CPUs (`benchmarks/convolutions.py` measures by how much). Here it is written as a
2×2 convolution that yields all four sub-pixel phases, then `depth_to_space`. Weights, shapes and results are
those of the Keras layers; where a GPU is present the Keras layers' own operation is used.
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("agad_tf")
class DownConv(keras.layers.Conv2D):
    """`Conv2D(filters, 4, strides=2, padding="same")` with a fast input gradient on CPU; even sides only."""

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, 4, strides=2, padding="same", **_without_geometry(kwargs))

    def convolution_op(self, inputs, kernel):
        if _has_gpu():
            return super().convolution_op(inputs, kernel)
        return _down(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))


@keras.saving.register_keras_serializable("agad_tf")
class UpConv(keras.layers.Conv2DTranspose):
    """`Conv2DTranspose(filters, 4, strides=2, padding="same")`, fast on CPU."""

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, 4, strides=2, padding="same", **_without_geometry(kwargs))

    def call(self, inputs):
        if _has_gpu():
            return super().call(inputs)
        outputs = _up(inputs, tf.cast(self.kernel, inputs.dtype))
        if self.use_bias:
            outputs += tf.cast(self.bias, outputs.dtype)
        return self.activation(outputs)


def _has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _without_geometry(config: dict) -> dict:
    """Constructor arguments of a saved layer less those that the class itself fixes."""
    return {k: v for k, v in config.items() if k not in ("kernel_size", "strides", "padding")}


@tf.custom_gradient
def _down(x, kernel):
    """Stride-2 convolution of x (B, H, W, I) with a kernel (4, 4, I, O) to (B, H/2, W/2, O)."""

    def gradient(upstream):
        return _up(upstream, kernel), _kernel_gradient(x, upstream, kernel)

    return tf.nn.conv2d(x, kernel, 2, "SAME"), gradient


@tf.custom_gradient
def _up(y, kernel):
    """Transpose of `_down` in its first argument: y (B, h, w, O), kernel (4, 4, I, O) to (B, 2h, 2w, I)."""

    def gradient(upstream):
        return tf.nn.conv2d(upstream, kernel, 2, "SAME"), _kernel_gradient(upstream, y, kernel)

    inputs, outputs = kernel.shape[2], kernel.shape[3]
    # Kernel row 2a + p, column 2b + q is tap (a, b) of sub-pixel phase (p, q); a transpose flips the taps.
    phases = tf.reshape(kernel, [2, 2, 2, 2, inputs, outputs])  # (a, p, b, q, I, O)
    phases = tf.transpose(phases, [0, 2, 5, 1, 3, 4])  # (a, b, O, p, q, I)
    phases = tf.reverse(tf.reshape(phases, [2, 2, outputs, 4 * inputs]), [0, 1])
    image = tf.nn.conv2d(y, phases, 1, [[0, 0], [1, 1], [1, 1], [0, 0]])  # (B, h + 1, w + 1, 4 I)
    image = tf.nn.depth_to_space(image, 2)
    return image[:, 1:-1, 1:-1], gradient


def _kernel_gradient(x, y, kernel):
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=tf.shape(kernel), out_backprop=y, strides=[1, 2, 2, 1], padding="SAME"
    )
