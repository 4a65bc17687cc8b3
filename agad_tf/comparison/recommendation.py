"""Which detector to take, from labelled anomalies of the training part alone; no test label is read.

With at least `ENOUGH` labelled anomalies each detector is cross-fitted over them: trained without a fold of
them, it scores that fold and the held-out normals. Folds are kinds of anomaly where there are several, so
that each fold asks for a kind that the detector was not shown. The figure of a detector is the mean AUROC
over folds. Two detectors are compared on the same samples by a paired bootstrap: where the interval of their
difference holds 0 they cannot be told apart; of such, those that train much longer are left out, and the best
of the rest is taken: a few seconds are no reason to take the worse one. With fewer labels there is nothing
to choose on: the first of a stated order is taken. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agad_tf.errors import InputError

ENOUGH = 8
"""Fewest labelled anomalies to choose on."""
MOST_FOLDS = 3
DRAWS = 1000
LONGER = 60.0
"""Seconds by which a training may be longer than the fastest of equals and still be taken."""


@dataclass(frozen=True)
class Recommendation:
    """The detector to take and why.

    Attributes:
        detector: its name.
        reason: one sentence.
        figures: cross-fitted AUROC by detector; empty where there was nothing to choose on.
        tied: detectors that cannot be told apart from the best one, the best one among them.
        kept: where this one cannot be saved, the one to take of those that can.
    """

    detector: str
    reason: str
    figures: dict[str, float]
    tied: tuple[str, ...] = ()
    kept: str | None = None


def folds_of(kinds: Sequence, seed: int = 0) -> np.ndarray:
    """Fold of each labelled anomaly, int (n,), from 0.

    Whole kinds where there are at least two; then small kinds share a fold so that there are at most
    `MOST_FOLDS`. One kind is dealt out at random.

    Args:
        kinds: (n,) kind of each labelled anomaly.
        seed: of the random deal.
    """
    names, kind, sizes = np.unique(np.asarray(kinds), return_inverse=True, return_counts=True)
    count = min(MOST_FOLDS, len(kind))
    if len(names) < 2:
        return np.random.default_rng(seed).permutation(len(kind)) % count
    fold_of_kind, filled = np.zeros(len(names), int), np.zeros(min(count, len(names)), int)
    for index in np.argsort(-sizes, kind="stable"):  # the largest kinds first, each into the emptiest fold
        fold_of_kind[index] = filled.argmin()
        filled[filled.argmin()] += sizes[index]
    return fold_of_kind[kind]


def fold_auroc(normal_scores: np.ndarray, anomaly_scores: np.ndarray) -> float:
    """P(anomaly scores above normal) + P(tie) / 2, of (n,) and (m,) scores."""
    ascending = np.sort(normal_scores)
    below = np.searchsorted(ascending, anomaly_scores, "left")
    at_most = np.searchsorted(ascending, anomaly_scores, "right")
    return float((below + at_most).mean() / (2 * len(ascending)))


@dataclass(frozen=True)
class FoldScores:
    """Scores of one detector that was not trained on any of these samples.

    Attributes:
        normals: (folds, n) scores of the same held-out normals by the detector of each fold.
        anomalies: (m,) scores of the labelled anomalies, each by the detector of its own fold.
    """

    normals: np.ndarray
    anomalies: np.ndarray


def figure(scores: FoldScores, folds: np.ndarray, normals=None, anomalies=None) -> float:
    """Mean over folds of the AUROC; `normals` and `anomalies` are rows to take, all of them if left out."""
    normals = np.arange(scores.normals.shape[1]) if normals is None else normals
    anomalies = np.arange(len(folds)) if anomalies is None else anomalies
    drawn = folds[anomalies]
    values = [
        fold_auroc(scores.normals[fold][normals], scores.anomalies[anomalies[drawn == fold]])
        for fold in np.unique(drawn)
    ]
    return float(np.mean(values))


def recommend(
    scores: Mapping[str, FoldScores],
    folds: np.ndarray,
    cost: Mapping[str, float],
    order: Sequence[str],
    seed: int = 0,
) -> Recommendation:
    """The detector to take.

    Args:
        scores: of every detector that could be cross-fitted; empty with fewer than `ENOUGH` anomalies.
        folds: (m,) from `folds_of`.
        cost: seconds to train of every detector that may be recommended.
        order: detectors, the one to take without labels first; others are not recommended.
        seed: of the bootstrap.

    Raises:
        InputError: nothing to recommend.
    """
    able = [name for name in order if name in cost]
    if not able:
        raise InputError("expected a detector that could be trained, received none: see the errors")
    if not scores:
        why = f"fewer than {ENOUGH} labelled anomalies are too few to choose on; first of the stated order"
        return Recommendation(able[0], why, {})
    figures = {name: figure(held, folds) for name, held in scores.items()}
    best = max(figures, key=figures.get)
    rng = np.random.default_rng(seed)
    count = next(iter(scores.values())).normals.shape[1]
    draws = [(rng.integers(count, size=count), _drawn_within_folds(folds, rng)) for _ in range(DRAWS)]
    resampled = {
        name: np.array([figure(held, folds, *draw) for draw in draws]) for name, held in scores.items()
    }
    tied = tuple(
        name for name in figures if name == best or np.quantile(resampled[best] - resampled[name], 0.025) <= 0
    )
    if len(tied) == 1:
        return Recommendation(best, "ahead of all others on labelled anomalies left out", figures, tied)
    fastest = min(cost[name] for name in tied)
    taken = max((name for name in tied if cost[name] <= fastest + LONGER), key=figures.get)
    others = ", ".join(name for name in tied if name != taken)
    why = f"cannot be told apart from {others} on labelled anomalies left out, and "
    why += "is the best of them there" if taken == best else "of those that train fast the best there"
    return Recommendation(taken, why, figures, tied)


def _drawn_within_folds(folds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drawn = [rng.choice(rows, len(rows)) for rows in (np.flatnonzero(folds == f) for f in np.unique(folds))]
    return np.concatenate(drawn)
