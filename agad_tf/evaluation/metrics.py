"""Detection metrics from labels and scores alone; their 95 % intervals are in `intervals`, both in `summary`.

Everywhere: ``labels`` is (n,), 0 normal and 1 anomaly; ``scores`` is (n,), finite, higher is more anomalous.
A sample is called an anomaly when its score is strictly greater than the threshold.

    from agad_tf.evaluation.metrics import auroc
    auroc([0, 0, 1, 1], [.1, .4, .35, .8])  # 0.75

NumPy, SciPy and scikit-learn only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score

from agad_tf.errors import InputError

# A share times a count is a whole number only up to rounding (.29 * 100 = 28.999999999999996).
ROUNDING = 1e-9


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


def check_labels_and_scores(
    labels: ArrayLike, scores: ArrayLike, one_kind: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ``labels`` as bool (n,) (True = anomaly) and ``scores`` as float64 (n,).

    Args:
        labels: (n,), 0 or 1.
        scores: (n,).
        one_kind: accept normals alone or anomalies alone.

    Raises:
        InputError: wrong shape or length, labels other than 0 and 1, scores not finite, one kind only.
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
    if not one_kind and (anomaly.all() or not anomaly.any()):
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


class Sweep(NamedTuple):
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


def _sweep(anomaly: np.ndarray, scores: np.ndarray) -> Sweep:
    values, group = np.unique(-scores, return_inverse=True)
    return Sweep(
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


def known_and_unseen(anomaly, classes, known_classes) -> tuple[np.ndarray, np.ndarray]:
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
        for rows in known_and_unseen(anomaly, classes, known_classes)
    )
