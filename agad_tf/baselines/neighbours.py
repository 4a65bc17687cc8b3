"""Distance to the k-th nearest normal, of rows or of pixels."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from agad_tf.baselines.base import check_kind
from agad_tf.baselines.fitted_once import LARGEST, FittedOnce
from agad_tf.errors import InputError
from agad_tf.keras_private import forget_weight
from agad_tf.models.inputs import preprocessing

SPARE = 8
"""Neighbours beyond the k-th whose distance is computed without rounding."""


@keras.saving.register_keras_serializable("agad_tf")
class Neighbours(FittedOnce):
    """Distance to the k-th nearest normal of the training part, over scaled values.

    Labelled anomalies are left out of training. A sample of the training part has itself among its
    neighbours. Normals are kept whole; of more than 64 MB of them as many as that are drawn.

    Args:
        input_shape: (features,), or (height, width, channels).
        k: which neighbour's distance is the score, at least 1; the last one where there are fewer.
        seed: of the draw of normals where there are too many.
        crop: as in `agad_tf.AGAD`; images only.
        clip: as in `agad_tf.AABiGAN`; tables only.

    Attributes:
        normals: the normals kept, scaled, (n, values); None before `fit`.

    Raises:
        InputError: another shape, k below 1.

    Source: Ramaswamy, Rastogi and Shim, Efficient Algorithms for Mining Outliers from Large Data Sets, SIGMOD
    2000, section 2.
    """

    takes_tables = True
    score_names = ("distance",)
    paper_epochs = 1

    def __init__(
        self,
        input_shape,
        k: int = 5,
        seed: int = 0,
        crop: str = "stretch",
        clip: float | None = None,
        **kwargs,
    ):
        super().__init__(input_shape, self.score_names[0], **kwargs)
        check_kind(type(self), self.sample_shape, type(self).__name__)
        if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
            raise InputError(f"k expects a whole number above 0, received {k!r}")
        self.k, self.seed, self.crop, self.clip = int(k), seed, crop, clip
        self.preprocess = preprocessing(
            self.sample_shape, (0.0, 1.0), crop, clip, "float32", self.preprocessing, self.encoding
        )
        self.normals = self._training_normals = None
        self.built = True

    @property
    def values(self) -> int:
        """How many numbers a sample is."""
        return int(np.prod(self.network_shape))

    def _hold(self, count: int) -> None:
        """Makes room for so many normals."""
        if self.normals is not None:
            forget_weight(self, self.normals)
        self.normals = self._state("normals", (count, self.values))

    def fit_to(self, normals):
        normals = self.drawn(normals, max(1, LARGEST // self.values))
        kept = np.concatenate([batch.reshape(len(batch), -1) for batch in self.prepared(normals, 256)])
        self._hold(len(kept))
        self.normals.assign(kept)

    def nearest(self, x, count: int) -> tf.Tensor:
        """What lies between preprocessed samples and their nearest normals, (batch, count, values).

        The nearest first; `count` is at most the number of normals.
        """
        flat, normals = tf.reshape(x, (-1, self.values)), tf.convert_to_tensor(self.normals)
        # By a product of matrices, whose rounding can confuse neighbours alike; of a few more than are
        # wanted the differences decide.
        squared = tf.reduce_sum(normals**2, axis=-1) - 2.0 * tf.matmul(flat, normals, transpose_b=True)
        _, found = tf.math.top_k(-squared, min(count + SPARE, normals.shape[0]))
        away = flat[:, None] - tf.gather(normals, found)
        _, order = tf.math.top_k(-tf.reduce_sum(away**2, axis=-1), count)
        return tf.gather(away, order, batch_dims=1)

    def away(self, x) -> tf.Tensor:
        """What lies between preprocessed samples and their k-th nearest normal, (batch, values)."""
        if self.normals is None:
            raise InputError(f"{type(self).__name__} expects fit before predict, received neither: call fit")
        return self.nearest(x, min(self.k, self.normals.shape[0]))[:, -1]

    def raw_score(self, name, x, training=False):
        return tf.norm(self.away(x), axis=-1)

    def reconstruct(self, x):
        """The nearest normal of each sample, in the model's range and shape.

        Args:
            x: uint8 images of any size, float images in [0, 1], or raw rows.
        """
        x = self.preprocess(tf.convert_to_tensor(x))
        return x - tf.reshape(self.nearest(x, 1), (-1, *self.network_shape))

    def scoring_networks(self):
        return {}

    @property
    def scoring_state(self):
        return (*super().scoring_state, "normals")

    @property
    def outside_parts(self):
        """See `agad_tf.export.recipe`."""
        return {"distance": ("length", "away")}

    def outside_outputs(self, x):
        """See `agad_tf.export.recipe`."""
        return {"away": self.away(x)}

    def get_config(self):
        kept = {} if self.normals is None else {"kept": self.normals.shape[0]}
        own = {"input_shape": self.sample_shape, "k": self.k, "seed": self.seed}
        return {**super().get_config(), **own, "crop": self.crop, "clip": self.clip} | kept

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        kept = config.pop("kept", None)
        model = super().from_config(config)
        if kept is not None:
            model._hold(kept)
        return model
