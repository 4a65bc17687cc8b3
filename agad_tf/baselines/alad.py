"""ALAD: a bidirectional GAN with discriminators of pairs (x, x̂) and (z, ẑ)."""

import keras
import tensorflow as tf

from agad_tf.baselines.base import batch_mean
from agad_tf.baselines.losses import cross_entropy
from agad_tf.baselines.spectral import SpectralNorm
from agad_tf.models.bidirectional import BidirectionalGAN
from agad_tf.models.settings import check_settings, settings_of
from agad_tf.models.updates import apply_clipped
from agad_tf.networks.mlp import MLPPairDiscriminator


@keras.saving.register_keras_serializable("agad_tf")
class ALAD(BidirectionalGAN):
    """Adversarially learned anomaly detection: G and E against three discriminators of pairs.

    D_xz tells (x, E(x)) from (G(z), z), D_xx tells (x, x) from (x, G(E(x))), D_zz tells (z, z) from
    (z, E(G(z))). The score is the L1 distance of D_xx's last features of (x, x) and of (x, G(E(x))). The
    networks are those of AA-BiGAN, with D_zz beside; the losses cross-entropies. Labelled anomalies are left
    out of training.

    Args:
        input_shape, backbone, latent_dim, crop, clip: as in `agad_tf.AABiGAN`.
        score: "features", or "reconstruction" or "latent" as in `agad_tf.AABiGAN`, or "fused", their sum.
        seed: of the noise z.
        spectral_norm: whether kernels of the discriminators and of E have spectral norm 1, see
            `agad_tf.baselines.spectral`; None takes True for images and False for tables.

    Attributes:
        encoder, generator: E and G.
        discriminator, reconstruction_discriminator, code_discriminator: D_xz, D_xx and D_zz.
        scoring_encoder, scoring_generator, scoring_reconstruction_discriminator: their averages, which score.

    Raises:
        InputError: a shape the backbone cannot take, an unknown name.

    Source: Zenati et al., Adversarially Learned Anomaly Detection, ICDM 2018, equations (3) to (6).
    """

    score_names = ("features", "reconstruction", "latent")
    uses_anomalies = False
    paper_epochs = 100

    def __init__(
        self,
        input_shape,
        backbone: str = "auto",
        latent_dim: int | None = None,
        score: str = "features",
        seed: int = 0,
        crop: str = "stretch",
        clip: float | None = None,
        spectral_norm: bool | None = None,
        **kwargs,
    ):
        super().__init__(input_shape, backbone, latent_dim, score, seed, crop, clip, **kwargs)
        policy = self.dtype_policy
        self.discriminator, self.reconstruction_discriminator = self.make_discriminators(policy)
        _, self.scoring_reconstruction_discriminator = self.make_discriminators(self.scoring_dtype)
        self._pair("reconstruction_discriminator", "scoring_reconstruction_discriminator")
        self.code_discriminator = MLPPairDiscriminator(
            self.latent_dim, self.latent_dim, units=(64, 32), dtype=policy, name="code_discriminator"
        )
        self.spectral_norm = not self.is_table if spectral_norm is None else bool(spectral_norm)
        self.spectral = None
        if self.spectral_norm:
            self.spectral = SpectralNorm([*self._discriminators(), self.encoder], self._state)
        self.built = True

    def _discriminators(self):
        return self.discriminator, self.reconstruction_discriminator, self.code_discriminator

    def discriminator_variables(self):
        """D_xz, D_xx and D_zz."""
        return [variable for network in self._discriminators() for variable in network.trainable_variables]

    def compile(
        self,
        learning_rate: float | None = None,
        beta_1: float = 0.5,
        average_decay: float = 0.999,
        generator_optimizer=None,
        discriminator_optimizer=None,
        clip_norm: float | None = None,
        reestimate_batch_norm: bool = False,
        guard: bool = True,
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
    ):
        """The settings of the paper and its code; stabilisers of AA-BiGAN can be switched on.

        Args:
            learning_rate: of both Adam optimizers; None takes 2e-4 for images and 1e-5 for tables.
            beta_1: of both.
            average_decay: share of the averaged weights, which score, that a step keeps; in [0, 1).
            generator_optimizer, discriminator_optimizer: Keras optimizers instead of Adam.
            clip_norm, reestimate_batch_norm: stabilisers, as in `agad_tf.AABiGAN.compile`.
            guard: after an epoch with a loss that is not finite, back to the last good weights once.
            jit_compile, run_eagerly: as there.
        """
        settings = settings_of(locals())
        check_settings(settings, ("learning_rate",), ("average_decay",), optional=("learning_rate",))
        rate = (1e-5 if self.is_table else 2e-4) if learning_rate is None else learning_rate
        self.compile_with(keras.optimizers.Adam(rate, beta_1), settings)

    log_names = (
        "loss_generator",
        "loss_discriminator",
        *(f"discriminator_{pair}" for pair in ("xz", "xx", "zz")),
        *(f"generator_{pair}" for pair in ("xz", "xx", "zz")),
        "gradient_norm_generator",
        "gradient_norm_discriminator",
    )

    def train_step(self, data):
        """The discriminators' step, then that of G and E against the new ones, on one batch and one noise."""
        x = self.preprocess(self.unpack(data)[0])
        with tf.GradientTape(persistent=True) as tape:
            made = self._pass(x)
            d_terms = self._discriminator_terms(self._judge(made))
            loss_d = sum(d_terms.values())
            scaled_d = self.scale_loss(loss_d, self.discriminator_optimizer)
            with tape.stop_recording():
                norm_d = self.step(
                    tape, scaled_d, self.discriminator_variables(), self.discriminator_optimizer
                )
            g_terms = self._generator_terms(self._judge(made))
            loss_g = sum(g_terms.values())
            scaled_g = self.scale_loss(loss_g, self.optimizer)
        norm_g = self.step(tape, scaled_g, self.generator_variables(), self.optimizer)
        del tape
        self.update_averages()
        logs = {"loss_generator": loss_g, "loss_discriminator": loss_d}
        logs |= {f"discriminator_{pair}": value for pair, value in d_terms.items()}
        logs |= {f"generator_{pair}": value for pair, value in g_terms.items()}
        logs |= {"gradient_norm_generator": norm_g, "gradient_norm_discriminator": norm_d}
        return self.track(logs, totals={})

    def step(self, tape, scaled_loss, variables, optimizer):
        if self.spectral is None:
            return super().step(tape, scaled_loss, variables, optimizer)

        def apply(gradients):
            return apply_clipped(optimizer, gradients, variables, self.settings["clip_norm"])

        return self.spectral.step(tape.gradient(scaled_loss, variables), variables, apply)

    def _pass(self, x) -> dict[str, tf.Tensor]:
        """E(x), G(z) and the reconstructions of both."""
        code = self.encoder(x, training=True)
        noise = self._noise(code)
        generated = tf.cast(self.generator(noise, training=True), x.dtype)
        return {
            "x": x,
            "code": code,
            "noise": noise,
            "generated": generated,
            "reconstruction": tf.cast(self.generator(code, training=True), x.dtype),
            "code_hat": self.encoder(generated, training=True),
        }

    def _judge(self, made) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Logits of the real and of the made pair, by discriminator; each pass with its own batch moments."""
        x, noise = made["x"], made["noise"]
        pairs = {
            "xz": (self.discriminator, (x, made["code"]), (made["generated"], noise)),
            "xx": (self.reconstruction_discriminator, (x, x), (x, made["reconstruction"])),
            "zz": (self.code_discriminator, (noise, noise), (noise, made["code_hat"])),
        }
        return {
            name: (network(real, training=True), network(fake, training=True))
            for name, (network, real, fake) in pairs.items()
        }

    @staticmethod
    def _discriminator_terms(judged) -> dict[str, tf.Tensor]:
        return {
            name: batch_mean(cross_entropy(real, 1.0) + cross_entropy(fake, 0.0))
            for name, (real, fake) in judged.items()
        }

    @staticmethod
    def _generator_terms(judged) -> dict[str, tf.Tensor]:
        """The same with targets exchanged; of (x, x) and (z, z), which neither G nor E moves, nothing."""
        real, generated = judged["xz"]
        return {
            "xz": batch_mean(cross_entropy(real, 0.0) + cross_entropy(generated, 1.0)),
            "xx": batch_mean(cross_entropy(judged["xx"][1], 1.0)),
            "zz": batch_mean(cross_entropy(judged["zz"][1], 1.0)),
        }

    def decay_of_averages(self, steps_per_epoch):
        return self.settings["average_decay"]

    def fit(self, x=None, y=None, batch_size=32, epochs=1, *, min_anomalies=1, **kwargs):
        """As `AnomalyDetector.fit`, with the batches of the authors' code."""
        return super().fit(x, y, batch_size, epochs, min_anomalies=min_anomalies, **kwargs)

    def choose_score(self, has_anomalies):
        return "features"

    def raw_score(self, name, x, training=False):
        if name != "features":
            return super().raw_score(name, x, training)
        judge = self.scoring_reconstruction_discriminator
        reconstruction = self.scoring_generator(self.scoring_encoder(x, training=training), training=training)
        real = judge.features((x, x), training=training)
        rebuilt = judge.features((x, tf.cast(reconstruction, x.dtype)), training=training)
        difference = tf.abs(tf.cast(real, tf.float32) - tf.cast(rebuilt, tf.float32))
        return tf.reduce_sum(difference, axis=-1)

    def scoring_networks(self):
        networks = {"scoring_encoder": self.scoring_encoder}
        if self.parts_of_score != ("latent",):
            networks["scoring_generator"] = self.scoring_generator
        if "features" in self.parts_of_score:
            name = "scoring_reconstruction_discriminator"
            networks[name] = getattr(self, name)
        return networks

    def observe(self, batch):
        super().observe(batch)
        reconstruction = self.scoring_generator(self.scoring_encoder(batch, training=False), training=False)
        both = tf.concat([batch, tf.cast(reconstruction, batch.dtype)], axis=0)
        self.scoring_reconstruction_discriminator((batch, both), training=True)

    def get_config(self):
        return {**super().get_config(), "spectral_norm": self.spectral_norm}
