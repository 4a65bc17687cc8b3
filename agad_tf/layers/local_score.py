"""A score that looks where the map looks: the most anomalous places of an image, and not all of it."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError


@keras.saving.register_keras_serializable("agad_tf")
class LocalScore(keras.layers.Layer):
    """Maps (batch, height, width, channels) to the local score of each channel, (batch, channels).

    Each map is smoothed, standardised per pixel on normal images, and its score is the mean of the largest
    share of its pixels. An error that is large at every edge of every part then counts for little there, and
    a scratch of a few pixels is not averaged away.

    Args:
        smoothing: deviation of the Gaussian as a share of the shorter side; 0 does not smooth.
        share: of the pixels that the score averages, those with the largest values; at least one pixel.
        floor: added to each pixel's deviation: where normal images hardly differ, noise would count most.

    Attributes:
        mean, deviation: (height, width), of smoothed maps of normal images; 0 and 1 until `adapt`.
    """

    def __init__(self, smoothing: float = 0.0, share: float = 0.01, floor: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        if not 0 < share <= 1:
            raise InputError(f"share expects a number above 0 and up to 1, received {share}")
        for name, value in (("smoothing", smoothing), ("floor", floor)):
            if not value >= 0:
                raise InputError(f"{name} expects a number of at least 0, received {value}")
        self.smoothing, self.share, self.floor = float(smoothing), float(share), float(floor)

    def build(self, input_shape):
        shape = tuple(input_shape[1:3])
        for name, first in (("mean", "zeros"), ("deviation", "ones")):
            weight = self.add_weight(
                name=name, shape=shape, initializer=first, trainable=False, autocast=False, dtype="float32"
            )
            setattr(self, name, weight)
        self.kernel = gaussian(self.smoothing * min(shape))

    @property
    def count(self) -> int:
        """How many pixels the score averages."""
        return max(1, round(self.share * self.mean.shape[0] * self.mean.shape[1]))

    def smoothed(self, maps) -> tf.Tensor:
        """Maps through the Gaussian, edges reflected; of the same shape."""
        if len(self.kernel) == 1:
            return maps
        radius, channels = len(self.kernel) // 2, maps.shape[-1]
        for axis in (1, 2):
            paddings = [[radius, radius] if dimension == axis else [0, 0] for dimension in range(4)]
            shape = (-1, 1) if axis == 1 else (1, -1)
            kernel = np.tile(self.kernel.reshape(*shape, 1, 1), (1, 1, channels, 1))
            padded = tf.pad(maps, paddings, "SYMMETRIC")
            maps = tf.nn.depthwise_conv2d(padded, tf.constant(kernel), [1, 1, 1, 1], "VALID")
        return maps

    def standardised(self, maps) -> tf.Tensor:
        """Smoothed maps in deviations from normal images, of the same shape."""
        return (self.smoothed(maps) - self.mean[..., None]) / self.deviation[..., None]

    def call(self, maps):
        maps = self.standardised(maps)
        flat = tf.reshape(maps, (-1, maps.shape[1] * maps.shape[2], maps.shape[3]))
        largest, _ = tf.math.top_k(tf.transpose(flat, (0, 2, 1)), self.count)
        return tf.reduce_mean(largest, axis=-1)

    def adapt(self, maps) -> None:
        """Standardises by maps of normal images.

        Args:
            maps: (n, height, width, channels), or batches of them one after the other.

        Raises:
            InputError: no map.
        """
        blocks = [maps] if hasattr(maps, "shape") else maps
        total, squares, count = 0.0, 0.0, 0
        for block in blocks:
            block = np.asarray(self.smoothed(tf.cast(block, tf.float32)), np.float64)
            total, squares = total + block.sum((0, 3)), squares + (block**2).sum((0, 3))
            count += block.shape[0] * block.shape[3]
        if not count:
            raise InputError("adapt expects at least one map of a normal image, received none: pass some")
        mean = total / count
        self.mean.assign(mean)
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0)) + self.floor
        self.deviation.assign(np.maximum(deviation, 1e-6))

    def get_config(self):
        settings = {"smoothing": self.smoothing, "share": self.share, "floor": self.floor}
        return {**super().get_config(), **settings}


def gaussian(deviation: float) -> np.ndarray:
    """Weights of a Gaussian of so many pixels, up to three deviations to each side, that sum to 1."""
    radius = int(np.ceil(3 * deviation))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(deviation, 1e-6)) ** 2)
    return (weights / weights.sum()).astype(np.float32)
