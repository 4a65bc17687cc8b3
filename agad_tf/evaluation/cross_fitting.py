"""p-values from normals that were trained on, each scored by a model that left it out. NumPy only.

With few normals none can be spared for calibration. Training is cut into folds instead: model k learns from
all normals but those of fold k. All n normals then have a score, and a new sample has one from each model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import check_share


def cross_p_values(held_out: ArrayLike, fold: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Cross-conformal p-values, float64 (m,): (1 + #{i: held_out_i >= the score by model fold_i}) / (n + 1).

    A normal sample has p <= α with a probability of at most `false_alarm_bound`, about 2α, where samples are
    exchangeable; usually it is near α. p-values of held-out normals, which no model has seen, keep α itself:
    prefer them where there are enough.

    Source: Vovk, Cross-conformal predictors, Annals of Mathematics and Artificial Intelligence 74, 2015; the
    bound: Barber et al., Predictive inference with the jackknife+, Annals of Statistics 49, 2021, theorem 4.

    Args:
        held_out: (n,) score of each training normal by the model that left it out.
        fold: (n,) which model that is.
        scores: (m, models) scores of new samples by each model. One that is not finite has the p-value NaN.

    Raises:
        InputError: shapes that do not belong together, scores of normals that are not finite.
    """
    held_out, fold, scores = np.asarray(held_out, float), np.asarray(fold, int), np.asarray(scores, float)
    if held_out.ndim != 1 or not len(held_out) or held_out.shape != fold.shape or scores.ndim != 2:
        raise InputError(
            "expected scores of n normals, n folds and scores (m, models), received shapes "
            f"{held_out.shape}, {fold.shape} and {scores.shape}"
        )
    if fold.min() < 0 or fold.max() >= scores.shape[1] or not np.isfinite(held_out).all():
        raise InputError(f"expected finite scores of normals and folds from 0 to {scores.shape[1] - 1}")
    count = np.zeros(len(scores))
    for model in np.unique(fold):
        normals = np.sort(held_out[fold == model])
        count += len(normals) - np.searchsorted(normals, scores[:, model], side="left")
    p_values = (1 + count) / (len(held_out) + 1)
    return np.where(np.isfinite(scores).all(axis=1), p_values, np.nan)


def false_alarm_bound(rate: float, normals: int, folds: int) -> float:
    """Largest probability that a new normal sample has a cross-fitted p-value of at most `rate`.

    2 (α (n + 1) + K − 1) / (n + K), for n normals in K folds of any sizes: each fold alone gives a p-value
    that keeps α, twice a weighted mean of p-values is one again (Vovk and Wang, Combining p-values via
    averaging, Biometrika 107, 2020), and `cross_p_values` is close to such a mean. It holds on average over
    training sets, whatever the detector and the distribution.

    Args:
        rate: α, above 0 and below 1.
        normals: n, all that were trained on.
        folds: K, at least 2.

    Raises:
        InputError: an argument out of range.
    """
    rate = check_share(rate, "rate")
    if not 2 <= folds <= normals:
        raise InputError(f"folds expects a number from 2 to the {normals} normals, received {folds}")
    return min(1.0, 2 * (rate * (normals + 1) + folds - 1) / (normals + folds))
