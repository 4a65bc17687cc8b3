"""Judging a detector: its threshold, and how well it does on a test part."""

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation import thresholds
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.regions import RegionRule
from agad_tf.evaluation.summary import summarise
from agad_tf.training.localisation import pixel_report


def calibration_problem(split: Split, settings: dict) -> InputError | None:
    """Why the held-out samples of a split allow no such calibration; None where they do."""
    try:
        if not len(split.validation_normal):
            raise InputError("a threshold needs held-out normals, received none")
        # Made-up scores: only their number decides.
        stand_ins = np.arange(len(split.validation_normal)), np.arange(len(split.validation_anomaly))
        thresholds.calibrate(*stand_ins, **settings)
    except InputError as error:
        counts = f"{len(split.validation_normal)} normals and {len(split.validation_anomaly)} anomalies"
        return InputError(f"{error} (held out are {counts}; --set validation=0.2 holds out a fifth)")
    return None


def calibrate(model, samples: Samples, split: Split, settings: dict) -> thresholds.Calibration:
    """The threshold that the settings ask for, from the held-out samples of the split."""
    normal_scores, anomaly_scores = (
        model.predict(samples.x[rows], verbose=0) if len(rows) else None
        for rows in (split.validation_normal, split.validation_anomaly)
    )
    return thresholds.calibrate(
        normal_scores,
        anomaly_scores,
        **settings,
        score=model.score,
        split="held-out normals of the training part",
    )


def judge(
    model,
    samples: Samples,
    split: Split,
    calibration: thresholds.Calibration | None = None,
    regions: RegionRule | None = None,
) -> Evaluation:
    """Scores the test part in inference mode and measures how well the scores tell its two kinds apart.

    The metrics are those of `summarise`, `score` and `bn_mode`; with a calibration also `threshold`,
    `false_alarm_rate` and `recall`; with masks those of the error maps. With normals alone, or anomalies
    alone, the figures that compare the two are None. `regions` is what counts as a region of a heat map; None
    takes the held-out normals of the split.
    """
    rows, labels = split.labelled("test")
    scores = model.predict(samples.x[rows], verbose=0)
    metrics = summarise(labels, scores, samples.classes[rows], split.known_classes)
    metrics |= {"score": model.score, "bn_mode": "inference"}
    if calibration is not None:
        alarms = calibration.is_anomaly(scores)
        metrics["threshold"] = calibration.threshold
        for kind, name in enumerate(("false_alarm_rate", "recall")):
            of_kind = alarms[labels == kind]
            metrics[name] = float(of_kind.mean()) if len(of_kind) else None
    metrics |= pixel_report(model, samples, split)
    return Evaluation(model, samples, split, scores, metrics, calibration, regions)
