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

MOST = 5
"""Kinds that are left out in turn; each is one more training."""


def leave_one_kind_out(
    make: Callable[[], FeatureDiscriminator],
    fit: dict,
    samples: Samples,
    split: Split,
    folder: Path | None = None,
) -> dict:
    """Trains once more for each kind of the labelled anomalies, without it, and looks for that kind.

    What is left out is told from the held-out normals; the test part is not opened.

    Args:
        make: gives an untrained, compiled detector.
        fit: settings of `fit`.
        samples, split: of the run.
        folder: where features are kept.

    Returns:
        `leave_one_kind_out`: kind to its `auroc` and its number of `anomalies`, and the mean of the former,
        `mean_kind_left_out_auroc`; nothing where fewer than two kinds are named, or more than `MOST`, or no
        normals are held out.
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
        model.fit(samples.x[rows[~left_out]], labels[~left_out], **fit, features_folder=folder, verbose=0)
        held_out = np.concatenate([normals, rows[left_out]])
        x = model.check_samples(samples.x[held_out], "x")
        scores = model.predict(model.rows_of(x, folder))
        y = np.arange(len(held_out)) >= len(normals)
        about = {"auroc": float(auroc(y, scores)), "anomalies": int(left_out.sum())}
        found[samples.class_names[kind]] = about
    mean = float(np.mean([about["auroc"] for about in found.values()]))
    return {"leave_one_kind_out": found, "mean_kind_left_out_auroc": mean}
