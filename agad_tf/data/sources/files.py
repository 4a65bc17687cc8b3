"""Image files under a folder: links are followed, and whatever is not read is told."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agad_tf.errors import InputError
from agad_tf.pixels import IMAGE_SUFFIXES

_log = logging.getLogger(__name__)
# What desktops leave in every folder; nobody means it as data.
_LITTER = (".ds_store", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not read, and why."""

    path: Path
    reason: str


def find_images(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """All image files under a folder, sorted by path, and what lies there too and is not read.

    Linked files and folders are followed; a link into a folder that holds it is not.

    Raises:
        InputError: a folder that may not be read.
    """
    found = list(_walk(folder, ()))
    images = sorted(entry for entry in found if isinstance(entry, Path))
    return images, sorted((entry for entry in found if isinstance(entry, LeftOut)), key=lambda one: one.path)


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path | LeftOut]:
    try:
        found = folder.stat()
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(f"{folder}: expected a readable folder, received: {error.strerror}") from None
    here = (found.st_dev, found.st_ino)
    if here in above:
        yield LeftOut(folder, "a link into a folder that holds it")
        return
    for name in names:
        path = folder / name
        if name.casefold() in _LITTER or name.startswith("._"):
            continue
        if name.startswith("."):
            yield LeftOut(path, "hidden")
            continue
        try:
            mode = path.stat().st_mode
        except OSError:
            yield LeftOut(path, "a link to nothing")
            continue
        if stat.S_ISDIR(mode):
            yield from _walk(path, (*above, here))
        elif not stat.S_ISREG(mode):
            yield LeftOut(path, "no plain file but a pipe, socket or device")
        elif path.suffix.casefold() not in IMAGE_SUFFIXES:
            yield LeftOut(path, "no JPEG, PNG or BMP")
        else:
            yield path


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly in a folder, links to folders too, sorted."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def list_images(folder: str | Path) -> list[Path]:
    """All JPEG, PNG and BMP files under a folder, sorted by path; what is left out is told in the log."""
    images, left_out = find_images(Path(folder))
    tell(folder, left_out)
    return images


def tell(what: str | Path, left_out: Iterable[LeftOut]) -> None:
    """One warning that counts what is not read, by reason, with an example of each."""
    left_out = list(left_out)
    if not left_out:
        return
    examples = {}
    for one in left_out:
        examples.setdefault(one.reason, one.path)
    counts = Counter(one.reason for one in left_out)
    told = "; ".join(f"{count} {reason}, e.g. {examples[reason]}" for reason, count in counts.items())
    _log.warning("%s: not read, as if they were not there: %s", what, told)


def check_readable(path: Path) -> None:
    """Refuses what is neither a plain file nor a folder: reading a pipe or device would wait for ever.

    Raises:
        InputError: a pipe, socket or device.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"{path}: expected a file or folder, received a pipe, socket or device; save it as a file"
        )
