"""One file for the state of a training: nested numbers, texts and arrays, checked on reading."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from agad_tf.files import written_whole

_HEADER = b"agad_tf state, sha256 "
_ARRAY = "__array__"


class DamagedFileError(Exception):
    """A file that does not hold what was written into it."""


def write_state(path: str | Path, state: dict[str, Any]) -> None:
    """Writes a state; the file appears whole, and is on the disk when this returns.

    A line with the SHA-256 of what follows it: an .npz archive without pickle, in which `state` is JSON, and
    equal arrays are held once.

    Args:
        path: file to write, in an existing folder.
        state: dicts with text keys, lists, numbers, texts, bools, None and NumPy arrays, nested at will.
    """
    arrays: dict[str, np.ndarray] = {}

    def plain(value):
        if isinstance(value, np.ndarray):
            name = hashlib.sha256(f"{value.dtype.str}{value.shape}".encode())
            name.update(np.ascontiguousarray(value).data)
            arrays[name.hexdigest()] = value
            return {_ARRAY: name.hexdigest()}
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value.item() if isinstance(value, np.generic) else value

    archive = io.BytesIO()
    np.savez(archive, state=np.array(json.dumps(plain(state))), **arrays)
    digest = hashlib.sha256(archive.getbuffer()).hexdigest()
    with written_whole(path) as file:
        file.write(_HEADER + digest.encode() + b"\n")
        file.write(archive.getbuffer())


def read_state(content: bytes) -> dict[str, Any]:
    """The state that `write_state` wrote, tuples as lists.

    Args:
        content: of the file.

    Raises:
        DamagedFileError: anything else; a single wrong bit is noticed.
    """
    line, _, archive = content.partition(b"\n")
    if not line.startswith(_HEADER):
        raise DamagedFileError("empty, or of another kind")
    if hashlib.sha256(archive).hexdigest().encode() != line.removeprefix(_HEADER):
        raise DamagedFileError("its checksum is wrong")
    with np.load(io.BytesIO(archive), allow_pickle=False) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}

    def rebuilt(value):
        if isinstance(value, dict):
            return arrays[value[_ARRAY]] if _ARRAY in value else {k: rebuilt(v) for k, v in value.items()}
        return [rebuilt(item) for item in value] if isinstance(value, list) else value

    return rebuilt(json.loads(arrays["state"].item()))
