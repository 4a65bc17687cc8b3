"""Neighbours, boosted trees and the stack of both: formulas, out-of-fold columns, what is needed."""

import numpy as np
import pytest

from agad_tf.baselines import BASELINES, boosting
from agad_tf.baselines.boosting import out_of_fold
from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import auroc


def rows(seed=0, normals=200, anomalies=20):
    """Normals in a ball; half of the anomalies far out, half hidden in one column's sign."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(normals + anomalies, 12))
    x[normals : normals + anomalies // 2] *= 5
    x[:normals, 3] = np.abs(x[:normals, 3])
    x[normals + anomalies // 2 :, 3] = -np.abs(x[normals + anomalies // 2 :, 3]) - 0.1
    return x, np.repeat([0, 1], [normals, anomalies])


def fitted(name, **settings):
    own = {"k": settings.pop("k")} if "k" in settings else {}
    detector = BASELINES[name]((12,), **own)
    detector.compile(**settings)
    detector.fit(*rows(), verbose=0)
    return detector


def test_the_score_of_neighbours_is_the_distance_to_the_kth_normal():
    x, y = rows()
    detector = fitted("neighbours", k=3)
    low, high = x[y == 0].min(axis=0), x[y == 0].max(axis=0)
    scaled = (x - low) / (high - low)
    distances = np.linalg.norm(scaled[y == 1][:, None] - scaled[y == 0][None], axis=-1)
    np.testing.assert_allclose(detector.predict(x[y == 1]), np.sort(distances, axis=1)[:, 2], rtol=1e-5)


@pytest.mark.parametrize("name", ["gradient_boosting", "stacked"])
def test_labels_are_learnt_from(name):
    x, y = rows(seed=1)
    hidden = np.r_[0:200, 210:220]  # nothing but the sign of one column tells these
    learnt = auroc(y[hidden], fitted(name, max_iter=20).predict(x[hidden]))
    assert learnt > 0.95 > auroc(y[hidden], fitted("neighbours").predict(x[hidden])) + 0.05


def test_columns_of_training_normals_are_out_of_fold():
    detector = fitted("stacked", max_iter=5)
    x, y = rows()
    normals = x[y == 0]
    inside = np.asarray(detector.columns(detector.preprocess(normals)))[:, -1]
    out = out_of_fold(detector.flat(normals), seed=0)[:, -1]
    # In the fit each normal is its own nearest neighbour; out of fold it is not, among fewer others.
    assert (out > inside).mean() > 0.95
    np.testing.assert_array_equal(out, out_of_fold(detector.flat(normals), seed=0)[:, -1])


def test_what_no_label_teaches_a_stack_is_not_fitted_again(monkeypatch):
    fitted_to, of = [], boosting.forest_of
    monkeypatch.setattr(boosting, "forest_of", lambda x, *how: fitted_to.append(len(x)) or of(x, *how))
    detector = BASELINES["stacked"]((12,))
    detector.compile(max_iter=5)
    x, y = rows()
    detector.fit(x, y, verbose=0)
    assert fitted_to == [200, 160, 160, 160, 160, 160]
    of_all = detector.predict(x, verbose=0)
    detector.fit(x[:-10], y[:-10], verbose=0)
    assert len(fitted_to) == 6
    assert not np.allclose(detector.predict(x, verbose=0), of_all)
    detector.fit(x[1:], y[1:], verbose=0)
    assert len(fitted_to) == 12


@pytest.mark.parametrize("name", ["gradient_boosting", "stacked"])
def test_without_labels_one_line(name):
    x, y = rows()
    detector = BASELINES[name]((12,))
    with pytest.raises(InputError, match=r"expects labelled anomalies \(label 1\), received none"):
        detector.fit(x[y == 0], verbose=0)
    with pytest.raises(InputError, match="whole number above 0, received 0"):
        detector.compile(max_iter=0)
