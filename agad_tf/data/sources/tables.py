"""Tables: CSV and MATLAB files, and the checks that every table passes."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agad_tf.data.samples import Samples, encode_labels, label_vector
from agad_tf.data.sources.memory import check_memory
from agad_tf.errors import InputError

if TYPE_CHECKING:
    import h5py

_log = logging.getLogger(__name__)

LABEL_NAMES = ("label", "y", "class", "target")
_MISSING = frozenset(("", "?", "na", "n/a", "nan", "null", "none"))


def table_array(x: np.ndarray, what: str, feature_names: Sequence[str] | None = None) -> np.ndarray:
    """Checks a numeric table and returns it as float32 (rows, features).

    Raises:
        InputError: another shape or type, no rows or columns, missing values, infinities or values beyond
            float32; names the first such column and its number of rows.
    """
    if x.ndim != 2 or 0 in x.shape:
        raise InputError(
            f"{what}: expected a table (rows, features) with both over 0, received shape {x.shape}"
        )
    if x.dtype.kind not in "iufb":
        raise InputError(
            f"{what}: expected numbers, received dtype {x.dtype}; encode text columns as numbers"
        )
    with np.errstate(over="ignore"):
        table = x.astype(np.float32)
    for bad, wanted, received in (
        (np.isnan(table), "a value in every row", "missing values (NaN)"),
        (np.isinf(table), "finite values within float32", "infinite values"),
    ):
        rows = bad.sum(axis=0)
        if rows.any():
            column = int(np.argmax(rows > 0))
            raise InputError(
                f"{what}: expected {wanted}, received {received} in column {_column(column, feature_names)} "
                f"({rows[column]} rows; {np.count_nonzero(rows)} such columns); fill or remove them"
            )
    return table


def _column(index: int, names: Sequence[str] | None) -> str:
    return f"'{names[index]}'" if names is not None else str(index)


def load_csv(path: Path, label_column: str | int | None = None) -> Samples:
    """Reads a table from a CSV file, separated by commas, semicolons or tabs.

    The first row is a header when it names the label column or when none of its cells is a number. The label
    column is `label_column` (a name, or a position from 0), else the one called label, y, class or target
    (several such columns are refused), else the last. Labels 0 and 1 mean normal and anomaly; of text
    labels 'normal' and 'good' are normal.

    Raises:
        InputError: no such column, text or missing values (names the column and the first row), rows of
            unequal length, or no UTF-8 text.
    """
    rows, lines = _read_rows(path)
    first = [cell.strip() for cell in rows[0]]
    folded = [cell.casefold() for cell in first]
    named = (
        label_column in first
        if isinstance(label_column, str)
        else any(name in folded for name in LABEL_NAMES)
    )
    header = named or not any(_is_number(cell) for cell in first)
    names = tuple(first) if header else None
    if header:
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise InputError(f"{path}: expected rows under the header, received none")
    label = _label_position(path, label_column, names, len(first))
    cells = [[cell.strip() for cell in row] for row in rows]
    label_cells = [row.pop(label) for row in cells]
    feature_names = names[:label] + names[label + 1 :] if names else None
    label_name = _column(label, names)
    missing = [line for cell, line in zip(label_cells, lines, strict=True) if cell.casefold() in _MISSING]
    if missing:
        raise InputError(
            f"{path}: expected a label in every row, received none in column {label_name} of line "
            f"{missing[0]} ({len(missing)} such rows); fill or remove these rows"
        )
    # Positions in the file, for a table without a header: the label column counts too.
    columns = [_column(index, names) for index in range(len(first)) if index != label]
    x = table_array(_numbers(path, cells, lines, columns), str(path), feature_names)
    labels = np.array(label_cells)
    if all(_is_number(cell) for cell in label_cells):
        labels = labels.astype(np.float64)
    labels = label_vector(labels, len(x), f"{path} column {label_name}")
    classes, class_names, normal = encode_labels(labels, str(path), table=True)
    return Samples(path.stem, x, classes, class_names, normal_classes=normal, feature_names=feature_names)


def _read_rows(path: Path) -> tuple[list[list[str]], list[int]]:
    rows, lines = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count))
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if rows and len(row) != len(rows[0]):
                    raise InputError(
                        f"{path}: expected {len(rows[0])} columns as in the first row, received {len(row)} "
                        f"in line {reader.line_num}; mend or remove that line"
                    )
                rows.append(row)
                lines.append(reader.line_num)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected a CSV file in UTF-8, received other bytes ({error.reason}); convert it"
        ) from error
    except csv.Error as error:
        raise InputError(f"{path}: expected a CSV file, received what cannot be parsed ({error})") from error
    if not rows:
        raise InputError(f"{path}: expected a CSV file with rows, received an empty file")
    if len(rows[0]) < 2:
        raise InputError(
            f"{path}: expected at least a feature and a label column, received one column; check the "
            "separator"
        )
    return rows, lines


def _label_position(path: Path, wanted: str | int | None, names: tuple[str, ...] | None, columns: int) -> int:
    if isinstance(wanted, str):
        if names is None:
            raise InputError(
                f"{path}: expected a header that names the label column '{wanted}', received no header; give "
                "its position"
            )
        if wanted not in names:
            raise InputError(
                f"{path}: expected a label column '{wanted}', received the columns {', '.join(names)}"
            )
        return names.index(wanted)
    if wanted is not None:
        if not -columns <= wanted < columns:
            raise InputError(f"{path}: expected a label column from 0 to {columns - 1}, received {wanted}")
        return wanted % columns
    folded = [name.casefold() for name in names or ()]
    labels = [name for name, fold in zip(names or (), folded, strict=True) if fold in LABEL_NAMES]
    if len(labels) > 1:
        # The second one would be learnt from, and tell the first.
        raise InputError(
            f"{path}: expected one label column, received {' and '.join(labels)}; remove what tells the "
            "label, and rename what is a feature"
        )
    found = next((folded.index(name) for name in LABEL_NAMES if name in folded), columns - 1)
    if names and folded[found] not in LABEL_NAMES:
        _log.warning(
            "%s: no column is called %s: the last one, '%s', is taken as the label",
            path,
            ", ".join(LABEL_NAMES),
            names[found],
        )
    return found


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(path: Path, cells: list[list[str]], lines: list[int], columns: list[str]) -> np.ndarray:
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError as error:
        raise _why_no_number(path, cells, lines, columns) from error


def _why_no_number(path: Path, cells: list[list[str]], lines: list[int], columns: list[str]) -> InputError:
    for column, values in zip(columns, zip(*cells, strict=True), strict=True):
        missing = [line for value, line in zip(values, lines, strict=True) if value.casefold() in _MISSING]
        text = [
            (value, line)
            for value, line in zip(values, lines, strict=True)
            if value.casefold() not in _MISSING and not _is_number(value)
        ]
        if text:
            return InputError(
                f"{path}: expected numbers in column {column}, received text '{text[0][0]}' in line "
                f"{text[0][1]} ({len(text)} such rows); encode the column as numbers or remove it"
            )
        if missing:
            return InputError(
                f"{path}: expected a value in every row, received missing values in column {column} "
                f"({len(missing)} rows, the first in line {missing[0]}); fill or remove them"
            )
    return InputError(f"{path}: expected numbers that fit a float, received others; check the file")


def load_mat(path: Path) -> Samples:
    """Reads an outlier data set in the ODDS layout: `X` (rows, features) and `y` (rows, 1), 1 for an anomaly.

    MATLAB files of version 4 to 7 are read through SciPy, those of version 7.3 (HDF5) through h5py.

    Raises:
        InputError: not a MATLAB file, or no `X` and `y` in it.
    """
    content = mat_arrays(path)
    if "X" not in content or "y" not in content:
        raise InputError(
            f"{path}: expected the arrays X and y, received {', '.join(sorted(content)) or 'none'}"
        )
    x = table_array(content["X"], f"{path} X")
    labels = label_vector(content["y"], len(x), f"{path} y")
    classes, class_names, normal = encode_labels(labels, str(path), table=True)
    return Samples(path.stem, x, classes, class_names, normal_classes=normal)


def mat_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a MATLAB file by name.

    Raises:
        InputError: not a MATLAB file.
    """
    from scipy.io import loadmat

    try:
        return {key: np.asarray(value) for key, value in loadmat(path).items() if not key.startswith("__")}
    except NotImplementedError:
        return _load_hdf5(path)
    except Exception as error:  # of many kinds on damaged files: zlib.error and IndexError too
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: expected a MATLAB file, received: {reason}") from error


def _load_hdf5(path: str | Path) -> dict[str, np.ndarray]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            # MATLAB stores columns first: HDF5 sees every matrix transposed.
            return {key: dataset[()].T for key, dataset in _datasets(path, file)}
    except (OSError, MemoryError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: expected a MATLAB 7.3 file, received: {' '.join(str(error).split())}"
        ) from error


def _datasets(path: str | Path, file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """The arrays that the file itself holds; refuses what points into another file."""
    import h5py

    for key in file:
        outside = isinstance(file.get(key, getlink=True), h5py.ExternalLink)
        array = None if outside else file[key]
        if outside or (isinstance(array, h5py.Dataset) and (array.external or array.is_virtual)):
            raise InputError(
                f"{path}: expected an array in the file itself, received '{key}', which points into another "
                "file; save its values"
            )
        if isinstance(array, h5py.Dataset):
            check_memory(array.size * array.dtype.itemsize, f"{path} array '{key}'")
            yield key, array
