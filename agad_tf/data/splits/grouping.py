"""Drawing rows so that equal rows stay together, each decision from its own random stream."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np

from agad_tf.data.rows import LazyRows


def stream(seed: int, decision: str, index: int = 0) -> np.random.Generator:
    """The random generator of one decision; what another decision draws does not touch it."""
    return np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=(zlib.crc32(decision.encode()), index))
    )


def content_digest(row: np.ndarray) -> bytes:
    """16 bytes that are equal for rows of equal content."""
    return hashlib.blake2b(np.ascontiguousarray(row).reshape(-1), digest_size=16).digest()


def content_groups(x: np.ndarray | LazyRows) -> np.ndarray:
    """Numbers the rows by content, by first appearance: equal rows have the same number, int64 (n,)."""
    if isinstance(x, LazyRows):
        digests = x.digests.view("V16").ravel().tolist()
    else:
        if x.dtype.kind == "f":
            x = x + x.dtype.type(0)  # -0.0 equals 0.0
        digests = map(content_digest, x)
    seen: dict[bytes, int] = {}
    return np.fromiter((seen.setdefault(digest, len(seen)) for digest in digests), np.int64, len(x))


def is_in(groups: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `rows` have a copy in `others`: bool, one a row."""
    return np.isin(groups[rows], groups[others])


def by_group(rows: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`rows` in random order of their groups, equal rows one after the other."""
    values, position = np.unique(groups[rows], return_inverse=True)
    return rows[np.lexsort((rows, rng.permutation(len(values))[position]))]


def stratified_share(
    rows: np.ndarray, classes: np.ndarray, groups: np.ndarray, share: float, seed: int, decision: str
) -> np.ndarray:
    """Draws `share` of the rows of each class, as near as whole groups allow.

    A group with rows of several classes counts, whole, for the class of its first row.

    Returns:
        The drawn rows, sorted.
    """
    rows = np.sort(rows)
    _, first, position = np.unique(groups[rows], return_index=True, return_inverse=True)
    owner = classes[rows[first]][position]
    drawn = [rows[:0]]
    for index in np.unique(owner):
        order = by_group(rows[owner == index], groups, stream(seed, decision, int(index)))
        ends = np.flatnonzero(np.diff(groups[order], append=-1)) + 1
        cuts = np.concatenate([[0], ends])
        drawn.append(order[: cuts[np.argmin(np.abs(cuts - round(share * len(order))))]])
    return np.sort(np.concatenate(drawn))
