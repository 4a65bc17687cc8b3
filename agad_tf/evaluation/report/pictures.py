"""The pictures of the report: photographs with what is marked in them, redrawings, heat maps."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.heatmaps import as_pictures, draw_outlines, overlay
from agad_tf.evaluation.regions import on_image, smoothed
from agad_tf.evaluation.report.findings import Findings
from agad_tf.evaluation.report.maps import Maps, measure
from agad_tf.evaluation.wording import counted
from agad_tf.pixels import crop_box

SIDE, LARGE_SIDE = 360, 480
"""Pixels of the longer side of a picture where three stand side by side, and where two do."""

_WORST, _RANDOM = 6, 3


@dataclass(frozen=True)
class Picture:
    """An image for the page: data URI, size in pixels, title, and the text that stands for it."""

    uri: str
    width: int
    height: int
    title: str
    alt: str


@dataclass(frozen=True)
class Card:
    """A sample: its pictures and what became of it."""

    pictures: list[Picture]
    kind: str
    score: str
    verdict: str
    marked: str
    name: str | None
    anomaly: bool

    @property
    def wrong(self) -> bool:
        return self.verdict.isupper()


@dataclass(frozen=True)
class Gallery:
    """Cards under a title, with a sentence about them."""

    title: str
    words: str
    cards: list[Card]


class Pictures:
    """Draws samples of an evaluation of images."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation

    def maps(self) -> Maps:
        """What the heat maps mark in the test."""
        return self._maps

    @cached_property
    def _maps(self) -> Maps:
        return measure(self._evaluation)

    def galleries(self, findings: Findings) -> list[Gallery]:
        """The worst errors of both kinds, then samples at random."""
        chosen = [self._worst(findings, True), self._worst(findings, False), *self._at_random(findings)]
        chosen = [entry for entry in chosen if entry[2].size]
        if not chosen:
            return []
        rows = np.concatenate([entry[2] for entry in chosen])
        evaluation = self._evaluation
        redrawn = evaluation.redrawn(rows)
        heats = evaluation.heat_maps(rows)
        # One scale for all pictures: a region's threshold is a third of the way up.
        rule = evaluation.region_rule
        brightest = max(3 * rule.threshold if rule else 0, float(np.quantile(heats, 0.998)), 1e-12)
        cards = [
            self._card(
                findings, int(row), None if redrawn is None else redrawn[index], heats[index], brightest
            )
            for index, row in enumerate(rows)
        ]
        galleries = []
        for title, words, picked in chosen:
            galleries.append(Gallery(title, words, cards[: picked.size]))
            cards = cards[picked.size :]
        return galleries

    def _worst(self, findings: Findings, kind: bool) -> tuple[str, str, np.ndarray]:
        """Title, words and rows of the worst errors on anomalies (True) or normals (False)."""
        scores, alarm = findings.scores, findings.alarm
        rows = np.flatnonzero(findings.anomaly == kind)
        rows = rows[np.argsort(scores[rows] if kind else -scores[rows], kind="stable")]
        title = "Worst misses" if kind else "Worst false alarms"
        what, look = ("anomalies", "normal") if kind else ("normal samples", "anomalous")
        if alarm is None:
            return (
                title,
                f"No threshold was set; these are the {what} that look most {look} to it.",
                rows[:_WORST],
            )
        wrong = rows[alarm[rows] != kind]
        verb = "were missed" if kind else "raised a false alarm"
        if not wrong.size:
            return title, f"None: no {what} {verb}. These came nearest to it.", rows[:_RANDOM]
        shown = "Worst first." if wrong.size <= _WORST else f"The worst {_WORST}, worst first."
        return title, f"{wrong.size} of {rows.size} {what} {verb}. {shown}", wrong[:_WORST]

    @staticmethod
    def _at_random(findings: Findings) -> list[tuple[str, str, np.ndarray]]:
        rng = np.random.default_rng(0)
        right = findings.anomaly if findings.alarm is None else findings.anomaly & findings.alarm
        passed = ~findings.anomaly if findings.alarm is None else ~findings.anomaly & ~findings.alarm
        both = (("Anomalies that were found", right), ("Normal samples that passed", passed))
        if findings.alarm is None:
            both = (("Anomalies", right), ("Normal samples", passed))
        return [
            (title, "Picked at random.", rng.permutation(np.flatnonzero(rows))[:_RANDOM])
            for title, rows in both
        ]

    def _card(
        self, findings: Findings, row: int, redrawn: np.ndarray | None, heat: np.ndarray, brightest: float
    ) -> Card:
        evaluation = self._evaluation
        preprocess, rule = evaluation.model.preprocess, evaluation.region_rule
        crop = getattr(preprocess, "crop", "stretch")
        side = SIDE if evaluation.redraws else LARGE_SIDE
        photo, mask = _shown(evaluation.photo(row), side), evaluation.mask(row)
        size = photo.shape[:2]
        if mask is not None:
            mask = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.NEAREST))
        marked = np.zeros(size, bool) if rule is None else rule.marked(heat, size, crop)
        kind, verdict = findings.describe(row)
        score = f"{findings.scores[row]:.4g}"
        known = "" if mask is None else ", the defect's mask outlined"
        regions = [] if rule is None else rule.find(heat, size, crop)
        pictures = [
            _picture(
                draw_outlines(photo, marked, mask),
                "photograph",
                f"{kind}: the photograph{known}, score {score}, {verdict}",
            ),
            _picture(
                draw_outlines(overlay(photo, on_image(smoothed(heat), size, crop), brightest), marked, mask),
                "heat map",
                f"{kind}: heat map with {counted(len(regions), 'marked region')}",
            ),
        ]
        if redrawn is not None:
            drawn = as_pictures(redrawn[None], preprocess.value_range)[0]
            alt = f"{kind}: redrawn by the detector"
            pictures.insert(1, _picture(_on_photo(drawn, size, crop), "redrawn", alt))
        words = "" if rule is None else counted(len(regions), "marked region")
        if regions:
            words += f", {regions[0].peak:.1f} times the threshold at most"
        names = evaluation.names
        return Card(
            pictures,
            kind,
            score,
            verdict,
            words,
            None if names is None else names[row],
            bool(findings.anomaly[row]),
        )


def _shown(image: np.ndarray, side: int) -> np.ndarray:
    """An image in the size of the page, uint8 RGB: small ones enlarged, tiny ones with sharp pixels."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    picture = Image.fromarray(np.broadcast_to(image, (height, width, 3)))
    if factor < 1:
        return np.asarray(picture.resize(size, Image.LANCZOS))
    return np.asarray(picture.resize(size, Image.NEAREST if factor >= 8 else Image.BICUBIC))


def _on_photo(drawn: np.ndarray, size: tuple[int, int], crop: str) -> np.ndarray:
    """What was redrawn, float (height, width, 3) in [0, 1], in the place of its photograph; uint8."""
    top, left, height, width = crop_box(size, drawn.shape[:2], crop)
    how = Image.NEAREST if max(size) >= 8 * max(drawn.shape[:2]) else Image.BICUBIC
    resized = Image.fromarray(np.rint(255 * drawn).astype(np.uint8)).resize((width, height), how)
    whole = np.full((*size, 3), 128, np.uint8)
    whole[top : top + height, left : left + width] = resized
    return whole


def _picture(image: np.ndarray, title: str, alt: str) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=84, subsampling=0)  # thin lines keep their colour
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(uri, image.shape[1], image.shape[0], title, alt)
