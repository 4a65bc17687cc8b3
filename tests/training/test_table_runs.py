"""Runs of tables: every command matches columns by name, and takes the label column it is told."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from agad_tf.cli import main

NAMES = ("a", "b", "c")


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def write(path, names, rows, labels=None, label="label"):
    lines = [",".join([*names, label] if labels is not None else names)]
    for index, row in enumerate(rows):
        cells = [repr(float(value)) for value in row]
        lines.append(",".join(cells if labels is None else [*cells, str(labels[index])]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(460, 3)) * [1, 10, 0.04] + [0, 50, 5400123.0]
    labels = np.repeat([0, 1], [420, 40])
    rows[420:] += [4, -40, 0.2]
    return rows, labels


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    write(folder / "train.csv", NAMES, *table, label="outcome")
    settings = ("--epochs", 1, "--batch-size", 64, "--detector", "aa_bigan", "--quiet")
    data = ("--data", folder / "train.csv", "--label-column", "outcome")
    invoke("train", *data, *settings, "--out", folder / "run")
    return folder / "run"


def score(run, path, code=0):
    return list(csv.DictReader(io.StringIO(invoke("score", run, path, code=code).stdout)))


def test_score_takes_columns_by_name(run, table, tmp_path):
    rows = table[0][:20]
    same = [row["score"] for row in score(run, write(tmp_path / "same.csv", NAMES, rows))]
    turned = write(tmp_path / "turned.csv", NAMES[::-1], rows[:, ::-1])
    assert [row["score"] for row in score(run, turned)] == same
    with_id = write(tmp_path / "id.csv", ("id", *NAMES), np.column_stack([np.arange(20), rows]))
    renamed = write(tmp_path / "renamed.csv", ("p", "q", "r"), rows)
    for path, said in ((with_id, "unknown: 'id'"), (renamed, "missing: 'a', 'b', 'c'; unknown: 'p'")):
        (row,) = score(run, path, code=3)
        assert said in row["error"]


def test_evaluate_takes_columns_by_name(run, table, tmp_path):
    rows, labels = table
    moved = rows + np.array([0.001, 0, 0])  # what was trained on is warned of
    figures = []
    for names, x in ((NAMES, moved), (NAMES[::-1], moved[:, ::-1])):
        path = write(tmp_path / "other.csv", names, x, labels, label="outcome")
        figures.append(json.loads(invoke("evaluate", run, "--data", path, "--json").stdout))
    assert figures[0]["auroc"] == figures[1]["auroc"]
    path = write(tmp_path / "kind.csv", NAMES, moved, labels, label="kind")
    assert "'outcome'" in invoke("evaluate", run, "--data", path, code=2).output
    named = json.loads(invoke("evaluate", run, "--data", path, "--label-column", "kind", "--json").stdout)
    assert named["auroc"] == figures[0]["auroc"]


def test_recalibrate_takes_columns_by_name_and_needs_no_label(run, table, tmp_path):
    rows = table[0][:200] + np.array([0.001, 0, 0])
    thresholds = []
    for names, x in ((NAMES, rows), (NAMES[::-1], rows[:, ::-1])):
        path = write(tmp_path / "normals.csv", names, x)
        result = json.loads(invoke("recalibrate", run, "--normals", path, "--json").stdout)
        assert result["n_normal"] == 200
        thresholds.append(result["threshold"])
    assert thresholds[0] == thresholds[1]
    path = write(tmp_path / "renamed.csv", ("a", "b", "z"), rows)
    assert "missing: 'c'; unknown: 'z'" in invoke("recalibrate", run, "--normals", path, code=2).output
