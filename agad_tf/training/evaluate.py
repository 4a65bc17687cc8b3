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
from agad_tf.training.stored_scores import HELD_OUT, figures_at

PRICE = ("policy", "n_normal", "observed_false_alarm_rate", "n_anomaly", "observed_recall")
"""What the metrics say of a calibration: what its threshold costs and finds on held-out samples."""


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


def held_out_scores(model, samples: Samples, split: Split) -> np.ndarray:
    """Scores of `split.labelled("validation")`, (n,)."""
    parts = [part for part in (split.validation_normal, split.validation_anomaly) if len(part)]
    scores = [model.predict(samples.x[part], verbose=0) for part in parts]
    return np.concatenate(scores) if scores else np.zeros(0, np.float32)


def calibrate(scores: np.ndarray, split: Split, settings: dict, score: str) -> thresholds.Calibration:
    """The threshold that the settings ask for.

    Args:
        scores: from `held_out_scores`.
        split, settings: of the run.
        score: name of the score.
    """
    held = len(split.validation_normal)
    return thresholds.calibrate(scores[:held], scores[held:], **settings, score=score, split=HELD_OUT)


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
        metrics |= figures_at(calibration, scores[labels == 0], scores[labels == 1])
        told = calibration.to_dict()
        metrics["calibration"] = {name: told[name] for name in PRICE}
    metrics |= pixel_report(model, samples, split)
    return Evaluation(model, samples, split, scores, metrics, calibration, regions)
