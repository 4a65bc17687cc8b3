"""One self-contained HTML file that tells how well a detector finds anomalies, to readers of no paper.

    from agad_tf.evaluation.report import write_report
    write_report("report.html", evaluation, title="screws")

`agad_tf.training.evaluate.judge` makes the evaluation.

Pictures are inside the file; it needs no script and no network. No TensorFlow here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from agad_tf.errors import InputError
from agad_tf.evaluation import report_charts as charts
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.metrics import check_scores
from agad_tf.evaluation.report_page import card, facts, figure, gallery, note, page, section, tile
from agad_tf.evaluation.report_page import escape as e
from agad_tf.evaluation.wording import PerThousand, auroc_verdict, per_thousand, percent, promise
from agad_tf.files import write_atomically

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


def write_report(
    path: str | Path, evaluation: Evaluation, title: str, configuration: Mapping[str, object] | None = None
) -> None:
    """Writes the report, whole or not at all.

    Args:
        path: file to write.
        evaluation: what is told.
        title: name of the run.
        configuration: settings by section.

    Raises:
        InputError: scores that are not one a tested sample, a missing folder.
    """
    text = render_report(evaluation, title, configuration)
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def render_report(
    evaluation: Evaluation, title: str, configuration: Mapping[str, object] | None = None
) -> str:
    """The report as HTML; see `write_report`."""
    return _Report(evaluation, title, configuration or {}).html()


class _Report:
    def __init__(self, evaluation: Evaluation, title: str, configuration: Mapping[str, object]):
        self.evaluation, self.title, self.configuration = evaluation, title, configuration
        self.metrics, self.calibration = evaluation.metrics, evaluation.calibration
        self.scores, labels = check_scores(evaluation.scores), evaluation.labels
        if labels.shape != self.scores.shape:
            raise InputError(
                f"Expected one score for each of {labels.size} tested samples, received {self.scores.size} "
                "scores: give one each."
            )
        self.classes, self.class_names = evaluation.classes, evaluation.samples.class_names
        self.anomaly = labels.astype(bool)
        self.both = 0 < self.anomaly.sum() < self.anomaly.size
        self.threshold = None if self.calibration is None else self.calibration.threshold
        self.alarm = None if self.threshold is None else self.scores > self.threshold

    def html(self) -> str:
        return page(
            self.title,
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
            how = f"A score above it raises the alarm. It was {promise(self.calibration.to_dict())}."
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
        errors, calibration = self.errors_of(False), self.calibration
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
        parts.append(self._by_class())
        return section("Scores", f'<div class="charts">{"".join(parts)}</div>')

    def _by_class(self) -> str:
        chart = charts.boxplots(
            self.anomaly,
            self.scores,
            self.classes,
            self.class_names,
            self.threshold,
        )
        words = (
            "A box holds the middle half of the samples of a class, its black line the middle one, the thin "
            "lines 90 %. Classes whose box reaches to the left of the threshold (dashed) are often missed."
        )
        return figure(chart, "Which kinds are easy, which are hard", words)

    # -- pictures --------------------------------------------------------------------------------------------

    def _pictures(self) -> list[str]:
        if not self.evaluation.has_pictures:
            return [section("Pictures", "<p>This detector shows no pictures: it redraws no samples.</p>")]
        rng = np.random.default_rng(0)
        at_random = [rng.permutation(np.flatnonzero(self.anomaly == kind))[:4] for kind in (False, True)]
        worst = {kind: self._worst(kind) for kind in (True, False)}
        rows = np.concatenate([*at_random, *(found for found, _ in worst.values())])
        samples, reconstructions, errors = self.evaluation.explain(rows)
        value_range = self.evaluation.model.preprocess.value_range
        names = self.evaluation.names
        brightest = charts.largest_error(errors)

        cards = {}
        for index, row in enumerate(rows.tolist()):
            picture = charts.strip(
                samples[index], reconstructions[index], errors[index], value_range, brightest
            )
            name = None if names is None else names[row]
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
        name = self.class_names[int(self.classes[row])]
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
        parts = [facts((name, value, "") for name, value in self.evaluation.data_facts().items())]
        for name, values in self.configuration.items():
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
