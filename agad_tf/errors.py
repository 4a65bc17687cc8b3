"""Exceptions for what a user can mend."""

import contextlib
import os
from collections.abc import Iterator


class InputError(ValueError):
    """Bad input, told in one line: what was expected, what was received, what to do.

    The command line prints the message without a traceback and exits with status 2.
    """


class CollapsedError(InputError):
    """A training that ended with a model of no use: nothing of it is worth keeping."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with a line that says what is left and how to go on."""


@contextlib.contextmanager
def reading(path, expected: str, advice: str) -> Iterator[None]:
    """Turns whatever a library raises over a missing or damaged file into one line.

    Libraries raise almost anything over damaged bytes: `zlib.error`, `BadZipFile`, `struct.error`, KeyError,
    RecursionError, MemoryError. What they raised is kept as the cause, for --debug.

    Args:
        path: the file.
        expected: what it should be, "the metrics of a run" for instance.
        advice: what to do, without a full stop.

    Raises:
        InputError: for every exception in the block that is not one already; for a pipe or a device, which
            would be waited for, before the block.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(
            f"{os.fspath(path)}: expected {expected}, received a folder, pipe or device: {advice}"
        )
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file" if missing else error.strerror or _first_line(error)
        raise InputError(f"{os.fspath(path)}: expected {expected}, received {reason}: {advice}") from error
    except Exception as error:
        raise InputError(
            f"{os.fspath(path)}: expected {expected}, received something else or a damaged file "
            f"({_first_line(error)}): {advice}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
