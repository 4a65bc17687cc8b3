"""Mahalanobis distances of images described by the mean and the deviation of their features."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from sklearn.covariance import LedoitWolf


def descriptors(grid) -> tf.Tensor:
    """Mean and deviation of each feature over the grid, (batch, 2 · channels)."""
    mean, variance = tf.nn.moments(grid, axes=[1, 2])
    return tf.concat([mean, tf.sqrt(variance + 1e-8)], axis=-1)


def mahalanobis(described: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and matrix W: ‖(d − mean) W‖ is the distance, the covariance shrunk by Ledoit and Wolf's rule."""
    described = described.astype(np.float64)
    # Standardised first: the rule shrinks towards a multiple of the identity.
    mean, deviation = described.mean(axis=0), described.std(axis=0)
    deviation = np.where(deviation > 1e-9, deviation, 1.0)
    if len(described) < 2:
        return mean, np.diag(1.0 / deviation)
    precision = LedoitWolf(assume_centered=True).fit((described - mean) / deviation).precision_
    return mean, np.linalg.cholesky(precision) / deviation[:, None]


def by_folds(described, fold, folds: int, new=None) -> tuple[np.ndarray, np.ndarray | None]:
    """Distance of each descriptor to those of the other folds, (n,), and of new ones to each, (m, folds)."""
    if len(np.unique(fold)) < 2:  # one member, or too few samples to leave a share out
        fold = np.arange(len(described)) % min(5, len(described))
    distances, of_new = np.zeros(len(described), np.float32), []
    for one in range(max(folds, fold.max() + 1)):
        others = described[fold != one]
        mean, whitening = mahalanobis(others if len(others) else described)
        distances[fold == one] = np.linalg.norm((described[fold == one] - mean) @ whitening, axis=1)
        if new is not None:
            of_new.append(np.linalg.norm((new - mean) @ whitening, axis=1).astype(np.float32))
    return distances, np.stack(of_new, axis=1)[:, :folds] if of_new else None
