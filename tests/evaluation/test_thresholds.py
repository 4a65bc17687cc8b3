"""Calibrating: every policy, and one clear line for each error."""

import math

import numpy as np
import pytest

from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import (
    Calibration,
    calibrate,
)


def _one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_false_alarm_policy_reports_labelled_anomalies():
    calibration = calibrate(range(1, 40), [38, 39, 50], rate=0.05, score="fused", split="validation")
    assert (calibration.policy, calibration.threshold) == ("false_alarm_rate", 38.0)
    assert (calibration.false_alarm_rate, calibration.confidence, calibration.n_normal) == (0.05, None, 39)
    assert calibration.observed_false_alarm_rate == pytest.approx(1 / 39)
    assert (calibration.n_anomaly, calibration.observed_recall) == (3, pytest.approx(2 / 3))
    assert calibration.observed_f1 == pytest.approx(2 * 2 / (3 + 3))
    assert calibration.is_anomaly([37, 38, 38.5]).tolist() == [False, False, True]  # a tie is no alarm
    assert calibration.p_values([40]).tolist() == [1 / 40]


def test_float32_scores_are_compared_in_float64():
    normals = np.linspace(0.1, 0.9, 30).astype(np.float32)
    calibration = calibrate(normals, rate=0.1)
    assert calibration.is_anomaly(normals).sum() == 2
    between = Calibration(normals, 0.3 + 1e-12, "best_f1", n_anomaly=1, observed_recall=1.0, observed_f1=1.0)
    assert between.is_anomaly(np.float32([0.3])).tolist() == [bool(float(np.float32(0.3)) > 0.3 + 1e-12)]


def test_quantile_policy():
    calibration = calibrate(range(1, 21), policy="quantile", quantile=0.95)
    assert (calibration.threshold, calibration.quantile, calibration.false_alarm_rate) == (19.0, 0.95, None)
    assert calibrate(range(1, 21), policy="quantile", quantile=1).threshold == 20.0


def test_best_f1_policy():
    calibration = calibrate([1, 2, 4], [3, 5], policy="best_f1")
    assert (calibration.threshold, calibration.observed_f1) == (2.5, pytest.approx(0.8))
    assert (calibration.observed_recall, calibration.n_anomaly) == (1.0, 2)


@pytest.mark.parametrize(
    ("recall", "threshold", "found"),
    [(1.0, 2.5, 4), (0.75, 4.5, 3), (0.7, 4.5, 3), (0.5, 6.5, 2), (0.1, 8.5, 1)],
)
def test_wanted_recall_policy(recall, threshold, found):
    calibration = calibrate([1, 2, 4, 6, 8], [3, 5, 7, 9], policy="wanted_recall", recall=recall)
    assert (calibration.threshold, calibration.wanted_recall) == (threshold, recall)
    assert calibration.observed_recall == found / 4


def test_wanted_recall_with_ties_and_flag_everything():
    assert calibrate([1, 5], [5, 5, 5, 9], policy="wanted_recall", recall=0.5).observed_recall == 1.0
    assert calibrate([3, 4], [2, 9], policy="wanted_recall", recall=1).threshold == pytest.approx(2, abs=1e-5)
    assert calibrate([3, 4], [2, 9], policy="wanted_recall", recall=1).observed_recall == 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"policy": "best_f1"}, "Policy best_f1 expects scores of labelled anomalies, received none"),
        ({"policy": "wanted_recall", "recall": 0.9, "anomaly_scores": []}, "use policy false_alarm_rate"),
        ({"policy": "wanted_recall", "anomaly_scores": [1]}, "Policy wanted_recall expects recall, received"),
        ({"policy": "quantile"}, "Policy quantile expects quantile, received none"),
        ({"policy": "quantile", "quantile": 95}, "quantile above 0 and up to 1, received 95"),
        ({"policy": "magic"}, "false_alarm_rate, quantile, best_f1, wanted_recall, received 'magic'"),
        ({"rate": 0}, "rate above 0 and below 1, received 0"),
        ({"rate": None}, "Policy false_alarm_rate expects rate, received none"),
        ({"confidence": 1.0}, "confidence above 0 and below 1, received 1.0"),
        ({"recall": 0.9}, "Policy false_alarm_rate takes no recall, received 0.9"),
        (
            {"policy": "best_f1", "anomaly_scores": [1], "confidence": 0.9},
            "Policy best_f1 takes no confidence",
        ),
        ({"anomaly_scores": [1, math.inf]}, "finite anomaly scores, received 1"),
        ({"normal_scores": [1, math.nan]}, "finite normal scores, received 1"),
        ({"normal_scores": []}, "normal scores of shape (n,)"),
    ],
)
def test_bad_calibration_arguments(arguments, words):
    with pytest.raises(InputError) as error:
        calibrate(**{"normal_scores": range(30), **arguments})
    assert words in _one_line(error)
