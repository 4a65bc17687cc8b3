"""Which patches of an image its label is about, where a mask says it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError

SHARE = 0.1
"""Share of a patch that must be defect; of an image without such a patch the one with most of it counts."""


class PatchLabels:
    """The patches of labelled anomalies that lie under their masks, found again by the images' content.

    Batches carry images and labels alone; content leads from an image to its mask.

    Args:
        content: int64 (n,), a number for the content of each image.
        patches: bool (n, patches), True under the mask.
    """

    def __init__(self, content: np.ndarray, patches: np.ndarray):
        self._content, self._patches = tf.constant(content), tf.constant(patches)

    def of(self, content: tf.Tensor) -> tf.Tensor:
        """Bool (batch, patches): True under the mask, and everywhere in an image that has none."""
        same = content[:, None] == self._content
        found = tf.gather(self._patches, tf.argmax(same, axis=1))
        return found | ~tf.reduce_any(same, axis=1, keepdims=True)


def content_of(x) -> tf.Tensor:
    """A number for the content of each sample, the sum of its bits in words, int64 (batch,)."""
    words = {2: tf.int16, 4: tf.int32, 8: tf.int64}.get(x.dtype.size)
    content = tf.cast(x if words is None else tf.bitcast(x, words), tf.int64)
    return tf.reduce_sum(tf.reshape(content, (tf.shape(x)[0], -1)), axis=1)


def worst_places(logits: tf.Tensor, count: int, under: tf.Tensor | None = None) -> tf.Tensor:
    """Where the largest logits of each image are, (batch, count).

    Args:
        logits: (batch, patches).
        count: how many.
        under: bool (batch, patches), where they may be taken from, one an image at least; None for
            everywhere. Where there are fewer than count, the largest one stands for the rest.
    """
    if under is not None:
        logits = tf.where(under, logits, logits.dtype.min)
    largest, places = tf.math.top_k(logits, count)
    return places if under is None else tf.where(largest > logits.dtype.min, places, places[:, :1])


def patch_labels(rows, y: np.ndarray, masks: Sequence | None, preprocess, grid) -> PatchLabels | None:
    """Of the anomalies that have a mask; None where none has.

    Args:
        rows: (n, rows, columns, channels), features of the samples as batches will hold them.
        y: (n,) 0 normal, 1 anomaly.
        masks: n of them, see `under_masks`, each may be None; None for none at all.
        preprocess, grid: as in `under_masks`.

    Raises:
        InputError: another number of masks, or a mask that `under_masks` refuses.
    """
    if masks is None:
        return None
    if len(masks) != len(y):
        raise InputError(f"masks expects one for each of {len(y)} samples, or None, received {len(masks)}")
    masked = np.array([index for index in np.flatnonzero(y == 1) if masks[index] is not None], np.int64)
    if not len(masked):
        return None
    content = content_of(tf.constant(np.asarray(rows[masked]))).numpy()
    return PatchLabels(content, under_masks([masks[index] for index in masked], preprocess, grid))


def under_masks(masks: Sequence, preprocess, grid: tuple[int, int]) -> np.ndarray:
    """The patches under masks and those beside them, whose features see the defect too, bool (n, patches).

    Args:
        masks: bool (height, width) each, at the size of the image that it belongs to.
        preprocess: the layer that resizes images; a mask is resized and cropped as its image.
        grid: (rows, columns).

    Raises:
        InputError: a mask of another shape, or without a defect.
    """
    low, high = preprocess.value_range
    found = []
    for mask in masks:
        mask = np.asarray(mask)
        if mask.ndim != 2 or not mask.any():
            raise InputError(
                f"masks expects (height, width) with a defect in it, received shape {mask.shape} with "
                f"{int((mask != 0).sum())} pixels of defect: give None for an anomaly without a mask"
            )
        pixels = tf.constant(np.where(mask, np.uint8(255), np.uint8(0))[None, ..., None])
        share = (preprocess(pixels) - low) / (high - low)
        window = (share.shape[1] // grid[0], share.shape[2] // grid[1])
        share = tf.nn.avg_pool2d(share, window, window, "VALID")
        share = tf.nn.max_pool2d(share, 3, 1, "SAME").numpy().reshape(-1)
        found.append(share >= min(SHARE, share.max()))
    return np.stack(found)
