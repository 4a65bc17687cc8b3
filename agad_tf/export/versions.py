"""Versions of an export, `<name>/1`, `<name>/2`, ...: each appears whole, and none is written over."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agad_tf.errors import InputError
from agad_tf.files import remove_abandoned, sync_folder, sync_tree, work_in
from agad_tf.scoring.detectors import numbered_folders

RECORD = ".versions"
"""File beside the versions that lists every number that was ever used; servers pass over it."""


class NewVersion:
    """A version in the making.

    Attributes:
        partial: the folder to write into.
        path: where it is after the block, None before.
    """

    def __init__(self, partial: Path):
        self.partial = partial
        self.path: Path | None = None


@contextmanager
def new_version(folder: str | Path) -> Iterator[NewVersion]:
    """The next version under `folder`, which becomes visible when the block ends well, else not at all.

    Args:
        folder: `saved_models/<name>`; made where it is missing.

    Raises:
        InputError: `folder` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder for versions, found a file: choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder.glob(".partial-*"))
    version = NewVersion(folder / f".partial-{secrets.token_hex(4)}")
    try:
        with work_in(version.partial):
            yield version
            version.path = _claim(version.partial, folder)
    finally:
        shutil.rmtree(version.partial, ignore_errors=True)


def check_one_kind(folder: str | Path, main_file: str) -> None:
    """Refuses to mix formats in one folder, of which a server would load the last version.

    Args:
        folder: `saved_models/<name>`, which need not exist.
        main_file: that every version of the format has.

    Raises:
        InputError: there is a version without that file.
    """
    others = [entry for _, entry in numbered_folders(folder) if not (entry / main_file).exists()]
    if others:
        raise InputError(
            f"{folder}: expected versions with {main_file}, found {others[0].name} without it: "
            "choose another folder with --to"
        )


def check_new_file(path: str | Path) -> Path:
    """Refuses to write over an export."""
    path = Path(path)
    if path.exists():
        raise InputError(f"{path}: expected a new file name, found a file: choose another or remove it")
    return path


def _claim(partial: Path, folder: Path) -> Path:
    """Renames to the next version number; another export may claim one at the same moment.

    Numbers are kept in a record of their own: one that was used and removed is not used again, since servers,
    caches and people know a version by its number.
    """
    sync_tree(partial)
    while True:
        existing = [number for number, _ in numbered_folders(folder)]
        version = folder / str(max([*existing, *_used(folder)], default=0) + 1)
        with open(folder / RECORD, "a", encoding="ascii") as record:  # before the rename: a gap is no harm
            record.write(f"{version.name}\n")
        try:
            os.rename(partial, version)  # fails on a folder that is not empty
        except OSError:
            if not version.exists():
                raise
        else:
            sync_folder(folder)
            return version


def _used(folder: Path) -> list[int]:
    """Numbers in the record; lines that are none, of a disk that was full, are passed over."""
    try:
        lines = (folder / RECORD).read_text("ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [int(line) for line in lines if line.isascii() and line.isdigit()]
