"""p-values from normals that models were trained on: the promise of 2α, and what cannot be judged."""

import numpy as np
import pytest

from agad_tf.errors import InputError
from agad_tf.evaluation.cross_fitting import cross_p_values


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
    assert np.mean(alarms) <= 2 * alpha
    assert np.mean(alarms) >= alpha / 4  # and it does call something an alarm
    assert np.mean(naive) > 0.9  # what the folds are for


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
