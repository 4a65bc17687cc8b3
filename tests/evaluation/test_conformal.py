"""Conformal thresholds: guarantees by hand and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import (
    normals_needed,
    p_values,
    threshold_for_false_alarm_rate,
)


def _one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# --- p-values -----------------------------------------------------------------------------------------------


def test_p_values_by_hand():
    found = p_values([3, 1, 2, 2], [0, 1, 2, 2.5, 3, 4])
    assert found.tolist() == [1.0, 1.0, 0.8, 0.4, 0.4, 0.2]  # ties with a calibration score count as at least


@pytest.mark.parametrize("decimals", [1, None])
def test_p_values_of_fresh_normals_are_valid(decimals):
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(4000, 21))
    draws = draws if decimals is None else draws.round(decimals)
    found = np.array([p_values(row[:-1], row[-1:])[0] for row in draws])
    for level in (0.05, 0.1, 0.2, 0.5):
        error = math.sqrt(level * (1 - level) / 4000)
        assert np.mean(found <= level) <= level + 2 * error
        if decimals is None:
            # Without ties it is exact at the levels that 21 ranks can reach.
            assert np.mean(found <= level) == pytest.approx(math.floor(level * 21) / 21, abs=3 * error)


@pytest.mark.parametrize("decimals", [0, 1, None])
@pytest.mark.parametrize("rate", [0.05, 0.07, 0.1, 0.29, 0.5, 0.9])
def test_the_threshold_decides_as_the_p_value(rate, decimals):
    rng = np.random.default_rng(1)
    for n in (20, 33, 100):
        normals, fresh = rng.exponential(size=n), rng.exponential(2, size=300)
        if decimals is not None:
            normals, fresh = normals.round(decimals), fresh.round(decimals)
        threshold = threshold_for_false_alarm_rate(normals, rate)
        assert np.array_equal(fresh > threshold, p_values(normals, fresh) <= rate + 1e-12)


# --- threshold for a false-alarm rate -----------------------------------------------------------------------


def test_marginal_threshold_by_hand():
    assert threshold_for_false_alarm_rate(range(1, 20), 0.05) == 19  # 19 normals: only above all of them
    assert threshold_for_false_alarm_rate(range(1, 40), 0.05) == 38  # 39: floor(.05 * 40) = 2 ranks above
    assert threshold_for_false_alarm_rate(range(1, 100), 0.29) == 71  # .29 * 100 is 28.999999999999996
    assert threshold_for_false_alarm_rate([5, 5, 5], 0.5) == 5


def test_threshold_with_confidence_is_the_smallest_that_keeps_the_bound():
    for n, rate, confidence in (
        (59, 0.05, 0.95),
        (100, 0.05, 0.95),
        (500, 0.01, 0.95),
        (200, 0.1, 0.8),
        (1, 0.5, 0.5),
    ):
        k = int(threshold_for_false_alarm_rate(range(1, n + 1), rate, confidence))  # a score is its rank
        assert stats.beta.cdf(rate, n + 1 - k, k) >= confidence - 1e-12
        assert k == 1 or stats.beta.cdf(rate, n + 2 - k, k - 1) < confidence


@pytest.mark.parametrize(("rate", "confidence"), [(0.05, 0.95), (0.1, 0.5), (0.02, 0.9)])
def test_threshold_with_confidence_for_many_sizes(rate, confidence):
    # The j-th score from the top keeps the rate when at least j of n normals lie above the true quantile:
    # P(Beta(j, n + 1 - j) <= rate) = P(Binomial(n, rate) >= j).
    for n in range(normals_needed(rate, confidence), 400):
        j = 1
        while stats.binom.sf(j, n, rate) >= confidence:  # P(Binomial >= j + 1)
            j += 1
        assert threshold_for_false_alarm_rate(range(n), rate, confidence) == n - j


def test_normals_needed_by_hand():
    assert [normals_needed(rate) for rate in (0.5, 0.1, 0.05, 0.01, 0.3)] == [1, 9, 19, 99, 3]
    assert normals_needed(0.05, 0.95) == 59  # the least n with .95^n <= .05
    assert normals_needed(0.01, 0.95) == 299
    assert normals_needed(0.5, 0.75) == 2  # .5^2 = .25 exactly
    for rate in (0.01, 0.03, 0.05, 0.1, 0.3):
        for confidence in (None, 0.5, 0.9, 0.95, 0.99):
            n = normals_needed(rate, confidence)
            assert threshold_for_false_alarm_rate(range(n), rate, confidence) == n - 1
            if n > 1:
                with pytest.raises(InputError):
                    threshold_for_false_alarm_rate(range(n - 1), rate, confidence)


def test_too_few_normals_says_how_many_more():
    with pytest.raises(InputError) as error:
        threshold_for_false_alarm_rate(range(40), 0.01)
    assert _one_line(error) == (
        "A false-alarm rate of 0.01 needs 99 held-out normals, received 40: "
        "add 59 more, or ask for a rate of 0.0244 or more."
    )
    assert threshold_for_false_alarm_rate(range(40), 0.0244) == 39  # what it offers works
    with pytest.raises(InputError) as error:
        threshold_for_false_alarm_rate(range(40), 0.05, confidence=0.95)
    assert _one_line(error) == (
        "A false-alarm rate of 0.05 with confidence 0.95 needs 59 held-out normals, "
        "received 40: add 19 more, or ask for a rate of 0.0722 or more."
    )
    assert threshold_for_false_alarm_rate(range(40), 0.0722, confidence=0.95) == 39


@pytest.mark.parametrize(
    "draw",
    [lambda rng, n: np.abs(rng.standard_t(1.5, n)), lambda rng, n: np.round(20 * rng.exponential(size=n))],
)
def test_guarantees_hold_in_simulation(draw):
    rng = np.random.default_rng(2)
    population = draw(rng, 400_000)  # stands in for the true rate above a threshold
    splits, n, rate = 400, 150, 0.05
    marginal, bounded = np.array(
        [
            [
                np.mean(population > threshold_for_false_alarm_rate(normals, rate, confidence))
                for confidence in (None, 0.9)
            ]
            for normals in (draw(rng, n) for _ in range(splits))
        ]
    ).T
    assert rate / 2 <= marginal.mean() <= rate + 2 * marginal.std(ddof=1) / math.sqrt(splits)
    assert np.mean(bounded <= rate) >= 0.9 - 2 * math.sqrt(0.9 * 0.1 / splits)
    assert np.mean(marginal <= rate) < 0.9  # the marginal threshold does not give the stronger promise
