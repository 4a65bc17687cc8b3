"""Which patches of an image its label is about, where a mask says it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError

SHARE = 0.1
"""Share of a patch that must be defect; without such a patch the one with most of it counts."""


class PatchLabels:
    """The patches of labelled anomalies at their masks, found again by the images' content.

    Batches carry images and labels alone; content leads from an image to its mask.

    Args:
        content: int64 (n,), a number for the content of each image.
        patches: bool (n, patches), True at the mask.
    """

    def __init__(self, content: np.ndarray, patches: np.ndarray):
        self._content, self._patches = tf.constant(content), tf.constant(patches)

    def of(self, content: tf.Tensor) -> tf.Tensor:
        """Bool (batch, patches): True at the mask, and everywhere in an image that has none."""
        same = content[:, None] == self._content
        found = tf.gather(self._patches, tf.argmax(same, axis=1))
        return found | ~tf.reduce_any(same, axis=1, keepdims=True)


def content_of(x) -> tf.Tensor:
    """A number for the content of each sample, the sum of its bits in words, int64 (batch,)."""
    words = {2: tf.int16, 4: tf.int32, 8: tf.int64}.get(x.dtype.size)
    content = tf.cast(x if words is None else tf.bitcast(x, words), tf.int64)
    return tf.reduce_sum(tf.reshape(content, (tf.shape(x)[0], -1)), axis=1)


def worst_places(logits: tf.Tensor, count: int, allowed: tf.Tensor | None = None) -> tf.Tensor:
    """Where the largest logits of each image are, (batch, count).

    Args:
        logits: (batch, patches).
        count: how many.
        allowed: bool (batch, patches), where they may be taken from, one an image at least; None for
            everywhere. Where there are fewer than count, the largest one stands for the rest.
    """
    if allowed is not None:
        logits = tf.where(allowed, logits, logits.dtype.min)
    largest, places = tf.math.top_k(logits, count)
    return places if allowed is None else tf.where(largest > logits.dtype.min, places, places[:, :1])


def at_masks(masks: Sequence | None, y: np.ndarray, preprocess, grid, size) -> tuple[np.ndarray, np.ndarray]:
    """The patches at the masks of anomalies, and those beside them, whose features see the defect too.

    Args:
        masks: of each sample bool (height, width), or None for one without; None for none at all.
        y: (n,) 0 normal, 1 anomaly.
        preprocess: the layer that resizes images; a mask is resized and cropped as its image.
        grid: (rows, columns).
        size: (height, width) of the images.

    Returns:
        Positions (m,) of the anomalies with a mask of which a defect is left at the working size, and bool
        (m, rows · columns).

    Raises:
        InputError: another number of masks, one of another size than its image, or without a defect.
    """
    if masks is not None and len(masks) != len(y):
        raise InputError(f"masks expects one for each of {len(y)} samples, or None, received {len(masks)}")
    low, high = preprocess.value_range
    positions, found = [], []
    for position in np.flatnonzero(y == 1) if masks is not None else ():
        if masks[position] is None:
            continue
        mask = np.asarray(masks[position])
        if mask.shape != tuple(size) or not mask.any():
            raise InputError(
                f"masks expects (height, width) {tuple(size)} with a defect in it, received shape "
                f"{mask.shape} with {int((mask != 0).sum())} pixels of defect: give None where there is none"
            )
        pixels = tf.constant(np.where(mask, np.uint8(255), np.uint8(0))[None, ..., None])
        share = (preprocess(pixels) - low) / (high - low)
        window = (share.shape[1] // grid[0], share.shape[2] // grid[1])
        share = tf.nn.avg_pool2d(share, window, window, "VALID")
        share = tf.nn.max_pool2d(share, 3, 1, "SAME").numpy().reshape(-1)
        if share.max() > 0:  # else it was cropped away
            positions.append(position)
            found.append(share >= min(SHARE, share.max()))
    shape = (len(found), grid[0] * grid[1])
    return np.array(positions, np.int64), np.array(found, bool).reshape(shape)
