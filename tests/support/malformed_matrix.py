"""Every kind of damage at every door: what becomes of it.

A door is a place where something comes in (`malformed_doors.DOORS`), a kind a way of being wrong. A case is
refused in one line, or harmless (the answer is the right one), or one of three things that must not be: an
answer that is another one, an exception that is no line, rows that are lost.
"""

import contextlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.errors import InputError

KINDS = (
    "truncated",
    "bit-flipped",
    "huge",
    "empty",
    "hostile names",
    "links",
    "devices and pipes",
    "wrong type",
    "wrong range",
    "NaN and infinity",
)
OUTCOMES = ("refused", "harmless", "wrong", "traceback", "lost")
SECONDS = 60
"""After so long a case counts as one that hangs."""
NAMES = ("line\nbreak", "\x1b[31mred", "=cmd|'-' !A1", "$\\frac{1}{$", "<b>", "größe 日本", "a,b;c", "-x",
         "%s{0}", "no utf-8 \udcff\udcfe")  # fmt: skip


@dataclass
class Case:
    """One thing that comes in.

    Attributes:
        what: a few words on what is the matter with it.
        call: hands it in; returns answers, an array with a row for each sample (NaN for a sample that was
            refused in one line).
        right: what the answers must be, None where it must be refused.
        free: another answer is no error: the content is whole and says something else.
    """

    what: str
    call: Callable[[], np.ndarray]
    right: np.ndarray | None
    free: bool = False


class _Hangs(BaseException):
    pass


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Raises in the block after so many seconds: a pipe that is waited for, for instance."""

    def late(*_):
        raise _Hangs(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(case: Case) -> tuple[str, str]:
    """One of `OUTCOMES`, and why."""
    try:
        with deadline(SECONDS):
            answer = np.asarray(case.call(), np.float64)
    except (InputError, OSError) as error:  # of the operating system the commands print one line
        lines = str(error).strip().splitlines()
        return ("refused", "") if len(lines) == 1 else ("traceback", repr(error)[:300])
    except (Exception, _Hangs) as error:
        return "traceback", repr(error)[:300]
    if case.right is None:
        refused = answer.size > 0 and np.isnan(answer).all()
        return ("refused", "") if refused else ("wrong", "was taken")
    right = np.asarray(case.right, np.float64)
    if answer.shape != right.shape:
        return ("refused", "") if answer.size == 1 and np.isnan(answer).all() else _lost(answer, right)
    off = np.abs(answer - right) > 1e-5 * np.maximum(1, np.abs(right))
    if off.any() and not case.free:
        return "wrong", f"{int(off.sum())} of {off.size} answers are others"
    return ("refused", "") if np.isnan(answer).any() and not np.isnan(right).any() else ("harmless", "")


def _lost(answer: np.ndarray, right: np.ndarray) -> tuple[str, str]:
    return "lost", f"{answer.shape} answers where {right.shape} are expected"


def matrix(doors: dict, each: int, seed: int, folder: Path, told=lambda line: None) -> tuple[dict, list[str]]:
    """Door to kind to the count of each outcome, and a line for everything that must not be.

    Args:
        doors: name to a function (rng, empty folder) that gives kind to a function (rng) that gives a `Case`.
        each: cases of a cell.
        seed: of everything that is drawn.
        folder: empty, to work in.
        told: called with a line for each cell.
    """
    counts, wrong = {}, []
    for name, door in doors.items():
        place = folder / "".join(letter if letter.isalnum() else "-" for letter in name)
        place.mkdir()
        rng = np.random.default_rng([seed, *name.encode()])
        makers, counts[name] = door(rng, place), {}
        for kind in KINDS:
            if kind not in makers:
                continue
            cell = Counter({one: 0 for one in OUTCOMES})
            for _ in range(each):
                case = makers[kind](rng)
                found, why = outcome(case)
                cell[found] += 1
                if found in OUTCOMES[2:]:
                    wrong.append(f"{name}, {kind}: {found}: {case.what!r}: {why}")
            counts[name][kind] = dict(cell)
            told(f"{name}, {kind}: " + ", ".join(f"{count} {one}" for one, count in cell.items() if count))
        shutil.rmtree(place, ignore_errors=True)
    return counts, wrong


# -- files of several parts --------------------------------------------------------------------------------


def artefact(
    good: Path, use: Callable[[Path], np.ndarray], parts: Callable[[Path], list[str]], work: Path
) -> dict[str, Callable]:
    """The kinds for something on the disk, a file or a folder, of which one part is damaged at a time.

    Args:
        good: it, whole.
        use: opens one and answers.
        parts: names of the files in it that are damaged; [""] where it is one file.
        work: a folder for copies.
    """
    names, right = parts(good), use(good)

    def copied(rng, where: str = "it") -> Path:
        place = work / "copy"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        copy = place / (where + good.suffix)
        shutil.copytree(good, copy) if good.is_dir() else shutil.copy(good, copy)
        return copy

    def changed(what: str, change: Callable, free: bool = False, wanted=right):
        def make(rng):
            copy, name = copied(rng), names[rng.integers(len(names))]
            file = copy / name if name else copy
            said = change(rng, file)
            return Case(f"{what} {name} {said or ''}", lambda: use(copy), wanted, free)

        return make

    def leaf(values: tuple, what: str):
        def change(rng, file):
            try:
                content = json.loads(file.read_bytes())
            except ValueError:  # no JSON: a run of bytes that no number is
                data = bytearray(file.read_bytes())
                start = int(rng.integers(len(data)))
                data[start : start + 8] = b"\xff" * len(data[start : start + 8])
                file.write_bytes(data)
                return "bytes"
            said = change_leaf(rng, content, values)
            file.write_text(json.dumps(content))
            return said

        json_names = [name for name in names if name.endswith(".json")]
        return changed_of(json_names, what, change) if json_names else None

    def changed_of(some: list[str], what: str, change: Callable):
        def make(rng):
            copy, name = copied(rng), some[rng.integers(len(some))]
            said = change(rng, copy / name)
            return Case(f"{what} {name} {said}", lambda: use(copy), right, free=True)

        return make

    def renamed(rng):
        copy = copied(rng, NAMES[rng.integers(len(NAMES))])
        return Case(f"name {copy.name!r}", lambda: use(copy), right)

    made = {
        "truncated": changed("cut", _cut),
        "bit-flipped": changed("flipped", _flip),
        "huge": changed("huge", _huge),
        "empty": changed("empty", lambda rng, file: file.write_bytes(b"") and None),
        "hostile names": renamed,
        "links": changed("link", _link),
        "devices and pipes": changed("device", _special),
        "wrong type": changed("other", _other),
        "wrong range": leaf((-1, 0, 10**30, -1e300, 2**70, "text", None, [], {}), "number"),
        "NaN and infinity": leaf((float("nan"), float("inf"), float("-inf")), "number"),
    }
    return {kind: make for kind, make in made.items() if make is not None}


def change_leaf(rng, content, values: tuple) -> str:
    """Puts one of the values where a number is; says where."""
    places = []

    def walk(value, path):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in items:
            if isinstance(one, dict | list):
                walk(one, (*path, key))
            elif isinstance(one, int | float):
                places.append((value, key, path))

    walk(content if isinstance(content, dict | list) else [], ())
    if not places:
        return "nothing"
    inside, key, path = places[rng.integers(len(places))]
    inside[key] = values[rng.integers(len(values))]
    return f"{'.'.join(map(str, (*path, key)))} = {inside[key]!r}"


def _cut(rng, file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(rng.integers(0, max(1, len(data))))])


def _flip(rng, file: Path) -> str:
    data = bytearray(file.read_bytes())
    where, bit = int(rng.integers(len(data))), int(rng.integers(8))
    data[where] ^= 1 << bit
    file.write_bytes(data)
    return f"bit {bit} of byte {where}: {bytes(data[max(0, where - 12) : where + 12])!r}"


def _huge(rng, file: Path) -> str:
    """What would take all memory, or all of the stack, if it was believed."""
    which = int(rng.integers(3))
    if which == 0:
        file.write_bytes(b"[" * 200_000)
    elif which == 1:
        file.write_bytes(b'{"format": ' + b"9" * 10_000 + b"}")
    else:
        os.truncate(file, 1 << 42)  # it takes no room on the disk
    return ("nested", "digits", "4 TB")[which]


def _link(rng, file: Path) -> str:
    which = int(rng.integers(3))
    aside = file.with_name("aside")
    if which == 0:
        file.rename(aside)
        file.symlink_to(aside.name)  # to the very file
    else:
        file.unlink()
        file.symlink_to("nothing" if which == 1 else file.name)
    return ("to the file", "to nothing", "to itself")[which]


def _special(rng, file: Path) -> str:
    file.unlink()
    which = int(rng.integers(4))
    if which == 0:
        os.mkfifo(file)
    elif which == 3:
        file.mkdir()
    else:
        file.symlink_to(("/dev/zero", "/dev/null")[which - 1])
    return ("pipe", "/dev/zero", "/dev/null", "folder")[which]


def _other(rng, file: Path) -> str:
    from malformed_cases import BAD, encoded, picture

    kind = ("zip", "gif", "text", "page", "noise", "png", "json", "null")[rng.integers(8)]
    made = {"png": lambda rng, _: encoded(picture(rng), "PNG"), "json": lambda *_: b'[1, {"a": [2]}]',
            "null": lambda *_: b"null"} | BAD  # fmt: skip
    file.write_bytes(made[kind](rng, file))
    return kind
