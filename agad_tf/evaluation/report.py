"""One self-contained HTML file that tells how well a detector finds anomalies, to readers of no paper.

    from agad_tf.evaluation.report import ReportData, write_report
    write_report("report.html", ReportData("screws", labels, scores, summarise(labels, scores)))

Pictures are inside the file; it needs no script and no network. No TensorFlow here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agad_tf.errors import InputError
from agad_tf.evaluation import report_charts as charts
from agad_tf.evaluation.metrics import check_scores
from agad_tf.evaluation.report_page import card, facts, figure, gallery, note, page, section, tile
from agad_tf.evaluation.report_page import escape as e
from agad_tf.evaluation.thresholds import Calibration
from agad_tf.evaluation.wording import PerThousand, auroc_verdict, per_thousand, percent, promise
from agad_tf.files import write_atomically

Explanation = tuple[np.ndarray, np.ndarray, np.ndarray]

METRICS = (
    ("auroc", "AUROC", "how often an anomaly scores above a normal sample, of all pairs; .5 is guessing"),
    ("auroc_known", "AUROC, known classes", "the same for kinds of anomalies of which training saw examples"),
    ("auroc_unseen", "AUROC, unseen classes", "the same for kinds of anomalies that training never saw"),
    ("average_precision", "average precision", "share of alarms that are right, over all thresholds"),
    ("tpr_at_fpr_01", "found at 1 % false alarms", "share of anomalies a threshold could find at that price"),
    ("tpr_at_fpr_05", "found at 5 % false alarms", "share of anomalies a threshold could find at that price"),
    (
        "best_f1",
        "best F1",
        "best balance of finds and false alarms; the threshold is chosen on this very test",
    ),
)


@dataclass(frozen=True)
class ReportData:
    """What a report is made of.

    Attributes:
        title: name of the run.
        labels: (n,), 0 normal and 1 anomaly; one kind alone will do.
        scores: (n,), finite; higher is more anomalous.
        metrics: what `summary.summarise` gives; missing and None entries are shown as not known.
        classes: (n,), index into `class_names`, or None.
        class_names: names of the classes.
        calibration: the threshold, or None.
        explain: gives (inputs, reconstructions, error maps) of some rows, as `heatmaps.reconstruction_grid`
            takes them; None where there are no pictures.
        value_range: of float inputs and reconstructions.
        names: (n,) a name for each sample, its file for instance, or None.
        data: facts about the data, name to text.
        configuration: settings by section.
    """

    title: str
    labels: np.ndarray
    scores: np.ndarray
    metrics: Mapping
    classes: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    calibration: Calibration | None = None
    explain: Callable[[np.ndarray], Explanation] | None = None
    value_range: tuple[float, float] = (-1.0, 1.0)
    names: tuple[str, ...] | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    configuration: Mapping[str, object] = field(default_factory=dict)


def write_report(path: str | Path, data: ReportData) -> None:
    """Writes the report, whole or not at all.

    Raises:
        InputError: labels, scores and classes that do not fit together, a missing folder.
    """
    write_atomically(path, render_report(data).encode("utf-8", "backslashreplace"))


def render_report(data: ReportData) -> str:
    """The report as HTML.

    Raises:
        InputError: labels, scores and classes that do not fit together.
    """
    return _Report(data).html()


class _Report:
    def __init__(self, data: ReportData):
        self.data, self.metrics = data, data.metrics
        self.scores = check_scores(data.scores)
        labels = np.asarray(data.labels)
        if labels.shape != self.scores.shape or not np.isin(labels, (0, 1)).all():
            raise InputError(
                f"Expected one label of 0 or 1 for each of {self.scores.size} scores, received shape "
                f"{labels.shape}, values {np.unique(labels)[:5].tolist()}: give one each."
            )
        for name in ("classes", "names"):
            value = getattr(data, name)
            if value is not None and len(value) != self.scores.size:
                raise InputError(
                    f"Expected {self.scores.size} {name}, one a score, received {len(value)}: align them."
                )
        self.anomaly = labels.astype(bool)
        self.both = 0 < self.anomaly.sum() < self.anomaly.size
        self.threshold = None if data.calibration is None else data.calibration.threshold
        self.alarm = None if self.threshold is None else self.scores > self.threshold

    def html(self) -> str:
        return page(
            self.data.title,
            [
                self._verdict(),
                self._charts(),
                *self._pictures(),
                self._metrics(),
                self._facts(),
            ],
        )

    # -- verdict ---------------------------------------------------------------------------------------------

    def errors_of(self, kind: bool) -> PerThousand | None:
        """False alarms (of normals) or misses (of anomalies); None without a threshold or such samples."""
        rows = self.anomaly == kind
        if self.alarm is None or not rows.any():
            return None
        return per_thousand(int((self.alarm[rows] != kind).sum()), int(rows.sum()))

    def _verdict(self) -> str:
        auroc, interval = self.metrics.get("auroc"), self.metrics.get("auroc_interval")
        normals, anomalies = int((~self.anomaly).sum()), int(self.anomaly.sum())
        if auroc is not None and interval is not None:
            headline = auroc_verdict(auroc, interval)
            low, high = interval
            pairs = (
                "Take one anomaly and one normal sample at random: the anomaly gets the higher score in "
                f"{100 * auroc:.1f} of 100 cases. Between {low:.4f} and {high:.4f} with 95 % confidence."
            )
            tiles = [tile("AUROC", "auroc", auroc, f"{auroc:.4f}", pairs)]
        else:
            only = "anomalies" if anomalies else "normal samples"
            headline = f"This test holds {only} only: how well both are told apart cannot be said."
            if self.both:
                headline = "How well this detector tells anomalies from normal samples is not known."
            tiles = [tile("AUROC", "auroc", None, "not known", "It needs normal samples and anomalies.")]
        if self.threshold is None:
            how = "None was set, so there are no alarms. Choose one with: agad-tf recalibrate RUN --rate 0.05"
            tiles.append(tile("Threshold", "threshold", None, "none", how))
        else:
            how = f"A score above it raises the alarm. It was {promise(self.data.calibration.to_dict())}."
            tiles.append(tile("Threshold", "threshold", self.threshold, f"{self.threshold:.4g}", how))
        for kind, name, metric, of in (
            (False, "False alarms", "false_alarms_per_1000", "normal samples"),
            (True, "Misses", "misses_per_1000", "anomalies"),
        ):
            errors = self.errors_of(kind)
            if errors is None:
                why = "No threshold." if self.threshold is None else f"The test holds no {of}."
                tiles.append(tile(name, metric, None, "not known", why))
                continue
            words = (
                f"expected in 1000 {of}. In this test: {errors.count} of {errors.total}. "
                f"With 95 % confidence {errors.low:.0f} to {errors.high:.0f} in 1000."
            )
            tiles.append(tile(name, metric, errors.expected, f"{errors.expected:.0f}", words))
        counts = f"Tested on {normals} normal samples and {anomalies} anomalies."
        body = (
            f'<p class="headline">{e(headline)}</p><p>{counts}</p><div class="tiles">{"".join(tiles)}</div>'
        )
        return section("Verdict", body + self._warning(), "verdict")

    def _warning(self) -> str:
        """Says so where the test contradicts the rate that the threshold was chosen for."""
        errors, calibration = self.errors_of(False), self.data.calibration
        if errors is None or calibration.false_alarm_rate is None:
            return ""
        if errors.low <= 1000 * calibration.false_alarm_rate:
            return ""
        return note(
            f"There are more false alarms than the {percent(calibration.false_alarm_rate)} that the "
            "threshold was chosen for, and more than chance explains: the normal samples of this test differ "
            "from those it was chosen on. Choose it again on fresh ones: agad-tf recalibrate RUN --normals "
            "FOLDER"
        )

    # -- charts ----------------------------------------------------------------------------------------------

    def _charts(self) -> str:
        parts = [
            figure(
                charts.histogram(self.anomaly, self.scores, self.threshold),
                "Scores of both kinds",
                "Each kind adds up to 100 %. The less the two overlap, the better. What lies right of the "
                "threshold (dashed) raises an alarm.",
            )
        ]
        if self.both:
            point = None
            if self.alarm is not None:
                point = float(self.alarm[~self.anomaly].mean()), float(self.alarm[self.anomaly].mean())
            auroc, precision = self.metrics.get("auroc"), self.metrics.get("average_precision")
            if auroc is not None:
                parts.append(
                    figure(
                        charts.roc(self.anomaly, self.scores, auroc, point),
                        "What a threshold costs (ROC curve)",
                        "Each point is a possible threshold. Good detectors rise steeply on the left: many "
                        "anomalies found for few false alarms.",
                    )
                )
            if precision is not None:
                parts.append(
                    figure(
                        charts.precision_recall(self.anomaly, self.scores, precision, self.threshold),
                        "How far an alarm can be trusted (precision and recall)",
                        "Good detectors stay near the top. It depends on how many anomalies there are: here "
                        f"{percent(float(self.anomaly.mean()))} of the test.",
                    )
                )
        if self.data.classes is not None and self.data.class_names:
            parts.append(self._by_class())
        return section("Scores", f'<div class="charts">{"".join(parts)}</div>')

    def _by_class(self) -> str:
        chart = charts.boxplots(
            self.anomaly,
            self.scores,
            np.asarray(self.data.classes),
            self.data.class_names,
            self.threshold,
        )
        words = (
            "A box holds the middle half of the samples of a class, its black line the middle one, the thin "
            "lines 90 %. Classes whose box reaches to the left of the threshold (dashed) are often missed."
        )
        return figure(chart, "Which kinds are easy, which are hard", words)

    # -- pictures --------------------------------------------------------------------------------------------

    def _pictures(self) -> list[str]:
        if self.data.explain is None:
            return [section("Pictures", "<p>This detector shows no pictures: it redraws no samples.</p>")]
        rng = np.random.default_rng(0)
        at_random = [rng.permutation(np.flatnonzero(self.anomaly == kind))[:4] for kind in (False, True)]
        worst = {kind: self._worst(kind) for kind in (True, False)}
        rows = np.concatenate([*at_random, *(found for found, _ in worst.values())])
        samples, reconstructions, errors = (np.asarray(part) for part in self.data.explain(rows))
        brightest = charts.largest_error(errors)

        cards = {}
        for index, row in enumerate(rows.tolist()):
            picture = charts.strip(
                samples[index], reconstructions[index], errors[index], self.data.value_range, brightest
            )
            name = None if self.data.names is None else self.data.names[row]
            kind, score, verdict = self._describe(row)
            cards[row] = card(picture, kind, score, verdict, name, bool(self.anomaly[row]))
        sections = [
            section(
                "What the detector sees",
                f"<p>{self._explanation()} The samples below were picked at random.</p>"
                + _error_scale()
                + "".join(
                    f"<h3>{name}</h3>" + gallery(cards[row] for row in picked)
                    for name, picked in zip(("Normal samples", "Anomalies"), at_random, strict=True)
                    if picked.size
                ),
            )
        ]
        for kind, title in ((True, "Worst misses"), (False, "Worst false alarms")):
            found, words = worst[kind]
            if found.size:
                sections.append(section(title, f"<p>{words}</p>" + gallery(cards[row] for row in found)))
        return sections

    def _explanation(self) -> str:
        words = (
            "The detector was taught to redraw normal samples, and them only. Where the redrawn picture "
            "differs from the given one the error is bright: there the sample looks unusual."
        )
        if self.metrics.get("score") in (None, "reconstruction"):
            return words
        return (
            f"{words} The score also counts how unusual a second network finds the sample as a whole, which "
            "no error picture shows."
        )

    def _worst(self, kind: bool, most: int = 8) -> tuple[np.ndarray, str]:
        """Rows of the worst errors on anomalies (True) or normals (False), and what to say about them."""
        rows = np.flatnonzero(self.anomaly == kind)
        rows = rows[np.argsort(self.scores[rows] if kind else -self.scores[rows], kind="stable")]
        what, look = ("anomalies", "normal") if kind else ("normal samples", "anomalous")
        if self.alarm is None:
            return rows[:most], f"No threshold was set; these are the {what} that look most {look} to it."
        wrong = rows[self.alarm[rows] != kind]
        verb = "were missed" if kind else "raised a false alarm"
        if not wrong.size:
            return rows[:4], f"None: no {what} {verb}. These came nearest to it."
        shown = "Worst first." if wrong.size <= most else f"The worst {most}, worst first."
        return wrong[:most], f"{wrong.size} of {rows.size} {what} {verb}. {shown}"

    def _describe(self, row: int) -> tuple[str, str, str]:
        """Kind, score and verdict of a sample in words."""
        kind = "anomaly" if self.anomaly[row] else "normal"
        if self.data.classes is not None and self.data.class_names:
            name = self.data.class_names[int(self.data.classes[row])]
            kind = kind if name == kind else f"{kind}, class {name}"
        verdict = ""
        if self.alarm is not None:
            verdict = {
                (False, False): "passed",
                (True, True): "alarm",
                (False, True): "FALSE ALARM",
                (True, False): "MISSED",
            }[bool(self.anomaly[row]), bool(self.alarm[row])]
        return kind, f"{self.scores[row]:.4g}", verdict

    # -- tables ----------------------------------------------------------------------------------------------

    def _metrics(self) -> str:
        entries = []
        for name, title, meaning in METRICS:
            value, interval = self.metrics.get(name), self.metrics.get(f"{name}_interval")
            if value is None:
                text = "not known"
            elif interval is None:
                text = f"{value:.4f}"
            else:
                text = f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"
            entries.append((title, text, meaning))
        method = self.metrics.get("interval_method")
        words = "<p>In brackets the 95 % interval.</p>"
        if method:
            words += f"<p>How it was computed: {e(method.removeprefix('95 %; '))}.</p>"
        return section("All figures", facts(entries) + words)

    def _facts(self) -> str:
        parts = [facts((name, value, "") for name, value in self.data.data.items())]
        for name, values in self.data.configuration.items():
            if isinstance(values, Mapping):
                parts.append(f"<h3>{e(name)}</h3>" + facts((key, value, "") for key, value in values.items()))
            else:
                parts.insert(1, facts([(name, values, "")]))
        return section("Data and configuration", f'<div class="columns">{"".join(parts)}</div>')


def _error_scale() -> str:
    return (
        '<p class="scale">error: none <img alt="from black through violet and orange to yellow" '
        f'src="{charts.error_scale()}"> largest; one scale for all pictures</p>'
    )
