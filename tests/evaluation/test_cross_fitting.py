"""p-values from normals that models were trained on: the promise of 2α, and what cannot be judged."""

import numpy as np
import pytest

from agad_tf.errors import InputError
from agad_tf.evaluation.cross_fitting import cross_p_values, false_alarm_bound


def test_p_values_by_hand():
    held_out, fold = [1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1]
    scores = [[0.0, 0.0], [1.5, 3.5], [2.0, 4.0], [9.0, 9.0], [np.nan, 1.0], [np.inf, 1.0]]
    np.testing.assert_allclose(
        cross_p_values(held_out, fold, scores), [1.0, 3 / 5, 3 / 5, 1 / 5, np.nan, np.nan]
    )


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_false_alarms_are_at_most_twice_the_rate(alpha):
    """A model that fits its normals closely: their own scores promise what it does not keep, the folds do."""
    rng = np.random.default_rng(0)
    n, folds, alarms, naive = 60, 3, [], []
    for _ in range(300):
        x, new = rng.normal(size=(n, 8)), rng.normal(size=(20, 8))
        fold = rng.permutation(n) % folds

        def score(points, train):
            # Distance to the nearest training normal: 0 for one that was trained on.
            return np.sqrt(((points[:, None] - train[None]) ** 2).sum(-1)).min(1)

        held_out = np.zeros(n)
        for one in range(folds):
            held_out[fold == one] = score(x[fold == one], x[fold != one])
        scores = np.stack([score(new, x[fold != one]) for one in range(folds)], 1)
        alarms.append((cross_p_values(held_out, fold, scores) <= alpha).mean())
        naive.append((score(new, x) > np.quantile(score(x, x), 1 - alpha)).mean())
    assert np.mean(alarms) <= 2 * alpha < false_alarm_bound(alpha, n, folds)
    assert np.mean(alarms) >= alpha / 4  # and it does call something an alarm
    assert np.mean(naive) > 0.9  # what the folds are for


def test_the_bound_by_hand_and_its_refusals():
    # 240 normals in three folds at 5 %: 2 (12.05 + 2) / 243.
    assert false_alarm_bound(0.05, 240, 3) == pytest.approx(0.11564, abs=1e-5)
    assert false_alarm_bound(0.05, 10**6, 3) == pytest.approx(0.1, abs=1e-4)
    assert false_alarm_bound(0.6, 10, 3) == 1.0
    for bad in ((0, 240, 3), (1, 240, 3), (0.05, 240, 1), (0.05, 2, 3)):
        with pytest.raises(InputError):
            false_alarm_bound(*bad)


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_the_bound_holds_where_folds_disagree_most(alpha):
    """Models whose scores have scales of their own, the hardest case for p-values of several models: uneven
    folds of 240 normals, each model drawn anew in every training."""
    rng = np.random.default_rng(1)
    n, folds, alarms = 240, 3, []
    fold = np.repeat([0, 1, 2], [100, 80, 60])
    for _ in range(400):
        scale, shift = rng.lognormal(0, 2, folds), rng.normal(0, 3, folds)
        held_out = rng.normal(size=n) * scale[fold] + shift[fold]
        scores = rng.normal(size=(200, 1)) * scale + shift  # one sample, as every model sees it
        alarms.append((cross_p_values(held_out, fold, scores) <= alpha).mean())
    assert alpha / 4 < np.mean(alarms) <= false_alarm_bound(alpha, n, folds)


@pytest.mark.parametrize(
    ("held_out", "fold", "scores"),
    [
        ([], [], [[1.0]]),
        ([1.0], [0, 1], [[1.0]]),
        ([1.0], [1], [[1.0]]),
        ([np.nan], [0], [[1.0]]),
        ([1.0], [0], [1.0]),
    ],
)
def test_what_does_not_belong_together(held_out, fold, scores):
    with pytest.raises(InputError, match="expected"):
        cross_p_values(held_out, fold, scores)
