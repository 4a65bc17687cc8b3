"""A run and its report: no class name and no broken picture costs the training."""

import logging

import numpy as np
import pytest
from PIL import Image
from run_cases import untrained_run

from agad_tf.evaluation.regions import RegionRule
from agad_tf.training import pictures
from agad_tf.training.evaluate import judge
from agad_tf.training.open import load_run, load_split


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for name, count in (("normal", 40), (r"anomaly/$\frac{1}{$", 6)):
        (folder / "parts" / name).mkdir(parents=True)
        for index in range(count):
            image = Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8))
            image.save(folder / "parts" / name / f"{index}.png")
    return untrained_run(folder / "run", folder / "parts")


def test_a_class_that_is_a_broken_formula_and_regions_of_the_run(run):
    samples, split = load_split(run.configuration)
    evaluation = judge(run.model, samples, split)
    pictures.show(evaluation, run.path, "parts", run.configuration)
    assert r"$\frac{1}{$" in (run.path / "report.html").read_text()
    assert (run.path / "reconstructions.png").is_file()
    again = load_run(run.path)
    assert isinstance(again.regions, RegionRule)
    assert again.regions.n_normal == len(split.validation_normal)
    # The same rule is used when the run is judged on data without held-out normals.
    evaluation = judge(again.model, samples, split, again.calibration, again.regions)
    assert evaluation.region_rule is again.regions


def test_a_report_that_fails_is_a_warning(run, tmp_path, monkeypatch, caplog):
    def broken(*arguments):
        raise RuntimeError("no canvas")

    monkeypatch.setattr(pictures, "write_report", broken)
    samples, split = load_split(run.configuration)
    with caplog.at_level(logging.WARNING, logger="agad_tf"):
        pictures.show(judge(run.model, samples, split), tmp_path, "parts", run.configuration)
    assert "the run is whole, but its report could not be drawn (RuntimeError: no canvas)" in caplog.text
