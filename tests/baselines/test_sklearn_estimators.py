"""Detectors as scikit-learn estimators: its own checks, pipelines, searches, and what is refused."""

import inspect
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from agad_tf import AABiGAN
from agad_tf.errors import InputError
from agad_tf.sklearn import (
    AABiGANEstimator,
    IsolationForestEstimator,
    NeighboursEstimator,
    OneClassSVMEstimator,
    estimators,
)

# scikit-learn hands class numbers to outlier detectors and expects them to be ignored. They are refused here:
# a 0 could mean either. Array types other than NumPy's are not supported.
NOT_OURS = {"check_array_api_input", "check_classifier_data_not_an_array"}


def rows(seed=0, normals=120, anomalies=12):
    x, _ = make_blobs(normals, 5, centers=1, random_state=seed)
    odd = np.random.default_rng(seed).uniform(x.min() - 20, x.max() + 20, (anomalies, 5))
    order = np.random.default_rng(seed).permutation(normals + anomalies)
    return np.concatenate([x, odd])[order], np.repeat([1, -1], [normals, anomalies])[order]


def ignoring_labels(cls):
    class Ignoring(cls):
        def fit(self, X, y=None):  # noqa: N803
            return super().fit(X)

    assert inspect.signature(Ignoring) == inspect.signature(cls)
    # One of the checks pickles it.
    Ignoring.__qualname__ = Ignoring.__name__ = f"Ignoring{cls.__name__}"
    return globals().setdefault(Ignoring.__name__, Ignoring)


def failures(cls, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(ignoring_labels(cls)(**settings), on_fail=None, on_skip=None)
    assert len(done) > 40
    return {one["check_name"]: one["exception"] for one in done if one["status"] != "passed"}


def test_scikit_learns_own_checks():
    found = failures(OneClassSVMEstimator)
    assert not found.keys() - NOT_OURS, found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aa_bigan", "deep_sad"])
def test_scikit_learns_own_checks_of_detectors_that_train_by_steps(name):
    found = failures(estimators()[name], epochs=1, batch_size=16)
    assert not found.keys() - NOT_OURS, found


@pytest.mark.slow
def test_scikit_learns_own_checks_of_a_forest():
    """In another order the means over its trees differ in the last bit, which one check forbids."""
    found = failures(estimators()["isolation_forest"])
    assert not found.keys() - NOT_OURS - {"check_methods_sample_order_invariance"}, found


def test_every_detector_has_an_estimator_with_its_settings():
    from agad_tf.baselines import BASELINES
    from agad_tf.training.configuration import DETECTORS

    assert estimators().keys() == (DETECTORS | BASELINES).keys()
    settings = AABiGANEstimator(latent_dim=3, epochs=2).get_params()
    assert settings["latent_dim"] == 3
    assert settings["epochs"] == 2
    assert settings["detector_score"] == "auto"
    assert settings["min_anomalies"] == inspect.signature(AABiGAN.fit).parameters["min_anomalies"].default
    with pytest.raises(TypeError, match="received 'latent'"):
        AABiGANEstimator(latent=3)


def test_pipeline_cross_validation_and_search():
    x, y = rows()
    model = make_pipeline(StandardScaler(), IsolationForestEstimator(n_estimators=20))
    scores = cross_val_score(model, x, y, scoring="roc_auc", cv=3)
    assert scores.min() > 0.9
    grid = {"isolationforestestimator__n_estimators": [5, 20]}
    search = GridSearchCV(model, grid, scoring="roc_auc", cv=2, n_jobs=1).fit(x, y)
    assert search.best_params_["isolationforestestimator__n_estimators"] in (5, 20)
    assert set(model.fit(x, y).predict(x)) == {1, -1}


@pytest.mark.slow
def test_labels_are_used_and_a_seed_fixes_the_scores():
    x, y = rows()
    model = AABiGANEstimator(epochs=2, batch_size=32, min_anomalies=4, random_state=5)
    first = model.fit(x, y).score_samples(x)
    assert np.abs(first - clone(model).fit(x).score_samples(x)).max() > 1e-3
    np.testing.assert_array_equal(first, clone(model).fit(x, y).score_samples(x))
    np.testing.assert_allclose(model.decision_function(x), first - model.offset_)


def test_the_false_alarm_rate_is_kept_on_fresh_normals():
    x, y = rows(normals=2000, anomalies=1)
    x = x[y == 1]
    model = IsolationForestEstimator(false_alarm_rate=0.1).fit(x[:1000])
    assert 0.05 < np.mean(model.predict(x[1000:]) == -1) < 0.16


def test_images_as_they_are():
    images = (load_digits().images[:60] * 15).astype(np.uint8)[..., None]
    model = IsolationForestEstimator(n_estimators=5).fit(images)
    assert model.predict(images).shape == (60,)


def test_labels_of_another_convention_are_refused():
    x, y = rows()
    with pytest.raises(InputError, match=r"1 \(normal\) and -1 \(anomaly\).*np.where"):
        IsolationForestEstimator().fit(x, (y == -1).astype(int))
    with pytest.raises(InputError, match="received 3 for 132 samples"):
        IsolationForestEstimator().fit(x, y[:3])


def test_mixed_frames():
    pandas = pytest.importorskip("pandas", reason="pandas is an optional extra")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"a": rng.normal(size=120), "kind": rng.choice(["x", "y"], 120)})
    detector = NeighboursEstimator().fit(frame)
    strange = pandas.DataFrame({"a": [0.0, 0.0], "kind": ["x", "z"]})
    assert np.diff(detector.score_samples(strange))[0] < 0
    frame.loc[::9, "a"] = None
    with pytest.raises(ValueError, match="missing values in column 'a'"):
        NeighboursEstimator().fit(frame)
    detector = NeighboursEstimator(missing="indicator").fit(frame)
    assert np.isfinite(detector.score_samples(frame)).all()
    assert detector.feature_names_in_.tolist() == ["a", "kind"]
    numbers = frame[["a"]].to_numpy(np.float64)
    assert np.isfinite(NeighboursEstimator(missing="median").fit(numbers).score_samples(numbers)).all()
