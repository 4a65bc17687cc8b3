"""The command line from data to score, and one clear line for everything a user can get wrong."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits

from agad_tf.cli import main

FAST = ["--backbone", "encoder_decoder", "--image-size", "8", "--batch-size", "32", "--quiet"]


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def refuse(*arguments, words=()):
    """Runs a command that must fail with one line on standard error and status 2."""
    result = invoke(*arguments, code=2)
    lines = result.stderr.strip().splitlines()
    assert result.stdout == ""
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """normal/ and anomaly/: digits 8 and 1 as PNG."""
    folder = tmp_path_factory.mktemp("images")
    digits = load_digits()
    for name, digit, count in (("normal", 8, 60), ("anomaly", 1, 30)):
        (folder / name).mkdir()
        for index in np.flatnonzero(digits.target == digit)[:count]:
            pixels = (digits.images[index] * (255 / 16)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:04d}.png")
    return folder


@pytest.fixture(scope="session")
def run(image_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "screws"
    result = invoke(
        "train", "--data", image_folder, *FAST, "--epochs", 2, "--min-anomalies", 8,
        "--set", "validation=0.5", "--out", path, "--json",
    )  # fmt: skip
    return path, json.loads(result.stdout)


def test_help_and_import_load_no_tensorflow():
    code = (
        "import sys, agad_tf, agad_tf.cli\n"
        "try: agad_tf.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_a_help_with_an_example_that_fits_a_screen(command):
    text = invoke(command, "--help").stdout
    assert "Example: agad-tf" in text
    assert len(text.splitlines()) <= 45


def test_train_writes_a_whole_run(run):
    path, result = run
    assert not path.with_name(path.name + ".partial").exists()
    names = {entry.name for entry in path.iterdir()}
    assert {"config.yaml", "split.npz", "metrics.json", "model.keras", "history.json"} <= names
    assert {"calibration.json", "reconstructions.png", "tensorboard"} <= names
    assert any((path / "tensorboard").rglob("events.out.tfevents*"))
    metrics = json.loads((path / "metrics.json").read_text())
    assert {
        "auroc", "average_precision", "n_normal", "n_anomaly", "score", "selection", "bn_mode", "seed",
        "seconds_training",
    } <= set(metrics)  # fmt: skip
    assert metrics["score"] == "fused"  # "auto" with labelled anomalies
    assert metrics["bn_mode"] == "inference"
    assert metrics["selection"] == "last"
    assert result == metrics | {"run": str(path)}
    assert len(json.loads((path / "history.json").read_text())["loss_generator"]) == 2


def test_evaluate_repeats_the_metrics_of_the_run(run):
    path, result = run
    again = json.loads(invoke("evaluate", path, "--json").stdout)
    for name in ("auroc", "average_precision", "n_normal", "n_anomaly", "threshold", "recall"):
        assert again[name] == pytest.approx(result[name], abs=1e-6)


def test_evaluate_other_data(run, image_folder):
    path, _ = run
    other = json.loads(invoke("evaluate", path, "--data", image_folder, "--json").stdout)
    assert (other["n_normal"], other["n_anomaly"]) == (60, 30)


def test_good_images_alone_train_a_detector_with_a_threshold(image_folder, tmp_path):
    good, path = tmp_path / "good", tmp_path / "run"
    shutil.copytree(image_folder / "normal", good / "normal")
    told = invoke(
        "train", "--data", good, *FAST, "--epochs", 2, "--set", "validation=0.5", "--out", path
    )  # fmt: skip
    assert "AUROC not known: the test holds no anomalies" in told.stdout
    assert "0 anomalous test samples" in told.stdout
    assert "false alarms" in told.stdout
    metrics = json.loads((path / "metrics.json").read_text())
    assert (metrics["auroc"], metrics["recall"]) == (None, None)
    assert (metrics["n_normal"], metrics["n_anomaly"], metrics["score"]) == (18, 0, "reconstruction")
    assert 0 <= metrics["false_alarm_rate"] < 1
    assert "normal samples only" in (path / "report.html").read_text()
    assert float(np.float32(metrics["threshold"])) > 0

    again = invoke("evaluate", path, "--report", tmp_path / "again.html")
    assert "AUROC not known" in again.stdout
    # Once there are defects, they tell what the run could not.
    both = json.loads(invoke("evaluate", path, "--data", image_folder, "--json").stdout)
    assert 0 <= both["auroc"] <= 1
    bad = tmp_path / "bad"
    shutil.copytree(image_folder / "anomaly", bad / "anomaly")
    (bad / "normal").mkdir()  # names what is normal, and holds none
    defects = json.loads(invoke("evaluate", path, "--data", bad, "--json").stdout)
    assert (defects["n_normal"], defects["n_anomaly"]) == (0, 30)
    assert defects["recall"] == both["recall"]
    assert defects["false_alarm_rate"] is None
    exported = invoke("export", path, "--to", tmp_path / "export")
    assert (tmp_path / "export" / "1" / "saved_model.pb").is_file(), exported.output
    refuse("audit", path, words=["both normals and anomalies"])


def test_too_few_good_images_for_a_threshold_say_so(image_folder, tmp_path, caplog):
    few = tmp_path / "few"
    (few / "normal").mkdir(parents=True)
    for file in sorted((image_folder / "normal").iterdir())[:20]:
        shutil.copy(file, few / "normal")
    invoke("train", "--data", few, *FAST, "--epochs", 1, "--out", tmp_path / "run")
    assert "no threshold was chosen" in caplog.text
    assert "needs 19 held-out normals" in caplog.text
    assert not (tmp_path / "run" / "calibration.json").exists()


def test_score_writes_a_row_for_every_image_with_the_scores_of_predict(run, image_folder):
    import keras

    path, _ = run
    rows = list(csv.DictReader(io.StringIO(invoke("score", path, image_folder / "normal").stdout)))
    files = sorted((image_folder / "normal").iterdir())
    assert [row["path"] for row in rows] == [str(file) for file in files]
    images = np.stack([np.asarray(Image.open(file))[..., None] for file in files])
    expected = keras.saving.load_model(path / "model.keras").predict(images, verbose=0)
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected, rtol=1e-5, atol=1e-5)
    threshold = json.loads((path / "calibration.json").read_text())["threshold"]
    for row in rows:
        # Nine digits give back the float32 score to the bit; the threshold is one of the normals' scores.
        assert row["is_anomaly"] == str(float(np.float32(row["score"])) > threshold)
        assert 0 < float(row["p_value"]) <= 1


def test_export_writes_versions_that_score_alike(run, tmp_path):
    from agad_tf.demo import score_in_fresh_process
    from agad_tf.training.open import load_run

    path, _ = run
    for version in ("1", "2"):
        text = invoke("export", path, "--to", tmp_path / "screws").stdout.splitlines()[0]
        assert text == str(tmp_path / "screws" / version)
    images = np.random.default_rng(0).integers(0, 256, (9, 11, 13, 1), np.uint8)
    expected = load_run(path).model.predict(images, verbose=0)
    received = score_in_fresh_process(tmp_path / "screws" / "1", images)
    assert (np.abs(received - expected) / np.maximum(1, np.abs(expected))).max() <= 1e-5


@pytest.mark.slow
def test_demo_runs_to_an_agreeing_export(tmp_path):
    result = json.loads(
        invoke(
            "demo", "--epochs", 1, "--quiet", "--json", "--set", "image_size=64", "--set", "members=1",
            "--out", tmp_path / "demo", "--export-to", tmp_path / "exports",
        ).stdout
    )  # fmt: skip
    assert result["agrees"]
    assert result["export_agreement"] <= 1e-5
    assert result["detector"] == "features"
    assert result["beside"]["agad"]["split_sha256"] == result["split_sha256"]
    assert Path(result["report"]).stat().st_size > 10_000
    assert Path(result["export"], "saved_model.pb").is_file()
    assert len(list(Path(result["overlays"]).glob("*.jpg"))) == 12


def test_settings_are_the_defaults_of_the_signatures(tmp_path):
    import inspect

    import yaml

    from agad_tf import AGAD

    text = invoke("settings").stdout
    configuration = yaml.safe_load(text)
    for section, function in (("model", AGAD.__init__), ("compile", AGAD.compile)):
        for name, parameter in inspect.signature(function).parameters.items():
            if name in configuration[section]:
                assert configuration[section][name] == parameter.default
    assert {"clip_norm", "reciprocal_epsilon", "contextual_weight"} <= set(configuration["compile"])


def test_settings_reach_the_model(image_folder, tmp_path):
    import keras

    config = tmp_path / "my.yaml"
    config.write_text("compile:\n  clip_norm: 1.5\n  latent_weight: 2.0\n")
    invoke(
        "train", "--data", image_folder, *FAST, "--epochs", 1, "--min-anomalies", 8, "--config", config,
        "--set", "latent_weight=3", "--bn-strategy", "freeze", "--seed", 7, "--out", tmp_path / "run",
    )  # fmt: skip
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert (model.settings["clip_norm"], model.settings["latent_weight"]) == (1.5, 3)
    assert (model.bn_strategy, model.seed) == ("freeze", 7)


def train_refused(tmp_path, *arguments, words=()):
    out = tmp_path / "never"
    line = refuse("train", *FAST, "--epochs", 1, "--out", out, *arguments, words=words)
    assert not list(tmp_path.glob("never*"))
    return line


def test_bad_data_is_refused_in_one_line(tmp_path, image_folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    train_refused(tmp_path, "--data", empty, words=["empty"])
    train_refused(tmp_path, "--data", tmp_path / "nowhere", words=["nowhere"])
    train_refused(tmp_path, words=["--data"])

    one_class = tmp_path / "one"
    (one_class / "normal").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(one_class / "normal" / "a.png")
    train_refused(tmp_path, "--data", one_class)

    mixed = tmp_path / "mixed"
    for name, size in (("normal", 8), ("anomaly", 9)):
        (mixed / name).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(np.full((size, size), index, np.uint8)).save(mixed / name / f"{index}.png")
    # With an image size they are resized; without one there is no telling which.
    refuse("train", "--data", mixed, "--epochs", 1, "--quiet", "--out", tmp_path / "never", words=["9"])

    broken = tmp_path / "broken"
    for name in ("normal", "anomaly"):
        (broken / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(broken / name / "a.png")
    (broken / "normal" / "b.png").write_bytes(b"\x89PNG no more")
    train_refused(tmp_path, "--data", broken, words=["b.png"])

    (tmp_path / "table.csv").write_text("a,b,label\n" + "".join(f"{i},{i * i},{i % 2}\n" for i in range(20)))
    train_refused(
        tmp_path,
        "--data",
        tmp_path / "table.csv",
        "--detector",
        "agad",
        words=["expects images", "2 columns"],
    )

    values = np.random.default_rng(0).random((20, 8, 8), np.float32)
    values[3, 2, 2] = np.nan
    labels = np.arange(20) % 2
    np.savez(tmp_path / "nan.npz", x_train=values, y_train=labels, x_test=values, y_test=labels)
    train_refused(tmp_path, "--data", tmp_path / "nan.npz", "--normal-class", 0, words=["nan.npz"])


def test_bad_settings_are_refused_in_one_line(tmp_path, image_folder):
    data = ["--data", image_folder]
    train_refused(tmp_path, *data, "--gamma", 1.0, words=["gamma"])
    train_refused(tmp_path, *data, "--gamma", -0.1, words=["gamma"])
    train_refused(tmp_path, *data, "--min-anomalies", 32, words=["32"])  # quota as large as the batch
    train_refused(tmp_path, *data, "--backbone", "resnet", words=["encoder_decoder"])
    train_refused(tmp_path, *data, "--image-size", 20, words=["20x20"])
    train_refused(tmp_path, *data, "--precision", "int8", words=["float32"])
    train_refused(tmp_path, *data, "--detector", "magic", words=["agad"])
    train_refused(tmp_path, *data, "--normal-class", "screw", words=["screw"])
    train_refused(tmp_path, *data, "--set", "nonsense", words=["NAME=VALUE"])
    train_refused(tmp_path, *data, "--set", "no_such_setting=1", words=["clip_norm"])
    for setting, words in (
        ("clip_norm=many", "clip_norm expects a number or null, received 'many'"),
        ("clip_norm=true", "expects a number or null, received True"),
        ("batch_size=64.5", "expects a whole number"),
        ("learning_rate=[1]", "expects a number"),
        ("reciprocal_epsilon=null", "expects a number, received None"),
        ("data.image_size=8.5", "expects a whole number"),
        ("guard=1", "expects true or false"),
        ("model.backbone=[a]", "backbone expects a name"),
        ("beta_1=2", "beta_1 expects a number in [0, 1)"),
        ("epochs=0", "epochs expects at least 1"),
    ):
        train_refused(tmp_path, *data, "--set", setting, words=[words])
    train_refused(tmp_path, *data, "--config", tmp_path / "none.yaml", words=["none.yaml"])


def test_a_collapsed_training_is_told_and_leaves_nothing(tmp_path, image_folder):
    arguments = ["--data", image_folder, "--min-anomalies", 8, "--literal", "--set", "learning_rate=1e30"]
    train_refused(tmp_path, *arguments, words=["collapsed", "--literal"])


def test_what_the_operating_system_refuses_is_told_in_one_line(tmp_path, image_folder, run, monkeypatch):
    path, _ = run
    (tmp_path / "file").touch()
    train_refused(tmp_path, "--data", image_folder, "--out", tmp_path / "file" / "x", words=["file"])
    monkeypatch.chdir(tmp_path)
    refuse("train", "--data", image_folder, *FAST, "--out", ".", words=["free name"])
    refuse("score", ".", image_folder, words=["expected a run directory"])
    refuse("score", path, image_folder, "--threshold", "nan", words=["finite number"])


def test_few_steps_are_warned_of_and_batches_are_described(tmp_path, image_folder, caplog):
    arguments = [*FAST[:-1], "--min-anomalies", 8, "--epochs", 1]  # with a progress bar
    result = invoke("train", "--data", image_folder, *arguments, "--out", tmp_path / "run")
    assert re.search(r"batches of 32 with \d+ of \d+ anomalies each .*, \d+ steps an epoch", result.stderr)
    assert re.search(r"only \d training steps in all", caplog.text)


def test_missing_and_damaged_runs_are_refused_in_one_line(tmp_path, image_folder, run):
    for command in (["evaluate"], ["export"], ["score", None, image_folder]):
        arguments = [tmp_path / "no_run" if part is None else part for part in command]
        arguments += [tmp_path / "no_run"] if len(command) == 1 else []
        refuse(*arguments, words=["no_run"])
    (tmp_path / "half.partial").mkdir()
    refuse("evaluate", tmp_path / "half", words=["unfinished"])
    (tmp_path / "damaged").mkdir()
    for name in ("config.yaml", "model.keras", "metrics.json"):
        (tmp_path / "damaged" / name).write_text("{}")
    refuse("evaluate", tmp_path / "damaged", words=["model.keras"])
    path, _ = run
    for name, change in (
        ("model.keras", lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]),
        ("metrics.json", lambda content: content[:20]),
    ):
        shutil.rmtree(tmp_path / "damaged")
        shutil.copytree(path, tmp_path / "damaged")
        file = tmp_path / "damaged" / name
        file.write_bytes(change(file.read_bytes()))
        refuse("evaluate", tmp_path / "damaged", words=[name])
    refuse("train", "--data", image_folder, *FAST, "--out", path, words=["finished run"])
    refuse("score", path, tmp_path / "no_image.png", words=["no_image.png"])
