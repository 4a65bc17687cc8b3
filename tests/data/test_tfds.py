"""Sets of TensorFlow Datasets, from a builder that the test prepares on disk."""

import numpy as np
import pytest

from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")

RNG = np.random.default_rng(0)
IMAGES = {
    split: RNG.integers(0, 256, (count, 6, 7, 3), np.uint8) for split, count in (("train", 9), ("test", 5))
}


def build(folder, splits, features=None, names=("good", "crack", "stain"), name="screws"):
    features = features or {
        "image": tfds.features.Image(shape=(6, 7, 3)),
        "label": tfds.features.ClassLabel(names=names),
    }
    (folder / name / "1.0.0").mkdir(parents=True)
    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(
            name=name,
            version=tfds.core.Version("1.0.0"),
            data_dir=str(folder / name / "1.0.0"),
            module_name="",
        ),
        features=tfds.features.FeaturesDict(features),
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=4)
    writer.initialize_splits(list(splits))
    for split, rows in splits.items():
        writer.add_examples({split: rows})
    writer.close_all()


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def rows(split):
    return [{"image": image, "label": index % 3} for index, image in enumerate(IMAGES[split])]


def test_a_prepared_builder(data_dir, tmp_path):
    build(data_dir, {split: rows(split) for split in IMAGES})
    samples = load_samples("tfds:screws")
    assert (samples.name, samples.class_names, samples.normal_classes) == (
        "screws",
        ("good", "crack", "stain"),
        (0,),
    )
    for split, images in IMAGES.items():
        np.testing.assert_array_equal(samples.x[samples.part == split], images)
        np.testing.assert_array_equal(samples.classes[samples.part == split], np.arange(len(images)) % 3)
    assert load_samples("tfds:screws", image_size=4, channels=1).x.shape == (14, 4, 4, 1)
    prepare("tfds:screws", tmp_path / "shards", progress=False)
    np.testing.assert_array_equal(np.asarray(load_samples(tmp_path / "shards").x), samples.x)


def test_a_set_without_a_test_split_has_no_parts(data_dir):
    build(data_dir, {"train": rows("train")})
    samples = load_samples("tfds:screws")
    assert samples.part is None
    assert samples.x.shape == (9, 6, 7, 3)


def test_refused(data_dir):
    with pytest.raises(
        InputError, match="tfds:no_such_set: expected a set that TensorFlow Datasets can prepare"
    ) as error:
        load_samples("tfds:no_such_set")
    assert "\n" not in str(error.value)
    build(data_dir, {"train": [{"text": "a"}]}, {"text": tfds.features.Text()}, name="words")
    with pytest.raises(InputError, match="received the features text"):
        load_samples("tfds:words")
    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["a"]),
    }
    mixed = [{"image": np.zeros((side, 4, 3), np.uint8), "label": 0} for side in (4, 5)]
    build(data_dir, {"train": mixed}, features, name="mixed")
    with pytest.raises(InputError, match="pass an image size"):
        load_samples("tfds:mixed")
    assert load_samples("tfds:mixed", image_size=4).x.shape == (2, 4, 4, 3)


def test_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match=r"pip install 'agad-tf\[tfds\]'"):
        load_samples("tfds:mnist")
