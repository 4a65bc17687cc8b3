"""The fast convolutions against the Keras layers they stand for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from agad_tf.layers import DownConv, HalveConv, SameConv, UpConv, WidenConv

CONV, TRANSPOSE = keras.layers.Conv2D, keras.layers.Conv2DTranspose
PAIRS = [
    (SameConv, CONV, {"kernel_size": 3, "padding": "same"}),
    (WidenConv, TRANSPOSE, {"kernel_size": 2, "strides": 2}),
    (UpConv, TRANSPOSE, {"kernel_size": 4, "strides": 2, "padding": "same"}),
    (DownConv, CONV, {"kernel_size": 4, "strides": 2, "padding": "same"}),
    (HalveConv, CONV, {"kernel_size": 3, "strides": 2, "padding": "same"}),
]
# Few and many channels, and grids of one pixel, have forms of their own.
SHAPES = [(3, 6, 8, 4), (2, 2, 2, 3), (3, 4, 6, 20), (2, 1, 1, 4)]
CASES = [
    (*pair, shape)
    for pair in PAIRS
    for shape in SHAPES
    if shape[1] > 1 or pair[0] not in (DownConv, HalveConv)
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("fast", "reference", "geometry", "shape"), CASES)
def test_equals_the_keras_layer_forward_and_backward(fast, reference, geometry, shape, bias):
    x = tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)
    filters = 12 if shape[-1] == 20 else 5
    ours, theirs = fast(filters, use_bias=bias), reference(filters, use_bias=bias, **geometry)
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights([w + 0.1 for w in ours.get_weights()])
    ours.set_weights(theirs.get_weights())

    def run(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x)
            loss = tf.reduce_sum(tf.sin(output))  # a gradient that differs from place to place
        return [output, *tape.gradient(loss, [x, *[w.value for w in layer.weights]])]

    for mine, other in zip(run(ours), run(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


LAYERS = [DownConv(3, use_bias=False), HalveConv(3), UpConv(3), SameConv(3), WidenConv(3)]


@pytest.mark.parametrize("layer", LAYERS)
def test_configuration_round_trip(layer):
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
