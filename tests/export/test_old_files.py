"""Files of version 0.1.0 load and score as they did, see fixtures/0_1_0/make_fixtures.py."""

import subprocess
import sys
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest

from agad_tf import baselines, models
from agad_tf.edge import EdgeModel
from agad_tf.export.agreement import FLOAT32, agreement, rounded_size
from agad_tf.scoring.detectors import open_detector

FIXTURES = Path(__file__).parents[1] / "fixtures" / "0_1_0"
SIZES = ("8x8", "21x13", "5x6")


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The folder of the old files."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(FIXTURES / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "expected.npz") as arrays:
        return dict(arrays)


def scores(path, samples):
    return open_detector(path).score(list(samples))


def check(received, expected, size=1.0):
    assert received.shape == expected.shape
    assert agreement(expected, received, size) <= FLOAT32


def test_a_run_of_a_table(old, expected):
    answers = scores(old / "table_run", expected["table"])
    check(answers["score"], expected["table_run"])
    alarms = expected["table_run"] > expected["table_threshold"]
    np.testing.assert_array_equal(answers["is_anomaly"], alarms)


@pytest.mark.parametrize("form", ["saved_model", "tflite"])
def test_exports_of_a_table(old, expected, form):
    path = old / {"saved_model": "table_saved_model", "tflite": "table.tflite"}[form]
    answers = scores(path, expected["table"])
    check(answers["score"], expected[f"table_{form}"])
    np.testing.assert_array_equal(
        answers["is_anomaly"], expected[f"table_{form}"] > expected["table_threshold"]
    )


@pytest.mark.parametrize("form", ["keras", "saved_model", "tflite"])
def test_images_of_their_own_size_larger_and_smaller(old, expected, form):
    size = rounded_size(models_of(old / "image.keras"))
    if form == "tflite":
        score = EdgeModel(old / "image.tflite").score
    else:
        opened = open_detector(old / {"keras": "image.keras", "saved_model": "image_saved_model"}[form])

        def score(images):
            return opened.score(list(images))["score"]

    for name in SIZES:
        check(score(expected[f"image_{name}"]), expected[f"image_{name}_{form}"], size)


@pytest.mark.parametrize("name", ["aa_bigan_rows", "deep_svdd_rows", "autoencoder_images"])
def test_saved_detectors(old, expected, name):
    model = models_of(old / f"{name}.keras")
    asked = expected[f"{name}_asked"]
    check(model.predict(asked, verbose=0), expected[name], rounded_size(model))
    check(scores(old / f"{name}.keras", asked)["score"], expected[name], rounded_size(model))


def test_a_baseline_is_found_by_a_process_that_knows_no_baselines(old):
    code = "from agad_tf.scoring.detectors import open_detector as o; import sys; print(o(sys.argv[1]))"
    command = [sys.executable, "-c", code, old / "deep_svdd_rows.keras"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert "features=4" in done.stdout, done.stderr


def models_of(path):
    """The detector in a file; its classes are registered by then."""
    assert models.AnomalyDetector
    assert baselines.BASELINES
    return keras.saving.load_model(path)
