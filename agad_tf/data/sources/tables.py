"""Tables: data frames and MATLAB files, and the checks that every table passes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agad_tf.columns import LABEL_NAMES, label_position
from agad_tf.data.samples import Samples, encode_labels, label_vector
from agad_tf.data.sources.memory import check_memory
from agad_tf.encoding import TableEncoding, learnt
from agad_tf.errors import InputError
from agad_tf.frames import column_names, encoded, named_columns, raw_columns
from agad_tf.identity import Identity

if TYPE_CHECKING:
    import h5py

_log = logging.getLogger(__name__)


def table_array(
    x: np.ndarray,
    what: str,
    feature_names: Sequence[str] | None = None,
    encoding: TableEncoding | None = None,
    gaps: bool = False,
) -> np.ndarray:
    """Checks a numeric table and returns it as float64 (rows, features): scaling makes it float32.

    Args:
        x: the table; by an `encoding` its categories are codes.
        what: the table, for messages.
        feature_names: of its columns.
        encoding: of a table with categories or missing values.
        gaps: whether values may be missing (NaN); they may where the encoding allows it.

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
    table = x.astype(np.float64)
    _tell_merged(x, what, feature_names)
    missing = np.isnan(table)
    gaps = gaps or (encoding is not None and encoding.allows_gaps)
    faults = [] if gaps else [(missing, "a value in every row", "missing values (NaN)")]
    faults += [(np.abs(table) > np.finfo(np.float32).max, "finite values within float32", "infinite values")]
    if encoding is not None:
        faults += [(~(encoding.usable(table) | missing), "codes of its categories", "other numbers")]
    for bad, wanted, received in faults:
        rows = bad.sum(axis=0)
        if rows.any():
            column = int(np.argmax(rows > 0))
            raise InputError(
                f"{what}: expected {wanted}, received {received} in column "
                f"{column_word(column, feature_names)} ({rows[column]} rows; {np.count_nonzero(rows)} such "
                "columns); fill or remove them"
            )
    return table


_FEW_STEPS = 256


def _tell_merged(x: np.ndarray, what: str, names: Sequence[str] | None) -> None:
    """Says so where a narrow type has rounded a column with a large offset to a few values."""
    if x.dtype.kind != "f" or x.dtype.itemsize >= 8:
        return
    smallest, largest = x.min(axis=0), x.max(axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        step = np.spacing(np.maximum(np.abs(smallest), np.abs(largest)))
        # Whole numbers that the type holds exactly have lost nothing.
        whole = (step <= 0.25) & (x == np.rint(x)).all(axis=0)
        few = (largest > smallest) & (largest - smallest < _FEW_STEPS * step) & ~whole
    if few.any():
        column = int(np.argmax(few))
        _log.warning(
            "%s: column %s: %s holds %d steps between its smallest and its largest value (%d such columns): "
            "values may have merged; pass float64",
            what,
            column_word(column, names),
            x.dtype,
            round(float((largest - smallest)[column] / step[column])),
            np.count_nonzero(few),
        )


def column_word(index: int, names: Sequence[str] | None) -> str:
    return repr(names[index]) if names is not None else str(index)


def fitting(encoding: TableEncoding, features: int, what: str) -> TableEncoding:
    """The encoding of training, of a table that has as many columns."""
    if len(encoding.categories) != features:
        raise InputError(
            f"{what}: expected {len(encoding.categories)} columns, as in training, received {features}: "
            "check the file and its label"
        )
    return encoding


def with_encoding(samples: Samples, missing: str, encoding: TableEncoding | None) -> Samples:
    """A table of numbers (an archive) with what is known, or learnt, of its missing values."""
    if samples.x.ndim != 2:
        return samples
    features = samples.x.shape[1]
    if encoding is None:
        encoding = learnt(list(samples.x.T), missing, samples.name, samples.feature_names)
    elif len(encoding.categories) == features:  # else whoever asked says what is wrong
        table_array(samples.x, samples.name, samples.feature_names, encoding)
    return replace(samples, encoding=None if encoding is None or encoding.is_plain else encoding)


def in_order(samples: Samples, columns: Sequence[str] | None) -> Samples:
    """A table with its columns in the order of `columns`, matched by name; None leaves them as they are.

    Raises:
        InputError: columns that are missing or unknown.
    """
    if columns is None or samples.x.ndim != 2:
        return samples
    order = Identity("table", tuple(columns)).column_order(samples.feature_names, samples.name)
    if order is None:
        return samples
    return replace(samples, x=samples.x[:, order], feature_names=tuple(columns))


def frame_samples(
    frame,
    label_column: str | int | None = None,
    columns: Sequence[str] | None = None,
    missing: str = "refuse",
    encoding: TableEncoding | None = None,
    name: str = "frame",
) -> Samples:
    """A data frame as a CSV file with the same header would be read; see `csv_table.load_csv`.

    Raises:
        InputError: no label column, dates, text that is no category, missing values; names the column.
    """
    names = column_names(frame, name)
    label = table_label(name, label_column, names, len(names), columns)
    features = [index for index in named_columns(names, name) if index != label]
    if columns is not None:
        order = Identity("table", tuple(columns)).column_order([names[index] for index in features], name)
        features = features if order is None else [features[index] for index in order]
    if not len(frame) or not features:
        raise InputError(f"{name}: expected rows with a feature and a label, received shape {frame.shape}")
    chosen = tuple(names[index] for index in features)
    if encoding is None:
        raw = raw_columns(frame, features, name, missing != "refuse")
        encoding = learnt(raw, missing, name, chosen)
        x = (encoding or TableEncoding.of_numbers(len(features))).encoded(raw)
    else:
        x = encoded(frame, features, name, fitting(encoding, len(features), name))
    x = table_array(x, name, chosen, encoding)
    column = frame[list(frame.columns)[label]]
    labels = np.asarray(column)
    unlabelled = np.array([value is None or value != value for value in labels.tolist()])
    if unlabelled.any():
        raise InputError(
            f"{name}: expected a label in every row, received none in column {names[label]!r} of row "
            f"{np.argmax(unlabelled)} ({np.count_nonzero(unlabelled)} such rows); fill or remove these rows"
        )
    if labels.dtype.kind not in "iufbU":
        kinds = {type(value) for value in labels.tolist()}
        whole = all(issubclass(kind, int | float | np.number) for kind in kinds)
        labels = labels.astype(np.float64) if whole else np.array([str(value) for value in labels.tolist()])
    labels = label_vector(labels, len(x), f"{name} column {names[label]!r}")
    classes, class_names, normal = encode_labels(labels, name, table=True)
    return Samples(
        name,
        x,
        classes,
        class_names,
        normal_classes=normal,
        feature_names=chosen,
        encoding=None if encoding is None or encoding.is_plain else encoding,
    )


def table_label(
    path: Path,
    wanted: str | int | None,
    names: tuple[str, ...] | None,
    width: int,
    columns: Sequence[str] | None,
) -> int:
    found = label_position(names, width, wanted, str(path))
    if found is not None:
        return found
    folded = ["" if name in (columns or ()) else name.casefold() for name in names or ()]
    labels = [name for name, fold in zip(names or (), folded, strict=True) if fold in LABEL_NAMES]
    if len(labels) > 1:
        # The second one would be learnt from, and tell the first.
        raise InputError(
            f"{path}: expected one label column, received {' and '.join(labels)}; remove what tells the "
            "label, and rename what is a feature"
        )
    if columns is not None and names and not labels:
        raise InputError(
            f"{path}: expected the columns of training and a label, received {', '.join(map(repr, names))}, "
            f"of which none is called {', '.join(LABEL_NAMES)}: name the label with --label-column"
        )
    found = next((folded.index(name) for name in LABEL_NAMES if name in folded), width - 1)
    if names and folded[found] not in LABEL_NAMES:
        _log.warning(
            "%s: no column is called %s: the last one, '%s', is taken as the label",
            path,
            ", ".join(LABEL_NAMES),
            names[found],
        )
    return found


def load_mat(path: Path, gaps: bool = False) -> Samples:
    """Reads an outlier data set in the ODDS layout: `X` (rows, features) and `y` (rows, 1), 1 for an anomaly.

    MATLAB files of version 4 to 7 are read through SciPy, those of version 7.3 (HDF5) through h5py. `gaps`
    says whether values may be missing (NaN).

    Raises:
        InputError: not a MATLAB file, or no `X` and `y` in it.
    """
    content = mat_arrays(path)
    if "X" not in content or "y" not in content:
        raise InputError(
            f"{path}: expected the arrays X and y, received {', '.join(sorted(content)) or 'none'}"
        )
    x = table_array(content["X"], f"{path} X", gaps=gaps)
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
