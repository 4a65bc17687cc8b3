"""Markdown: the one table, figures in its cells, and generated parts of pages."""

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from agad_tf.errors import InputError
from agad_tf.files import write_atomically

MISSING = "–"


def table(head: Sequence, rows: Iterable[Sequence]) -> list[str]:
    """The lines of a table; None in a cell is a dash."""
    lines = ["| " + " | ".join(MISSING if cell is None else str(cell) for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(map(str, head)) + " |", "|" + "---|" * len(head), *lines]


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean ± standard deviation, to a tenth; without the deviation of a single value."""
    mean = statistics.mean(values)
    if math.isnan(mean):
        return MISSING
    return f"{mean:.1f}" if len(values) < 2 else f"{mean:.1f} ± {statistics.stdev(values):.1f}"


def with_part(page: str, name: str, part: str) -> str:
    """A page with the part between its marks `<!-- NAME: begin -->` and `end` replaced, or added at the end.

    Raises:
        InputError: the first mark without the second.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if found and not closed:
        raise InputError(f"expected {end} after {begin}, found none: put it where the generated part ends")
    if not found:
        before, after = page.rstrip("\n") + "\n\n", "\n"
    return f"{before}{begin}\n{part.strip()}\n{end}{after}"


def write_parts(path: Path, parts: dict[str, str]) -> Path:
    """Writes generated parts into a page; what was written by hand around them stays."""
    page = path.read_text("utf-8") if path.exists() else ""
    for name, part in parts.items():
        page = with_part(page, name, part)
    write_atomically(path, page.encode())
    return path
