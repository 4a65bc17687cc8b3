"""A run finds its samples again by what they hold, and says what it was trained on."""

import csv
import hashlib
import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from agad_tf.cli import main
from agad_tf.errors import InputError
from agad_tf.evaluation.calibration import Calibration
from agad_tf.training.configuration import configure
from agad_tf.training.known_samples import FILE, KnownSamples
from agad_tf.training.open import evaluation_data, load_run, load_split
from agad_tf.training.recalibration import recalibrate
from agad_tf.training.stored_scores import StoredScores
from agad_tf.training.train import train


def write_parts(folder, normals=60, anomalies=15, seed=0):
    """Images of noise in two folders of classes; anomalies are brighter."""
    rng = np.random.default_rng(seed)
    for name, count, low in (("normal", normals, 0), ("anomaly", anomalies, 150)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(low, low + 100, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"p_{index:03d}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained run and the folder it was trained on."""
    place = tmp_path_factory.mktemp("parts")
    write_parts(place / "parts")
    settings = {"source": str(place / "parts"), "backbone": "encoder_decoder", "image_size": 32, "epochs": 1}
    settings |= {"batch_size": 32, "min_anomalies": 2, "validation": 0.4, "gamma": 0.1, "rate": 0.1}
    train(configure(settings=settings.items()), place / "run", progress=False)
    return place


@pytest.fixture
def run(trained, tmp_path):
    """A copy of both, with the run's data in the copy."""
    shutil.copytree(trained, tmp_path / "copy")
    path = tmp_path / "copy" / "run"
    content = yaml.safe_load((path / "config.yaml").read_text())
    content["data"]["source"] = str(tmp_path / "copy" / "parts")
    (path / "config.yaml").write_text(yaml.safe_dump(content))
    return load_run(path)


def contents(samples, rows):
    return {digest.tobytes() for digest in samples.digests[rows]}


def rename_all(folder):
    """Other names in another order."""
    for file in list(folder.rglob("*.png")):
        name = hashlib.md5(file.read_bytes()).hexdigest()[:8]
        file.rename(file.with_name(f"{name}_{file.name}"))


def test_a_run_keeps_the_content_of_its_samples_and_an_absolute_source(run, tmp_path):
    samples, split = load_split(run.configuration)
    known = KnownSamples.load(run.path / FILE)
    np.testing.assert_array_equal(known.digests, samples.digests)
    assert known.contents("test") == contents(samples, split.labelled("test")[0])
    assert known.class_names == samples.class_names
    assert known.shape == (8, 8, 1)
    assert run.configuration["data"]["source"].startswith("/")


def test_renamed_and_added_files_give_the_same_test_part(run, caplog):
    before, split = evaluation_data(run, None)
    parts = run.path.parent / "parts"
    rename_all(parts)
    pixels = np.random.default_rng(9).integers(0, 100, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(parts / "normal" / "0_new.png")
    with caplog.at_level(logging.WARNING):
        after, again = evaluation_data(run, None)
    for part in ("train", "validation", "test"):
        assert contents(after, again.labelled(part)[0]) == contents(before, split.labelled(part)[0])
    assert not set(again.labelled("test")[0]) & set(again.labelled("train")[0])
    assert "1 samples were added and are left out" in caplog.text


def test_another_folder_of_the_same_name_is_noticed(run):
    parts = run.path.parent / "parts"
    shutil.rmtree(parts)
    write_parts(parts, seed=1)
    with pytest.raises(InputError, match=r"none of its \d+ test samples is among these 75"):
        evaluation_data(run, None)


def test_test_samples_that_are_gone_are_told(run, caplog):
    samples, split = evaluation_data(run, None)
    for row in split.test_normal[:3]:
        (run.path.parent / "parts" / "normal" / samples.paths[row].rpartition("/")[2]).unlink()
    _, again = evaluation_data(run, None)
    assert len(again.test_normal) == len(split.test_normal) - 3
    assert f"3 of the {len(split.labelled('test')[0])} test samples are GONE" in caplog.text


def test_evaluating_on_what_was_trained_on_is_told(run, caplog):
    split = run.split
    evaluation_data(run, run.path.parent / "parts")
    count, held = len(split.labelled("train")[0]), len(split.labelled("validation")[0])
    assert f"{count} of 75 samples were TRAINED ON and {held} were held out" in caplog.text


def test_recalibrating_counts_distinct_images_and_leaves_out_what_was_trained_on(run, tmp_path, caplog):
    normals = run.path.parent / "parts" / "normal"
    rename_all(run.path.parent / "parts")
    shutil.rmtree(run.path.parent / "parts" / "anomaly")  # the source cannot be split again
    given = tmp_path / "given"
    shutil.copytree(normals, given)
    first = min(given.iterdir())
    for index in range(5):
        shutil.copy(first, given / f"copy_{index}.png")
    done = recalibrate(run.path, rate=0.2, normals=given)
    assert done.left_out + done.copies >= len(run.split.train_normal)
    assert done.calibration.n_normal == 60 - len(run.split.train_normal)
    assert "of the TEST PART" in caplog.text


def test_an_older_run_says_when_it_cannot_tell_what_it_was_trained_on(run, caplog):
    for name in (FILE, "scores.npz"):
        (run.path / name).unlink()
    given = run.path.parent / "elsewhere"
    shutil.move(run.path.parent / "parts", given)
    done = recalibrate(run.path, rate=0.2, normals=given / "normal")
    assert done.calibration.n_normal == 60
    assert "CANNOT BE LEFT OUT" in caplog.text


def test_an_older_run_still_notices_data_that_split_differently(run):
    (run.path / FILE).unlink()
    old = load_run(run.path)
    evaluation_data(old, None)
    next((run.path.parent / "parts" / "normal").iterdir()).unlink()
    with pytest.raises(InputError, match="split differently"):
        evaluation_data(old, None)


def test_recalibrating_and_its_refusals_need_no_tensorflow(run):
    code = (
        "import sys; from agad_tf.errors import InputError\n"
        "from agad_tf.training.recalibration import recalibrate\n"
        f"path = {str(run.path)!r}\n"
        "recalibrate(path, rate=.2)\n"
        "try:\n    recalibrate(path, rate=.0001)\nexcept InputError as error:\n    print(error)\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "9999 held-out normals" in done.stdout


def test_a_threshold_is_shown_with_its_price(run):
    result = CliRunner().invoke(main, ["recalibrate", str(run.path), "--quantile", ".1"])
    assert result.exit_code == 0, result.stderr
    calibration = Calibration.load(run.path / "calibration.json")
    above = np.mean(calibration.normal_scores > calibration.threshold)
    assert above > 0.8
    assert f"{100 * above:.4g} % of the {calibration.n_normal} held-out normals lie above it" in result.stdout
    assert "on the test part of the run" in result.stdout
    stored = json.loads((run.path / "calibration.json").read_text())
    assert stored["observed_false_alarm_rate"] == above


def test_the_model_card_tells_the_figures_of_the_threshold_that_is_exported(run):
    from agad_tf.export.model_card import run_card

    recalibrate(run, quantile=0.1)
    again = load_run(run.path)
    card = run_card(again)
    scores = StoredScores.load(run.path / "scores.npz")
    assert card["metrics"]["threshold"] == again.calibration.threshold == card["calibration"]["threshold"]
    expected = np.mean(scores.test_normal > again.calibration.threshold)
    assert card["metrics"]["false_alarm_rate"] == expected != run.metrics["false_alarm_rate"]


def test_tables_are_found_again_by_content(tmp_path, caplog):
    rng = np.random.default_rng(0)
    rows = [[*map(float, rng.normal(size=3)), 0] for _ in range(60)]
    rows += [[*map(float, rng.normal(size=3) + 4), 1] for _ in range(10)]

    def write(rows):
        with open(tmp_path / "t.csv", "w", newline="") as file:
            csv.writer(file).writerows([["a", "b", "c", "label"], *rows])

    write(rows)
    configuration = configure("aa_bigan", settings=[("source", str(tmp_path / "t.csv"))])
    samples, split = load_split(configuration)
    known = KnownSamples.of(samples, split)
    write(rows[::-1])
    turned, _ = load_split(configuration)
    again, _ = known.split_again(turned, split, "run")
    for part in ("train", "validation", "test"):
        assert contents(turned, again.labelled(part)[0]) == contents(samples, split.labelled(part)[0])
