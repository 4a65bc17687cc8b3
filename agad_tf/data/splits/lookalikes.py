"""Images on two sides of a split that look like photographs of one thing; a hint, not a proof."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import SIDES, Split
from agad_tf.pixels import resize_bilinear

MOST = 3000
"""Images that are compared, evenly spread over the sides."""
_LEAST_SIDE = 48  # digits and icons look alike by nature
_GRID = 16
_LEAST_TYPICAL = 20  # bits by which two images differ as a rule; where it is less, the grid tells nothing


@dataclass(frozen=True)
class LookAlikes:
    """Attributes: `pairs` across sides that look alike; `rows` and `sides` of the closest pair."""

    pairs: int
    rows: list[int]
    sides: list[str]


def look_alikes(samples: Samples, split: Split) -> LookAlikes | None:
    """Pairs of images on different sides whose coarse structure is nearly the same; None without any.

    Each image becomes 256 bits: whether a cell of a 16 x 16 grid is brighter than its left neighbour, which
    does not change with the light. Two images look alike where they differ in no more than a tenth of the
    bits that two images of the set differ in as a rule. Photographs of one thing that is turned in between
    are not found, nor anything in sets whose images are all of one coarse structure, such as aligned parts.

    Args:
        samples: images; small ones and tables are not looked at.
        split: whose sides are compared.
    """
    if samples.x.ndim != 4 or min(samples.x.shape[1:3]) < _LEAST_SIDE:
        return None
    rows = [split.labelled(side)[0] for side in SIDES]
    share = min(1.0, MOST / max(1, sum(map(len, rows))))
    rows = [
        part[np.unique(np.linspace(0, len(part) - 1, round(share * len(part))).astype(int))] for part in rows
    ]
    side = np.repeat(np.arange(len(SIDES)), [len(part) for part in rows])
    rows = np.concatenate(rows)
    if len(np.unique(side)) < 2:
        return None
    bits = np.concatenate([_bits(samples.x, rows[start : start + 64]) for start in range(0, len(rows), 64)])
    signs = np.where(bits, np.float32(1), np.float32(-1))
    some = signs[np.unique(np.linspace(0, len(signs) - 1, 500).astype(int))]
    typical = np.median((_GRID**2 - some @ some.T)[np.triu_indices(len(some), 1)]) / 2
    if typical < _LEAST_TYPICAL:
        return None
    best, pairs, found = np.inf, 0, None
    for start in range(0, len(signs), 500):
        apart = (_GRID**2 - signs[start : start + 500] @ signs.T) / 2
        apart[side[start : start + 500, None] >= side] = np.inf  # each pair once, and of two sides alone
        pairs += int((apart <= typical / 10).sum())
        one, other = np.unravel_index(np.argmin(apart), apart.shape)
        if apart[one, other] < best:
            best, found = apart[one, other], (start + one, other)
    if not pairs:
        return None
    one, other = found
    return LookAlikes(pairs, [int(rows[one]), int(rows[other])], [SIDES[side[one]], SIDES[side[other]]])


def _bits(x, rows: np.ndarray) -> np.ndarray:
    images = np.asarray(x[rows])
    # Cells are means: shrink by whole factors first, since the resize itself reads single pixels.
    high, wide = (max(1, size // (2 * _GRID)) for size in images.shape[1:3])
    images = images[:, : images.shape[1] // high * high, : images.shape[2] // wide * wide].astype(np.float32)
    n, height, width, channels = images.shape
    images = images.reshape(n, height // high, high, width // wide, wide, channels).mean(axis=(2, 4))
    cells = resize_bilinear(images.mean(axis=-1, keepdims=True), (_GRID, _GRID + 1))[..., 0]
    return (cells[:, :, 1:] > cells[:, :, :-1]).reshape(n, -1)
