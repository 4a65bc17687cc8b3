"""What a step of each baseline moves, and the faults of public re-implementations."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import train_once, values
from baseline_cases import GREY, KERAS, ROWS, both_kinds, make, samples, small_shape
from bigan_cases import without_effect
from replicated import check_step, check_variables

from agad_tf.baselines import BASELINES
from agad_tf.data.batches.quota import quota_batches

# Which networks a step moves, in each phase of those that have two.
MOVES = {
    "autoencoder": [{"encoder", "decoder"}],
    "deep_svdd": [{"encoder", "decoder"}, {"encoder"}],
    "deep_sad": [{"encoder", "decoder"}, {"encoder"}],
    "classifier": [{"encoder", "head"}],
    "ganomaly": [{"generator", "encoder", "discriminator"}],
    "skip_ganomaly": [{"generator", "discriminator"}],
    "alad": [{"encoder", "generator", "discriminator", "reconstruction_discriminator", "code_discriminator"}],
    "f_anogan": [{"generator", "critic"}, {"encoder"}],
}


def networks(model):
    """The networks that train, by attribute."""
    scoring = {scoring for _, scoring in model._pairs}
    names = {name for name in vars(model) if isinstance(getattr(model, name, None), keras.Model)}
    return {name: getattr(model, name) for name in names - scoring if not name.startswith("_")}


def one_step(model, seed=0):
    x, y = both_kinds(model.sample_shape)
    if not model.uses_anomalies:
        x, y = x[y == 0], y[y == 0]
    return train_once(model, x, y.astype(np.int32))


def enter(model, phase, phases):
    """Begins phase `phase` of `phases`."""
    if phases > 1:
        model._scoring_sample = samples(model.sample_shape, 10)
        model.enter(phase == 0)


@pytest.mark.parametrize("name", KERAS)
def test_every_weight_of_every_network_moves_in_one_step(name):
    """An encoder that a short gradient list forgets, a discriminator that is never stepped."""
    model = make(name, small_shape(name))
    trained = networks(model)
    assert set(trained) == set().union(*MOVES[name])
    for phase, moving in enumerate(MOVES[name]):
        enter(model, phase, len(MOVES[name]))
        before = {key: values(network.trainable_variables) for key, network in trained.items()}
        logs = one_step(model)
        assert all(map(np.isfinite, logs.values())), logs
        for key, network in trained.items():
            idle = without_effect(network)
            for variable, old in zip(network.trainable_variables, before[key], strict=True):
                if id(variable) not in idle:
                    assert (np.array(variable) != old).any() == (key in moving), variable.path


@pytest.mark.parametrize("name", KERAS)
def test_optimizers_move_each_weight_once(name):
    model = make(name, small_shape(name))
    sides = model.trained_by()
    everything = {id(variable) for side in sides.values() for variable in side}
    assert everything == {id(v) for network in networks(model).values() for v in network.trainable_variables}
    for side in sides.values():
        assert len({id(variable) for variable in side}) == len(side)
    assert set(sides) == {key for key in vars(model) if key.endswith("optimizer") and "_" in key} | {
        "optimizer"
    }


@pytest.mark.parametrize("name", ["autoencoder", "alad", "f_anogan"])
def test_the_same_start_gives_the_same_step(name):
    """No uninitialised memory, no draw that a seed does not fix."""
    ends = []
    for _ in range(2):
        model = make(name, small_shape(name))
        one_step(model)
        ends.append(values(model.variables))
    for first, second in zip(*ends, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["autoencoder", "f_anogan", "ganomaly"])
def test_initial_weights_and_noise_come_from_the_seed(name):
    shape = small_shape(name)
    keras.utils.set_random_seed(1)
    first, second = (make(name, shape, seed=seed) for seed in (3, 4))
    if name == "f_anogan":
        noises = [
            model._noise(tf.zeros((4, 1)), draw).numpy() for model in (first, second) for draw in (0, 7)
        ]
        assert len({noise.tobytes() for noise in noises}) == 4
        return
    again = BASELINES[name](
        shape, **{k: v for k, v in first.get_config().items() if k in ("latent_dim", "units")}, seed=3
    )
    for one, other, same in zip(
        first.encoder.variables, second.encoder.variables, again.encoder.variables, strict=True
    ):
        np.testing.assert_array_equal(one, same)
        assert one.name != "kernel" or (np.array(one) != np.array(other)).any()


# -- adversarial losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ganomaly", "skip_ganomaly"])
def test_the_adversarial_loss_reads_the_discriminator_not_the_image(name):
    """With a discriminator of zeros, nothing but the other terms can move the generator."""
    only = {"contextual_weight": 0.0, "latent_weight" if name == "skip_ganomaly" else "encoder_weight": 0.0}
    model = make(name, GREY, only | {"discriminator_reset_threshold": 0.0})
    assert one_step(model)["gradient_norm_generator"] > 1e-4
    model = make(name, GREY, only | {"discriminator_reset_threshold": 0.0})
    for variable in model.discriminator.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    assert one_step(model)["gradient_norm_generator"] == 0


def test_ganomaly_starts_a_discriminator_anew_that_has_won():
    model = make("ganomaly", GREY, {"discriminator_reset_threshold": 1e9})
    before = values(model.discriminator.variables)
    assert one_step(model)["discriminator_resets"] == 1
    changed = [(a != b).any() for a, b in zip(values(model.discriminator.variables), before, strict=True)]
    kernels = [variable.name == "kernel" for variable in model.discriminator.variables]
    assert all(moved for moved, kernel in zip(changed, kernels, strict=True) if kernel)
    moments = [np.abs(v).sum() for v in model.discriminator_optimizer.variables if "discriminator" in v.path]
    assert not any(moments)


def test_skip_ganomaly_is_agad_without_its_new_term():
    from agad_tf import AGAD

    skip = make("skip_ganomaly", GREY)
    agad = AGAD(GREY, "unet", score="reconstruction")
    for mine, other in zip(skip.generator.variables, agad.generator.variables, strict=True):
        other.assign(mine)
    for mine, other in zip(skip.discriminator.variables, agad.discriminator.variables, strict=True):
        other.assign(mine)
    agad.compile(contextual_adversarial_weight=0.0, latent_weight=1.0, literal=True, run_eagerly=True)
    mine, other = one_step(skip), one_step(agad_without_anomalies(agad))
    for name, value in mine.items():
        assert value == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


def agad_without_anomalies(model):
    model.uses_anomalies = False
    return model


def test_alad_kernels_have_spectral_norm_one():
    def norms(model):
        networks = (*model._discriminators(), model.encoder)
        kernels = [v for network in networks for v in network.trainable_variables if v.name == "kernel"]
        return [np.linalg.svd(np.reshape(k, (-1, k.shape[-1])), compute_uv=False)[0] for k in kernels]

    model = make("alad", ROWS, {"learning_rate": 1e-3}, spectral_norm=True)
    before = values(model.variables)
    for _ in range(4):
        one_step(model)
    assert norms(model) == pytest.approx([1] * len(norms(model)), abs=0.05)
    moved = [
        (np.array(v) != old).any()
        for v, old in zip(model.variables, before, strict=True)
        if "spectral_norm" in v.path
    ]
    assert moved
    assert all(moved)
    free = make("alad", ROWS)
    one_step(free)
    assert max(norms(free)) > 1.5


def test_the_gradient_penalty_is_differentiated_twice():
    """Its gradient in the critic's kernels against finite differences, in double precision."""
    model = make("f_anogan", GREY, dtype="float64")
    x = tf.constant(samples(GREY, 4) / 255.0)
    kernel = model.critic.down_1.convolution.kernel

    def penalty():
        with tf.GradientTape() as tape:
            loss, _ = model._critic_loss(x, 0)
        return float(loss), tape.gradient(loss, model.critic.trainable_variables)

    _, gradients = penalty()
    index = next(i for i, v in enumerate(model.critic.trainable_variables) if v is kernel)
    direction = np.random.default_rng(0).normal(size=kernel.shape)
    direction /= np.linalg.norm(direction)
    # So small that no LeakyReLU changes its side, where the penalty jumps.
    start, step = np.array(kernel), 1e-8
    ends = []
    for sign in (1, -1):
        kernel.assign(start + sign * step * direction)
        ends.append(penalty()[0])
    assert float((gradients[index].numpy() * direction).sum()) == pytest.approx(
        (ends[0] - ends[1]) / (2 * step), rel=1e-4
    )


def test_the_critic_makes_its_steps_on_parts_of_the_batch():
    model = make("f_anogan", GREY, {"critic_steps": 3})
    model.enter(True)
    x = samples(GREY, 7)
    parts = []
    loss = model._critic_loss
    model._critic_loss = lambda part, number: parts.append(part.numpy()) or loss(part, number)
    try:
        train_once(model, x, np.zeros(7, np.int32))
    finally:
        del model._critic_loss
    np.testing.assert_allclose(np.concatenate(parts), x[:6] / 255, atol=1e-6)
    assert int(model.discriminator_optimizer.iterations) == 3
    assert int(model.optimizer.iterations) == 1
    # Fewer images than steps: each step has one.
    train_once(model, x[:2], np.zeros(2, np.int32))
    assert int(model.discriminator_optimizer.iterations) == 6


# -- anomalies -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:invalid value")  # the logs of no step
@pytest.mark.parametrize("name", [name for name in KERAS if not BASELINES[name].uses_anomalies])
def test_labelled_anomalies_are_left_out_not_taken_for_normal(name):
    shape = small_shape(name)
    x, y = both_kinds(shape, normals=9, anomalies=3)
    seen = []

    def watched(model):
        model.train_step = lambda data: seen.append((np.array(data[0]), np.array(data[1]))) or {}
        return model

    for batches in ((x, y), (quota_batches(x[y == 0], x[y == 1], batch_size=4, min_anomalies=1),)):
        model = watched(make(name, shape, {"guard": False}))
        try:
            model.fit(*batches, batch_size=3, verbose=0) if len(batches) > 1 else model.fit(
                *batches, verbose=0
            )
        finally:
            del model.train_step
        rows = np.concatenate([batch for batch, _ in seen])
        assert not np.concatenate([labels for _, labels in seen]).any()
        # Rows of a table are float64 in arrays and as they come in datasets.
        wanted = x[y == 0].astype(rows.dtype)
        assert {row.tobytes() for row in rows} == {row.tobytes() for row in wanted}
        seen.clear()


def test_deep_sad_and_the_classifier_take_anomalies_by_their_share():
    for name in ("deep_sad", "classifier"):
        x, y = both_kinds(ROWS, normals=30, anomalies=10)
        model, seen = make(name, ROWS), []
        step = model.train_step
        model.train_step = lambda data, step=step, seen=seen: seen.append(int(np.sum(data[1]))) or step(data)
        try:
            model.fit(x, y, batch_size=8, verbose=0)
        finally:
            del model.train_step
        assert set(seen) == {2}


def test_deep_sad_drives_anomalies_away():
    """Steps on the distance loss alone: normals come closer to the centre, labelled anomalies leave it."""
    model = make("deep_sad", ROWS, {"optimizer": keras.optimizers.Adam(0.01)})
    x, y = both_kinds(ROWS)
    model.preprocess.adapt(x[y == 0])
    enter(model, 1, 2)
    before = model(x).numpy()
    for _ in range(30):
        train_once(model, x, y.astype(np.int32))
    after = model(x).numpy()
    assert after[y == 1].mean() / after[y == 0].mean() > 2 * before[y == 1].mean() / before[y == 0].mean()


# -- replicas ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep_sad", "ganomaly", "alad"])
def test_two_replicas_equal_one(strategy, name):
    """One step in float64 on a batch whose anomalies are unequally spread."""
    shape = small_shape(name)
    x, y = both_kinds(shape, normals=6, anomalies=2)
    if not BASELINES[name].uses_anomalies:
        y = np.zeros_like(y)
    one = make(name, shape, dtype="float64")
    with strategy.scope():
        arguments = {key: value for key, value in one.get_config().items() if key not in ("name", "dtype")}
        two = BASELINES[name](**arguments, dtype="float64")
        two.compile(run_eagerly=True)
    for alone, both in zip(one.variables, two.variables, strict=True):
        both.assign(alone)
    y = y.astype(np.int32)
    logs = train_once(one, x, y)
    check_step(strategy, two, x, y, logs, rel=1e-4, abs=1e-6)
    check_variables(strategy, one.variables, two.variables, 1e-6)
