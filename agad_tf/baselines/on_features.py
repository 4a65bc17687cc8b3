"""Two detectors on frozen features without training: Mahalanobis distance, and nearest patches of normals."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from agad_tf.baselines.base import check_kind
from agad_tf.baselines.fitted_once import FittedOnce
from agad_tf.errors import InputError
from agad_tf.features.layer import FrozenFeatures
from agad_tf.layers import ImagePreprocessing
from agad_tf.models import kept_normals
from agad_tf.models.feature_scorer import FeatureScorer

PROJECTED = 64
"""Directions that patches are projected to while a few of them are chosen."""


class OnFeatures(FittedOnce, FeatureScorer):
    """Base: preprocessing and the frozen network; a subclass fits to its features in `fit_to_features`."""

    reconstructs = False
    scoring_batch = 32

    def __init__(self, input_shape, features, features_weights, taps, seed, crop, **kwargs):
        super().__init__(input_shape, self.score_names[0], **kwargs)
        check_kind(type(self), self.sample_shape)
        if self.sample_shape[-1] not in (1, 3):
            raise InputError(f"input_shape expects 1 or 3 channels, received {self.sample_shape[-1]}")
        self.seed, self.crop = seed, crop
        self.preprocess = ImagePreprocessing(
            self.sample_shape[:2], crop=crop, version=self.preprocessing, dtype="float32"
        )
        if not isinstance(features, FrozenFeatures):
            features = FrozenFeatures.from_source(
                features, self.sample_shape[:2], features_weights, taps, name="features", dtype="float32"
            )
        self.features = features
        self._training_normals = self._extract_function = self._folder = None

    def fit_to(self, normals):
        rows = self.rows_of(normals)
        self.adapt_features(rows)
        self.fit_to_features(rows)

    def fit_to_features(self, rows) -> None:
        """Fits to the raw features of the training normals, a `FeatureRows`."""
        raise NotImplementedError(f"{type(self).__name__} must define fit_to_features(rows)")

    def scoring_networks(self):
        return {"features": self.features}

    def get_config(self):
        return {
            **super().get_config(),
            "input_shape": self.sample_shape,
            "features": keras.saving.serialize_keras_object(self.features),
            "seed": self.seed,
            "crop": self.crop,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["features"], dict):
            config["features"] = keras.saving.deserialize_keras_object(config["features"])
        return super().from_config(config)


@keras.saving.register_keras_serializable("agad_tf")
class Mahalanobis(OnFeatures):
    """Mahalanobis distance of an image's frozen features to those of the training normals.

    An image is the mean and the deviation of each feature over the grid; the covariance is shrunk by Ledoit
    and Wolf's rule. It is the part "global" of `agad_tf.FeatureDiscriminator` alone. Labelled anomalies are
    left out of training.

    Args:
        input_shape, features, features_weights, taps, crop: as in `agad_tf.FeatureDiscriminator`.
        seed: of nothing here.

    Attributes:
        features: the frozen network.
        global_mean, global_whitening: m and W; the score is ‖(d − m) W‖ of an image's description d.

    Raises:
        InputError: a network that cannot be had, a size that it cannot take.

    Source: Rippel et al., Modeling the Distribution of Normal Data in Pre-Trained Deep Features, ICPR 2020;
    Ledoit and Wolf, Journal of Multivariate Analysis 88, 2004.
    """

    score_names = ("global",)
    paper_epochs = 1

    def __init__(
        self,
        input_shape,
        features: str = "efficientnet_lite0",
        features_weights: str = "imagenet",
        taps: list | None = None,
        seed: int = 0,
        crop: str = "stretch",
        **kwargs,
    ):
        super().__init__(input_shape, features, features_weights, taps, seed, crop, **kwargs)
        channels = self.features.grid[2]
        self.global_mean = self._state("global_mean", (2 * channels,))
        self.global_whitening = self._state("global_whitening", (2 * channels, 2 * channels))
        self.built = True

    def fit_to_features(self, rows):
        self.fit_global(rows)

    @property
    def outside_parts(self):
        """See `agad_tf.export.recipe`."""
        return {"global": ("length", "away")}

    def outside_outputs(self, x):
        """See `agad_tf.export.recipe`."""
        return {"away": self.whitened(self.features(x))}


@keras.saving.register_keras_serializable("agad_tf")
class NearestPatches(OnFeatures):
    """Distance of an image's most unusual patch to the most similar patch of a normal image (PatchCore).

    A patch is the mean of the frozen features of 3×3 places. Of the patches of the training normals a few are
    kept that cover them all: one after the other the one that is farthest from those chosen before, in a
    random projection. The score is the largest distance of a patch to the nearest one kept. Labelled
    anomalies are left out of training.

    Args:
        input_shape, features, features_weights, taps, crop: as in `agad_tf.FeatureDiscriminator`.
        kept: patches that are kept.
        drawn: patches, drawn from all normals, that they are chosen from.
        seed: of both draws.

    Attributes:
        features: the frozen network.
        bank: the patches, (kept, channels).

    Raises:
        InputError: a network that cannot be had, a size that it cannot take, numbers below 1.

    Source: Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022, algorithm 1 and
    equation (6); without the weight of equation (7), and a number of patches in place of a share.
    """

    score_names = ("local",)
    paper_epochs = 1

    def __init__(
        self,
        input_shape,
        features: str = "efficientnet_lite0",
        features_weights: str = "imagenet",
        taps: list | None = None,
        kept: int = 2000,
        drawn: int = 20000,
        seed: int = 0,
        crop: str = "stretch",
        **kwargs,
    ):
        super().__init__(input_shape, features, features_weights, taps, seed, crop, **kwargs)
        for name, value in (("kept", kept), ("drawn", drawn)):
            if not value >= 1:
                raise InputError(f"{name} expects a number of at least 1, received {value}")
        self.kept, self.most = int(kept), int(drawn)
        self.bank = self._state("bank", (self.kept, self.features.grid[2]))
        self.built = True

    def fit_to_features(self, rows):
        rng = np.random.default_rng(self.seed)
        places = self.features.grid[0] * self.features.grid[1]
        most = max(self.kept, min(self.most, kept_normals.LARGEST // self.features.grid[2]))
        each = max(1, -(-most // len(rows)))  # of every image as many, so that each is seen
        patches = []
        for block in rows.blocks(64):
            flat = np.asarray(self._patches(self._grid(tf.constant(block))))
            chosen = np.argsort(rng.random((len(flat), places)), axis=1)[:, :each]
            patches.append(np.take_along_axis(flat, chosen[..., None], axis=1).reshape(-1, flat.shape[-1]))
        patches = np.concatenate(patches)
        if len(patches) > most:
            patches = patches[rng.permutation(len(patches))[:most]]
        chosen = covering(patches, self.kept, rng)
        self.bank.assign(patches[np.resize(chosen, self.kept)])  # fewer patches than places: some twice

    def _patches(self, grid) -> tf.Tensor:
        """Means of 3×3 places, (batch, places, channels)."""
        grid = tf.nn.avg_pool2d(grid, 3, 1, "SAME")
        return tf.reshape(grid, (-1, grid.shape[1] * grid.shape[2], grid.shape[3]))

    def distances(self, grid) -> tf.Tensor:
        """Distance of each place to the nearest patch kept, (batch, rows, columns, 1)."""
        patches, bank = self._patches(grid), tf.convert_to_tensor(self.bank)
        nearest = tf.reduce_min(
            tf.reduce_sum(bank**2, axis=-1) - 2.0 * tf.matmul(patches, bank, transpose_b=True), axis=-1
        )
        squared = tf.reduce_sum(patches**2, axis=-1) + nearest
        return tf.reshape(tf.sqrt(tf.maximum(squared, 0.0)), (-1, *self.features.grid[:2], 1))

    def _part(self, name, grid):
        return tf.reduce_max(self.distances(grid), axis=(1, 2, 3))

    def anomaly_map(self, x):
        """Distance of each place to the nearest patch kept, (batch, height, width) of the model, ≥ 0.

        Args:
            x: uint8 images of any size, or float images in the model's range.
        """
        return resized(
            self.distances(self.features(self.preprocess(tf.convert_to_tensor(x)))), self.sample_shape
        )

    @property
    def scoring_state(self):
        return (*FittedOnce.scoring_state.fget(self), "bank")

    @property
    def outside_parts(self):
        """See `agad_tf.export.recipe`."""
        return {"local": ("mean_of_largest", "distances")}

    worst_patches = 1

    def outside_outputs(self, x):
        """See `agad_tf.export.recipe`."""
        return {"distances": self.distances(self.features(x))}

    def get_config(self):
        return {**super().get_config(), "kept": self.kept, "drawn": self.most}


def covering(patches: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of patches that cover all, the farthest from those before it each time; at most `count`.

    Args:
        patches: (n, channels).
        count: how many to choose.
        rng: of the projection and of the first patch.
    """
    if patches.shape[1] > PROJECTED:
        patches = patches @ rng.normal(size=(patches.shape[1], PROJECTED)) / np.sqrt(PROJECTED)
    patches = patches.astype(np.float32)
    lengths = (patches**2).sum(axis=1)
    chosen = [int(rng.integers(len(patches)))]
    away = np.full(len(patches), np.inf, np.float32)
    while True:
        last = chosen[-1]
        away = np.minimum(away, lengths - 2 * (patches @ patches[last]) + lengths[last])
        away[last] = 0.0
        farthest = int(away.argmax())
        if len(chosen) == min(count, len(patches)) or away[farthest] <= 0:
            return np.array(chosen)
        chosen.append(farthest)


def resized(grid: tf.Tensor, sample_shape) -> tf.Tensor:
    """A grid (batch, rows, columns, 1) as a map (batch, height, width) of the model's size."""
    return tf.image.resize(grid, sample_shape[:2], method="bilinear")[..., 0]
