"""A disk that is full in the middle of a command: one line, nothing half-written, then it works again."""

import contextlib
import logging
import resource
import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from run_cases import untrained_run

from agad_tf.cli import main
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.training.open import load_split

LIMITS = (60_000, 300_000)
"""Bytes that a file may have: what is longer breaks off there, as on a disk that is full.

Less is too little for the code that TensorFlow writes for itself.
"""


@contextlib.contextmanager
def files_of_at_most(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def agad_tf(*arguments):
    """(status, the lines on standard error that are no notices)."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(main, list(map(str, arguments)))
    logging.disable(logging.NOTSET)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, [line for line in result.stderr.splitlines() if line.startswith("agad-tf: ")]


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    rng = np.random.default_rng(0)
    for name, count in (("normal", 40), ("anomaly", 8)):
        (folder / "parts" / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 255, (16, 16), np.uint8)
            Image.fromarray(pixels).save(folder / "parts" / name / f"{index:02d}.png")
    run = untrained_run(folder / "run", folder / "parts", validation=0.5)
    samples, split = load_split(run.configuration)
    calibrate(run.model.predict(samples.x[split.validation_normal], verbose=0), rate=0.3).save(
        run.path / "calibration.json"
    )
    return folder


def check(place, result, *arguments, may_keep=(), limits=LIMITS):
    """With each limit the command ends well or in one line, and leaves what was there; then it succeeds.

    Args:
        place: the folder to look at.
        result: name of what appears.
        arguments: of the command.
        may_keep: names that a failed command may leave for the next to go on with.
        limits: bytes.
    """
    before, failures = tree(place), 0
    for limit in limits:
        with files_of_at_most(limit):
            status, lines = agad_tf(*arguments)
        if status == 0:
            break
        failures += 1
        assert status == 2
        assert len(lines) == 1, lines
        assert any(words in lines[0] for words in ("File too large", "No space left")), lines
        left = {name: content for name, content in tree(place).items() if not name.startswith(may_keep)}
        assert left == {name: content for name, content in before.items() if not name.startswith(may_keep)}
    assert failures
    if status:
        assert agad_tf(*arguments)[0] == 0
    assert (place / result).exists()
    assert not [path for path in place.rglob("*") if "partial" in path.name]


def test_prepare(place):
    command = ("prepare", place / "parts", place / "shards", "--quiet")
    keep = ("shards.partial",)
    check(place, "shards/manifest.json", *command, may_keep=keep, limits=(0, 700, 9_000))


def test_recalibrate(place):
    check(place, "run/calibration-1.json", "recalibrate", place / "run", "--rate", "0.3", limits=(0, 100))


def test_evaluate(place):
    command = ("evaluate", place / "run", "--no-baseline", "--report", place / "report.html")
    check(place, "report.html", *command)


def test_score(place):
    parts, out = [place / "parts" / "normal"] * 30, place / "scores.csv"  # more rows than one batch
    keep = ("scores.csv.partial",)
    command = ("score", place / "run", *parts, "--out", out, "--batch-size", "64")
    check(place, "scores.csv", *command, may_keep=keep)


@pytest.mark.slow
def test_train(place):
    words = "--backbone encoder_decoder --image-size 16 --epochs 1 --batch-size 16 --min-anomalies 4 --quiet"
    command = ("train", "--data", place / "parts", *words.split(), "--resume", place / "trained")
    # What could not be finished is left for the same command to go on with.
    check(place, "trained/model.keras", *command, may_keep=("trained.partial",), limits=(300_000,))


@pytest.mark.parametrize(
    ("form", "result"),
    [("savedmodel", "1/saved_model.pb"), ("tflite", "1/model.tflite"), ("onnx", "1/model.onnx")],
)
def test_export(place, form, result):
    command = ("export", place / "run", "--to", place / form, "--format", form)
    keep = (f"{form}/.versions",)
    check(place, f"{form}/{result}", *command, may_keep=keep, limits=(300_000,))
