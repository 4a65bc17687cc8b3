"""What the pictures of an evaluation share: colours, words for numbers, legends, PNG files.

Matplotlib's Agg canvas, without pyplot and without a display; no TensorFlow. Files are written atomically.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from agad_tf.errors import InputError
from agad_tf.files import write_atomically

# Told apart by most colour-blind readers; each is also named in words in the picture.
NORMAL, ANOMALY, GREY = "#0b5fa5", "#b3261e", "#555555"


class Palette(NamedTuple):
    """Colours of a chart."""

    normal: str
    anomaly: str
    grey: str
    text: str


LIGHT = Palette(NORMAL, ANOMALY, GREY, "#1b1f24")
DARK = Palette("#6cb6ff", "#ff8f85", "#8b949e", "#e6e9ed")


def check_labels(labels: ArrayLike, count: int) -> np.ndarray:
    """bool (count,), whether each sample is an anomaly; or InputError."""
    array = np.asarray(labels)
    if array.shape != (count,) or not np.isin(array, (0, 1)).all():
        raise InputError(
            f"Expected {count} labels of 0 (normal) or 1 (anomaly), received shape "
            f"{array.shape}, values {np.unique(array)[:5].tolist()}: give one each."
        )
    return array.astype(bool)


def save_png(figure: Figure, path: str | Path) -> None:
    """Writes a figure."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def short_number(number: float) -> str:
    """Four digits, or more where they are whole."""
    return f"{number:.0f}" if 1000 <= abs(number) < 1e7 else f"{number:.4g}"


def legend_above(axes: Axes, fontsize: float = 9) -> None:
    """Puts the legend over the axes, where it covers nothing."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, fontsize=fontsize,
        borderaxespad=0.2, handlelength=1.4, columnspacing=1.0,
    )  # fmt: skip
