"""The directory of a run: `RUN.partial` while it trains, `RUN` when it is whole."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agad_tf.errors import CollapsedError, InputError, reading
from agad_tf.evaluation.calibration import Calibration
from agad_tf.files import held, named, rename_whole, write_atomically

CHECKPOINTS = "checkpoints"
"""Folder in an unfinished run."""
LOCK = ".lock"
"""File in an unfinished run, locked by the process that trains it."""


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

    After bad input, or when it is stopped, it is removed, unless it was there before or something of use has
    been trained in it. One process at a time works in it; when it is whole everything in it is on the disk
    before it gets its name, and only then are the checkpoints removed.

    Args:
        path: of the run.
        resume: take an unfinished one that is there.
        writes: False for workers that are not the chief: they get a temporary directory.

    Raises:
        InputError: the run is there already, or another process trains it.
    """
    if not writes:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    partial = check_free(path, resume)
    begun = partial.is_dir()
    partial.mkdir(parents=True, exist_ok=resume)
    with alone_in(partial):
        try:
            yield partial
        except (InputError, KeyboardInterrupt) as error:
            if not begun and (not has_trained(partial) or isinstance(error, CollapsedError)):
                shutil.rmtree(partial)
            raise
        (partial / LOCK).unlink(missing_ok=True)
        rename_whole(partial, path)
        shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)


def has_trained(partial: Path) -> bool:
    """Whether an unfinished run holds something to go on from."""
    return (partial / "model.keras").exists() or any(partial.glob(f"{CHECKPOINTS}/*.checkpoint"))


@contextlib.contextmanager
def alone_in(partial: Path) -> Iterator[None]:
    """Refuses to work in an unfinished run that another process works in."""
    with held(partial, LOCK) as free:
        if not free:
            raise InputError(
                f"{partial}: expected to be the only one training this run, found another process at it: "
                "wait for it, or stop it"
            )
        yield


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
    if partial.is_dir():
        with alone_in(partial):  # better known before the data are read
            pass
    return partial


def check_run(path: str | Path) -> Path:
    """The directory of a finished run.

    Raises:
        InputError: there is none, or it is unfinished or lacks a file.
    """
    path = Path(path)
    if not path.is_dir():
        hint = "there is no such folder: train one with `agad-tf train`"
        if partial_of(path).is_dir():
            hint = f"it is unfinished: go on with `agad-tf train --resume {path}`"
        raise InputError(f"{path}: expected a run directory, but {hint}")
    missing = [name for name in ("config.yaml", "model.keras", "metrics.json") if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path}: expected a run directory, but {', '.join(missing)} is missing: train again"
        )
    return path


def read_json(path: Path) -> dict:
    """A file that `write_json` wrote.

    Raises:
        InputError: no such file, or a damaged one.
    """
    with reading(path, "the metrics of a run", "restore the file, or train again"):
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise TypeError(f"a {type(content).__name__}")
        return content


def load_calibration(run: Path) -> Calibration | None:
    """The threshold of a run, None where it has none."""
    path = run / "calibration.json"
    # What is there but no file is told, not passed over.
    return Calibration.load(path) if os.path.lexists(path) else None


def write_json(path: Path, value) -> None:
    """Writes a file of a run; it appears whole."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())
