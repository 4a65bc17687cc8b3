"""Distance to the k-th nearest normal, of rows or of pixels."""

from __future__ import annotations

import keras
import tensorflow as tf

from agad_tf.baselines.base import check_kind
from agad_tf.baselines.fitted_once import FittedOnce
from agad_tf.models.inputs import preprocessing, whole_number
from agad_tf.models.kept_normals import KeptNormals


@keras.saving.register_keras_serializable("agad_tf")
class Neighbours(KeptNormals, FittedOnce):
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
        check_kind(type(self), self.sample_shape)
        self.k, self.seed, self.crop, self.clip = whole_number(k, "k"), seed, crop, clip
        self.preprocess = preprocessing(
            self.sample_shape, (0.0, 1.0), crop, clip, "float32", self.preprocessing, self.encoding
        )
        self.built = True

    def fit_to(self, normals):
        self.keep(normals)

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
        own = {"input_shape": self.sample_shape, "k": self.k, "seed": self.seed}
        return {**super().get_config(), **own, "crop": self.crop, "clip": self.clip}
