"""Shards: what is written, that it reads back as its source does, that an interruption changes nothing."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.content import numbered
from agad_tf.data.rows import LazyRows
from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.data.sources.shards import shard_examples, verify_shards
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.errors import InputError

RNG = np.random.default_rng(0)
QUIET = {"progress": False}


def pixels(count, size=6, channels=None):
    shape = (count, size, size) if channels is None else (count, size, size, channels)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def folder(tmp_path):
    """Thirty good images and five scratched ones, among them two equal ones, in train/ and test/."""
    images = pixels(35)
    images[4] = images[9]
    for number, image in enumerate(images):
        part = "test" if number % 3 == 0 else "train"
        write(tmp_path / "source" / part / ("good" if number % 7 else "scratch") / f"{number:03d}.png", image)
    return tmp_path / "source"


def same_samples(one, other):
    np.testing.assert_array_equal(np.asarray(one.x), np.asarray(other.x))
    np.testing.assert_array_equal(one.classes, other.classes)
    assert one.classes.dtype == other.classes.dtype == np.int64
    assert (one.class_names, one.normal_classes) == (other.class_names, other.normal_classes)
    assert (one.part is None) == (other.part is None)
    if one.part is not None:
        np.testing.assert_array_equal(one.part, other.part)


def test_shards_read_as_their_source(folder, tmp_path):
    manifest = prepare(folder, tmp_path / "shards", shard_bytes=8 * 36, **QUIET)
    assert not (tmp_path / "shards.partial").exists()
    assert manifest["counts"] == {"normal": 30, "anomaly": 5, "skipped": 0}
    assert manifest["class_counts"] == {"good": 30, "scratch": 5}
    assert manifest["image_shape"] == [6, 6, 1]
    assert [shard["records"] for shard in manifest["shards"]] == [8, 8, 8, 6, 5]
    assert verify_shards(tmp_path / "shards") == []
    source, shards = load_samples(folder), load_samples(tmp_path / "shards")
    assert isinstance(shards.x, LazyRows)
    same_samples(shards, source)
    assert [Path(path).resolve() for path in shards.paths] == [Path(path).resolve() for path in source.paths]
    assert one_class_split(shards, gamma=0.1).sha256 == one_class_split(source, gamma=0.1).sha256
    np.testing.assert_array_equal(numbered(shards.digests), numbered(source.digests))
    assert len(np.unique(numbered(shards.digests))) == 34


def test_every_source_of_images_can_be_prepared(tmp_path):
    x, y = pixels(20, channels=3), np.arange(20) % 3
    np.savez(tmp_path / "set.npz", x=x, y=y, class_names=["a", "normal", "b"])
    prepare(tmp_path / "set.npz", tmp_path / "one", **QUIET)
    same_samples(load_samples(tmp_path / "one"), load_samples(tmp_path / "set.npz"))
    assert load_samples(tmp_path / "one").paths is None
    prepare("digits", tmp_path / "digits", normal_classes=["8"], image_size=16, channels=3, **QUIET)
    digits = load_samples(tmp_path / "digits")
    assert digits.normal_classes == (8,)
    np.testing.assert_array_equal(np.asarray(digits.x), load_samples("digits", image_size=16, channels=3).x)


def test_tensorflow_reads_the_records(folder, tmp_path):
    prepare(folder, tmp_path / "shards", shard_bytes=8 * 36, **QUIET)
    source = load_samples(folder)
    seen = {record["row"]: record for record in shard_examples(tmp_path / "shards")}
    assert sorted(seen) == list(range(35))
    for row, record in seen.items():
        np.testing.assert_array_equal(record["image"], source.x[row])
        assert record["class"] == source.classes[row]
        assert record["label"] == (source.class_names[record["class"]] == "scratch")
        assert record["part"] == source.part[row]
        assert folder / record["path"] == Path(source.paths[row])
    assert len(list(shard_examples(tmp_path / "shards", "anomaly"))) == 5


def test_lazy_rows_look_like_an_array(folder, tmp_path):
    prepare(folder, tmp_path / "shards", shard_bytes=8 * 36, **QUIET)
    rows, array = load_samples(tmp_path / "shards").x, load_samples(folder).x
    assert (rows.shape, rows.dtype, rows.ndim, len(rows), rows.nbytes) == (
        array.shape, array.dtype, array.ndim, len(array), array.nbytes,
    )  # fmt: skip
    np.testing.assert_array_equal(rows[7], array[7])
    np.testing.assert_array_equal(rows[-1], array[-1])
    mask = np.arange(35) % 2 == 0
    for index in (slice(3, 20, 4), [5, 5, 0, 34], np.array([], int), mask):
        view = rows[index]
        assert isinstance(view, LazyRows)
        np.testing.assert_array_equal(np.asarray(view), array[index])
        np.testing.assert_array_equal(np.asarray(view[::-1]), array[index][::-1])
    np.testing.assert_array_equal(np.stack(list(rows)), array)
    assert [len(block) for block in rows.blocks(16)] == [16, 16, 3]
    np.testing.assert_array_equal(np.asarray(rows, np.float32), array.astype(np.float32))
    with pytest.raises(IndexError):
        rows[35]


# --- what is skipped -------------------------------------------------------------------------------


def test_bad_files_stop_or_are_listed(folder, tmp_path):
    (folder / "train" / "good" / "bad.png").write_bytes(b"\x89PNG no more")
    write(folder / "train" / "good" / "large.png", pixels(1, 9)[0])
    (folder / "test" / "good" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"bad\.png: expected a readable"):
        prepare(folder, tmp_path / "shards", **QUIET)
    assert not list(tmp_path.glob("shards*"))
    manifest = prepare(folder, tmp_path / "shards", on_error="skip", **QUIET)
    assert manifest["counts"] == {"normal": 30, "anomaly": 5, "skipped": 2}
    assert [entry["path"] for entry in manifest["skipped"]] == ["train/good/bad.png", "train/good/large.png"]
    assert "expected a readable" in manifest["skipped"][0]["reason"]
    assert "expected 6 x 6 (height x width) as in the first image" in manifest["skipped"][1]["reason"]
    assert manifest["other_files"] == ["test/good/notes.txt"]
    with pytest.raises(
        InputError, match=r"2 were left out, e\.g\. train/good/bad\.png; pass --on-error skip"
    ):
        prepare(folder, tmp_path / "shards", **QUIET)
    assert manifest["class_counts"] == {"good": 30, "scratch": 5}
    for name in ("bad", "large"):
        (folder / "train" / "good" / f"{name}.png").unlink()
    same_samples(load_samples(tmp_path / "shards"), load_samples(folder))


def test_images_of_several_sizes_and_colours(tmp_path):
    write(tmp_path / "source" / "normal" / "a.png", pixels(1, 6)[0])
    write(tmp_path / "source" / "normal" / "b.png", pixels(1, 9, 3)[0])
    write(tmp_path / "source" / "normal" / "c.png", pixels(1, 14)[0][:7])
    for crop in ("stretch", "centre"):
        prepare(tmp_path / "source", tmp_path / crop, image_size=(8, 8), crop=crop, **QUIET)
        source = load_samples(tmp_path / "source", image_size=8, crop=crop)
        assert source.x.shape == (3, 8, 8, 3)
        same_samples(load_samples(tmp_path / crop), source)
    stretched, centred = load_samples(tmp_path / "stretch").x, load_samples(tmp_path / "centre").x
    np.testing.assert_array_equal(stretched[0], centred[0])  # square already
    assert (stretched[2] != centred[2]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": "nowhere"}, "found none of"),
        ({"spec": "digits"}, "which class is normal"),
        ({"on_error": "ask"}, "stop or skip"),
        ({"crop": "middle"}, "stretch, centre"),
        ({"image_size": 0}, "image size"),
        ({"normal_classes": ["fine"]}, "among the classes good, scratch"),
    ],
)
def test_refused(folder, tmp_path, change, message):
    with pytest.raises(InputError, match=message) as error:
        prepare(**({"spec": folder, "out": tmp_path / "out"} | QUIET | change))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("out*"))


def test_tables_shards_and_nested_folders_are_refused(folder, tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n1,0\n2,1\n")
    with pytest.raises(InputError, match="received a table"):
        prepare(tmp_path / "t.csv", tmp_path / "out", **QUIET)
    with pytest.raises(InputError, match="outside of the source"):
        prepare(folder, folder / "out", **QUIET)
    prepare(folder, tmp_path / "shards", **QUIET)
    with pytest.raises(InputError, match="prepared already"):
        prepare(tmp_path / "shards", tmp_path / "again", **QUIET)
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="expected a free name"):
        prepare(folder, tmp_path / "taken", **QUIET)


# --- again, and after an interruption --------------------------------------------------------------


def test_same_call_on_finished_shards_checks_them(folder, tmp_path):
    out = tmp_path / "shards"
    first = prepare(folder, out, shard_bytes=300, **QUIET)
    before = contents(out)
    assert prepare(folder, out, shard_bytes=300, **QUIET) == json.loads(json.dumps(first))
    assert contents(out) == before
    with pytest.raises(InputError, match="other"):
        prepare(folder, out, shard_bytes=300, image_size=8, **QUIET)
    name = first["shards"][0]["file"]
    (out / name).write_bytes(before[name][:-1] + b"x")
    assert verify_shards(out) == [name]
    with pytest.raises(InputError, match=f"{name}: expected the content"):
        prepare(folder, out, shard_bytes=300, **QUIET)


def test_whole_shards_are_kept_until_a_bad_file_is_mended(folder, tmp_path):
    bad = folder / "train" / "scratch" / "zz.png"
    bad.write_bytes(b"no image")
    out, settings = tmp_path / "shards", {"shard_bytes": 300} | QUIET
    with pytest.raises(InputError, match=r"zz\.png"):
        prepare(folder, out, **settings)
    kept = sorted((tmp_path / "shards.partial").glob("normal*.tfrecord"))
    written = [file.stat().st_mtime_ns for file in kept]
    assert len(kept) == 4
    with pytest.raises(InputError, match="interrupted preparation"):
        load_samples(tmp_path / "shards.partial")
    bad.unlink()
    write(bad, pixels(1)[0])
    prepare(folder, out, **settings)
    assert [(out / file.name).stat().st_mtime_ns for file in kept] == written
    prepare(folder, tmp_path / "undisturbed", **settings)
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_changed_source_and_settings_are_prepared_anew(folder, tmp_path):
    bad = folder / "train" / "scratch" / "zz.png"
    bad.write_bytes(b"no image")
    settings = {"shard_bytes": 300} | QUIET
    with pytest.raises(InputError):
        prepare(folder, tmp_path / "shards", **settings)
    bad.unlink()
    write(folder / "test" / "good" / "001.png", pixels(1)[0])
    prepare(folder, tmp_path / "shards", image_size=5, **settings)
    prepare(folder, tmp_path / "undisturbed", image_size=5, **settings)
    assert contents(tmp_path / "shards") == contents(tmp_path / "undisturbed")


def test_a_kind_that_was_empty_is_not_taken_for_finished(tmp_path):
    write(tmp_path / "source" / "good" / "a.png", pixels(1)[0])
    bad = tmp_path / "source" / "scratch" / "b.png"
    bad.parent.mkdir()
    bad.write_bytes(b"no image")
    out, skip = tmp_path / "shards", {"on_error": "skip"} | QUIET
    assert prepare(tmp_path / "source", out, **skip)["counts"]["anomaly"] == 0
    assert prepare(tmp_path / "source", out, **skip)["counts"]["anomaly"] == 0
    write(bad, pixels(1)[0])
    with pytest.raises(InputError, match="expected shards of the same source"):
        prepare(tmp_path / "source", out, **skip)


def test_a_folder_of_somebody_else_is_left_alone(folder, tmp_path):
    other = tmp_path / "shards.partial"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="found something that is no preparation"):
        prepare(folder, tmp_path / "shards", **QUIET)
    assert [file.name for file in other.iterdir()] == ["notes.txt"]
    (other / ".lock").touch()  # and beside an interrupted preparation
    prepare(folder, tmp_path / "shards", **QUIET)
    assert (tmp_path / "shards" / "notes.txt").read_text() == "mine"


def test_names_that_are_no_unicode(tmp_path):
    name = os.fsdecode(b"gr\xf6\xdfe.png")
    write(tmp_path / "source" / "normal" / "a.png", pixels(1)[0])
    (tmp_path / "source" / "normal" / "a.png").rename(tmp_path / "source" / "normal" / name)
    prepare(tmp_path / "source", tmp_path / "shards", **QUIET)
    samples = load_samples(tmp_path / "shards")
    assert samples.paths[0] == str(tmp_path / "source" / "normal" / name)
    (record,) = shard_examples(tmp_path / "shards")
    assert record["path"] == f"normal/{name}"
    assert samples.x[0].shape == (6, 6, 1)


def test_an_index_that_was_cut_is_written_again(folder, tmp_path):
    (folder / "train" / "scratch" / "zz.png").write_bytes(b"no image")
    with pytest.raises(InputError):
        prepare(folder, tmp_path / "shards", shard_bytes=300, **QUIET)
    index = min((tmp_path / "shards.partial").glob("*.npz"))
    whole = index.read_bytes()
    index.write_bytes(whole[: len(whole) // 2] + b"x" * (len(whole) // 2))
    prepare(folder, tmp_path / "shards", shard_bytes=300, on_error="skip", **QUIET)
    assert (tmp_path / "shards" / index.name).read_bytes() == whole


def test_two_processes_do_not_write_the_same_folder(folder, tmp_path):
    import fcntl

    (tmp_path / "shards.partial").mkdir()
    with (tmp_path / "shards.partial" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            prepare(folder, tmp_path / "shards", **QUIET)
    prepare(folder, tmp_path / "shards", **QUIET)


@pytest.mark.slow
def test_kill_in_the_middle_changes_nothing(tmp_path):
    x = RNG.integers(0, 256, (1200, 16, 16, 1), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", x=x, y=np.arange(1200) % 20 == 0, class_names=["normal", "anomaly"])
    code = textwrap.dedent(
        """
        import sys
        from agad_tf.data.sources.prepare import prepare
        prepare(sys.argv[1], sys.argv[2], shard_bytes=20 * 256, progress=False)
        """
    )
    command = [sys.executable, "-c", code, str(tmp_path / "set.npz"), str(tmp_path / "shards")]
    partial = tmp_path / "shards.partial"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(list(partial.glob("*.npz"))) < 10:
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert partial.is_dir()
    assert not (tmp_path / "shards").exists()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert not partial.exists()
    prepare(tmp_path / "set.npz", tmp_path / "undisturbed", shard_bytes=20 * 256, **QUIET)
    assert contents(tmp_path / "shards") == contents(tmp_path / "undisturbed")


def test_folders_with_such_names_may_hold_images(tmp_path):
    write(tmp_path / "set.partial" / "normal" / "a.png", pixels(1)[0])
    (tmp_path / "set.partial" / "manifest.json").write_text("{}")
    assert load_samples(tmp_path / "set.partial").x.shape == (1, 6, 6, 1)


# --- damaged folders -------------------------------------------------------------------------------


def test_damaged_folders_are_refused_in_one_line(folder, tmp_path):
    out = tmp_path / "shards"
    manifest = prepare(folder, out, **QUIET)

    def refused(message):
        with pytest.raises(InputError, match=message) as error:
            load_samples(out)
        assert "\n" not in str(error.value)

    shard = out / manifest["shards"][0]["file"]
    data = shard.read_bytes()
    shard.write_bytes(data[:-5])
    refused(f"{shard.name}: expected {len(data)} bytes as the manifest says, received {len(data) - 5}")
    shard.unlink()
    refused("received no file")
    shard.write_bytes(data)
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace('"version": 1', '"version": 99'))
    refused("another format or version")
    (out / "manifest.json").write_text("{")
    refused("expected the manifest of shards")
    (out / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"image_size \(6, 6\) as stored"):
        load_samples(out, image_size=8)
    with pytest.raises(InputError, match="channels 1 as stored"):
        load_samples(out, channels=3)
    rows = load_samples(out).x
    shard.write_bytes(data[:200])
    with pytest.raises(InputError, match="has changed"):
        np.asarray(rows)
