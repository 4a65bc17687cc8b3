"""The generators and the discriminator: sizes, parameter counts, ranges, independence of batch neighbours."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.layers import BN_STRATEGIES
from agad_tf.networks import BACKBONES, EncoderDecoder, PatchDiscriminator, UNet, UNetPlusPlus

SMALLEST = {
    "encoder_decoder": (8, 8, 1),
    "unet": (16, 16, 1),
    "unet_plus_plus": (16, 16, 1),
    "discriminator": (8, 8, 1),
}


HEADS = BN_STRATEGIES["adv_prop_freeze"]


@functools.cache
def build(name, shape, route_heads):
    """One network for all tests that look at it; the large ones take seconds to make."""
    return {**BACKBONES, "discriminator": PatchDiscriminator}[name](shape, route_heads)


def images(shape, count=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype("float32")


def trainable(network):
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


@pytest.mark.parametrize(
    ("name", "shape", "route_heads", "count"),
    [
        ("encoder_decoder", (32, 32, 1), (0,), 2_133_632),
        ("encoder_decoder", (32, 32, 3), (0,), 2_137_728),
        ("unet", (32, 32, 1), None, 7_759_521),
        ("unet_plus_plus", (32, 32, 1), None, 9_041_601),
    ],
)
def test_trainable_parameters_of_the_paper(name, shape, route_heads, count):
    assert trainable(build(name, shape, route_heads)) == count


def test_trainable_parameters_of_table_7_worked_out():
    kernels = 16 * (1 * 64 + 64 * 128 + 128 * 256 + 256 * 100)  # the encoder; the decoder mirrors it
    norms = 2 * (128 + 256) + 2 * (256 + 128 + 64)  # scale and offset
    assert trainable(build("encoder_decoder", (32, 32, 1), (0,))) == 2 * kernels + norms


def test_three_channels_cost_unet_a_first_and_a_last_convolution():
    more_in, more_out = 9 * 2 * 32, 2 * 32 + 2
    assert trainable(build("unet", (48, 32, 3), None)) == 7_759_521 + more_in + more_out


def test_one_head_more_is_one_scale_and_one_offset_more():
    single, double = build("encoder_decoder", (8, 8, 1), (0,)), build("encoder_decoder", (8, 8, 1), HEADS)
    norms = single.batch_norms()
    assert len(norms) == len(double.batch_norms()) == 1
    assert trainable(double) - trainable(single) == 2 * 64


def test_names_of_the_backbones():
    expected = {"encoder_decoder": EncoderDecoder, "unet": UNet, "unet_plus_plus": UNetPlusPlus}
    assert expected == BACKBONES


@pytest.mark.parametrize(
    ("name", "shape", "route_heads"),
    [
        ("encoder_decoder", (8, 8, 1), HEADS),
        ("encoder_decoder", (16, 16, 3), None),
        ("encoder_decoder", (64, 64, 1), (0, 0, 0)),
        ("unet", (16, 16, 1), HEADS),
        ("unet", (48, 32, 3), None),
        ("unet_plus_plus", (16, 16, 1), HEADS),
        ("unet_plus_plus", (32, 32, 1), None),
    ],
)
def test_output_has_the_shape_and_range_of_the_input(name, shape, route_heads):
    network = build(name, shape, route_heads)
    assert (len(network.batch_norms()) == 0) == (route_heads is None)
    x = images(shape)
    for training in (False, True):
        output = network(50 * x, route=tf.constant([0, 1, 2]), training=training).numpy()
        assert output.shape == x.shape
        assert np.isfinite(output).all()
        assert np.abs(output).max() <= 1
        assert output.std() > 1e-6


def test_filters_of_encoder_decoder_double_up_to_1024():
    network = EncoderDecoder((128, 128, 1))
    filters = [getattr(network, f"down_{level}").convolution.filters for level in range(5)]
    assert filters == [64, 128, 256, 512, 1024]
    assert network.code.convolution.filters == 100
    assert network.code.convolution.kernel_size == (4, 4)


@pytest.mark.parametrize(("name", "block"), [("unet", "down_{}"), ("unet_plus_plus", "node_{}_0")])
def test_filters_of_the_unets(name, block):
    network = build(name, (32, 32, 1), None)
    filters = [getattr(network, block.format(level)).first.convolution.filters for level in range(5)]
    assert filters == [32, 64, 128, 256, 512]


REFUSED = [
    ("encoder_decoder", (28, 28, 1), "8, 16, 32, 64, 128, 256"),
    ("encoder_decoder", (32, 16, 1), "square"),
    ("encoder_decoder", (512, 512, 1), "received 512x512"),
    ("unet", (28, 28, 1), "multiples of 16, received 28x28: resize the images, for instance to 32x32"),
    ("unet", (32, 40, 1), "multiples of 16, received 32x40"),
    ("unet_plus_plus", (8, 8, 1), "for instance to 16x16"),
    ("unet_plus_plus", (32, 32, 2), "1 .grey. or 3 .RGB. channels, received 2"),
    ("unet", (32, 32), "height, width, channels"),
    ("encoder_decoder", (0, 0, 1), "positive whole numbers"),
    ("unet", (-16, 16, 1), "positive whole numbers"),
    ("unet", (16.0, 16, 1), "positive whole numbers"),
    ("unet_plus_plus", (None, None, 1), "positive whole numbers"),
]


@pytest.mark.parametrize(("name", "shape", "words"), REFUSED)
def test_refused_sizes_say_which_ones_can_be_taken(name, shape, words):
    with pytest.raises(InputError, match=words) as error:
        BACKBONES[name](shape)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_discriminator_refuses_sizes():
    with pytest.raises(InputError, match="the discriminator expects height and width in multiples of 4"):
        PatchDiscriminator((30, 32, 1))


@pytest.mark.parametrize("shape", [(8, 8, 1), (48, 32, 3)])
@pytest.mark.parametrize("route_heads", [(0,), None])
def test_discriminator_gives_a_logit_and_features(shape, route_heads):
    network = PatchDiscriminator(shape, route_heads)
    logit, features = network(images(shape), training=True)
    assert logit.shape == (3,)
    assert features.shape == (3, shape[0] // 4, shape[1] // 4, 128)
    # The logit is the mean over patches of one linear classifier on the features.
    patches = network.classifier(features)
    np.testing.assert_allclose(logit, tf.reduce_mean(patches, axis=[1, 2, 3]), rtol=1e-5, atol=1e-6)
    assert tf.reduce_min(features) < 0 < tf.reduce_max(features)  # leaky, not rectified


@pytest.mark.parametrize("name", [*BACKBONES, "discriminator"])
def test_inference_is_independent_of_neighbours_and_training_is_not(name):
    shape = SMALLEST[name]
    network = build(name, shape, HEADS)
    for norm in network.batch_norms():  # statistics other than 0 and 1
        norm.moving_mean.assign(np.random.default_rng(1).normal(0, 0.3, norm.moving_mean.shape))
    x, other = images(shape), images(shape, seed=1)
    other[0] = x[0]

    def first(batch, **how):
        return tf.nest.map_structure(lambda values: values[0].numpy(), network(batch, **how))

    before = [variable.numpy() for variable in network.variables]
    alone = tf.nest.flatten(first(x[:1]))
    for batch in (x, other):
        for mine, expected in zip(tf.nest.flatten(first(batch, training=False)), alone, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)
    for variable, value in zip(network.variables, before, strict=True):
        assert (variable.numpy() == value).all(), f"inference changed {variable.path}"
    trained, neighbours = (tf.nest.flatten(first(batch, training=True))[-1] for batch in (x, other))
    assert np.abs(trained - neighbours).max() > 1e-4


@pytest.mark.parametrize("name", ["encoder_decoder", "discriminator"])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_precision(name, policy):
    make_one = PatchDiscriminator if name == "discriminator" else EncoderDecoder
    network, full = make_one((8, 8, 1), dtype=policy), make_one((8, 8, 1))
    full.set_weights(network.get_weights())
    for norm in network.batch_norms():
        assert norm.moving_mean.dtype == ("float64" if policy == "float64" else "float32")
    mine, expected = (tf.nest.flatten(net(images((8, 8, 1)), training=True))[0] for net in (network, full))
    assert mine.dtype == (tf.float64 if policy == "float64" else tf.float32)  # logits and images stay exact
    np.testing.assert_allclose(mine, expected, atol=1e-5 if policy == "float64" else 0.05)
