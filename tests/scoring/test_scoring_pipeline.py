"""Reading ahead in order and within bounds, and what becomes of samples that cannot be scored."""

import csv
import io
import json
import os
import threading
import time

import numpy as np
import pytest

from agad_tf.errors import InputError
from agad_tf.files import check_writable
from agad_tf.scoring import files, pipeline, results
from agad_tf.scoring.files import Sample
from agad_tf.scoring.results import Row


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A busy machine is no trickle: batches are cut for the reasons that a test gives."""
    monkeypatch.setattr(pipeline, "STALLED_SECONDS", 30)


def brightness(values):
    return {"score": np.array([np.mean(value) for value in values], np.float32)}


def score(paths, read, **settings):
    batches = list(
        pipeline.score_samples((Sample(str(path)) for path in paths), read, brightness, **settings)
    )
    return batches, [row for batch in batches for row in batch]


def picture(path):
    return np.full((2, 2, 1), int(path), np.uint8)


def test_rows_come_in_order_however_long_each_file_takes():
    delays = np.random.default_rng(0).uniform(0, 0.003, 60)

    def slow(path):
        time.sleep(delays[int(path)])
        return picture(path)

    batches, rows = score(range(60), slow, batch_size=8)
    assert [(row.path, row.score) for row in rows] == [(str(i), i) for i in range(60)]
    assert [len(batch) for batch in batches] == [8] * 7 + [4]


def test_a_file_that_fails_is_a_row_and_the_others_are_scored():
    def read(path):
        if int(path) % 3 == 1:
            raise InputError(f"{path}: bad")
        if int(path) % 3 == 2:
            raise RuntimeError("a decoder\nstumbled")
        return picture(path)

    _, rows = score(range(30), read, batch_size=4)
    assert [row.path for row in rows] == [str(i) for i in range(30)]
    for index, row in enumerate(rows):
        assert (row.score is None) == (index % 3 > 0)
        assert (row.error is None) == (index % 3 == 0)
    assert rows[1].error == "1: bad"
    assert "a decoder stumbled" in rows[2].error


def test_another_shape_begins_another_batch_and_errors_do_not():
    shapes = {"0": 2, "1": 2, "2": None, "3": 2, "4": 3, "5": 3}

    def read(path):
        if shapes[path] is None:
            raise InputError("no")
        return np.zeros((shapes[path], 1, 1), np.uint8)

    batches, _ = score(range(6), read)
    assert [[row.path for row in batch] for batch in batches] == [["0", "1", "2", "3"], ["4", "5"]]


def test_a_batch_is_cut_by_its_bytes(monkeypatch):
    monkeypatch.setattr(pipeline, "BATCH_BYTES", 7)
    batches, _ = score(range(5), picture)  # 4 bytes each
    assert [len(batch) for batch in batches] == [2, 2, 1]


def test_what_waits_is_bounded_in_number_and_in_bytes(monkeypatch):
    """A model that does not come back for more: reading must stop, whatever is left to read."""
    reading = []
    go = threading.Event()

    def read(path):
        reading.append(path)
        return picture(path)

    def stuck(values):
        assert go.wait(10)
        return brightness(values)

    def reads_while_the_model_is_stuck():
        reading.clear()
        go.clear()
        rows = pipeline.score_samples((Sample(str(i)) for i in range(200)), read, stuck, batch_size=4)
        consumer = threading.Thread(target=lambda: [None for _ in rows])
        consumer.start()
        time.sleep(0.3)
        count = len(reading)
        go.set()
        consumer.join()
        assert len(reading) == 200
        return count

    assert reads_while_the_model_is_stuck() <= 4 + 1 + 2 * 4
    monkeypatch.setattr(pipeline, "AHEAD_BYTES", 0)
    assert reads_while_the_model_is_stuck() <= 4 + 1 + 1 + (os.cpu_count() or 1)


def test_a_trickle_is_scored_before_a_batch_is_full(monkeypatch):
    monkeypatch.setattr(pipeline, "STALLED_SECONDS", 0.05)
    more = threading.Event()

    def trickle():
        yield Sample("1")
        yield Sample("2")
        assert more.wait(10)
        yield Sample("3")

    rows = pipeline.score_samples(trickle(), picture, brightness)
    early = []
    while len(early) < 2:
        early += next(rows)
    assert [row.path for row in early] == ["1", "2"]
    more.set()
    assert [row.path for batch in rows for row in batch] == ["3"]


def test_threads_end_when_the_reader_of_rows_goes_away():
    before = threading.active_count()
    rows = pipeline.score_samples(
        (Sample(str(i)) for i in range(10**9)), lambda path: picture(1), brightness, 4
    )
    next(rows)
    rows.close()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_trouble_in_finding_files_reaches_the_caller():
    def broken():
        yield Sample("1")
        raise InputError("the list ended badly")

    with pytest.raises(InputError, match="ended badly"):
        list(pipeline.score_samples(broken(), picture, brightness))


def test_scores_that_are_not_finite_are_errors_and_a_threshold_decides():
    def model(values):
        return {
            "score": np.array([0.5, np.nan, 2.0], np.float32),
            "p_value": np.array([0.5, np.nan, 0.1]),
            "is_anomaly": np.array([True, True, True]),
            "error": np.array([None, None, "refused"], object),
        }

    (rows,) = pipeline.score_samples([Sample(str(i)) for i in range(3)], picture, model, threshold=0.5)
    assert rows[0] == Row("0", None, 0.5, 0.5, False, None)  # the threshold itself is no alarm
    assert "nan" in rows[1].error
    assert rows[1].score is None
    assert rows[2].error == "refused"
    (rows,) = pipeline.score_samples([Sample(str(i)) for i in range(3)], picture, model)
    assert rows[0].is_anomaly is True


ROWS = [
    Row('a, b\n"c".png', None, float(np.float32(1 / 3)), 0.25, True),
    Row("größe\r/日本.png", None, 1e-20),
    Row(os.fsdecode(b"no utf \xff.png"), error="x: expected\tthis, received that"),
]


def test_both_formats_give_back_every_value(tmp_path):
    for form in results.FORMATS:
        with results.open_output(tmp_path / form, None) as stream:
            assert results.write_rows([ROWS[:2], ROWS[2:]], stream, form, table=False) == (2, 1)
    with open(tmp_path / "csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        cells = list(csv.DictReader(file))
    objects = [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()]
    assert list(cells[0]) == list(objects[0]) == ["path", "score", "p_value", "is_anomaly", "error"]
    for row, cell, thing in zip(ROWS, cells, objects, strict=True):
        assert cell["path"] == thing["path"] == row.path
        assert (cell["error"] or None) == thing["error"] == row.error
        if row.score is not None:
            assert np.float32(cell["score"]) == np.float32(thing["score"]) == np.float32(row.score)
    assert cells[0]["is_anomaly"] == "True"
    assert objects[0]["is_anomaly"] is True
    assert objects[1]["p_value"] is None


def test_the_row_of_a_table_is_written_for_tables_alone():
    stream = io.StringIO()
    results.write_rows([[Row("t.csv", 3, 1.0)]], stream, "csv", table=True)
    assert stream.getvalue() == "path,row,score,p_value,is_anomaly,error\nt.csv,3,1,,,\n"


def test_a_file_grows_under_another_name_and_keeps_what_a_broken_job_had(tmp_path):
    out = tmp_path / "scores.csv"

    def job(break_it):
        yield ROWS[:1]
        assert not out.exists()
        (growing,) = tmp_path.glob(".scores.csv.*.partial")
        assert "0.333333343" in growing.read_text()
        if break_it:
            raise InputError("the server went away")
        yield ROWS[1:2]

    def run(break_it):
        with results.open_output(out, None) as stream:
            results.write_rows(job(break_it), stream, "csv", table=False)

    with pytest.raises(InputError):
        run(break_it=True)
    assert not out.exists()
    assert "0.333333343" in (tmp_path / "scores.csv.partial").read_text()
    run(break_it=False)
    assert out.read_bytes().count(b"\n") == 4  # one name has a line of its own
    assert not (tmp_path / "scores.csv.partial").exists()


def test_outputs_that_cannot_be_written_are_refused_at_once(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere" / "scores.csv"):
        with pytest.raises(InputError, match=path.name):
            check_writable(path)


def found(*paths, stdin=b"", table=False):
    return list(files.find_files([str(path) for path in paths], io.BytesIO(stdin), table))


def test_files_are_found_in_folders_in_order_and_nothing_is_lost(tmp_path, caplog):
    for name in (
        "b.png",
        "a/2.JPG",
        "a/1.bmp",
        "a.jpeg",
        ".hidden.png",
        ".folder/x.png",
        "notes.txt",
        "c.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "in.png").write_bytes(b"")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path)
    names = [os.path.relpath(sample.path, tmp_path) for sample in found(tmp_path)]
    assert names == ["a/1.bmp", "a/2.JPG", "a.jpeg", "b.png", "folder.png/in.png", "gone.png"]
    assert "3 files do not end in" in caplog.text  # the text, the table and the link
    assert [os.path.basename(sample.path) for sample in found(tmp_path, table=True)] == ["c.csv"]


def test_a_folder_without_images_is_an_error_of_its_own(tmp_path):
    (sample,) = found(tmp_path)
    assert sample.path == str(tmp_path)
    assert "received none of them" in sample.error


def test_standard_input_gives_one_file_a_line(tmp_path):
    lines = "a.png\r\n\n  \nwith space.png\ngrößer.png\n".encode() + b"bytes\xff.png\nlast.png"
    paths = [sample.path for sample in found("first.png", "-", stdin=lines)]
    assert paths[:4] == ["first.png", "a.png", "with space.png", "größer.png"]
    assert [os.fsencode(path) for path in paths[4:]] == [b"bytes\xff.png", b"last.png"]


def test_paths_that_do_not_exist_are_told_before_anything_is_scored(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        files.check_paths(["-", str(tmp_path), str(tmp_path / "nowhere")])


def test_pipes_and_folders_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    read = files.regular(lambda path: path)
    for path, word in ((tmp_path, "a folder"), (tmp_path / "pipe.png", "a pipe")):
        with pytest.raises(InputError, match=word):
            read(str(path))
    assert read(str(tmp_path / "missing.png")) == str(tmp_path / "missing.png")  # the decoder will tell
