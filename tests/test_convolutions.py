"""The fast convolutions against the Keras layers they stand for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from agad_tf.layers import DownConv, SameConv, UpConv, WidenConv

PAIRS = [
    (SameConv, lambda bias: keras.layers.Conv2D(5, 3, padding="same", use_bias=bias)),
    (WidenConv, lambda bias: keras.layers.Conv2DTranspose(5, 2, strides=2, use_bias=bias)),
    (DownConv, lambda bias: keras.layers.Conv2D(5, 4, strides=2, padding="same", use_bias=bias)),
    (UpConv, lambda bias: keras.layers.Conv2DTranspose(5, 4, strides=2, padding="same", use_bias=bias)),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("fast", "reference"), PAIRS)
def test_equals_the_keras_layer_forward_and_backward(fast, reference, bias):
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 6, 8, 4)), tf.float32)
    ours, theirs = fast(5, use_bias=bias), reference(bias)
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


@pytest.mark.parametrize("layer", [DownConv(3, use_bias=False), UpConv(3), SameConv(3), WidenConv(3)])
def test_configuration_round_trip(layer):
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
