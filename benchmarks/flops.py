"""Floating-point operations of networks and of training steps, counted from shapes."""

from __future__ import annotations

import math


def convolution(output_positions: int, kernel: tuple[int, ...]) -> int:
    """Of a convolution, a multiplication and an addition counted as two.

    Args:
        output_positions: output pixels; for a transposed convolution input pixels.
        kernel: its shape (height, width, channels, channels).
    """
    return 2 * output_positions * math.prod(kernel)


def of_layer(layer, rows: int, input_shape, output_shape) -> int:
    """Of one pass of `rows` samples through a Keras layer; only convolutions and dense layers count."""
    import keras

    if isinstance(layer, keras.layers.Conv2DTranspose):
        return convolution(rows * math.prod(input_shape[1:3]), tuple(layer.kernel.shape))
    if isinstance(layer, keras.layers.Conv2D):
        return convolution(rows * math.prod(output_shape[1:3]), tuple(layer.kernel.shape))
    if isinstance(layer, keras.layers.Dense):
        return 2 * rows * math.prod(layer.kernel.shape)
    return 0


def forward(network, *inputs) -> int:
    """Of one pass of one sample through a network.

    Args:
        network: Keras network or layer, called with one tensor or, for a pair, with a tuple.
        inputs: shapes without the batch axis.
    """
    import keras
    import tensorflow as tf

    total = 0
    kinds = keras.layers.Conv2D | keras.layers.Conv2DTranspose | keras.layers.Dense
    counted = [layer for layer in network._flatten_layers() if isinstance(layer, kinds)]
    originals = {id(layer): layer.call for layer in counted}

    def counting(layer):
        def call(x, *args, **kwargs):
            nonlocal total
            output = originals[id(layer)](x, *args, **kwargs)
            total += of_layer(layer, 1, tuple(x.shape), tuple(output.shape))
            return output

        return call

    try:
        for layer in counted:
            layer.call = counting(layer)
        given = tuple(tf.zeros((1, *shape)) for shape in inputs)
        network(given if len(given) > 1 else given[0])
    finally:
        for layer in counted:
            del layer.call
    return total


def agad_step(generator: int, discriminator: int, batch: int) -> int:
    """Of one step of AGAD's Algorithm 1, from the forward operations of one image.

    G passes twice and is differentiated through both passes: three times its forward operations each. D
    passes twice, is differentiated for L_d in its weights and inputs, and for L_g in its inputs on x̂ alone.
    """
    return batch * (2 * 3 * generator + (2 + 4 + 1) * discriminator)


def aa_bigan_step(
    encoder: int, generator: int, trunk: int, code: int, joint_head: int, pair_head: int, batch: int
):
    """Of one step of AA-BiGAN's Algorithm 1 with as many noise vectors as images.

    Args:
        encoder, generator: forward operations of one sample through E and G.
        trunk: of one image through one tower of D or D'.
        code, joint_head, pair_head: of one sample through D's layer of z, and the last layers of D and D'.
        batch: images.
    """
    outer = 3 * encoder + 2 * 3 * generator
    # Weights and inputs for the discriminators' loss (2), inputs for that of G and E (1) where they lead on.
    joint = 2 * 3 * (trunk + code + joint_head) + (trunk + joint_head) + (code + joint_head)
    pair = 3 * trunk + 2 * 3 * (trunk + pair_head) + (trunk + pair_head)
    return batch * (outer + joint + pair)
