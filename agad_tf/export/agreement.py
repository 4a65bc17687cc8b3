"""When two scores are the same: the one measure of how far an export's scores are from the model's."""

import numpy as np
from numpy.typing import ArrayLike

from agad_tf.models.scorer import AnomalyScorer

FLOAT32, FLOAT16 = 1e-5, 1e-3
"""Largest `agreement` of scores that are the same, computed in either precision."""


def agreement(before: ArrayLike, after: ArrayLike, size: float = 1.0) -> float:
    """Largest |Δ| / max(1, |score|, size) over all samples; NaN where a score is no number.

    Args:
        before: (n,) scores.
        after: (n,) scores of the same samples from elsewhere.
        size: `rounded_size` of the model.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    return float((np.abs(after - before) / np.maximum(max(1.0, size), np.abs(before))).max())


def rounded_size(model: AnomalyScorer) -> float:
    """What differences of small scores are measured by: 1, or the size of the numbers that were rounded.

    A fused score is small where its parts, in their deviations, are near their means. Float32 rounds the
    parts before the means are taken off, so that a score of 1 made from 9 − 8 has the rounding error of 9.
    Likewise a local score, whose maps are errors of values up to 1 in deviations of their pixels.
    """
    sizes = {}
    if "local_score.deviation" in getattr(model, "scoring_state", ()):
        sizes["local"] = 1.0 / float(np.min(model.local_score.deviation))
    if getattr(model, "score", None) != "fused":
        return max([1.0, *sizes.values()])
    means, deviations = np.abs(np.asarray(model.score_means)), np.asarray(model.score_deviations)
    parts = [max(mean, sizes.get(name, 0.0)) for name, mean in zip(model.score_names, means, strict=True)]
    return max(1.0, float(np.sum(parts / deviations)))
