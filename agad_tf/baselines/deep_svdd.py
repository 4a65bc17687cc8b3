"""Deep SVDD and Deep SAD: codes of normal samples close to one centre, distance to it is the score."""

import keras
import numpy as np
import tensorflow as tf

from agad_tf.baselines.base import Phases, batch_mean
from agad_tf.baselines.losses import (
    away_from_zero,
    mean_squared,
    semi_supervised_distance,
    squared_distance,
)
from agad_tf.baselines.one_class import OneClassNetwork
from agad_tf.baselines.stabilisers import with_stabilisers
from agad_tf.errors import InputError
from agad_tf.models.settings import check_settings, settings_of


@keras.saving.register_keras_serializable("agad_tf")
class DeepSVDD(OneClassNetwork):
    """One-class Deep SVDD: an encoder without bias that draws normal samples to a fixed centre.

    `fit` has two phases: the encoder is trained as half of an autoencoder, then the centre is set to the mean
    code of (up to 1024) training normals and the encoder trained to come close to it. Score and loss are
    ‖φ(x) − c‖². Labelled anomalies are left out of training.

    Args:
        input_shape, units, latent_dim, seed, crop, clip: as in `agad_tf.baselines.Autoencoder`, whose
            networks these are.

    Attributes:
        encoder: φ; scoring_encoder: what scores.
        decoder: of the first phase.
        centre: c, (latent_dim,).
        pretraining: whether a step trains the autoencoder; scores mean nothing yet.

    Raises:
        InputError: a shape the networks cannot take.

    Source: Ruff et al., Deep One-Class Classification, ICML 2018, equation (4).
    """

    score_names = ("distance",)
    reconstructs = False
    uses_anomalies = False
    paper_epochs = 300  # 150 for each phase

    def make_networks(self, encoder, decoder, arguments):
        self._make("encoder", encoder, *arguments)
        self._make("decoder", decoder, *arguments, scores=False)
        self.centre = self._state("centre", (self.latent_dim,))
        self.centred = self._state("centred", ())
        self.pretraining = False

    def trained_by(self):
        encoder = self.encoder.trainable_variables
        return {
            "optimizer": encoder,
            "pretraining_optimizer": encoder + self.decoder.trainable_variables,
        }

    @with_stabilisers
    def compile(
        self,
        learning_rate: float = 1e-4,
        learning_rate_drop: float = 1 / 3,
        weight_decay: float = 0.5e-6,
        pretraining_share: float = 0.5,
        optimizer=None,
        pretraining_optimizer=None,
        **stabilisers,
    ):
        """The paper's settings; stabilisers of AGAD and AA-BiGAN can be switched on.

        Args:
            learning_rate: of Adam, in both phases.
            learning_rate_drop: share of the second phase's epochs after which its rate is divided by 10 (the
                paper's 50 of 150); 1 for never.
            weight_decay: λ of λ/2 Σ‖W‖².
            pretraining_share: of the epochs of `fit` for the autoencoder (the papers' 150 of 300), all but
                one at most; 0 trains without it.
            optimizer, pretraining_optimizer: Keras optimizers instead of Adam.
            clip_norm, average_epochs, reestimate_batch_norm, guard, jit_compile, run_eagerly: see
                `agad_tf.baselines.stabilisers`.
        """
        settings = settings_of(locals())
        self._compile_phases(settings)

    def _compile_phases(self, settings: dict) -> None:
        shares = "learning_rate_drop", "pretraining_share"
        check_settings(settings, ("learning_rate", "weight_decay"), shares)
        self.compile_with(keras.optimizers.Adam(settings["learning_rate"]), settings)

    def active_optimizer(self):
        return "pretraining_optimizer" if self.pretraining else "optimizer"

    def objective(self, x, y):
        code = self.encoder(x, training=True)
        if self.pretraining:
            return batch_mean(mean_squared(x, self.decoder(code, training=True)))
        return batch_mean(self.distance_loss(squared_distance(code, self.centre), y))

    def distance_loss(self, distance, y):
        """Loss of each sample by its squared distance to the centre and its label, (batch,)."""
        return distance

    def enter(self, pretraining: bool) -> None:
        """Begins a phase of training, or goes on with it; `fit` does it before each epoch."""
        if pretraining != self.pretraining:
            self.pretraining = pretraining
            self._step_function = None  # it was traced for the other phase
        if pretraining:
            self.centred.assign(0.0)
        elif not self.centred.numpy():
            self.set_centre(self._scoring_sample)

    def set_centre(self, normals) -> None:
        """Puts the centre at the mean code of normal samples, no coordinate of it near 0."""
        normals = np.asarray(self.check_samples(np.asarray(normals), "normals"))
        if not len(normals):
            raise InputError("set_centre expects at least one normal sample, received none: pass some")
        parts = [tf.convert_to_tensor(normals[i : i + 256]) for i in range(0, len(normals), 256)]
        codes = [tf.cast(self.encoder(self.preprocess(x), training=False), tf.float32) for x in parts]
        self.centre.assign(away_from_zero(tf.reduce_mean(tf.concat(codes, 0), axis=0)))
        self.centred.assign(1.0)

    def training_callbacks(self):
        return [*super().training_callbacks(), Phases(self.settings["pretraining_share"])]

    def raw_score(self, name, x, training=False):
        return tf.cast(squared_distance(self.scoring_encoder(x, training=training), self.centre), tf.float32)

    def reconstruct(self, x):
        """Raises InputError: the method reconstructs nothing."""
        raise InputError(
            f"{type(self).__name__} has no reconstructions to explain its scores with: take a detector that "
            "reconstructs, for instance Autoencoder"
        )

    def observe(self, batch):
        self.scoring_encoder(batch, training=True)


@keras.saving.register_keras_serializable("agad_tf")
class DeepSAD(DeepSVDD):
    """Deep SAD: Deep SVDD that also drives labelled anomalies away from the centre.

    The loss is ‖φ(x) − c‖² of normals and η (‖φ(x) − c‖²)⁻¹ of labelled anomalies, the mean over the batch;
    batches hold anomalies by their share of the data. The autoencoder of the first phase is trained on both,
    as in the authors' code. Without anomalies it is Deep SVDD.

    Args:
        input_shape, units, latent_dim, seed, crop, clip: as in `agad_tf.baselines.Autoencoder`.

    Source: Ruff et al., Deep Semi-Supervised Anomaly Detection, ICLR 2020, equation (8).
    """

    uses_anomalies = True

    @with_stabilisers
    def compile(
        self,
        learning_rate: float = 1e-4,
        learning_rate_drop: float = 1 / 3,
        weight_decay: float = 0.5e-6,
        pretraining_share: float = 0.5,
        eta: float = 1.0,
        optimizer=None,
        pretraining_optimizer=None,
        **stabilisers,
    ):
        """As `DeepSVDD.compile`.

        Args:
            learning_rate, learning_rate_drop, weight_decay, pretraining_share: as there.
            eta: η, weight of labelled anomalies.
            optimizer, pretraining_optimizer: as there.
            clip_norm, average_epochs, reestimate_batch_norm, guard, jit_compile, run_eagerly: see
                `agad_tf.baselines.stabilisers`.
        """
        settings = settings_of(locals())
        check_settings(settings, ("eta",))
        self._compile_phases(settings)

    def distance_loss(self, distance, y):
        return semi_supervised_distance(distance, y, self.settings["eta"])
