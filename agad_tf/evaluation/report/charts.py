"""The charts of the report, each drawn for a light and for a dark page.

No name from outside is drawn here: Matplotlib would read some as formulas.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from agad_tf.evaluation.drawing import DARK, LIGHT, Palette, legend_above
from agad_tf.evaluation.histograms import draw_score_histogram
from agad_tf.evaluation.report.findings import Findings
from agad_tf.evaluation.wording import in_percent, percent

WIDTH, HEIGHT = 3.9, 3.1
"""Inches of a chart; small, so that its letters stay readable on a phone."""


@dataclass(frozen=True)
class Chart:
    """A chart as two data URIs, with its title, the text that stands for it, and its caption."""

    title: str
    light: str
    dark: str
    alt: str
    caption: str


def draw_all(findings: Findings) -> list[Chart]:
    """The charts that the test allows."""
    charts = [_histogram(findings)]
    if findings.both and findings.metrics.get("auroc") is not None:
        charts.append(_roc(findings))
    if findings.both and findings.metrics.get("average_precision") is not None:
        charts.append(_precision_recall(findings))
    return charts


def _histogram(findings: Findings) -> Chart:
    anomaly, scores, threshold = findings.anomaly, findings.scores, findings.threshold

    def draw(axes: Axes, palette: Palette) -> None:
        draw_score_histogram(axes, anomaly, scores, threshold, 30, 7.5, palette)
        axes.set_xlabel(axes.get_xlabel().replace("; ", "\n"))

    alt = "Histogram of scores. " + " ".join(
        f"{name}: {part.size} samples, middle score {np.median(part):.4g}, "
        f"from {part.min():.4g} to {part.max():.4g}."
        for name, part in (("Normal samples", scores[~anomaly]), ("Anomalies", scores[anomaly]))
        if part.size
    )
    return _chart(
        "Scores of both kinds",
        draw,
        alt + ("" if threshold is None else f" Threshold at {threshold:.4g}."),
        "Each kind adds up to 100 %. The less the two overlap, the better. What lies right of the threshold "
        "(dashed) raises an alarm.",
    )


def _roc(findings: Findings) -> Chart:
    false_alarms, found, _ = roc_curve(findings.anomaly, findings.scores)
    point = None
    if findings.alarm is not None:
        point = (
            float(findings.alarm[~findings.anomaly].mean()),
            float(findings.alarm[findings.anomaly].mean()),
        )

    def draw(axes: Axes, palette: Palette) -> None:
        axes.plot([0, 100], [0, 100], color=palette.grey, linewidth=1, linestyle=":", label="guessing")
        axes.plot(100 * false_alarms, 100 * found, color=palette.normal, linewidth=1.8, label="this detector")
        if point is not None:
            _mark(axes, palette, *point)
        axes.set(xlabel="false alarms, % of normals", ylabel="anomalies found, %")
        _finish(axes)

    at = (
        ""
        if point is None
        else f" At the threshold {point[1]:.1%} are found with {point[0]:.1%} false alarms."
    )
    area = in_percent(findings.metrics["auroc"])
    return _chart(
        "What a threshold costs (ROC curve)",
        draw,
        f"ROC curve: anomalies found against false alarms. Area {area}; guessing 50.{at}",
        "Each point is a possible threshold. Good detectors rise steeply on the left: many anomalies found "
        "for few false alarms.",
    )


def _precision_recall(findings: Findings) -> Chart:
    anomaly, alarm = findings.anomaly, findings.alarm
    precision, recall, _ = precision_recall_curve(anomaly, findings.scores, drop_intermediate=True)
    share = float(anomaly.mean())
    point = None
    if alarm is not None and alarm.any():
        point = float(alarm[anomaly].mean()), float(anomaly[alarm].mean())

    def draw(axes: Axes, palette: Palette) -> None:
        style = {"linewidth": 1.8, "drawstyle": "steps-post", "label": "this detector"}
        axes.axhline(100 * share, color=palette.grey, linewidth=1, linestyle=":", label="guessing")
        axes.plot(100 * recall, 100 * precision, color=palette.normal, **style)
        if point is not None:
            _mark(axes, palette, *point)
        axes.set(xlabel="anomalies found, %", ylabel="alarms that are right, %")
        _finish(axes)

    at = ""
    if point is not None:
        found, right = (f"{share:.1%}" for share in point)
        at = f" At the threshold {right} of the alarms are right and {found} of the anomalies found."
    area = in_percent(findings.metrics["average_precision"])
    return _chart(
        "How far an alarm can be trusted (precision and recall)",
        draw,
        "Precision-recall curve: alarms that are right against anomalies found. "
        f"Average precision {area}; guessing {in_percent(share)}.{at}",
        "Good detectors stay near the top. It depends on how many anomalies there are: here "
        f"{percent(round(share, 3))} of the test.",
    )


def _mark(axes: Axes, palette: Palette, x: float, y: float) -> None:
    axes.plot(
        [100 * x],
        [100 * y],
        "o",
        color=palette.text,
        markersize=6,
        label="at the threshold",
        zorder=5,
        clip_on=False,
    )


def _finish(axes: Axes) -> None:
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    legend_above(axes, 7.5)


def _chart(title: str, draw, alt: str, caption: str) -> Chart:
    return Chart(title, _svg(draw, LIGHT), _svg(draw, DARK), alt, caption)


def _svg(draw, palette: Palette) -> str:
    # Letters as shapes: the picture looks the same whatever fonts the reader has.
    texts = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style = {
        "svg.fonttype": "path", "svg.hashsalt": "agad_tf", "text.parse_math": False,
        **dict.fromkeys(texts, palette.text),
        "axes.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False,
        "axes.labelsize": 8.5, "xtick.labelsize": 8, "ytick.labelsize": 8,
    }  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot(), palette)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
