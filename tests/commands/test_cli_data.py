"""The command line on data as users have them: prepare, train on shards, what is said about the data."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits

from agad_tf.cli import main
from agad_tf.data.rows import LazyRows
from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.errors import InputError
from agad_tf.training.loading import load

FAST = ["--backbone", "encoder_decoder", "--image-size", "8", "--batch-size", "32", "--epochs", "1"]
FAST += ["--min-anomalies", "8"]


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """normal/ and anomaly/: digits 8 and 1 as PNG."""
    folder = tmp_path_factory.mktemp("images")
    digits = load_digits()
    for name, digit, count in (("normal", 8, 80), ("anomaly", 1, 30)):
        (folder / name).mkdir()
        for index in np.flatnonzero(digits.target == digit)[:count]:
            pixels = (digits.images[index] * (255 / 16)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:04d}.png")
    return folder


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.mark.slow
def test_prepare_then_train_gives_what_training_on_the_folder_gives(folder, tmp_path):
    result = json.loads(invoke("prepare", folder, tmp_path / "shards", "--quiet", "--json").stdout)
    assert result["counts"] == {"normal": 80, "anomaly": 30, "skipped": 0}
    metrics = []
    for name, source in (("first", folder), ("second", tmp_path / "shards")):
        result = invoke("train", "--data", source, *FAST, "--out", tmp_path / name, "--json")
        metrics.append(json.loads(result.stdout))
        # The table that is printed and the report that is kept.
        line = next(line for line in result.stderr.splitlines() if line.startswith("training "))
        counts = metrics[-1]["split"]
        assert line.split()[1:] == [str(counts["train_normal"]), str(counts["train_anomaly"])]
        data = json.loads((tmp_path / name / "data.json").read_text())
        assert (data["rows"], data["shape"], data["classes"]["normal"]["role"]) == (110, [8, 8, 1], "normal")
    for key in ("auroc", "average_precision", "split_sha256"):
        assert metrics[0][key] == metrics[1][key]
    again = json.loads(
        invoke("evaluate", tmp_path / "second", "--data", tmp_path / "shards", "--json").stdout
    )
    assert (again["n_normal"], again["n_anomaly"]) == (80, 30)


def test_prepare_lists_what_it_leaves_out(folder, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    (source / "normal" / "zz.png").write_bytes(b"no image")
    (source / "normal" / "notes.txt").write_text("x")
    result = invoke("prepare", source, tmp_path / "shards", "--quiet", code=2)
    assert len(result.stderr.splitlines()) == 1
    assert "zz.png: expected a readable" in result.stderr
    assert not list(tmp_path.glob("shards*"))
    result = invoke("prepare", source, tmp_path / "shards", "--on-error", "skip", "--image-size", 9)
    assert "skipped normal/zz.png: " in result.stderr
    assert "not read, no JPEG, PNG or BMP: normal/notes.txt" in result.stderr
    assert "preparing" in result.stderr  # the progress bar
    assert result.stdout.startswith("80 normal and 30 anomalous images, 9 x 9 x 1, 1 skipped\n")


def test_caches_change_where_pixels_are_read_from_and_nothing_else(folder, tmp_path):
    source, shards = load(folder), tmp_path / "shards"
    prepare(folder, shards, progress=False)
    in_memory = load(shards, cache="memory")
    assert isinstance(in_memory.x, np.ndarray)
    on_disk = load(folder, cache=tmp_path / "cache")
    assert isinstance(on_disk.x, LazyRows)
    again = load(folder, cache=tmp_path / "cache")
    for samples in (in_memory, on_disk, again):
        np.testing.assert_array_equal(np.asarray(samples.x), source.x)
        assert samples.normal_classes == source.normal_classes
    # A cache does not make the source name its normal class: the split would take other anomalies.
    cached = load("digits", cache=tmp_path / "digits", normal_classes=["8"])
    assert cached.normal_classes is None
    assert one_class_split(cached, 8).sha256 == one_class_split(load("digits"), 8).sha256


def test_images_of_several_sizes_are_resized_when_a_size_is_given(tmp_path):
    rng = np.random.default_rng(0)
    for index, shape in enumerate([(8, 8), (12, 8), (8, 8)]):
        write(tmp_path / "source" / "normal" / f"{index}.png", rng.integers(0, 256, shape, dtype=np.uint8))
    with pytest.raises(InputError, match="12 x 8"):
        load(tmp_path / "source")
    with pytest.raises(InputError, match="12 x 8"):
        load(tmp_path / "source", cache=tmp_path / "cache")
    assert not list(tmp_path.glob("cache*"))
    for crop in ("stretch", "centre"):
        expected = load_samples(tmp_path / "source", image_size=6, crop=crop).x
        np.testing.assert_array_equal(load(tmp_path / "source", image_size=[6, 6], crop=crop).x, expected)
        cached = load(tmp_path / "source", image_size=6, crop=crop, cache=tmp_path / crop)
        np.testing.assert_array_equal(np.asarray(cached.x), expected)
    write(tmp_path / "source" / "normal" / "1.png", rng.integers(0, 256, (8, 8), dtype=np.uint8))
    assert load(tmp_path / "source", image_size=6).x.shape == (3, 8, 8, 1)  # one size: the detector resizes
