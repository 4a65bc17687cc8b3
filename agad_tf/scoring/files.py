"""Which files are to be scored: paths, folders, and paths on standard input, one after the other."""

import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from agad_tf.data.sources.images import IMAGE_SUFFIXES
from agad_tf.errors import InputError

TABLE_SUFFIXES = (".csv", ".mat", ".npz")
STANDARD_INPUT = "-"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Sample:
    """One thing to score on its way: a path, then its value or the reason why there is none.

    Attributes:
        path: the file.
        row: position in its table, from 0; None for an image file.
        value: pixels, encoded image or table row; None before it is read.
        error: why it cannot be scored, one line.
    """

    path: str
    row: int | None = None
    value: np.ndarray | bytes | None = None
    error: str | None = None


def check_paths(paths: Iterable[str]) -> None:
    """Refuses a path that does not exist: a slip of the pen, better told before an hour of scoring."""
    for path in paths:
        if path != STANDARD_INPUT and not os.path.lexists(path):
            raise InputError(f"{path}: expected a file or a folder, found nothing: check the path")


def find_files(paths: Iterable[str], stdin: IO[bytes], table: bool) -> Iterator[Sample]:
    """The files named, in the folders named, or named on standard input ("-"), in order.

    Folders are walked as they are reached, sorted, without hidden entries; linked folders too, but for links
    into a folder that holds them. Of their files those are taken whose suffix says that they are images, or
    tables. A folder that cannot be read, or that holds no such file, is one sample with an error.

    Args:
        paths: as given on the command line.
        stdin: read as it comes, one path a line, files only.
        table: whether tables are wanted, not images.
    """
    for path in paths:
        if path == STANDARD_INPUT:
            yield from map(Sample, _lines(stdin))
        elif os.path.isdir(path):
            yield from _in_folder(path, TABLE_SUFFIXES if table else IMAGE_SUFFIXES)
        else:
            yield Sample(path)


def _in_folder(folder: str, suffixes: tuple[str, ...]) -> Iterator[Sample]:
    found, others, example = False, 0, None
    for entry in _walk(folder, suffixes):
        if isinstance(entry, Sample):
            found = True
            yield entry
        else:
            others, example = others + 1, example or entry
    kinds = ", ".join(suffixes)
    if not found:
        yield Sample(folder, error=f"{folder}: expected files ending in {kinds}, received none of them")
    if others:
        _log.warning("%s: %d files do not end in %s: not scored, e.g. %s", folder, others, kinds, example)


def _walk(folder: str, suffixes: tuple[str, ...], above: tuple = ()) -> Iterator[Sample | str]:
    """Samples, and the paths of other files, and of links that lead back, as text."""
    try:
        found = os.stat(folder)
        here = (found.st_dev, found.st_ino)
        if here in above:
            yield folder
            return
        with os.scandir(folder) as entries:
            # Names alone: of a folder with a million files little more is kept.
            names = sorted((entry.name, os.path.isdir(entry.path)) for entry in entries)
    except OSError as error:
        yield Sample(folder, error=f"{folder}: expected a readable folder, received: {error.strerror}")
        return
    for name, is_folder in names:
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if is_folder:
            yield from _walk(path, suffixes, (*above, here))
        else:
            yield Sample(path) if name.casefold().endswith(suffixes) else path


def _lines(stream: IO[bytes]) -> Iterator[str]:
    # Unbuffered: lines are passed on when they come, and no lock is held when the program ends meanwhile.
    stream, rest = getattr(stream, "raw", stream), b""
    while block := stream.read(1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        yield from (os.fsdecode(line.removesuffix(b"\r")) for line in lines if line.strip())
    if rest.strip():
        yield os.fsdecode(rest)


def regular(read: Callable[[str], object]) -> Callable[[str], object]:
    """`read` for regular files alone: a pipe or a device would be waited for without end."""

    def checked(path: str):
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a folder" if os.path.isdir(path) else "a pipe or a device"
            raise InputError(f"{path}: expected a file, received {kind}")
        return read(path)

    return checked
