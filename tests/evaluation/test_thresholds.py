"""Thresholds: guarantees by hand and by simulation, the calibration file, one clear line for each error."""

import json
import math
import os

import numpy as np
import pytest
from scipy import stats

from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import (
    Calibration,
    calibrate,
    normals_needed,
    p_values,
    threshold_for_false_alarm_rate,
)
from agad_tf.files import write_atomically


def _one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# --- p-values -----------------------------------------------------------------------------------------------


def test_p_values_by_hand():
    found = p_values([3, 1, 2, 2], [0, 1, 2, 2.5, 3, 4])
    assert found.tolist() == [1.0, 1.0, 0.8, 0.4, 0.4, 0.2]  # ties with a calibration score count as at least


@pytest.mark.parametrize("decimals", [1, None])
def test_p_values_of_fresh_normals_are_valid(decimals):
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(4000, 21))
    draws = draws if decimals is None else draws.round(decimals)
    found = np.array([p_values(row[:-1], row[-1:])[0] for row in draws])
    for level in (0.05, 0.1, 0.2, 0.5):
        error = math.sqrt(level * (1 - level) / 4000)
        assert np.mean(found <= level) <= level + 2 * error
        if decimals is None:
            # Without ties it is exact at the levels that 21 ranks can reach.
            assert np.mean(found <= level) == pytest.approx(math.floor(level * 21) / 21, abs=3 * error)


@pytest.mark.parametrize("decimals", [0, 1, None])
@pytest.mark.parametrize("rate", [0.05, 0.07, 0.1, 0.29, 0.5, 0.9])
def test_the_threshold_decides_as_the_p_value(rate, decimals):
    rng = np.random.default_rng(1)
    for n in (20, 33, 100):
        normals, fresh = rng.exponential(size=n), rng.exponential(2, size=300)
        if decimals is not None:
            normals, fresh = normals.round(decimals), fresh.round(decimals)
        threshold = threshold_for_false_alarm_rate(normals, rate)
        assert np.array_equal(fresh > threshold, p_values(normals, fresh) <= rate + 1e-12)


# --- threshold for a false-alarm rate -----------------------------------------------------------------------


def test_marginal_threshold_by_hand():
    assert threshold_for_false_alarm_rate(range(1, 20), 0.05) == 19  # 19 normals: only above all of them
    assert threshold_for_false_alarm_rate(range(1, 40), 0.05) == 38  # 39: floor(.05 * 40) = 2 ranks above
    assert threshold_for_false_alarm_rate(range(1, 100), 0.29) == 71  # .29 * 100 is 28.999999999999996
    assert threshold_for_false_alarm_rate([5, 5, 5], 0.5) == 5


def test_threshold_with_confidence_is_the_smallest_that_keeps_the_bound():
    for n, rate, confidence in (
        (59, 0.05, 0.95),
        (100, 0.05, 0.95),
        (500, 0.01, 0.95),
        (200, 0.1, 0.8),
        (1, 0.5, 0.5),
    ):
        k = int(threshold_for_false_alarm_rate(range(1, n + 1), rate, confidence))  # a score is its rank
        assert stats.beta.cdf(rate, n + 1 - k, k) >= confidence - 1e-12
        assert k == 1 or stats.beta.cdf(rate, n + 2 - k, k - 1) < confidence


@pytest.mark.parametrize(("rate", "confidence"), [(0.05, 0.95), (0.1, 0.5), (0.02, 0.9)])
def test_threshold_with_confidence_for_many_sizes(rate, confidence):
    # The j-th score from the top keeps the rate when at least j of n normals lie above the true quantile:
    # P(Beta(j, n + 1 - j) <= rate) = P(Binomial(n, rate) >= j).
    for n in range(normals_needed(rate, confidence), 400):
        j = 1
        while stats.binom.sf(j, n, rate) >= confidence:  # P(Binomial >= j + 1)
            j += 1
        assert threshold_for_false_alarm_rate(range(n), rate, confidence) == n - j


def test_normals_needed_by_hand():
    assert [normals_needed(rate) for rate in (0.5, 0.1, 0.05, 0.01, 0.3)] == [1, 9, 19, 99, 3]
    assert normals_needed(0.05, 0.95) == 59  # the least n with .95^n <= .05
    assert normals_needed(0.01, 0.95) == 299
    assert normals_needed(0.5, 0.75) == 2  # .5^2 = .25 exactly
    for rate in (0.01, 0.03, 0.05, 0.1, 0.3):
        for confidence in (None, 0.5, 0.9, 0.95, 0.99):
            n = normals_needed(rate, confidence)
            assert threshold_for_false_alarm_rate(range(n), rate, confidence) == n - 1
            if n > 1:
                with pytest.raises(InputError):
                    threshold_for_false_alarm_rate(range(n - 1), rate, confidence)


def test_too_few_normals_says_how_many_more():
    with pytest.raises(InputError) as error:
        threshold_for_false_alarm_rate(range(40), 0.01)
    assert _one_line(error) == (
        "A false-alarm rate of 0.01 needs 99 held-out normals, received 40: "
        "add 59 more, or ask for a rate of 0.0244 or more."
    )
    assert threshold_for_false_alarm_rate(range(40), 0.0244) == 39  # what it offers works
    with pytest.raises(InputError) as error:
        threshold_for_false_alarm_rate(range(40), 0.05, confidence=0.95)
    assert _one_line(error) == (
        "A false-alarm rate of 0.05 with confidence 0.95 needs 59 held-out normals, "
        "received 40: add 19 more, or ask for a rate of 0.0722 or more."
    )
    assert threshold_for_false_alarm_rate(range(40), 0.0722, confidence=0.95) == 39


@pytest.mark.parametrize(
    "draw",
    [lambda rng, n: np.abs(rng.standard_t(1.5, n)), lambda rng, n: np.round(20 * rng.exponential(size=n))],
)
def test_guarantees_hold_in_simulation(draw):
    rng = np.random.default_rng(2)
    population = draw(rng, 400_000)  # stands in for the true rate above a threshold
    splits, n, rate = 400, 150, 0.05
    marginal, bounded = np.array(
        [
            [
                np.mean(population > threshold_for_false_alarm_rate(normals, rate, confidence))
                for confidence in (None, 0.9)
            ]
            for normals in (draw(rng, n) for _ in range(splits))
        ]
    ).T
    assert rate / 2 <= marginal.mean() <= rate + 2 * marginal.std(ddof=1) / math.sqrt(splits)
    assert np.mean(bounded <= rate) >= 0.9 - 2 * math.sqrt(0.9 * 0.1 / splits)
    assert np.mean(marginal <= rate) < 0.9  # the marginal threshold does not give the stronger promise


# --- calibrate ----------------------------------------------------------------------------------------------


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


# --- the file -----------------------------------------------------------------------------------------------

CALIBRATIONS = [
    lambda: calibrate(
        np.float32(np.random.default_rng(0).exponential(size=100)),
        [2, 3],
        score="fused",
        split="validation normals",
        rate=0.05,
        confidence=0.9,
    ),
    lambda: calibrate(range(20), policy="quantile", quantile=0.9),
    lambda: calibrate(np.random.default_rng(1).normal(size=50), [1, 2, 3], policy="best_f1"),
    lambda: calibrate(np.random.default_rng(1).normal(size=50), [1, 2, 3], "wanted_recall", recall=0.5),
]


@pytest.mark.parametrize("make", CALIBRATIONS)
def test_calibration_round_trip_is_exact(make, tmp_path):
    calibration, path = make(), tmp_path / "calibration.json"
    calibration.save(path)
    loaded = Calibration.load(path)
    assert loaded == calibration
    assert loaded is not calibration
    assert loaded.threshold == calibration.threshold
    assert np.array_equal(loaded.normal_scores, calibration.normal_scores)
    assert os.listdir(tmp_path) == ["calibration.json"]


def test_calibration_cannot_be_changed():
    calibration = calibrate(range(30), rate=0.1)
    with pytest.raises(AttributeError):
        calibration.threshold = 3.0
    with pytest.raises(ValueError, match="read-only"):
        calibration.normal_scores[0] = 3.0
    assert calibration != calibrate(range(30), rate=0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 5.0}, "threshold 27.0 under policy false_alarm_rate, received 5.0"),
        ({"threshold": "high"}, "threshold as a number"),
        ({"threshold": True}, "threshold as a number"),
        ({"normal_scores": "many"}, "normal_scores as a list of numbers"),
        ({"normal_scores": [1, None, 3]}, "normal_scores as a list of numbers"),
        ({"normal_scores": list(range(29))}, "n_normal to be the 29 normal scores listed, received 30"),
        ({"format": "agad_tf.calibration/9"}, "received 'agad_tf.calibration/9'"),
        ({"policy": "magic"}, "received 'magic'"),
        ({"false_alarm_rate": "0.1"}, "rate above 0 and below 1, received '0.1'"),
        ({"quantile": 0.5}, "Policy false_alarm_rate takes no quantile, received 0.5"),
        ({"score": 3}, "score to be text, received 3"),
        ({"n_anomaly": 4}, "n_anomaly >= 1 with observed_recall and observed_f1"),
        ({"extra": 1}, "'extra' is unknown"),
        ({"split": ...}, "'split' is missing"),
    ],
)
def test_a_damaged_calibration_is_refused(change, words, tmp_path):
    content = {**calibrate(range(30), rate=0.1).to_dict(), **change}
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))
    with pytest.raises(InputError) as error:
        Calibration.load(path)
    assert str(path) in _one_line(error)
    assert words in _one_line(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "expected JSON"),
        (b"\xff\xfe\x00", "expected JSON"),
        (b"[1]", "received 'list'"),
        (b"{}", "received None"),
    ],
)
def test_a_file_that_is_no_calibration(content, words, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        Calibration.load(path)
    assert words in _one_line(error)


def test_nan_in_a_calibration_file_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    text = json.dumps(calibrate(range(30), rate=0.1).to_dict())
    path.write_text(text.replace('"normal_scores": [0.0', '"normal_scores": [NaN'))
    with pytest.raises(InputError, match="finite normal_scores, received 1"):
        Calibration.load(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError) as error:
        Calibration.load(tmp_path / "none.json")
    assert "could not read" in _one_line(error)
    with pytest.raises(InputError) as error:
        calibrate(range(30)).save(tmp_path / "none" / "calibration.json")
    assert "create it first" in _one_line(error)
    with pytest.raises(InputError) as error:
        write_atomically(tmp_path, b"")
    assert "add a file name" in _one_line(error)


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path):
    path = tmp_path / "calibration.json"
    calibrate(range(30)).save(path)
    before = path.read_bytes()
    with open(path, "rb") as reader:
        calibrate(range(40)).save(path)
        assert reader.read() == before
    assert Calibration.load(path).n_normal == 40


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "calibration.json"
    calibrate(range(30)).save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        calibrate(range(40)).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["calibration.json"]
