"""Folders as they are found: links, litter, parts under other names, kinds of defect, masks."""

import logging
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.errors import InputError

RNG = np.random.default_rng(0)


def write(folder, count=3, suffix="png", first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        Image.fromarray(RNG.integers(0, 256, (6, 6), np.uint8)).save(folder / f"{index:03d}.{suffix}")


def counts(samples):
    return {name: int((samples.classes == index).sum()) for index, name in enumerate(samples.class_names)}


def test_linked_folders_and_files_are_followed_and_circles_are_not(tmp_path, caplog):
    write(tmp_path / "set" / "normal", 4)
    write(tmp_path / "set" / "anomaly", 2)
    write(tmp_path / "elsewhere", 5, first=10)
    write(tmp_path / "more", 1, first=20)
    normal = tmp_path / "set" / "normal"
    (normal / "line2").symlink_to(tmp_path / "elsewhere")
    (normal / "one.png").symlink_to(tmp_path / "more" / "020.png")
    assert counts(load_samples(tmp_path / "set")) == {"anomaly": 2, "normal": 10}
    assert caplog.text == ""
    (normal / "back").symlink_to(tmp_path / "set")
    (normal / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert counts(load_samples(tmp_path / "set")) == {"anomaly": 2, "normal": 10}
    assert "1 a link into a folder that holds it, e.g. " in caplog.text
    assert "1 a link to nothing, e.g. " in caplog.text
    assert "gone.png" in caplog.text


def test_pipes_and_sockets_are_told_and_never_read(tmp_path, caplog, monkeypatch):
    write(tmp_path / "set" / "normal")
    os.mkfifo(tmp_path / "set" / "normal" / "pipe.png")
    monkeypatch.chdir(tmp_path / "set" / "normal")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket.png")
    assert len(load_samples(tmp_path / "set").x) == 3
    assert "2 no plain file but a pipe, socket or device, e.g. " in caplog.text
    os.mkfifo(tmp_path / "set.csv")
    for spec in (tmp_path / "set.csv", "/dev/zero"):
        with pytest.raises(InputError, match="expected a file or folder, received a pipe, socket or device"):
            load_samples(spec)
    (tmp_path / "list.csv").write_text("path,label\nset/normal/pipe.png,0\n")
    with pytest.raises(InputError, match=r"pipe\.png"):
        load_samples(tmp_path / "list.csv")


def test_a_stray_folder_is_no_class(tmp_path, caplog):
    write(tmp_path / "normal", 30)
    write(tmp_path / "anomaly", 12)
    (tmp_path / "__MACOSX" / "normal").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "normal" / "._000.png").write_bytes(b"\0\5\26\7")
    (tmp_path / "normal" / ".DS_Store").write_bytes(b"x")
    samples = load_samples(tmp_path)
    assert samples.class_names == ("anomaly", "normal")
    split = one_class_split(samples)
    assert len(split.train_anomaly) == 8
    assert "a folder without images, e.g. " in caplog.text
    assert "__MACOSX" in caplog.text
    assert "DS_Store" not in caplog.text


def test_everything_that_is_left_out_is_told_in_one_line(tmp_path, caplog):
    write(tmp_path / "train" / "good")
    write(tmp_path / "test" / "good")
    write(tmp_path / "test" / "bad")
    write(tmp_path / "test", 1)
    write(tmp_path / "raw", 2)
    write(tmp_path, 1)
    (tmp_path / "test" / "good" / "notes.txt").write_text("x")
    (tmp_path / "test" / "good" / ".hidden.png").write_text("x")
    write(tmp_path / "ground_truth" / "bad", 1, first=7)
    with caplog.at_level(logging.WARNING):
        samples = load_samples(tmp_path)
    assert counts(samples) == {"bad": 3, "good": 6}
    (record,) = caplog.records
    for words in (
        "1 no JPEG, PNG or BMP, e.g.", "1 hidden, e.g.", "2 an image outside of the class folders, e.g.",
        "1 a folder beside the parts, e.g.", "1 a mask without its image, e.g.", "as if they were not there",
    ):  # fmt: skip
        assert words in record.getMessage()


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("Training", "Testing"), ["test", "train"]),
        (("TRAIN", "Val", "Test"), ["test", "train", "validation"]),
        (("train", "val"), ["test", "train"]),
        (("train",), None),
        (("test",), None),
        (("validation", "test"), None),
    ],
)
def test_parts_under_other_names(tmp_path, caplog, names, parts):
    for name in names:
        write(tmp_path / name / "good", 4)
        write(tmp_path / name / "hole", 2)
    samples = load_samples(tmp_path)
    assert samples.class_names == ("good", "hole")
    assert (samples.part if samples.part is None else sorted(set(samples.part))) == parts
    assert len(samples.x) == 6 * len(names)
    told = {("train", "val"): "the validation part is taken as the test"}.get(names)
    if parts is None:
        told = "all is taken as one set without a split"
    assert (told in caplog.text) if told else caplog.text == ""


def test_parts_that_contradict_each_other_are_refused(tmp_path):
    write(tmp_path / "train" / "good")
    write(tmp_path / "good")
    with pytest.raises(InputError, match="received both: train beside good; put the classes into the parts"):
        load_samples(tmp_path)
    write(tmp_path / "twice" / "train" / "good")
    write(tmp_path / "twice" / "Training" / "good")
    with pytest.raises(InputError, match="one folder for the part train, received Training and train"):
        load_samples(tmp_path / "twice")


def test_subfolders_of_anomaly_are_kinds(tmp_path):
    write(tmp_path / "normal", 2)
    write(tmp_path / "normal" / "line 1", 2, first=5)
    write(tmp_path / "anomaly" / "scratch" / "camera 1", 2)
    write(tmp_path / "anomaly" / "dent", 1)
    write(tmp_path / "anomaly" / "good", 1)  # something good that is bad must not become normal
    write(tmp_path / "anomaly", 1)
    samples = load_samples(tmp_path)
    assert counts(samples) == {"anomaly": 1, "anomaly/good": 1, "dent": 1, "normal": 4, "scratch": 2}
    assert [samples.class_names[index] for index in samples.normal_classes] == ["normal"]
    write(tmp_path / "parts" / "train" / "good")
    write(tmp_path / "parts" / "train" / "defects" / "crack")
    write(tmp_path / "parts" / "test" / "good")
    write(tmp_path / "parts" / "test" / "crack")
    assert load_samples(tmp_path / "parts").class_names == ("crack", "good")


def masks_of(samples, root):
    """Image to mask, both relative."""
    return {
        Path(path).relative_to(root).as_posix(): Path(mask).relative_to(root / "ground_truth").as_posix()
        for path, mask in zip(samples.paths, samples.masks, strict=True)
        if mask is not None
    }


def test_masks_of_training_defects_and_of_folders_without_parts(tmp_path):
    root = tmp_path / "a"
    for name in ("train/good", "test/good", "test/hole", "train/hole", "train/dent"):
        write(root / name, 1)
    for name in ("ground_truth/hole", "ground_truth/train/hole", "ground_truth/dent"):
        write(root / name, 1)
    assert masks_of(load_samples(root), root) == {
        "test/hole/000.png": "hole/000.png",
        "train/hole/000.png": "train/hole/000.png",
        "train/dent/000.png": "dent/000.png",
    }
    for name in ("normal", "anomaly/dent", "ground_truth/anomaly/dent"):
        write(tmp_path / "b" / name, 1)
    samples = load_samples(tmp_path / "b")
    assert samples.class_names == ("dent", "normal")
    assert masks_of(samples, tmp_path / "b") == {"anomaly/dent/000.png": "anomaly/dent/000.png"}


def test_one_folder_of_masks_an_image(tmp_path, caplog):
    root = tmp_path / "loco"
    for name in ("train/good", "test/good", "test/logical"):
        write(root / name, 2)
    for image in ("000", "001"):
        write(root / "ground_truth" / "logical" / image, 2)
    samples = load_samples(root)
    assert masks_of(samples, root) == {
        "test/logical/000.png": "logical/000",
        "test/logical/001.png": "logical/001",
    }
    assert caplog.text == ""
    prepare(root, tmp_path / "shards", progress=False)
    stored = [mask for mask in load_samples(tmp_path / "shards").masks if mask]
    assert [Path(mask).name for mask in stored] == ["000", "001"]


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPG", "bmp"])
def test_suffixes_of_images(tmp_path, suffix):
    folder = tmp_path / "normal"
    folder.mkdir()
    Image.fromarray(RNG.integers(0, 256, (6, 6), np.uint8)).save(
        folder / f"a.{suffix}", "BMP" if suffix == "bmp" else "JPEG"
    )
    assert load_samples(tmp_path).x.shape == (1, 6, 6, 1)


def test_an_empty_folder_can_say_what_is_normal(tmp_path):
    write(tmp_path / "anomaly")
    (tmp_path / "normal").mkdir()
    (tmp_path / "other").mkdir()
    samples = load_samples(tmp_path)
    assert (samples.class_names, samples.normal_classes) == (("anomaly", "normal"), (1,))
    assert samples.classes.tolist() == [0, 0, 0]
