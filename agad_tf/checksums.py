"""Checksums of exports: written with each, checked once when one is loaded. Standard library only.

A byte that changes on the way to a board (a worn card, a copy that broke off) changes scores and decisions,
and seldom breaks the file. A TFLite export has the checksum of its graph in its metadata; an ONNX export ends
in one of all bytes before; a SavedModel has a list of its files. Exports made before there were checksums
load without.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path

from agad_tf.errors import InputError

MANIFEST = Path("assets.extra", "checksums.json")
"""Where a SavedModel keeps the checksums of graph, variables and card: servers pass over that folder."""

_CARD = "model_card.json"
_ONNX_KEY = b"agad_tf.sha256"


def sha256_of(path: str | Path, count: int | None = None) -> str:
    """SHA-256 of a file, or of its first `count` bytes; hexadecimal."""
    digest, left = hashlib.sha256(), count
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20 if left is None else min(left, 1 << 20)):
            digest.update(block)
            left = None if left is None else left - len(block)
    return digest.hexdigest()


def damaged(path: str | Path) -> InputError:
    """The error for an export that is not as it was written."""
    return InputError(
        f"{path}: expected the export as it was written, received other bytes (its checksum differs): copy "
        "it again, or export again"
    )


def seal_onnx(content: bytes) -> bytes:
    """An ONNX file's bytes with the checksum of all of them behind, as one more metadata property."""
    # Protobuf messages may be joined: the last bytes are a whole `metadata_props` of their own (field 14).
    value = hashlib.sha256(content).hexdigest().encode()
    entry = b"\x0a" + bytes([len(_ONNX_KEY)]) + _ONNX_KEY + b"\x12" + bytes([len(value)]) + value
    return content + b"\x72" + bytes([len(entry)]) + entry


def check_onnx(path: str | Path, content: bytes) -> None:
    """Refuses an ONNX file whose content is not as it was written; says nothing of one without a checksum."""
    size = len(seal_onnx(b""))
    body, seal = content[:-size], content[-size:]
    if seal[:-64] == seal_onnx(b"")[:-64] and seal_onnx(body)[-64:] != seal[-64:]:
        raise damaged(path)


def write_manifest(folder: str | Path) -> None:
    """Writes the checksums of a SavedModel's graph, variables and card."""
    folder = Path(folder)
    (folder / MANIFEST).parent.mkdir(exist_ok=True)
    listed = {name: sha256_of(folder / name) for name in _read_on_loading(folder)}
    (folder / MANIFEST).write_text(json.dumps(listed, indent=1) + "\n")


def _read_on_loading(folder: Path) -> list[str]:
    """Names of a SavedModel's files that a score follows from, and its card; regular files alone."""
    files = [folder / "saved_model.pb", *(folder / "variables").glob("*"), folder / MANIFEST.parent / _CARD]
    return sorted(file.relative_to(folder).as_posix() for file in files if file.is_file())


def check_manifest(folder: str | Path) -> None:
    """Refuses a SavedModel that is not as it was written; says nothing of one without checksums."""
    folder = Path(folder)
    if not os.path.lexists(folder / MANIFEST):
        return
    if not (folder / MANIFEST).is_file():  # a pipe would be waited for
        raise damaged(folder)
    try:
        listed = json.loads((folder / MANIFEST).read_bytes())
        # Names first: none leads elsewhere, none is missing, none has come in addition.
        names = _read_on_loading(folder)
        # Larger than all memory it is no model, and would be read for hours.
        most = (
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
        )
        same = sorted(listed) == names and all((folder / name).stat().st_size < most for name in names)
        same = same and all(sha256_of(folder / name) == listed[name] for name in names)
    except (OSError, ValueError, TypeError, RecursionError, MemoryError):
        same = False
    if not same:
        raise damaged(folder)
