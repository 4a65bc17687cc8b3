"""Rows of tables to score, one at a time: a row that is broken is told, the others are scored."""

import csv
import os
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from agad_tf.data.sources.tables import LABEL_NAMES, mat_arrays
from agad_tf.errors import InputError
from agad_tf.scoring.files import TABLE_SUFFIXES, Sample, find_files

_BLOCK = 1 << 22  # bytes of an array read at once
_LONGEST_LINE = 1 << 20  # characters; a longer line is no row of a table


def samples_of(
    paths: Iterable[str], stdin: IO[bytes], features: int | None, label_column: str | int | None = None
) -> Iterator[Sample]:
    """What there is to score for a detector of tables with so many `features`, or of images (None).

    See `find_files` and `table_samples` for the arguments.
    """
    yield from with_rows(find_files(paths, stdin, table=features is not None), features, label_column)


def with_rows(
    files: Iterable[Sample], features: int | None, label_column: str | int | None = None
) -> Iterator[Sample]:
    """The files, or, for a detector of tables with so many `features`, the rows in them."""
    if features is None:
        yield from files
        return
    for file in files:
        yield from table_samples(file.path, features, label_column) if file.error is None else [file]


def table_samples(path: str, features: int, label_column: str | int | None = None) -> Iterator[Sample]:
    """The rows of a .csv, .npz or .mat file; a file that cannot be used is one sample with an error.

    - CSV: separated by commas, semicolons or tabs; the first row is a header when it names a label column
      or none of its cells is a number. With one column more than the detector takes, the label is left out:
      `label_column`, else the one called label, y, class or target, else the last.
    - npz: the array `X` or `x`, or the only one of the right shape.
    - mat: the array `X`.

    CSV files and arrays stored row by row are read a piece at a time.

    Args:
        path: the file.
        features: columns that the detector takes.
        label_column: name or position (from 0) of a CSV column that is no feature.
    """
    readers = {".csv": _csv_rows, ".npz": _npz_rows, ".mat": _mat_rows}
    reader = readers.get(os.path.splitext(path)[1].casefold())
    try:
        if reader is None:
            raise InputError(f"{path}: expected a table ending in {', '.join(TABLE_SUFFIXES)}: convert it")
        yield from reader(path, features, label_column)
    except InputError as error:
        yield Sample(path, error=str(error))
    except Exception as error:  # whatever a parser makes of a damaged file: the job goes on
        reason = " ".join(str(error).split()) or type(error).__name__
        yield Sample(path, error=f"{path}: expected a table that can be read, received: {reason}; replace it")


def _csv_rows(path: str, features: int, label_column: str | int | None) -> Iterator[Sample]:
    columns = left_out = None
    index = 0
    # Bytes that are no UTF-8 become characters that are no number: one row's error, not the file's.
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        delimiter = ","
        for number, line in _lines(file):
            if columns is None:
                delimiter = max(",;\t", key=line.count)
            cells = _cells(line, delimiter)
            if not any(cells):
                continue
            if columns is None:
                columns = len(cells)
                header = _is_header(cells, label_column)
                left_out = _label_position(path, cells if header else None, columns, features, label_column)
                if header:
                    continue
            value = _numbers(cells, columns, left_out, f"{path}: line {number}")
            yield Sample(path, index, **{"error" if isinstance(value, str) else "value": value})
            index += 1
    if columns is None:
        raise InputError(f"{path}: expected a table with rows, received an empty file")


def _lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        yield number, line
        while len(line) == _LONGEST_LINE and not line.endswith("\n"):
            line = file.readline(_LONGEST_LINE)


def _cells(line: str, delimiter: str) -> list[str]:
    # Each line by itself: a quotation mark that is not closed would swallow the lines after it.
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a cell of more than 128 KiB
        cells = [line]
    return [cell.strip() for cell in cells]


def _is_header(cells: list[str], label_column: str | int | None) -> bool:
    names = {cell.casefold() for cell in cells}
    named = bool(names.intersection(LABEL_NAMES)) or label_column in cells
    return named or not any(_number(cell) is not None for cell in cells)


def _label_position(
    path: str, names: list[str] | None, columns: int, features: int, wanted: str | int | None
) -> int | None:
    """Position of the column that is left out; None where all are features."""
    folded = [name.casefold() for name in names or ()]
    named = next((folded.index(name) for name in LABEL_NAMES if name in folded), None)
    if isinstance(wanted, str):
        if wanted not in (names or ()):
            raise InputError(
                f"{path}: expected a label column '{wanted}', received {', '.join(names or ['no header'])}"
            )
        wanted = names.index(wanted)
    position = named if wanted is None else wanted
    if position is None and columns == features + 1:
        position = features
    if position is not None and not -columns <= position < columns:
        raise InputError(f"{path}: expected a label column from 0 to {columns - 1}, received {position}")
    if columns - (position is not None) != features:
        label = "" if position is None else " beside the label"
        raise InputError(
            f"{path}: expected {features} columns, those that the detector was trained on, received "
            f"{columns - (position is not None)}{label} in the first row: check the file and its separator"
        )
    return position


def _numbers(cells: list[str], columns: int, left_out: int | None, what: str) -> np.ndarray | str:
    """A row as float32, or why it is none."""
    if len(cells) != columns:
        return f"{what}: expected {columns} cells as in the first row, received {len(cells)}: mend the line"
    if left_out is not None:
        del cells[left_out]
    values = [_number(cell) for cell in cells]
    if None in values:
        bad = cells[values.index(None)]
        return f"{what}: expected numbers, received {bad[:40]!r}: mend the line"
    return _checked(np.array(values, np.float64), what)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _checked(row: np.ndarray, what: str) -> np.ndarray | str:
    with np.errstate(over="ignore"):
        row = row.astype(np.float32)
    if np.isfinite(row).all():
        return row
    return f"{what}: expected finite numbers within float32, received a missing or infinite value: mend it"


def _npz_rows(path: str, features: int, label_column) -> Iterator[Sample]:
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: expected an .npz archive, received a single array: use numpy.savez")
        names = tuple(archive.files)
    with zipfile.ZipFile(path) as archive:
        headers = {}
        for name in names:
            with archive.open(f"{name}.npy") as file:
                headers[name] = _array_header(file)
        fitting = [name for name in names if headers[name][0][1:] == (features,)]
        name = next((name for name in ("X", "x") if name in names), None)
        if name is None and len(fitting) != 1:
            received = ", ".join(f"{name} {headers[name][0]}" for name in names) or "none"
            raise InputError(f"{path}: expected an array X (rows, {features}), received {received}")
        name = name or fitting[0]
        shape, by_columns, dtype = headers[name]
        _check_array(f"{path} array '{name}'", shape, dtype, features)
        if not by_columns:
            with archive.open(f"{name}.npy") as file:
                while file.read(_BLOCK):  # to the checksum at its end, before any row is believed
                    continue
            with archive.open(f"{name}.npy") as file:
                _array_header(file)
                yield from _array_rows(path, _blocks(file, shape, dtype))
            return
    with np.load(path, allow_pickle=False) as archive:
        yield from _array_rows(path, [archive[name]])


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether columns are stored one after the other, dtype); the stream is left at the data."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _check_array(what: str, shape: tuple[int, ...], dtype: np.dtype, features: int) -> None:
    if shape[1:] != (features,) or not shape[0] or dtype.kind not in "iufb":
        raise InputError(
            f"{what}: expected numbers (rows, {features}), received {dtype} of shape {shape}: check the file"
        )


def _blocks(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    width = shape[1] * dtype.itemsize
    left = shape[0]
    while left:
        count = min(left, max(1, _BLOCK // width))
        data = file.read(count * width)
        yield np.frombuffer(data[: len(data) // width * width], dtype).reshape(-1, shape[1])
        if len(data) < count * width:
            raise InputError(f"{left - len(data) // width} of {shape[0]} rows are missing: the file was cut")
        left -= count


def _array_rows(path: str, blocks) -> Iterator[Sample]:
    index = 0
    for block in blocks:
        for row in block:
            value = _checked(row, f"{path}: row {index}")
            yield Sample(path, index, **{"error" if isinstance(value, str) else "value": value})
            index += 1


def _mat_rows(path: str, features: int, label_column) -> Iterator[Sample]:
    arrays = mat_arrays(path)
    if "X" not in arrays:
        raise InputError(f"{path}: expected an array X, received {', '.join(sorted(arrays)) or 'none'}")
    _check_array(f"{path} array 'X'", arrays["X"].shape, arrays["X"].dtype, features)
    yield from _array_rows(path, [arrays["X"]])
