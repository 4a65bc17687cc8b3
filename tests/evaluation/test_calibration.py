"""The calibration: its file, what cannot be changed, one clear line for each damage."""

import json
import os

import numpy as np
import pytest

from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import (
    Calibration,
    calibrate,
)
from agad_tf.files import write_atomically


def _one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


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
