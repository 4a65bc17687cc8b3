"""From scores to decisions: conformal p-values, thresholds with a guarantee, the calibration of a model.

The rule is the same everywhere: a sample is called an anomaly when **score > threshold**, strictly. A
threshold for a wanted false-alarm rate is one of the calibration scores itself, so with the strict rule a tie
with it is no alarm and the guarantee holds for tied scores too.

    from agad_tf.evaluation.thresholds import calibrate
    calibration = calibrate(scores_of_held_out_normals, rate=.05)
    calibration.is_anomaly(new_scores), calibration.p_values(new_scores)
    calibration.save("calibration.json")

The normals must be held out: scores of training images are too low, and so would the threshold be.
NumPy, SciPy and scikit-learn only.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from agad_tf.errors import InputError
from agad_tf.evaluation.calibration import POLICIES, Calibration, check_settings, threshold_from_normals
from agad_tf.evaluation.conformal import normals_needed, p_values, threshold_for_false_alarm_rate
from agad_tf.evaluation.metrics import ROUNDING, best_f1, check_scores, threshold_below

__all__ = [
    "POLICIES",
    "Calibration",
    "calibrate",
    "normals_needed",
    "p_values",
    "threshold_for_false_alarm_rate",
]


def calibrate(
    normal_scores: ArrayLike,
    anomaly_scores: ArrayLike | None = None,
    policy: str = "false_alarm_rate",
    rate: float = 0.05,
    confidence: float | None = None,
    recall: float | None = None,
    quantile: float | None = None,
    *,
    score: str = "unspecified",
    split: str = "unspecified",
) -> Calibration:
    """Chooses the threshold and keeps what it rests on.

    Policies:
        false_alarm_rate: `threshold_for_false_alarm_rate(normal_scores, rate, confidence)`; a guarantee.
        quantile: smallest calibration score with at least ``quantile`` of the normals at or under it;
            no guarantee.
        best_f1: highest F1 on the given normals and anomalies; depends on their proportion.
        wanted_recall: highest threshold that finds at least ``recall`` of the given anomalies; says nothing
            about anomalies of other kinds.

    Args:
        normal_scores: (n,) scores of held-out normals.
        anomaly_scores: (m,) scores of labelled held-out anomalies, or None; an empty array counts as None.
            With a policy that does not need them they serve to report recall and F1 at the threshold.
        policy: one of `POLICIES`.
        rate: wanted false-alarm rate; read by policy "false_alarm_rate" only.
        confidence: see `threshold_for_false_alarm_rate`.
        recall: share of anomalies to find, above 0 and up to 1; policy "wanted_recall" only.
        quantile: above 0 and up to 1; policy "quantile" only.
        score: name of the score.
        split: which data the scores come from.

    Returns:
        The calibration.

    Raises:
        InputError: scores not finite or not 1-D, arguments missing, out of range or of another policy, too
            few normals, no anomalies where the policy needs them.
    """
    normals = check_scores(normal_scores, "normal scores")
    no_anomalies = anomaly_scores is None or np.size(anomaly_scores) == 0
    settings = {
        "false_alarm_rate": rate if policy == "false_alarm_rate" else None,
        "confidence": confidence,
        "quantile": quantile,
        "wanted_recall": recall,
    }
    check_settings(policy, **settings)
    if no_anomalies and policy in ("best_f1", "wanted_recall"):
        raise InputError(
            f"Policy {policy} expects scores of labelled anomalies, received none: use policy "
            "false_alarm_rate, which needs normals only."
        )
    threshold = threshold_from_normals(normals, policy, rate, confidence, quantile)
    observed = {}
    if not no_anomalies:
        anomalies = check_scores(anomaly_scores, "anomaly scores")
        together = np.concatenate([normals, anomalies])
        if policy == "best_f1":
            threshold = best_f1(np.arange(together.size) >= normals.size, together)[1]
        elif policy == "wanted_recall":
            wanted = max(1, math.ceil(recall * anomalies.size - ROUNDING))
            threshold = threshold_below(np.sort(anomalies)[anomalies.size - wanted], together)
        found, alarms = int(np.sum(anomalies > threshold)), int(np.sum(normals > threshold))
        observed = {
            "n_anomaly": anomalies.size,
            "observed_recall": found / anomalies.size,
            "observed_f1": 2 * found / (found + alarms + anomalies.size),
        }
    return Calibration(normals, threshold, policy, score, split, **settings, **observed)
