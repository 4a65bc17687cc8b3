"""Feature grids computed once a sample and kept: in memory, in a file where they are many. NumPy only."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

MEMORY = 2 << 30
"""Bytes of features in memory, of all stores together; beyond it they go to a temporary file."""

_stores: dict[str, FeatureStore] = {}


class FeatureStore:
    """Grids of one network and working size, by the digest of the sample's content.

    Args:
        shape: (rows, columns, channels) of a grid; kept as float16.
        folder: keeps them in files there, which another process goes on with; None for memory, and for a
            temporary file beyond `memory` bytes.
        name: of the files, the digest of the settings.
        memory: bytes.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        folder: str | Path | None = None,
        name: str = "",
        memory: int = MEMORY,
    ):
        self.grid, self.memory = tuple(shape), memory
        self._row: dict[bytes, int] = {}
        self._blocks = np.empty((0, *self.grid), np.float16)
        self._file = self._names = None
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._file = open(Path(folder) / f"{name[:32]}.features", "a+b")  # noqa: SIM115 (kept open)
            self._names = open(Path(folder) / f"{name[:32]}.digests", "a+b")  # noqa: SIM115
            self._find()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, rows, columns, channels)."""
        return (len(self._row), *self.grid)

    @property
    def digests(self) -> np.ndarray:
        """Content digest of each row, uint8 (n, 16)."""
        return np.frombuffer(b"".join(self._row), np.uint8).reshape(-1, 16)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self._blocks.nbytes if self._file is None else 0

    def rows(self, digests: np.ndarray, compute: Callable[[np.ndarray], Iterable[np.ndarray]]) -> np.ndarray:
        """Where the grids of these samples are, int64 (n,); those that are missing are computed.

        Args:
            digests: uint8 (n, 16).
            compute: positions of samples to their grids (batch, rows, columns, channels), in order, batch
                by batch.
        """
        names = [digest.tobytes() for digest in digests]
        new = {name: at for at, name in enumerate(names) if name not in self._row}
        positions, keys = np.array(list(new.values()), np.int64), list(new)
        done = 0
        if keys:
            for grids in compute(positions):
                self._add(keys[done : done + len(grids)], np.asarray(grids, np.float16))
                done += len(grids)
        return np.array([self._row[name] for name in names], np.int64)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The grids at these rows, float16 (len(rows), rows, columns, channels)."""
        return np.asarray(self._mapped()[rows])

    def _add(self, names: list[bytes], grids: np.ndarray) -> None:
        start = len(self._row)
        if self._file is None and (start + len(names)) * grids[0].nbytes > self.memory:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the store)
            self._file.write(self._blocks[:start].tobytes())
            self._blocks = self._blocks[:0]
        if self._file is not None:
            self._file.write(grids.tobytes())
            self._file.flush()
            if self._names is not None:  # after its grid: a digest in the file has one
                self._names.write(b"".join(names))
                self._names.flush()
        else:
            if start + len(names) > len(self._blocks):
                room = max(len(self._blocks) * 3 // 2, start + len(names))
                grown = np.empty((room, *self.grid), np.float16)
                grown[:start] = self._blocks[:start]
                self._blocks = grown
            self._blocks[start : start + len(names)] = grids
        self._row |= {name: start + at for at, name in enumerate(names)}

    def _mapped(self) -> np.ndarray:
        if self._file is None:
            return self._blocks
        if len(self._row) != len(self._blocks):
            self._blocks = np.memmap(self._file, np.float16, "r", shape=self.shape)
        return self._blocks

    def _find(self) -> None:
        """Takes over what another process wrote, up to where both files are whole."""
        size = int(np.prod(self.grid)) * 2
        self._names.seek(0)
        names = self._names.read()
        count = min(len(names) // 16, Path(self._file.name).stat().st_size // size)
        self._row = {names[16 * at : 16 * at + 16]: at for at in range(count)}
        self._file.truncate(count * size)
        self._names.truncate(count * 16)


def store_of(name: str, shape: tuple[int, int, int], folder: str | Path | None = None) -> FeatureStore:
    """The store of these settings, shared by all detectors of a process that have them.

    Args:
        name: digest of the network, its weights and the preprocessing.
        shape, folder: see `FeatureStore`.
    """
    key = f"{name} {folder}"
    if key not in _stores:
        while _stores and sum(store.nbytes for store in _stores.values()) > MEMORY // 2:
            del _stores[next(iter(_stores))]  # the oldest
        _stores[key] = FeatureStore(shape, folder, name)
    return _stores[key]


def content_digests(x: np.ndarray) -> np.ndarray:
    """Digest of the shape, type and values of each sample, uint8 (n, 16)."""
    about = f"{x.shape[1:]} {x.dtype}".encode()
    digests = [
        hashlib.blake2b(np.ascontiguousarray(sample).tobytes() + about, digest_size=16).digest()
        for sample in x
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)
