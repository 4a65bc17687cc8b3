"""Where shards lie until they are whole: a folder that one process works in at a time."""

import fcntl
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agad_tf.data.sources import shards as records
from agad_tf.errors import InputError
from agad_tf.files import named

_OWN = re.compile(rf"\.?({'|'.join(records.KINDS)})-\d+-of-\d+\.(tfrecord|npz|partial)(\.\w+\.partial)?")


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """`out`.partial, for one process at a time; kept after an interruption or an error.

    Raises:
        InputError: another process works in it, or it is a folder of somebody else.
    """
    out = named(out)
    folder = out.with_name(out.name + ".partial")
    if folder.exists() and not (folder / records.LOCK).exists():
        raise InputError(
            f"{folder}: expected a free name to work in, found something that is no preparation; "
            "choose another OUT, or move it away"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / records.LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: expected to be the only one writing, found another process at it; wait for it"
            ) from None
        try:
            yield folder
        except InputError:
            # Whole shards are kept: they need not be made again when the file in question is mended.
            if not any(folder.glob("*.npz")):
                remove(own_files(folder))
                if not any(folder.iterdir()):
                    folder.rmdir()
            raise


def own_files(folder: Path) -> list[Path]:
    """What `prepare` writes while it works; files of others in the folder are left alone."""
    return [file for file in folder.iterdir() if file.name == records.LOCK or _OWN.fullmatch(file.name)]


def remove(files: Iterable[Path]) -> None:
    """Deletes files."""
    for file in files:
        file.unlink()
