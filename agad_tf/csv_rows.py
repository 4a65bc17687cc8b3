"""CSV files, read in one way by training, lists of images, scoring and the edge runner.

Dialect: UTF-8 with or without a byte order mark; cells separated by commas, semicolons or tabs, whichever
cuts most rows into as many cells as the first; a first line `sep=;` says it itself. Cells may be quoted, with
separators and line ends inside. Numbers have a decimal point, or a decimal comma where that cannot be taken
for the separator; thousands separators are refused, since 1.234 and 1,234 are numbers too.

A line that is broken is an error of that line only. NumPy and the standard library only: boards read it too.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.columns import LABEL_NAMES, feature_columns
from agad_tf.encoding import MISSING, TableEncoding
from agad_tf.errors import InputError
from agad_tf.identity import Identity

_SEPARATORS = (";", "\t", ",")  # in this order where several fit: a comma may be a decimal comma
_SAMPLE_ROWS = 200  # rows that tell the dialect
_LONGEST_LINE = 1 << 23  # characters; a longer line is no row of a table
_MOST_LINES = 20  # of one quoted cell: a quotation mark that is not closed must not swallow the file

_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:([.,'’\u00a0\u202f ])[0-9]{3})(?:\1[0-9]{3})*(?:[.,][0-9]+)?")
_MAYBE_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        line: its first line in the file, from 1.
        cells: without the space around them; empty where there is an error.
        error: why it is none, without the file and the line; None where all is well.
    """

    line: int
    cells: list[str]
    error: str | None = None

    @property
    def blank(self) -> bool:
        """Whether the row holds nothing but separators."""
        return self.error is None and not any(self.cells)


class CsvFile:
    """A CSV file whose dialect and header are known; iterate over it for its rows.

    The first row is a header when it names the label column or `known` columns, or when it holds text and no
    number.

    Args:
        path: of the file.
        known: names of columns that are expected in a header.
        label_column: name of a column in the header.
        header: True or False where that is known.

    Attributes:
        names: cells of the header, None where there is none.
        width: cells of the first row.
        separator: between cells.
        decimal: "." or ",", None until a number shows it.

    Raises:
        InputError: no regular file, other text than UTF-8, no rows.
    """

    def __init__(
        self,
        path: str | Path,
        known: Collection[str] = (),
        label_column: str | int | None = None,
        header: bool | None = None,
    ):
        self.path = path
        _check_text(path)
        self.separator, self._skipped = _separator(path)
        self.decimal: str | None = None
        first = next((record for record in self._records(None) if not record.blank), None)
        if first is None:
            raise InputError(f"{path}: expected a CSV file with rows, received an empty file")
        if first.error is not None:
            raise InputError(f"{path}: line {first.line}: {first.error}")
        self.width = len(first.cells)
        self._first_line = first.line
        self.decimal = self._decimal_mark()
        if header is None:
            header = self._is_header(first.cells, frozenset(known), label_column)
        self.names = tuple(first.cells) if header else None

    def __iter__(self) -> Iterator[Record]:
        """Every row but the header; blank rows too, but not empty lines before the header and at the end."""
        empty: list[Record] = []
        for record in self._records(self.width):
            if self.names is not None and record.line <= self._first_line:
                continue
            if record.blank and len(record.cells) < 2:
                empty.append(record)  # no row, where none comes after it
                continue
            yield from empty
            empty.clear()
            if record.error is None and not record.blank and len(record.cells) != self.width:
                message = f"expected {self.width} cells as in the first row, received {len(record.cells)}"
                record = Record(record.line, [], f"{message}: correct the line")
            yield record

    def number(self, cell: str) -> float | str:
        """A cell as a number, or why it is none ("" where it is empty or says that a value is missing)."""
        try:
            value = float(cell)
        except ValueError:
            return "" if cell.casefold() in MISSING else self._comma_number(cell)
        if value != value:
            return ""
        if "_" in cell or not cell.isascii():  # Python reads them, no other program writes them
            return f"expected numbers, received {cell[:40]!r}"
        if "." in cell:
            if self.decimal == ",":
                return f"expected decimal commas as in the rest of the file, received {cell[:40]!r}"
            self.decimal = "."
        return value

    def _comma_number(self, cell: str) -> float | str:
        if _COMMA.fullmatch(cell):
            if self.decimal is None and self.separator == "," and _MAYBE_THOUSANDS.fullmatch(cell):
                plain, pointed = cell.replace(",", ""), cell.replace(",", ".")
                return f"expected a number, received {cell!r}, which may be {plain} or {pointed}"
            if self.decimal != ".":
                self.decimal = ","
                return float(cell.replace(",", "."))
        if _COMMA.fullmatch(cell) or _THOUSANDS.fullmatch(cell):
            return f"expected numbers without thousands separators, received {cell[:40]!r}"
        return f"expected numbers, received {cell[:40]!r}"

    def is_number(self, cell: str) -> bool:
        """Whether a cell is a number of this file's dialect, or NaN."""
        before = self.decimal
        found = isinstance(self.number(cell), float) or cell.casefold() == "nan"
        self.decimal = before
        return found

    def _is_header(self, cells: list[str], known: frozenset[str], label_column: str | int | None) -> bool:
        folded = {cell.casefold() for cell in cells}
        if not folded.isdisjoint(LABEL_NAMES) or label_column in cells:
            return True
        if known and (known.issubset(cells) or any(c in known and not self.is_number(c) for c in cells)):
            return True
        if any(map(self.is_number, cells)):
            return False
        return any(cell.casefold() not in MISSING for cell in cells)

    def _decimal_mark(self) -> str | None:
        """What the first rows show; where both marks are there, a comma of thousands is no decimal comma."""
        cells = [c for r in itertools.islice(self._records(self.width), _SAMPLE_ROWS) for c in r.cells]
        commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
        if any(not _MAYBE_THOUSANDS.fullmatch(cell) for cell in commas):
            return ","
        if any("." in cell and isinstance(self.number(cell), float) for cell in cells):
            return "."
        return "," if commas and self.separator != "," else None

    def _records(self, width: int | None) -> Iterator[Record]:
        # Bytes that are no UTF-8 become a character that is no number: an error of its row, not of the file.
        with open(self.path, newline="", encoding="utf-8-sig", errors="replace") as file:
            lines = _Lines(file)
            for _ in range(self._skipped):
                next(lines)
            yield from lines.records(self.separator, width)


def numeric_rows(
    path: str | Path, features: int, identity: Identity, label_column: str | int | None = None
) -> Iterator[tuple[int, np.ndarray | str]]:
    """The rows of a CSV file in the order and width that a detector takes them; one result for every row.

    Args:
        path: of the file.
        features: columns that the detector takes.
        identity: of the detector; where it has names of columns, those of the header are matched with them.
            Where it has an encoding, categories become codes and missing values NaN.
        label_column: name or position (from 0) of a column that is no feature.

    Yields:
        Line, and the row float64 (features,) or, in one line, why there is none.

    Raises:
        InputError: no CSV file, or columns that the detector does not take.
    """
    file = CsvFile(path, identity.columns or (), label_column)
    order = feature_columns(file.names, file.width, features, identity, label_column, str(path))
    for record in file:
        values = record.error or _values(file, record, order, identity.encoding)
        yield record.line, f"{path}: line {record.line}: {values}" if isinstance(values, str) else values


def _values(
    file: CsvFile, record: Record, order: list[int], encoding: TableEncoding | None
) -> np.ndarray | str:
    if record.blank:
        return "expected numbers, received an empty row: fill or remove it"
    row = []
    for index, position in enumerate(order):
        if encoding is not None and encoding.categories[index] is not None:
            value = encoding.code(index, record.cells[position])
            value = "" if value != value else value
        else:
            value = file.number(record.cells[position])
        if value == "" and encoding is not None and encoding.allows_gaps:
            value = np.nan
        if isinstance(value, str):
            reason = value or "expected a number, received an empty cell or a missing value"
            name = repr(file.names[position]) if file.names else position
            return f"{reason} in column {name}: correct the line"
        row.append(value)
    return finite_row(np.array(row, np.float64), encoding)


def finite_row(row: np.ndarray, encoding: TableEncoding | None = None) -> np.ndarray | str:
    """A row as float64, or why it is none: scaled rows are float32, so values must be within that."""
    row = row.astype(np.float64)
    if encoding is not None:
        bad = np.flatnonzero(~encoding.usable(row))
        if not len(bad):
            return row
        if encoding.categories[bad[0]] is not None and np.isfinite(row[bad[0]]):
            known = len(encoding.categories[bad[0]])
            return f"expected codes from 0 to {known} in column {bad[0]}, received {row[bad[0]]:g}: encode it"
        return "expected finite numbers within float32, received a missing or infinite value: correct the row"
    if (np.abs(row) <= np.finfo(np.float32).max).all():  # False for NaN too
        return row
    return "expected finite numbers within float32, received a missing or infinite value: correct the row"


def position_or_name(label_column: str | None) -> str | int | None:
    """A label column as users write it: whole numbers are positions."""
    return int(label_column) if (label_column or "").lstrip("-").isdecimal() else label_column


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def plain_cell(text: str) -> str:
    r"""Text for a cell of a CSV file that terminals and spreadsheets take for text.

    Control characters (but tabs and line ends, which quotation marks hold) become `\x1b`; before a path, or a
    message about it, that begins like a formula comes `./`, which names the same file.
    """
    text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    return f"./{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


class _Lines:
    """Lines of a file with their numbers, from which some can be given back."""

    def __init__(self, file: io.TextIOBase):
        self._file, self._number = file, 0
        self._ahead: deque[tuple[int, str]] = deque()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> tuple[int, str]:
        if self._ahead:
            return self._ahead.popleft()
        line = piece = self._file.readline(_LONGEST_LINE)
        if not line:
            raise StopIteration
        while len(piece) == _LONGEST_LINE and not piece.endswith(("\n", "\r")):
            piece = self._file.readline(_LONGEST_LINE)  # what is too long is an error, whatever follows
        self._number += 1
        return self._number, line

    def records(self, separator: str, width: int | None) -> Iterator[Record]:
        """Rows as they come; a quoted line end is kept where the row then has `width` cells (None: any)."""
        for number, line in self:
            cells = _cells(line, separator)
            if cells is None:
                cells = self._continued(line, separator, width)
            if isinstance(cells, str):
                yield Record(number, [], cells)
            elif any("\ufffd" in cell for cell in cells):
                yield Record(number, [], "expected text in UTF-8, received other bytes: convert the file")
            else:
                yield Record(number, cells)

    def _continued(self, text: str, separator: str, width: int | None) -> list[str] | str:
        taken = []
        for _ in range(_MOST_LINES):
            entry = next(self, None)
            if entry is None:
                break
            taken.append(entry)
            text += entry[1]
            cells = _cells(text, separator, loose=False)
            if isinstance(cells, str) or (cells is not None and width not in (None, len(cells))):
                break
            if cells is not None:
                return cells
        self._ahead.extendleft(reversed(taken))
        return "expected closed quotation marks, received one that is open: correct the line"


def _cells(text: str, separator: str, loose: bool = True) -> list[str] | str | None:
    """The cells of a row; why there are none; None where a quotation mark is open at the end.

    `loose` takes text after a closing quotation mark too.
    """
    try:
        row = next(csv.reader([text], delimiter=separator, strict=True, skipinitialspace=True), [])
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return None
        try:
            row = next(csv.reader([text], delimiter=separator, strict=not loose, skipinitialspace=True), [])
        except csv.Error as error:  # a cell of more than 128 KiB
            return f"expected a row of a table, received what cannot be parsed ({error}): correct the line"
    return [cell.strip() for cell in row]


def _check_text(path: str | Path) -> None:
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise InputError(f"{path}: expected a CSV file, received a folder, a pipe or a device")
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise InputError(f"{path}: expected a CSV file, could not read it ({error.strerror})") from None
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or start.count(b"\0") > 0.3 * len(start) > 0:
        raise InputError(
            f"{path}: expected a CSV file in UTF-8, received UTF-16 (what Excel calls Unicode text): save it "
            "as CSV UTF-8"
        )


def _separator(path: str | Path) -> tuple[str, int]:
    """The separator, and how many lines come before the table."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(64).strip().strip('"').casefold()
        if first.startswith("sep=") and len(first) <= 5:
            mark = first[4:] or "\t"  # a tab at the end of the line was stripped
            if mark not in _SEPARATORS:
                raise InputError(
                    f"{path}: expected cells separated by commas, semicolons or tabs, received 'sep={mark}': "
                    "save it with one of these"
                )
            return mark, 1
        fitting = Counter()
        for mark in _SEPARATORS:
            file.seek(0)
            rows = (r for r in _Lines(file).records(mark, None) if not r.blank and r.error is None)
            widths = [len(record.cells) for record in itertools.islice(rows, _SAMPLE_ROWS)]
            fitting[mark] = widths.count(widths[0]) if widths and widths[0] > 1 else 0
    best = max(_SEPARATORS, key=lambda mark: fitting[mark])
    return (best if fitting[best] else ","), 0
