"""GANomaly: encoder, decoder, encoder; the two codes' distance is the score."""

import keras
import tensorflow as tf

from agad_tf.baselines.base import Baseline, batch_mean
from agad_tf.baselines.losses import cross_entropy, mean_squared
from agad_tf.baselines.stabilisers import with_stabilisers
from agad_tf.losses.agad import contextual_loss
from agad_tf.models.local_errors import LocalErrors
from agad_tf.models.settings import check_settings, settings_of
from agad_tf.models.updates import reinitialise_below
from agad_tf.networks import ConvDiscriminator, ConvEncoder, EncoderDecoder


@keras.saving.register_keras_serializable("agad_tf")
class GANomaly(LocalErrors, Baseline):
    """A generator G that encodes and decodes normal images, an encoder E of its output, a discriminator D.

    With z = G_E(x), x̂ = G_D(z), ẑ = E(x̂) and f the features of D before its output, G and E minimise
    w_adv |f(x) − f(x̂)|² + w_con |x − x̂| + w_enc |z − ẑ|², each a mean, and D tells x from x̂. The score is
    the mean of (z − ẑ)². Labelled anomalies are left out of training.

    Args:
        input_shape: (side, side, channels), a power of 2 from 8 to 256, channels 1 or 3.
        latent_dim: length of z.
        seed: of the initial weights, and of those D gets when it is re-initialised.
        crop: as in `agad_tf.AGAD`.
        score: "latent" is the paper's; "local" the mean of the largest values of the map of |x − x̂|, smoothed
            and standardised per pixel on training normals, as AGAD's; "fused" both.
        score_share: as in `agad_tf.AGAD`; None is "auto" where the score asks for "local".

    Attributes:
        generator, encoder, discriminator: G, E and D; scoring_generator, scoring_encoder: what scores.

    Raises:
        InputError: another image shape.

    Source: Akçay et al., GANomaly, ACCV 2018, equations (1) to (5).
    """

    own_scores = ("latent",)
    value_range = (-1.0, 1.0)
    uses_anomalies = False
    paper_epochs = 15

    def __init__(
        self,
        input_shape,
        latent_dim: int = 100,
        seed: int = 0,
        crop: str = "stretch",
        score: str = "latent",
        score_share: float | str | None = None,
        **kwargs,
    ):
        self.offer_local(score, score_share)
        super().__init__(input_shape, seed, crop, score=score, **kwargs)
        self.latent_dim = int(latent_dim)
        self._make("generator", EncoderDecoder, self.sample_shape, latent_dim=self.latent_dim)
        self._make("encoder", ConvEncoder, self.sample_shape, latent_dim=self.latent_dim)
        self._make("discriminator", ConvDiscriminator, self.sample_shape, scores=False)
        self.make_local_score()
        self.built = True

    def trained_by(self):
        return {
            "optimizer": self.generator.trainable_variables + self.encoder.trainable_variables,
            "discriminator_optimizer": self.discriminator.trainable_variables,
        }

    @with_stabilisers
    def compile(
        self,
        learning_rate: float = 2e-4,
        beta_1: float = 0.5,
        adversarial_weight: float = 1.0,
        contextual_weight: float = 50.0,
        encoder_weight: float = 1.0,
        discriminator_reset_threshold: float = 1e-5,
        optimizer=None,
        discriminator_optimizer=None,
        **stabilisers,
    ):
        """The settings of the paper and its code; stabilisers of AGAD and AA-BiGAN can be switched on.

        Args:
            learning_rate, beta_1: of both Adam optimizers.
            adversarial_weight, contextual_weight, encoder_weight: w_adv, w_con, w_enc.
            discriminator_reset_threshold: D is re-initialised when its loss falls under it.
            optimizer, discriminator_optimizer: Keras optimizers instead of Adam.
            clip_norm, average_epochs, reestimate_batch_norm, guard, jit_compile, run_eagerly: see
                `agad_tf.baselines.stabilisers`.
        """
        settings = settings_of(locals())
        weights = "adversarial_weight", "contextual_weight", "encoder_weight"
        check_settings(settings, ("learning_rate", "discriminator_reset_threshold", *weights))
        self.compile_with(keras.optimizers.Adam(learning_rate, beta_1), settings)

    log_names = (
        "loss_generator",
        "loss_discriminator",
        "adversarial",
        "contextual",
        "encoder",
        "gradient_norm_generator",
        "gradient_norm_discriminator",
    )
    total_names = ("discriminator_resets",)

    def train_step(self, data):
        """One pass, both losses differentiated at the old weights, then both steps."""
        x = self.preprocess(self.unpack(data)[0])
        settings = self.settings
        with tf.GradientTape(persistent=True) as tape:
            code, reconstruction, code_hat = self._pass(x)
            logit, features = self.discriminator(x, training=True)
            logit_hat, features_hat = self.discriminator(reconstruction, training=True)
            terms = {
                "adversarial": batch_mean(mean_squared(features, features_hat)),  # (1)
                "contextual": batch_mean(contextual_loss(x, reconstruction)),  # (2)
                "encoder": batch_mean(mean_squared(code, code_hat)),  # (3)
            }
            loss_g = sum(settings[f"{name}_weight"] * value for name, value in terms.items())  # (4)
            loss_d = batch_mean(cross_entropy(logit, 1.0) + cross_entropy(logit_hat, 0.0)) / 2
            scaled_g = self.scale_loss(loss_g, self.optimizer)
            scaled_d = self.scale_loss(loss_d, self.discriminator_optimizer)
        moved = self.trained_by()
        norm_g = self.step(tape, scaled_g, moved["optimizer"], self.optimizer)
        norm_d = self.step(tape, scaled_d, moved["discriminator_optimizer"], self.discriminator_optimizer)
        del tape
        seed = tf.stack([tf.constant(self.seed, tf.int32), tf.cast(self.average_steps, tf.int32)])
        threshold = settings["discriminator_reset_threshold"]
        resets = reinitialise_below(threshold, loss_d, self.discriminator, self.discriminator_optimizer, seed)
        self.update_averages()
        logs = {"loss_generator": loss_g, "loss_discriminator": loss_d, **terms}
        logs |= {"gradient_norm_generator": norm_g, "gradient_norm_discriminator": norm_d}
        return self.track(logs, totals={"discriminator_resets": resets})

    def _pass(self, x):
        """z, x̂ and ẑ of the networks that train."""
        code = self.generator.encode(x, training=True)
        reconstruction = self.generator.decode(code, training=True)
        return code, reconstruction, self.encoder(reconstruction, training=True)

    def fit(self, x=None, y=None, batch_size=64, epochs=1, *, min_anomalies=1, **kwargs):
        """As `AnomalyDetector.fit`, with the batches of the paper's code."""
        return super().fit(x, y, batch_size, epochs, min_anomalies=min_anomalies, **kwargs)

    def raw_score(self, name, x, training=False):
        code = self.scoring_generator.encode(x, training=training)
        reconstruction = self.scoring_generator.decode(code, training=training)
        if name == "local":
            return self.local_part(x, reconstruction)
        return tf.cast(
            mean_squared(code, self.scoring_encoder(reconstruction, training=training)), tf.float32
        )

    def redraw(self, x, training=False):
        return self.scoring_generator(x, training=training)

    def reconstruct(self, x):
        """x̂, (batch, height, width, channels) in [−1, 1]."""
        return self.redraw(self.preprocess(tf.convert_to_tensor(x)))

    def observe(self, batch):
        self.scoring_encoder(self.scoring_generator(batch, training=True), training=True)

    def get_config(self):
        config = {**super().get_config(), "latent_dim": self.latent_dim}
        del config["clip"]
        return config
