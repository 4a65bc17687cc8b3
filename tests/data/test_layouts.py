"""MVTec folders and CSV manifests, and one data set through all of its forms."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.batches.quota import quota_batches
from agad_tf.data.sources.folders import list_folder
from agad_tf.data.sources.listing import list_manifest
from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.errors import InputError
from agad_tf.layers import ImagePreprocessing

RNG = np.random.default_rng(0)


def pixels(count, size=6):
    return RNG.integers(0, 256, (count, size, size), dtype=np.uint8)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


# --- MVTec AD --------------------------------------------------------------------------------------


@pytest.fixture
def mvtec(tmp_path):
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/scratch/000", "test/scratch/001"):
        write(tmp_path / "screw" / f"{name}.png", pixels(1)[0])
    write(tmp_path / "screw" / "test" / "bent" / "deep" / "000.png", pixels(1)[0])
    for name in ("scratch/000_mask", "bent/deep/000"):
        write(tmp_path / "screw" / "ground_truth" / f"{name}.png", pixels(1)[0])
    return tmp_path / "screw"


def test_mvtec_layout_keeps_the_masks(mvtec, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        samples = load_samples(mvtec)
    assert caplog.text == ""  # ground_truth is no folder that is passed over
    assert (samples.class_names, samples.normal_classes) == (("bent", "good", "scratch"), (1,))
    masks = {
        Path(path).relative_to(mvtec).as_posix(): mask
        for path, mask in zip(samples.paths, samples.masks, strict=True)
    }
    truth = mvtec / "ground_truth"
    assert masks == {
        "test/bent/deep/000.png": str(truth / "bent" / "deep" / "000.png"),
        "test/good/000.png": None,
        "test/scratch/000.png": str(truth / "scratch" / "000_mask.png"),
        "test/scratch/001.png": None,
        "train/good/000.png": None,
        "train/good/001.png": None,
    }
    split = one_class_split(samples, validation=0)
    assert (split.train_normal.tolist(), split.test_anomaly.tolist()) == ([4, 5], [0, 2, 3])
    prepare(mvtec, tmp_path / "shards", progress=False)
    stored = load_samples(tmp_path / "shards").masks
    assert [mask and Path(mask).resolve() for mask in stored] == [
        mask and Path(mask).resolve() for mask in samples.masks
    ]
    assert list(stored[1:3]) == [None, stored[2]]


def test_folders_without_masks_have_none(tmp_path):
    write(tmp_path / "normal" / "a.png", pixels(1)[0])
    listing = list_folder(tmp_path)
    assert (listing.masks, listing.class_names) == (None, ("normal",))


# --- CSV manifests ---------------------------------------------------------------------------------


def manifest(folder, text):
    for name in "abcd":
        write(folder / "images" / f"{name}.png", pixels(1)[0])
    (folder / "list.csv").write_text(text, encoding="utf-8")
    return folder / "list.csv"


def test_manifest_of_all_columns(tmp_path):
    path = manifest(
        tmp_path,
        "\ufeffPath;Class;Label;Split;note;mask\n"
        "images/b.png;fine;normal;train;x;\n"
        "images/a.png;crack;1;TEST;;images/d.png\n"
        "\n"
        "images/c.png;fine;0;test;;\n",
    )
    samples = load_samples(path)
    assert samples.paths == tuple(str(tmp_path / "images" / f"{name}.png") for name in "bac")
    assert (samples.class_names, samples.classes.tolist()) == (("crack", "fine"), [1, 0, 1])
    assert (samples.normal_classes, samples.part.tolist()) == ((1,), ["train", "test", "test"])
    assert samples.masks == (None, str(tmp_path / "images" / "d.png"), None)
    prepare(path, tmp_path / "shards", progress=False)
    np.testing.assert_array_equal(np.asarray(load_samples(tmp_path / "shards").x), samples.x)


def test_manifest_of_labels_or_of_classes_alone(tmp_path):
    listing = list_manifest(manifest(tmp_path, "file,label\nimages/a.png,good\nimages/b.png,anomaly\n"))
    assert (listing.class_names, listing.classes.tolist()) == (("anomaly", "normal"), [1, 0])
    assert (listing.normal_classes, listing.part, listing.masks) == ((1,), None, None)
    listing = list_manifest(manifest(tmp_path, "image,class,split\nimages/a.png,cat,\nimages/b.png,dog,\n"))
    assert (listing.class_names, listing.normal_classes, listing.part) == (("cat", "dog"), None, None)
    listing = list_manifest(manifest(tmp_path, "path,class\nimages/a.png,good\nimages/b.png,dog\n"))
    assert listing.normal_classes == (1,)


def test_a_table_is_no_manifest(tmp_path):
    (tmp_path / "t.csv").write_text("width,label\n1.5,0\n2.5,1\n")
    assert load_samples(tmp_path / "t.csv").x.shape == (2, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", "expected images under the header"),
        ("path,size\nimages/a.png,3\n", "a column label or class .* received path, size"),
        (
            "path,label\nimages/a.png,0\nimages/z.png,0\n",
            "line 3: expected an image file, found none at 'images/z.png'",
        ),
        (
            "path,label\nimages/a.png,crack\n",
            "line 2: expected label 0 or normal, 1 or anomaly, received 'crack'",
        ),
        ("path,class\nimages/a.png,\n", "line 2: expected a class, received none"),
        (
            "path,class,split\nimages/a.png,x,train\nimages/b.png,x,\n",
            "line 3: expected split train, .* received ''",
        ),
        ("path,class,label\nimages/a.png,x,0\nimages/b.png,x,1\n", "received both for class 'x'"),
        ("path,label\nimages/a.png\n", "line 2: expected 2 cells as in the first row"),
        (f"path,label\nimages/a.png,0\n{'x' * 200_000},0\n", "line 3: expected a row of a table"),
    ],
)
def test_refused_manifests(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        load_samples(manifest(tmp_path, text))
    assert "\n" not in str(error.value)


# --- the same data set, whatever its form ----------------------------------------------------------


def medical(count=120):
    """A set in the layout of PneumoniaMNIST: parts of its own, the classes 0 normal and 1 pneumonia."""
    arrays = {}
    for part, rows in (("train", count), ("val", 20), ("test", 30)):
        arrays[f"{part}_images"] = RNG.integers(0, 256, (rows, 12, 10), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(rows)[:, None] % 3 > 0).astype(np.uint8)
    arrays["test_images"][5] = arrays["train_images"][0]  # a normal training image that is in the test too
    return arrays | {"class_names": np.array(["normal", "pneumonia"])}


def write_folder(folder, arrays):
    for part in ("train", "val", "test"):
        for index, image in enumerate(arrays[f"{part}_images"]):
            name = str(arrays["class_names"][arrays[f"{part}_labels"][index, 0]])
            write(folder / part / name / f"{index:05d}.png", image)


def kept(samples, split, part):
    return {image.tobytes() for image in np.asarray(samples.x[getattr(split, part)])}


def check_same_data(folder, archive, shards, gamma):
    """Images, split, batches and preprocessing of the three forms of one set agree bit for bit."""
    forms = [load_samples(source) for source in (folder, archive, shards)]
    splits = [one_class_split(samples, "normal", gamma=gamma) for samples in forms]
    assert splits[0].sha256 == splits[2].sha256
    for part in (
        "train_normal",
        "train_anomaly",
        "validation_normal",
        "validation_anomaly",
        "test_normal",
        "test_anomaly",
    ):
        first = kept(forms[0], splits[0], part)
        assert first
        assert all(kept(samples, split, part) == first for samples, split in zip(forms, splits, strict=True))
    preprocess = ImagePreprocessing((32, 32))
    streams = [
        quota_batches(samples.x[split.train_normal], samples.x[split.train_anomaly], 32, 8, seed=2).stream()
        for samples, split in zip(forms, splits, strict=True)
    ]
    batches = [list(stream.take(5)) for stream in streams]
    for other in batches[1:]:
        for (x, y), (other_x, other_y) in zip(batches[0], other, strict=True):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(y, other_y)
            np.testing.assert_array_equal(preprocess(x), preprocess(other_x))
    return splits


@pytest.mark.parametrize("gamma", [0.2, None])
def test_folder_array_and_shards_are_the_same_data(tmp_path, gamma):
    arrays = medical()
    np.savez(tmp_path / "set.npz", **arrays)
    write_folder(tmp_path / "folder", arrays)
    prepare(tmp_path / "folder", tmp_path / "shards", shard_bytes=2000, progress=False)
    splits = check_same_data(tmp_path / "folder", tmp_path / "set.npz", tmp_path / "shards", gamma)
    for split in splits:
        # The conventions of the medical sets: the parts are kept, gamma counts the anomalies of the training
        # part beside its 39 normals (40 less the one that is in the test), the validation part is held out.
        collected = 80 if gamma is None else round(39 * 0.2 / 0.8)
        assert (len(split.train_normal), len(split.train_anomaly)) == (39, collected)
        assert (len(split.validation_normal), len(split.validation_anomaly)) == (7, 13)
        assert (len(split.test_normal), len(split.test_anomaly)) == (10, 20)
        assert split.dropped_duplicates == 1
