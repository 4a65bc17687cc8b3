"""The papers' tables as data: one YAML file a table, every value as it is printed.

    from study.paper_tables import load
    load("aa_bigan_2").cell(method="AA-BiGAN", column="cardio").value  # 98.0

A value that cannot be read, or that the paper does not give, is None and has a reason. `origin` says whose
number it is: "own" was measured by the paper's authors, "borrowed" is quoted from the `source`, "unclear" is
not said. Figures are plots without numbers: they have no rows.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from agad_tf.errors import InputError

FOLDER = Path(__file__).parent
ORIGINS = ("own", "borrowed", "unclear")
SUMMARIES = ("avg", "sd")
"""Columns that are computed from the others of their row."""

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Cell:
    """One printed value.

    Attributes:
        column: what stands over it, a class, a share, a data set; see the table's `columns`.
        value, deviation: as printed, None where there is none.
        reason: why there is no value.
        row: the names of its row: dataset, method, backbone and so on.
        origin, source: see the module.
    """

    column: int | float | str
    value: float | None
    deviation: float | None
    reason: str | None
    row: dict
    origin: str
    source: str | None = None

    @property
    def dataset(self) -> str:
        return self.row.get("dataset", self.column)

    @property
    def method(self) -> str:
        return self.row["method"]

    def text(self) -> str:
        """The value as the paper prints it, but for noughts at its end."""
        if self.value is None:
            return "–"
        return f"{self.value}" if self.deviation is None else f"{self.value} ± {self.deviation}"


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes:
        name: of its file, "agad_1" for instance.
        paper, table, caption, metric: what it is.
        columns: what its columns stand for.
        protocol: how the paper says that it was made.
        notes: what is damaged or contradictory.
        cells: row by row.
    """

    name: str
    paper: str
    table: str
    caption: str
    metric: str
    columns: str
    protocol: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()

    def cell(self, column, **row) -> Cell:
        """The one cell of a column whose row has these names.

        Raises:
            InputError: none, or several.
        """
        found = [c for c in self.cells if c.column == column and row.items() <= c.row.items()]
        if len(found) != 1:
            raise InputError(f"{self.name}: expected one cell {column} of {row}, found {len(found)}")
        return found[0]

    @property
    def title(self) -> str:
        paper = {"agad": "AGAD", "aa_bigan": "AA-BiGAN"}[self.paper]
        return f"{paper}, {'Table ' if self.table.isdigit() else ''}{self.table}"


def names() -> tuple[str, ...]:
    """Every table, AGAD's first."""
    return tuple(sorted((path.stem for path in FOLDER.glob("*.yaml")), key=_order))


def _order(name: str) -> tuple:
    number = re.search(r"\d+$", name)
    return not name.startswith("agad"), "figure" in name or not number, int(number[0]) if number else 0


@functools.cache
def load(name: str) -> PaperTable:
    """One table by name.

    Raises:
        InputError: no such table.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"expected one of the papers' tables {', '.join(names())}, received '{name}'")
    content = yaml.safe_load(path.read_text("utf-8"))
    rows = content.pop("rows")
    content["notes"] = tuple(content["notes"])
    return PaperTable(name, **content, cells=tuple(cell for row in rows for cell in _cells(name, row)))


def _cells(name: str, row: dict) -> Iterator[Cell]:
    about = {
        key: value
        for key, value in row.items()
        if key not in ("values", "printed", "why", "origin", "source")
    }
    for column, printed in row["values"].items():
        value, deviation = _value(name, printed)
        reason = row["why"] if value is None else None
        yield Cell(column, value, deviation, reason, about, row["origin"], row.get("source"))


def _value(name: str, printed) -> tuple[float | None, float | None]:
    if printed is None:
        return None, None
    match = _NUMBER.fullmatch(str(printed))
    if match is None:
        raise InputError(f"{name}: expected a number such as 98.0 or 98.0 ± 1.2, received '{printed}'")
    return float(match[1]), None if match[2] is None else float(match[2])
