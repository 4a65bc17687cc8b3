"""What a sample is, in 16 bytes: the one place where content is hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from agad_tf.data.rows import LazyRows

DIGEST_BYTES = 16
_BLOCK = 1024  # table rows converted at once


def pixel_digest(pixels: np.ndarray) -> bytes:
    """16 bytes of the pixels alone, whatever their shape: what an index of shards stores for each image."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).reshape(-1), digest_size=DIGEST_BYTES).digest()


def content_digest(row: np.ndarray) -> bytes:
    """16 bytes of one image or table row with its shape; see `row_digests`."""
    return _with_shape(pixel_digest(row), row.shape)


def with_shape(pixel_digests: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Content digests, uint8 (n, 16), from digests of the pixels alone and the shape of every image."""
    return _joined(_with_shape(digest.tobytes(), shape) for digest in pixel_digests)


def row_digests(x: np.ndarray | LazyRows) -> np.ndarray:
    """Content digest of every row: equal for equal content, whatever the name, position or file.

    Images count with their shape, so that 2 x 8 pixels are not 4 x 4. Table rows are compared as float64, in
    which float32 values keep theirs, and -0.0 is 0.0. Images that are not in memory have theirs stored.

    Args:
        x: uint8 (n, height, width, channels), or a table (n, features).

    Returns:
        uint8 (n, 16).
    """
    if isinstance(x, LazyRows):
        return x.digests
    if x.dtype == np.uint8 and x.ndim == 4:
        return _joined(map(content_digest, x))
    blocks = (x[start : start + _BLOCK].astype(np.float64) + 0.0 for start in range(0, len(x), _BLOCK))
    return _joined(content_digest(row) for block in blocks for row in block)


def _with_shape(digest: bytes, shape: tuple[int, ...]) -> bytes:
    told = repr(tuple(int(side) for side in shape)).encode()
    return hashlib.blake2b(told + digest, digest_size=DIGEST_BYTES).digest()


def _joined(digests: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)


def numbered(digests: np.ndarray) -> np.ndarray:
    """Numbers rows by content, by first appearance: equal rows have the same number, int64 (n,)."""
    keys = np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel().tolist()
    seen: dict[bytes, int] = {}
    return np.fromiter((seen.setdefault(key, len(seen)) for key in keys), np.int64, len(keys))
