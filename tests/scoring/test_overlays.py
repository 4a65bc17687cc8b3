"""`agad-tf score --heatmaps`: overlays at the photographs' own sizes, and boxes where they are."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from run_cases import untrained_run

from agad_tf.cli import main
from agad_tf.errors import InputError
from agad_tf.evaluation.regions import RegionRule
from agad_tf.scoring.detectors import Maps
from agad_tf.scoring.files import Sample
from agad_tf.scoring.overlays import Overlays
from agad_tf.scoring.results import Row


def glowing(images):
    """Maps of 32 x 32 that are bright where the images are white."""
    small = [np.asarray(Image.fromarray(image).convert("L").resize((32, 32))) for image in images]
    return np.array(small, float) / 255


def photograph(left, top, size=(240, 320)):
    image = np.full((*size, 3), 40, np.uint8)
    image[top : top + 30, left : left + 40] = 255
    return image


RULE = RegionRule(0.5, 0.05, 20)


def test_overlays_and_boxes(tmp_path):
    samples = [
        Sample("a/part.png", value=photograph(80, 60)),
        Sample("b/part.png", value=photograph(200, 150)),
    ]
    samples.append(Sample("b/broken.png", error="no image"))
    rows = [Row("a/part.png", score=1.0), Row("b/part.png", score=2.0), Row("b/broken.png", error="no image")]
    with Overlays(tmp_path / "maps", Maps(glowing, RULE)) as overlays:
        overlays.write(samples, rows)
    assert {file.name for file in (tmp_path / "maps").iterdir()} == {"part.jpg", "part-2.jpg", "regions.csv"}
    with (tmp_path / "maps" / "regions.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["path"], row["overlay"]) for row in found] == [
        ("a/part.png", "part.jpg"),
        ("b/part.png", "part-2.jpg"),
    ]
    for row, (left, top) in zip(found, ((80, 60), (200, 150)), strict=True):
        assert abs(int(row["x"]) - left) <= 12
        assert abs(int(row["y"]) - top) <= 12
        assert abs(int(row["width"]) - 40) <= 20
        assert abs(int(row["height"]) - 30) <= 20
        assert float(row["peak"]) > 1
    drawn = np.asarray(Image.open(tmp_path / "maps" / "part.jpg")).astype(int)
    assert drawn.shape == (240, 320, 3)
    blue = (drawn[..., 2] > 150) & (drawn[..., 0] < 100)
    assert blue.any()
    assert not blue[:, 200:].any()


def test_json_has_a_line_for_each_photograph(tmp_path):
    samples = [Sample("one.png", value=photograph(80, 60)), Sample("none.png", value=photograph(0, 0) * 0)]
    rows = [Row("one.png", score=1.0), Row("none.png", score=0.0)]
    with Overlays(tmp_path, Maps(glowing, RULE), "jsonl") as overlays:
        overlays.write(samples, rows)
    lines = [json.loads(line) for line in (tmp_path / "regions.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["one.png", "none.png"]
    assert [len(line["regions"]) for line in lines] == [1, 0]
    assert set(lines[0]["regions"][0]) == {"x", "y", "width", "height", "peak"}


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="a new or an empty folder"):
        Overlays(tmp_path, Maps(glowing, RULE))
    with pytest.raises(InputError, match="received a file"):
        Overlays(tmp_path / "mine.txt", Maps(glowing, RULE))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("overlays") / "run", normal_classes="3")


def test_command(run, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    for name, size in (("a.png", (24, 32)), ("b.jpg", (50, 20))):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, size, np.uint8)).save(folder / name)
    (folder / "c.png").write_bytes(b"no image")
    RegionRule(0.0, 0.05, 20).save(run.path / "regions.json")
    command = ["score", str(run.path), str(folder), "--heatmaps", str(tmp_path / "maps")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 3, done.output  # the broken one
    assert Image.open(tmp_path / "maps" / "a.jpg").size == (32, 24)
    assert Image.open(tmp_path / "maps" / "b.jpg").size == (20, 50)
    assert not (tmp_path / "maps" / "c.jpg").exists()
    with (tmp_path / "maps" / "regions.csv").open(newline="") as file:
        assert {row["overlay"] for row in csv.DictReader(file)} == {"a.jpg", "b.jpg"}
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2
    assert "a new or an empty folder" in again.output


def test_a_saved_detector_without_normals_says_so(run, tmp_path):
    image = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8)).save(image)
    command = ["score", str(run.path / "model.keras"), str(image), "--heatmaps", str(tmp_path / "maps")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "no regions are marked" in done.output
    assert (tmp_path / "maps" / "a.jpg").is_file()


def test_servers_have_no_maps_here(tmp_path):
    command = [
        "score",
        "--server",
        "http://localhost:1/parts",
        str(tmp_path),
        "--heatmaps",
        str(tmp_path / "m"),
    ]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert "--heatmaps expects MODEL on this machine" in done.output
