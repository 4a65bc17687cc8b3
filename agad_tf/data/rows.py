"""Images that stay where they are until they are asked for, behind the face of an array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np


class Store(Protocol):
    """Where `LazyRows` reads from.

    Attributes:
        shape: (n, height, width, channels) of all images.
        digests: content digest of each image, uint8 (n, 16): see `agad_tf.data.content.row_digests`.
    """

    shape: tuple[int, int, int, int]
    digests: np.ndarray

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images at these positions, in this order, uint8; safe to call from several threads."""
        ...


class ArrayStore:
    """Images in memory whose digests are those of what they were made from.

    Args:
        images: uint8 (n, height, width, channels).
        digests: uint8 (n, 16).
    """

    def __init__(self, images: np.ndarray, digests: np.ndarray):
        self.images, self.digests, self.shape = images, digests, images.shape

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images at these positions."""
        return self.images[rows]


class LazyRows:
    """A uint8 array (n, height, width, channels) of which nothing is in memory.

    `shape`, `dtype`, `ndim`, `len` and iteration are those of the array. `rows[5]` reads one image; a slice,
    an index array or a mask gives another `LazyRows`, which reads nothing; `np.asarray(rows)` reads all.
    `fit`, `predict` and `evaluate` take it like an array and hold a few batches of it.

    Args:
        store: where the images are.
        positions: int64, which of them, in this order; None for all.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, store: Store, positions: np.ndarray | None = None):
        self.store = store
        self.positions = np.arange(store.shape[0]) if positions is None else positions

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.positions), *self.store.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes that the array would take in memory."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def digests(self) -> np.ndarray:
        """Content digests, uint8 (n, 16)."""
        return self.store.digests[self.positions]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index):
        chosen = self.positions[index]
        return LazyRows(self.store, chosen) if np.ndim(chosen) else self.store.read(np.array([chosen]))[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks():
            yield from block

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("LazyRows holds no array that could be shared: leave out copy=False")
        return self.store.read(self.positions).astype(dtype or self.dtype, copy=False)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images at these positions of this array, uint8 (len(rows), height, width, channels)."""
        return self.store.read(self.positions[rows])

    def blocks(self, size: int = 256) -> Iterator[np.ndarray]:
        """The images in order, at most `size` at once."""
        for start in range(0, len(self), size):
            yield self.store.read(self.positions[start : start + size])
