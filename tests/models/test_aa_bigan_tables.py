"""AA-BiGAN on tables: raw rows in, scaled inside by the training normals, and what it refuses."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from bigan_cases import make, rows

from agad_tf import quota_batches
from agad_tf.errors import InputError

NORMALS, ANOMALIES = rows(24), rows(4, seed=1) * 3
X, Y = np.concatenate([NORMALS, ANOMALIES]), np.repeat([0, 1], [24, 4])
EAGER = {"run_eagerly": True, "generator_optimizer": "sgd", "discriminator_optimizer": "sgd"}


def fit(x=X, y=Y, **arguments):
    """A model trained for a step."""
    model = make(compile_with=EAGER, number="tables", **arguments)
    model.fit(x, y, batch_size=28, min_anomalies=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def fitted():
    """A trained model for tests that leave it as it is."""
    model = make(compile_with=EAGER, number="fitted table")
    model.fit(X, Y, batch_size=28, min_anomalies=4, verbose=0)
    return model


def limits(model):
    return [np.array(weight) for weight in (model.preprocess.minimum, model.preprocess.range)]


def test_raw_rows_are_scaled_by_the_training_normals_alone(fitted):
    minimum, spread = NORMALS.min(0), np.ptp(NORMALS, axis=0)
    np.testing.assert_allclose(limits(fitted), [minimum, spread], rtol=1e-5)
    scaled = np.clip((X - minimum) / spread, -0.5, 1.5)  # the default limit, which some anomalies are beyond
    assert (scaled[Y == 0] < 1.5).all()
    assert (scaled[Y == 1] == 1.5).any()
    np.testing.assert_allclose(fitted.preprocess(X), scaled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted(X), fitted.raw_score("reconstruction", tf.constant(scaled)), rtol=1e-4)
    np.testing.assert_allclose(fitted.predict(X, verbose=0), fitted(X), rtol=1e-5)


def test_units_of_the_columns_do_not_matter():
    units = np.array([2.0**-9, 1, 2**5, 2**12, 4], "float32")  # powers of 2: the same digits
    expected = fit().predict(X, verbose=0)
    np.testing.assert_array_equal(fit(X * units).predict(X * units, verbose=0), expected)


def test_rows_of_any_number_type_score_alike(fitted):
    whole = np.round(X)
    expected = fitted.predict(whole, verbose=0)
    for kind in (np.int64, np.float64):
        np.testing.assert_allclose(fitted.predict(whole.astype(kind), verbose=0), expected, rtol=1e-6)


def test_reconstruction_and_errors_are_of_scaled_values(fitted):
    reconstruction, errors = fitted.explain(X)
    assert reconstruction.shape == errors.shape == X.shape
    scaled = fitted.preprocess(X)
    np.testing.assert_allclose(errors, np.abs(scaled - reconstruction), atol=1e-6)
    np.testing.assert_allclose(fitted.reconstruct(X), reconstruction, atol=1e-6)
    np.testing.assert_allclose((errors.numpy() ** 2).sum(1), fitted(X), rtol=1e-4)


def test_evaluate(fitted):
    results = fitted.evaluate(X, Y, verbose=0)
    assert set(results) == {"loss", "score_normal", "auroc", "average_precision"}
    scores = fitted.predict(X, verbose=0)
    pairs = scores[Y == 1][:, None] > scores[Y == 0]
    assert results["auroc"] == pytest.approx(pairs.mean())
    assert set(fitted.evaluate(NORMALS, np.zeros(24), verbose=0)) == {"loss", "score_normal"}


def test_constant_columns_are_told_by_position(caplog):
    x = X.copy()
    x[:24, [1, 4]] = 3.0  # the anomalies differ there, which is no use
    with caplog.at_level(logging.WARNING, "agad_tf"):
        model = fit(x)
    assert [record.getMessage() for record in caplog.records if "constant" in record.getMessage()] == [
        "2 of 5 columns are constant among the training normals and are not scaled: 1, 4 (from 0)"
    ]
    assert np.isfinite(model.predict(x, verbose=0)).all()
    np.testing.assert_array_equal(model.preprocess(x).numpy()[:24, [1, 4]], 0)


def test_continued_training_keeps_the_scaling(tmp_path):
    model = fit()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    for one in (model, loaded):
        one.fit(X * 7, Y, batch_size=28, min_anomalies=4, initial_epoch=1, epochs=2, verbose=0)
        np.testing.assert_allclose(limits(one), [NORMALS.min(0), np.ptp(NORMALS, axis=0)], rtol=1e-5)


@pytest.mark.parametrize("kind", ["arrays", "quota batches", "dataset"])
def test_the_scaling_rests_on_every_normal_not_on_a_sample_of_them(kind):
    normals = rows(1100, seed=2)
    normals[-1] = 9 * np.abs(normals).max(0)  # beyond the first 1024, which prepare the scores
    labels = np.repeat([0, 1], [1100, 4])
    x = np.concatenate([normals, ANOMALIES * 1000])
    model = make(compile_with=EAGER)
    if kind == "arrays":
        model.fit(x, labels, batch_size=1104, min_anomalies=4, verbose=0)
    elif kind == "quota batches":
        model.fit(quota_batches(normals, x[1100:], 1104, 4), verbose=0)
    else:
        model.fit(tf.data.Dataset.from_tensor_slices((x, labels)).batch(1104), verbose=0)
    np.testing.assert_allclose(limits(model), [normals.min(0), np.ptp(normals, axis=0)], rtol=1e-5)
    assert len(model._scoring_sample) == 1024


# -- what it refuses -----------------------------------------------------------------------------------------

MISSING, INFINITE, HUGE = X.copy(), X.copy(), X.astype("float64")
MISSING[3:5, 2], INFINITE[0, 1], HUGE[0, 4] = np.nan, -np.inf, 1e300

BAD_ROWS = [
    (MISSING, r"received missing values \(NaN\) in column 2 \(2 rows"),
    (INFINITE, r"received infinite values in column 1 \(1 rows"),
    (HUGE, "finite values within float32, received infinite values in column 4"),
    (X[:, :4], r"rows \(n, 5\), received shape \(28, 4\)"),
    (X[:, :, None], r"rows \(n, 5\), received shape \(28, 5, 1\)"),
    (X[0], r"received shape \(5,\)"),
    (X.astype(str), "expected numbers, received dtype <U.*; encode text columns as numbers"),
]


@pytest.mark.parametrize(("x", "words"), BAD_ROWS)
def test_bad_rows_are_refused_everywhere(x, words):
    model = make()
    labels = np.zeros(len(x))
    calls = [
        lambda: model.fit(x, labels, verbose=0),
        lambda: model.predict(x, verbose=0),
        lambda: model.evaluate(x, labels, verbose=0),
        lambda: model.prepare_scoring(x),
        lambda: model.fit(X, Y, batch_size=14, min_anomalies=2, validation_data=(x, labels)),
    ]
    if x.ndim == 2 and x.dtype != object and x.dtype.kind != "U":
        calls.append(lambda: model.fit(tf.data.Dataset.from_tensor_slices(x).batch(len(x)), verbose=0))
    for call in calls:
        with pytest.raises(InputError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
    assert not float(model.preprocess.adapted)  # nothing was taken from them


def test_images_and_no_rows_are_refused(fitted):
    for x, words in ((np.zeros((3, 8, 8, 1), np.uint8), r"rows \(n, 5\)"), (X[:0], "received none")):
        with pytest.raises(InputError, match=words):
            fitted.predict(x, verbose=0)
