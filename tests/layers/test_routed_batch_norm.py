"""Routed batch normalisation against Keras' own layer, one instance a head."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from replicated import shared

from agad_tf.errors import InputError
from agad_tf.layers import BN_STRATEGIES, FROZEN, RoutedBatchNormalization

SHAPES = [(12, 5), (12, 4, 5), (12, 3, 2, 5)]
ROUTES = np.array([0, 1, 2, 0, 0, 2, 1, 0, 2, 0, 1, 0])
MOMENTUM, EPSILON = 0.9, 1e-5


def samples(shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(2, 3, shape).astype(dtype)


def keras_layer(shape, gamma, beta, dtype="float32"):
    layer = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, dtype=dtype)
    layer.build((None, *shape[1:]))
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    return layer


def routed(channels, route_heads, dtype="float32", **arguments):
    """A built layer whose heads differ in scale and offset."""
    layer = RoutedBatchNormalization(route_heads, dtype=dtype, **arguments)
    layer.build((None, channels))
    random = np.random.default_rng(7)
    layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
    layer.beta.assign(random.normal(size=layer.beta.shape))
    return layer


def train(layer, x, **route):
    """Output, and gradients of a loss that differs from place to place, by x, gamma and beta."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x, training=True, **route)
        weights = tf.reshape(tf.cos(tf.range(tf.size(output), dtype=output.dtype)), tf.shape(output))
        loss = tf.reduce_sum(output * weights)
    gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
    return [value.numpy() for value in (output, *gradients)]


def statistics(layer):
    return layer.moving_mean.numpy(), layer.moving_variance.numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("route_heads", [(0,), (0, 0, 0)])
def test_one_head_equals_the_keras_layer_over_several_steps(shape, dtype, route_heads):
    ours = routed(5, route_heads, dtype)
    theirs = keras_layer(shape, ours.gamma[0], ours.beta[0], dtype)
    tolerance = {"rtol": 1e-4, "atol": 2e-5} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-11}
    for step in range(3):
        x = samples(shape, step, dtype)
        output, by_x, by_gamma, by_beta = train(ours, x, route=tf.constant(ROUTES % len(route_heads)))
        expected = train(theirs, x)
        for mine, other in zip((output, by_x, by_gamma[0], by_beta[0]), expected, strict=True):
            np.testing.assert_allclose(mine, other, **tolerance)
        for mine, other in zip(statistics(ours), statistics(theirs), strict=True):
            np.testing.assert_allclose(mine[0], other, **tolerance)
    x = samples(shape, 9, dtype)
    np.testing.assert_allclose(ours(x, training=False), theirs(x, training=False), **tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_head_equals_a_keras_layer_on_its_samples(shape):
    ours = routed(5, (0, 1, 2), "float64")
    separate = [keras_layer(shape, ours.gamma[head], ours.beta[head], "float64") for head in range(3)]
    for step in range(2):
        x = samples(shape, step, "float64")
        x[ROUTES == 2] += 50.0  # moments of another head would show
        weights = np.cos(np.arange(x.size)).reshape(shape)
        output, by_x, by_gamma, by_beta = train(ours, x, route=tf.constant(ROUTES))
        for head, layer in enumerate(separate):
            mine = head == ROUTES
            part = tf.constant(x[mine])
            with tf.GradientTape() as tape:
                tape.watch(part)
                expected = layer(part, training=True)
                loss = tf.reduce_sum(expected * weights[mine])
            gradients = tape.gradient(loss, [part, layer.gamma.value, layer.beta.value])
            pairs = [(output[mine], expected), (by_x[mine], gradients[0])]
            pairs += [(by_gamma[head], gradients[1]), (by_beta[head], gradients[2])]
            pairs += [
                (mine_[head], other) for mine_, other in zip(*map(statistics, (ours, layer)), strict=True)
            ]
            for mine_, other in pairs:
                np.testing.assert_allclose(mine_, other, rtol=1e-9, atol=1e-10)


def test_large_mean_keeps_the_variance():
    # E[x²] − E[x]² in float32 would leave nothing of a variance of 1 beside a mean of 10,000.
    ours = routed(5, (0, 1))
    x = samples((64, 5)) / 3 + 1e4
    output = train(ours, x, route=tf.constant(np.arange(64) % 2))[0]
    normalised = (output[::2] - ours.beta[0].numpy()) / ours.gamma[0].numpy()
    np.testing.assert_allclose(normalised.std(0), 1, atol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_head_without_samples_keeps_every_bit(shape):
    layer = routed(5, (0, 1, 2))
    train(layer, samples(shape), route=tf.constant(ROUTES))  # statistics that are no round numbers
    before = statistics(layer)
    output, by_x, by_gamma, by_beta = train(layer, samples(shape, 1), route=tf.constant(ROUTES % 2))
    for old, new in zip(before, statistics(layer), strict=True):
        assert (old[2] == new[2]).all()
        assert (old[:2] != new[:2]).all()
    for values in (output, by_x, by_gamma, by_beta):
        assert np.isfinite(values).all()
    assert (by_gamma[2] == 0).all()
    assert (by_beta[2] == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_frozen_route_reads_the_moving_statistics_and_adds_nothing(shape):
    frozen = ROUTES == 2
    layer = routed(5, BN_STRATEGIES["freeze"], "float64")
    reference = keras_layer(shape, layer.gamma[0], layer.beta[0], "float64")
    for step in range(2):
        x = samples(shape, step, "float64")
        x[frozen] += 30.0
        mean, variance = (values[0] for values in statistics(layer))
        output, by_x, *_ = train(layer, x, route=tf.constant(ROUTES))
        scale = layer.gamma[0].numpy() / np.sqrt(variance + EPSILON)
        expected = (x[frozen] - mean) * scale + layer.beta[0].numpy()
        np.testing.assert_allclose(output[frozen], expected, rtol=1e-9)
        # The statistics are constants to the gradient.
        weights = np.cos(np.arange(x.size)).reshape(shape)
        np.testing.assert_allclose(by_x[frozen], weights[frozen] * scale, rtol=1e-9)
        np.testing.assert_allclose(
            output[~frozen], reference(x[~frozen], training=True), rtol=1e-9, atol=1e-9
        )
        for mine, other in zip(statistics(layer), statistics(reference), strict=True):
            np.testing.assert_allclose(mine[0], other, rtol=1e-9)


@pytest.mark.parametrize("route", [2, np.int64(2), "tensor"])
def test_batch_of_frozen_samples_alone_changes_nothing(route):
    layer = routed(5, (0, 1, FROZEN))
    train(layer, samples((12, 5)), route=tf.constant(ROUTES))
    before = statistics(layer)
    x = samples((6, 5), 3)
    output = train(layer, x, route=tf.fill([6], 2) if route == "tensor" else route)[0]
    np.testing.assert_allclose(output, layer(x, training=False), rtol=1e-5, atol=1e-5)
    for old, new in zip(before, statistics(layer), strict=True):
        assert (old == new).all()


@pytest.mark.parametrize(("strategy_name", "heads"), list(BN_STRATEGIES.items()))
def test_strategy_maps_routes_to_heads(strategy_name, heads):
    expected = {
        "shared": (0, 0, 0),
        "adv_prop": (0, 1, 0),
        "freeze": (0, 0, -1),
        "adv_prop_freeze": (0, 1, -1),
    }
    assert heads == expected[strategy_name]
    layer = routed(5, heads)
    assert layer.moving_mean.shape == (2 if "adv_prop" in strategy_name else 1, 5)
    x = samples((12, 5))
    train(layer, x, route=tf.constant(ROUTES))
    for head in range(layer.head_count):
        mine = np.isin(ROUTES, [route for route, owner in enumerate(heads) if owner == head])
        np.testing.assert_allclose(layer.moving_mean[head], 0.1 * x[mine].mean(0), rtol=1e-4, atol=1e-5)


def test_shared_affine_has_one_scale_and_statistics_per_head():
    ours = routed(5, (0, 1, FROZEN), "float64", share_affine=True)
    assert ours.gamma.shape == ours.beta.shape == (1, 5)
    assert ours.moving_mean.shape == (2, 5)
    split = routed(5, (0, 1, FROZEN), "float64")
    split.gamma.assign(np.repeat(ours.gamma.numpy(), 2, axis=0))
    split.beta.assign(np.repeat(ours.beta.numpy(), 2, axis=0))
    x = samples((12, 3, 2, 5), dtype="float64")
    mine, other = (train(layer, x, route=tf.constant(ROUTES)) for layer in (ours, split))
    for index in (0, 1):
        np.testing.assert_allclose(mine[index], other[index], rtol=1e-9, atol=1e-10)
    for index in (2, 3):
        np.testing.assert_allclose(mine[index][0], other[index].sum(0), rtol=1e-9, atol=1e-10)
    for ours_, theirs in zip(statistics(ours), statistics(split), strict=True):
        np.testing.assert_allclose(ours_, theirs, rtol=1e-12)


@pytest.mark.parametrize(("center", "scale"), [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("shape", [(12, 5), (12, 3, 2, 5)])
def test_without_offset_or_scale(center, scale, shape):
    layer = RoutedBatchNormalization((0, 1), center=center, scale=scale)
    x = samples(shape)
    mixed = layer(x, route=tf.constant(ROUTES % 2), training=True).numpy()
    whole = layer(x, route=0, training=True).numpy()
    assert len(layer.trainable_variables) == center + scale
    axes = tuple(range(len(shape) - 1))
    for output in (mixed[ROUTES % 2 == 0], mixed[ROUTES % 2 == 1], whole):
        np.testing.assert_allclose(output.mean(axes), 0, atol=1e-5)
        np.testing.assert_allclose(output.std(axes), 1, atol=1e-4)


def test_inference_uses_head_0_for_every_route_and_updates_nothing():
    layer = routed(5, (0, 1, FROZEN))
    train(layer, samples((12, 5)), route=tf.constant(ROUTES))
    before = statistics(layer)
    mean, variance = (values[0] for values in before)
    x = samples((4, 5), 5)
    expected = (x - mean) / np.sqrt(variance + EPSILON) * layer.gamma[0] + layer.beta[0]
    for route in (None, 0, 1, 2, tf.constant([0, 1, 2, 1])):
        np.testing.assert_allclose(layer(x, route=route, training=False), expected, rtol=1e-5, atol=1e-5)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, route=1, training=True), expected, rtol=1e-5, atol=1e-5)
    for old, new in zip(before, statistics(layer), strict=True):
        assert (old == new).all()


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 2e-2), ("mixed_float16", 3e-3)])
@pytest.mark.parametrize("route", [0, "mixed"])
def test_low_precision_keeps_float32_statistics(policy, tolerance, route):
    route = tf.constant(ROUTES) if route == "mixed" else route
    low, full = routed(5, (0, 1, FROZEN), policy), routed(5, (0, 1, FROZEN))
    x = samples((12, 4, 4, 5)) + 100.0  # float16 sums of squares would overflow
    x = tf.cast(tf.cast(x, low.compute_dtype), tf.float32)
    mine, expected = (
        low(tf.cast(x, low.compute_dtype), route=route, training=True),
        full(x, route=route, training=True),
    )
    assert mine.dtype == low.compute_dtype
    assert low.moving_mean.dtype == low.moving_variance.dtype == "float32"
    limit = tolerance * float(tf.reduce_max(tf.abs(expected)))
    np.testing.assert_allclose(tf.cast(mine, tf.float32), expected, atol=limit)
    for ours, theirs in zip(statistics(low), statistics(full), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("mixed", [True, False])
def test_xla_equals_plain(mixed):
    x = tf.constant(samples((12, 3, 2, 5)))
    route = tf.constant(ROUTES)
    results = []
    for jit in (True, False):
        layer = routed(5, (0, 1, FROZEN))

        @tf.function(jit_compile=jit)
        def step(x, route, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.sin(layer(x, route=route if mixed else 1, training=True)))
            return [loss, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])]

        results.append([*step(x, route), *statistics(layer)])
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ["unequal routes", "one route"])
def test_two_replicas_equal_one_global_batch(strategy, case):
    # Route 2 lives on replica 1 alone, where route 1 is missing.
    routes = np.array([0, 0, 1, 1, 1, 0, 0, 2, 2, 2, 0, 0])
    x = samples((12, 3, 2, 5), dtype="float64")
    upstream = np.cos(np.arange(x.size)).reshape(x.shape)
    route = None if case == "one route" else routes

    def gradients(layer, x, route, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x, route=1 if route is None else route, training=True)
            loss = tf.reduce_sum(output * upstream)
        return output, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

    one = routed(5, (0, 1, 2), "float64")
    whole = gradients(one, tf.constant(x), None if route is None else tf.constant(route), upstream)
    with strategy.scope():
        two = routed(5, (0, 1, 2), "float64")

    def share(values):
        return shared(strategy, np.split(values, 2))

    run = tf.function(lambda *values: strategy.run(gradients, args=(two, *values)))
    parts = run(share(x), None if route is None else share(route), share(upstream))
    halves = [strategy.experimental_local_results(value) for value in parts]
    merged = [np.concatenate(half) if index < 2 else sum(half) for index, half in enumerate(halves)]
    for mine, other in zip(merged, whole, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-10)
    for name in ("moving_mean", "moving_variance"):
        for copy in strategy.experimental_local_results(getattr(two, name).value):
            np.testing.assert_allclose(copy, getattr(one, name).numpy(), rtol=1e-10)


def test_unknown_batch_size_in_a_graph():
    layer = routed(5, (0, 1, FROZEN))

    @tf.function(input_signature=[tf.TensorSpec((None, None, 2, 5)), tf.TensorSpec((None,), tf.int32)])
    def step(x, route):
        return layer(x, route=route, training=True)

    for size in (12, 5):
        eager = routed(5, (0, 1, FROZEN))
        for name in ("moving_mean", "moving_variance"):
            getattr(eager, name).assign(getattr(layer, name))
        x, route = samples((size, 3, 2, 5)), tf.constant(ROUTES[:size], tf.int32)
        expected = eager(x, route=route, training=True)
        np.testing.assert_allclose(step(x, route), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("route", [0, 1, 2, None])
def test_one_int_for_the_batch_equals_a_tensor_of_it(route):
    by_int, by_tensor = routed(5, (0, 1, FROZEN)), routed(5, (0, 1, FROZEN))
    x = samples((12, 3, 2, 5))
    train(by_int, x + 1, route=tf.constant(ROUTES))
    train(by_tensor, x + 1, route=tf.constant(ROUTES))
    mine = train(by_int, x, route=route)
    other = train(by_tensor, x, route=tf.fill([12], route or 0))
    for a, b in zip([*mine, *statistics(by_int)], [*other, *statistics(by_tensor)], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_configuration_round_trip():
    layer = RoutedBatchNormalization(
        (0, 1, FROZEN), True, 0.7, 1e-3, False, True, name="bn", dtype="mixed_bfloat16"
    )
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is RoutedBatchNormalization
    assert copy.get_config() == layer.get_config()
    assert copy.route_heads == (0, 1, FROZEN)
    assert (copy.share_affine, copy.momentum, copy.epsilon, copy.center, copy.scale) == (
        True,
        0.7,
        1e-3,
        False,
        True,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"route_heads": ()}, "numbered from 0"),
        ({"route_heads": (1,)}, "numbered from 0"),
        ({"route_heads": (0, 2)}, "numbered from 0"),
        ({"route_heads": (FROZEN, 0)}, "route 0 on head 0"),
        ({"route_heads": (0, -2)}, "numbered from 0"),
        ({"momentum": 1.5}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"epsilon": 0.0}, "epsilon"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        RoutedBatchNormalization(**arguments)
    assert "\n" not in str(error.value)


def test_bad_calls():
    with pytest.raises(InputError, match="channels"):
        RoutedBatchNormalization().build((None, None))
    layer = routed(5, (0, 1))
    for route in (2, -1):
        with pytest.raises(InputError, match="route expects 0 to 1"):
            layer(samples((4, 5)), route=route, training=True)
