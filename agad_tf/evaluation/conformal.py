"""Conformal p-values, and thresholds whose false-alarm rate is guaranteed for finite samples.

A sample is called an anomaly when **score > threshold**, strictly. A threshold for a wanted false-alarm rate
is one of the calibration scores itself, so with the strict rule a tie with it is no alarm and the guarantee
holds for tied scores too. NumPy and SciPy only.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from agad_tf.errors import InputError
from agad_tf.evaluation.decisions import Decision
from agad_tf.evaluation.metrics import ROUNDING, check_scores, check_share


def p_values(calibration_scores: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Conformal p-value of each score: (1 + #{calibration scores >= score}) / (n + 1).

    For a fresh normal P(p <= a) <= a for every a, whatever the distribution of the scores, as long as it is
    exchangeable with the calibration normals (Vovk, Gammerman & Shafer, "Algorithmic learning in a random
    world", 2005, chapter 2).

    Args:
        calibration_scores: (n,) scores of held-out normals.
        scores: (m,) scores to judge.

    Returns:
        float64 (m,), from 1 / (n + 1) to 1; small means unlike the normals. NaN for a score that is NaN or
        infinite.

    Raises:
        InputError: calibration scores that are not finite, not 1-D or empty.
    """
    return Decision(check_scores(calibration_scores, "calibration scores"), math.nan).p_values(scores)


def normals_needed(rate: float, confidence: float | None = None) -> int:
    """Fewest calibration normals with which a threshold can promise ``rate``.

    Args:
        rate: wanted false-alarm rate, above 0 and below 1.
        confidence: None for the marginal guarantee, otherwise above 0 and below 1.

    Returns:
        ceil(1 / rate) - 1, or with confidence the least n for which 1 - (1 - rate)^n >= confidence.

    Raises:
        InputError: an argument out of range.
    """
    rate = check_share(rate, "false-alarm rate")
    if confidence is None:
        return max(1, math.ceil(1 / rate - ROUNDING) - 1)
    confidence = check_share(confidence, "confidence")
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-rate) - ROUNDING))


def threshold_for_false_alarm_rate(
    normal_scores: ArrayLike, rate: float, confidence: float | None = None
) -> float:
    """Smallest calibration score that keeps false alarms at or under ``rate``, guaranteed for finite samples.

    Without ``confidence``, split conformal: the k-th smallest of n scores, k = n + 1 - floor(rate (n + 1)).
    P(fresh normal > threshold) <= rate, on average over calibration sets as well as fresh normals (marginal);
    the decision is that of `p_values` <= rate. Lei et al., "Distribution-free predictive inference for
    regression", JASA 2018.

    With ``confidence``, for this one calibration set: the false-alarm rate of the k-th smallest score is
    Beta(n + 1 - k, k) distributed over calibration sets (stochastically less with ties), and k is the
    smallest with P(Beta <= rate) >= confidence. Vovk, "Conditional validity of inductive conformal
    predictors", ACML 2012.

    Args:
        normal_scores: (n,) scores of held-out normals, in any order.
        rate: wanted false-alarm rate, above 0 and below 1.
        confidence: None, or above 0 and below 1 (.95, say).

    Returns:
        The threshold; a sample is called an anomaly when its score > threshold.

    Raises:
        InputError: too few normals (says how many are needed and how many more); scores that are not finite;
            an argument out of range.
    """
    ascending = np.sort(check_scores(normal_scores, "normal scores"))
    n, needed = ascending.size, normals_needed(rate, confidence)
    if n < needed:
        reachable = 1 / (n + 1) if confidence is None else -math.expm1(math.log1p(-confidence) / n)
        at = "" if confidence is None else f" with confidence {confidence:g}"
        raise InputError(
            f"A false-alarm rate of {rate:g}{at} needs {needed} held-out normals, received {n}: "
            f"add {needed - n} more, or ask for a rate of {_rounded_up(reachable)} or more."
        )
    if confidence is None:
        above = min(n, math.floor(rate * (n + 1) + ROUNDING))
    else:
        j = np.arange(1, n + 1)  # j = n + 1 - k; P(Beta(j, n + 1 - j) <= rate) falls with j
        above = np.count_nonzero(special.betainc(j, n + 1 - j, rate) >= confidence - ROUNDING)
    return float(ascending[n - above])


def _rounded_up(rate: float) -> str:
    return f"{math.ceil(rate * 1e4 - ROUNDING) / 1e4:g}"
