"""The detector as it is exported: float32 whatever it was trained in, batch norm folded away."""

from operator import attrgetter

import keras
import numpy as np
import tensorflow as tf

from agad_tf.keras_private import flat_layers
from agad_tf.layers.convolutions import UpConv, WidenConv, drop_gradients
from agad_tf.models.scorer import AnomalyScorer
from agad_tf.networks.blocks import ConvBlock
from agad_tf.networks.mlp import MLPEncoder, MLPGenerator


def scoring_twin(model: AnomalyScorer) -> AnomalyScorer:
    """A detector of its own that scores like `model`, in float32 and with batch norm folded.

    Only what scoring reads is copied: the networks of `scoring_networks()`, the preprocessing and the
    constants of a fused score. It is for inference; training it would train nothing of use.

    Args:
        model: any precision policy; stays as it is.

    Raises:
        InputError: a detector that has learnt nothing to score by, or one of images whose training saw other
            values than an export makes of uint8 images.
    """
    model.check_fitted()
    if not model.is_table:
        black = np.zeros((1, 1, 1, 1), np.uint8)
        model.identity.judge_images(black, "an export", model.preprocess.value_range)
    config = model.get_config()
    config["dtype"] = "float32"
    twin = type(model).from_config(config)
    for name, network in model.scoring_networks().items():
        getattr(twin, name).set_weights(network.get_weights())
        fold_batch_norm(getattr(twin, name))
        drop_gradients(getattr(twin, name))
        rearrange_kernels(getattr(twin, name))
    twin.preprocess.set_weights(model.preprocess.get_weights())
    for name in model.scoring_state:
        state = attrgetter(name)
        state(twin).assign(state(model))
    twin.identity = model.identity
    return twin


def fold_batch_norm(network: keras.Model) -> int:
    """Moves the inference-mode batch norms that directly follow a linear layer into its kernel, in place.

    y = γ (Wx + b − μ) / √(σ² + ε) + β is the linear layer with W γ / √(σ² + ε) and an offset; computed in
    float64, so that only the rounding of the new kernel to float32 remains. Batch norms elsewhere stay.

    Args:
        network: built, float32; its layers are changed and it can no longer be trained.

    Returns:
        How many batch norms were folded.
    """
    pairs = [pair for layer in flat_layers(network) for pair in _linear_and_norm(layer)]
    for linear, norm in pairs:
        _fold(linear, norm)
    return len(pairs)


def _linear_and_norm(layer):
    """Pairs of a linear layer and the batch norm that takes its output."""
    if isinstance(layer, ConvBlock) and layer.norm is not None:
        yield layer.convolution, layer.norm
    elif isinstance(layer, MLPEncoder | MLPGenerator):
        yield from layer.linear_and_norm()


def _fold(linear, norm) -> None:
    gamma, beta, mean, variance = (
        None if weight is None else np.asarray(weight, np.float64)[0]  # row 0: the head of inference
        for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if gamma is not None:
        scale = scale * gamma
    kernel = np.asarray(linear.kernel, np.float64)
    transposed = isinstance(linear, keras.layers.Conv2DTranspose)  # kernel (h, w, out, in)
    linear.kernel.assign(kernel * (scale[:, None] if transposed else scale))
    bias = np.asarray(linear.bias, np.float64) if linear.use_bias else 0.0
    offset = (bias - mean) * scale + (0.0 if beta is None else beta)
    if linear.use_bias:
        linear.bias.assign(offset)
        norm.call = lambda x, route=None, training=False: x  # of this layer alone, not of its class
    else:
        offset = tf.Variable(offset.astype(np.float32), trainable=False, name="folded_offset")
        norm.call = lambda x, route=None, training=False: tf.nn.bias_add(x, offset)


def rearrange_kernels(network: keras.Model) -> None:
    """Makes every transposed convolution of stride 2 one convolution to all four sub-pixel phases, in place.

    Its kernel is rearranged once, here, and not in every call: a SavedModel holds variables, of which a
    runtime computes nothing ahead.

    Args:
        network: built; it can no longer be trained.
    """
    for layer in flat_layers(network):
        if isinstance(layer, UpConv | WidenConv):
            layer.call = _through_phases(layer)  # of this layer alone, not of its class


def _through_phases(layer):
    """The call of a transposed convolution as a convolution and a `depth_to_space`."""
    kernel = np.asarray(layer.kernel)  # (side, side, I, O)
    side, _, inputs, outputs = kernel.shape
    taps = side // 2
    # Kernel row 2a + p, column 2b + q is tap (a, b) of sub-pixel phase (p, q); a transpose flips the taps.
    phases = kernel.reshape(taps, 2, taps, 2, inputs, outputs)[::-1, :, ::-1]
    phases = phases.transpose(0, 2, 5, 1, 3, 4).reshape(taps, taps, outputs, 4 * inputs)
    phases = tf.Variable(phases, trainable=False, name="phases")
    around = taps - 1  # 4×4 kernels of padding "same" reach one pixel beyond the image, 2×2 none

    def call(x):
        padding = [[0, 0], [around, around], [around, around], [0, 0]]
        image = tf.nn.depth_to_space(tf.nn.conv2d(x, phases, 1, padding), 2)
        if around:
            image = image[:, around:-around, around:-around]
        return layer.activation(image + layer.bias if layer.use_bias else image)

    return call
