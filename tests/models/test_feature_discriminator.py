"""The detector on frozen features: what it learns, from what, and what is saved and kept."""

import feature_cases
import keras
import numpy as np
import pytest
import tensorflow as tf

import agad_tf
from agad_tf.data.batches.quota import quota_batches
from agad_tf.errors import InputError
from agad_tf.features import store
from agad_tf.losses import feature_discriminator as losses
from agad_tf.models.feature_discriminator import FeatureDiscriminator
from agad_tf.models.mahalanobis import mahalanobis
from agad_tf.training.checkpoints import Checkpoints

NORMALS, DEFECTS = 40, 8


@pytest.fixture(scope="module")
def fitted():
    x = feature_cases.parts(NORMALS + DEFECTS, range(NORMALS, NORMALS + DEFECTS))
    y = np.repeat([0, 1], [NORMALS, DEFECTS])
    model = feature_cases.make(compiled={"learning_rate": 2e-3, "label_after": 30})
    model.fit(x, y, epochs=2, steps_per_epoch=60, verbose=0)
    return model, x, y


def test_it_is_a_public_name():
    assert agad_tf.FeatureDiscriminator is FeatureDiscriminator


def test_defects_score_higher_in_every_part(fitted):
    model, _, _ = fitted
    x = feature_cases.parts(40, range(20, 40), seed=5)
    y = np.repeat([0, 1], 20)
    for name in ("global", "local", "labels", "fused"):
        assert model.score == "fused"
        scores = (
            model.raw_score(name, model.preprocess(x)) if name != "fused" else model.predict(x, verbose=0)
        )
        least = 0.8 if name == "local" else 0.9  # which no label taught
        assert agad_tf_auroc(y, np.asarray(scores)) > least, name


def agad_tf_auroc(y, scores):
    return float((scores[y == 1][:, None] > scores[y == 0]).mean())


def test_the_map_shows_where(fitted):
    model, _, _ = fitted
    plain = feature_cases.parts(1, seed=9)
    marked = plain.copy()
    marked[0, 16:32, 32:48] = 250
    before, after = (model.anomaly_map(x)[0].numpy() for x in (plain, marked))
    assert before.shape == (64, 64)
    assert min(before.min(), after.min()) >= 0
    rows, columns = np.unravel_index((after - before).argmax(), (64, 64))
    assert 8 <= rows < 40
    assert 24 <= columns < 56


def test_the_frozen_network_never_moves(fitted):
    model, _, _ = fitted
    fresh = feature_cases.small_network()
    for weight, other in zip(model.features.network.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    assert len(model.trained_by()["optimizer"]) == 2 * 3 * 6


def test_arrays_and_datasets_train_alike():
    """Features computed once are those computed in every step, but for their rounding to float16."""
    x = feature_cases.parts(24, range(16, 24))
    y = np.repeat([0, 1], [16, 8])
    scores = []
    for batched in (False, True):
        model = feature_cases.make()
        # The same members for both: whom they leave out follows from the bits of what is given.
        model._left_out = lambda x: tf.zeros((tf.shape(x)[0], 3))
        if batched:
            model.fit(quota_batches(x[:16], x[16:], 12, 4, seed=3), epochs=2, verbose=0)
        else:
            model.fit(x, y, 12, 2, min_anomalies=4, seed=3, steps_per_epoch=2, verbose=0)
        scores.append(model._logits("labels", model.features(model.preprocess(x))).numpy())
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-2)


def test_features_are_computed_once_a_sample(monkeypatch):
    monkeypatch.setattr(store, "_stores", {})
    x, y = feature_cases.parts(30, range(24, 30), seed=3), np.repeat([0, 1], [24, 6])
    for _ in range(2):
        model = feature_cases.make()
        seen = []
        raw = model.features.raw
        model.features.raw = lambda images, raw=raw, seen=seen: seen.append(1) or raw(images)
        model.fit(x, y, epochs=1, steps_per_epoch=2, validation_data=(x, y), verbose=0)
        (kept,) = store._stores.values()
        assert kept.shape[0] == 30
        passes, seen = len(seen), seen
    assert passes == 0  # the second model traced nothing: all was kept


def test_members_leave_out_shares_that_cover_all(fitted):
    model, x, _ = fitted
    out = model._left_out(tf.constant(x)).numpy()
    assert set(out.sum(axis=1)) == {1}
    assert (out.sum(axis=0) > 0).all()
    np.testing.assert_array_equal(model._left_out(tf.constant(x[::-1].copy())).numpy()[::-1], out)


def test_scores_of_held_out_normals_are_those_of_new_ones(fitted):
    """Standardised on normals that neither part was fitted to, new normals score about 0."""
    model, _, _ = fitted
    fresh = feature_cases.parts(60, seed=11)
    mean, deviation = np.asarray(model.score_means), np.asarray(model.score_deviations)
    for index, name in enumerate(model.score_names):
        scores = model.raw_score(name, model.preprocess(fresh)).numpy()
        assert abs(scores.mean() - mean[index]) < 1.5 * deviation[index], name


def test_each_place_is_compared_with_itself(fitted):
    """Left-out normals are 0 on average at every place of the grid, and differ by 1 and less."""
    model, x, _ = fitted
    rows = tf.constant(np.asarray(model.rows_of(x[:NORMALS])))
    member = tf.argmax(model._left_out(rows), axis=1)
    for name in ("local", "labels"):
        scores = model.patch_scores(name, model.features.standardise(rows))
        scores = tf.gather(scores, member, axis=3, batch_dims=1).numpy()
        np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-3)
        assert 0.05 < scores.std(axis=0).mean() < 1


def test_all_normals_calibrate_by_their_folds(fitted):
    model, x, _ = fitted
    fresh = feature_cases.parts(60, range(40, 60), seed=21)
    p_values = model.cross_p_values(x[:NORMALS], fresh)
    assert p_values.min() >= 1 / (NORMALS + 1)
    assert (p_values[:40] <= 0.1).mean() <= 0.2 + 0.15  # 2α, and what 40 draws can be off by
    assert (p_values[40:] <= 0.1).mean() > 0.8
    assert len(model.held_out_scores()["fused"]) == NORMALS


def test_images_are_left_out_by_those_who_did_not_learn_from_them(fitted, tmp_path):
    """Who left a sample out goes by its features, which training saw, whatever it is given as."""
    model, x, _ = fitted
    of_images, of_training = model.held_out_scores(x[:NORMALS]), model.held_out_scores()
    for name, scores in of_images.items():
        np.testing.assert_array_equal(scores, of_training[name])
    model.save(tmp_path / "it.keras")
    with pytest.raises(InputError, match="that fit with arrays has just trained, received one"):
        keras.saving.load_model(tmp_path / "it.keras").cross_p_values(x[:NORMALS], x[:2])


def test_what_compile_cannot_mean_is_refused():
    for setting in ("learning_rate", "average_epochs", "label_after"):
        for value in (-1, None):
            words = f"{setting} expects a number of at least 0, received {value}"
            with pytest.raises(InputError, match=words):
                feature_cases.make(compiled={setting: value})
    with pytest.raises(InputError, match="clip_norm expects a number above 0, or None for none; received -1"):
        feature_cases.make(compiled={"clip_norm": -1})


def test_the_summands_of_the_fused_score(fitted):
    model, x, _ = fitted
    parts = model.standardised_parts(x[:9])
    assert tuple(parts) == model.fused_parts
    np.testing.assert_allclose(sum(parts.values()), model.predict(model.rows_of(x[:9])), rtol=1e-4, atol=1e-4)


def test_the_finer_the_grid_the_less_the_whole_image_counts(fitted):
    """`global` is weighted by 20 over the side of the grid, in the fused score and nowhere else."""
    model, _, _ = fitted
    side = np.sqrt(np.prod(model.features.grid[:2]))
    spread = {name: scores.std() for name, scores in model.held_out_scores().items()}
    weights = {
        name: spread[name] / float(model.score_deviations[index])
        for index, name in enumerate(model.score_names)
    }
    assert weights == pytest.approx({"global": 20 / side, "local": 1, "labels": 1}, rel=1e-3)


def test_labels_teach_their_own_discriminator_alone():
    """Labels count in the sum only where there were any; without them nothing of theirs moves."""
    x, y = feature_cases.parts(36, range(30, 36)), np.repeat([0, 1], [30, 6])
    models = []
    for labelled in (False, True):
        model = feature_cases.make(compiled={"label_after": 0}, seed=4)
        rows = slice(None) if labelled else slice(30)
        model.fit(x[rows], y[rows], 36, 1, min_anomalies=6, steps_per_epoch=1, shuffle=False, verbose=0)
        models.append(model)
    without, with_labels = models
    assert without.fused_parts == without.parts_of_score == ("global", "local")
    assert with_labels.fused_parts == with_labels.parts_of_score == ("global", "local", "labels")
    fresh = feature_cases.make(seed=4).label_discriminator.get_weights()
    kept = without.label_discriminator.get_weights()
    assert all(np.array_equal(one, other) for one, other in zip(fresh, kept, strict=True))
    moved = with_labels.label_discriminator.get_weights()
    assert not any(np.array_equal(one, other) for one, other in zip(fresh, moved, strict=True))
    with pytest.raises(InputError, match="score 'labels' expects labelled anomalies"):
        feature_cases.make(score="labels").fit(x[:30], y[:30], 10, 1, steps_per_epoch=1, verbose=0)


def test_labels_count_from_half_of_a_short_training_on():
    x, y = feature_cases.parts(36, range(30, 36)), np.repeat([0, 1], [30, 6])
    model = feature_cases.make()
    model.fit(x, y, 36, 2, min_anomalies=6, steps_per_epoch=3, verbose=0)
    assert float(model._label_start) == 3
    assert [bool(loss) for loss in model.history.history["label_loss"]] == [False, True]


def test_a_label_is_about_the_patches_that_look_worst_without_it(fitted):
    model, _, _ = fitted
    raw = model.features.raw(model.preprocess(feature_cases.parts(6, range(6), seed=3)))
    grid = model.features.standardise(raw)
    worst = model._worst(raw, tf.constant(True)).numpy()
    logits = model._logits("local", grid).numpy().mean(-1).reshape(6, -1)
    flat = grid.numpy().reshape(6, -1, grid.shape[-1])
    assert worst.shape == (6, 1, 1, grid.shape[-1])  # 2 % of 64 patches
    np.testing.assert_array_equal(worst[:, 0, 0], flat[np.arange(6), logits.argmax(1)])
    np.testing.assert_array_equal(model._worst(raw, tf.constant(False))[:, 0, 0], flat[:, 0])


def test_labels_reach_the_members_by_the_worst_patches():
    logits = tf.Variable(np.zeros((2, 10, 1), np.float32))
    logits[0, 3, 0].assign(1.0)
    one, none = tf.constant([[1.0], [0.0]]), tf.constant([[0.0], [1.0]])
    with tf.GradientTape() as tape:
        loss = losses.label_loss(losses.worst_mean(logits, 0.1), none, one)
    gradient = tape.gradient(loss, logits).numpy()
    expected = (np.log(2) + np.log1p(np.exp(-1))) / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert gradient[0, 3, 0] < 0
    assert np.count_nonzero(gradient[0]) == 1  # the worst patch of the anomaly alone
    assert float(losses.label_loss(losses.worst_mean(logits, 0.1), one + none, 0 * one)) == 0


def test_noise_loss_by_hand():
    normal, noisy = tf.constant([[[2.0]], [[0.0]]]), tf.constant([[[1.0]], [[5.0]]])
    counted = tf.constant([[1.0], [0.0]])  # the second sample counts for no one
    expected = (np.log1p(np.exp(2)) + np.log1p(np.exp(-1))) / 2
    np.testing.assert_allclose(losses.noise_loss(normal, noisy, counted), expected, rtol=1e-6)


def test_mahalanobis_distance_by_hand():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(3, 3))
    points = rng.normal(size=(50_000, 3)) @ mix + 5
    mean, whitening = mahalanobis(points)
    away = rng.normal(size=(4, 3))
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(mix.T @ mix), away))
    np.testing.assert_allclose(np.linalg.norm(away @ whitening, axis=1), expected, rtol=0.05)
    np.testing.assert_allclose(mean, 5, atol=0.1)


@pytest.mark.slow
def test_a_killed_training_ends_alike(tmp_path):
    x, y = feature_cases.parts(24, range(18, 24)), np.repeat([0, 1], [18, 6])

    class KilledError(Exception):
        pass

    class Killer(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KilledError

    def train(folder, *callbacks):
        model = feature_cases.make()
        checkpoints = Checkpoints(tmp_path / folder, every=1)
        how = {"epochs": 1, "steps_per_epoch": 4, "features_folder": tmp_path / "kept", "verbose": 0}
        model.fit(x, y, callbacks=[*callbacks, checkpoints], **how)
        return model

    whole = train("whole")
    with pytest.raises(KilledError):
        train("killed", Killer())
    again = train("killed")
    for one, other in zip(whole.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_a_loaded_model_needs_no_wheel_and_scores_alike(fitted, tmp_path, monkeypatch):
    model, x, _ = fitted
    model.save(tmp_path / "x.keras")
    monkeypatch.setattr("agad_tf.features.sources.efficientnet_lite0", None)
    loaded = keras.saving.load_model(tmp_path / "x.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-4
    )
    loaded.fit(x[:NORMALS], epochs=1, steps_per_epoch=1, verbose=0)  # and can be trained further


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((7,), {}, "take agad_tf.AABiGAN"),
        ((64, 64, 2), {}, "1 or 3 channels"),
        ((60, 64, 1), {}, "64 to 512"),
        ((64, 64, 1), {"members": 0}, "at least 1"),
        ((64, 64, 1), {"score_share": 0.0}, "score_share"),
        ((64, 64, 1), {"score": "reconstruction"}, "score expects"),
    ],
)
def test_what_it_cannot_be_made_with(shape, settings, message):
    with pytest.raises(InputError, match=message):
        feature_cases.make(shape, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": 0.0}, "noise"),
        ({"label_share": 2.0}, "label_share"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_what_it_cannot_be_compiled_with(settings, message):
    with pytest.raises(InputError, match=message):
        feature_cases.make(compiled=settings)


def test_it_needs_normals():
    with pytest.raises(InputError, match="received none"):
        feature_cases.make().fit(feature_cases.parts(4), np.ones(4), verbose=0)
