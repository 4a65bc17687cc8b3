"""Files that appear whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from agad_tf.errors import InputError


def named(path: Path) -> Path:
    """The path as it is, or the absolute one where its last piece is no name: `.` and `..`."""
    return path.resolve() if path.name in ("", "..") else path


@contextmanager
def written_whole(path: str | Path, mode: str = "wb", newline: str | None = None) -> Iterator[IO]:
    """A stream whose content becomes `path` when its block ends well; a reader sees the old file or the new.

    Args:
        path: file to write.
        mode, newline: as in `open`; mode "wb" or "w".

    Raises:
        InputError: the folder of `path` is missing, or `path` is a folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(
            f"Expected an existing folder to write {path.name} into, received {path.parent}: create it first."
        )
    if path.is_dir():
        raise InputError(f"Expected a file name to write to, received the folder {path}: add a file name.")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, mode.replace("w", "x"), newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path`; see `written_whole`."""
    with written_whole(path) as file:
        file.write(data)
