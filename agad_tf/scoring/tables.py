"""Rows of tables to score, one at a time: a row that is broken is told, the others are scored."""

import os
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from agad_tf.columns import feature_columns
from agad_tf.csv_rows import finite_row, numeric_rows
from agad_tf.data.sources.tables import mat_arrays
from agad_tf.errors import InputError
from agad_tf.identity import Identity
from agad_tf.scoring.files import TABLE_SUFFIXES, Sample

UNKNOWN = Identity()
_BLOCK = 1 << 22  # bytes of an array read at once


def table_samples(
    path: str, features: int, label_column: str | int | None = None, identity: Identity = UNKNOWN
) -> Iterator[Sample]:
    """The rows of a .csv, .npz or .mat file; a file that cannot be used is one sample with an error.

    - CSV: see `agad_tf.csv_rows`; which columns are taken says `agad_tf.columns.feature_columns`.
    - npz: the array `X` or `x`, or the only one of the right shape; its columns' names are `feature_names`.
    - mat: the array `X`.

    CSV files and arrays stored row by row are read a piece at a time; each row is float64 (features,).

    Args:
        path: the file.
        features: columns that the detector takes.
        label_column: name or position (from 0) of a CSV column that is no feature.
        identity: of the detector; the columns that it names are matched by name where the file has names.
    """
    readers = {".csv": _csv_rows, ".npz": _npz_rows, ".mat": _mat_rows}
    reader = readers.get(os.path.splitext(path)[1].casefold())
    try:
        if reader is None:
            raise InputError(f"{path}: expected a table ending in {', '.join(TABLE_SUFFIXES)}: convert it")
        yield from reader(path, features, label_column, identity)
    except InputError as error:
        yield Sample(path, error=str(error))
    except Exception as error:  # whatever a parser makes of a damaged file: the job goes on
        reason = " ".join(str(error).split()) or type(error).__name__
        yield Sample(path, error=f"{path}: expected a table that can be read, received: {reason}; replace it")


def _csv_rows(
    path: str, features: int, label_column: str | int | None, identity: Identity
) -> Iterator[Sample]:
    for index, (_, value) in enumerate(numeric_rows(path, features, identity, label_column)):
        yield Sample(path, index, **{"error" if isinstance(value, str) else "value": value})


def _npz_rows(path: str, features: int, label_column, identity: Identity) -> Iterator[Sample]:
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: expected an .npz archive, received a single array: use numpy.savez")
        names = tuple(archive.files)
        columns = [str(name) for name in archive["feature_names"]] if "feature_names" in names else None
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
        order = _order(f"{path} array '{name}'", shape, dtype, columns, features, identity)
        if not by_columns:
            with archive.open(f"{name}.npy") as file:
                while file.read(_BLOCK):  # to the checksum at its end, before any row is believed
                    continue
            with archive.open(f"{name}.npy") as file:
                _array_header(file)
                yield from _array_rows(path, _blocks(file, shape, dtype), order, identity)
            return
    with np.load(path, allow_pickle=False) as archive:
        yield from _array_rows(path, [archive[name]], order, identity)


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether columns are stored one after the other, dtype); the stream is left at the data."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _order(
    what: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    names: list[str] | None,
    features: int,
    identity: Identity,
) -> list[int]:
    """Positions of the detector's columns in an array, whose own columns may have names."""
    columns = shape[1:] if len(shape) == 2 else ()
    if not columns or not shape[0] or dtype.kind not in "iufb" or (names is None and columns != (features,)):
        raise InputError(
            f"{what}: expected numbers (rows, {features}), received {dtype} of shape {shape}: check the file"
        )
    if names is not None and len(names) != columns[0]:
        raise InputError(f"{what}: expected {columns[0]} feature_names, received {len(names)}: correct them")
    return feature_columns(names, columns[0], features, identity, None, what)


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


def _array_rows(
    path: str, blocks: Iterable[np.ndarray], order: list[int], identity: Identity
) -> Iterator[Sample]:
    index = 0
    for block in blocks:
        for row in block:
            value = finite_row(row[order], identity.encoding)
            if isinstance(value, str):
                yield Sample(path, index, error=f"{path}: row {index}: {value}")
            else:
                yield Sample(path, index, value=value)
            index += 1


def _mat_rows(path: str, features: int, label_column, identity: Identity) -> Iterator[Sample]:
    arrays = mat_arrays(path)
    if "X" not in arrays:
        raise InputError(f"{path}: expected an array X, received {', '.join(sorted(arrays)) or 'none'}")
    x = arrays["X"]
    order = _order(f"{path} array 'X'", x.shape, x.dtype, None, features, identity)
    yield from _array_rows(path, [x], order, identity)
