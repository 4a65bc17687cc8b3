"""What a detector knows of its input: columns, kind and range of values; checked at every door.

A model, a run and an export each carry one `Identity`. Whoever hands samples to one of them (arrays, tensors,
datasets, files, requests) asks it first: what must be wrong is refused in one line, what may be wrong is
warned of. NumPy and the standard library only: boards read it too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from agad_tf.encoding import TableEncoding
from agad_tf.errors import InputError

logger = logging.getLogger("agad_tf")

KINDS = ("uint8", "float", "table")
"""Images as stored, images already in the model's range, rows of a table."""

FEW = 4
"""Up to so many images, less one, a property of all of them proves nothing of how they were scaled."""


@dataclass(frozen=True)
class Identity:
    """What the samples of training were; JSON-able by `to_dict`.

    Attributes:
        kind: one of `KINDS`; None before training, and of models saved before this was kept.
        columns: names of the columns in the model's order (tables that had names), else None.
        smallest, largest: range of the values that training saw (float images), else None.
        preprocessing: version of the resize, see `agad_tf.pixels`; 1 shrinks without antialiasing, 2 with.
        encoding: of a table with categories or missing values, else None.
    """

    kind: str | None = None
    columns: tuple[str, ...] | None = None
    smallest: float | None = None
    largest: float | None = None
    preprocessing: int = 1
    encoding: TableEncoding | None = None

    def __post_init__(self):
        if self.kind not in (None, *KINDS):
            raise InputError(f"identity expects a kind of {', '.join(KINDS)}, received {self.kind!r}")
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(self.columns))
            check_names(self.columns, "identity")

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict | None) -> Identity:
        """What `to_dict` gave; of None, what nothing is known of.

        Raises:
            InputError: unknown or damaged entries.
        """
        try:
            content = dict(content or {})
            if content.get("encoding") is not None:
                content["encoding"] = TableEncoding(**content["encoding"])
            return cls(**content)
        except TypeError as error:
            raise InputError(
                f"identity expects the entries of agad_tf, received {error}: save again"
            ) from None

    def completed(self, x: np.ndarray) -> Identity:
        """With kind and range of what training sees, where they were unknown; a known range grows.

        Args:
            x: training samples, images (n, height, width, channels) or rows (n, features).
        """
        kind = self.kind or ("table" if x.ndim == 2 else "uint8" if x.dtype == np.uint8 else "float")
        if kind != "float" or x.dtype == np.uint8 or not x.size:
            return replace(self, kind=kind)
        smallest, largest = float(x.min()), float(x.max())
        if self.smallest is not None:
            smallest = min(smallest, self.smallest)
        if self.largest is not None:
            largest = max(largest, self.largest)
        return replace(self, kind=kind, smallest=smallest, largest=largest)

    def judge_images(self, x: np.ndarray, what: str, value_range: tuple[float, float]) -> str | None:
        """Whether images can be of the kind that the model was trained on.

        A single image may be all bright; a whole batch without a value under the middle of the range, where
        training had such, is scaled otherwise.

        Args:
            x: images (n, height, width, channels), uint8, or floats within `value_range`.
            what: the argument, for messages.
            value_range: the values that the model maps 0 and 255 to.

        Returns:
            A line that warns of what may be wrong, None where nothing is.

        Raises:
            InputError: what must be wrong.
        """
        if not x.size:
            return None
        if x.dtype == np.uint8:
            if self._is_unit(value_range) and x.min() < 127:
                raise InputError(
                    f"{what} expects floats from 0 to 1, as in training, received uint8 images, which would "
                    f"become {value_range[0]:g} to {value_range[1]:g}: pass x / 255, or train on uint8"
                )
            if x.max() == 1:
                return (
                    f"{what}: uint8 images of 0 and 1 alone, nearly black: were floats from 0 to 1 cast to "
                    "uint8? Pass 0 to 255"
                )
            return None
        low, high = value_range
        smallest, largest = float(x.min()), float(x.max())
        if self._is_unit(value_range) and smallest < -0.05:
            raise InputError(
                f"{what} expects floats from 0 to 1, as in training, received {smallest:.3g} to "
                f"{largest:.3g}: scale them as the training images were"
            )
        sees_negative = self.sees_negative(low)
        if low < 0 <= smallest and (largest > smallest or len(x) > 1):
            if sees_negative and len(x) >= FEW and not self._is_unit(value_range):
                raise InputError(
                    f"{what} expects uint8 images, or floats from {low:g} to {high:g}, as in training; "
                    f"received floats from {smallest:.3g} to {largest:.3g}, none under 0: pass the uint8 "
                    "images, or scale x / 127.5 - 1"
                )
            if self.kind is None or sees_negative:
                return (
                    f"{what}: floats from {smallest:.3g} to {largest:.3g}, where the model takes "
                    f"{low:g} to {high:g}: if these are x / 255, pass the uint8 images, or x / 127.5 - 1"
                )
        if low == 0 and largest > smallest and largest <= 1.5 / 255 * high:
            return f"{what}: floats from {smallest:.3g} to {largest:.3g}: divided by 255 twice?"
        return None

    def prepared_images(
        self, x: np.ndarray, what: str, shape: Sequence[int], value_range: Sequence[float]
    ) -> np.ndarray:
        """Float images in the model's range, as it was trained on, or one line; NaN stays and scores NaN.

        Args:
            x: images.
            what: the argument, for messages.
            shape: (height, width, channels) of the model.
            value_range: the values that the model maps 0 and 255 to.

        Raises:
            InputError: another shape, type or range; see `judge_images`.
        """
        low, high = value_range
        if x.ndim != 4 or x.shape[1:] != tuple(shape) or x.dtype.kind != "f":
            raise InputError(
                f"{what} expects float images (n, {', '.join(map(str, shape))}), received {x.dtype} "
                f"{x.shape}: pass what preprocess gives"
            )
        if (x < low - 1e-3).any() or (x > high + 1e-3).any():
            raise InputError(
                f"{what} expects float images in [{low:g}, {high:g}], received {np.nanmin(x):g} to "
                f"{np.nanmax(x):g}: pass what preprocess gives"
            )
        warn_of_images(self, x, (low, high), what)
        return x

    def sees_negative(self, low: float) -> bool:
        """Whether training saw values under the middle of a range that begins at `low`, which is under 0."""
        known = self.kind == "float" and self.smallest is not None
        return self.kind == "uint8" or (known and self.smallest < low / 2)

    def _is_unit(self, value_range: tuple[float, float]) -> bool:
        """Whether training saw x / 255 where the model's range reaches below 0."""
        known = self.kind == "float" and self.smallest is not None
        return known and value_range[0] < 0 <= self.smallest <= 0.05 and self.largest > 0.5

    def column_order(self, names: Sequence[str] | None, what: str) -> np.ndarray | None:
        """Positions that bring columns called `names` into the model's order; None where they are in it.

        Args:
            names: of the columns as they come, without a label; None where they have none.
            what: the table, for messages.

        Raises:
            InputError: names that are missing, unknown or twice.
        """
        if self.columns is None:
            return None
        if names is None:
            logger.warning(
                "%s: no column names: taken in the order of training: %s", what, _listed(self.columns)
            )
            return None
        names = tuple(names)
        check_names(names, what)
        position = {name: index for index, name in enumerate(names)}
        missing = [name for name in self.columns if name not in position]
        unknown = [name for name in names if name not in set(self.columns)]
        if missing or unknown:
            received = "; ".join(
                text
                for text in (
                    f"missing: {_listed(missing)}" if missing else "",
                    f"unknown: {_listed(unknown)}" if unknown else "",
                )
                if text
            )
            raise InputError(
                f"{what}: expected the columns of training, {_listed(self.columns)}; received {received}: "
                "rename, add or remove these columns"
            )
        order = np.array([position[name] for name in self.columns], np.int64)
        return None if (order == np.arange(len(order))).all() else order


def warn_of_images(
    identity: Identity, x: np.ndarray, value_range: tuple[float, float], what: str = "samples"
) -> None:
    """`Identity.judge_images`, with a Python warning of what may be wrong."""
    warning = identity.judge_images(x, what, value_range)
    if warning is not None:
        warnings.warn(warning, stacklevel=3)


def check_names(names: Sequence[str], what: str) -> None:
    """Refuses column names of which one stands twice."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InputError(
            f"{what}: expected one column of each name, received {_listed(twice)} twice: rename it"
        )


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
