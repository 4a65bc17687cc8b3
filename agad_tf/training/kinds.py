"""Leave one kind out: how well kinds of defects are found that a detector was not shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.intervals import auroc_difference
from agad_tf.evaluation.metrics import auroc
from agad_tf.models import AGAD, AnomalyDetector, FeatureDiscriminator
from agad_tf.models.agad_scorer import PHOTOGRAPHS
from agad_tf.training.localisation import TrainingMasks

logger = logging.getLogger("agad_tf")

MEANS = ("mean_kind_left_out_auroc", "mean_kind_left_out_auroc_without_labels")
KEPT = ("leave_one_kind_out", *MEANS)
"""Metrics that only a training gives."""

MOST = 5
"""Kinds that are left out in turn; each is one more training."""


def is_wanted(evaluation: Evaluation, *, left_out: bool | None = None) -> bool:
    """Whether kinds are left out in turn; never for a detector that cannot do without labels.

    Args:
        evaluation: of the detector.
        left_out: None is for detectors on frozen features alone, which train in seconds.
    """
    if not evaluation.model.uses_anomalies or evaluation.model.needs_anomalies:
        return False
    return isinstance(evaluation.model, FeatureDiscriminator) if left_out is None else left_out


def caution(model: AnomalyDetector, samples: Samples, split: Split, left_out: bool | None) -> str | None:
    """What to know before a detector learns from labels; None where nothing is."""
    if left_out and model.needs_anomalies:
        return (
            f"left_out=true has no effect: {type(model).__name__} cannot be trained without labels, so there "
            "is nothing to compare with"
        )
    sides = model.sample_shape[:2]
    if type(model) is not AGAD or left_out or not len(split.train_anomaly) or min(sides) < PHOTOGRAPHS:
        return None
    kinds = len(np.unique(samples.classes[split.train_anomaly]))
    line = (
        "labels of small defects may teach AGAD to redraw good parts badly too; --gamma 0 trains without "
        "them, --detector features learns them apart from the rest"
    )
    if 2 <= kinds <= MOST:
        line += f", --set left_out=true says what they are worth, by {kinds + 1} more trainings"
    return line


def leave_one_kind_out(
    of_run: AnomalyDetector,
    make: Callable[[], AnomalyDetector],
    fit: dict,
    samples: Samples,
    split: Split,
    folder: Path | None = None,
    masks: TrainingMasks | None = None,
) -> dict:
    """Trains labels once more for each kind of the labelled anomalies, without it, and looks for that kind.

    What is left out is told from the held-out normals; the test part is not opened. What no label teaches is
    taken from the run's own detector on frozen features; any other is trained once without labels.

    Args:
        of_run: the detector of the run.
        make: gives an untrained, compiled detector of its settings.
        fit: settings of `fit`.
        samples, split: of the run.
        folder: where features are kept.
        masks: those that the run learnt from.

    Returns:
        `leave_one_kind_out`: kind to its `auroc`, that of the parts that no label taught or of the training
        without labels, `auroc_without_labels`, their `difference` with its paired 95 % interval (value, low,
        high), and its number of `anomalies`; and the means over kinds of both AUROCs,
        `mean_kind_left_out_auroc` and `mean_kind_left_out_auroc_without_labels`. Nothing where fewer than two
        kinds are named, or more than `MOST`, or no normals are held out.
    """
    rows, labels = split.labelled("train")
    kinds = np.unique(samples.classes[split.train_anomaly])
    normals = split.validation_normal
    if len(kinds) < 2 or not len(normals):
        return {}
    if len(kinds) > MOST:
        logger.info("no kind is left out in turn: %d kinds would be as many trainings", len(kinds))
        return {}

    def trained(kept: np.ndarray) -> AnomalyDetector:
        model, keep = make(), {}
        if isinstance(model, FeatureDiscriminator):
            model.learn_labels_after(of_run)
            keep = {
                "features_folder": folder,
                "masks": None if masks is None else masks.of(rows[kept]),
            }
        model.fit(samples.x[rows[kept]], labels[kept], **fit, **keep, verbose=0)
        return model

    found, unlabelled = {}, None
    for kind in kinds:
        left_out = (samples.classes[rows] == kind) & (labels == 1)
        model, held_out = trained(~left_out), np.concatenate([normals, rows[left_out]])
        if isinstance(model, FeatureDiscriminator):
            x = model.check_samples(samples.x[held_out], "x")
            parts = model.standardised_parts(model.rows_of(x, folder))
            taught = parts.pop("labels")
            without = sum(parts.values())
            scores = without + taught
        else:
            unlabelled = trained(labels == 0) if unlabelled is None else unlabelled
            scores = model.predict(samples.x[held_out], verbose=0)
            without = unlabelled.predict(samples.x[held_out], verbose=0)
        y = np.arange(len(held_out)) >= len(normals)
        found[samples.class_names[kind]] = {
            "auroc": float(auroc(y, scores)),
            "auroc_without_labels": float(auroc(y, without)),
            "difference": [round(value, 4) for value in auroc_difference(y, scores, without)],
            "anomalies": int(left_out.sum()),
        }
    columns = zip(MEANS, ("auroc", "auroc_without_labels"), strict=True)
    means = {mean: float(np.mean([one[name] for one in found.values()])) for mean, name in columns}
    return {"leave_one_kind_out": found, **means}
