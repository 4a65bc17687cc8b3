"""The heat maps of a test, and what they mark in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.regions import RegionRule, smoothed

MOST = 60
"""Images of each kind whose maps are computed: enough for a comparison, seconds on a CPU."""


@dataclass(frozen=True)
class Maps:
    """Largest values of the smoothed maps of some samples of a test.

    Attributes:
        rows: positions in `Evaluation.scores`.
        peaks: (rows,).
        rule: from the maps of held-out normals, None where none were held out.
    """

    rows: np.ndarray
    peaks: np.ndarray
    rule: RegionRule | None


def redrawing(evaluation: Evaluation) -> float | None:
    """How badly good images of the test are redrawn: mean |x − x̂| in units of mean |x − their average|.

    None of a detector or of data without redrawings, and of fewer than ten normals.
    """
    rows = np.flatnonzero(evaluation.labels == 0)
    if not evaluation.redraws or evaluation.samples.x.ndim != 4 or len(rows) < 10:
        return None
    rows = np.random.default_rng(1).permutation(rows)[:MOST]
    x = np.asarray(evaluation.model.preprocess(np.asarray(evaluation.samples.x[evaluation.rows[rows]])))
    spread = np.abs(x - x.mean(axis=0)).mean()
    return float(np.abs(x - evaluation.redrawn(rows)).mean() / spread) if spread > 0 else None


def measure(evaluation: Evaluation) -> Maps:
    """Maps of up to `MOST` normals and as many anomalies, drawn at random."""
    rng = np.random.default_rng(1)
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(evaluation.labels == kind))[:MOST] for kind in (0, 1)]
    )
    peaks = np.array([smoothed(heat).max() for heat in evaluation.heat_maps(rows)])
    return Maps(rows, peaks, evaluation.region_rule)
