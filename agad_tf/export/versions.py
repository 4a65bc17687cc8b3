"""Versions of an export, `<name>/1`, `<name>/2`, ...: each appears whole, and none is written over."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agad_tf.errors import InputError
from agad_tf.files import remove_abandoned, sync_folder, sync_tree, work_in


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
            sync_tree(version.partial)
            version.path = _claim(version.partial, folder)
            sync_folder(folder)
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
    versions = [entry for entry in Path(folder).glob("*") if entry.name.isdigit()]
    others = [entry for entry in versions if not (entry / main_file).exists()]
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
    """Renames to the next free version number; another export may claim one at the same moment."""
    while True:
        versions = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
        version = folder / str(max(versions, default=0) + 1)
        try:
            os.rename(partial, version)  # fails on a folder that is not empty
            return version
        except OSError:
            if not version.exists():
                raise
