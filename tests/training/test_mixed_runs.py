"""Runs of mixed tables: trained with --missing, scored with swapped columns, new texts and empty cells."""

import csv
import io

import numpy as np
import pytest
from click.testing import CliRunner

from agad_tf.cli import main

LINE = "supplier,pressure,torque"


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A file of normals and anomalies, every ninth torque empty."""
    rng = np.random.default_rng(0)
    lines = [f"{LINE},label"]
    for index in range(460):
        label = int(index >= 420)
        torque = "" if index % 9 == 0 else f"{rng.normal(12, 1):.3f}"
        supplier = "east" if label else rng.choice(["north", "south"])
        lines.append(f"{supplier},{rng.normal(4 + label, 0.2):.3f},{torque},{label}")
    path = tmp_path_factory.mktemp("mixed") / "parts.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(table):
    settings = ("--epochs", 1, "--batch-size", 64, "--detector", "aa_bigan", "--quiet")
    invoke("train", "--data", table, "--missing", "indicator", *settings, "--out", table.parent / "run")
    return table.parent / "run"


def scored(model, path, code=0):
    return list(csv.DictReader(io.StringIO(invoke("score", model, path, code=code).stdout)))


def test_missing_values_are_refused_until_they_are_asked_for(table, tmp_path):
    said = invoke(
        "train", "--data", table, "--detector", "aa_bigan", "--out", tmp_path / "run", code=2
    ).stderr
    assert "missing values in column 'torque'" in said
    assert "--missing median or indicator" in said
    assert not list(tmp_path.iterdir())
    said = invoke("train", "--data", table, "--missing", "mean", "--out", tmp_path / "run", code=2).stderr
    assert "refuse, median, indicator, received 'mean'" in said


def test_score_takes_what_the_user_has(run, tmp_path):
    (tmp_path / "new.csv").write_text(f"{LINE}\nnorth,4,12\nnowhere,4,12\nnorth,4,\n,4,12\n")
    turned = "torque,supplier,pressure\n12,north,4\n12,nowhere,4\n,north,4\n12,,4\n"
    (tmp_path / "turned.csv").write_text(turned)
    rows = scored(run, tmp_path / "new.csv")
    assert [row["error"] for row in rows] == [""] * 4
    # Nobody's supplier was missing in training: the most frequent one stands for it.
    scores = [row["score"] for row in rows]
    assert len(set(scores)) >= 3
    assert [row["score"] for row in scored(run, tmp_path / "turned.csv")] == scores
    (tmp_path / "broken.csv").write_text(f"{LINE}\nnorth,four,12\nnorth,4,12\n")
    rows = scored(run, tmp_path / "broken.csv", code=3)
    assert "received 'four' in column 'pressure'" in rows[0]["error"]
    assert rows[1]["score"] == scores[0]


def test_a_run_finds_its_rows_again(run, table, caplog):
    invoke("evaluate", run)
    assert not caplog.text
    invoke("evaluate", run, "--data", table)
    assert "TRAINED ON" in caplog.text
    invoke("recalibrate", run, "--rate", "0.1")


@pytest.mark.slow
def test_an_export_agrees(run, table, tmp_path):
    for form in ("savedmodel", "tflite"):
        invoke("export", run, "--format", form, "--to", tmp_path / form)
        (tmp_path / "new.csv").write_text(f"{LINE}\nnorth,4,12\nnowhere,4,\n")
        exported = [float(row["score"]) for row in scored(tmp_path / form, tmp_path / "new.csv")]
        own = [float(row["score"]) for row in scored(run, tmp_path / "new.csv")]
        np.testing.assert_allclose(exported, own, rtol=1e-4, atol=1e-5)
