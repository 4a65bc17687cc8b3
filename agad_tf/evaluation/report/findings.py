"""What the report says: figures, a row for each kind, what to mind and what to do next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agad_tf.errors import InputError
from agad_tf.evaluation import metrics as measures
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.report.maps import Maps, redrawing
from agad_tf.evaluation.wording import (
    PerThousand,
    auroc_verdict,
    beside_line,
    counted,
    in_percent,
    kinds_line,
    per_thousand,
    percent,
    promise,
)

FEW = 10
"""Samples of a kind under which its figures are called uncertain."""

MOST_KINDS = 40
"""Rows of the table at most: the kinds that are hardest to find."""

_GAIN = 0.03
"""AUROC by which the maps must be better than the score before a change is advised."""

_USEFUL = 0.65
"""AUROC that the maps must reach for it."""

_NOISE = 2.0
"""Redrawing error of good images, in that of their average image, from which on labels are doubted."""

_METRICS = (
    (
        "auroc",
        "AUROC",
        "of 100 pairs of an anomaly and a normal sample, those in which the anomaly scores higher",
    ),
    ("auroc_known", "AUROC, known kinds", "the same for kinds of anomalies that training saw examples of"),
    ("auroc_unseen", "AUROC, unseen kinds", "the same for kinds that training never saw"),
    ("average_precision", "average precision", "share of alarms that are right, over all thresholds"),
    (
        "tpr_at_fpr_01",
        "found at 1 % false alarms",
        "share of anomalies that a threshold could find at that price",
    ),
    (
        "tpr_at_fpr_05",
        "found at 5 % false alarms",
        "share of anomalies that a threshold could find at that price",
    ),
    (
        "best_f1",
        "best F1",
        "best balance of finds and false alarms; its threshold is chosen on this very test",
    ),
    ("pixel_auroc", "pixel AUROC", "the same as AUROC for single pixels of the heat maps against the masks"),
    (
        "pro",
        "per-region overlap",
        "how much of each marked defect the heat maps cover, up to 30 % false pixels",
    ),
)


@dataclass(frozen=True)
class Tile:
    """A figure in large letters: its machine name and value, the text shown, and what it means."""

    title: str
    name: str
    value: float | None
    text: str
    words: str


@dataclass(frozen=True)
class Kind:
    """One class of the test part; shares in [0, 1] along the axis of scores for its picture."""

    name: str
    anomaly: bool
    training: str
    count: int
    auroc: float | None
    alarms: int | None
    low: float
    middle: float
    high: float


class Findings:
    """Everything in the report that is text or number.

    Args:
        evaluation: what is told.
        maps: gives the heat maps of the test, or None where there are none; asked once, when it is needed.

    Raises:
        InputError: scores that are not one for each tested sample.
    """

    def __init__(self, evaluation: Evaluation, maps: Callable[[], Maps | None] | None = None) -> None:
        self.evaluation, self.metrics, self.calibration = (
            evaluation,
            evaluation.metrics,
            evaluation.calibration,
        )
        self.scores, labels = measures.check_scores(evaluation.scores), evaluation.labels
        if labels.shape != self.scores.shape:
            raise InputError(
                f"Expected one score for each of {labels.size} tested samples, received {self.scores.size} "
                "scores: give one each."
            )
        self.anomaly = labels.astype(bool)
        self.classes, self.class_names = evaluation.classes, evaluation.samples.class_names
        self.both = 0 < self.anomaly.sum() < self.anomaly.size
        self.threshold = None if self.calibration is None else self.calibration.threshold
        self.alarm = None if self.calibration is None else self.calibration.is_anomaly(self.scores)
        self._maps = maps

    # -- verdict ---------------------------------------------------------------------------------------------

    @property
    def n_normal(self) -> int:
        return int((~self.anomaly).sum())

    @property
    def n_anomaly(self) -> int:
        return int(self.anomaly.sum())

    @property
    def headline(self) -> str:
        auroc, interval = self.metrics.get("auroc"), self.metrics.get("auroc_interval")
        if auroc is not None and interval is not None:
            return auroc_verdict(auroc, interval)
        if self.both:
            return "How well this detector tells anomalies from normal samples is not known."
        only = "anomalies" if self.n_anomaly else "normal samples"
        return f"This test holds {only} only: how well both are told apart cannot be said."

    @property
    def beside(self) -> str | None:
        """How a simple baseline did; None where that is not known."""
        found = self.metrics.get("baseline")
        return beside_line(found) if found else None

    @property
    def labels_on_others(self) -> str | None:
        """What labels do for kinds that they do not show; None where no kind was left out."""
        return kinds_line(self.metrics) if self.metrics.get("leave_one_kind_out") else None

    @property
    def tiles(self) -> list[Tile]:
        return [self._auroc(), self._alarms(True), self._alarms(False), self._threshold()]

    def _auroc(self) -> Tile:
        auroc, interval = self.metrics.get("auroc"), self.metrics.get("auroc_interval")
        if auroc is None or interval is None:
            return Tile("AUROC", "auroc", None, "not known", "It needs normal samples and anomalies.")
        words = (
            "Of 100 pairs of an anomaly and a normal sample, in so many the anomaly scores higher; 50 is "
            f"guessing. 95 % interval: {in_percent(interval[0])} to {in_percent(interval[1])}."
        )
        return Tile("AUROC", "auroc", auroc, in_percent(auroc), words)

    def _alarms(self, of_anomalies: bool) -> Tile:
        title, name = ("Found", "found") if of_anomalies else ("False alarms", "false_alarms")
        kind = "anomalies" if of_anomalies else "normal samples"
        seen = self._seen(of_anomalies)
        if seen is None:
            why = "No threshold was set." if self.alarm is None else f"The test holds no {kind}."
            return Tile(title, name, None, "not known", why)
        words = (
            f"{kind} raise the alarm. Expected of 1000: {seen.expected:.0f}, with 95 % confidence "
            f"{seen.low:.0f} to {seen.high:.0f}."
        )
        return Tile(title, name, seen.count / seen.total, f"{seen.count} of {seen.total}", words)

    def _seen(self, of_anomalies: bool) -> PerThousand | None:
        """Alarms among one kind; None without a threshold or without such samples."""
        rows = self.anomaly == of_anomalies
        if self.alarm is None or not rows.any():
            return None
        return per_thousand(int(self.alarm[rows].sum()), int(rows.sum()))

    def _threshold(self) -> Tile:
        if self.calibration is None:
            how = "None was set, so there are no alarms. Choose one: agad-tf recalibrate RUN --rate 0.05"
            return Tile("Threshold", "threshold", None, "none", how)
        n, rate = self.calibration.n_normal, self.calibration.observed_false_alarm_rate
        words = (
            f"A score above it raises the alarm. It was {promise(self.calibration.to_dict())}. Its price: "
            f"{round(rate * n)} of the {n} held-out normal samples lie above it ({percent(round(rate, 4))})."
        )
        return Tile("Threshold", "threshold", self.threshold, f"{self.threshold:.4g}", words)

    # -- kinds -----------------------------------------------------------------------------------------------

    @cached_property
    def kinds(self) -> list[Kind]:
        """Normal classes first, then anomalies, the hardest to find first."""
        known = set(self.evaluation.split.known_classes)
        found = []
        for anomaly in (False, True):
            rows = self.anomaly == anomaly
            of_kind = [
                self._kind(int(c), anomaly, rows & (self.classes == c), known)
                for c in np.unique(self.classes[rows])
            ]
            found += sorted(of_kind, key=lambda kind: kind.middle)
        return found[:MOST_KINDS]

    @property
    def kinds_left_out(self) -> int:
        pairs = np.stack([self.classes, self.anomaly], axis=1)
        return len(np.unique(pairs, axis=0)) - len(self.kinds)

    def _kind(self, index: int, anomaly: bool, rows: np.ndarray, known: set) -> Kind:
        auroc = None
        if anomaly and self.n_normal:
            both = rows | ~self.anomaly
            auroc = measures.auroc(self.anomaly[both], self.scores[both])
        training = "normal" if not anomaly else "labelled examples" if index in known else "never shown"
        low, middle, high = (self.place(q) for q in np.quantile(self.scores[rows], (0.05, 0.5, 0.95)))
        alarms = None if self.alarm is None else int(self.alarm[rows].sum())
        name = self.class_names[index]
        return Kind(name, anomaly, training, int(rows.sum()), auroc, alarms, low, middle, high)

    def place(self, score: float) -> float:
        """Where a score lies on the axis of the table, in [0, 1]: far out ones at its ends."""
        start, end = self._axis
        return float(np.clip((score - start) / (end - start), 0, 1))

    @cached_property
    def _axis(self) -> tuple[float, float]:
        marks = [
            *np.quantile(self.scores, (0.01, 0.97)),
            *([] if self.threshold is None else [self.threshold]),
        ]
        start, end = float(min(marks)), float(max(marks))
        margin = 0.04 * (end - start) or 0.5
        return start - margin, end + margin

    @property
    def threshold_place(self) -> float | None:
        return None if self.threshold is None else self.place(self.threshold)

    # -- words -----------------------------------------------------------------------------------------------

    @cached_property
    def warnings(self) -> list[str]:
        """What a reader must know before believing the figures."""
        split, words = self.evaluation.split, []
        if 0 < self.n_anomaly < FEW:
            words.append(
                f"The test holds {counted(self.n_anomaly, 'anomaly', 'anomalies')}: the figures are rough."
            )
        if 0 < self.n_normal < 2 * FEW:
            words.append(
                f"The test holds {counted(self.n_normal, 'normal sample')}: false alarms are known roughly."
            )
        if self.n_anomaly >= FEW:
            small = [kind for kind in self.kinds if kind.anomaly and kind.count < FEW]
            if small:
                listed = ", ".join(f"{kind.name} ({kind.count})" for kind in small[:6])
                more = f" and {len(small) - 6} more" if len(small) > 6 else ""
                words.append(f"Few samples of some kinds: {listed}{more}. Their figures are rough.")
        held_out = len(split.validation_anomaly)
        if 0 < held_out < FEW:
            words.append(
                f"Held out for validation {'is' if held_out == 1 else 'are'} "
                f"{counted(held_out, 'labelled anomaly', 'labelled anomalies')}: what was chosen by them "
                "could have come out otherwise."
            )
        if self.calibration is not None and self.calibration.n_normal < 2 * FEW:
            words.append(
                f"The threshold rests on {counted(self.calibration.n_normal, 'held-out normal sample')}: "
                "hold out more, --set validation=0.2."
            )
        return words

    @cached_property
    def steps(self) -> list[str]:
        """What to do next."""
        steps = []
        if self.calibration is None:
            steps.append("Choose a threshold: agad-tf recalibrate RUN --rate 0.05")
        seen = self._seen(False)
        rate = None if self.calibration is None else self.calibration.false_alarm_rate
        if seen is not None and rate is not None and seen.low > 1000 * rate:
            steps.append(
                f"There are more false alarms than the {percent(rate)} that the threshold was chosen for, "
                "and more than chance explains: the normal samples of this test differ from those it was "
                "chosen on. Choose it again on fresh ones: agad-tf recalibrate RUN --normals FOLDER"
            )
        steps += self._noise()
        steps += self._glow()
        weak = [kind for kind in self.kinds if kind.anomaly and kind.auroc is not None and kind.auroc < 0.7]
        if weak and self.n_anomaly >= FEW and len(weak) <= 5:
            names = ", ".join(kind.name for kind in weak)
            steps.append(
                f"Hardly told from normal samples: {names}. Look at the pictures below: where a defect is "
                "too small for the heat map, train at a larger --image-size; otherwise label some of them."
            )
        return steps

    def _noise(self) -> list[str]:
        """Where labels have taught a detector to redraw everything badly, good images too."""
        if self._maps is None or not len(self.evaluation.split.train_anomaly):
            return []
        times = redrawing(self.evaluation)
        if times is None or times < _NOISE:
            return []
        return [
            f"Good images are redrawn {times:.1f} times as badly as by their average: labelled defects that "
            "are small in a normal image can do that, because the detector is taught to fail on all of it. "
            "Train without them and compare: --gamma 0"
        ]

    def _glow(self) -> list[str]:
        """Where the heat maps tell defects that the score misses."""
        if getattr(self.evaluation.model, "parts_of_score", ()) == ("local",):
            return []  # it is the maps' score
        auroc = self.metrics.get("auroc")
        maps = None if self._maps is None or not self.both or auroc is None else self._maps()
        if maps is None:
            return []
        rows = maps.rows
        anomaly = self.anomaly[rows]
        if anomaly.sum() < FEW or (~anomaly).sum() < FEW:
            return []
        by_map = measures.auroc(anomaly, maps.peaks)
        by_score = measures.auroc(anomaly, self.scores[rows])
        if by_map < max(_USEFUL, by_score + _GAIN):
            return []
        words = (
            "The heat maps see more than the score: by the brightest spot of its map alone an image would be "
            f"told with an AUROC of {in_percent(by_map)}, by the score with {in_percent(by_score)} "
            f"({len(rows)} images of this test)."
        )
        if self.alarm is not None and maps.rule is not None:
            missed = anomaly & ~self.alarm[rows]
            glowing = maps.peaks > maps.rule.threshold
            if missed.any():
                words += (
                    f" Of {counted(int(missed.sum()), 'missed anomaly', 'missed anomalies')} "
                    f"{int(glowing[missed].sum())} have a marked region; of {int((~anomaly).sum())} normal "
                    f"images {int(glowing[~anomaly].sum())}."
                )
        return [f"{words} {self._score_of_maps()}"]

    def _score_of_maps(self) -> str:
        """What to do for a score that looks where the maps are bright."""
        has_one = "local" in getattr(self.evaluation.model, "score_names", ())
        other = "" if has_one else "--detector agad "
        return f"Train with a score that looks at the maps: {other}--set score=local"

    # -- tables ----------------------------------------------------------------------------------------------

    @property
    def figures(self) -> list[tuple[str, str, str]]:
        """Name, value and meaning of every metric; pixel metrics only where there are any."""
        entries = []
        for name, title, meaning in _METRICS:
            value, interval = self.metrics.get(name), self.metrics.get(f"{name}_interval")
            if value is None and name in ("pixel_auroc", "pro"):
                continue
            text = "not known" if value is None else in_percent(value)
            if value is not None and interval is not None:
                text += f" ({in_percent(interval[0])} to {in_percent(interval[1])})"
            entries.append((title, text, meaning))
        return entries

    @property
    def method(self) -> str:
        return (self.metrics.get("interval_method") or "").removeprefix("95 %; ")

    def describe(self, row: int) -> tuple[str, str]:
        """Kind and verdict of a sample in words."""
        kind = "anomaly" if self.anomaly[row] else "normal"
        name = self.class_names[int(self.classes[row])]
        kind = name if name in (kind, "good") else f"{kind}: {name}"
        if self.alarm is None:
            return kind, ""
        verdicts = {
            (False, False): "passed",
            (True, True): "alarm",
            (False, True): "FALSE ALARM",
            (True, False): "MISSED",
        }
        return kind, verdicts[bool(self.anomaly[row]), bool(self.alarm[row])]
