"""Data frames as rows of a table: columns by name, cells as float64; no data frame library is imported."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from agad_tf.columns import is_unnamed
from agad_tf.encoding import MISSING, Column, TableEncoding, learnt
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
        frame: numbers or truth values; where the detector has an encoding, categories and missing values.
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
    return encoded(frame, taken, what, identity.encoding or TableEncoding.of_numbers(features))


def table_encoding(frame, missing: str = "refuse") -> TableEncoding:
    """How the cells of a data frame become numbers: what `agad_tf.AABiGAN(shape, encoding=…)` takes.

    Texts and categories become categories, the 32 most frequent of a column and one for all others. Columns
    without a name are left out, as `fit` does; every other column is a feature.

    Args:
        frame: to be trained on, without a label.
        missing: "refuse" missing values; fill them with the "median" of the training normals (of categories
            the most frequent); or that and an "indicator", a further entry in columns that have some.

    Raises:
        InputError: dates, texts that are no categories, missing values where they are refused.
    """
    names = column_names(frame, "frame")
    taken = named_columns(names, "frame")
    chosen = [names[index] for index in taken]
    found = learnt(raw_columns(frame, taken, "frame", missing != "refuse"), missing, "frame", chosen)
    return found or TableEncoding.of_numbers(len(taken))


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


def encoded(frame, positions: Sequence[int], what: str, encoding: TableEncoding) -> np.ndarray:
    """Columns of a frame as float64 (n, len(positions)): numbers, codes of categories, NaN for gaps.

    Raises:
        InputError: dates, text among numbers, or missing values where they are refused; names the column.
    """
    texts = [names is not None for names in encoding.categories]
    return encoding.encoded(raw_columns(frame, positions, what, encoding.allows_gaps, texts))


def raw_columns(
    frame, positions: Sequence[int], what: str, gaps: bool, texts: Sequence[bool] | None = None
) -> list[Column]:
    """Columns of a frame as numbers or texts.

    Args:
        frame: any data frame.
        positions: of the columns.
        what: the frame, for messages.
        gaps: whether values may be missing.
        texts: which columns are categories; None finds out: those of categories, and those of which more than
            half the values are text.

    Raises:
        InputError: dates, text among numbers, or missing values that may not be; names the column.
    """
    names = list(frame.columns)
    wanted = [None] * len(positions) if texts is None else texts
    return [
        _column(frame, names[position], what, gaps, text)
        for position, text in zip(positions, wanted, strict=True)
    ]


def _column(frame, name, what: str, gaps: bool, text: bool | None) -> Column:
    column = frame[name]
    kind = str(column.dtype)
    advice = f"in column {str(name)!r}: encode it as numbers, or leave it out"
    if kind.startswith(("datetime", "timedelta", "period", "Date", "Time")):
        raise InputError(f"{what}: expected numbers or categories, received {kind} {advice}")
    values = np.asarray(column)
    numeric = values.dtype.kind in "iufb"
    categories = kind.startswith(("category", "Categor", "Enum"))
    if categories and text is False:
        raise InputError(f"{what}: expected numbers, received {kind} {advice}")
    missing = np.asarray(column.isna() if hasattr(column, "isna") else column.is_null(), bool)
    if numeric and not missing.any() and not text and not categories:
        return values.astype(np.float64)
    cells = [None if gone else value for value, gone in zip(values.tolist(), missing.tolist(), strict=True)]
    cells = [None if type(v) is str and v.strip().casefold() in MISSING else v for v in cells]
    empty = [index for index, value in enumerate(cells) if value is None]
    if empty and not gaps:
        raise InputError(
            f"{what}: expected a value in every row, received missing values in column {str(name)!r} "
            f"({len(empty)} rows, the first is row {empty[0]}); fill or remove them, or take "
            "missing='median' or 'indicator'"
        )
    if text is None:
        words = sum(type(value) is str for value in cells)
        text = categories or 2 * words > len(cells) - len(empty)
    if text:
        return [None if value is None else _text(value) for value in cells]
    if not all(value is None or isinstance(value, int | float | np.number) for value in cells):
        raise InputError(f"{what}: expected numbers, received {kind} {advice}")
    try:
        return np.array([np.nan if value is None else value for value in cells], np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what}: expected numbers, received {kind} {advice}") from None


def _text(value) -> str:
    """A category as a CSV file has it."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()
