"""The cheapest baseline on the split of a run: whether a detector is worth its price."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np

from agad_tf.baselines import BASELINES
from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.intervals import auroc_difference, auroc_interval
from agad_tf.evaluation.metrics import auroc
from agad_tf.features.efficientnet_lite import weights_file
from agad_tf.models.agad_scorer import PHOTOGRAPHS
from agad_tf.training.directory import read_json, write_json
from agad_tf.training.loading import default_image_size

logger = logging.getLogger("agad_tf")

FILE = "baseline.json"
"""Of a run: what `beside` found."""
ENOUGH_LABELS = 8
"""Labelled anomalies from which on the baseline of a table learns from them."""
SIDE, NORMALS, TESTED = 192, 200, 300
"""With features: largest side, normals and test samples that are looked at; the rest would take too long."""
ROWS = 5000
"""Normals that trees are made of."""


def beside(evaluation: Evaluation, *, baseline: bool = True) -> dict | None:
    """How well the cheapest baseline does on the test of a detector, fitted to the same training part.

    Args:
        evaluation: of the detector.
        baseline: whether to look at all.

    Returns:
        `detector`, `auroc`, `auroc_interval`, `auroc_of_detector`, `difference` and `difference_interval`
        (baseline less detector), `ahead` (the interval lies above 0), `behind`, `tested` and `seconds`; None
        where it is switched off, where the test holds one kind alone, or where it is the detector itself.
    """
    samples, split = evaluation.samples, evaluation.split
    labels = evaluation.labels
    if not baseline or not 0 < labels.sum() < len(labels) or not len(split.train_normal):
        return None
    started = time.monotonic()
    name = cheapest(samples, split)
    if type(evaluation.model) is BASELINES[name]:
        return None
    picked = _picked(labels, TESTED if name == "mahalanobis" else len(labels))
    scores = _scores(name, samples, split, evaluation.rows[picked])
    labels, own = labels[picked], np.asarray(evaluation.scores)[picked]
    difference, low, high = auroc_difference(labels, scores, own)
    return {
        "detector": name,
        "auroc": auroc(labels, scores),
        "auroc_interval": list(auroc_interval(labels, scores)),
        "auroc_of_detector": auroc(labels, own),
        "difference": difference,
        "difference_interval": [low, high],
        "ahead": low > 0,
        "behind": high < 0,
        "tested": len(labels),
        "seconds": round(time.monotonic() - started, 2),
    }


def kept_beside(evaluation: Evaluation, run: Path) -> dict | None:
    """What `beside` found on the own test of a run, looked at once and kept in the run."""
    file = run / FILE
    if file.is_file():
        return read_json(file) or None
    found = beside(evaluation)
    try:
        write_json(file, found or {})
    except OSError as error:
        logger.warning("%s: not kept (%s): the baseline will be computed again", file, error.strerror)
    return found


def cheapest(samples: Samples, split: Split) -> str:
    """The name of the baseline for some data: what is known of them decides, and no score."""
    if samples.x.ndim == 2:
        return "stacked" if len(split.train_anomaly) >= ENOUGH_LABELS else "neighbours"
    if min(samples.x.shape[1:3]) < PHOTOGRAPHS:
        return "pca"
    try:
        weights_file()
    except InputError:
        return "pca"
    return "mahalanobis"


def _scores(name: str, samples: Samples, split: Split, rows: np.ndarray) -> np.ndarray:
    normals, most = split.train_normal, {"stacked": ROWS, "mahalanobis": NORMALS}.get(name)
    if most is not None and len(normals) > most:
        normals = np.sort(np.random.default_rng(0).permutation(normals)[:most])
    encoding = {} if samples.encoding is None else {"encoding": samples.encoding}
    if name == "stacked":
        detector = BASELINES[name](samples.x.shape[1:], **encoding)
        train = np.concatenate([normals, split.train_anomaly])
        detector.fit(samples.x[train], np.isin(train, split.train_anomaly).astype(int), verbose=0)
        return np.asarray(detector.predict(samples.x[rows], verbose=0), np.float64)
    shape = samples.x.shape[1:]
    if samples.x.ndim == 4:
        size = default_image_size(shape[:2], name)
        shape = (*(min(side, SIDE) for side in size), shape[-1])
    detector = BASELINES[name](shape, **encoding)
    detector.adapt(samples.x[normals])
    size = detector.scoring_batch
    parts = [
        np.asarray(detector(np.asarray(samples.x[rows[start : start + size]])))
        for start in range(0, len(rows), size)
    ]
    return np.concatenate(parts).astype(np.float64)


def _picked(labels: np.ndarray, most: int) -> np.ndarray:
    """Positions of at most so many, of each label half if there are so many of it."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rng = np.random.default_rng(0)
    by_label = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    half = most // 2
    fewer = min(len(rows) for rows in by_label)
    most_of_each = half if fewer >= half else most - fewer
    return np.sort(np.concatenate([rows[:most_of_each] for rows in by_label]))
