"""A job in parts: what is planned, kept, joined and gone on with, without the cluster that does the work."""

import contextlib
import csv
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from serving_cases import FEATURES, exports, image_files

from agad_tf.cli import main
from agad_tf.errors import InputError
from agad_tf.scoring import parts, ray_engine
from agad_tf.scoring.files import Sample

JOB = {"files": "a", "model": "b", "threshold": None}


def named(count):
    return [Sample(f"{index}.png") for index in range(count)]


@pytest.mark.parametrize(
    ("count", "table", "batch_size", "sizes"),
    [
        (10, False, 4, [4, 4, 2]),
        (0, False, 4, []),
        (3, True, 256, [1, 1, 1]),
        (2500, False, 1, [3] * 833 + [1]),
    ],
)
def test_parts_are_batches_or_more_and_not_too_many(count, table, batch_size, sizes):
    samples = named(count)
    planned = parts.plan(samples, table, batch_size)
    assert [len(part) for part in planned] == sizes
    assert [sample for part in planned for sample in part] == samples


def test_samples_survive_packing_whatever_their_names():
    odd = os.fsdecode(b"caf\xe9 \xff.png")
    samples = [Sample(odd), Sample("a,\n\"b'.png"), Sample("größe", error=f"{odd}: no")]
    text = parts.packed(samples)
    assert text.isascii()
    assert parts.unpacked(text) == samples


def test_parts_are_kept_and_joined_in_order_whatever_the_order_they_came_in(tmp_path):
    out = tmp_path / "scores.csv"
    folder = parts.PartFolder(out, JOB, 8)
    for number in (2, 0):
        folder.write(number, f"row {number}\n".encode(), 1, 0)
    folder.write(0, b"row 0 again\n", 1, 2)  # a part that was scored twice stands once
    (folder.path / "part-000001").write_bytes(b"")  # what a broken disk may leave is no part
    assert folder.missing(4) == [1, 3]
    again = parts.PartFolder(out, JOB, 99)
    assert again.batch_size == 8  # the plan stays that of the first time
    again.write(1, b"", 0, 0)
    again.write(3, b"row 3\n", 1, 0)
    assert again.missing(4) == []
    assert again.counts(4) == (3, 2)
    again.join(4, out, b"head\n")
    assert out.read_text() == "head\nrow 0 again\nrow 2\nrow 3\n"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_parts_of_another_job_are_refused_and_stay(tmp_path):
    out = tmp_path / "scores.csv"
    parts.PartFolder(out, JOB, 8).write(0, b"row\n", 1, 0)
    with pytest.raises(InputError, match=r"those of another \(other model, threshold\): finish that one"):
        parts.PartFolder(out, JOB | {"model": "c", "threshold": 1.0}, 8)
    assert parts.PartFolder(out, JOB, 8).missing(1) == []
    for index, content in enumerate(("job.json", "notes.txt")):
        (tmp_path / f"{index}.parts").mkdir()
        (tmp_path / f"{index}.parts" / content).write_text("3")
        with pytest.raises(InputError, match="expected the parts of this job or no such folder, received"):
            parts.PartFolder(tmp_path / str(index), JOB, 8)
    (tmp_path / "file.parts").write_text("")
    with pytest.raises(InputError, match="or no such folder, received"):
        parts.PartFolder(tmp_path / "file", JOB, 8)


def test_a_digest_is_of_what_scores_depend_on(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.yaml", "model.keras", "calibration.json", "report.html"):
        (run / name).write_text(name)
    digests = [parts.model_digest(run), parts.model_digest(run / "model.keras")]
    (run / "report.html").write_text("another look")
    assert [parts.model_digest(run), parts.model_digest(run / "model.keras")] == digests
    (run / "calibration.json").write_text("another threshold")
    assert parts.model_digest(run) != digests[0]
    versions = exports()["parts"]
    assert (
        parts.model_digest(versions)
        == parts.model_digest(versions / "2")
        == parts.model_digest(versions / "1")
    )
    with pytest.raises(InputError, match="received nothing there"):
        parts.model_digest(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("nodes", "actors", "expected"),
    [
        ([{"CPU": 16}], None, (1, 16, 0)),
        ([{"CPU": 1}, {"CPU": 1}], None, (2, 1, 0)),
        ([{"CPU": 8}, {"CPU": 2}, {}], None, (2, 4, 0)),  # both on the large one: 5 cores would not fit twice
        ([{"CPU": 8}, {"CPU": 8}], 4, (4, 4, 0)),
        ([{"CPU": 8}, {"CPU": 8}], 5, (5, 2, 0)),
        ([{"CPU": 8, "GPU": 2}, {"CPU": 64}], None, (2, 4, 1)),
        ([{"CPU": 8, "GPU": 2}, {"CPU": 6, "GPU": 1}], 1, (1, 4, 1)),
        ([{"CPU": 1, "GPU": 2}], None, (2, 1, 1)),
    ],
)
def test_a_cluster_is_shared_so_that_all_actors_fit(nodes, actors, expected):
    assert ray_engine.share(nodes, actors) == expected


@pytest.mark.parametrize(
    ("nodes", "actors", "words"),
    [
        ([{"CPU": 2}, {"CPU": 1}], 4, "at most 3, the CPU cores of the cluster, received 4"),
        ([{"CPU": 8, "GPU": 1}], 2, "at most 1, the GPUs of the cluster, received 2"),
        ([{}], None, "at most 0, the CPU cores of the cluster, received 1"),
    ],
)
def test_more_actors_than_fit_are_refused(nodes, actors, words):
    with pytest.raises(InputError, match=words):
        ray_engine.share(nodes, actors)


# -- whole jobs, scored here in place of the cluster ---------------------------------------------------------


class RayError(Exception):
    """Stands for Ray's own."""


class Here:
    """Stands for the cluster: the parts are scored in this process, the last one first.

    Attributes:
        scored: numbers of the parts that were asked for.
        stop_after: so many parts, then the cluster fails.
        failures: how often it does.
    """

    def __init__(self, monkeypatch):
        self.scored, self.stop_after, self.failures = [], None, 99
        ray = SimpleNamespace(nodes=self.nodes, exceptions=SimpleNamespace(RayError=RayError))
        monkeypatch.setattr(ray_engine, "_import_ray", lambda: ray)
        monkeypatch.setattr(ray_engine, "_cluster", lambda ray: contextlib.nullcontext())
        monkeypatch.setattr(ray_engine, "SECONDS_BETWEEN_TRIES", 0)
        monkeypatch.setattr(ray_engine, "_answers", self.answers)

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2}}, {"Alive": False, "Resources": {"CPU": 8}}]

    def answers(self, todo, scorer, actors, cores, gpus):
        assert (actors, cores, gpus) == (1, 2, 0)
        scorer = parts.PartScorer(**scorer)
        for part in reversed(todo):
            if len(self.scored) == self.stop_after and self.failures:
                self.failures -= 1
                raise RayError("an actor died\nof old age")
            self.scored.append(part["number"])
            yield scorer(part)


@pytest.fixture
def here(monkeypatch):
    return Here(monkeypatch)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder in the current one: images, two of them broken, and a name that is not Unicode."""
    monkeypatch.chdir(tmp_path)
    folder = Path("images")
    folder.mkdir()
    for name, data in (image_files(11) | {"005.bmp": b"no image", "011.bmp": b""}).items():
        (folder / name).write_bytes(data)
    os.link(folder / "000.png", os.fsencode(folder) + b"/caf\xe9.png")
    return folder


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, ["score", *map(str, arguments)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def as_local(arguments, out, code, *settings):
    """What the local engine writes, and its last line but for the time."""
    result = invoke(*arguments, "--out", out, *settings, code=code)
    content = out.read_bytes()
    out.unlink()
    return content, result.stderr.rsplit(" in ", 1)[0]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_the_file_is_that_of_the_local_engine(here, images, form):
    out = Path("scores.txt")
    arguments = [exports()["parts"], images, images / "000.png", "--output-format", form]
    settings = ["--batch-size", 4, "--threshold", 1.5]
    expected, line = as_local(arguments, out, 3, *settings)
    assert expected.count(b"\n") == 13 + 1 + (form == "csv")
    result = invoke(*arguments, *settings, "--out", out, "--engine", "ray", code=3)
    assert same(out.read_bytes(), expected, form)
    assert result.stderr.startswith(line)
    assert here.scored == [3, 2, 1, 0]
    assert not Path("scores.txt.parts").exists()


def same(found, expected, form):
    """Whether two files have the same rows: scores may differ in the last digit, batches being others."""
    if form == "jsonl":
        rows = [[json.loads(line) for line in text.splitlines()] for text in (found, expected)]
    else:
        decoded = [text.decode("utf-8", "surrogateescape") for text in (found, expected)]
        rows = [list(csv.DictReader(io.StringIO(text, newline=""))) for text in decoded]
    for one, other in zip(*rows, strict=True):
        scores = [float(row.pop("score") or "nan") for row in (one, other)]
        np.testing.assert_allclose(*scores, rtol=1e-5)
        assert one == other
    return True


def test_a_job_that_was_stopped_goes_on_with_the_parts_that_are_missing(here, images):
    out = Path("scores.csv")
    expected, _ = as_local([exports()["parts"], images], out, 3)
    here.stop_after = 2
    command = [exports()["parts"], images, "--engine", "ray", "--out", out, "--batch-size"]
    result = invoke(*command, 4, code=2)
    assert result.stderr.splitlines()[-1] == (
        "agad-tf: the Ray cluster gave up: an actor died; the parts that were done are in scores.csv.parts, "
        "the same command goes on with the others"
    )
    assert not out.exists()
    (images / "013.png").write_bytes((images / "000.png").read_bytes())
    refused = invoke(*command, 4, code=2).stderr
    assert "received those of another (other files): finish that one" in refused
    assert refused.count("\n") == 1
    (images / "013.png").unlink()
    here.stop_after = None
    result = invoke(*command, 7, code=3)  # batches may be others, the parts are what they were
    assert here.scored == [3, 2, 1, 0]
    assert "11 scored, 2 failed" in result.stderr
    assert same(out.read_bytes(), expected, "csv")
    assert not list(Path().glob("*.parts"))


def test_a_cluster_that_fails_now_and_then_is_asked_again(here, images, caplog):
    expected, _ = as_local([exports()["parts"], images], Path("s.csv"), 3)
    here.stop_after, here.failures = 2, ray_engine.TRIES - 1
    invoke(exports()["parts"], images, "--engine", "ray", "--out", "s.csv", "--batch-size", 4, code=3)
    assert here.scored == [3, 2, 1, 0]
    assert caplog.text.count("the Ray cluster failed: an actor died; trying the missing parts again") == 2
    assert same(Path("s.csv").read_bytes(), expected, "csv")


def test_tables_are_a_part_a_file(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = np.random.default_rng(0).normal(size=(9, FEATURES)).astype(np.float32)
    np.savez("a.npz", X=table)
    Path("b.csv").write_text("\n".join(",".join(map(str, row)) for row in table.tolist()) + "\n1,2\n")
    Path("c.csv").write_text("")
    command = [exports()["rows"], "a.npz", "b.csv", "c.csv"]
    expected, _ = as_local(command, Path("t.csv"), 3)
    invoke(*command, "--engine", "ray", "--out", "t.csv", code=3)
    assert same(Path("t.csv").read_bytes(), expected, "csv")
    assert here.scored == [2, 1, 0]


def test_nothing_to_score_is_a_file_without_rows(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["score", str(exports()["parts"]), "-", "--engine", "ray", "--out", "scores.csv"]
    result = CliRunner().invoke(main, arguments, input="")
    assert result.exit_code == 0, result.output
    assert Path("scores.csv").read_text() == "path,score,p_value,is_anomaly,error\n"


def test_another_model_on_a_node_is_told_in_a_line(here, images, monkeypatch):
    digests = iter(["that of this machine", "that of a node"])
    monkeypatch.setattr(parts, "model_digest", lambda model: next(digests))
    result = invoke(exports()["parts"], images, "--engine", "ray", "--out", "scores.csv", code=2)
    assert "expected the model that the job began with, received another" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("scores.csv").exists()


def test_a_node_without_the_folder_says_so():
    scorer = parts.PartScorer("model", "auto", "", "/no/such/folder", "csv", 4, None, None)
    answer = scorer({"number": 3, "samples": parts.packed(named(2))})
    assert "/no/such/folder" in answer["problem"]
    assert (answer["number"], answer["text"]) == (3, b"")


def test_options_that_do_not_go_together(tmp_path, monkeypatch):
    image = tmp_path / "a.png"
    image.write_bytes(b"")
    out = ["--out", tmp_path / "scores.csv"]
    model = exports()["parts"]
    for arguments, words in [
        (["--server", "http://localhost:1/parts", image, "--engine", "ray", *out], "received --server"),
        ([model, image, "--engine", "ray"], "--engine ray expects --out FILE"),
        ([model, image, "--actors", 2, *out], "--actors expects --engine ray"),
        ([tmp_path / "no model", image, "--engine", "ray", *out], "nothing there"),
    ]:
        result = invoke(*arguments, code=2)
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
    monkeypatch.setitem(sys.modules, "ray", None)
    result = invoke(model, image, "--engine", "ray", *out, code=2)
    assert "expects the package ray, found none: pip install 'agad-tf[ray]'\n" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_cluster_that_is_not_there_is_told_in_a_line(images, monkeypatch):
    unreachable = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setattr(ray_engine, "_import_ray", lambda: unreachable)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    result = invoke(exports()["parts"], images, "--engine", "ray", "--out", "scores.csv", code=2)
    assert "expects a cluster at RAY_ADDRESS (127.0.0.1:1), received: " in result.stderr
    assert "Connection refused; start one with `ray start`" in result.stderr
    assert result.stderr.count("\n") == 1
