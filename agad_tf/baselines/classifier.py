"""A supervised classifier of normal samples and labelled anomalies; its logit is the score."""

import keras
import tensorflow as tf
from keras import layers

from agad_tf.baselines.base import batch_mean
from agad_tf.baselines.losses import cross_entropy
from agad_tf.baselines.one_class import OneClassNetwork
from agad_tf.errors import InputError
from agad_tf.networks import RoutedNetwork


@keras.saving.register_keras_serializable("agad_tf")
class Classifier(OneClassNetwork):
    """The supervised classifier of the papers' tables: Deep SAD's encoder with one output, cross-entropy.

    It needs labelled anomalies, and knows nothing of anomalies unlike them. Score: the logit. Batches hold
    anomalies by their share of the data.

    Args:
        input_shape, units, latent_dim, seed, crop, clip: as in `agad_tf.baselines.Autoencoder`.

    Raises:
        InputError: a shape the networks cannot take; in `fit`, data without labelled anomalies.

    Source: Ruff et al., Deep Semi-Supervised Anomaly Detection, ICLR 2020, section 4 ("Supervised
    Classifier").
    """

    score_names = ("logit",)
    reconstructs = False
    paper_epochs = 150

    def make_networks(self, encoder, decoder, arguments):
        self._make("encoder", encoder, *arguments)
        self._make("head", _Logit, self.latent_dim)

    def trained_by(self):
        return {"optimizer": self.encoder.trainable_variables + self.head.trainable_variables}

    def objective(self, x, y):
        return batch_mean(cross_entropy(self.head(self.encoder(x, training=True)), y))

    def _begin(self, sample, steps_per_epoch):
        if not sample[1]:
            raise InputError(
                "Classifier expects labelled anomalies (label 1) beside the normal samples, received none: "
                "label some, or take a detector that does without"
            )
        super()._begin(sample, steps_per_epoch)

    def raw_score(self, name, x, training=False):
        return tf.cast(self.scoring_head(self.scoring_encoder(x, training=training)), tf.float32)

    def reconstruct(self, x):
        """Raises InputError: the method reconstructs nothing."""
        raise InputError("Classifier has no reconstructions to explain its scores with: take Autoencoder")

    def observe(self, batch):
        self.scoring_encoder(batch, training=True)


class _Logit(RoutedNetwork):
    """One output for each code: (batch, latent_dim) to (batch,)."""

    def __init__(self, latent_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(1, dtype=self.dtype_policy)
        self._finish((latent_dim,))

    def call(self, code, route=None, training=False):
        return self.dense(code)[:, 0]
