"""Trainings that are stopped, started twice, or given names that break a drawing: nothing is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from agad_tf.cli import main
from agad_tf.errors import InputError
from agad_tf.files import held
from agad_tf.training import Checkpoints
from agad_tf.training.configuration import configure
from agad_tf.training.directory import LOCK, run_directory
from agad_tf.training.small_sets import choose, steps_of
from agad_tf.training.train import train


def command(*arguments):
    return [sys.executable, "-m", "agad_tf.cli", *map(str, arguments)]


@pytest.fixture
def digits(tmp_path):
    return [
        "train", "--data", "digits", "--normal-class", 8, "--gamma", 0, "--backbone", "encoder_decoder",
        "--image-size", 8, "--batch-size", 16, "--epochs", 10_000, "--out", tmp_path / "run",
    ]  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_writes_a_checkpoint_and_names_resume(tmp_path, digits):
    with subprocess.Popen(command(*digits), stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "s a step" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert f"agad-tf train --resume {tmp_path / 'run'}" in rest
    assert "Traceback" not in rest
    assert len(list((tmp_path / "run.partial" / "checkpoints").glob("*.checkpoint"))) == 1
    assert not list(tmp_path.rglob(".*.partial"))


def test_ctrl_c_before_the_first_step_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), run_directory(tmp_path / "run"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_of_two_that_resume_one_run_the_second_is_refused(tmp_path):
    partial = tmp_path / "run.partial"
    (partial / "checkpoints").mkdir(parents=True)
    configuration = configure(settings=[("source", "digits"), ("normal_classes", "8")])
    with held(partial, LOCK) as free:
        assert free
        with pytest.raises(InputError, match="found another process at it: wait for it"):
            train(configuration, tmp_path / "run", progress=False, resume=True)
    assert partial.is_dir()


def test_starting_anew_deletes_its_own_files_only(tmp_path):
    theirs = ["photo.png", "notes.txt", "weights.checkpoint", ".other.partial"]
    for name in [
        *theirs,
        "epoch-0001-step-000004.checkpoint",
        ".epoch-0001-step-000004.checkpoint.ab.partial",
    ]:
        (tmp_path / name).write_text("mine")
    assert Checkpoints(tmp_path, resume=False)._newest() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(theirs)


def test_a_finished_run_holds_no_lock_and_no_litter(tmp_path):
    with run_directory(tmp_path / "run") as partial:
        (partial / "file").write_text("x")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [r"$\frac{1}{$", os.fsdecode(b"no utf \xff")])
def test_no_name_of_a_class_costs_a_run(tmp_path, name):
    rng = np.random.default_rng(0)
    for kind, count in (("good", 30), (name, 10)):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{index}.png")
    settings = {
        "source": str(tmp_path / "data"),
        "backbone": "encoder_decoder",
        "image_size": 32,
        "epochs": 1,
    }
    settings |= {"batch_size": 16, "min_anomalies": 2}
    train(configure(settings=settings.items()), tmp_path / "run", progress=False)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n_anomaly"]
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_failing_report_is_a_warning_and_the_run_is_whole(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("agad_tf.training.pictures.write_pictures", fail)
    settings = {"source": "digits", "normal_classes": "8", "backbone": "encoder_decoder", "image_size": 8}
    settings |= {"batch_size": 64, "epochs": 1, "gamma": 0}
    train(configure(settings=settings.items()), tmp_path / "run", progress=False)
    assert "no fonts" in caplog.text
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_output_that_nobody_reads_to_the_end_is_not_called_a_success(tmp_path):
    (tmp_path / "tool.py").write_text(
        "import click\nfrom agad_tf.commands.common import OneLineErrors\n"
        "@click.group(cls=OneLineErrors)\ndef main(): pass\n"
        "@main.command()\ndef rows(): click.echo('row\\n' * 100_000)\n"
        "main()"
    )
    done = subprocess.run(
        f"{sys.executable} {tmp_path / 'tool.py'} rows | true; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "3\n"
    assert done.stderr == ""


def test_debug_shows_the_traceback_before_the_line(tmp_path):
    plain = CliRunner().invoke(main, ["recalibrate", str(tmp_path / "none")])
    full = CliRunner().invoke(main, ["--debug", "recalibrate", str(tmp_path / "none")])
    assert plain.exit_code == full.exit_code == 2
    assert "Traceback" not in plain.stderr
    assert "Traceback" in full.stderr
    assert full.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]


def test_numbers_that_no_library_takes_are_refused_at_once():
    with pytest.raises(InputError, match="from 0 to 4294967295"):
        configure(settings=[("seed", 4294967296)])
    from agad_tf.data.batches.quota import quota_batches
    from agad_tf.models.inputs import fitting_batch_size

    began = time.monotonic()
    assert fitting_batch_size(100, 10, 10**9, 4) == 110
    assert fitting_batch_size(100, 10, 10**9, 32, 2) == fitting_batch_size(100, 10, 400, 32, 2)
    with pytest.raises(InputError, match="the largest batch_size possible is"):
        quota_batches(np.zeros((100, 2)), None, 10**9)
    assert time.monotonic() - began < 5


def test_settings_that_nobody_gave_fit_a_small_set():
    split = SimpleNamespace(train_normal=np.arange(189), train_anomaly=np.arange(20))
    free = ("epochs", "batch_size", "min_anomalies", "backbone")
    configuration = configure("agad")
    line = choose(configuration, free, split, images=True)
    assert configuration["fit"]["epochs"] * steps_of(configuration, 189, 20) >= 150
    assert configuration["fit"]["batch_size"] == 32
    assert "189 normals" in line
    given = configure("agad", settings=[("epochs", 3), ("batch_size", 64), ("backbone", "unet")])
    assert choose(given, ("min_anomalies",), split, images=True) is None
    assert given == configure("agad", settings=[("epochs", 3), ("batch_size", 64), ("backbone", "unet")])
    many = SimpleNamespace(train_normal=np.arange(50_000), train_anomaly=np.arange(0))
    assert choose(configure("agad"), free, many, images=True) is None


@pytest.mark.slow
def test_few_images_get_enough_steps_and_say_so(tmp_path):
    rng = np.random.default_rng(0)
    for kind, count in (("good", 40), ("bad", 6)):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{index}.png")
    arguments = ["train", "--data", tmp_path / "data", "--out", tmp_path / "run", "--detector", "agad"]
    done = subprocess.run(command(*arguments), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "chosen for" in line]
    assert "encoder_decoder" in line
    assert int(re.search(r"steps an epoch, (\d+) in all", done.stderr)[1]) >= 150
    assert re.search(r"s a step: about [\d.]+ (s|min) for the \d+ steps left", done.stderr)
