"""AGAD as a Keras model: scores and their preparation, saving, precision, run modes, what it refuses."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import batch, copy_weights, make, photographs, train_once, values

from agad_tf import AGAD
from agad_tf.errors import InputError
from agad_tf.networks import EncoderDecoder, PatchDiscriminator

NORMALS, ANOMALIES = photographs(24), photographs(4, seed=1)
X, Y = np.concatenate([NORMALS, ANOMALIES]), np.repeat([0, 1], [24, 4])


# -- scores and their preparation ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    """The usual way: arrays, labels, the graph, the default stabilisers."""
    model = AGAD((8, 8, 1), "encoder_decoder")
    model.compile(average_epochs=1.0)
    history = model.fit(X, Y, batch_size=16, min_anomalies=4, epochs=2, validation_data=(X, Y), verbose=0)
    return model, history.history


def test_fit_decides_the_score_and_readies_it(fitted):
    model, history = fitted
    assert model.score == "fused"
    assert set(model.scoring_networks()) == {"scoring_generator", "scoring_discriminator"}
    assert float(model.scoring_prepared) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        scores = model.predict(X, verbose=0)
    assert set(model.evaluate(X, Y, verbose=0)) == {"loss", "score_normal", "auroc", "average_precision"}
    assert 0 <= history["val_auroc"][-1] <= 1
    assert history["val_auroc"][-1] == pytest.approx(model.evaluate(X, Y, verbose=0)["auroc"], abs=1e-6)
    # Standardised on the training normals: each part has mean 0 and deviation 1 over them.
    x = model.preprocess(NORMALS)
    parts = np.array([model.raw_score(name, x) for name in model.score_names])
    np.testing.assert_allclose(model.score_means, parts.mean(1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(model.score_deviations, parts.std(1), rtol=1e-2)
    means, deviations = model.score_means.numpy()[:, None], model.score_deviations.numpy()[:, None]
    np.testing.assert_allclose(scores[:24], ((parts - means) / deviations).sum(0), rtol=1e-3, atol=1e-3)


def test_average_of_a_fit_differs_from_the_raw_weights(fitted):
    model, _ = fitted
    assert float(model.average_decay) == pytest.approx(
        np.exp(-1 / 2)
    )  # two steps an epoch, horizon one epoch
    raw, scoring = model.generator.get_weights(), model.scoring_generator.get_weights()
    assert any((a != b).any() for a, b in zip(raw, scoring, strict=True))


def test_without_anomalies_and_without_average(capsys):
    model = make(compile_with={"average_epochs": 0.0, "run_eagerly": True})
    history = model.fit(NORMALS, batch_size=24, verbose=0).history
    assert model.score == "reconstruction"
    assert set(model.scoring_networks()) == {"scoring_generator"}
    assert history["loss_anomaly"] == [0.0]
    for raw, scoring in model._pairs:
        raw, scoring = getattr(model, raw), getattr(model, scoring)
        for source, target in zip(raw.variables, scoring.variables, strict=True):
            if "moving" not in source.name:
                np.testing.assert_array_equal(source, target)
    # A(x) = ||x − x̂||₂
    x = np.array(model.preprocess(X))
    expected = np.sqrt(((x - np.array(model.reconstruct(X))) ** 2).sum((1, 2, 3)))
    np.testing.assert_allclose(model(X), expected, rtol=1e-5)
    # Anomalies that come later are scored by what was learnt from them.
    capsys.readouterr()
    model.fit(X, Y, batch_size=28, min_anomalies=4, verbose=2)
    assert model.score == "fused"
    line = capsys.readouterr().err.splitlines()[0]
    assert "24 normal samples, batches of 28 with 4 of 4 anomalies each" in line


def moments_of(network, batches):
    """Mean of the batch moments that each batch norm sees, by a copy that remembers the last batch alone."""
    maker = PatchDiscriminator if isinstance(network, PatchDiscriminator) else EncoderDecoder
    copy = maker((8, 8, 1), (0, 1, 0))
    copy.set_weights(network.get_weights())
    for norm in copy.batch_norms():
        norm.momentum = 0.0
    seen = []
    for part in batches:
        copy(part, route=0, training=True)
        seen.append(
            [(norm.moving_mean.numpy()[0], norm.moving_variance.numpy()[0]) for norm in copy.batch_norms()]
        )
    return np.array([[np.concatenate(pair) for pair in norms] for norms in seen], dtype=object)


def test_prepare_scoring_sets_the_mean_batch_moments():
    model = make(score="fused", bn_strategy="adv_prop")
    train_once(model, *batch([0, 1, 0, 0]))
    other_heads = [norm.moving_mean.numpy()[1] for norm in model.scoring_generator.batch_norms()]
    raw = values(model.generator.variables)
    model.prepare_scoring(NORMALS[:20], batch_size=8)  # 8, 8, and 4 that are left out
    parts = [model.preprocess(NORMALS[i : i + 8]) for i in (0, 8)]
    for network in model.scoring_networks().values():
        norms = network.batch_norms()
        for index, norm in enumerate(norms):
            found = np.concatenate([norm.moving_mean.numpy()[0], norm.moving_variance.numpy()[0]])
            expected = np.mean([m[index] for m in moments_of(network, parts)], axis=0).astype("float32")
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
            assert norm.momentum == 0.9
            assert not norm.trainable
    for norm, before in zip(model.scoring_generator.batch_norms(), other_heads, strict=True):
        np.testing.assert_array_equal(norm.moving_mean.numpy()[1], before)
    for variable, before in zip(model.generator.variables, raw, strict=True):
        np.testing.assert_array_equal(variable, before)  # the networks that train are left alone


def test_literal_scores_with_the_statistics_of_training():
    model = make(score="reconstruction", compile_with={"literal": True})
    train_once(model, *batch([0, 0, 0, 0]))
    model.prepare_scoring(NORMALS)
    for mine, other in zip(model.scoring_generator.variables, model.generator.variables, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_fused_constants_follow_each_preparation():
    model = make(score="fused")
    model.prepare_scoring(NORMALS)
    x = model.preprocess(NORMALS)
    for index, name in enumerate(model.score_names):
        part = model.raw_score(name, x).numpy()
        assert float(model.score_means[index]) == pytest.approx(part.mean(), rel=1e-4, abs=1e-5)
        assert float(model.score_deviations[index]) == pytest.approx(part.std(), rel=1e-3)
    scores = model(NORMALS).numpy()
    assert abs(scores.mean()) < 1e-3
    model.prepare_scoring(NORMALS[:6])
    assert abs(model(NORMALS[:6]).numpy().mean()) < 1e-3


def test_discriminator_score_is_the_negated_logit():
    model = make(score="discriminator")
    logit, _ = model.scoring_discriminator(model.preprocess(X), training=False)
    np.testing.assert_allclose(model(X), -logit.numpy(), rtol=1e-6)


def test_predict_warns_once_before_preparation():
    model = AGAD((8, 8, 1), "encoder_decoder")
    model.compile()
    with pytest.warns(UserWarning, match="call prepare_scoring.normal"):
        first = model.predict(X, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        np.testing.assert_array_equal(model.predict(X, verbose=0), first)
    with pytest.raises(InputError, match=r"received none \(no fit kept any\): pass some"):
        model.prepare_scoring()


# -- saving --------------------------------------------------------------------------------------------------


def test_saved_and_loaded_model_trains_on_as_if_nothing_had_happened(tmp_path):
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-3, 2, 0.5)
    model = make(
        score="fused",
        bn_strategy="adv_prop_freeze",
        compile_with={
            "generator_optimizer": keras.optimizers.RMSprop(schedule, rho=0.8),
            "discriminator_optimizer": keras.optimizers.SGD(1e-2, momentum=0.7),
            "latent_distance": "norm",
            "clip_norm": None,
            "average_epochs": 3.0,
        },
    )
    model.average_decay.assign(0.2)
    for seed in range(2):
        train_once(model, *batch([0, 1, 0, 0], seed=seed))
    model.prepare_scoring(NORMALS)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.settings == model.settings
    assert loaded.loss_weights == model.loss_weights
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert type(loaded.discriminator_optimizer) is keras.optimizers.SGD
    assert loaded.discriminator_optimizer.momentum == 0.7

    def state(one):
        variables = [v for v in one.variables if "moving" in v.name or not v.path.startswith(("mean", "sum"))]
        return [*variables, *one.optimizer.variables, *one.discriminator_optimizer.variables]

    for step in range(2):
        for mine, other in zip(state(model), state(loaded), strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=f"{mine.path} after {step} steps")
        np.testing.assert_array_equal(model(X), loaded(X))
        for one in (model, loaded):
            train_once(one, *batch([0, 1, 0, 0], seed=7))
    assert any((np.array(v) != 0).any() for v in loaded.discriminator_optimizer.variables if len(v.shape) > 1)


def test_literal_and_float16_survive_saving(tmp_path):
    model = make(dtype="mixed_float16", score="reconstruction", compile_with={"literal": True})
    train_once(model, *batch([0, 1, 0, 0]))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.dtype_policy.name == "mixed_float16"
    assert loaded.settings == model.settings
    for name in ("optimizer", "discriminator_optimizer"):
        mine, other = getattr(model, name), getattr(loaded, name)
        assert isinstance(other, keras.optimizers.LossScaleOptimizer)
        assert not isinstance(other.inner_optimizer, keras.optimizers.LossScaleOptimizer)
        for a, b in zip(mine.variables, other.variables, strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model(X), loaded(X))


# -- precision and run modes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_bfloat16", 0.05), ("mixed_float16", 0.01), ("float64", 1e-4)]
)
def test_precision_policies(policy, tolerance):
    model, full = make(dtype=policy, score="fused"), make(score="fused")
    for mine, other in zip(model.layers, full.layers, strict=True):
        for variable, value in zip(mine.variables, values(other.variables), strict=True):
            variable.assign(value)
    for one in (model, full):
        one.prepare_scoring(NORMALS)
    scores, wanted = (np.array(one.raw_score("reconstruction", one.preprocess(X))) for one in (model, full))
    np.testing.assert_allclose(scores, wanted, rtol=tolerance)
    assert model(X).dtype == tf.float32
    x, y = batch([0, 1, 0, 0, 0, 1, 0, 0])
    logs, expected = train_once(model, x, y), train_once(full, x, y)
    for name, value in expected.items():
        if policy == "mixed_float16" and "gradient" in name:
            continue  # too large for the first scale, see below
        assert logs[name] == pytest.approx(value, rel=4 * tolerance, abs=4 * tolerance), name
    assert all(np.isfinite(value).all() for value in values(model.variables))
    assert model.scoring_generator.variables[0].dtype == ("float64" if policy == "float64" else "float32")
    # Images are not rounded on their way in: uint8 and the same images as floats score alike.
    np.testing.assert_allclose(model(X), model(np.array(full.preprocess(X))), atol=20 * tolerance)
    reconstruction, error_map = model.explain(X)
    assert np.isfinite(error_map).all()
    assert np.abs(reconstruction).max() <= 1


def test_float16_lowers_its_scale_and_trains_on():
    model = make(dtype="mixed_float16")
    scale = float(model.optimizer.dynamic_scale)
    before = model.generator.get_weights()
    norms = []
    while not norms or norms[-1] == 0:
        logs = train_once(model, *batch([0, 1, 0, 0]))
        assert np.isfinite(list(logs.values())).all()  # the guard would take NaN for a divergence
        norms.append(logs["gradient_norm_generator"])
        assert len(norms) < 12
    assert norms[0] == 0 < norms[-1]
    assert float(model.optimizer.dynamic_scale) < scale
    assert all((a != b).any() for a, b in zip(before[:1], model.generator.get_weights(), strict=False))


def test_xla_equals_plain():
    x, y = batch([0, 1, 0, 0, 1, 0])
    arguments = {"generator_optimizer": "sgd", "discriminator_optimizer": "sgd"}
    compiled, plain = make(number="xla"), make()
    for model, jit in ((compiled, True), (plain, False)):
        model.compile(jit_compile=jit, **arguments)
        assert model.jit_compile is jit
    copy_weights(plain, compiled)
    logs = compiled.train_on_batch(x, y, return_dict=True)
    expected = train_once(plain, x, y)
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(value, rel=1e-3, abs=1e-5), name
    for mine, other in zip(compiled.trainable_variables, plain.trainable_variables, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_xla_is_off_on_cpu_unless_asked_for():
    model = make()
    assert model.settings["jit_compile"] == "auto"
    assert model.jit_compile is False


def test_compiling_again_starts_fresh():
    model = make()
    train_once(model, *batch([0, 1, 0, 0]))
    before = values(model.generator.trainable_variables)
    optimizer = keras.optimizers.Adam(0.5)
    for _ in range(2):
        model.compile(generator_optimizer=optimizer)
        assert int(model.optimizer.iterations) == 0
        train_once(model, *batch([0, 1, 0, 0]))
    assert int(optimizer.iterations) == 0  # the model works with its own copy
    moved = values(model.generator.trainable_variables)
    assert max(np.abs(a - b).max() for a, b in zip(before, moved, strict=True)) > 0.4


def test_two_replicas_train_and_score(strategy):
    with strategy.scope():
        model = make(
            number="replicated fit", compile_with={"run_eagerly": True, "discriminator_reset_threshold": 9e9}
        )
    history = model.fit(X, Y, batch_size=20, min_anomalies=4, steps_per_epoch=2, verbose=0).history
    assert history["discriminator_resets"] == [2.0]  # one a step, not one a replica
    assert model.score == "fused"
    np.testing.assert_allclose(model.predict(X, verbose=0), model(X), rtol=1e-4, atol=1e-4)
    for variable in model.variables:
        copies = [np.array(copy) for copy in strategy.experimental_local_results(variable.value)]
        if len(copies) == 2 and len(variable.shape) > 0:
            np.testing.assert_array_equal(*copies, err_msg=variable.path)
    with pytest.raises(InputError, match="2 replicas divide"):
        model.fit(X, Y, batch_size=20, min_anomalies=3, verbose=0)


def test_the_shown_generator_is_readied_whatever_the_score():
    pictures = []
    for score in ("reconstruction", "discriminator"):
        model = make(number=1)
        train_once(model, *batch([0] * 6 + [1] * 2))
        model.score = score
        model.prepare_scoring(photographs(16))
        pictures.append(model.reconstruct(photographs(4)).numpy())
    np.testing.assert_array_equal(*pictures)


def test_statistics_rest_on_images_that_are_not_augmented():
    model = make()
    images = photographs(24)
    model.fit(images, batch_size=8, epochs=1, verbose=0, augment=keras.layers.RandomFlip())
    known = {image.tobytes() for image in images}
    assert {image.tobytes() for image in model._scoring_sample} == known


def test_a_model_that_was_never_compiled_is_saved_and_scores_alike(tmp_path):
    model = AGAD((8, 8, 1), "encoder_decoder")
    model.save(tmp_path / "fresh.keras")
    loaded = keras.saving.load_model(tmp_path / "fresh.keras")
    assert not loaded.compiled
    np.testing.assert_array_equal(
        loaded.predict(photographs(3), verbose=0), model.predict(photographs(3), verbose=0)
    )


def test_xla_on_several_replicas_is_refused(strategy):
    with strategy.scope(), pytest.raises(InputError, match="received True on 2"):
        AGAD((8, 8, 1), "encoder_decoder").compile(jit_compile=True)
