"""Score histograms of normals and anomalies, with the threshold and what it gets wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from agad_tf.errors import InputError
from agad_tf.evaluation.drawing import LIGHT, Palette, check_labels, legend_above, save_png, short_number
from agad_tf.evaluation.metrics import check_scores


def score_histogram(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float | None,
    path: str | Path,
    *,
    bins: int = 40,
    dpi: int = 110,
) -> None:
    """Writes a PNG with the score histograms of normals and anomalies, the threshold and what it gets wrong.

    Each histogram counts in per cent of its own kind, so that a few anomalies are seen beside many normals.
    Scores far out (above the middle 95 % by more than three times its span) are counted in the last bar.

    Args:
        labels: (n,), 0 normal or 1 anomaly; one kind alone will do.
        scores: (n,), higher is more anomalous.
        threshold: alarm when score > threshold; None draws none.
        path: the PNG to write.
        bins: number of bars, 2 or more.
        dpi: dots per inch of the 8 x 4.2 inch picture.

    Raises:
        InputError: labels or scores that do not fit, ``bins`` under 2, threshold not finite, missing folder.
    """
    values = check_scores(scores)
    anomaly = check_labels(labels, values.size)
    if bins < 2:
        raise InputError(f"Expected at least 2 bins, received {bins}: take 40.")
    figure = Figure(figsize=(8, 4.2), dpi=dpi, layout="constrained")
    axes = figure.add_subplot()
    draw_score_histogram(axes, anomaly, values, threshold, bins)
    if threshold is not None:
        axes.set_title(_decision_words(anomaly, values > threshold), fontsize=10, loc="left")
    save_png(figure, path)


def draw_score_histogram(
    axes: Axes,
    anomaly: np.ndarray,
    values: np.ndarray,
    threshold: float | None,
    bins: int = 40,
    fontsize: float = 9,
    palette: Palette = LIGHT,
) -> None:
    """Draws what `score_histogram` shows, without its title, on matplotlib axes.

    Args:
        axes: to draw on.
        anomaly: bool (n,).
        values: float64 (n,), finite scores.
        threshold, bins: as in `score_histogram`.
        fontsize: of the legend, which stands above the axes.
        palette: colours.
    """
    marks = values if threshold is None else np.append(values, check_scores([threshold], "threshold"))
    low, high = float(marks.min()), float(marks.max())
    start, end = np.quantile(values, (0.025, 0.975))
    far = max(end + 3 * (end - start), marks[-1] if threshold is not None else end)
    cut = far if end > start and far < high else None
    edges = np.linspace(low, cut or high, bins + 1) if high > low else np.array([low - 0.5, low + 0.5])
    for kind, name, colour in (
        (False, "normal samples", palette.normal),
        (True, "anomalies", palette.anomaly),
    ):
        part = values[anomaly == kind]
        if part.size:
            axes.hist(
                np.minimum(part, edges[-1]),
                edges,
                weights=np.full(part.size, 100 / part.size),
                color=colour,
                alpha=0.55,
                edgecolor=colour,
                linewidth=0.6,
                hatch="///" if kind else None,
                label=f"{name} ({part.size})",
            )
    if threshold is not None:
        axes.axvline(
            threshold,
            color=palette.text,
            linestyle="--",
            linewidth=1.4,
            label=f"threshold {short_number(threshold)}",
        )
    axes.set_xlabel(
        "score (higher = more anomalous)"
        + ("" if cut is None else f"; scores above {cut:.3g} are counted in the last bar")
    )
    axes.set_ylabel("% of its kind")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= min(100, axes.get_ylim()[1])])
    legend_above(axes, fontsize)


def _decision_words(anomaly: np.ndarray, alarm: np.ndarray) -> str:
    words = []
    for kind, wrong, name in (
        (False, alarm, "False alarms: {} of {} normal samples"),
        (True, ~alarm, "Missed: {} of {} anomalies"),
    ):
        total, count = int(np.sum(anomaly == kind)), int(np.sum(wrong[anomaly == kind]))
        if total:
            words.append(f"{name.format(count, total)} ({100 * count / total:.1f} %)")
    return "\n".join(words)
