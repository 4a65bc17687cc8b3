"""Masks that a run learns from: read once, told, and the same when the run goes on."""

import json
from collections import Counter

import feature_cases
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from agad_tf.cli import main
from agad_tf.comparison import candidates, compare
from agad_tf.errors import InputError
from agad_tf.training import localisation
from agad_tf.training import train as module
from agad_tf.training.configuration import configure
from agad_tf.training.open import load_split

LABELLED = 6
"""Labelled anomalies of each of two kinds; the first of each has no mask."""


@pytest.fixture
def read(monkeypatch):
    """How often each mask of the training part was read."""
    counter, real = Counter(), localisation.read_mask

    def read_mask(path):
        counter[str(path)] += 1
        return real(path)

    monkeypatch.setattr(localisation, "read_mask", read_mask)
    return counter


@pytest.fixture
def plates(tmp_path):
    """A folder of grey plates; anomalies have a bright bar."""
    folder = tmp_path / "plates"
    sides = [("train", "good", 30), ("test", "good", 10)]
    sides += [("train", kind, LABELLED) for kind in ("bar", "spot")] + [("test", "bar", 4)]
    for seed, (part, kind, count) in enumerate(sides):
        place, masks = folder / part / kind, folder / "ground_truth" / part / kind
        place.mkdir(parents=True)
        images = feature_cases.parts(count, range(count) if kind != "good" else (), seed=seed)[..., 0]
        for index, image in enumerate(images):
            Image.fromarray(image).save(place / f"{index}.png")
            if kind != "good" and part == "train" and index:
                masks.mkdir(parents=True, exist_ok=True)
                mask = np.where(image > 180, np.uint8(255), np.uint8(0))
                Image.fromarray(mask).save(masks / f"{index}.png")
    return folder


@pytest.fixture
def configuration(plates, tmp_path):
    feature_cases.small_network(channels=3).save(tmp_path / "small.keras")
    settings = {"source": str(plates), "features": str(tmp_path / "small.keras"), "image_size": 64}
    settings |= {"units": [16, 8], "epochs": 1, "baseline": False, "rate": 0.5}
    return configure("features", settings=settings.items())


def test_a_run_says_from_how_many_masks_it_learnt_and_reads_each_once(
    configuration, tmp_path, read, monkeypatch
):
    monkeypatch.setattr("agad_tf.models.feature_discriminator.STEPS", 20)
    metrics = module.train(configuration, tmp_path / "run", progress=False)
    assert metrics["masks_learnt"] == {"masks": 10, "labelled_anomalies": 12}
    assert set(metrics["leave_one_kind_out"]) == {"bar", "spot"}  # two more trainings with masks
    assert sorted(read.values()) == [1] * 10
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert stored["masks_learnt"] == metrics["masks_learnt"]
    line = "masks of 10 of 12 labelled anomalies were learnt from"
    assert line in (tmp_path / "run" / "report.html").read_text()
    said = CliRunner().invoke(main, ["evaluate", str(tmp_path / "run"), "--no-baseline"])
    assert said.exit_code == 0, said.output
    assert line in said.output


def test_a_run_goes_on_with_the_same_masks_only(configuration, plates, tmp_path, monkeypatch):
    monkeypatch.setattr("agad_tf.models.feature_discriminator.STEPS", 20)
    run, masks = tmp_path / "run", plates / "ground_truth" / "train" / "bar"

    def killed(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_model", killed)
        with pytest.raises(RuntimeError, match="killed"):
            module.train(configuration, run, progress=False)

    def refused(expected):
        with pytest.raises(InputError, match=expected) as caught:
            module.train(configuration, run, progress=False, resume=True)
        assert "\n" not in str(caught.value)

    one = masks / "1.png"
    before = one.read_bytes()
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(one)
    refused(r"masks of labelled anomalies was 10 of 12, content (\w+), is 10 of 12, content (?!\1)\w+;")
    one.unlink()
    refused(r"was 10 of 12, content \w+, is 9 of 12, content \w+; undo the change")
    one.write_bytes(before)
    added = masks / "0.png"
    added.write_bytes(before)
    refused(r"was 10 of 12, content \w+, is 11 of 12, content")
    added.unlink()
    metrics = module.train(configuration, run, progress=False, resume=True)
    assert metrics["masks_learnt"]["masks"] == 10


def test_without_masks_nothing_is_said_of_them(configuration, plates, tmp_path, monkeypatch):
    monkeypatch.setattr("agad_tf.models.feature_discriminator.STEPS", 2)
    for mask in (plates / "ground_truth").rglob("*.png"):
        mask.unlink()
    configuration["report"]["left_out"] = False
    metrics = module.train(configuration, tmp_path / "run", progress=False)
    assert "masks_learnt" not in metrics
    assert "learnt from" not in (tmp_path / "run" / "report.html").read_text()


def test_a_comparison_reads_each_mask_once_for_all_folds(configuration, read, monkeypatch):
    monkeypatch.setattr("agad_tf.models.feature_discriminator.STEPS", 2)
    samples, split = load_split(configuration)
    learnt = []

    def build(*_):
        model = feature_cases.make()
        fit = model.fit
        model.fit = lambda *args, **kept: fit(*args, **kept) and learnt.append(model.masks_learnt)
        return model

    monkeypatch.setattr(candidates, "build", build)
    folds = np.arange(2 * LABELLED) % 2
    compare._train_and_judge(["features"], samples, split, folds, None, [])
    assert learnt[0] == 10
    assert sum(learnt[1:]) == 10  # each is in one of the two folds
    assert sorted(read.values()) == [1] * 10
