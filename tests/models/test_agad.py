"""AGAD's train_step against Algorithm 1 worked out sample by sample, and what each loss moves."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import batch, copy_weights, make, train_once, values
from replicated import check_step, check_variables

from agad_tf.layers import BN_STRATEGIES
from agad_tf.losses import agad as losses

MIXED = [0, 1, 0, 0, 1, 0]
SGD = {"generator_optimizer": "sgd", "discriminator_optimizer": "sgd"}


def sgd(rate):
    return keras.optimizers.SGD(rate)


# -- which loss moves which network --------------------------------------------------------------------------

MOVES = {  # term: whether its gradient reaches (generator, discriminator)
    "contextual": (True, False),
    "contextual adversarial": (True, False),
    "latent": (True, True),
    "adversarial on the reconstruction": (True, True),
    "adversarial on the input": (False, True),
}


@pytest.mark.parametrize("strategy_name", ["shared", "adv_prop_freeze"])
def test_table_of_gradients(strategy_name):
    model = make(bn_strategy=strategy_name)
    x, y = batch(MIXED)
    with tf.GradientTape(persistent=True) as tape:
        passed = model._pass(tf.constant(x), tf.constant(y))
        terms = {
            "contextual": losses.contextual_loss(passed["x"], passed["reconstruction"]),
            "contextual adversarial": losses.contextual_adversarial_loss(
                passed["reconstruction"], passed["second"]
            ),
            "latent": losses.latent_loss(passed["features"], passed["features_hat"]),
            "adversarial on the reconstruction": losses.adversarial_loss(passed["logit_hat"], 0.0),
            "adversarial on the input": losses.adversarial_loss(passed["logit"], 1.0),
        }
        terms = {name: tf.reduce_sum(value) for name, value in terms.items()}
    reached = {}
    for name, term in terms.items():
        gradients = [
            tape.gradient(term, network.trainable_variables)
            for network in (model.generator, model.discriminator)
        ]
        reached[name] = tuple(any(g is not None and np.any(g) for g in group) for group in gradients)
    assert reached == MOVES


def step_with(order, generator_rate, discriminator_rate, **compile_with):
    """Weights of both networks after one step; the same start every time."""
    optimizers = {
        "generator_optimizer": sgd(generator_rate),
        "discriminator_optimizer": sgd(discriminator_rate),
    }
    model = make(compile_with={"update_order": order, "clip_norm": None, **optimizers, **compile_with})
    start = [values(network.trainable_variables) for network in (model.generator, model.discriminator)]
    train_once(model, *batch(MIXED))
    end = [values(network.trainable_variables) for network in (model.generator, model.discriminator)]
    moved = [any((a != b).any() for a, b in zip(*pair, strict=True)) for pair in zip(start, end, strict=True)]
    return moved, end


def same(first, second):
    return all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("order", ["simultaneous", "discriminator_first"])
def test_each_loss_moves_its_own_network_alone(order):
    other_weights = {"contextual_weight": 1.0, "adversarial_weight": 9.0, "latent_weight": 0.5}
    moved, (_, discriminator) = step_with(order, 0.0, 0.01)
    assert moved == [False, True]
    # No term of L_g reaches D: D's step is the same whatever their weights, and whether or not G moves.
    moved, (_, weighed) = step_with(order, 0.01, 0.01, **other_weights)
    assert moved == [True, True]
    assert same(discriminator, weighed)
    moved, (generator, _) = step_with(order, 0.01, 0.0)
    assert moved == [True, False]
    # Algorithm 1 takes both gradients at the old weights: G's step does not see D's.
    _, (beside, _) = step_with(order, 0.01, 0.01)
    assert same(generator, beside) == (order == "simultaneous")


CASES = [("encoder_decoder", (8, 8, 1), name, MIXED) for name in BN_STRATEGIES]
CASES += [("encoder_decoder", (8, 8, 1), name, [0] * 6) for name in ("shared", "adv_prop_freeze")]
CASES += [("unet", (16, 16, 3), "adv_prop_freeze", [0] * 4)]
CASES += [("unet_plus_plus", (16, 16, 1), "adv_prop_freeze", [0, 1, 0, 0])]


@pytest.mark.parametrize(("backbone", "shape", "strategy_name", "labels"), CASES)
def test_every_trainable_weight_moves_in_one_step(backbone, shape, strategy_name, labels):
    model = make(shape, backbone, bn_strategy=strategy_name)
    variables = model.generator.trainable_variables + model.discriminator.trainable_variables
    assert len(model.trainable_variables) == len(variables)
    before = values(variables)
    logs = train_once(model, *batch(labels, shape))
    assert all(map(math.isfinite, logs.values()))
    for variable, old in zip(variables, before, strict=True):
        new = np.array(variable)
        assert np.isfinite(new).all()
        rows = zip(new, old, strict=True) if variable.name in ("gamma", "beta") else [(new, old)]  # per head
        for row, old_row in rows:
            assert (row != old_row).any(), f"{variable.path} stands still"


# -- Algorithm 1, sample by sample ---------------------------------------------------------------------------


def mean(terms):
    return tf.add_n(terms) / len(terms) if terms else None


def softplus(value):
    return tf.math.log1p(tf.exp(value))


def algorithm_1(model, x, y, settings):
    """Both losses and their terms in the paper's words, one sample at a time; means over each group."""
    x = tf.constant(x, tf.float64)
    route = tf.constant([2 * int(label) for label in y])
    fed_back = tf.ones_like(route)
    x_hat = model.generator(x, route=route, training=True)
    x_hat_hat = model.generator(x_hat, route=fed_back, training=True)
    s, z = model.discriminator(x, route=route, training=True)
    s_hat, z_hat = model.discriminator(x_hat, route=fed_back, training=True)
    terms = {name: {0: [], 1: []} for name in ("fool", "caught", "con", "adcon", "lat", "real", "unreal")}
    for i, label in enumerate(y):
        terms["fool"][label].append(softplus(-s_hat[i]))  # l_adv(ŷ, 1) = −ln σ(ŷ)
        terms["caught"][label].append(softplus(s_hat[i]))  # l_adv(ŷ, 0) = −ln(1 − σ(ŷ))
        terms["real"][label].append(softplus(-s[i]))
        terms["unreal"][label].append(softplus(s[i]))
        terms["con"][label].append(tf.reduce_mean(tf.abs(x[i] - x_hat[i])))
        terms["adcon"][label].append(tf.reduce_mean(tf.abs(x_hat[i] - x_hat_hat[i])))
        squares = tf.square(z[i] - z_hat[i])
        norm = settings.get("latent_distance") == "norm"
        terms["lat"][label].append(tf.sqrt(tf.reduce_sum(squares)) if norm else tf.reduce_mean(squares))
    m = {name: {label: mean(group) for label, group in groups.items()} for name, groups in terms.items()}
    generator_parts, discriminator_parts, logs = {}, {}, {}
    if 0 in y:
        generator_parts[0] = m["fool"][0] + 50 * m["con"][0] - 15 * m["adcon"][0] + 5 * m["lat"][0]
        discriminator_parts[0] = m["caught"][0] + m["real"][0]
        logs |= {"normal_contextual": m["con"][0], "normal_contextual_adversarial": -m["adcon"][0]}
        logs |= {"normal_adversarial": m["fool"][0], "discriminator_normal": m["real"][0]}
    if 1 in y:
        epsilon = settings.get("reciprocal_epsilon", 0.1)
        error = m["con" if settings.get("anomaly_contextual_pair") == "input" else "adcon"][1]
        generator_parts[1] = 1 / (m["caught"][1] + epsilon) + 15 / (error + epsilon)
        generator_parts[1] += 5 / (m["lat"][1] + epsilon)
        discriminator_parts[1] = m["unreal"][1]
        if settings.get("discriminator_sees_anomaly_reconstructions"):
            discriminator_parts[1] += m["caught"][1]
        logs |= {"loss_anomaly": generator_parts[1], "anomaly_contextual_adversarial": -error}
        logs |= {"anomaly_latent": m["lat"][1], "discriminator_anomaly": m["unreal"][1]}
    share = {label: list(y).count(label) / len(y) for label in (0, 1)}
    weight = share if settings.get("group_weighting") == "share" else {0: 1, 1: 1}
    loss_g = tf.add_n([weight[label] * part for label, part in generator_parts.items()])
    loss_d = tf.add_n([weight[label] * part for label, part in discriminator_parts.items()])
    return loss_g, loss_d, logs | {"loss_generator": loss_g, "loss_discriminator": loss_d}


READINGS = [
    (MIXED, {}),
    ([0, 0, 0, 0], {}),
    ([1, 1, 1, 1], {}),
    ([0, 0, 1, 0], {"reciprocal_epsilon": 0.0}),
    (MIXED, {"group_weighting": "share", "latent_distance": "norm"}),
    (MIXED, {"anomaly_contextual_pair": "input", "discriminator_sees_anomaly_reconstructions": True}),
    (MIXED, {"update_order": "discriminator_first"}),
]


@pytest.mark.parametrize(("labels", "settings"), READINGS)
def test_train_step_is_algorithm_1(labels, settings):
    rate = 2.0**-10  # exact in the float32 of an optimizer
    optimizers = {"generator_optimizer": sgd(rate), "discriminator_optimizer": sgd(rate), "clip_norm": None}
    arguments = {"dtype": "float64", "bn_strategy": "adv_prop_freeze"}
    model, twin = (
        make(compile_with={**settings, **optimizers}, number=number, **arguments) for number in range(2)
    )
    train_once(model, *batch(MIXED, seed=5))  # statistics that are not 0 and 1
    copy_weights(model, twin)
    x, y = batch(labels)
    logs = train_once(model, x, y)

    def moved(tape, loss, network):
        variables = network.trainable_variables
        return [w - rate * g for w, g in zip(values(variables), tape.gradient(loss, variables), strict=True)]

    if settings.get("update_order") == "discriminator_first":
        moving = values(twin.generator.non_trainable_variables)
        with tf.GradientTape() as tape:
            _, loss_d, before = algorithm_1(twin, x, y, settings)
        new_d = moved(tape, loss_d, twin.discriminator)
        for variable, value in zip(twin.discriminator.trainable_variables, new_d, strict=True):
            variable.assign(value)
        # G draws once, and its moving statistics move once: the second look is D's alone.
        for variable, value in zip(twin.generator.non_trainable_variables, moving, strict=True):
            variable.assign(value)
        with tf.GradientTape() as tape:
            loss_g, _, expected = algorithm_1(twin, x, y, settings)
        expected |= {name: value for name, value in before.items() if "discriminator" in name}
    else:
        with tf.GradientTape(persistent=True) as tape:
            loss_g, loss_d, expected = algorithm_1(twin, x, y, settings)
        new_d = moved(tape, loss_d, twin.discriminator)
    new_g = moved(tape, loss_g, twin.generator)

    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5, err_msg=name)
    for network, new in ((model.generator, new_g), (model.discriminator, new_d)):
        for variable, value in zip(network.trainable_variables, new, strict=True):
            np.testing.assert_allclose(variable, value, rtol=1e-9, atol=1e-12, err_msg=variable.path)
    pairs = zip(model.generator.non_trainable_variables, twin.generator.non_trainable_variables, strict=True)
    for variable, value in pairs:
        np.testing.assert_allclose(variable, value, rtol=1e-9, atol=1e-12, err_msg=variable.path)


@pytest.mark.parametrize("y", [None, [[0.0], [1.0], [0.0]], np.array([False, True, False])])
def test_labels_of_any_type(y):
    x, labels = batch([0, 1, 0] if y is not None else [0, 0, 0])
    logs = train_once(make(), x, y if y is None else np.asarray(y))
    assert logs == pytest.approx(train_once(make(), x, labels), rel=1e-6)
    assert (logs["loss_anomaly"] > 0) == (y is not None)


@pytest.mark.parametrize("labels", [[0] * 4, [1] * 4, [0, 0, 1, 0]])
def test_any_mix_of_labels_stays_finite_without_stabilisers(labels):
    model = make(bn_strategy="adv_prop_freeze", compile_with={"literal": True, "latent_distance": "norm"})
    x, y = batch(labels)
    for _ in range(2):
        logs = train_once(model, x, y)
        assert all(map(math.isfinite, logs.values())), logs
    assert all(np.isfinite(value).all() for value in values(model.variables))
    if 1 not in labels:
        assert logs["loss_anomaly"] == logs["anomaly_latent"] == logs["discriminator_anomaly"] == 0
    if 0 not in labels:
        assert logs["loss_normal"] == logs["normal_latent"] == logs["discriminator_normal"] == 0


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_clipping_bounds_the_global_norm_and_the_log_tells_the_norm_before(clip_norm):
    model = make(compile_with={"generator_optimizer": sgd(1.0), "clip_norm": clip_norm}, dtype="float64")
    before = values(model.generator.trainable_variables)
    logs = train_once(model, *batch(MIXED))
    steps = [a - b for a, b in zip(values(model.generator.trainable_variables), before, strict=True)]
    norm = math.sqrt(sum(float((step**2).sum()) for step in steps))
    assert logs["gradient_norm_generator"] > 5
    assert norm == pytest.approx(logs["gradient_norm_generator"] if clip_norm is None else 0.5, rel=1e-5)


# -- the discriminator's second life -------------------------------------------------------------------------


def test_discriminator_is_reinitialised_under_the_threshold():
    model = make(compile_with={"discriminator_reset_threshold": 1e9})
    x, y = batch(MIXED)
    kernels = []
    for _ in range(2):
        before = values(model.discriminator.variables)
        logs = train_once(model, x, y)
        assert logs["discriminator_resets"] == 1
        for variable, old in zip(model.discriminator.variables, before, strict=True):
            new = np.array(variable)
            if variable.name == "kernel":
                fan = math.prod(new.shape[:-2]) * (new.shape[-2] + new.shape[-1])
                limit = math.sqrt(6 / fan)  # Glorot: uniform in ±limit, deviation limit / √3
                assert np.abs(new).max() <= limit
                assert new.std() == pytest.approx(limit / math.sqrt(3), rel=0.1)
                assert (new != old).mean() > 0.99
                kernels.append(new.ravel()[:50])
            else:
                assert (new == (1 if variable.name in ("gamma", "moving_variance") else 0)).all()
        optimizer = model.discriminator_optimizer
        moments = [v for v in optimizer.variables if len(v.shape) > 0]
        assert len(moments) == 2 * len(model.discriminator.trainable_variables)
        assert all((np.array(moment) == 0).all() for moment in moments)
        assert int(optimizer.iterations) == 0  # or Adam's next steps would be many times too long
    drawn = [kernel.tobytes() for kernel in kernels]
    assert len(set(drawn)) == len(drawn) == 6  # a new draw for each kernel and each reset
    assert any((np.array(v) != 0).any() for v in model.optimizer.variables if len(v.shape) > 1)


def test_resets_happen_only_under_the_threshold_and_are_summed():
    x, y = batch(MIXED)
    loss = train_once(make(), x, y)["loss_discriminator"]
    for factor, resets in ((0.0, 0), (0.99, 0), (1.01, 1)):
        model = make(compile_with={"discriminator_reset_threshold": factor * loss})
        assert train_once(model, x, y)["discriminator_resets"] == resets
    model.compile(discriminator_reset_threshold=1e9)
    model.reset_metrics()
    for _ in range(2):
        logs = model.train_step((x, y))  # without a reset of the metrics, as within an epoch
    assert float(logs["discriminator_resets"]) == 2


# -- averages ------------------------------------------------------------------------------------------------


def test_average_of_the_weights_that_score():
    model = make()
    model.average_decay.assign(0.3)
    pairs = [(model.generator, model.scoring_generator), (model.discriminator, model.scoring_discriminator)]
    expected = [values(raw.trainable_variables) for raw, _ in pairs]
    x, y = batch(MIXED)
    for step in range(4):
        train_once(model, x, y)
        decay = min(0.3, (1 + step) / (10 + step))  # a short average at first: 1/10, 2/11, 3/12, then .3
        for means, (raw, scoring) in zip(expected, pairs, strict=True):
            for index, variable in enumerate(raw.trainable_variables):
                means[index] = decay * means[index] + (1 - decay) * np.array(variable)
            learnt = [v for v in scoring.variables if "moving" not in v.name]
            for mine, other in zip(learnt, means, strict=True):
                np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
            for mine, other in zip(scoring.batch_norms(), raw.batch_norms(), strict=True):
                np.testing.assert_array_equal(mine.moving_mean, other.moving_mean)
    assert float(model.average_steps) == 4


# -- replicas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bn_strategy", "threshold"), [("shared", 1e9), ("adv_prop_freeze", 0.0)])
def test_two_replicas_equal_one(strategy, bn_strategy, threshold):
    """One step in float64 on a batch whose anomalies are unequally spread."""
    labels = [0, 0, 0, 1, 1, 1, 1, 0]  # one on replica 0, three on replica 1
    x, y = batch(labels, dtype="float64")
    compile_with = {
        "generator_optimizer": sgd(1e-2),
        "discriminator_optimizer": keras.optimizers.SGD(1e-2, momentum=0.9),
        "discriminator_reset_threshold": threshold,
    }
    arguments = {"dtype": "float64", "bn_strategy": bn_strategy, "compile_with": compile_with}
    one = make(**arguments)
    with strategy.scope():
        two = make(number="replicated", **arguments)
    copy_weights(one, two)
    for model in (one, two):
        model.average_decay.assign(0.05)
    logs = train_once(one, x, y)
    check_step(strategy, two, x, y, logs, rel=1e-5)
    assert logs["discriminator_resets"] == (threshold > 0)
    assert logs["gradient_norm_generator"] > 5  # so that clipping had something to do
    for alone, both in ((one, two), (one.optimizer, two.optimizer)):
        check_variables(strategy, alone.variables, both.variables)
    check_variables(strategy, one.discriminator_optimizer.variables, two.discriminator_optimizer.variables)
