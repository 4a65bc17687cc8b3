"""AA-BiGAN as a Keras model: scores, their preparation, settings, schedule, saving, precision, run modes."""

import inspect
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import train_once, values
from bigan_cases import MIXED, NETWORKS, SHAPES, batch, make, trainable
from docstrings import documented

from agad_tf import AABiGAN
from agad_tf.errors import InputError
from agad_tf.models.aa_bigan import LITERAL
from agad_tf.models.guard import DivergenceGuard
from agad_tf.models.schedule import EpochDecay

EAGER = {"run_eagerly": True, "generator_optimizer": "sgd", "discriminator_optimizer": "sgd"}


def one_line(error):
    return "\n" not in str(error.value)


def trained(shape=(5,), steps=1, compile_with=None, decay=0.0, **arguments):
    model = make(shape, compile_with, **arguments)
    model.average_decay.assign(decay)
    for seed in range(steps):
        train_once(model, *batch(MIXED, shape, seed=seed))
    return model


# -- scores and their preparation ----------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["dcgan", "mlp"])
def test_scores_are_their_formulas(backbone):
    shape = SHAPES[backbone]
    model = trained(shape, decay=0.1)  # averages that are not the raw weights
    x = batch([0] * 5, shape, seed=3)[0]
    code = model.scoring_encoder(x, training=False).numpy()
    reconstruction = model.scoring_generator(code, training=False).numpy()
    expected = {
        "reconstruction": ((x - reconstruction) ** 2).reshape(5, -1).sum(1),
        "latent": (code**2).sum(1),
    }
    for name, value in expected.items():
        model.score = name
        np.testing.assert_allclose(model(x), value, rtol=1e-5)
        np.testing.assert_allclose(model.raw_score(name, x), value, rtol=1e-5)
    model.score = "auto"
    np.testing.assert_allclose(model(x), expected["reconstruction"], rtol=1e-5)
    np.testing.assert_allclose(model.reconstruct(x), reconstruction, rtol=1e-5)


def test_fused_score_is_the_sum_of_both_standardised_on_the_normals():
    model = trained(score="fused")
    normals = batch([0] * 30, seed=4)[0]
    model.prepare_scoring(normals)
    parts = np.array([model.raw_score(name, normals) for name in ("reconstruction", "latent")])
    np.testing.assert_allclose(model.score_means, parts.mean(1), rtol=1e-4)
    np.testing.assert_allclose(model.score_deviations, parts.std(1), rtol=1e-3)
    standard = (parts - parts.mean(1, keepdims=True)) / parts.std(1, keepdims=True)
    np.testing.assert_allclose(model(normals), standard.sum(0), rtol=1e-3, atol=1e-3)


def test_what_each_score_reads():
    model = make()
    reads = {"auto": 2, "reconstruction": 2, "fused": 2, "latent": 1}
    for score, count in reads.items():
        model.score = score
        assert list(model.scoring_networks())[:count] == ["scoring_encoder", "scoring_generator"][:count]
        assert len(model.scoring_networks()) == count


@pytest.mark.parametrize("backbone", ["dcgan", "mlp"])
def test_prepare_scoring_sets_the_moments_of_codes_and_noise_together(backbone):
    shape = SHAPES[backbone]
    model = trained(shape)
    raw = [values(getattr(model, name).variables) for name in NETWORKS]
    normals = batch([0] * 20, shape, seed=6)[0]
    model.prepare_scoring(normals, batch_size=8)  # 8, 8, and 4 that are left out
    received = [moments(network) for network in (model.scoring_encoder, model.scoring_generator)]
    assert model.scoring_encoder.batch_norms()[0].momentum == 0.9
    for name, before in zip(NETWORKS, raw, strict=True):  # the networks that train are left alone
        for variable, value in zip(getattr(model, name).variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)
    # The same by hand: batch norms that keep the last batch alone.
    seen = []
    networks = model.scoring_encoder, model.scoring_generator
    for network in networks:
        network.trainable = True
        for norm in network.batch_norms():
            norm.momentum = 0.0
    try:
        for part in (normals[:8], normals[8:16]):
            code = model.scoring_encoder(part, training=True)
            noise = tf.random.stateless_normal(code.shape, [model.seed, 1])
            model.scoring_generator(tf.concat([code, noise], axis=0), training=True)
            seen.append([moments(network) for network in networks])
    finally:
        for network in networks:
            network.trainable = False
            for norm in network.batch_norms():
                norm.momentum = 0.9
    for mine, first, second in zip(received, *seen, strict=True):
        np.testing.assert_allclose(mine, (first + second) / 2, rtol=1e-4, atol=1e-5)


def moments(network):
    """Moving mean and variance of every batch norm of a network, one after the other."""
    norms = network.batch_norms()
    parts = [np.ravel(part) for norm in norms for part in (norm.moving_mean, norm.moving_variance)]
    return np.concatenate(parts)


def test_fit_keeps_the_reconstruction_error_where_there_are_anomalies():
    model = make(compile_with=EAGER | {"average_epochs": 1.0})
    x, y = batch([0] * 20 + [1] * 4)
    history = model.fit(x, y, batch_size=12, min_anomalies=2, validation_data=(x, y), verbose=0)
    assert model.score == "reconstruction"
    assert float(model.scoring_prepared) == 1
    assert set(history.history) == {
        "loss",
        *model.log_names,
        *(f"val_{name}" for name in ("loss", "score_normal", "auroc", "average_precision")),
    }
    assert history.history["val_auroc"][-1] == pytest.approx(model.evaluate(x, y, verbose=0)["auroc"])
    assert float(model.average_decay) == pytest.approx(math.exp(-1 / 2))  # two steps an epoch
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), rtol=1e-5)


def test_generated_samples_come_from_noise_of_the_seed():
    model = trained(SHAPES["dcgan"])
    made = model.generate(3, seed=7).numpy()
    assert made.shape == (3, 16, 16, 1)
    assert 0 <= made.min() < made.max() <= 1
    z = tf.random.stateless_normal([3, 4], [7, 0])
    np.testing.assert_allclose(made, model.scoring_generator(z, training=False), rtol=1e-6)
    np.testing.assert_array_equal(made, model.generate(3, seed=7))
    assert (made != model.generate(3, seed=8).numpy()).any()
    assert (made[0] != made[1]).any()


# -- settings ------------------------------------------------------------------------------------------------


def test_literal_sets_the_documented_stabilisers_and_nothing_else():
    told = documented(AABiGAN.compile)
    assert {name for name, text in told.items() if text.startswith("stabiliser:")} == set(LITERAL)
    model = make()
    usual = dict(model.settings)
    model.compile(literal=True)
    changed = {name: value for name, value in model.settings.items() if value != usual[name]}
    off = {"average_epochs": 0.0, "guard": False, "reestimate_batch_norm": False}
    assert changed == off | {"literal": True}
    assert usual["clip_norm"] is None
    model.compile(literal=True, clip_norm=3.0, average_epochs=5.0)
    assert {name: model.settings[name] for name in LITERAL} == LITERAL


def test_literal_scores_with_the_weights_and_statistics_of_training():
    model = trained(compile_with={"literal": True}, steps=2)
    model.prepare_scoring(batch([0] * 8)[0])
    for raw, scoring in model._pairs:
        for mine, other in zip(getattr(model, scoring).variables, getattr(model, raw).variables, strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=mine.path)


@pytest.mark.parametrize(("backbone", "rate"), [("dcgan", 1e-4), ("lenet", 1e-4), ("mlp", 3e-3)])
def test_defaults_of_the_paper(backbone, rate):
    model = make(SHAPES[backbone])
    for optimizer, expected in ((model.optimizer, rate), (model.discriminator_optimizer, rate / 4)):
        assert type(optimizer) is keras.optimizers.Adam
        assert float(optimizer.learning_rate) == pytest.approx(expected)
        assert (optimizer.beta_1, optimizer.beta_2) == (0.5, 0.9)
    targets = model.targets
    assert (targets.normal, targets.generated, targets.generator, targets.anomaly) == (1, 0, 0.75, 0.5)
    assert model.settings["update_order"] == "simultaneous"
    assert (model.settings["learning_rate_decay"], model.settings["decay_epochs"]) == (0.98, 100)
    fit = inspect.signature(AABiGAN.fit).parameters
    assert (fit["batch_size"].default, fit["min_anomalies"].default) == (222, 22)


def test_networks_by_shape():
    kinds = {name: type(make(shape).encoder).__name__ for name, shape in SHAPES.items()}
    assert kinds == {"dcgan": "DCGANEncoder", "lenet": "LeNetEncoder", "mlp": "MLPEncoder"}
    assert AABiGAN((4,)).latent_dim == 16


@pytest.mark.parametrize("function", [AABiGAN.__init__, AABiGAN.compile])
def test_documented_arguments_are_those_of_the_signature(function):
    parameters = inspect.signature(function).parameters
    taken = {name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD} - {"self"}
    assert set(documented(AABiGAN if function is AABiGAN.__init__ else function)) == taken


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (5, 5)}, r"\(height, width, channels\), or \(features,\) for the rows of a table"),
        ({"input_shape": (0,)}, r"received \(0,\)"),
        ({"input_shape": (5,), "score": "discriminator"}, "auto, fused, reconstruction, latent, received"),
        ({"input_shape": (5,), "backbone": "unet"}, "one of auto, dcgan, lenet, mlp, received 'unet'"),
        ({"input_shape": (5,), "backbone": "dcgan"}, r"expects images .* received rows \(features,\)"),
        ({"input_shape": (16, 16, 1), "backbone": "mlp"}, r"expects rows .* received images"),
        ({"input_shape": (28, 28, 1)}, "square images of side 16"),
        ({"input_shape": (5,), "latent_dim": 0}, "latent_dim expects a number of at least 1, received 0"),
        ({"input_shape": (5,), "clip": -1}, "clip expects a number of at least 0"),
        ({"input_shape": (16, 16, 1), "crop": "left"}, "crop expects one of"),
    ],
)
def test_refused_arguments(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        AABiGAN(**arguments)
    assert one_line(error)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"update_order": "generator_first"}, "one of simultaneous, discriminator_first, received"),
        ({"learning_rate": -1e-3}, "learning_rate expects a number of at least 0, received -0.001"),
        ({"discriminator_learning_rate": math.nan}, "discriminator_learning_rate expects .* received nan"),
        ({"decay_epochs": -1}, "decay_epochs expects a number of at least 0"),
        ({"average_epochs": None}, "average_epochs expects a number of at least 0, received None"),
        ({"average_epochs": -1.0}, "average_epochs expects a number of at least 0"),
        ({"clip_norm": 0.0}, "clip_norm expects a number above 0, or None for none; received 0.0"),
        ({"jit_compile": "on"}, "jit_compile expects True, False or 'auto', received 'on'"),
    ],
)
def test_refused_settings(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        make().compile(**arguments)
    assert one_line(error)


# -- the learning rate's decay -------------------------------------------------------------------------------


def rates(model):
    return [float(model.optimizer.learning_rate), float(model.discriminator_optimizer.learning_rate)]


def test_decay_follows_from_the_epoch_however_often_and_whenever_it_is_asked(tmp_path):
    settings = {"learning_rate": 0.8, "learning_rate_decay": 0.5, "decay_epochs": 3}
    model = make(compile_with=settings)
    decay = model.training_callbacks()[-1]
    assert isinstance(decay, EpochDecay)
    decay.set_model(model)
    for epoch, factor in [(0, 1), (2, 1), (3, 0.5), (3, 0.5), (5, 0.5), (6, 0.25), (13, 1 / 16), (4, 0.5)]:
        decay.on_epoch_begin(epoch)
        assert rates(model) == pytest.approx([0.8 * factor, 0.2 * factor]), epoch
    # A model that was saved with decayed rates goes on from the first ones.
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert rates(loaded) == pytest.approx([0.4, 0.1])
    decay = loaded.training_callbacks()[-1]
    decay.set_model(loaded)
    decay.on_epoch_begin(6)
    assert rates(loaded) == pytest.approx([0.2, 0.05])


def test_fit_decays_both_rates_and_leaves_schedules_alone():
    x = batch([0] * 8)[0]
    settings = {"learning_rate": 1e-2, "learning_rate_decay": 0.1, "decay_epochs": 1, "run_eagerly": True}
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-3, 1, 0.5)
    model = make(compile_with=settings | {"discriminator_optimizer": keras.optimizers.SGD(schedule)})
    model.fit(x, batch_size=8, epochs=3, verbose=0)
    assert rates(model) == pytest.approx([1e-4, 1e-3 * 0.5**3])
    model.compile(**settings | {"decay_epochs": 0})
    assert not any(isinstance(callback, EpochDecay) for callback in model.training_callbacks())


# -- the guard -----------------------------------------------------------------------------------------------


class Sabotage(keras.callbacks.Callback):
    """Multiplies G's last bias before one epoch."""

    def __init__(self, value, epoch=1):
        super().__init__()
        self.value, self.at = value, epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            bias = self.model.generator.output_layer.bias
            bias.assign(np.full(bias.shape, self.value))


@pytest.mark.parametrize(("value", "rollbacks"), [(math.nan, 1), (60.0, 0)])
def test_guard_minds_what_is_not_finite_and_not_a_rising_error(value, rollbacks, capsys):
    model = make(compile_with=EAGER)
    x = 0.1 * batch([0] * 8)[0]
    history = model.fit(x, batch_size=8, epochs=3, callbacks=[Sabotage(value)], verbose=0).history
    first, second, third = history["normal_reconstruction"]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert len(lines) == rollbacks
    assert math.isnan(second) == bool(rollbacks)
    assert math.isfinite(third)
    if not rollbacks:
        assert second > 2 * first  # which the guard of AGAD would have taken for a divergence


def test_literal_mode_has_no_guard():
    for literal in (False, True):
        callbacks = make(compile_with={"literal": literal}).training_callbacks()
        assert any(isinstance(callback, DivergenceGuard) for callback in callbacks) != literal


# -- saving --------------------------------------------------------------------------------------------------


def test_saved_and_loaded_model_trains_on_as_if_nothing_had_happened(tmp_path):
    settings = {
        "generator_optimizer": keras.optimizers.RMSprop(1e-3, rho=0.8),
        "discriminator_optimizer": keras.optimizers.SGD(1e-2, momentum=0.7),
        "update_order": "discriminator_first",
        "generator_target": 0.6,
        "clip_norm": 4.0,
    }
    model = trained(compile_with=settings, score="fused", clip=0.5, decay=0.2)
    model.preprocess.adapt(batch([0] * 9)[0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.settings == model.settings
    assert loaded.targets == model.targets
    assert loaded.get_config() == model.get_config()
    assert loaded.preprocess.clip == 0.5

    def state(one):
        return [*one.variables, *one.optimizer.variables, *one.discriminator_optimizer.variables]

    for step in range(2):  # as loaded, and after a step
        for mine, other in zip(state(model), state(loaded), strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=f"{mine.path} after {step} steps")
        for one in (model, loaded):
            train_once(one, *batch(MIXED, seed=7))
    assert any(np.any(v) for v in loaded.discriminator_optimizer.variables if len(v.shape) > 1)


# -- precision and run modes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "policy"), [("dcgan", "mixed_bfloat16"), ("mlp", "mixed_bfloat16"), ("mlp", "mixed_float16")]
)
def test_mixed_precision_trains_and_scores_in_full_precision(backbone, policy):
    shape = SHAPES[backbone]
    model = make(shape, dtype=policy)
    x, y = batch(MIXED, shape)
    before = values(trainable(model))
    for _ in range(2):
        logs = train_once(model, x, y)
        assert all(map(math.isfinite, logs.values())), logs
    assert all(np.isfinite(value).all() for value in values(model.variables))
    after = values(trainable(model))
    assert sum((a != b).any() for a, b in zip(before, after, strict=True)) > len(after) / 2
    assert model(x).dtype == tf.float32
    reconstruction, errors = model.explain(x)
    assert reconstruction.dtype == errors.dtype == tf.float32
    assert np.isfinite(errors).all()
    assert model.generate(2).dtype == tf.float32
    full = make(shape)
    for name in ("scoring_encoder", "scoring_generator"):
        getattr(full, name).set_weights(getattr(model, name).get_weights())
    np.testing.assert_allclose(model(x), full(x), rtol=1e-4)


@pytest.mark.parametrize(("how", "order"), [("graph", "simultaneous"), ("xla", "discriminator_first")])
def test_graph_and_xla_equal_the_plain_step(how, order):
    settings = {"update_order": order, "generator_optimizer": "sgd", "discriminator_optimizer": "sgd"}
    x, y = batch(MIXED)
    noise = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
    model = make()
    model._noise = lambda code: tf.constant(noise)  # XLA draws other numbers from a seed
    try:
        model.compile(**settings)
        expected = train_once(model, x, y)
        weights = values(trainable(model))
        make(compile_with=settings | {"jit_compile": how == "xla"})
        assert model.jit_compile is (how == "xla")
        logs = model.train_on_batch(x, y, return_dict=True)
    finally:
        del model._noise
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(value, rel=1e-4, abs=1e-6), name
    for variable, value in zip(trainable(model), weights, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6, err_msg=variable.path)
