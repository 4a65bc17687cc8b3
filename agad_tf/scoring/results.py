"""What comes out of scoring: a row a sample, as CSV or JSON lines."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agad_tf.csv_rows import plain_cell
from agad_tf.files import written_whole

FORMATS = ("csv", "jsonl")
_DIGITS = {"score": ".9g", "p_value": ".6g"}


@dataclass(frozen=True, slots=True)
class Row:
    """Result of one sample: a score, or the reason why there is none.

    Attributes:
        path: the file.
        row: position in its table, from 0; None for an image file.
        score: higher is more anomalous.
        p_value: share of normals that would look at least this odd; None without a calibration.
        is_anomaly: the decision; None without a calibration or a threshold.
        error: why there is no score, one line.
    """

    path: str
    row: int | None = None
    score: float | None = None
    p_value: float | None = None
    is_anomaly: bool | None = None
    error: str | None = None


def fields(table: bool) -> list[str]:
    """Names of a row's values in the order they are written; images have no `row`."""
    return [name for name in Row.__dataclass_fields__ if table or name != "row"]


def write_rows(
    batches: Iterable[list[Row]],
    stream: IO[str],
    form: str,
    table: bool,
    progress: Callable[[int], object] = lambda count: None,
    header: bool = True,
) -> tuple[int, int]:
    """Writes rows as they come, each batch at once.

    Args:
        batches: lists of rows.
        stream: text; a batch is flushed before the next one is awaited.
        form: "csv" (a header, empty cells where there is no value, text made harmless by
            `csv_rows.plain_cell`) or "jsonl" (an object a line, null where there is no value).
            Scores have nine digits, which give back a float32 exactly; p-values six.
        table: whether rows have a position in a table.
        progress: told how many rows have been written more.
        header: False leaves the first line of CSV out.

    Returns:
        How many rows have a score, and how many an error.
    """
    names = fields(table)
    write = _write_csv(stream, names, header) if form == "csv" else _write_jsonl(stream, names)
    scored = failed = 0
    for batch in batches:
        for row in batch:
            write(row)
        stream.flush()
        errors = sum(row.error is not None for row in batch)
        scored, failed = scored + len(batch) - errors, failed + errors
        progress(len(batch))
    stream.flush()
    return scored, failed


def _write_csv(stream: IO[str], names: list[str], header: bool) -> Callable[[Row], object]:
    # With the line ends of RFC 4180 a carriage return in a name is quoted; what is written ends in "\n".
    writer = csv.writer(_UnixLines(stream), lineterminator="\r\n")
    if header:
        writer.writerow(names)

    def cell(row: Row, name: str) -> str:
        value = getattr(row, name)
        return (
            "" if value is None else f"{value:{_DIGITS[name]}}" if name in _DIGITS else plain_cell(str(value))
        )

    return lambda row: writer.writerow([cell(row, name) for name in names])


class _UnixLines:
    """A stream for `csv.writer`, which writes a row at a time."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, row: str) -> None:
        self._stream.write(row.removesuffix("\r\n") + "\n")


def _write_jsonl(stream: IO[str], names: list[str]) -> Callable[[Row], object]:
    def plain(row: Row, name: str):
        value = getattr(row, name)
        return float(f"{value:{_DIGITS[name]}}") if name in _DIGITS and value is not None else value

    return lambda row: stream.write(json.dumps({name: plain(row, name) for name in names}) + "\n")


@contextmanager
def open_output(path: str | Path | None, stdout: IO[str]) -> Iterator[IO[str]]:
    """A text stream into what becomes `path` when the block ends well; None: `stdout`.

    What a job had written before it failed stays in `path`.partial. See `written_whole` for links, devices
    and pipes.
    """
    # Names of files need not be Unicode: what Python could not decode is written back as it was.
    if path is None:
        if isinstance(stdout, io.TextIOWrapper):
            stdout.reconfigure(errors="surrogateescape")
        yield stdout
        return
    path = Path(os.path.realpath(path)) if os.path.islink(path) and os.path.isfile(path) else Path(path)
    kept = path.with_name(path.name + ".partial")
    text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with written_whole(path, "w", **text, keep_as=kept) as stream:
        yield stream
    kept.unlink(missing_ok=True)
