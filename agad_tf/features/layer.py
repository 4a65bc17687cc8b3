"""A frozen, pretrained network as one Keras layer: images to a grid of standardised features."""

from __future__ import annotations

import hashlib
import itertools
import json

import keras
import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.features.sources import open_network, tapped

SMALLEST, LARGEST = 64, 512
"""Sides of a working size."""

_CAFFE_MEAN = (103.939, 116.779, 123.68)
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RANGES = ("signed", "bytes", "caffe", "torch")


@keras.saving.register_keras_serializable("agad_tf")
class FrozenFeatures(keras.layers.Layer):
    """Images (batch, height, width, 1 or 3) in [−1, 1] to features (batch, rows, columns, channels).

    The taps of the network are brought onto the grid of the middle one, finer ones by averaging and coarser
    ones by bilinear interpolation, and concatenated: a step of 8 pixels for taps of 4, 8 and 16. `call` gives
    them standardised by the mean and deviation that `adapt` was given; `raw` as the network gives them. The
    network is never trained, and is saved with the layer.

    Args:
        network: a Keras model that ends in its taps, or its JSON from `get_config`.
        image_size: (height, width) of the images, 64 to 512 each, multiples of the coarsest stride.
        source: what it is called in messages and reports.
        value_range: what the network takes: "signed" is [−1, 1], "bytes" 0 to 255, "caffe" and "torch" as
            `keras.applications` calls them.

    Attributes:
        network: the frozen network.
        grid: (rows, columns, channels) of the output.
        stride: input pixels a step of the grid.

    Raises:
        InputError: a working size that the network cannot take, outputs that are no such grids.
    """

    def __init__(self, network, image_size, source: str = "own", value_range: str = "signed", **kwargs):
        super().__init__(**kwargs)
        if value_range not in RANGES:
            raise InputError(f"value_range expects one of {', '.join(RANGES)}, received {value_range!r}")
        self.source, self.value_range = source, value_range
        self.image_size = tuple(int(side) for side in image_size)
        if isinstance(network, str):
            self._architecture = network
            network = keras.saving.deserialize_keras_object(json.loads(network))
        else:
            self._architecture = json.dumps(keras.saving.serialize_keras_object(network), sort_keys=True)
        self.network = network
        network.trainable = False
        self.trainable = False
        self.stride, self.grid = self._measure()
        self.mean = self._statistic("mean", "zeros")
        self.deviation = self._statistic("deviation", "ones")
        self.adapted = self.add_weight(name="adapted", shape=(), initializer="zeros", trainable=False)
        self.built = True

    @classmethod
    def from_source(cls, source, image_size, weights="imagenet", taps=None, **kwargs) -> FrozenFeatures:
        """The layer of a network by name, file or object; see `agad_tf.features.sources.open_network`."""
        network, name, value_range = open_network(source, weights)
        return cls(tapped(network, name, taps), image_size, name, value_range, **kwargs)

    def call(self, images):
        """Standardised features, float32."""
        return self.standardise(self.raw(images))

    def raw(self, images) -> tf.Tensor:
        """Features as the network gives them, float32."""
        x = tf.cast(images, tf.float32)
        if x.shape[-1] == 1 and self.network.inputs[0].shape[-1] != 1:
            x = tf.concat([x, x, x], axis=-1)
        taps = keras.tree.flatten(self.network(self._in_range(x), training=False))
        rows, columns, _ = self.grid
        return tf.concat([_on_grid(tf.cast(tap, tf.float32), rows, columns) for tap in taps], axis=-1)

    def standardise(self, features) -> tf.Tensor:
        """(features − mean) / deviation, float32."""
        return (tf.cast(features, tf.float32) - self.mean) / self.deviation

    def adapt(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Sets what features are standardised by, (channels,) each."""
        self.mean.assign(mean)
        # A feature that never moved among the normals keeps its size.
        self.deviation.assign(np.where(deviation > 1e-6, deviation, 1.0))
        self.adapted.assign(1.0)

    def digest(self) -> str:
        """SHA-256 of the network, its weights and all that its features depend on."""
        state = hashlib.sha256(json.dumps([self._architecture, self.image_size, self.value_range]).encode())
        for weight in self.network.get_weights():
            state.update(np.ascontiguousarray(weight).data)
        return state.hexdigest()

    def _statistic(self, name: str, initializer: str):
        return self.add_weight(
            name=name, shape=(self.grid[2],), initializer=initializer, trainable=False, dtype="float32"
        )

    def _in_range(self, x):
        if self.value_range == "signed":
            return x
        if self.value_range == "bytes":
            return x * 127.5 + 127.5
        if self.value_range == "caffe":
            return x[..., ::-1] * 127.5 + (127.5 - tf.constant(_CAFFE_MEAN))
        return ((x + 1) / 2 - tf.constant(_TORCH_MEAN)) / tf.constant(_TORCH_DEVIATION)

    def _measure(self) -> tuple[int, tuple[int, int, int]]:
        """Pixels a step of the grid, and its shape."""
        height, width = self.image_size
        fixed = self.network.inputs[0].shape[1:]
        wanted = tuple(side or size for side, size in zip(fixed[:2], self.image_size, strict=True))
        if wanted != self.image_size:
            raise InputError(
                f"features {self.source}: expected a working size of {wanted[0]}x{wanted[1]}, which the "
                f"network was made for, received {height}x{width}: choose that size"
            )
        if fixed[2] not in (None, 1, 3):
            raise InputError(
                f"features {self.source}: expected a network of 1 or 3 channels, received {fixed[2]}"
            )
        if not all(SMALLEST <= side <= LARGEST for side in self.image_size):
            raise InputError(
                f"features {self.source}: expected a working size of {SMALLEST} to {LARGEST} a side, "
                f"received {height}x{width}: choose another image size"
            )
        shapes = self.network.compute_output_shape((1, height, width, fixed[2] or 3))
        shapes = [shapes] if isinstance(shapes, tuple) else shapes
        if any(len(shape) != 4 or None in shape[1:] for shape in shapes):
            raise InputError(f"features {self.source}: expected taps (batch, rows, columns, channels)")
        sizes = sorted({tuple(shape[1:3]) for shape in shapes}, reverse=True)
        stride = -(-height // sizes[-1][0])
        for larger, smaller in itertools.pairwise([(height, width), *sizes]):
            if larger[0] % smaller[0] or larger[1] % smaller[1]:
                near = [max(stride, round(side / stride) * stride) for side in self.image_size]
                raise InputError(
                    f"features {self.source}: expected a working size of multiples of {stride}, received "
                    f"{height}x{width}: choose for instance {near[0]}x{near[1]}"
                )
        rows, columns = sizes[len(sizes) // 2]
        return height // rows, (rows, columns, sum(shape[3] for shape in shapes))

    def get_config(self):
        return {
            **super().get_config(),
            "network": self._architecture,
            "image_size": self.image_size,
            "source": self.source,
            "value_range": self.value_range,
        }


def _on_grid(tap: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    window = (tap.shape[1] // rows, tap.shape[2] // columns)
    if 0 in window:
        return tf.image.resize(tap, (rows, columns), method="bilinear")
    return tap if window == (1, 1) else tf.nn.avg_pool2d(tap, window, window, "VALID")
