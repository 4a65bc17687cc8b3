"""Detectors that are fitted in one pass: formulas, doors, saving, exports, and that they learn something."""

import contracts
import feature_cases
import numpy as np
import pytest
import tensorflow as tf
from baseline_cases import ROWS, samples
from sklearn import decomposition
from sklearn.datasets import load_digits

from agad_tf.baselines import BASELINES, FITTED_ONCE, TREES
from agad_tf.baselines.on_features import covering
from agad_tf.data.batches.quota import quota_batches
from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import auroc
from agad_tf.export.agreement import FLOAT16, FLOAT32, agreement, rounded_size
from agad_tf.export.onnx import export_onnx
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.tflite import export_tflite
from agad_tf.models.mahalanobis import descriptors, mahalanobis
from agad_tf.scoring.detectors import open_detector
from agad_tf.training.checkpoints import Checkpoints

CLOSED = tuple(name for name in FITTED_ONCE if name not in TREES)  # trees have tests of their own
IMAGES = tuple(name for name in CLOSED if name != "neighbours")
CASES = [(name, (64, 64, 1)) for name in IMAGES] + [("neighbours", (16, 16, 1)), ("neighbours", ROWS)]


def make(name, shape=(64, 64, 1), **settings):
    if name in ("mahalanobis", "nearest_patches"):
        settings = {"features": feature_cases.small_network()} | settings
    if name == "nearest_patches":
        settings = {"kept": 400} | settings
    return BASELINES[name](shape, **settings)


def data(shape, count, seed=0):
    return samples(shape, count, seed) if len(shape) == 1 else feature_cases.parts(count, (), shape, seed)


@pytest.fixture(scope="module", params=CASES, ids=str)
def fitted(request):
    name, shape = request.param
    model = make(name, shape)
    model.fit(data(shape, 30), verbose=0)
    return model, data(shape, 7, 3)


def test_contracts(fitted, tmp_path):
    model, x = fitted
    contracts.check_independence(lambda x: model(x), x)
    contracts.check_inference_mode(model, x)
    contracts.check_predict_is_call(model, x)
    contracts.check_save_and_load(model, x, tmp_path / "m.keras")
    if model.is_table:
        contracts.check_scaling(model, x)
    else:
        images = data((80, 72, 1), 4, 2)
        contracts.check_preprocessing(
            model.predict, images, model.sample_shape[:2], model.preprocess.value_range
        )
        maps = np.asarray(model.anomaly_map(images))
        assert maps.shape == (4, *model.sample_shape[:2])
        assert maps.min() >= 0
    if model.reconstructs:
        contracts.check_explanation(model, x)
    else:
        with pytest.raises(InputError, match="has no reconstructions"):
            model.reconstruct(x)


@pytest.mark.parametrize("form", ["savedmodel", "float32", "float16", "onnx"])
def test_exports_score_like_the_model(fitted, form, tmp_path):
    model, x = fitted
    if form == "savedmodel":
        path = export_saved_model(model, tmp_path / "it")
        explain = tf.saved_model.load(str(path)).signatures["explain"]
        shown = explain(tf.constant(x if not model.is_table else x.astype(np.float64)))
        if model.reconstructs:
            np.testing.assert_allclose(shown["error_map"], model.explain(x)[1], atol=1e-5)
        else:
            np.testing.assert_allclose(shown["anomaly_map"], model.anomaly_map(x), rtol=1e-4, atol=1e-4)
    elif form == "onnx":
        pytest.importorskip("tf2onnx")
        path = export_onnx(model, tmp_path / "it.onnx")
    else:
        path = export_tflite(model, tmp_path / "it.tflite", form)
    scores = EdgeModel(path).score(x) if form.startswith("float") else open_detector(path).scores(x)
    tolerance = FLOAT16 if form == "float16" else FLOAT32
    assert agreement(model.predict(x, verbose=0), scores, rounded_size(model)) <= tolerance


def test_int8_is_refused_in_one_line(fitted, tmp_path):
    model, x = fitted
    with pytest.raises(InputError, match="take float32 or float16"):
        export_tflite(model, tmp_path / "it.tflite", "int8", representative=x)


# -- formulas ------------------------------------------------------------------------------------------------


def test_mahalanobis_is_the_distance_of_descriptors():
    model, x = make("mahalanobis"), feature_cases.parts(40)
    model.fit(x, verbose=0)
    described = np.asarray(descriptors(model.features(model.preprocess(x))))
    mean, whitening = mahalanobis(described)
    expected = np.linalg.norm((described - mean) @ whitening, axis=1)
    # Fitted to features kept in float16.
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=2e-2)


def test_nearest_patches_is_the_largest_distance_to_the_bank():
    model, x = make("nearest_patches"), feature_cases.parts(5, range(3), seed=4)
    model.fit(feature_cases.parts(20), verbose=0)
    grid = np.asarray(model.features(model.preprocess(x)))
    padded = np.pad(grid, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    shifts = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    patches = np.nanmean(shifts, axis=0).reshape(5, 64, 1, -1)
    away = np.linalg.norm(patches - np.asarray(model.bank), axis=-1).min(axis=-1)
    np.testing.assert_allclose(model.predict(x, verbose=0), away.max(axis=1), rtol=1e-4)


def test_patches_that_cover_are_the_farthest_ones():
    points = np.array([[0.0], [0.1], [0.2], [10.0], [10.1], [-7.0]])
    chosen = covering(points, 3, np.random.default_rng(0))
    assert {round(float(points[index, 0])) for index in chosen} == {0, 10, -7}
    assert len(covering(points[[0, 0, 3]], 3, np.random.default_rng(0))) == 2  # copies cover nothing more


def test_pca_redraws_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)) * (9, 7, 5, 4, 3) @ rng.normal(size=(5, 256)) + rng.normal(size=(60, 256))
    x = (x + 128).clip(0, 255).astype(np.uint8).reshape(60, 16, 16, 1)
    model = make("pca", (16, 16, 1), components=5)
    model.fit(x, verbose=0)
    flat = x.reshape(60, -1) / 255
    own = decomposition.PCA(5, svd_solver="full").fit(flat)
    expected = own.inverse_transform(own.transform(flat)).reshape(x.shape).clip(0, 1)
    np.testing.assert_allclose(model.reconstruct(x), expected, atol=1e-3)


def test_errors_of_normals_are_those_of_components_without_them():
    """With as many components as images, components redraw their own images without an error."""
    x = feature_cases.parts(20, (), (16, 16, 1))
    model = make("pca", (16, 16, 1), components=40)
    model.fit(x, verbose=0)
    error = np.asarray(model.anomaly_map(x)).mean()
    assert float(np.mean(model.local.mean)) > 20 * error


def test_neighbours_keep_a_draw_of_too_many(monkeypatch):
    monkeypatch.setattr("agad_tf.models.kept_normals.LARGEST", 50)
    model = make("neighbours", ROWS)
    rows = data(ROWS, 40)
    model.fit(rows, verbose=0)
    kept = np.asarray(model.normals)
    assert kept.shape == (10, 5)
    scaled = np.asarray(model.preprocess(rows))
    assert all((np.abs(scaled - row).max(axis=1) < 1e-6).any() for row in kept)


def test_weights_fill_new_neighbours(tmp_path):
    model, x = make("neighbours", ROWS), data(ROWS, 7, 3)
    model.fit(data(ROWS, 30), verbose=0)
    model.save_weights(tmp_path / "it.weights.h5")
    new, smaller = make("neighbours", ROWS), make("neighbours", ROWS)
    smaller.fit(data(ROWS, 9), verbose=0)
    for other in (new, smaller):
        other.load_weights(tmp_path / "it.weights.h5")
        np.testing.assert_array_equal(other.predict(x, verbose=0), model.predict(x, verbose=0))


# -- doors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_labelled_anomalies_are_left_out_and_a_second_fit_forgets_the_first(name, shape):
    normals, other, x = data(shape, 30), data(shape, 17, 8) // 2, data(shape, 5, 4)
    alone, both = make(name, shape), make(name, shape)
    alone.fit(normals, verbose=0)
    if not both.is_table:  # the scaling of rows is fitted once
        both.fit(other, verbose=0)
    labels = np.repeat([0, 1], [30, 17])
    history = both.fit(
        np.concatenate([normals, other]), labels, validation_data=(x, [0, 0, 0, 1, 1]), verbose=0
    )
    assert len(history.history["val_auroc"]) == 1
    np.testing.assert_array_equal(alone.predict(x, verbose=0), both.predict(x, verbose=0))


@pytest.mark.parametrize("name", CLOSED)
def test_datasets_give_what_arrays_give(name):
    shape = ROWS if name == "neighbours" else (64, 64, 1)
    normals, x = data(shape, 24), data(shape, 5, 4)
    arrays, batches = make(name, shape), make(name, shape)
    arrays.fit(normals, verbose=0)
    batches.fit(tf.data.Dataset.from_tensor_slices(normals).batch(8), verbose=0)
    difference = batches.predict(x, verbose=0) - arrays.predict(x, verbose=0)
    assert np.abs(difference).max() < 1e-4
    quota = quota_batches(normals, normals[:4] // 2, batch_size=8, min_anomalies=2)
    batches.fit(quota, epochs=3, verbose=0)
    contracts.check_scores(lambda x: batches(x), x)


def test_callbacks_and_checkpoints_see_one_epoch(tmp_path, capsys):
    for _ in range(2):
        model = make("pca", (16, 16, 1))
        history = model.fit(
            feature_cases.parts(20, (), (16, 16, 1)), epochs=7, callbacks=[Checkpoints(tmp_path)], verbose=0
        )
    assert "training was finished after epoch 1" in capsys.readouterr().err
    assert history.epoch == [0]  # remembered: nothing was left to do


@pytest.mark.parametrize(
    ("name", "shape", "settings", "expected"),
    [
        ("pca", ROWS, {}, "expects images"),
        ("mahalanobis", ROWS, {}, "expects images"),
        ("nearest_patches", (64, 64, 1), {"kept": 0}, "kept expects a number of at least 1"),
        ("pca", (64, 64, 1), {"components": 0}, "components expects a number of at least 1"),
        ("neighbours", ROWS, {"k": 0}, "k expects a whole number above 0"),
        ("mahalanobis", (64, 64, 2), {}, "1 or 3 channels"),
    ],
)
def test_what_cannot_be_is_one_line(name, shape, settings, expected):
    with pytest.raises(InputError, match=expected):
        make(name, shape, **settings)


def test_what_is_held_out_is_not_fitted_to():
    shape = (16, 16, 1)
    x = data(shape, 24)
    split, first = make("pca", shape), make("pca", shape)
    history = split.fit(x, validation_split=0.25, verbose=0)
    first.fit(x[:18], verbose=0)
    assert "val_loss" in history.history
    np.testing.assert_array_equal(split.predict(x, verbose=0), first.predict(x, verbose=0))


def test_what_is_missing_is_one_line():
    model = make("neighbours", ROWS)
    for door in (lambda x: model.predict(x, verbose=0), model, model.explain):
        with pytest.raises(InputError, match=r"^Neighbours expects fit before predict, .*: call fit$"):
            door(data(ROWS, 3))
    with pytest.raises(InputError, match="expects normal samples"):
        model.fit(data(ROWS, 3), [1, 1, 1], verbose=0)
    with pytest.raises(InputError, match="augment expects None"):
        make("pca").fit(feature_cases.parts(3), augment={"RandomFlip": {}}, verbose=0)


# -- that each learns something ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLOSED)
def test_each_finds_defects(name):
    if name == "neighbours":
        digits = load_digits()
        images = (digits.images * 15).astype(np.uint8)[..., None]
        normal, others = images[digits.target == 0], images[digits.target > 0][:200]
        model, train, x = make(name, (8, 8, 1)), normal[:128], np.concatenate([normal[128:], others])
        labels = np.repeat([0, 1], [len(normal) - 128, 200])
    else:
        model, train = make(name), feature_cases.parts(60)
        x, labels = feature_cases.parts(60, range(30, 60), seed=5), np.repeat([0, 1], 30)
    model.fit(train, verbose=0)
    # Chance is .5 with a standard error of at most .075; random features say little of a bar to neighbours.
    assert auroc(labels, model.predict(x, verbose=0)) > (0.7 if name == "nearest_patches" else 0.8)
