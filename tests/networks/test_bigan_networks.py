"""AA-BiGAN's networks: parameter counts, sizes, groups that do not see each other, what they refuse."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from bigan_cases import NETWORKS, SHAPES

from agad_tf.errors import InputError
from agad_tf.networks import BIGAN_BACKBONES
from agad_tf.networks.bigan_conv import DCGANTrunk, LeNetTrunk
from agad_tf.networks.mlp import MLPEncoder, MLPGenerator

LATENT = {"dcgan": 4, "lenet": 16, "mlp": 3}
NORMAL, GENERATED, ANOMALY, LEFT_OUT = 0, 1, 2, 3


@functools.cache
def build(backbone, name, shape, latent_dim, dtype="float32"):
    encoder, generator, discriminators, _ = BIGAN_BACKBONES[backbone]
    if name in ("encoder", "generator"):
        return {"encoder": encoder, "generator": generator}[name](shape, latent_dim, dtype=dtype)
    return dict(zip(NETWORKS[2:], judges(discriminators, shape, latent_dim, dtype), strict=True))[name]


@functools.cache
def judges(make, shape, latent_dim, dtype):
    """D and D', which are made together."""
    return make(shape, latent_dim, dtype)


@functools.cache
def small(backbone, name, dtype="float32"):
    """A small network whose moving statistics are not 0 and 1."""
    network = build(backbone, name, SHAPES[backbone], LATENT[backbone], dtype)
    random = np.random.default_rng(1)
    for norm in network.batch_norms():
        norm.moving_mean.assign(random.normal(0, 0.3, norm.moving_mean.shape))
        norm.moving_variance.assign(random.uniform(0.5, 2, norm.moving_variance.shape))
    return network


def all_four(*how):
    return {name: build(how[0], name, *how[1:]) for name in NETWORKS}


def samples(shape, count=5, seed=0, dtype="float32"):
    return np.random.default_rng(seed).uniform(0, 1, (count, *shape)).astype(dtype)


def codes(backbone, count=5, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=(count, LATENT[backbone])).astype(dtype)


def count_of(network):
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


# -- sizes ---------------------------------------------------------------------------------------------------


def test_parameters_of_the_mnist_networks():
    nets = all_four("dcgan", (32, 32, 1), 100)
    assert count_of(nets["encoder"]) == 1_621_220
    assert count_of(nets["discriminator"]) + count_of(nets["reconstruction_discriminator"]) == 1_961_346
    # Kernels, biases, and a scale and an offset for every batch norm.
    encoder = 9 * (1 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    encoder += (32 + 64 + 128 + 256 + 512) + 2 * (64 + 128 + 256 + 512) + 512 * 100 + 100
    assert count_of(nets["encoder"]) == encoder
    generator = 16 * (100 * 128 + 128 * 64 + 64 * 32 + 32 * 1) + (128 + 64 + 32 + 1) + 2 * (128 + 64 + 32)
    assert count_of(nets["generator"]) == generator
    trunk = 16 * (1 * 64 + 3 * 64 * 64) + 4 * 64 + 2 * 3 * 64
    code = 100 * 512 + 512
    assert count_of(nets["discriminator"]) == trunk + code + (256 + 512) * 1024 + 1024 + 1024 + 1
    assert count_of(nets["reconstruction_discriminator"]) == 2 * trunk + 512 * 1024 + 1024 + 1024 + 1


def test_parameters_of_the_cifar_networks():
    nets = all_four("lenet", (32, 32, 3), 128)
    trunk = 25 * (3 * 32 + 32 * 64 + 64 * 128)  # no bias, batch norm without scale and offset
    assert count_of(nets["encoder"]) == trunk + 4 * 4 * 128 * 128
    assert count_of(nets["generator"]) == 25 * (8 * 128 + 128 * 64 + 64 * 32 + 32 * 3)
    code = 128 * 512 + 512
    assert count_of(nets["discriminator"]) == trunk + code + 2560 * 1024 + 1024 + 1024 + 1
    assert count_of(nets["reconstruction_discriminator"]) == 2 * trunk + 4096 * 1024 + 1024 + 1024 + 1


def test_parameters_of_the_tables_networks():
    nets = all_four("mlp", (9,), 16)
    norms = 2 * (256 + 64)
    assert count_of(nets["encoder"]) == 9 * 256 + 256 + 256 * 64 + 64 + norms + 64 * 16 + 16
    assert count_of(nets["generator"]) == 16 * 64 + 64 + 64 * 256 + 256 + norms + 256 * 9 + 9
    top = 256 + 256 * 64 + 64 + 64 * 16 + 16 + 16 + 1
    assert count_of(nets["discriminator"]) == (9 + 16) * 256 + top
    assert count_of(nets["reconstruction_discriminator"]) == 2 * 9 * 256 + top
    without = [make((9,), batch_norm=False) for make in (MLPEncoder, MLPGenerator)]
    assert [count_of(network) for network in without] == [
        count_of(nets[name]) - norms for name in ("encoder", "generator")
    ]


def test_latent_dimensions_of_the_paper():
    assert {name: entry[3] for name, entry in BIGAN_BACKBONES.items()} == {
        "dcgan": 100,
        "lenet": 128,
        "mlp": 16,
    }


def filters(layer, names):
    return [getattr(layer, name).convolution.filters for name in names]


def test_details_of_the_table_of_networks():
    nets = all_four("dcgan", (32, 32, 1), 100)
    encoder, generator = nets["encoder"], nets["generator"]
    assert filters(encoder, [f"down_{i}" for i in range(5)]) == [32, 64, 128, 256, 512]
    assert [getattr(encoder, f"down_{i}").norm is None for i in range(5)] == [True] + [False] * 4
    assert encoder.down_0.activation.negative_slope == 0.1
    assert filters(generator, ["expand", "up_1", "up_0", "image"]) == [128, 64, 32, 1]
    assert generator.image.norm is None
    trunk = nets["discriminator"].trunk
    assert filters(trunk, [f"down_{i}" for i in range(4)]) == [64] * 4
    assert [getattr(trunk, f"down_{i}").norm is None for i in range(4)] == [True] + [False] * 3
    nets = all_four("lenet", (32, 32, 3), 128)
    for norm in nets["encoder"].batch_norms() + nets["generator"].batch_norms():
        assert (norm.epsilon, norm.center, norm.scale) == (1e-4, False, False)
    assert nets["encoder"].trunk.block_0.activation.negative_slope == 0.01
    assert nets["discriminator"].head.activation.negative_slope == 0.2
    assert nets["reconstruction_discriminator"].head.activation.negative_slope == 0.2


@pytest.mark.parametrize("side", [16, 64])
def test_each_doubling_of_the_side_adds_a_level(side):
    expected = {16: [32, 64], 64: [32, 64, 128, 256]}[side]
    levels = range(len(expected))
    encoder = build("dcgan", "encoder", (side, side, 1), 4)
    deep = {16: [128, 256], 64: [512, 512]}[side]
    assert filters(encoder, [f"down_{i}" for i in range(side.bit_length() - 1)]) == expected + deep
    assert encoder(samples((side, side, 1), 2)).shape == (2, 4)
    generator = build("dcgan", "generator", (side, side, 1), 4)
    assert filters(generator, ["expand", *[f"up_{i}" for i in reversed(levels[:-1])]]) == expected[::-1]
    assert generator(codes("dcgan", 2)).shape == (2, side, side, 1)
    assert DCGANTrunk(side)(samples((side, side, 1), 2)).shape == (2, 2 * 2 * 64)
    trunk = LeNetTrunk(side, (0,))
    assert trunk(samples((side, side, 3), 2)).shape == (2, 4 * 4 * expected[-1])
    assert filters(trunk, [f"block_{i}" for i in levels]) == expected


@pytest.mark.parametrize("backbone", SHAPES)
def test_shapes_and_ranges(backbone):
    nets = {name: small(backbone, name) for name in NETWORKS}
    shape = SHAPES[backbone]
    x, z = samples(shape), codes(backbone)
    for training in (False, True):
        assert nets["encoder"](x, training=training).shape == z.shape
        made = nets["generator"](20 * z, training=training).numpy()
        assert made.shape == x.shape
        assert made.std() > 1e-6
        assert 0 <= made.min() < made.max() <= 1  # a sigmoid
        assert nets["discriminator"]((x, z), training=training).shape == (5,)
        judge = nets["reconstruction_discriminator"]
        assert judge((x, x), training=training).shape == (5,)
        assert judge((x, np.concatenate([x, x, x])), training=training).shape == (15,)


REFUSED = [
    ("dcgan", (28, 28, 1), "square images of side 16, 32, 64, 128, 256, received 28x28"),
    ("dcgan", (32, 16, 1), "square images .* received 32x16"),
    ("lenet", (8, 8, 3), "received 8x8: give such an image size; uint8 images are resized to it"),
    ("lenet", (512, 512, 3), "received 512x512"),
    ("dcgan", (32, 32, 2), "1 .grey. or 3 .RGB. channels, received 2"),
    ("lenet", (32, 32), "height, width, channels"),
]


@pytest.mark.parametrize(("backbone", "shape", "words"), REFUSED)
def test_refused_sizes_say_which_ones_can_be_taken(backbone, shape, words):
    encoder, generator, discriminators, latent_dim = BIGAN_BACKBONES[backbone]
    for make in (encoder, generator, lambda *args: discriminators(*args, "float32")):
        with pytest.raises(InputError, match=words) as error:
            make(shape, latent_dim)
        assert "\n" not in str(error.value)
        assert backbone in str(error.value)


def test_lenet_refuses_a_code_that_fills_no_grid():
    with pytest.raises(InputError, match=r"multiple of 16 for lenet.* received 100"):
        BIGAN_BACKBONES["lenet"][1]((16, 16, 3), 100)


# -- who sees whom -------------------------------------------------------------------------------------------


def inputs_of(name, backbone, seed=0, dtype="float32"):
    x, z = samples(SHAPES[backbone], seed=seed, dtype=dtype), codes(backbone, seed=seed, dtype=dtype)
    other = samples(SHAPES[backbone], seed=seed + 10, dtype=dtype)
    inputs = {"encoder": x, "generator": z, "discriminator": (x, z)}
    return inputs.get(name, (x, other))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backbone", SHAPES)
def test_inference_is_independent_of_neighbours_and_training_is_not(backbone, name):
    network = small(backbone, name)
    mine, others = inputs_of(name, backbone), inputs_of(name, backbone, seed=1)
    mixed = tf.nest.map_structure(lambda a, b: np.concatenate([a[:1], b[1:]]), mine, others)
    before = [variable.numpy() for variable in network.variables]
    alone = network(tf.nest.map_structure(lambda a: a[:1], mine))[0].numpy()
    for whole in (mine, mixed):
        np.testing.assert_allclose(network(whole, training=False)[0], alone, rtol=1e-4, atol=1e-5)
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=f"inference changed {variable.path}")
    trained = [network(whole, training=True)[0].numpy() for whole in (mine, mixed)]
    assert (np.abs(trained[0] - trained[1]).max() > 1e-4) == bool(network.batch_norms())
    for variable, value in zip(network.variables, before, strict=True):
        variable.assign(value)


def groups(*numbers):
    return tf.constant(np.concatenate([np.full(count, route) for route, count in numbers]))


def separately(network, *parts):
    """Training-mode outputs of each group passed alone."""
    return np.concatenate([network(part, training=True).numpy() for part in parts])


@pytest.mark.parametrize("backbone", SHAPES)
def test_each_group_of_a_discriminator_is_normalised_as_if_it_had_passed_alone(backbone):
    network = small(backbone, "discriminator", "float64")
    x, z = inputs_of("discriminator", backbone, dtype="float64")
    made, noise = inputs_of("discriminator", backbone, seed=2, dtype="float64")
    pair = np.concatenate([x, 0.3 * made]), np.concatenate([z, noise])
    together = network(pair, route=groups((NORMAL, 3), (ANOMALY, 2), (GENERATED, 5)), training=True)
    apart = separately(network, (x[:3], z[:3]), (x[3:], z[3:]), (0.3 * made, noise))
    np.testing.assert_allclose(together, apart, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("backbone", SHAPES)
def test_the_shared_first_tower_equals_separate_passes(backbone):
    network = small(backbone, "reconstruction_discriminator", "float64")
    x, rebuilt = inputs_of("reconstruction_discriminator", backbone, dtype="float64")
    pair = x, np.concatenate([x, rebuilt])
    plain = np.concatenate([network((x, x)), network((x, rebuilt))])
    np.testing.assert_allclose(network(pair), plain, rtol=1e-9, atol=1e-10)
    # In training: (x⁺, x⁺), (x⁻, x⁻), (x⁺, x̂⁺); the anomalies' reconstructions are left out.
    routes = groups((NORMAL, 3), (ANOMALY, 2), (GENERATED, 3), (LEFT_OUT, 2))
    together = network(pair, route=routes, training=True)[:-2]
    normal, anomaly = x[:3], x[3:]
    apart = separately(network, (normal, normal), (anomaly, anomaly), (normal, rebuilt[:3]))
    np.testing.assert_allclose(together, apart, rtol=1e-9, atol=1e-10)
    tuples = network((x, (x, rebuilt)), route=(routes[:5], routes[5:]), training=True)
    np.testing.assert_allclose(np.concatenate(tuples)[:-2], apart, rtol=1e-9, atol=1e-10)
    order = network((rebuilt, x)).numpy()  # the towers are two, and the second argument is not the first
    assert np.abs(order - network((x, rebuilt)).numpy()).max() > 1e-6


@pytest.mark.parametrize("backbone", SHAPES)
def test_rows_that_are_left_out_influence_nothing(backbone):
    network = small(backbone, "reconstruction_discriminator")
    start = [variable.numpy() for variable in network.variables]
    x, rebuilt = inputs_of("reconstruction_discriminator", backbone)
    routes = groups((NORMAL, 3), (ANOMALY, 2), (GENERATED, 3), (LEFT_OUT, 2))
    seen = []
    for scale in (1.0, 30.0):
        for variable, value in zip(network.variables, start, strict=True):
            variable.assign(value)
        strange = np.concatenate([rebuilt[:3], scale * rebuilt[3:]])
        with tf.GradientTape() as tape:
            output = network((x, np.concatenate([x, strange])), route=routes, training=True)
            loss = tf.reduce_sum(tf.square(output[:-2]))
        gradients = tape.gradient(loss, network.trainable_variables)
        norms = network.batch_norms()
        seen.append([output[:-2], *gradients, *[norm.moving_mean.numpy() for norm in norms]])
    for mine, other in zip(*seen, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
    for variable, value in zip(network.variables, start, strict=True):
        variable.assign(value)


@pytest.mark.parametrize("backbone", SHAPES)
def test_codes_of_anomalies_pass_through_the_generator_without_a_part_in_it(backbone):
    network = small(backbone, "generator", "float64")
    z, noise = codes(backbone, dtype="float64"), codes(backbone, seed=1, dtype="float64")
    routes = groups((NORMAL, 3), (ANOMALY, 2), (NORMAL, 5))
    together = network(np.concatenate([z, noise]), route=routes, training=True).numpy()
    alone = network(np.concatenate([z[:3], noise]), training=True).numpy()
    np.testing.assert_allclose(np.delete(together, [3, 4], axis=0), alone, rtol=1e-9, atol=1e-10)


# -- precision -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", SHAPES)
def test_generated_samples_are_not_rounded(backbone):
    full = small(backbone, "generator")
    rough = BIGAN_BACKBONES[backbone][1](SHAPES[backbone], LATENT[backbone], dtype="mixed_bfloat16")
    rough.set_weights(full.get_weights())
    assert {norm.moving_mean.dtype for norm in rough.batch_norms()} == {"float32"}
    z = codes(backbone)
    made = rough(z)
    assert made.dtype == tf.float32
    assert (made != tf.cast(tf.cast(made, tf.bfloat16), tf.float32)).numpy().any()
    np.testing.assert_allclose(made, full(z), atol=0.05)
