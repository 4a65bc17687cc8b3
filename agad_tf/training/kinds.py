"""Leave one kind out: how well kinds of defects are found that a detector was not shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.evaluation.metrics import auroc
from agad_tf.models import FeatureDiscriminator

logger = logging.getLogger("agad_tf")

MEANS = ("mean_kind_left_out_auroc", "mean_kind_left_out_auroc_without_labels")
KEPT = ("leave_one_kind_out", *MEANS)
"""Metrics that only a training gives."""

MOST = 5
"""Kinds that are left out in turn; each is one more training."""


def leave_one_kind_out(
    trained: FeatureDiscriminator,
    make: Callable[[], FeatureDiscriminator],
    fit: dict,
    samples: Samples,
    split: Split,
    folder: Path | None = None,
) -> dict:
    """Trains labels once more for each kind of the labelled anomalies, without it, and looks for that kind.

    What is left out is told from the held-out normals; the test part is not opened. What no label teaches is
    taken from the run's own detector.

    Args:
        trained: the detector of the run.
        make: gives an untrained, compiled detector of its settings.
        fit: settings of `fit`.
        samples, split: of the run.
        folder: where features are kept.

    Returns:
        `leave_one_kind_out`: kind to its `auroc`, that of the parts that no label taught,
        `auroc_without_labels`, and its number of `anomalies`; and the means over kinds of both,
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
    found = {}
    for kind in kinds:
        left_out = (samples.classes[rows] == kind) & (labels == 1)
        model = make()
        model.learn_labels_after(trained)
        model.fit(samples.x[rows[~left_out]], labels[~left_out], **fit, features_folder=folder, verbose=0)
        held_out = np.concatenate([normals, rows[left_out]])
        x = model.check_samples(samples.x[held_out], "x")
        parts = model.standardised_parts(model.rows_of(x, folder))
        taught = parts.pop("labels")
        without, y = sum(parts.values()), np.arange(len(held_out)) >= len(normals)
        found[samples.class_names[kind]] = {
            "auroc": float(auroc(y, without + taught)),
            "auroc_without_labels": float(auroc(y, without)),
            "anomalies": int(left_out.sum()),
        }
    columns = zip(MEANS, ("auroc", "auroc_without_labels"), strict=True)
    means = {mean: float(np.mean([one[name] for one in found.values()])) for mean, name in columns}
    return {"leave_one_kind_out": found, **means}
