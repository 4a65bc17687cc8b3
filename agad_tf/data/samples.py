"""What every source returns, and how labels become classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agad_tf.data.content import row_digests
from agad_tf.data.rows import LazyRows
from agad_tf.encoding import TableEncoding
from agad_tf.errors import InputError

NORMAL_NAMES = ("normal", "good")


@dataclass(frozen=True, eq=False)
class Samples:
    """Images or table rows with their classes, as a source gives them.

    Attributes:
        name: what the rows are called in logs and results.
        x: images uint8 (n, height, width, channels), channels 1 or 3; tables float64 (n, features), raw
            values. Of shards it is a `LazyRows`, which stands for such an array and holds none of it.
        classes: int64 (n,), index into `class_names`.
        class_names: one name a class; a class may have no row.
        part: (n,) of 'train', 'validation' or 'test' where the source itself gives a split, else None.
        normal_classes: indices of the normal classes where the source says so, else None.
        paths: files behind the rows (image folders), else None.
        feature_names: names of the columns (tables that have them), else None.
        encoding: of a table with categories (codes in `x`) or missing values (NaN in `x`), else None.
        masks: pixel masks of the anomalies, files or bool arrays (height, width), None for a row without one;
            None where there are none.
        group: (n,) strings: rows of one group (a part, a patient, a video) are never on two sides of a split;
            "" for a row that is a group of its own. None where the source knows no groups.
    """

    name: str
    x: np.ndarray | LazyRows
    classes: np.ndarray
    class_names: tuple[str, ...]
    part: np.ndarray | None = None
    normal_classes: tuple[int, ...] | None = None
    paths: Sequence[str] | None = None
    feature_names: tuple[str, ...] | None = None
    masks: Sequence[str | np.ndarray | None] | None = None
    group: np.ndarray | None = None
    encoding: TableEncoding | None = None

    @cached_property
    def digests(self) -> np.ndarray:
        """Content digest of every row, uint8 (n, 16); computed when it is first asked for."""
        return row_digests(self.x)


def label_vector(labels: np.ndarray, rows: int, what: str) -> np.ndarray:
    """Checks one label a row and returns them as (rows,): integers or strings.

    Raises:
        InputError: wrong shape or length, missing labels, or numbers that are no integers.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and 1 in labels.shape:
        labels = labels.ravel()
    if labels.ndim != 1:
        raise InputError(
            f"{what}: expected one label a row, shape ({rows},), received shape {labels.shape}; give class "
            "numbers, not one-hot or multi-label rows"
        )
    if len(labels) != rows:
        raise InputError(
            f"{what}: expected {rows} labels for {rows} rows, received {len(labels)}; give one label a row"
        )
    if labels.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(labels) | (labels != np.rint(labels)))
        if len(bad):
            raise InputError(
                f"{what}: expected whole numbers as labels, received {labels[bad[0]]} in row {bad[0]} "
                f"({len(bad)} such rows); mend or remove these rows"
            )
    elif labels.dtype.kind == "U":
        return labels
    elif labels.dtype.kind not in "iub":
        raise InputError(f"{what}: expected labels as integers or strings, received dtype {labels.dtype}")
    return labels.astype(np.int64)


def encode_labels(
    labels: np.ndarray, what: str, *, table: bool, class_names: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...], tuple[int, ...] | None]:
    """Turns checked labels into class indices, class names and, where the labels tell, the normal classes.

    Labels of a table that are all 0 or 1 mean normal and anomaly, the convention of the outlier data sets.
    Text labels called 'normal' or 'good' are normal classes. Other numbers say nothing about which class is
    normal.

    Returns:
        (classes int64 (n,), class_names, normal_classes or None)
    """
    if class_names is not None and labels.dtype.kind != "U":
        names = tuple(str(name) for name in class_names)
        if len(labels) and (labels.min() < 0 or labels.max() >= len(names)):
            raise InputError(
                f"{what}: expected labels from 0 to {len(names) - 1}, one for each of class_names, received "
                f"labels from {labels.min()} to {labels.max()}; mend the labels or class_names"
            )
        return labels, names, normal_by_name(names)
    if table and labels.dtype.kind != "U" and np.isin(labels, (0, 1)).all():
        return labels, ("normal", "anomaly"), (0,)
    values, classes = np.unique(labels, return_inverse=True)
    names = tuple(str(value) for value in values)
    return classes.astype(np.int64), names, normal_by_name(names)


def normal_by_name(names: Sequence[str]) -> tuple[int, ...] | None:
    """Indices of the classes whose name says that they are normal; None where no name does."""
    found = tuple(index for index, name in enumerate(names) if name.casefold() in NORMAL_NAMES)
    return found or None
