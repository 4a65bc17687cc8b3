"""AA-BiGAN's train_step against Algorithm 1 worked out group by group, and what each loss moves."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import copy_weights, train_once, values
from bigan_cases import MIXED, NETWORKS, SHAPES, batch, make, trainable, without_effect
from replicated import check_step, check_variables

from agad_tf.losses.aa_bigan import least_squares

RATE = 2.0**-10  # exact in the float32 of an optimizer
NORMALS_ALONE = (0,) * 4


def sgd(generator_rate=RATE, discriminator_rate=RATE):
    return {
        "generator_optimizer": keras.optimizers.SGD(generator_rate),
        "discriminator_optimizer": keras.optimizers.SGD(discriminator_rate),
    }


# -- which loss moves which network --------------------------------------------------------------------------

# Term: whether its gradient reaches (E, G, D, D'). G's batch norm sees E(x⁺) and z together, so that what G
# makes of z depends on E too.
MOVES = {
    "D(x⁺, E(x⁺))": (True, False, True, False),
    "D(x⁻, E(x⁻))": (True, False, True, False),
    "D(G(z), z)": (True, True, True, False),
    "D'(x⁺, x⁺)": (False, False, False, True),
    "D'(x⁻, x⁻)": (False, False, False, True),
    "D'(x⁺, x̂⁺)": (True, True, False, True),
}


@pytest.mark.parametrize("backbone", ["dcgan", "mlp"])
def test_table_of_gradients(backbone):
    model = make(SHAPES[backbone])
    x, y = batch(MIXED, SHAPES[backbone])
    with tf.GradientTape(persistent=True) as tape:
        passed = model._pass(tf.constant(x), tf.constant(y))
        real, same = least_squares(passed["D(x, E(x))"], 0.3), least_squares(passed["D'(x, x)"], 0.3)
        terms = {
            "D(x⁺, E(x⁺))": real[y == 0],
            "D(x⁻, E(x⁻))": real[y == 1],
            "D(G(z), z)": least_squares(passed["D(G(z), z)"], 0.3),
            "D'(x⁺, x⁺)": same[y == 0],
            "D'(x⁻, x⁻)": same[y == 1],
            "D'(x⁺, x̂⁺)": least_squares(passed["D'(x, x̂)"], 0.3)[y == 0],
        }
        terms = {name: tf.reduce_sum(value) for name, value in terms.items()}
    reached = {}
    for name, term in terms.items():
        gradients = [tape.gradient(term, getattr(model, network).trainable_variables) for network in NETWORKS]
        reached[name] = tuple(any(g is not None and np.any(g) for g in group) for group in gradients)
    assert reached == MOVES


def step_with(order, generator_rate, discriminator_rate, **compile_with):
    """Which sides moved in one step from the same start, and the weights of both after it."""
    model = make(
        compile_with={"update_order": order, **sgd(generator_rate, discriminator_rate), **compile_with}
    )
    sides = model.generator_variables(), model.discriminator_variables()
    start = [values(side) for side in sides]
    train_once(model, *batch(MIXED))
    end = [values(side) for side in sides]
    moved = [any((a != b).any() for a, b in zip(*pair, strict=True)) for pair in zip(start, end, strict=True)]
    return moved, end


def same(first, second):
    return all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("order", ["simultaneous", "discriminator_first"])
def test_each_loss_moves_its_own_side_alone(order):
    moved, (_, discriminators) = step_with(order, 0.0, 0.01)
    assert moved == [False, True]
    # The step of D and D' is the same whatever G and E aim at, and whether or not they move.
    moved, (_, beside) = step_with(order, 0.01, 0.01, generator_target=-3.0)
    assert moved == [True, True]
    assert same(discriminators, beside)
    moved, (generators, _) = step_with(order, 0.01, 0.0)
    assert moved == [True, False]
    # Algorithm 1 takes both gradients at the old weights: the step of G and E does not see D's.
    _, (after, _) = step_with(order, 0.01, 0.01)
    assert same(generators, after) == (order == "simultaneous")


@pytest.mark.parametrize(
    ("backbone", "labels"), [(name, MIXED) for name in SHAPES] + [("mlp", NORMALS_ALONE)]
)
def test_every_trainable_weight_moves_in_one_step(backbone, labels):
    model = make(SHAPES[backbone])
    assert len(model.trainable_variables) == len(trainable(model))
    idle = set().union(*(without_effect(getattr(model, name)) for name in NETWORKS))
    before = values(trainable(model))
    logs = train_once(model, *batch(labels, SHAPES[backbone]))
    assert all(map(math.isfinite, logs.values())), logs
    moved = 0
    for variable, old in zip(trainable(model), before, strict=True):
        assert np.isfinite(variable).all()
        if id(variable) not in idle:
            assert (np.array(variable) != old).any(), f"{variable.path} stands still"
            moved += 1
    assert moved + len(idle) == len(before)


# -- Algorithm 1, group by group -----------------------------------------------------------------------------


def error(judged, target):
    return tf.reduce_mean((judged - target) ** 2)


def algorithm_1(model, x, y, targets, weight_of_d_prime):
    """Both objectives and their terms, in the paper's words: separate passes, no routes, no masks.

    E sees normals and anomalies together; G the codes of the normals and noise together; D and D' each group
    alone.
    """
    a, b, c = targets
    normal, anomaly = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    x = tf.constant(x, tf.float64)
    codes = model.encoder(x, training=True)
    seed = [model.seed, int(model.average_steps)]
    z = tf.random.stateless_normal(codes.shape, seed, dtype=tf.float64)
    x_normal, z_normal = tf.gather(x, normal), tf.gather(codes, normal)
    made = model.generator(tf.concat([z_normal, z], axis=0), training=True)
    rebuilt, generated = made[: len(normal)], made[len(normal) :]

    def d(x, z):
        return model.discriminator((x, z), training=True)

    def d_prime(x, other):
        return model.reconstruction_discriminator((x, other), training=True)

    d_normal, d_generated = d(x_normal, z_normal), d(generated, z)
    same, reconstructed = d_prime(x_normal, x_normal), d_prime(x_normal, rebuilt)
    logs = {
        "discriminator_normal": error(d_normal, a),
        "discriminator_generated": error(d_generated, b),
        "discriminator_same_normal": error(same, a),
        "discriminator_reconstruction": error(reconstructed, b),
        "generator_normal": error(d_normal, c),
        "generator_generated": error(d_generated, c),
        "generator_reconstruction": error(reconstructed, c),
    }
    if len(anomaly):
        x_anomaly = tf.gather(x, anomaly)
        d_anomaly = d(x_anomaly, tf.gather(codes, anomaly))
        logs["discriminator_anomaly"] = error(d_anomaly, (a + b) / 2)
        logs["discriminator_same_anomaly"] = error(d_prime(x_anomaly, x_anomaly), (a + b) / 2)
        logs["generator_anomaly"] = error(d_anomaly, c)
    loss_d = tf.add_n([value for name, value in logs.items() if name.startswith("discriminator")])
    loss_g = tf.add_n([value for name, value in logs.items() if name.startswith("generator")])
    loss_g += (weight_of_d_prime - 1) * logs["generator_reconstruction"]
    squares = tf.reduce_sum(tf.reshape((x_normal - rebuilt) ** 2, [len(normal), -1]), axis=1)
    logs |= {"loss_discriminator": loss_d, "loss_generator": loss_g}
    return loss_d, loss_g, logs | {"normal_reconstruction": tf.reduce_mean(squares)}


def moved(variables, gradients):
    return [value - RATE * gradient for value, gradient in zip(variables, gradients, strict=True)]


OTHER_TARGETS = {"normal_target": 2.0, "generated_target": -1.0, "generator_target": 0.25}
CASES = [
    ("dcgan", MIXED, "simultaneous", {}),
    ("dcgan", MIXED, "discriminator_first", {}),
    ("lenet", MIXED, "simultaneous", {}),
    ("mlp", MIXED, "simultaneous", OTHER_TARGETS),
    ("mlp", MIXED, "discriminator_first", OTHER_TARGETS),
    ("mlp", NORMALS_ALONE, "simultaneous", {}),
    ("mlp", NORMALS_ALONE, "discriminator_first", {}),
]


@pytest.mark.parametrize(("backbone", "labels", "order", "targets"), CASES)
def test_train_step_is_algorithm_1(backbone, labels, order, targets):
    shape = SHAPES[backbone]
    model = make(shape, {"update_order": order, **sgd(), **targets}, dtype="float64")
    train_once(model, *batch(MIXED, shape, seed=5))  # statistics that are not 0 and 1
    start = values(model.variables)
    x, y = batch(labels, shape)
    logs = train_once(model, x, y)
    received = values(trainable(model))
    for variable, value in zip(model.variables, start, strict=True):
        variable.assign(value)

    how = tuple(targets.values()) or (1, 0, 3 / 4)
    first = order == "discriminator_first"
    weight = (1 / 3 if 1 in y else 1 / 2) if first else 1
    generators, discriminators = model.generator_variables(), model.discriminator_variables()
    with tf.GradientTape(persistent=True) as tape:
        loss_d, loss_g, expected = algorithm_1(model, x, y, how, weight)
    moved_d = [
        w - RATE * g for w, g in zip(discriminators, tape.gradient(loss_d, discriminators), strict=True)
    ]
    if first:  # G and E against the new D and D'
        for variable, value in zip(discriminators, moved_d, strict=True):
            variable.assign(value)
        with tf.GradientTape() as tape:
            _, loss_g, again = algorithm_1(model, x, y, how, weight)
        expected |= {name: value for name, value in again.items() if "discriminator" not in name}
    moved_g = moved(generators, tape.gradient(loss_g, generators))

    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5, err_msg=name)
    absent = {name for name, value in logs.items() if name not in expected}
    absent -= {"gradient_norm_generator", "gradient_norm_discriminator", "loss"}
    assert all(logs[name] == 0 for name in absent)
    assert len(absent) == (0 if 1 in y else 3)
    for variable, new, value in zip(trainable(model), received, moved_g + moved_d, strict=True):
        np.testing.assert_allclose(new, value, rtol=1e-9, atol=1e-12, err_msg=variable.path)


def test_noise_is_a_function_of_seed_and_step():
    x, y = batch(MIXED)
    drawn = []
    for seed, steps in ((0, 0), (0, 0), (0, 1), (1, 0)):
        model = make(compile_with=sgd())
        model.average_steps.assign(steps)
        model.seed = seed
        drawn.append(train_once(model, x, y)["generator_generated"])
    model.seed = 0
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_noise_is_standard_normal_and_a_row_for_each_sample():
    model = make()
    z = model._noise(tf.zeros((5000, 4))).numpy()
    assert z.shape == (5000, 4)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(np.cov(z.T), np.eye(4), atol=0.08)


@pytest.mark.parametrize("backbone", ["dcgan", "mlp"])
def test_a_changed_reconstruction_of_an_anomaly_changes_nothing(backbone):
    model = make(SHAPES[backbone])
    x, y = batch(MIXED, SHAPES[backbone])
    moving = [norm.moving_mean for name in NETWORKS for norm in getattr(model, name).batch_norms()]
    start = values(moving)
    seen = []
    for shift in (0.0, 5.0):
        for variable, value in zip(moving, start, strict=True):
            variable.assign(value)
        with tf.GradientTape(persistent=True) as tape:
            passed = model._pass(tf.constant(x), tf.constant(y))
            beside = passed["anomaly"] * shift
            passed["reconstruction"] += tf.reshape(beside, [-1] + [1] * len(SHAPES[backbone]))
            passed |= model._judge(passed)
            losses = model._discriminator_loss(passed)[0], model._generator_loss(passed)[0]
        gradients = [
            tape.gradient(loss, side)
            for loss, side in zip(
                losses, (model.discriminator_variables(), model.generator_variables()), strict=True
            )
        ]
        seen.append([*losses, *gradients[0], *gradients[1], *values(moving)])
    for mine, other in zip(*seen, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [(1, 1, 1, 1), (0, 0, 1, 0)])
def test_any_mix_of_labels_stays_finite(labels):
    model = make(compile_with={"literal": True, **sgd()})
    for seed in range(2):
        logs = train_once(model, *batch(labels, seed=seed))
        assert all(map(math.isfinite, logs.values())), logs
    assert all(np.isfinite(value).all() for value in values(model.variables))


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_clipping_bounds_the_norm_of_each_side_and_the_log_tells_the_norm_before(clip_norm):
    model = make(compile_with={"clip_norm": clip_norm, **sgd(1.0, 1.0)}, dtype="float64")
    sides = {"generator": model.generator_variables(), "discriminator": model.discriminator_variables()}
    before = {name: values(side) for name, side in sides.items()}
    logs = train_once(model, *batch(MIXED))
    for name, side in sides.items():
        steps = [a - b for a, b in zip(values(side), before[name], strict=True)]
        norm = math.sqrt(sum(float((step**2).sum()) for step in steps))
        assert logs[f"gradient_norm_{name}"] > 0.02
        expected = logs[f"gradient_norm_{name}"] if clip_norm is None else clip_norm
        assert norm == pytest.approx(expected, rel=1e-5)


# -- averages ------------------------------------------------------------------------------------------------


def test_average_of_the_weights_that_score():
    model = make(compile_with=sgd())
    model.average_decay.assign(0.15)
    pairs = [(model.encoder, model.scoring_encoder), (model.generator, model.scoring_generator)]
    expected = [values(raw.trainable_variables) for raw, _ in pairs]
    for step in range(3):
        train_once(model, *batch(MIXED, seed=step))
        decay = min(0.15, (1 + step) / (10 + step))  # a short average at first: 1/10, then .15
        for means, (raw, scoring) in zip(expected, pairs, strict=True):
            for index, variable in enumerate(raw.trainable_variables):
                means[index] = decay * means[index] + (1 - decay) * np.array(variable)
            learnt = [variable for variable in scoring.variables if "moving" not in variable.name]
            for mine, other in zip(learnt, means, strict=True):
                np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
            for mine, other in zip(scoring.batch_norms(), raw.batch_norms(), strict=True):
                np.testing.assert_array_equal(mine.moving_mean, other.moving_mean)
    assert float(model.average_steps) == 3


# -- replicas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "order"),
    [
        ("mlp", "discriminator_first"),
        pytest.param("dcgan", "simultaneous", marks=pytest.mark.slow),
        pytest.param("lenet", "discriminator_first", marks=pytest.mark.slow),
    ],
)
def test_two_replicas_equal_one(strategy, backbone, order):
    """One step in float64 on a batch whose anomalies are unequally spread."""
    labels = (0, 0, 0, 0, 1, 1, 1, 0)  # none on replica 0, three on replica 1
    x, y = batch(labels, SHAPES[backbone], dtype="float64")
    compile_with = {"update_order": order, "clip_norm": 0.5, **sgd(1e-2, 1e-2)}
    one = make(SHAPES[backbone], compile_with, dtype="float64")
    with strategy.scope():
        two = make(SHAPES[backbone], compile_with, "replicated", dtype="float64")
    copy_weights(one, two)
    for model in (one, two):
        model.average_decay.assign(0.05)
    logs = train_once(one, x, y)
    check_step(strategy, two, x, y, logs, rel=1e-5)
    assert logs["gradient_norm_generator"] > 0.5  # so that clipping had something to do
    check_variables(strategy, one.variables, two.variables)
