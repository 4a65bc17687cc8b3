"""Confidence intervals of detection metrics and of means over runs.

Labels and scores as in `agad_tf.evaluation.metrics`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import (
    ROUNDING,
    Sweep,
    auroc,
    check_labels_and_scores,
    check_scores,
    check_share,
)


class MeanInterval(NamedTuple):
    """Mean of repeated runs with its interval; the bounds are None for a single run."""

    mean: float
    low: float | None
    high: float | None
    n: int


def delong_variance(labels: ArrayLike, scores: ArrayLike) -> float:
    """Variance of the AUROC estimate by DeLong, DeLong & Clarke-Pearson (1988), in O(n log n).

    var = var(V10) / m + var(V01) / n over m anomalies and n normals, with the placement values from midranks
    (Sun & Xu 2014, "Fast implementation of DeLong's algorithm", equations 4 to 8): the share of normals below
    an anomaly, the share of anomalies above a normal, ties half.

    Args: as `auroc`, with at least two samples of each kind.

    Raises:
        InputError: see `check_labels_and_scores`; fewer than two normals or anomalies.
    """
    anomaly, _ = check_labels_and_scores(labels, scores)
    m, n = int(anomaly.sum()), int((~anomaly).sum())
    if min(m, n) < 2:
        raise InputError(
            f"DeLong's variance needs at least 2 normals and 2 anomalies, received {n} and {m}: "
            "add samples, or use auroc_interval, which has a wider bound for this case."
        )
    above, below = _placements(labels, scores)
    return float(above.var(ddof=1) / m + below.var(ddof=1) / n)


def auroc_interval(labels: ArrayLike, scores: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the AUROC: DeLong's variance on the logit scale, so it stays inside [0, 1].

    Where DeLong's variance says nothing, a wider bound takes its place (k = the smaller class count):

    * AUROC exactly 1 or 0. Complete separation of k independent pairs has a probability of at most A^k, so
      A >= (alpha / 2)^(1 / k) cannot be rejected: the interval is [(alpha / 2)^(1 / k), 1], mirrored at 0.
    * One sample of a kind, or all scores tied: the variance is at most A (1 - A) / k (van Dantzig 1951).

    Args:
        labels: (n,), 0 or 1.
        scores: (n,), higher is more anomalous.
        confidence: above 0 and below 1.

    Returns:
        (low, high) with 0 <= low <= AUROC <= high <= 1.

    Raises:
        InputError: see `check_labels_and_scores`; ``confidence`` out of range.
    """
    anomaly, values = check_labels_and_scores(labels, scores)
    tail = (1 - check_share(confidence, "confidence")) / 2
    k = int(min(anomaly.sum(), (~anomaly).sum()))
    if values[anomaly].min() > values[~anomaly].max():
        return tail ** (1 / k), 1.0
    if values[anomaly].max() < values[~anomaly].min():
        return 0.0, 1 - tail ** (1 / k)
    area = auroc(labels, scores)
    spread = area * (1 - area)
    variance = delong_variance(labels, scores) if k > 1 else 0.0
    half = stats.norm.isf(tail) * math.sqrt(variance or spread / k) / spread
    return float(special.expit(special.logit(area) - half)), float(special.expit(special.logit(area) + half))


def auroc_difference(
    labels: ArrayLike, scores: ArrayLike, others: ArrayLike, confidence: float = 0.95
) -> tuple[float, float, float]:
    """AUROC of scores less that of other scores of the same samples, with its interval: paired, by DeLong.

    The variance is that of `delong_variance` with the differences of the placement values.

    Args:
        labels: (n,), 0 or 1, at least two of each for an interval.
        scores, others: (n,), higher is more anomalous.
        confidence: above 0 and below 1.

    Returns:
        (difference, low, high); from -1 to 1 with a single sample of a kind, which tells nothing.

    Raises:
        InputError: see `check_labels_and_scores`; ``confidence`` out of range.
    """
    anomaly, _ = check_labels_and_scores(labels, scores)
    tail = (1 - check_share(confidence, "confidence")) / 2
    difference = auroc(labels, scores) - auroc(labels, others)
    if min(anomaly.sum(), (~anomaly).sum()) < 2:
        return difference, -1.0, 1.0
    above, below = (
        one - other
        for one, other in zip(_placements(labels, scores), _placements(labels, others), strict=True)
    )
    deviation = math.sqrt(above.var(ddof=1) / above.size + below.var(ddof=1) / below.size)
    half = float(stats.norm.isf(tail)) * deviation
    return difference, max(-1.0, difference - half), min(1.0, difference + half)


def _placements(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Share of normals below each anomaly, and of anomalies above each normal, ties half."""
    anomaly, values = check_labels_and_scores(labels, scores)
    ranks = stats.rankdata(values)
    above = (ranks[anomaly] - stats.rankdata(values[anomaly])) / (~anomaly).sum()
    below = 1 - (ranks[~anomaly] - stats.rankdata(values[~anomaly])) / anomaly.sum()
    return above, below


def bootstrap_intervals(
    labels: ArrayLike, scores: ArrayLike, draws: int = 1000, seed: int = 0, confidence: float = 0.95
) -> dict[str, tuple[float, float] | None]:
    """Percentile bootstrap intervals; normals and anomalies are resampled apart, so their numbers stay.

    Args:
        labels: (n,), 0 or 1.
        scores: (n,), higher is more anomalous.
        draws: number of resamples, at least 100.
        seed: of the resampling; the result does not depend on the order of the rows.
        confidence: above 0 and below 1.

    Returns:
        (low, high) by name: average_precision, tpr_at_fpr_01, tpr_at_fpr_05, best_f1. None where every draw
        gave the same value (complete separation, say): the bootstrap then says nothing about the error.

    Raises:
        InputError: see `check_labels_and_scores`; ``draws`` or ``confidence`` out of range.
    """
    anomaly, values = check_labels_and_scores(labels, scores)
    tail = (1 - check_share(confidence, "confidence")) / 2
    if draws < 100:
        raise InputError(f"Expected at least 100 bootstrap draws, received {draws}: take 1000.")
    distinct, group = np.unique(-values, return_inverse=True)
    kinds = np.sort(group[anomaly]), np.sort(group[~anomaly])
    rng = np.random.default_rng(seed)
    drawn = np.empty((draws, 4))
    for row in drawn:
        resampled = (kind[rng.integers(kind.size, size=kind.size)] for kind in kinds)
        counts = (np.bincount(groups, minlength=distinct.size) for groups in resampled)
        sweep = Sweep(-distinct, *(np.cumsum(count) for count in counts))
        row[:] = sweep.average_precision(), sweep.tpr_at_fpr(0.01), sweep.tpr_at_fpr(0.05), sweep.f1().max()
    low, high = np.quantile(drawn, (tail, 1 - tail), axis=0)
    names = ("average_precision", "tpr_at_fpr_01", "tpr_at_fpr_05", "best_f1")
    return {
        name: (float(low[i]), float(high[i])) if np.ptp(drawn[:, i]) > ROUNDING else None
        for i, name in enumerate(names)
    }


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> MeanInterval:
    """Mean over seeds or classes with Student's t interval, mean +- t_{n-1} s / sqrt(n).

    Args:
        values: (n,), one figure per run.
        confidence: above 0 and below 1.

    Returns:
        MeanInterval(mean, low, high, n); low and high are None when n is 1. The bounds are not cut at 0 or 1.

    Raises:
        InputError: empty, not 1-D or not finite; ``confidence`` out of range.
    """
    array = check_scores(values, "values")
    tail = (1 - check_share(confidence, "confidence")) / 2
    mean = float(array.mean())
    if array.size == 1:
        return MeanInterval(mean, None, None, 1)
    half = float(stats.t.isf(tail, array.size - 1) * array.std(ddof=1) / math.sqrt(array.size))
    return MeanInterval(mean, mean - half, mean + half, array.size)
