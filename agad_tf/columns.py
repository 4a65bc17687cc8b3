"""Which columns of a table a detector takes: matched by name, told where names are missing.

NumPy and the standard library only: boards read it too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from agad_tf.errors import InputError
from agad_tf.identity import Identity

logger = logging.getLogger("agad_tf")

LABEL_NAMES = ("label", "y", "class", "target")
"""Names of the column that is the label where nothing else is said."""


def feature_columns(
    names: Sequence[str] | None,
    width: int,
    features: int,
    identity: Identity,
    label_column: str | int | None,
    what: str,
) -> list[int]:
    """Positions of the columns that a detector takes, in its order.

    With a header the label column is `label_column`, else the one called label, y, class or target (unless
    the detector knows a column of that name); columns without a name are taken for a row index, left out and
    told. Without a header, of one column too many the last is taken for the label, and told.

    Args:
        names: the header, or None.
        width: columns of the file.
        features: columns that the detector takes.
        identity: of the detector.
        label_column: name or position of a column that is no feature.
        what: the file, for messages.

    Raises:
        InputError: columns that are missing, unknown or there twice; another number of columns.
    """
    known = identity.columns or ()
    positions = list(range(width))
    label = label_position(names, width, label_column, what)
    if label is None and names is not None:
        folded = [None if name in known else name.casefold() for name in names]
        label = next((folded.index(name) for name in LABEL_NAMES if name in folded), None)
    if names is None and label is None and width == features + 1:
        label = width - 1
        logger.warning(
            "%s: no header and %d columns for a detector of %d: the last is taken for the label and left out",
            what,
            width,
            features,
        )
    if label is not None:
        positions.remove(label)
    if names is not None:
        unnamed = [p for p in positions if is_unnamed(names[p]) and names[p] not in known]
        if unnamed:
            positions = [p for p in positions if p not in unnamed]
            logger.warning(
                "%s: columns without a name are taken for a row index and left out: %s (from 0)",
                what,
                ", ".join(map(str, unnamed)),
            )
        order = identity.column_order([names[p] for p in positions], what)
        if order is not None:
            positions = [positions[index] for index in order]
    elif len(positions) == features:
        identity.column_order(None, what)
    if len(positions) != features:
        beside = "" if label is None else " beside the label"
        listed = f" ({', '.join(map(repr, names))})" if names is not None else ""
        raise InputError(
            f"{what}: expected {features} columns, those that the detector was trained on, received "
            f"{len(positions)}{beside} in the first row{listed}: check the file and its separator, or name "
            "the column that is no feature with --label-column"
        )
    return positions


def label_position(
    names: Sequence[str] | None, width: int, wanted: str | int | None, what: str
) -> int | None:
    """Position of the label column that is wanted; None where none is.

    Raises:
        InputError: no such column.
    """
    if isinstance(wanted, str):
        if names is None:
            raise InputError(
                f"{what}: expected a header that names the label column '{wanted}', received no header; give "
                "its position"
            )
        if wanted not in names:
            raise InputError(
                f"{what}: expected a label column {wanted!r}, received the columns "
                f"{', '.join(map(repr, names))}"
            )
        return list(names).index(wanted)
    if wanted is None:
        return None
    if not -width <= wanted < width:
        raise InputError(f"{what}: expected a label column from 0 to {width - 1}, received {wanted}")
    return wanted % width


def is_unnamed(name: str) -> bool:
    """Whether a column has no name: where pandas writes or reads its index."""
    return not name or re.fullmatch(r"Unnamed: \d+", name) is not None
