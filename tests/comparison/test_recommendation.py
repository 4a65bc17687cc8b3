"""The rule that recommends a detector: folds by kind, paired intervals, much cheaper ones of equals."""

import numpy as np
import pytest

from agad_tf.comparison.recommendation import ENOUGH, FoldScores, fold_auroc, folds_of, recommend
from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import auroc

FOLDS = np.repeat([0, 1], 10)


def scores(shift, noise=1.0, seed=0):
    """Of a detector that lifts anomalies by `shift`; the samples are the same for one seed."""
    rng = np.random.default_rng(seed)
    return FoldScores(noise * rng.normal(size=(2, 100)), noise * rng.normal(size=20) + shift)


def test_auroc_is_the_rank_statistic_with_ties():
    rng = np.random.default_rng(0)
    normal, anomaly = rng.integers(0, 5, 40), rng.integers(2, 7, 12)
    expected = auroc(np.repeat([0, 1], [40, 12]), np.concatenate([normal, anomaly]))
    assert fold_auroc(normal, anomaly) == pytest.approx(expected, abs=1e-12)


def test_a_kind_is_never_in_two_folds():
    kinds = np.array(["a"] * 7 + ["b"] * 3 + ["c"] * 3 + ["d"] * 2)
    folds = folds_of(kinds)
    assert set(folds) == {0, 1, 2}
    for kind in "abcd":
        assert len(set(folds[kinds == kind])) == 1
    assert np.bincount(folds).max() == 7  # the small ones share


def test_one_kind_is_dealt_out():
    assert np.bincount(folds_of(["a"] * 9)).tolist() == [3, 3, 3]


def test_the_better_one_where_it_can_be_told_apart():
    made = recommend(
        {"weak": scores(0.2), "strong": scores(4.0)}, FOLDS, {"weak": 1, "strong": 9}, ["weak", "strong"]
    )
    assert made.detector == "strong"
    assert made.tied == ("strong",)
    assert made.figures["strong"] > 0.95 > made.figures["weak"]


def test_the_cheaper_one_where_it_cannot():
    alike = {"slow": scores(2.0, seed=1), "fast": scores(2.0)}
    made = recommend(alike, FOLDS, {"slow": 99, "fast": 1}, ["slow", "fast"])
    assert made.figures["slow"] > made.figures["fast"]
    assert made.detector == "fast"
    assert set(made.tied) == {"slow", "fast"}
    assert "cannot be told apart from slow" in made.reason
    # Seconds are no reason to take the worse one.
    made = recommend(alike, FOLDS, {"slow": 9, "fast": 1}, ["slow", "fast"])
    assert made.detector == "slow"
    assert "the best of them" in made.reason


def test_without_labels_the_stated_order():
    made = recommend({}, np.zeros(0, int), {"b": 1.0, "a": 2.0}, ["failed", "a", "b"])
    assert made.detector == "a"
    assert f"fewer than {ENOUGH}" in made.reason
    with pytest.raises(InputError, match="received none"):
        recommend({}, np.zeros(0, int), {}, ["a"])
