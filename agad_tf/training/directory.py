"""The directory of a run: `RUN.partial` while it trains, `RUN` when it is whole."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agad_tf.errors import CollapsedError, InputError
from agad_tf.files import named, write_atomically

CHECKPOINTS = "checkpoints"
"""Folder in an unfinished run."""


def partial_of(path: Path) -> Path:
    """Where a run lies until it is whole."""
    path = named(path)
    return path.with_name(path.name + ".partial")


def whole_of(path: Path) -> Path:
    """The run that RUN or RUN.partial names."""
    path = named(path)
    return path.with_name(path.name.removesuffix(".partial"))


@contextmanager
def run_directory(path: Path, resume: bool = False, writes: bool = True) -> Iterator[Path]:
    """A directory that is called `path`.partial until its block ends well.

    After bad input it is removed, unless it was there before or something of use has been trained in it.

    Args:
        path: of the run.
        resume: take an unfinished one that is there.
        writes: False for workers that are not the chief: they get a temporary directory.

    Raises:
        InputError: the run is there already.
    """
    if not writes:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    partial = check_free(path, resume)
    begun = partial.is_dir()
    partial.mkdir(parents=True, exist_ok=resume)
    try:
        yield partial
    except InputError as error:
        trained = (partial / "model.keras").exists() or any(partial.glob(f"{CHECKPOINTS}/*"))
        if not begun and (not trained or isinstance(error, CollapsedError)):
            shutil.rmtree(partial)
        raise
    os.replace(partial, path)
    shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)


def check_free(path: Path, resume: bool = False) -> Path:
    """`path`.partial, where neither a finished run nor, unless resuming, an unfinished one is in the way."""
    partial = partial_of(path)
    if path.exists():
        raise InputError(
            f"{path}: expected a free name, found a finished run: choose another --out or remove it"
        )
    if partial.exists() and not resume:
        raise InputError(
            f"{partial}: expected a free name, found an unfinished run: go on with it by --resume {path}, "
            "choose another --out or remove it"
        )
    return partial


def write_json(path: Path, value) -> None:
    """Writes a file of a run; it appears whole."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())
