"""A number means the class of that name, in Python, YAML and on the command line alike."""

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.samples import Samples
from agad_tf.data.sources.load import load_samples
from agad_tf.data.splits.protocols import normal_class_indices, one_class_split, whole_as_test
from agad_tf.errors import InputError


def normal_names(samples, wanted):
    return [samples.class_names[index] for index in normal_class_indices(samples, wanted)]


def test_folders_called_by_numbers(tmp_path):
    for number in range(11):
        (tmp_path / str(number)).mkdir()
        Image.fromarray(np.full((6, 6), number, np.uint8)).save(tmp_path / str(number) / "a.png")
    samples = load_samples(tmp_path)
    assert samples.class_names[2] == "10"
    for number in range(11):
        for wanted in (number, str(number), [number], np.int64(number)):
            assert normal_names(samples, wanted) == [str(number)]


def test_labels_of_a_table_that_begin_with_1(tmp_path):
    x = np.random.default_rng(0).normal(size=(340, 4))
    np.savez(tmp_path / "states.npz", X=x, y=np.repeat([1, 2, 3], [300, 20, 20]))
    samples = load_samples(tmp_path / "states.npz")
    split = one_class_split(samples, 1)
    assert len(split.train_normal) + len(split.validation_normal) + len(split.test_normal) == 300
    assert one_class_split(samples, "1").sha256 == split.sha256
    assert len(whole_as_test(samples, 3).test_normal) == 20
    assert one_class_split(samples, 1, anomaly_classes=3).known_classes == (2,)


def test_positions_where_no_class_is_called_so():
    samples = Samples("made", np.zeros((3, 1)), np.arange(3), ("cat", "dog", "2"))
    assert [normal_names(samples, wanted) for wanted in (0, "1", 2)] == [["cat"], ["dog"], ["2"]]
    with pytest.raises(InputError, match="received '3'; give a name, or a position from 0 to 2"):
        normal_class_indices(samples, 3)
