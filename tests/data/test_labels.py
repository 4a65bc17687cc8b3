"""No labelled anomaly of the training part is dropped."""

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.samples import Samples
from agad_tf.data.sources.load import load_samples
from agad_tf.data.splits.protocols import one_class_split

RNG = np.random.default_rng(0)


def write(folder, count):
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(RNG.integers(0, 256, (6, 6), np.uint8)).save(folder / f"{index:03d}.png")


def collected(split):
    return np.sort(np.concatenate([split.train_anomaly, split.validation_anomaly]))


def test_labelled_defects_of_several_kinds_in_train(tmp_path):
    counts = {"train/good": 30, "train/scratch": 7, "train/dent": 5}
    for name, count in (counts | {"test/good": 8, "test/scratch": 3, "test/hole": 4}).items():
        write(tmp_path / name, count)
    samples = load_samples(tmp_path)
    split = one_class_split(samples)
    names = np.array(samples.class_names)[samples.classes[collected(split)]]
    assert sorted(names) == ["dent"] * 5 + ["scratch"] * 7
    assert split.summary()["unused"] == 0
    assert {samples.class_names[index] for index in split.known_classes} == {"dent", "scratch"}
    assert len(one_class_split(samples, gamma=0).train_anomaly) == 0
    assert len(collected(one_class_split(samples, gamma=0.1))) == 3


@pytest.mark.parametrize("named", [None, (0,)])
@pytest.mark.parametrize("wanted", [None, ["class1", "class3"], "class2"])
def test_every_class_asked_for_is_used_whole(named, wanted):
    classes = np.repeat(np.arange(4), [60, 20, 20, 20])
    names = tuple(f"class{index}" for index in range(4))
    samples = Samples("made", RNG.normal(size=(120, 2)), classes, names, normal_classes=named)
    split = one_class_split(samples, "class0", anomaly_classes=wanted)
    wanted = names[1:] if wanted is None else [wanted] if isinstance(wanted, str) else wanted
    assert np.bincount(classes[collected(split)], minlength=4).tolist() == [
        14 * (name in wanted) for name in names
    ]


def test_kinds_of_one_row_each_reach_training_and_test(tmp_path):
    write(tmp_path / "normal", 30)
    for kind in range(10):
        write(tmp_path / "anomaly" / f"kind {kind}", 1)
    split = one_class_split(load_samples(tmp_path))
    assert len(split.test_anomaly) == 3
    assert len(collected(split)) == 7
