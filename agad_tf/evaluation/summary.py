"""All detection metrics of one set of scores, with their intervals.

from agad_tf.evaluation.summary import summarise
summarise([0, 0, 1, 1], [.1, .4, .35, .8])["auroc"]  # 0.75
"""

from __future__ import annotations

from collections.abc import Iterable

from numpy.typing import ArrayLike

from agad_tf.evaluation.intervals import auroc_interval, bootstrap_intervals
from agad_tf.evaluation.metrics import (
    auroc,
    average_precision,
    best_f1,
    check_labels_and_scores,
    known_and_unseen,
    tpr_at_fpr,
)

COMPARING = (
    "auroc",
    "average_precision",
    "tpr_at_fpr_01",
    "tpr_at_fpr_05",
    "best_f1",
    "auroc_known",
    "auroc_unseen",
)
FIGURES = (*COMPARING, *(f"{name}_interval" for name in COMPARING), "best_f1_threshold", "interval_method")
"""What `summarise` gives beside the numbers of samples; all of it compares normals with anomalies."""


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
        interval_method. None for what cannot be said (see `bootstrap_intervals` and `known_unseen_auroc`):
        of normals alone, or anomalies alone, everything but their number.

    Raises:
        InputError: see `check_labels_and_scores` and `known_unseen_auroc`; one kind alone is no error here.
    """
    anomaly, values = check_labels_and_scores(labels, scores, one_kind=True)
    numbers = {"n_normal": int((~anomaly).sum()), "n_anomaly": int(anomaly.sum())}
    if not all(numbers.values()):
        return dict.fromkeys(FIGURES) | numbers
    f1, threshold = best_f1(anomaly, values)
    result = numbers | {
        "auroc": auroc(anomaly, values),
        "auroc_interval": list(auroc_interval(anomaly, values)),
        "average_precision": average_precision(anomaly, values),
        "tpr_at_fpr_01": tpr_at_fpr(anomaly, values, 0.01),
        "tpr_at_fpr_05": tpr_at_fpr(anomaly, values, 0.05),
        "best_f1": f1,
        "best_f1_threshold": threshold,
    }
    for name, interval in bootstrap_intervals(anomaly, values, draws, seed).items():
        result[f"{name}_interval"] = None if interval is None else list(interval)
    parts = (None, None) if classes is None else known_and_unseen(anomaly, classes, known_classes)
    for name, rows in zip(("auroc_known", "auroc_unseen"), parts, strict=True):
        there = rows is not None and anomaly[rows].any()
        result[name] = auroc(anomaly[rows], values[rows]) if there else None
        result[f"{name}_interval"] = list(auroc_interval(anomaly[rows], values[rows])) if there else None
    result["interval_method"] = (
        "95 %; AUROC: DeLong on the logit scale; others: percentile bootstrap "
        f"within normals and anomalies, {draws} draws, seed {seed}"
    )
    return result
