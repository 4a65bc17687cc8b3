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


def measure(evaluation: Evaluation) -> Maps:
    """Maps of up to `MOST` normals and as many anomalies, drawn at random."""
    rng = np.random.default_rng(1)
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(evaluation.labels == kind))[:MOST] for kind in (0, 1)]
    )
    peaks = np.array([smoothed(heat).max() for heat in evaluation.heat_maps(rows)])
    return Maps(rows, peaks, evaluation.region_rule)
