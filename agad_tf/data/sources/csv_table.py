"""CSV files as tables, read some thousand rows at a time: cells as text take ten times what numbers take."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from agad_tf.columns import is_unnamed
from agad_tf.csv_rows import CsvFile, Record
from agad_tf.data.samples import Samples, encode_labels, label_vector
from agad_tf.data.sources.tables import column_word, fitting, table_array, table_label
from agad_tf.encoding import MISSING, Column, TableEncoding, learnt
from agad_tf.errors import InputError
from agad_tf.identity import Identity, check_names

_log = logging.getLogger(__name__)

_BLOCK = 10_000
"""Rows whose cells are in memory at once, and by which a column is one of numbers or of text."""


def load_csv(
    path: Path,
    label_column: str | int | None = None,
    columns: Sequence[str] | None = None,
    missing: str = "refuse",
    encoding: TableEncoding | None = None,
) -> Samples:
    """Reads a table from a CSV file; see `agad_tf.csv_rows` for what is read.

    The first row is a header when it names the label column or when none of its cells is a number. The label
    column is `label_column` (a name, or a position from 0), else the one called label, y, class or target
    (several such columns are refused), else the last. Labels 0 and 1 mean normal and anomaly; of text
    labels 'normal' and 'good' are normal. A column without a name that counts the rows, or is empty, is left
    out, and so are empty rows; both are told.

    Where the names of its `columns` are known and the file has a header, no other column is taken for the
    label than `label_column` or one of these four names, and the columns come in their order.

    A column with more text than numbers among its first 10,000 rows is one of categories, see
    `agad_tf.encoding`; `missing` says what is done with empty cells. Of an `encoding` these are known.

    Raises:
        InputError: no such column, text or missing values (names the column and the first row), rows of
            unequal length, or no UTF-8 text.
    """
    file = CsvFile(path, columns or (), label_column)
    if file.width < 2:
        raise InputError(
            f"{path}: expected at least a feature and a label column, received one column; check the "
            "separator"
        )
    label = table_label(path, label_column, file.names, file.width, columns)
    taken = [column for column in range(file.width) if column != label]
    names, unnamed = None, []
    if file.names is not None:
        unnamed = [column for column in taken if is_unnamed(file.names[column])]
        taken = [column for column in taken if column not in unnamed]
        names = tuple(file.names[column] for column in taken)
        check_names(names, str(path))
        if columns is not None:
            order = Identity("table", tuple(columns)).column_order(names, str(path))
            taken = taken if order is None else [taken[index] for index in order]
            names = tuple(columns)
    if not taken:
        raise InputError(f"{path}: expected at least a feature and a label column, received only the label")
    known = None if encoding is None else fitting(encoding, len(taken), str(path)).categories
    gaps = missing != "refuse" if encoding is None else encoding.allows_gaps
    texts = [None] * len(taken) if known is None else [categories is not None for categories in known]
    readers = [_Reader(file, column, text) for column, text in zip(taken, texts, strict=True)]
    aside = [_Reader(file, column, True) for column in (label, *unnamed)]
    for records in _blocks(file):
        lines = [record.line for record in records]
        for reader in (*readers, *aside):
            reader.read([record.cells[reader.column] for record in records], lines)
    labelling, *indices = aside
    for index in indices:
        _check_index(file, index)
    if labelling.gaps:
        raise InputError(
            f"{path}: expected a label in every row, received none in column {labelling.name} of line "
            f"{labelling.first_gap} ({labelling.gaps} such rows); fill or remove these rows"
        )
    raw = [reader.column_read(gaps) for reader in readers]
    encoding = learnt(raw, missing, str(path), names) if encoding is None else encoding
    x = (encoding or TableEncoding.of_numbers(len(taken))).encoded(raw)
    x = table_array(x, str(path), names, encoding)
    cells = labelling.column_read(gaps=True)
    numbers = {cell: file.number(cell) for cell in set(cells)}
    numeric = all(isinstance(number, float) for number in numbers.values())
    labels = np.array([numbers[cell] for cell in cells] if numeric else cells)
    labels = label_vector(labels, len(x), f"{path} column {labelling.name}")
    classes, class_names, normal = encode_labels(labels, str(path), table=True)
    return Samples(
        path.stem,
        x,
        classes,
        class_names,
        normal_classes=normal,
        feature_names=names,
        encoding=None if encoding is None or encoding.is_plain else encoding,
    )


class _Reader:
    """One column as it is read.

    Args:
        file: whose.
        column: position.
        text: whether cells stay text; None decides by the first block that has any.

    Attributes:
        name: for messages.
        gaps, first_gap: missing cells, and the line of the first.
    """

    def __init__(self, file: CsvFile, column: int, text: bool | None):
        self.file, self.column, self.text = file, column, text
        self.name = column_word(column, file.names)
        self.gaps, self.first_gap = 0, None
        self._parts: list[Column] = []
        self._words, self._first_word = 0, None  # text among numbers: how often, and reason and line
        self._kept: dict[str, str] = {}  # a text that comes again is the same object

    def read(self, cells: list[str], lines: list[int]) -> None:
        """Takes the cells of the next rows."""
        if not self.text:
            numbers = self._plain_numbers(cells)
            if numbers is not None:
                self.text = False
                self._parts.append(numbers)
                return
            numbers = [self.file.number(cell) for cell in cells]
            words = [index for index, number in enumerate(numbers) if isinstance(number, str) and number]
            present = sum(number != "" for number in numbers)
            if self.text is None and present:
                self.text = 2 * len(words) > present
        if self.text:
            values = [None if c.casefold() in MISSING else self._kept.setdefault(c, c) for c in cells]
            missing = [index for index, value in enumerate(values) if value is None]
        else:
            if words and self._first_word is None:
                self._first_word = numbers[words[0]], lines[words[0]]
            self._words += len(words)
            missing = [index for index, number in enumerate(numbers) if number == ""]
            values = np.array([n if isinstance(n, float) else np.nan for n in numbers], np.float64)
        if missing and not self.gaps:
            self.first_gap = lines[missing[0]]
        self.gaps += len(missing)
        self._parts.append(values)

    def _plain_numbers(self, cells: list[str]) -> np.ndarray | None:
        """The cells, where all are numbers as every program writes them: what `CsvFile.number` gives."""
        try:
            values = np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            return None
        joined = "".join(cells)
        point = "." in joined
        if not joined.isascii() or "_" in joined or (point and self.file.decimal == ","):
            return None
        if np.isnan(values).any():
            return None
        if point:
            self.file.decimal = "."
        return values

    def column_read(self, gaps: bool) -> Column:
        """The whole column.

        Raises:
            InputError: text among numbers, or missing values that may not be; names the column and a line.
        """
        if self._words:
            reason, line = self._first_word
            raise InputError(
                f"{self.file.path}: {reason} in column {self.name}, line {line} ({self._words} such rows); "
                "encode the column as numbers, or leave it out"
            )
        if self.gaps and not gaps:
            raise InputError(
                f"{self.file.path}: expected a value in every row, received missing values in column "
                f"{self.name} ({self.gaps} rows, the first in line {self.first_gap}); fill or remove them, "
                "or train with --missing median or indicator"
            )
        if self.text:
            # Blocks before the first value hold gaps alone, as numbers.
            blocks = ([None] * len(p) if isinstance(p, np.ndarray) else p for p in self._parts)
            return list(itertools.chain.from_iterable(blocks))
        return np.concatenate(self._parts)


def _blocks(file: CsvFile) -> Iterator[list[Record]]:
    """All rows that hold something, some at a time; one that is broken refuses the file."""
    records, blank, first_blank, some = [], 0, None, False
    for record in file:
        if record.error is not None:
            raise InputError(f"{file.path}: line {record.line}: {record.error}")
        if record.blank:
            blank += 1
            first_blank = record.line if first_blank is None else first_blank
            continue
        records.append(record)
        if len(records) == _BLOCK:
            some = True
            yield records
            records = []
    if not some and not records:
        raise InputError(f"{file.path}: expected rows under the header, received none")
    if records:
        yield records
    if blank:
        _log.warning("%s: %d empty rows are left out, the first in line %d", file.path, blank, first_blank)


def _check_index(file: CsvFile, reader: _Reader) -> None:
    """A column without a name must be a row index (0, 1, 2, ...) or empty, which is told; else refuses."""
    cells = reader.column_read(gaps=True)
    empty = all(cell is None for cell in cells)
    if not empty:
        numbers = [None if cell is None else file.number(cell) for cell in cells]
        steps = np.diff(numbers) if all(isinstance(number, float) for number in numbers) else [0.0]
        if not np.equal(steps, 1).all():
            raise InputError(
                f"{file.path}: expected a name for every column, received none for column {reader.column} "
                "(from 0): name or remove it"
            )
    _log.warning(
        "%s: column %d (from 0) has no name and %s: left out",
        file.path,
        reader.column,
        "is empty" if empty else "numbers the rows",
    )
