"""A supervised classifier of normal samples and labelled anomalies; its logit is the score."""

import keras
import tensorflow as tf
from keras import layers

from agad_tf.baselines.base import Baseline, batch_mean, check_settings
from agad_tf.baselines.losses import cross_entropy
from agad_tf.baselines.networks import one_class_networks
from agad_tf.errors import InputError
from agad_tf.networks import RoutedNetwork


@keras.saving.register_keras_serializable("agad_tf")
class Classifier(Baseline):
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
    takes_tables = True
    paper_epochs = 150

    def __init__(
        self,
        input_shape,
        units=None,
        latent_dim: int | None = None,
        seed: int = 0,
        crop: str = "stretch",
        clip: float | None = None,
        **kwargs,
    ):
        super().__init__(input_shape, seed, crop, clip, **kwargs)
        encoder, _, arguments = one_class_networks(self.network_shape, units, latent_dim)
        _, self.units, self.latent_dim = arguments
        self._make("encoder", encoder, *arguments)
        self._make("head", _Logit, self.latent_dim)
        self.built = True

    def trained_by(self):
        return {"optimizer": self.encoder.trainable_variables + self.head.trainable_variables}

    def compile(
        self,
        learning_rate: float = 1e-4,
        learning_rate_drop: float = 1 / 3,
        weight_decay: float = 0.5e-6,
        optimizer=None,
        clip_norm: float | None = None,
        average_epochs: float = 0.0,
        reestimate_batch_norm: bool = False,
        guard: bool = True,
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
    ):
        """The paper's settings; stabilisers of AGAD and AA-BiGAN can be switched on.

        Args:
            learning_rate: of Adam.
            learning_rate_drop: share of the epochs after which the rate is divided by 10 (the paper's 50 of
                150); 1 for never.
            weight_decay: λ of λ/2 Σ‖W‖².
            optimizer: a Keras optimizer instead of Adam.
            clip_norm, average_epochs, reestimate_batch_norm: stabilisers, as in `agad_tf.AABiGAN.compile`.
            guard: after an epoch with a loss that is not finite, back to the last good weights once.
            jit_compile, run_eagerly: as there.
        """
        settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        check_settings(settings, ("learning_rate", "weight_decay"), ("learning_rate_drop",))
        self.compile_with({"optimizer": optimizer or keras.optimizers.Adam(learning_rate)}, settings)

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

    def get_config(self):
        return {**super().get_config(), "units": self.units, "latent_dim": self.latent_dim}


class _Logit(RoutedNetwork):
    """One output for each code: (batch, latent_dim) to (batch,)."""

    def __init__(self, latent_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(1, dtype=self.dtype_policy)
        self._finish((latent_dim,))

    def call(self, code, route=None, training=False):
        return self.dense(code)[:, 0]
