"""Data frames as rows of a table: columns by name, numbers as float64; no data frame library is imported."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from agad_tf.columns import is_unnamed
from agad_tf.errors import InputError
from agad_tf.identity import Identity, check_names

logger = logging.getLogger("agad_tf")


def is_frame(x) -> bool:
    """Whether `x` is a data frame of pandas, or of another library with the same few attributes."""
    return all(hasattr(x, name) for name in ("columns", "dtypes", "to_numpy", "shape")) and len(x.shape) == 2


def column_names(frame, what: str) -> tuple[str, ...]:
    """Names of a frame's columns as text, as a CSV file of it would have them.

    Raises:
        InputError: names of several levels, or one that stands twice.
    """
    names = list(frame.columns)
    if any(isinstance(name, tuple) for name in names):
        raise InputError(f"{what}: expected columns with one name each, received several levels: join them")
    names = tuple(str(name) for name in names)
    check_names(names, what)
    return names


def frame_rows(frame, identity: Identity, features: int, what: str) -> np.ndarray:
    """The rows of a frame in the order of a detector's columns, float64 (n, features).

    Columns without a name ("", "Unnamed: 0") that the detector does not know are left out and told.

    Args:
        frame: numbers or truth values.
        identity: of the detector; where it has no names, columns are taken by position.
        features: columns that the detector takes.
        what: the argument, for messages.

    Raises:
        InputError: columns that are missing, unknown or there twice; text, dates, categories or missing
            values, naming the column.
    """
    names = column_names(frame, what)
    taken = named_columns(names, what, identity.columns or ())
    if identity.columns is not None:
        order = identity.column_order([names[index] for index in taken], what)
        taken = taken if order is None else [taken[index] for index in order]
    if len(taken) != features:
        raise InputError(
            f"{what}: expected {features} columns, received {len(taken)}: give those of training"
        )
    return numbers(frame, taken, what)


def named_columns(names: Sequence[str], what: str, known: Sequence[str] = ()) -> list[int]:
    """Positions of the columns that have a name or are known; the others are told."""
    unnamed = [index for index, name in enumerate(names) if is_unnamed(name) and name not in known]
    if unnamed:
        logger.warning(
            "%s: columns without a name are taken for a row index and left out: %s",
            what,
            ", ".join(repr(names[index]) for index in unnamed),
        )
    return [index for index in range(len(names)) if index not in set(unnamed)]


def numbers(frame, positions: Sequence[int], what: str) -> np.ndarray:
    """Columns of a frame as float64 (n, len(positions)).

    Raises:
        InputError: text, dates, categories or missing values; names the first such column.
    """
    names, rows = list(frame.columns), np.empty((frame.shape[0], len(positions)))
    for index, position in enumerate(positions):
        rows[:, index] = _column(frame, names[position], what)
    return rows


def _column(frame, name, what: str) -> np.ndarray:
    column = frame[name]
    kind = str(column.dtype)
    advice = f"in column {str(name)!r}: encode it as numbers, or leave it out"
    if kind.startswith(
        ("category", "Categorical", "datetime", "timedelta", "period", "Enum", "Date", "Time")
    ):
        raise InputError(f"{what}: expected numbers, received {kind} {advice}")
    missing = np.asarray(column.isna() if hasattr(column, "isna") else column.is_null(), bool)
    if missing.any():
        raise InputError(
            f"{what}: expected a value in every row, received missing values in column {str(name)!r} "
            f"({np.count_nonzero(missing)} rows, the first is row {np.argmax(missing)}); fill or remove them"
        )
    try:
        values = np.asarray(column)
        if values.dtype.kind == "O" and not all(
            isinstance(value, int | float | np.number) for value in values
        ):
            raise TypeError(kind)
        if values.dtype.kind not in "iufbO":
            raise TypeError(kind)
        return values.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what}: expected numbers, received {kind} {advice}") from None
