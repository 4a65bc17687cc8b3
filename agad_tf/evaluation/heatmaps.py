"""Pictures of what a detector sees: reconstructions with error maps, overlays, outlines.

Matplotlib's Agg canvas, without pyplot and without a display; no TensorFlow. Files are written atomically.

    from agad_tf.evaluation.heatmaps import reconstruction_grid
    reconstruction_grid(x, reconstructions, error_maps, y, scores, path="reconstructions.png")
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from agad_tf.errors import InputError
from agad_tf.evaluation.drawing import ANOMALY, GREY, NORMAL, check_labels, save_png, short_number
from agad_tf.evaluation.histograms import score_histogram
from agad_tf.evaluation.metrics import check_scores, check_share
from agad_tf.evaluation.regions import outline

__all__ = ["as_pictures", "draw_outlines", "overlay", "reconstruction_grid", "score_histogram"]

ERROR_COLOURS = "inferno"
FOUND, MASK = (0, 180, 216), (123, 211, 0)
"""RGB of the outlines of what a detector marks, and of what a mask marks."""


def as_pictures(
    images: ArrayLike, value_range: tuple[float, float] = (-1.0, 1.0), name: str = "images"
) -> np.ndarray:
    """Images as float32 RGB in [0, 1], shape (n, height, width, 3).

    Args:
        images: (n, height, width), (n, height, width, 1) or (n, height, width, 3); uint8, or float in
            ``value_range``.
        value_range: (darkest, brightest) value of float images.
        name: what to call them in an error.

    Raises:
        InputError: another shape, not finite, or float values outside of ``value_range``.
    """
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise InputError(
            f"Expected {name} of shape (n, height, width, 1 or 3), received {np.shape(images)}: "
            "give grey or RGB images with n >= 1."
        )
    low, high = (0.0, 255.0) if array.dtype == np.uint8 else value_range
    array = array.astype(np.float32)
    # Written so that a NaN fails it too.
    if not (array.min() >= low - 1e-3 and array.max() <= high + 1e-3):
        raise InputError(
            f"Expected {name} as uint8 or as floats from {low:g} to {high:g}, received values "
            f"from {array.min():g} to {array.max():g}: scale them or pass value_range."
        )
    pictures = np.clip((array - low) / (high - low), 0, 1)
    return np.broadcast_to(pictures, (*pictures.shape[:3], 3))


def _check_maps(error_maps: ArrayLike, name: str = "error_maps") -> np.ndarray:
    """Error maps as float64 (n, height, width): mean over channels where there are any."""
    array = np.asarray(error_maps, dtype=np.float64)
    if array.ndim == 4:
        array = array.mean(axis=-1)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(
            f"Expected {name} of shape (n, height, width), received {np.shape(error_maps)}: "
            "give one map per image."
        )
    if not np.isfinite(array).all() or array.min() < 0:
        raise InputError(
            f"Expected finite {name} of 0 or more, received NaN, infinite or negative values: "
            "give absolute or squared errors."
        )
    return array


def _verdict(anomaly: bool, score: float, threshold: float | None) -> tuple[str, str]:
    """Caption under a sample and its colour."""
    if threshold is None:
        return f"score {short_number(score)}", GREY
    alarm = bool(score > threshold)
    word = {
        (False, False): "passed",
        (True, True): "alarm",
        (False, True): "FALSE ALARM",
        (True, False): "MISSED",
    }[anomaly, alarm]
    return f"score {short_number(score)}\n{word}", GREY if alarm == anomaly else ANOMALY


def reconstruction_grid(
    inputs: ArrayLike,
    reconstructions: ArrayLike,
    error_maps: ArrayLike,
    labels: ArrayLike,
    scores: ArrayLike | None = None,
    *,
    path: str | Path,
    threshold: float | None = None,
    columns: int = 8,
    value_range: tuple[float, float] = (-1.0, 1.0),
    dpi: int = 110,
) -> None:
    """Writes a PNG of samples in columns: input, reconstruction, error map; normals above, anomalies below.

    All error maps share one colour scale, from 0 to the 99.8th percentile of the pixels shown.

    Args:
        inputs: (n, height, width[, 1 or 3]), uint8 or float in ``value_range``; any size.
        reconstructions: as ``inputs``, of the same or another size.
        error_maps: (n, height, width[, channels]), >= 0; channels are averaged.
        labels: (n,), 0 normal or 1 anomaly; one kind alone is drawn as one block.
        scores: (n,), written under the samples; higher is more anomalous.
        path: the PNG to write.
        threshold: alarm when score > threshold; each score is then followed by passed, alarm, FALSE ALARM or
            MISSED.
        columns: samples of each kind to draw, the first ones in the given order.
        value_range: (darkest, brightest) value of float images.
        dpi: dots per inch; a sample is 1 to 1.5 inches wide.

    Raises:
        InputError: shapes, lengths or values that do not fit, ``columns`` under 1, missing folder.
    """
    pictures = [
        as_pictures(inputs, value_range, "inputs"),
        as_pictures(reconstructions, value_range, "reconstructions"),
        _check_maps(error_maps),
    ]
    count = len(pictures[0])
    anomaly = check_labels(labels, count)
    values = None if scores is None else check_scores(scores)
    lengths = [len(part) for part in pictures] + ([] if values is None else [len(values)])
    if set(lengths) != {count}:
        raise InputError(
            "Expected inputs, reconstructions, error_maps and scores of one length, received "
            f"{', '.join(map(str, lengths))}: give one of each per sample."
        )
    if columns < 1:
        raise InputError(f"Expected at least 1 column, received {columns}: take 8.")

    blocks = [(kind, np.flatnonzero(anomaly == kind)[:columns]) for kind in (False, True)]
    blocks = [(kind, rows) for kind, rows in blocks if rows.size]
    shown = pictures[2][np.concatenate([rows for _, rows in blocks])]
    top = float(np.quantile(shown, 0.998)) or float(shown.max()) or 1.0

    # In inches: one cell per sample, room for words on the left and for the colour bar on the right.
    across = max(rows.size for _, rows in blocks)
    gap, left, right = 0.08, 1.45, 1.15
    cell = float(np.clip((7.4 - left - right) / across - gap, 1.0, 1.5))
    cell_height = cell * float(np.clip(pictures[0].shape[1] / pictures[0].shape[2], 0.4, 2.5))
    width = max(7.4, left + right + across * (cell + gap))
    caption = 0.12 if values is None else 0.26 if threshold is None else 0.42
    header, title, between = 0.98, 0.42, 0.18
    block_height = title + 3 * (cell_height + gap) + caption
    height = header + len(blocks) * block_height + between * (len(blocks) - 1) + 0.1
    figure = Figure(figsize=(width, height), dpi=dpi)

    def text(x: float, y: float, words: str, **style) -> None:
        figure.text(x / width, 1 - y / height, words, **style)

    text(0.15, 0.16, "What the detector sees", fontsize=14, weight="bold", va="top")
    text(0.15, 0.45, _explanation(values is not None, threshold), fontsize=9, va="top", color="#333333")
    row_words = (
        ("Input", "what was given"),
        ("Reconstruction", "redrawn by the model"),
        ("Error", "difference of the two"),
    )
    bar_left, y = left + across * (cell + gap) + 0.1, header
    for block, (kind, rows) in enumerate(blocks):
        colour = ANOMALY if kind else NORMAL
        if block:
            ends, level = (0.15 / width, (bar_left - 0.18) / width), 1 - (y + 0.03) / height
            figure.add_artist(Line2D(ends, (level, level), color="#bbbbbb", linewidth=0.8))
            y += between
        words = "ANOMALIES: the samples to be found" if kind else "NORMAL samples: the good ones"
        text(0.15, y + 0.08, words, fontsize=11, weight="bold", color=colour, va="top")
        y += title
        for part, (name, meaning) in enumerate(row_words):
            middle = y + cell_height / 2
            text(left - 0.12, middle - 0.01, name, fontsize=10, weight="bold", ha="right", va="bottom")
            text(left - 0.12, middle + 0.03, meaning, fontsize=7.5, ha="right", va="top", color=GREY)
            for column, row in enumerate(rows):
                x = left + column * (cell + gap)
                axes = figure.add_axes(
                    (x / width, 1 - (y + cell_height) / height, cell / width, cell_height / height)
                )
                style = {"cmap": ERROR_COLOURS, "vmin": 0, "vmax": top} if part == 2 else {}
                drawn = axes.imshow(pictures[part][row], interpolation="nearest", aspect="auto", **style)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(color=colour, linewidth=1)
                if part == 2 and values is not None:
                    words, verdict_colour = _verdict(kind, values[row], threshold)
                    axes.set_xlabel(words, fontsize=8, color=verdict_colour, labelpad=3)
            y += cell_height + gap
        y += caption
    bar_top, bar_bottom = header + title, y - caption - gap
    bar = figure.add_axes(
        (bar_left / width, 1 - bar_bottom / height, 0.16 / width, (bar_bottom - bar_top) / height)
    )
    colour_bar = figure.colorbar(drawn, cax=bar, extend="max" if shown.max() > top else "neither")
    colour_bar.set_label("error per pixel\n(0 = redrawn perfectly)", fontsize=8)
    colour_bar.ax.tick_params(labelsize=7.5)
    save_png(figure, path)


def _explanation(scored: bool, threshold: float | None) -> str:
    words = "The model has learnt to redraw normal samples. Where it cannot redraw one, the error is bright."
    if scored:
        words += "\nThe score says how unusual the whole sample is: the higher, the more anomalous."
    return words if not scored or threshold is None else f"{words} Alarm above {short_number(threshold)}."


def overlay(
    image: ArrayLike,
    error_map: ArrayLike,
    maximum: float | None = None,
    strength: float = 0.85,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> np.ndarray:
    """Lays an error map over its image, turned grey: from clear (no error) through red to yellow (largest).

    Args:
        image: (height, width), (height, width, 1) or (height, width, 3); uint8, or float in ``value_range``.
        error_map: (height, width) or (height, width, channels), >= 0, of the same size.
        maximum: error drawn at full strength; give the same one to compare images. None: the map's own.
        strength: opacity of the largest error, above 0 and up to 1.
        value_range: (darkest, brightest) value of a float image.

    Returns:
        uint8 (height, width, 3).

    Raises:
        InputError: shapes that do not fit, values out of range.
    """
    picture = as_pictures(np.asarray(image)[np.newaxis], value_range, "image")[0]
    errors = _check_maps(np.asarray(error_map)[np.newaxis], "error_map")[0]
    if errors.shape != picture.shape[:2]:
        raise InputError(
            f"Expected image and error_map of one size, received {picture.shape[:2]} and "
            f"{errors.shape}: resize the map."
        )
    check_share(strength, "strength", upper_included=True)
    if maximum is not None and not maximum > 0:
        raise InputError(f"Expected maximum above 0, received {maximum}: leave it out for the map's own.")
    share = np.clip(errors / (maximum or errors.max() or 1.0), 0, 1)[..., np.newaxis]
    grey = picture @ np.float32([0.299, 0.587, 0.114])
    colour = colormaps["autumn"](share[..., 0])[..., :3]
    mixed = (1 - strength * share) * grey[..., np.newaxis] + strength * share * colour
    return np.rint(255 * mixed).astype(np.uint8)


def draw_outlines(
    picture: np.ndarray, found: np.ndarray, mask: np.ndarray | None = None, thickness: int | None = None
) -> np.ndarray:
    """Outlines what a detector marks and, where there is one, what the mask of the defect marks.

    Args:
        picture: uint8 (height, width, 3).
        found: bool (height, width).
        mask: bool (height, width), or None.
        thickness: of the lines in pixels; None: 1 for each 240 of the longer side.

    Returns:
        uint8 (height, width, 3), a copy.
    """
    drawn = picture.copy()
    thickness = thickness or max(1, round(max(picture.shape[:2]) / 240))
    if mask is not None:
        drawn[outline(mask, thickness)] = MASK
    drawn[outline(found, thickness)] = FOUND
    return drawn
