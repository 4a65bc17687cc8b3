"""`agad-tf score`: the same rows whatever runs the model, and one clear line for what cannot be done."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from agad_cases import photographs
from click.testing import CliRunner
from contracts import check_agreement
from loopback_server import ServerError, loopback
from serving_cases import (
    FEATURES,
    detector,
    encode,
    exports,
    image_files,
    scores_of_files,
    served,
    squared_length,
    tflite,
)

from agad_tf.cli import main
from agad_tf.models.scorer import AnomalyScorer

IMAGES = ["keras", "versions", "tflite", "http", "grpc"]


@pytest.fixture(scope="module")
def server():
    with loopback(served()) as server:
        yield server


@pytest.fixture(scope="module")
def models(server, tmp_path_factory):
    """How each kind of detector is named on the command line."""
    keras_file = tmp_path_factory.mktemp("keras") / "model.keras"
    detector()[0].save(keras_file)
    return {
        "keras": [keras_file],
        "versions": [exports()["parts"]],
        "savedmodel": ["--format", "savedmodel", exports()["parts"] / "1"],
        "tflite": ["--format", "tflite", tflite()],
        "http": ["--server", f"{server.rest}/parts/2"],
        "grpc": ["--server", f"{server.grpc}/parts"],
        "rows": [exports()["rows"]],
        "rows-http": ["--server", f"{server.rest}/rows"],
    }


@pytest.fixture
def images(tmp_path):
    """Image files of several formats and sizes, two of them broken; and their contents."""
    contents = image_files(14)
    contents["003.bmp"] = contents["003.png"] = b"no image"
    folder = tmp_path / "images"
    folder.mkdir()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder, contents


def invoke(*arguments, code=0, stdin=None):
    result = CliRunner().invoke(main, ["score", *map(str, arguments)], input=stdin)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def check_rows(rows, contents):
    """A row a file in order of the names; those that can be read have the scores of the detector."""
    assert [Path(row["path"]).name for row in rows] == sorted(contents)
    good = [name for name in sorted(contents) if contents[name] != b"no image"]
    scored = [row for row in rows if not row["error"]]
    assert [Path(row["path"]).name for row in scored] == good
    scores = np.array([np.float32(row["score"]) for row in scored])
    check_agreement(scores, scores_of_files(contents[name] for name in good))
    for row in rows:
        if row["error"]:
            assert "expected a readable" in row["error"]
            assert (row["score"], row["p_value"], row["is_anomaly"]) == ("", "", "")
    return scored, scores


@pytest.mark.parametrize("kind", IMAGES)
def test_every_backend_gives_the_same_rows(models, images, kind):
    folder, contents = images
    result = invoke(*models[kind], folder, "--batch-size", 5, code=3)
    scored, scores = check_rows(rows_of(result.stdout), contents)
    assert f"{len(scored)} scored, 2 failed" in result.stderr
    if kind == "keras":  # no calibration beside it
        assert {(row["p_value"], row["is_anomaly"]) for row in scored} == {("", "")}
    else:
        calibration = detector()[1]
        p_values = [float(row["p_value"]) for row in scored]
        np.testing.assert_allclose(p_values, calibration.p_values(scores), atol=1e-5)
        assert [row["is_anomaly"] for row in scored] == list(map(str, calibration.is_anomaly(scores)))


def test_the_newest_version_is_taken(tmp_path, images):
    folder, _ = images
    for version in ("9", "10", "11"):
        (tmp_path / "parts" / version).mkdir(parents=True)
    (tmp_path / "parts" / "9" / "saved_model.pb").write_bytes(b"")
    shutil.copy(tflite(), tmp_path / "parts" / "10" / "model.tflite")
    invoke("--format", "tflite", tmp_path / "parts", folder / "000.png")
    invoke("--format", "savedmodel", tmp_path / "parts", folder / "000.png", code=2)


@pytest.mark.parametrize("kind", ["savedmodel", "grpc"])
def test_a_threshold_given_decides(models, images, kind):
    folder, contents = images
    scores = np.sort(scores_of_files(data for data in contents.values() if data != b"no image"))
    middle = float(scores[len(scores) // 2 - 1 : len(scores) // 2 + 1].mean())  # none is rounded across it
    rows = rows_of(invoke(*models[kind], folder, "--threshold", middle, code=3).stdout)
    decided = [
        (float(row["score"]) > middle, row["is_anomaly"] == "True") for row in rows if not row["error"]
    ]
    assert all(expected == received for expected, received in decided)
    assert {received for _, received in decided} == {True, False}


def test_paths_on_standard_input_and_json_lines_into_a_file(models, images, tmp_path):
    folder, contents = images
    names = [str(folder / name) for name in sorted(contents)]
    out = tmp_path / "scores.jsonl"
    lines = "\n".join([*names, str(folder / "missing.png"), str(folder)])
    result = invoke(*models["versions"], "-", "--output-format", "jsonl", "--out", out, stdin=lines, code=3)
    assert result.stdout == ""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    missing, is_folder = rows[-2:]
    assert "no such file" in missing["error"]
    assert "a folder" in is_folder["error"]
    assert list(rows[0]) == ["path", "score", "p_value", "is_anomaly", "error"]
    assert [row["path"] for row in rows[:-2]] == names
    as_text = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows[:-2]]
    check_rows(as_text, contents)
    assert not list(tmp_path.glob("*.partial"))


def test_all_scored_is_status_0_and_an_empty_list_is_no_error(models, tmp_path):
    (tmp_path / "größe 日本.png").write_bytes(encode(photographs(1)))
    result = invoke(*models["grpc"], tmp_path)
    assert rows_of(result.stdout)[0]["path"].endswith("größe 日本.png")
    assert "1 scored in" in result.stderr
    result = invoke(*models["grpc"], "-", stdin="")
    assert result.stdout == "path,score,p_value,is_anomaly,error\n"


@pytest.mark.parametrize("kind", ["rows", "rows-http"])
def test_tables_are_scored_row_by_row(models, kind, tmp_path):
    table = np.random.default_rng(0).normal(size=(40, FEATURES)).astype(np.float32)
    lines = [",".join(map(repr, row)) for row in table.tolist()]
    lines[7], lines[20] = "1,2", "1,2,three,4"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    np.savez(tmp_path / "t.npz", X=table, y=np.zeros(len(table)))
    result = invoke(*models[kind], tmp_path, "--batch-size", 16, code=3)
    rows = rows_of(result.stdout)
    assert list(rows[0]) == ["path", "row", "score", "p_value", "is_anomaly", "error"]
    from_csv, from_npz = rows[:40], rows[40:]
    assert [int(row["row"]) for row in from_csv] == [int(row["row"]) for row in from_npz] == list(range(40))
    assert [index for index, row in enumerate(from_csv) if row["error"]] == [7, 20]
    expected = squared_length(table)
    for index, row in enumerate(from_csv + from_npz):
        if not row["error"]:
            assert float(row["score"]) == pytest.approx(expected[index % 40], rel=1e-5)
            assert row["is_anomaly"] == str(bool(np.float32(row["score"]) > 1))


def test_a_server_that_goes_away_leaves_the_rows_so_far(server, models, images, tmp_path):
    folder, _ = images
    out = tmp_path / "scores.csv"
    invoke(*models["http"], folder, "--out", out, code=3)
    whole = rows_of(out.read_text())
    # Two batches of four, then an error that is no matter of a file.
    server.models.trouble = [None, None, ServerError("INTERNAL", "out of memory")]
    server.models.requests.clear()
    result = invoke(*models["http"], folder, "--out", out, "--batch-size", 4, code=2)
    assert "out of memory" in result.stderr
    assert result.stderr.count("\n") == 1
    assert rows_of(out.read_text()) == whole  # the file of the job before
    kept = rows_of((tmp_path / "scores.csv.partial").read_text())
    assert [row["path"] for row in kept] == [row["path"] for row in whole[:8]]


def test_what_cannot_be_done_is_told_in_one_line_and_nothing_is_written(models, images, tmp_path, server):
    folder, _ = images
    out = tmp_path / "scores.csv"
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "saved_model.pb").write_bytes(b"no graph")
    (tmp_path / "damaged.keras").write_bytes(b"no zip")
    keras_file = models["keras"][0]
    for arguments, word in [
        ([tmp_path / "nothing", folder], "nothing there"),
        ([folder, folder], "another kind"),
        ([tmp_path / "damaged", folder], "SavedModel"),
        ([tmp_path / "damaged.keras", folder], "damaged.keras"),
        (["--format", "run", keras_file, folder], "--format"),
        ([keras_file, tmp_path / "no.png"], "no.png"),
        (["--server", "http://127.0.0.1:1", folder], "name the model"),
        (["--server", f"{server.rest}/nobody", folder], "nobody"),
        (["--server", f"{server.grpc}/parts/9", folder], "version 9"),
        (["--server", "ftp://127.0.0.1:1/parts", folder], "ftp"),
    ]:
        result = invoke(*arguments, "--out", out, code=2)
        assert word in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    invoke(keras_file, folder, "--out", tmp_path, code=2)
    invoke(keras_file, folder, "--out", tmp_path / "nowhere" / "x.csv", code=2)
    invoke(keras_file, code=2)
    assert not list(tmp_path.glob("scores*"))


def test_a_model_is_given_as_many_images_as_it_scores_at_once(models, tmp_path, monkeypatch):
    """Large networks say how many: all of a large batch together would take gigabytes."""
    for index, pixels in enumerate(photographs(7)):  # of one shape: another one would begin a batch
        (tmp_path / f"{index}.png").write_bytes(encode(pixels, "PNG"))
    sizes = []
    usual = AnomalyScorer.call
    monkeypatch.setattr(AnomalyScorer, "scoring_batch", 3)
    monkeypatch.setattr("agad_tf.scoring.pipeline.STALLED_SECONDS", 60.0)  # reading is slow on a busy machine

    def watched(self, x, training=False):
        tf.py_function(lambda count: sizes.append(int(count)), [tf.shape(x)[0]], [])
        return usual(self, x, training)

    monkeypatch.setattr(AnomalyScorer, "call", watched)
    rows = rows_of(invoke(*models["keras"], tmp_path).stdout)
    assert sizes == [3, 3, 1]
    scores = detector()[0].predict(photographs(7), verbose=0)
    np.testing.assert_allclose([float(row["score"]) for row in rows], scores, rtol=1e-5)
