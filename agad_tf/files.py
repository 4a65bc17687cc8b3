"""Files and folders that appear whole or not at all, and stay over a loss of power."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: there are no such locks, and what a killed process left stays
    fcntl = None

from agad_tf.errors import InputError

_LONGEST_NAME = 200  # bytes of a name that a temporary one repeats: file systems allow 255
_NO_FILE_NAMED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def named(path: Path) -> Path:
    """The path as it is, or the absolute one where its last piece is no name: `.` and `..`."""
    return path.resolve() if path.name in ("", "..") else path


@contextmanager
def written_whole(
    path: str | Path,
    mode: str = "wb",
    newline: str | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    keep_as: Path | None = None,
) -> Iterator[IO]:
    """A stream whose content becomes `path` when its block ends well; a reader sees the old file or the new.

    The content is on the disk when the block has ended. A symbolic link stays, and the file that it names is
    written. A device or a pipe is no file that could be replaced: it is written to directly. What a killed
    process left of an earlier attempt is removed.

    Args:
        path: file to write.
        mode, newline, encoding, errors: as in `open`; mode "wb" or "w".
        keep_as: what was written when the block fails becomes this file; None discards it.

    Raises:
        InputError: the folder of `path` is missing, or `path` is a folder.
        OSError: the disk is full, for instance; nothing has changed then.
    """
    target = writable(path)
    options = {"newline": newline, "encoding": encoding, "errors": errors}
    with _told_where(path):
        if _is_special(target):
            with open(target, mode, **options) as file:
                yield file
            return
        _remove_leftovers(target)
        partial, number = _open_partial(target)
        try:
            with open(number, mode, **options) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(partial, target)
            sync_folder(target.parent)
        except BaseException:
            if keep_as is not None and partial.exists():
                os.replace(partial, keep_as)
            raise
        finally:
            partial.unlink(missing_ok=True)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path`; see `written_whole`."""
    with written_whole(path) as file:
        file.write(data)


def writable(path: str | Path) -> Path:
    """Where a file of this name is written: the end of its links.

    Raises:
        InputError: its folder is missing, or it is a folder.
    """
    path = Path(path)
    if _is_special(path):
        return path
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if not target.parent.is_dir():
        raise InputError(
            f"Expected an existing folder to write {path.name} into, received {target.parent}: create it "
            "first."
        )
    if target.is_dir():
        raise InputError(f"Expected a file name to write to, received the folder {path}: add a file name.")
    return target


def check_writable(path: str | Path) -> None:
    """Refuses a file that could not be written, before the work that it is for.

    Raises:
        InputError: see `writable`.
        OSError: no right to write there, for instance.
    """
    target = writable(path)
    if _is_special(target):
        return
    partial, number = _open_partial(target)
    os.close(number)
    partial.unlink()


def _is_special(path: Path) -> bool:
    """Whether it is there and no file that another could take the place of: a device, a pipe, /dev/stdout."""
    if path.is_absolute() and path.parts[1:2] in (("dev",), ("proc",)) and not path.is_dir():
        return path.exists()
    return path.exists() and not path.is_file() and not path.is_dir()


def _partial_prefix(target: Path) -> str:
    return os.fsdecode(b"." + os.fsencode(target.name)[:_LONGEST_NAME] + b".")


def _open_partial(target: Path) -> tuple[Path, int]:
    """A new file beside the target, locked for as long as it is open."""
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666
    while True:
        partial = target.with_name(f"{_partial_prefix(target)}{secrets.token_hex(8)}.partial")
        number = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
        if _lock(number) and os.fstat(number).st_nlink:
            return partial, number
        os.close(number)  # taken for a leftover between the two calls


def _lock(number: int) -> bool:
    """Whether this process alone now holds a file; True where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF):
            raise
    return True  # a file system without locks


def _remove_leftovers(target: Path) -> None:
    """Removes what killed processes left of this file; what a living one writes is locked."""
    if fcntl is None:
        return
    prefix = _partial_prefix(target)
    for name in os.listdir(target.parent):
        if not (name.startswith(prefix) and name.endswith(".partial")):
            continue
        with contextlib.suppress(FileNotFoundError, PermissionError):
            number = os.open(target.with_name(name), os.O_RDWR | os.O_NOFOLLOW)
            try:
                if _lock(number):
                    os.unlink(target.with_name(name))
            finally:
                os.close(number)


@contextmanager
def _told_where(path: str | Path) -> Iterator[None]:
    """Adds the name of the file to what the operating system says of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_FILE_NAMED:
            error.filename = os.fspath(path)
        raise


@contextmanager
def work_in(folder: Path) -> Iterator[None]:
    """Makes a folder for its block, which holds the lock of it; see `remove_abandoned`."""
    number = _opened_and_locked(folder)
    try:
        yield
    finally:
        os.close(number)


def _opened_and_locked(folder: Path) -> int:
    """Makes a folder and holds its lock; made anew where `remove_abandoned` was between the two."""
    folder.mkdir()
    while True:
        try:
            number = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            folder.mkdir()
            continue
        with contextlib.suppress(FileNotFoundError):
            if _lock(number) and os.stat(folder).st_ino == os.fstat(number).st_ino:
                return number
        os.close(number)
        if not folder.exists():
            folder.mkdir()
        time.sleep(0.001)  # somebody looks at it


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Removes folders of `work_in` whose process has ended."""
    for folder in folders:
        if fcntl is None or not folder.is_dir():
            continue
        try:
            number = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process was faster
        try:
            if _lock(number):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(number)


@contextmanager
def held(folder: Path, name: str = ".lock") -> Iterator[bool]:
    """Holds the lock of a folder for its block, whoever else asks; yields whether it was free.

    The lock is that of a file in the folder, which stays; it ends with the process that holds it.
    """
    with open(folder / name, "ab") as file:
        yield _lock(file.fileno())


def sync_folder(folder: str | Path) -> None:
    """Makes names in a folder last over a loss of power."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot
            raise
    finally:
        os.close(number)


def sync_tree(folder: str | Path) -> None:
    """Makes everything in a folder last over a loss of power, files first."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            path = os.path.join(place, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        sync_folder(place)


def rename_whole(partial: str | Path, path: str | Path) -> None:
    """Gives a finished file or folder its name, with everything in it on the disk before and after."""
    partial, path = Path(partial), Path(path)
    if partial.is_dir():
        sync_tree(partial)
    else:
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)
