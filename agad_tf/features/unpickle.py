"""Reads a PyTorch state dict in the legacy `.pth` format with NumPy alone.

A pickle can run any code. This reader lets it name three things only, the ones that a dict of tensors needs,
and refuses everything else.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np

from agad_tf.errors import InputError

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class _Storage:
    """The numbers that one or more tensors look at; they stand behind the pickles in the file."""

    def __init__(self, dtype: np.dtype, size: int):
        self.dtype, self.size = dtype, size
        self.values: np.ndarray | None = None


class _Tensor:
    """A view of a storage: tensors are stored with strides of their own, which need not be in C order."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_):
        self.storage, self.offset = storage, int(offset)
        self.shape = tuple(int(side) for side in shape)
        self.strides = tuple(int(step) for step in strides)
        if min((self.offset, *self.shape, *self.strides), default=0) < 0:
            raise pickle.UnpicklingError("a tensor with a negative size or stride")
        if len(self.shape) != len(self.strides):
            raise pickle.UnpicklingError("a tensor with as many strides as axes was expected")

    def array(self) -> np.ndarray:
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if 0 not in self.shape and last >= self.storage.size:
            raise pickle.UnpicklingError("a tensor that reaches beyond its storage")
        item = self.storage.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            self.storage.values[self.offset :], self.shape, [step * item for step in self.strides]
        )
        return np.array(view, order="C")


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream):
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name}, which no dict of tensors needs")

    def persistent_load(self, key):
        kind, dtype, name, _, size, *view = key
        if kind != "storage" or not isinstance(dtype, np.dtype) or (view and view[0] is not None):
            raise pickle.UnpicklingError("an unknown kind of storage")
        return self.storages.setdefault(name, _Storage(dtype, int(size)))


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Name of a tensor to its values, in C order.

    Args:
        path: a `.pth` file of the legacy format (a pickle, not a zip archive) that holds a dict of tensors.

    Raises:
        InputError: another format, an entry that is no tensor, a damaged file.
    """
    try:
        with open(path, "rb") as stream:
            if _Unpickler(stream).load() != _MAGIC or _Unpickler(stream).load() != _VERSION:
                raise pickle.UnpicklingError("another format")
            if _Unpickler(stream).load().get("little_endian") is not True:
                raise pickle.UnpicklingError("numbers in another byte order")
            reader = _Unpickler(stream)
            entries, names = reader.load(), _Unpickler(stream).load()
            for name in names:
                _fill(reader.storages[name], stream)
        if not isinstance(entries, dict) or not all(isinstance(v, _Tensor) for v in entries.values()):
            raise pickle.UnpicklingError("entries that are no tensors")
        return {name: tensor.array() for name, tensor in entries.items()}
    except OSError as error:
        raise InputError(f"{path}: expected a .pth file, but it cannot be read ({error.strerror})") from None
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        struct.error,
    ) as error:
        raise InputError(
            f"{path}: expected a dict of tensors in PyTorch's legacy format, received {error}"
        ) from None


def _fill(storage: _Storage, stream) -> None:
    (size,) = struct.unpack("<q", stream.read(8))
    content = stream.read(size * storage.dtype.itemsize) if size == storage.size else b""
    if len(content) != storage.size * storage.dtype.itemsize:
        raise pickle.UnpicklingError("a file that ends too early or states another size")
    storage.values = np.frombuffer(content, storage.dtype)
