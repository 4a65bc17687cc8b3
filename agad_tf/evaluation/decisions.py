"""From a score to a p-value and a decision: the one definition, in NumPy.

Calibrations, boards, `agad-tf score` and the client of a server all decide here; the graph of a SavedModel
(`agad_tf.export.saved_model.decide`) is tested against it. Scores are compared in float64, as calibrations
hold them: a tie stays a tie. What cannot be scored (NaN, infinity) has no p-value and is never called normal:
no good sample gives such a score. NumPy only: boards read this too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from agad_tf.errors import InputError


def above(scores: ArrayLike, threshold: ArrayLike) -> np.ndarray:
    """bool, shape of `scores`: score > threshold, and True where either is NaN or the score is infinite."""
    scores = _numbers(scores)
    return ~((scores <= threshold) & np.isfinite(scores))


class Decision:
    """Decides by a threshold, and by the held-out normals it was chosen from.

    Args:
        normal_scores: (n,) finite scores of held-out normals, in any order.
        threshold: an anomaly scores above it.
    """

    def __init__(self, normal_scores: ArrayLike, threshold: float):
        self.normal_scores = np.sort(np.asarray(normal_scores, np.float64))
        self.threshold = float(threshold)

    def is_anomaly(self, scores: ArrayLike) -> np.ndarray:
        """bool, shape of `scores`; see `above`."""
        return above(scores, self.threshold)

    def p_values(self, scores: ArrayLike) -> np.ndarray:
        """Conformal p-values, float64, shape of `scores`: (1 + #{normal scores >= score}) / (n + 1).

        NaN for scores that are NaN or infinite.
        """
        scores, normals = _numbers(scores), self.normal_scores
        at_least = normals.size - np.searchsorted(normals, scores, side="left")
        return np.where(np.isfinite(scores), (1 + at_least) / (normals.size + 1), np.nan)


def _numbers(scores: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(scores, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            "expected scores to be numbers, received something else: give one number per sample"
        ) from None
