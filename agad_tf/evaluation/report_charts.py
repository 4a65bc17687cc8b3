"""The charts and pictures of the report, each as a data URI with the text that stands for it."""

from __future__ import annotations

import base64
import io
import math
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_curve

from agad_tf.evaluation.heatmaps import (
    ANOMALY,
    ERROR_COLOURS,
    GREY,
    NORMAL,
    as_pictures,
    draw_score_histogram,
)

MOST_CLASSES = 30
"""Box plots drawn at most; with more classes, those whose anomalies are hardest to tell from normals."""

WIDTH, HEIGHT = 3.7, 2.8
"""Inches of a chart; small, so that its letters stay readable on a phone."""


class Chart(NamedTuple):
    """A picture for an `img` element."""

    uri: str
    alt: str


def histogram(anomaly: np.ndarray, scores: np.ndarray, threshold: float | None) -> Chart:
    """Score histograms of both kinds with the threshold."""
    figure, axes = _axes()
    draw_score_histogram(axes, anomaly, scores, threshold, bins=30, fontsize=7.5)
    if axes.get_xlabel().count(";"):
        axes.set_xlabel(axes.get_xlabel().replace("; ", "\n"))
    alt = "Histogram of scores. " + " ".join(
        f"{name}: {part.size} samples, middle score {np.median(part):.4g}, "
        f"from {part.min():.4g} to {part.max():.4g}."
        for name, part in (("Normal samples", scores[~anomaly]), ("Anomalies", scores[anomaly]))
        if part.size
    )
    return _svg(figure, alt + ("" if threshold is None else f" Threshold at {threshold:.4g}."))


def roc(anomaly: np.ndarray, scores: np.ndarray, auroc: float, point: tuple[float, float] | None) -> Chart:
    """ROC curve.

    Args:
        anomaly: bool (n,), both kinds.
        scores: (n,).
        auroc: its area.
        point: (false-alarm rate, share of anomalies found) at the threshold.
    """
    false_alarms, found, _ = roc_curve(anomaly, scores)
    figure, axes = _axes()
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=":", label="guessing")
    axes.plot(100 * false_alarms, 100 * found, color=NORMAL, linewidth=1.8, label="this detector")
    if point is not None:
        _mark(axes, 100 * point[0], 100 * point[1])
    axes.set(xlabel="false alarms, % of normals", ylabel="anomalies found, %")
    _in_percent(axes, "lower right")
    at = (
        ""
        if point is None
        else f" At the threshold {point[1]:.1%} are found with {point[0]:.1%} false alarms."
    )
    return _svg(
        figure, f"ROC curve: anomalies found against false alarms. Area {auroc:.4f}; guessing .5.{at}"
    )


def precision_recall(anomaly: np.ndarray, scores: np.ndarray, area: float, threshold: float | None) -> Chart:
    """Precision-recall curve; `area` is the average precision."""
    precision, recall, _ = precision_recall_curve(anomaly, scores, drop_intermediate=True)
    share = float(anomaly.mean())
    figure, axes = _axes()
    axes.axhline(100 * share, color=GREY, linewidth=1, linestyle=":", label="guessing")
    axes.plot(
        100 * recall,
        100 * precision,
        color=NORMAL,
        linewidth=1.8,
        drawstyle="steps-post",
        label="this detector",
    )
    at = ""
    if threshold is not None and (scores > threshold).any():
        alarm = scores > threshold
        right, found = float(anomaly[alarm].mean()), float(alarm[anomaly].mean())
        _mark(axes, 100 * found, 100 * right)
        at = f" At the threshold {right:.1%} of the alarms are right and {found:.1%} of the anomalies found."
    axes.set(xlabel="anomalies found, %", ylabel="alarms that are right, %")
    _in_percent(axes, "lower left")
    alt = (
        "Precision-recall curve: alarms that are right against anomalies found. "
        f"Average precision {area:.4f}; guessing {share:.4f}.{at}"
    )
    return _svg(figure, alt)


def boxplots(
    anomaly: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    class_names: tuple[str, ...],
    threshold: float | None,
) -> Chart:
    """Scores by class: normal classes on top, then anomalies from the most to the least normal-looking."""
    groups = []
    for kind in (False, True):
        rows = anomaly == kind
        found = [(int(c), scores[rows & (classes == c)]) for c in np.unique(classes[rows])]
        groups += sorted(
            ((kind, class_names[c], part) for c, part in found), key=lambda group: np.median(group[2])
        )
    left_out = max(0, len(groups) - MOST_CLASSES)
    groups = groups[:MOST_CLASSES]
    figure, axes = _axes(max(HEIGHT, 0.75 + 0.2 * len(groups)))
    drawn = axes.boxplot(
        [part for _, _, part in groups],
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        widths=0.6,
        patch_artist=True,
    )
    for index, (kind, _, _) in enumerate(groups):
        colour = ANOMALY if kind else NORMAL
        drawn["boxes"][index].set(facecolor=colour, alpha=0.55, edgecolor=colour)
        drawn["medians"][index].set(color="black", linewidth=1.3)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2)
    names = [f"{_short_name(name)}{'' if kind else ' (normal)'}" for kind, name, _ in groups]
    axes.set_yticks(range(1, len(groups) + 1), names)
    axes.invert_yaxis()
    axes.set_xlabel("score (higher = more anomalous)")
    axes.spines[["top", "right"]].set_visible(False)
    parts = "; ".join(
        f"{name} {np.median(part):.4g}" for name, (_, _, part) in zip(names, groups, strict=True)
    )
    alt = f"Box plots of scores by class. Middle scores: {parts}."
    return _svg(figure, alt + (f" {left_out} easier classes are not drawn." if left_out else ""))


def largest_error(error_maps: np.ndarray) -> float:
    """The error drawn at full brightness in all pictures of a report: the 99.8th percentile."""
    return float(np.quantile(error_maps, 0.998)) or float(error_maps.max()) or 1.0


def strip(
    sample: np.ndarray,
    reconstruction: np.ndarray,
    error: np.ndarray,
    value_range: tuple[float, float],
    brightest: float,
) -> str:
    """Input, reconstruction and error map side by side, as a PNG data URI.

    Args:
        sample: (height, width, 1 or 3).
        reconstruction: the same shape.
        error: (height, width), >= 0.
        value_range: (darkest, brightest) value of sample and reconstruction.
        brightest: error drawn at full brightness.
    """
    tiles = [as_pictures(image[np.newaxis], value_range)[0] for image in (sample, reconstruction)]
    tiles.append(colormaps[ERROR_COLOURS](np.clip(error / brightest, 0, 1))[..., :3].astype(np.float32))
    height, width = error.shape
    # Small images are enlarged with sharp pixels, large ones shrunk: a tile is 96 to 192 pixels wide.
    factor = max(1, math.ceil(96 / width)) if width < 192 else 192 / width
    size = (round(width * factor), round(height * factor))
    gap = 4
    canvas = Image.new("RGB", (3 * size[0] + 2 * gap, size[1]), "white")
    for index, tile in enumerate(tiles):
        image = Image.fromarray(np.rint(255 * tile).astype(np.uint8))
        how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
        canvas.paste(image.resize(size, how), (index * (size[0] + gap), 0))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True)
    return _uri(buffer.getvalue(), "image/png")


def error_scale() -> str:
    """The colours of the error maps from none to largest, as a PNG data URI."""
    colours = colormaps[ERROR_COLOURS](np.linspace(0, 1, 128))[np.newaxis, :, :3]
    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * colours).astype(np.uint8)).resize((128, 8)).save(buffer, "PNG")
    return _uri(buffer.getvalue(), "image/png")


def _axes(height: float = HEIGHT):
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_size(8.5)
    axes.yaxis.label.set_size(8.5)
    return figure, axes


def _in_percent(axes, legend: str) -> None:
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7.5, loc=legend)


def _mark(axes, x: float, y: float) -> None:
    axes.plot([x], [y], "o", color="black", markersize=6, label="at the threshold", zorder=5, clip_on=False)


def _short_name(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def _svg(figure: Figure, alt: str) -> Chart:
    buffer = io.BytesIO()
    FigureCanvasSVG(figure)
    # Letters as shapes: the picture looks the same whatever fonts the reader has.
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "agad_tf"}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return Chart(_uri(buffer.getvalue(), "image/svg+xml"), alt)


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
