"""A convolutional autoencoder, or a perceptron one for tables: the reconstruction error is the score."""

import keras
import tensorflow as tf

from agad_tf.baselines.base import batch_mean
from agad_tf.baselines.losses import mean_squared
from agad_tf.baselines.one_class import OneClassNetwork
from agad_tf.models.local_errors import LocalErrors


@keras.saving.register_keras_serializable("agad_tf")
class Autoencoder(LocalErrors, OneClassNetwork):
    """The autoencoder (CAE) of the papers' tables, trained on normal samples to reconstruct them.

    Loss and score are mean squared errors over the values of a sample, ‖x − x̂‖² / n. Labelled anomalies are
    left out of training.

    Args:
        input_shape: (height, width, channels), channels 1 or 3, or (features,).
        units: filters of the encoder's convolutions, or units of its hidden dense layers; None takes those
            of Deep SVDD's and Deep SAD's networks: 8, 4 for grey images (their MNIST network; their
            Fashion-MNIST one is 16, 32), 32, 64, 128 for colour, 32, 16 for tables, 128, 64 for tables of
            more than 100 columns.
        latent_dim: length of the code; None takes 32, 128, and 8 (4 up to 8 columns, 32 over 100).
        seed: of the initial weights.
        crop: as in `agad_tf.AGAD`; images only.
        clip: as in `agad_tf.AABiGAN`; tables only.
        score: "reconstruction" is the paper's; "local", of images only, the mean of the largest values of the
            map of |x − x̂|, smoothed and standardised per pixel on training normals, as AGAD's; "fused" both.
        score_share: as in `agad_tf.AGAD`; None is "auto" where the score asks for "local".

    Raises:
        InputError: a shape the networks cannot take.

    Source: Ruff et al., Deep One-Class Classification, ICML 2018, section 4 ("DCAE"); Ruff et al., Deep
    Semi-Supervised Anomaly Detection, ICLR 2020, appendix D.
    """

    own_scores = ("reconstruction",)
    uses_anomalies = False
    paper_epochs = 150

    def __init__(
        self,
        input_shape,
        units=None,
        latent_dim: int | None = None,
        seed: int = 0,
        crop="stretch",
        clip=None,
        score: str = "reconstruction",
        score_share: float | str | None = None,
        **kwargs,
    ):
        self.offer_local(score, score_share)
        super().__init__(input_shape, units, latent_dim, seed, crop, clip, score=score, **kwargs)
        self.make_local_score()

    def make_networks(self, encoder, decoder, arguments):
        self._make("encoder", encoder, *arguments)
        self._make("decoder", decoder, *arguments)

    def trained_by(self):
        return {"optimizer": self.encoder.trainable_variables + self.decoder.trainable_variables}

    def objective(self, x, y):
        reconstruction = self.decoder(self.encoder(x, training=True), training=True)
        return batch_mean(mean_squared(x, reconstruction))

    def raw_score(self, name, x, training=False):
        reconstruction = self.redraw(x, training)
        if name == "local":
            return self.local_part(x, reconstruction)
        return tf.cast(mean_squared(x, reconstruction), tf.float32)

    def redraw(self, x, training=False):
        return self.scoring_decoder(self.scoring_encoder(x, training=training), training=training)

    def encode(self, x):
        """Codes (batch, latent_dim) of samples, what the hybrid one-class SVM is trained on."""
        return self.scoring_encoder(self.preprocess(tf.convert_to_tensor(x)), training=False)

    def reconstruct(self, x):
        """x̂, of the shape and scale of preprocessed samples."""
        return self.scoring_decoder(self.encode(x), training=False)

    def observe(self, batch):
        self.scoring_decoder(self.scoring_encoder(batch, training=True), training=True)
