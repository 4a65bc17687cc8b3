"""What a sample is, in 16 bytes: the one place where content is hashed."""

from __future__ import annotations

import hashlib

import numpy as np

from agad_tf.data.rows import LazyRows

DIGEST_BYTES = 16
_BLOCK = 1024  # table rows converted at once


def pixel_digest(pixels: np.ndarray) -> bytes:
    """16 bytes of the pixels alone, whatever their shape: what an index of shards stores for each image."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).reshape(-1), digest_size=DIGEST_BYTES).digest()


def row_digests(x: np.ndarray | LazyRows) -> np.ndarray:
    """Content digest of every row: equal for equal content, whatever the name, position or file.

    Images count with their shape, so that 2 x 8 pixels are not 4 x 4. Table rows are compared as float64, in
    which float32 values keep theirs, and -0.0 is 0.0. Images of shards use the digests in their index.

    Args:
        x: uint8 (n, height, width, channels), or a table (n, features).

    Returns:
        uint8 (n, 16).
    """
    shape = repr(tuple(int(side) for side in x.shape[1:])).encode()
    if isinstance(x, LazyRows):
        pieces = (digest.tobytes() for digest in x.digests)
    elif x.dtype == np.uint8 and x.ndim == 4:
        pieces = map(pixel_digest, x)
    else:
        pieces = (
            pixel_digest(row)
            for start in range(0, len(x), _BLOCK)
            for row in x[start : start + _BLOCK].astype(np.float64) + 0.0
        )
    found = (hashlib.blake2b(shape + piece, digest_size=DIGEST_BYTES).digest() for piece in pieces)
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, DIGEST_BYTES)


def numbered(digests: np.ndarray) -> np.ndarray:
    """Numbers rows by content, by first appearance: equal rows have the same number, int64 (n,)."""
    keys = np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel().tolist()
    seen: dict[bytes, int] = {}
    return np.fromiter((seen.setdefault(key, len(seen)) for key in keys), np.int64, len(keys))
