"""Normals that a detector keeps whole among its weights, and what lies nearest to a sample among them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.keras_private import forget_weight
from agad_tf.models.saving import STATE

LARGEST = 1 << 24
"""Numbers that a fit holds at once, 64 MB of float32; of more samples some are drawn."""
NOT_FITTED = "{} expects fit before predict, evaluate and export, received none: call fit"
SPARE = 8
"""Neighbours beyond the k-th whose distance is computed without rounding."""


class KeptNormals:
    """Mixin of detectors that compare a sample with training normals; before an `AnomalyScorer`.

    Attributes:
        k: which neighbour's distance counts; the last one where there are fewer.
        normals: the normals kept, preprocessed, (n, values); None before `fit`.
    """

    k: int
    normals = None

    @property
    def values(self) -> int:
        """How many numbers a sample is."""
        return int(np.prod(self.network_shape))

    def hold(self, count: int) -> None:
        """Makes room for so many normals."""
        if self.normals is not None:
            forget_weight(self, self.normals)
        with self.distribute_strategy.scope():
            self.normals = self._state("normals", (count, self.values))

    def keep(self, normals) -> None:
        """Keeps normals as `check_samples` gives them; of more than 64 MB of them as many as that."""
        normals = drawn(normals, max(1, LARGEST // self.values), self.seed)
        kept = np.concatenate([batch.reshape(len(batch), -1) for batch in prepared(self, normals, 256)])
        self.hold(len(kept))
        self.normals.assign(kept)

    def nearest(self, x, count: int) -> tf.Tensor:
        """What lies between preprocessed samples and their nearest normals, (batch, count, values) float32.

        The nearest first; `count` is at most the number of normals.
        """
        flat = tf.cast(tf.reshape(x, (-1, self.values)), tf.float32)
        normals = tf.convert_to_tensor(self.normals)
        # By a product of matrices, whose rounding can confuse neighbours alike; of a few more than are
        # wanted the differences decide.
        squared = tf.reduce_sum(normals**2, axis=-1) - 2.0 * tf.matmul(flat, normals, transpose_b=True)
        _, found = tf.math.top_k(-squared, min(count + SPARE, normals.shape[0]))
        away = flat[:, None] - tf.gather(normals, found)
        _, order = tf.math.top_k(-tf.reduce_sum(away**2, axis=-1), count)
        return tf.gather(away, order, batch_dims=1)

    def away(self, x) -> tf.Tensor:
        """What lies between preprocessed samples and their k-th nearest normal, (batch, values)."""
        return self.nearest(x, min(self.k, self.normals.shape[0]))[:, -1]

    def check_fitted(self):
        """Raises InputError for a score that reads the normals, of which there are none before `fit`."""
        if self.normals is None and "normals" in self.scoring_state:
            raise InputError(NOT_FITTED.format(type(self).__name__))

    def looked_at(self, x):
        """As in `AnomalyScorer`; raises InputError before `fit`, see `check_fitted`."""
        self.check_fitted()
        return super().looked_at(x)

    def load_own_variables(self, store):
        # The last one; other weights of these detectors have one dimension or none.
        last = np.shape(store[str(sum(name != STATE for name in store.keys()) - 1)])  # noqa: SIM118 (no dict)
        if len(last) == 2 and last[1] == self.values and (self.normals is None or self.normals.shape != last):
            self.hold(last[0])
        super().load_own_variables(store)

    def get_config(self):
        kept = {} if self.normals is None else {"kept": self.normals.shape[0]}
        return super().get_config() | kept

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        kept = config.pop("kept", None)
        model = super().from_config(config)
        if kept is not None:
            model.hold(kept)
        return model


def drawn(normals, most: int, seed: int):
    """At most so many of the normals, drawn by the seed, in their order."""
    if len(normals) <= most:
        return normals
    return normals[np.sort(np.random.default_rng(seed).permutation(len(normals))[:most])]


def prepared(model, normals, size: int = 64) -> Iterator[np.ndarray]:
    """Normals as the score of a detector takes them, batch by batch."""
    for start in range(0, len(normals), size):
        yield np.asarray(model.preprocess(tf.constant(np.asarray(normals[start : start + size]))))
