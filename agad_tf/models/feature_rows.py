"""Samples as the features that a frozen network makes of them, behind the face of an array."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from agad_tf.data.rows import LazyRows
from agad_tf.features.store import content_digests, store_of


class FeatureRows(LazyRows):
    """A float32 array (n, rows, columns, channels) of raw features, stored as float16; see `LazyRows`."""

    dtype = np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes that the array would take in memory."""
        return 4 * int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, index):
        chosen = self.positions[index]
        return FeatureRows(self.store, chosen) if np.ndim(chosen) else self.read(np.array([index]))[0]

    def read(self, rows):
        return self.store.read(self.positions[rows]).astype(np.float32)

    def blocks(self, size=256):
        for start in range(0, len(self), size):
            yield self.read(np.arange(start, min(start + size, len(self))))

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError("FeatureRows holds no array that could be shared: leave out copy=False")
        return self.store.read(self.positions).astype(dtype or self.dtype)


def feature_rows(x: np.ndarray | LazyRows, extract, name: str, grid, folder=None, batch_size: int = 32):
    """The features of samples, those that are not kept yet computed.

    Args:
        x: samples that the detector has checked.
        extract: a batch of them, as a tensor, to raw features (batch, rows, columns, channels).
        name: digest of all that the features depend on besides the sample.
        grid: (rows, columns, channels).
        folder: see `agad_tf.features.store.FeatureStore`.
        batch_size: samples that pass through the network at once.
    """
    store = store_of(name, grid, folder)
    digests = x.digests if isinstance(x, LazyRows) else content_digests(x)

    def compute(positions):
        for start in range(0, len(positions), batch_size):
            batch = np.asarray(x[positions[start : start + batch_size]])
            yield extract(tf.convert_to_tensor(batch)).numpy()

    return FeatureRows(store, store.rows(digests, compute))
