"""Principal components of pixels: what they cannot redraw is anomalous."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from sklearn.utils.extmath import randomized_svd

from agad_tf.baselines.base import check_kind
from agad_tf.baselines.fitted_once import FittedOnce
from agad_tf.errors import InputError
from agad_tf.layers import ImagePreprocessing
from agad_tf.layers.local_score import LocalScore
from agad_tf.models.kept_normals import LARGEST, drawn, prepared

FOLDS = 5
"""Parts of the normals; each is redrawn by the components of the others."""
MOST = 2048
"""Normals that components are taken from, drawn where there are more."""


@keras.saving.register_keras_serializable("agad_tf")
class PCA(FittedOnce):
    """Principal components of the pixels of normal images, which redraw an image as far as they can.

    Score "local": the errors |x − x̂|, smoothed, standardised per pixel on normals, and of their map the mean
    of its largest share. "reconstruction": ‖x − x̂‖. "fused" is the sum of both, standardised. Errors of
    normals are those of components that were fitted without them. Labelled anomalies are left out of
    training.

    Args:
        input_shape: (height, width, channels); 64 a side is enough, uint8 images are resized to it.
        components: how many.
        smoothing, share, floor: of the local score, see `agad_tf.layers.local_score.LocalScore`.
        score: "local", "reconstruction" or "fused"; "auto" is "local".
        seed: of the draw of normals where there are more than 2048.
        crop: as in `agad_tf.AGAD`.

    Attributes:
        pixel_mean, directions: (pixels,) and (components, pixels), the latter orthonormal.
        local: the layer of the local score.

    Raises:
        InputError: rows of a table, a number below 1.

    Source: Turk and Pentland, Eigenfaces for Recognition, Journal of Cognitive Neuroscience 3, 1991.
    """

    score_names = ("local", "reconstruction")
    paper_epochs = 1

    def __init__(
        self,
        input_shape,
        components: int = 32,
        smoothing: float = 0.04,
        share: float = 0.03,
        floor: float = 0.01,
        score: str = "auto",
        seed: int = 0,
        crop: str = "stretch",
        **kwargs,
    ):
        super().__init__(input_shape, score, **kwargs)
        check_kind(type(self), self.sample_shape)
        if not components >= 1:
            raise InputError(f"components expects a number of at least 1, received {components}")
        self.components, self.seed, self.crop = int(components), seed, crop
        self.preprocess = ImagePreprocessing(
            self.sample_shape[:2], (0.0, 1.0), crop, self.preprocessing, dtype="float32"
        )
        pixels = int(np.prod(self.sample_shape))
        self.pixel_mean = self._state("pixel_mean", (pixels,))
        self.directions = self._state("directions", (self.components, pixels))
        self.local = LocalScore(smoothing, share, floor, name="local", dtype="float32")
        self.local.build((None, *self.sample_shape[:2], 1))
        self.built = True

    def fit_to(self, normals):
        pixels = int(np.prod(self.sample_shape))
        normals = drawn(normals, max(1, min(MOST, LARGEST // pixels)), self.seed)
        x = np.concatenate([batch.reshape(len(batch), -1) for batch in prepared(self, normals, 256)])
        fold = np.random.default_rng(self.seed).permutation(len(x)) % min(FOLDS, len(x))
        maps, lengths = [], []
        for part in np.unique(fold):
            held = x[fold == part] if len(x) > 1 else x
            self._take(x[fold != part] if len(x) > 1 else x)
            held = tf.constant(held.reshape(-1, *self.sample_shape))
            maps.append(np.asarray(self._errors(held)))
            lengths.append(np.asarray(self.raw_score("reconstruction", held)))
        self._take(x)
        self.local.adapt(np.concatenate(maps))
        local = np.concatenate([np.asarray(self.local(block))[:, 0] for block in maps])
        self.standardise({"local": local, "reconstruction": np.concatenate(lengths)})

    def _take(self, x: np.ndarray) -> None:
        """Mean and directions of pixels (n, pixels)."""
        mean = x.mean(axis=0)
        found = np.zeros(self.directions.shape, np.float32)
        count = min(self.components, len(x) - 1, x.shape[1])
        if count:
            _, _, directions = randomized_svd(x - mean, count, n_iter=2, random_state=0)
            found[:count] = directions
        self.pixel_mean.assign(mean)
        self.directions.assign(found)

    def _redrawn(self, x) -> tf.Tensor:
        """Preprocessed images redrawn, of the same shape, in [0, 1]."""
        flat = tf.reshape(x, (-1, int(np.prod(self.sample_shape)))) - self.pixel_mean
        codes = tf.matmul(flat, self.directions, transpose_b=True)
        flat = tf.matmul(codes, self.directions) + self.pixel_mean
        return tf.clip_by_value(tf.reshape(flat, (-1, *self.sample_shape)), 0.0, 1.0)

    def _errors(self, x) -> tf.Tensor:
        """Map of errors, (batch, height, width, 1)."""
        return tf.reduce_mean(tf.abs(x - self._redrawn(x)), axis=-1, keepdims=True)

    def raw_score(self, name, x, training=False):
        if name == "local":
            return self.local(self._errors(x))[:, 0]
        return tf.norm(tf.reshape(x - self._redrawn(x), (-1, int(np.prod(self.sample_shape)))), axis=-1)

    def reconstruct(self, x):
        """Images redrawn by the components, (batch, height, width, channels) in [0, 1].

        Args:
            x: uint8 images of any size, or float images in [0, 1].
        """
        return self._redrawn(self.preprocess(tf.convert_to_tensor(x)))

    def scoring_networks(self):
        return {"local": self.local} if "local" in self.parts_of_score else {}

    @property
    def scoring_state(self):
        return (*super().scoring_state, "pixel_mean", "directions")

    @property
    def outside_parts(self):
        """See `agad_tf.export.recipe`."""
        return {
            "local": ("mean_of_largest", "unusual"),
            "reconstruction": ("root_of_squares", "reconstruction"),
        }

    @property
    def worst_patches(self) -> int:
        """How many pixels the local score averages."""
        return self.local.count

    def outside_outputs(self, x):
        """See `agad_tf.export.recipe`."""
        return {"unusual": self.local.standardised(self._errors(x)), "reconstruction": self._redrawn(x)}

    def get_config(self):
        return {
            **super().get_config(),
            "input_shape": self.sample_shape,
            "components": self.components,
            "smoothing": self.local.smoothing,
            "share": self.local.share,
            "floor": self.local.floor,
            "score": self.score,
            "seed": self.seed,
            "crop": self.crop,
        }
