"""Pictures of many samples side by side."""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from agad_tf.errors import InputError
from agad_tf.evaluation.heatmaps import as_pictures
from agad_tf.files import write_atomically


def tiles(
    images: ArrayLike,
    path: str | Path,
    columns: int = 8,
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    title: str | None = None,
    dpi: int = 110,
) -> None:
    """Writes a PNG of images in rows of `columns`, for instance of what a generator makes of noise.

    Args:
        images: (n, height, width[, 1 or 3]), uint8 or float in `value_range`.
        path: the PNG to write.
        columns: images a row, at least 1.
        value_range: (darkest, brightest) value of float images.
        title: words above, or None.
        dpi: dots per inch; an image is 0.8 inches wide.

    Raises:
        InputError: shapes or values that do not fit, `columns` under 1.
    """
    if columns < 1:
        raise InputError(f"tiles expects at least 1 column, received {columns}: take 8")
    pictures = as_pictures(images, value_range, "images")
    rows = -(-len(pictures) // columns)
    height, width = pictures.shape[1:3]
    gap = max(1, width // 16)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, *pictures.shape[3:]))
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    size = 0.8 * columns, 0.8 * columns * sheet.shape[0] / sheet.shape[1]
    above = 0.35 if title else 0.0
    figure = Figure(figsize=(size[0], size[1] + above), dpi=dpi)
    axes = figure.add_axes((0, 0, 1, size[1] / (size[1] + above)))
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    if title:
        figure.text(0.02, 1 - 0.1 / (size[1] + above), title, va="top", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
