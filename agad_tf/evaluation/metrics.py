"""Detection metrics with 95 % intervals, from labels and scores alone.

Everywhere: ``labels`` is (n,), 0 normal and 1 anomaly; ``scores`` is (n,), finite, higher is more anomalous.
A sample is called an anomaly when its score is strictly greater than the threshold.

    from agad_tf.evaluation.metrics import summarise
    summarise([0, 0, 1, 1], [.1, .4, .35, .8])["auroc"]  # 0.75

NumPy, SciPy and scikit-learn only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats
from sklearn.metrics import average_precision_score, roc_auc_score

from agad_tf.errors import InputError

# A share times a count is a whole number only up to rounding (.29 * 100 = 28.999999999999996).
ROUNDING = 1e-9


class MeanInterval(NamedTuple):
    """Mean of repeated runs with its interval; the bounds are None for a single run."""

    mean: float
    low: float | None
    high: float | None
    n: int


def check_scores(scores: ArrayLike, name: str = "scores") -> np.ndarray:
    """Returns ``scores`` as float64 (n,), n >= 1.

    Raises:
        InputError: not numbers, not 1-D, empty, or with a NaN or an infinity.
    """
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"Expected {name} to be numbers in one dimension, received something else: "
            "give one number per sample."
        ) from None
    if array.ndim != 1 or array.size == 0:
        raise InputError(
            f"Expected {name} of shape (n,) with n >= 1, received shape {array.shape}: "
            "give one number per sample."
        )
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise InputError(
            f"Expected finite {name}, received {bad.size} NaN or infinite (first at index "
            f"{bad[0]}): check the input images and the model's weights."
        )
    return array


def check_share(value: float, name: str, upper_included: bool = False) -> float:
    """Returns ``value`` as a float in (0, 1), or (0, 1] with ``upper_included``; InputError otherwise."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not (0 < value < 1 or (upper_included and value == 1)):
        end = "up to 1" if upper_included else "below 1"
        raise InputError(f"Expected {name} above 0 and {end}, received {value!r}: give a share such as 0.05.")
    return float(value)


def check_labels_and_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns ``labels`` as bool (n,) (True = anomaly) and ``scores`` as float64 (n,), both classes present.

    Raises:
        InputError: wrong shape or length, labels other than 0 and 1, scores not finite, one class only.
    """
    values = check_scores(scores)
    raw = np.asarray(labels)
    if raw.shape != values.shape:
        raise InputError(
            f"Expected labels and scores of one length, received labels of shape {raw.shape} "
            f"and scores of shape {values.shape}: give one label per score."
        )
    odd = [] if raw.dtype == bool else [v for v in np.unique(raw).tolist() if v not in (0, 1)]
    if odd:
        raise InputError(
            f"Expected labels 0 (normal) or 1 (anomaly), received {odd[0]!r}: "
            "turn class numbers into 0 and 1 first."
        )
    anomaly = raw.astype(bool)
    if anomaly.all() or not anomaly.any():
        only = "anomalies (1)" if anomaly.all() else "normals (0)"
        raise InputError(
            f"AUROC needs both normals and anomalies, received {anomaly.size} {only} only: "
            "add samples of the other kind, or look at the scores without a metric."
        )
    return anomaly, values


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: P(anomaly scores above normal) + P(tie) / 2, exact over all pairs.

    Args:
        labels: (n,), 0 or 1.
        scores: (n,), higher is more anomalous.

    Returns:
        A value in [0, 1]; 0.5 is chance.

    Raises:
        InputError: see `check_labels_and_scores`.
    """
    return float(roc_auc_score(*check_labels_and_scores(labels, scores)))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision, sum of (R_i - R_{i-1}) P_i over falling thresholds, without interpolation.

    Args, Raises: as `auroc`. Returns a value in (0, 1]; chance is the share of anomalies.
    """
    return float(average_precision_score(*check_labels_and_scores(labels, scores)))


class _Sweep(NamedTuple):
    """Counts of flagged samples while the threshold falls through the distinct scores.

    Row i: everything that scores at least ``values[i]`` is flagged. ``values`` fall strictly.
    """

    values: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray

    def average_precision(self) -> float:
        gained = np.diff(self.true_positives, prepend=0)
        # A resampled sweep may start with rows in which nothing is flagged; they gain nothing.
        flagged = np.maximum(self.true_positives + self.false_positives, 1)
        return float(np.sum(gained * self.true_positives / flagged) / self.true_positives[-1])

    def tpr_at_fpr(self, fpr: float) -> float:
        allowed = math.floor(fpr * self.false_positives[-1] + ROUNDING)
        rows = int(np.searchsorted(self.false_positives, allowed, side="right"))
        return float(self.true_positives[rows - 1] / self.true_positives[-1]) if rows else 0.0

    def f1(self) -> np.ndarray:
        flagged = self.true_positives + self.false_positives
        return 2 * self.true_positives / (flagged + self.true_positives[-1])


def _sweep(anomaly: np.ndarray, scores: np.ndarray) -> _Sweep:
    values, group = np.unique(-scores, return_inverse=True)
    return _Sweep(
        -values,
        np.cumsum(np.bincount(group[anomaly], minlength=values.size)),
        np.cumsum(np.bincount(group[~anomaly], minlength=values.size)),
    )


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float) -> float:
    """Largest share of anomalies that one threshold finds while at most ``fpr`` of the normals are flagged.

    No interpolation between thresholds and no splitting of ties: a rate that a threshold can really deliver.

    Args:
        labels: (n,), 0 or 1.
        scores: (n,), higher is more anomalous.
        fpr: allowed false-positive rate, above 0 and below 1.

    Returns:
        True-positive rate in [0, 1].

    Raises:
        InputError: see `check_labels_and_scores`; ``fpr`` out of range.
    """
    anomaly, values = check_labels_and_scores(labels, scores)
    return _sweep(anomaly, values).tpr_at_fpr(check_share(fpr, "fpr"))


def threshold_below(value: float, scores: np.ndarray) -> float:
    """A threshold t such that ``value`` and every higher one of ``scores`` is > t, and no lower one is.

    Midway to the next lower score, so that a recomputed score may differ by rounding without changing side.
    """
    lower = scores[scores < value]
    if lower.size == 0:
        return float(value - 1e-6 * max(1.0, abs(value)))  # survives a cast to float32
    middle = lower.max() / 2 + value / 2
    return float(middle if middle < value else lower.max())


def best_f1(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Highest F1 over all thresholds and the threshold that gives it (the highest one, where several do).

    The threshold is chosen on the very labels it is judged on: an optimistic figure, fit for comparing
    detectors and not for promising a rate.

    Args, Raises: as `auroc`.

    Returns:
        (f1, threshold); a sample is flagged when its score > threshold.
    """
    anomaly, values = check_labels_and_scores(labels, scores)
    sweep = _sweep(anomaly, values)
    f1 = sweep.f1()
    best = int(np.argmax(f1))
    return float(f1[best]), threshold_below(sweep.values[best], values)


def _known_and_unseen(anomaly, classes, known_classes) -> tuple[np.ndarray, np.ndarray]:
    """Row masks: all normals with the anomalies of known classes, and with those of the other classes."""
    array = np.asarray(classes)
    if array.shape != anomaly.shape:
        raise InputError(
            f"Expected one class per label, received classes of shape {array.shape} for "
            f"{anomaly.size} labels: give the class of every sample, normals included."
        )
    known = np.isin(array, list(known_classes))
    if np.any(known & ~anomaly):
        name = array[known & ~anomaly][0]
        raise InputError(
            f"Expected known_classes to hold anomaly classes only, received class {name}, which "
            "has samples labelled normal: leave it out or mend the labels."
        )
    return ~anomaly | known, ~known


def known_unseen_auroc(
    labels: ArrayLike, scores: ArrayLike, classes: ArrayLike, known_classes: Iterable
) -> tuple[float | None, float | None]:
    """AUROC against anomalies of classes collected for training, and against those of all other classes.

    Args:
        labels: (n,), 0 or 1.
        scores: (n,), higher is more anomalous.
        classes: (n,), class of each sample.
        known_classes: the anomaly classes that training has seen; empty when it has seen none.

    Returns:
        (known, unseen), each against all normals; None where there is no such anomaly.

    Raises:
        InputError: see `check_labels_and_scores`; lengths differ; a known class has normal samples.
    """
    anomaly, values = check_labels_and_scores(labels, scores)
    return tuple(
        float(roc_auc_score(anomaly[rows], values[rows])) if anomaly[rows].any() else None
        for rows in _known_and_unseen(anomaly, classes, known_classes)
    )


def delong_variance(labels: ArrayLike, scores: ArrayLike) -> float:
    """Variance of the AUROC estimate by DeLong, DeLong & Clarke-Pearson (1988), in O(n log n).

    var = var(V10) / m + var(V01) / n over m anomalies and n normals, with the placement values from midranks
    (Sun & Xu 2014, "Fast implementation of DeLong's algorithm", equations 4 to 8): the share of normals below
    an anomaly, the share of anomalies above a normal, ties half.

    Args: as `auroc`, with at least two samples of each kind.

    Raises:
        InputError: see `check_labels_and_scores`; fewer than two normals or anomalies.
    """
    anomaly, values = check_labels_and_scores(labels, scores)
    m, n = int(anomaly.sum()), int((~anomaly).sum())
    if min(m, n) < 2:
        raise InputError(
            f"DeLong's variance needs at least 2 normals and 2 anomalies, received {n} and {m}: "
            "add samples, or use auroc_interval, which has a wider bound for this case."
        )
    ranks = stats.rankdata(values)
    above = (ranks[anomaly] - stats.rankdata(values[anomaly])) / n
    below = 1 - (ranks[~anomaly] - stats.rankdata(values[~anomaly])) / m
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
        sweep = _Sweep(-distinct, *(np.cumsum(count) for count in counts))
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


def summarise(
    labels: ArrayLike,
    scores: ArrayLike,
    classes: ArrayLike | None = None,
    known_classes: Iterable = (),
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict:
    """All detection metrics of one set of scores as a dict that `json.dumps` takes.

    Args:
        labels: (n,), 0 or 1.
        scores: (n,), higher is more anomalous.
        classes: (n,), class of each sample; None where anomalies have no classes.
        known_classes: the anomaly classes that training has seen.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Returns:
        auroc, average_precision, tpr_at_fpr_01, tpr_at_fpr_05, best_f1, auroc_known, auroc_unseen, each with
        its 95 % interval [low, high] under ``<name>_interval``; best_f1_threshold, n_normal, n_anomaly,
        interval_method. None for what cannot be said (see `bootstrap_intervals` and `known_unseen_auroc`).

    Raises:
        InputError: see `check_labels_and_scores` and `known_unseen_auroc`.
    """
    anomaly, values = check_labels_and_scores(labels, scores)
    f1, threshold = best_f1(anomaly, values)
    result = {
        "auroc": auroc(anomaly, values),
        "auroc_interval": list(auroc_interval(anomaly, values)),
        "average_precision": average_precision(anomaly, values),
        "tpr_at_fpr_01": tpr_at_fpr(anomaly, values, 0.01),
        "tpr_at_fpr_05": tpr_at_fpr(anomaly, values, 0.05),
        "best_f1": f1,
        "best_f1_threshold": threshold,
        "n_normal": int((~anomaly).sum()),
        "n_anomaly": int(anomaly.sum()),
    }
    for name, interval in bootstrap_intervals(anomaly, values, draws, seed).items():
        result[f"{name}_interval"] = None if interval is None else list(interval)
    parts = (None, None) if classes is None else _known_and_unseen(anomaly, classes, known_classes)
    for name, rows in zip(("auroc_known", "auroc_unseen"), parts, strict=True):
        there = rows is not None and anomaly[rows].any()
        result[name] = auroc(anomaly[rows], values[rows]) if there else None
        result[f"{name}_interval"] = list(auroc_interval(anomaly[rows], values[rows])) if there else None
    result["interval_method"] = (
        "95 %; AUROC: DeLong on the logit scale; others: percentile bootstrap "
        f"within normals and anomalies, {draws} draws, seed {seed}"
    )
    return result
