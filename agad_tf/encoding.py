"""Tables of numbers, categories and gaps: one number for a cell, and the entries that networks see of it.

Doors that read cells (files, data frames) write a category as its code and a missing value as NaN; a layer of
the model turns codes into entries of 0 and 1 and fills the gaps. NumPy and the standard library only: boards
read it too.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agad_tf.errors import InputError

logger = logging.getLogger("agad_tf")

MISSING = frozenset(("", "?", "na", "n/a", "nan", "null", "none"))
"""Texts that say that a value is missing, in lower case."""

POLICIES = ("refuse", "median", "indicator")
"""What is done with missing values: refused, filled with the median, or that and a further entry tells it."""

MOST_CATEGORIES = 32
"""Of a column; rarer ones share the entry of all others."""

_NUMBER, _GAP = np.nan, -1.0  # in place of a code: an entry that is the value, one that tells a gap

Column = np.ndarray | list
"""Numbers, float64 (n,) with NaN where one is missing; or texts, None where one is missing."""


@dataclass(frozen=True)
class TableEncoding:
    """How the cells of a table become numbers, by column in the detector's order; JSON-able by `asdict`.

    A number stays what it is. A category is its position among the column's `categories`, and any other text
    the position after them. A missing value is NaN. Of a row the networks see each number; one entry for each
    category and one for all others, 1 in that which the row has; and, of the columns `indicated`, 1 where the
    value is missing. What is missing has the median of the training normals, of categories the most frequent.

    Attributes:
        categories: of each column its categories, or None for numbers.
        missing: one of `POLICIES`.
        indicated: columns with an entry that tells a missing value.

    Raises:
        InputError: entries that cannot be meant.
    """

    categories: tuple[tuple[str, ...] | None, ...]
    missing: str = "refuse"
    indicated: tuple[int, ...] = ()

    def __post_init__(self):
        check_policy(self.missing)
        try:
            columns = tuple(None if names is None else tuple(names) for names in self.categories)
            indicated = tuple(int(index) for index in self.indicated)
        except (TypeError, ValueError):
            raise InputError(
                "encoding expects categories (a list a column, or None) and indicated (positions), received "
                f"{self.categories!r:.80} and {self.indicated!r:.40}: learn it with agad_tf.table_encoding"
            ) from None
        texts = [names for names in columns if names is not None]
        if any(len(set(names)) < len(names) or not all(type(n) is str for n in names) for names in texts):
            raise InputError("encoding expects different texts as the categories of a column: correct them")
        if not set(indicated) <= set(range(len(columns))):
            raise InputError(f"encoding expects positions of {len(columns)} columns, received {indicated}")
        object.__setattr__(self, "categories", columns)
        object.__setattr__(self, "indicated", indicated)

    @classmethod
    def of_numbers(cls, features: int) -> TableEncoding:
        """That of a table of numbers alone, none of which is missing."""
        return cls((None,) * features)

    @property
    def is_plain(self) -> bool:
        """Whether cells are numbers, and what networks see of them is these."""
        return self.missing == "refuse" and not any(names is not None for names in self.categories)

    @property
    def allows_gaps(self) -> bool:
        """Whether a value may be missing."""
        return self.missing != "refuse"

    @property
    def width(self) -> int:
        """How many entries networks see of a row."""
        return len(self.sources)

    @cached_property
    def sources(self) -> np.ndarray:
        """The column that each entry is made from, int (width,)."""
        return np.array([source for source, _ in self._entries], np.int64)

    @cached_property
    def entry_codes(self) -> np.ndarray:
        """The code that each entry tells, float64 (width,): NaN for a number, -1 for a gap."""
        return np.array([code for _, code in self._entries])

    @cached_property
    def _entries(self) -> list[tuple[int, float]]:
        entries = []
        for column, names in enumerate(self.categories):
            codes = [_NUMBER] if names is None else [float(code) for code in range(len(names) + 1)]
            codes += [_GAP] if column in self.indicated else []
            entries += [(column, code) for code in codes]
        return entries

    @cached_property
    def largest_codes(self) -> np.ndarray:
        """The largest code of each column, float64 (features,); infinity for numbers."""
        return np.array([np.inf if names is None else len(names) for names in self.categories])

    @cached_property
    def _codes(self) -> list[dict[str, float] | None]:
        return [
            None if names is None else {name: float(code) for code, name in enumerate(names)}
            for names in self.categories
        ]

    def by_column(self) -> list[str]:
        """All of it as one text a column, JSON; `from_columns` reads it."""
        return [
            json.dumps(
                {"categories": names, "missing": self.missing, "indicated": column in self.indicated},
                ensure_ascii=False,
            )
            for column, names in enumerate(self.categories)
        ]

    @classmethod
    def from_columns(cls, texts: Sequence[str]) -> TableEncoding:
        """What `by_column` gave.

        Raises:
            InputError: something else.
        """
        try:
            columns = [json.loads(text) for text in texts]
            return cls(
                tuple(column["categories"] for column in columns),
                columns[0]["missing"],
                tuple(index for index, column in enumerate(columns) if column["indicated"]),
            )
        except (ValueError, TypeError, KeyError, IndexError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                "expected the encoding of a table, received something else: export again"
            ) from None

    def entry_names(self, columns: Sequence[str] | None = None) -> list[str]:
        """What each entry tells: "age", "age missing", "colour=red", "colour=other"."""
        names = []
        for column, code in self._entries:
            name = str(column) if columns is None else columns[column]
            if code == _GAP:
                names.append(f"{name} missing")
            elif np.isnan(code):
                names.append(name)
            else:
                known = self.categories[column]
                names.append(f"{name}={known[int(code)] if code < len(known) else 'other'}")
        return names

    def code(self, column: int, text: str) -> float:
        """The number of a text in a column of categories; NaN where it says that the value is missing."""
        known = self._codes[column]
        found = known.get(text)
        return (np.nan if text.casefold() in MISSING else len(known)) if found is None else found

    def encoded(self, columns: Sequence[Column]) -> np.ndarray:
        """Rows float64 (n, features) of columns as the table has them; see `code`."""
        rows = np.empty((len(columns[0]), len(columns)))
        for index, column in enumerate(columns):
            if self.categories[index] is not None:
                column = [np.nan if text is None else self.code(index, text) for text in column]
            rows[:, index] = column
        return rows

    def usable(self, rows: np.ndarray) -> np.ndarray:
        """Which values rows (n, features) may hold, bool of that shape; see `agad_tf.layers.TableScaling`."""
        whole = ~np.isfinite(self.largest_codes) | (rows == np.floor(rows))
        smallest = np.where(np.isfinite(self.largest_codes), 0, -np.finfo(np.float32).max)
        largest = np.minimum(self.largest_codes, np.finfo(np.float32).max)
        return (whole & (rows >= smallest) & (rows <= largest)) | (np.isnan(rows) & self.allows_gaps)

    def fill_of(self, rows: np.ndarray) -> np.ndarray:
        """What stands for a missing value, float64 (features,): median, of categories the most frequent code.

        Raises:
            InputError: a column without any value; names its position.
        """
        fill = np.zeros(len(self.categories))
        for column, names in enumerate(self.categories):
            present = rows[:, column]
            present = present[~np.isnan(present)]
            if not len(present):
                raise InputError(
                    f"expected values among the training normals, received none in column {column} (from 0): "
                    "leave the column out"
                )
            if names is None:
                fill[column] = np.median(present)
            else:
                fill[column] = np.argmax(np.bincount(present.astype(np.int64)))
        return fill

    def expanded(self, rows: np.ndarray, fill: np.ndarray) -> np.ndarray:
        """What networks see of rows (n, features), before it is scaled, float64 (n, width)."""
        gaps = np.isnan(rows)
        filled = np.where(gaps, fill, rows)[:, self.sources]
        codes = self.entry_codes
        entries = np.where(np.isnan(codes), filled, filled == codes)
        return np.where(codes == _GAP, gaps[:, self.sources], entries)


def check_policy(missing: str) -> None:
    """Refuses what is none of `POLICIES`."""
    if missing not in POLICIES:
        raise InputError(f"missing expects one of {', '.join(POLICIES)}, received {missing!r}")


def learnt(
    columns: Sequence[Column], missing: str, what: str, names: Sequence[str] | None
) -> TableEncoding | None:
    """The encoding of a table to train on; None for numbers without gaps where gaps are refused.

    The `MOST_CATEGORIES` most frequent texts of a column are its categories, labels play no part in it.

    Args:
        columns: of the table.
        missing: one of `POLICIES`; gaps that it refuses are the doors' to tell.
        what: the table, for messages.
        names: of the columns, None where they have none.

    Raises:
        InputError: texts that are no categories: hardly one comes twice; or a column without any value.
    """
    check_policy(missing)
    categories, gaps, told = [], [], []
    for index, column in enumerate(columns):
        name = repr(names[index]) if names is not None else str(index)
        if isinstance(column, np.ndarray):
            categories.append(None)
            count = np.count_nonzero(np.isnan(column))
        else:
            found = Counter(text for text in column if text is not None)
            count = len(column) - found.total()
            kept, rare = _most_frequent(found, what, name)
            categories.append(kept)
            told.append(f"{name} ({len(kept)}{f' and {rare} rarer ones as one' if rare else ''})")
        if count == len(column):
            raise InputError(f"{what}: expected values, received none in column {name}: leave the column out")
        if count:
            gaps.append(index)
    if told:
        logger.warning("%s: text is taken as categories: %s", what, ", ".join(told))
    if gaps and missing != "refuse":
        logger.warning(
            "%s: %d columns have missing values, filled with the median (of categories the most frequent)%s",
            what,
            len(gaps),
            ", and told by an entry of their own" if missing == "indicator" else "",
        )
    if missing == "refuse" and not told:
        return None
    return TableEncoding(tuple(categories), missing, tuple(gaps) if missing == "indicator" else ())


def _most_frequent(found: Counter, what: str, name: str) -> tuple[tuple[str, ...], int]:
    """The categories of a column in the order of the alphabet, and how many are left out of them."""
    ordered = sorted(found, key=lambda text: (-found[text], text))
    kept = ordered[:MOST_CATEGORIES]
    if len(ordered) > len(kept) and 2 * sum(found[text] for text in kept) < found.total():
        raise InputError(
            f"{what}: expected numbers or categories, received {len(ordered)} different texts in column "
            f"{name}, for instance {ordered[0][:40]!r}: leave the column out, or encode it as numbers"
        )
    return tuple(sorted(kept)), len(ordered) - len(kept)
