"""f-AnoGAN: a Wasserstein GAN of normal images, then an encoder that inverts its generator."""

import keras
import tensorflow as tf

from agad_tf.baselines.base import Phases, batch_mean, check_kind
from agad_tf.baselines.losses import gradient_penalty, mean_squared
from agad_tf.baselines.stabilisers import with_stabilisers
from agad_tf.errors import InputError
from agad_tf.models.bidirectional import BidirectionalGAN
from agad_tf.models.local_errors import LocalErrors
from agad_tf.models.settings import check_settings, settings_of
from agad_tf.networks import ConvDiscriminator
from agad_tf.replicas import of_this_replica


@keras.saving.register_keras_serializable("agad_tf")
class FAnoGAN(LocalErrors, BidirectionalGAN):
    """A generator G and critic D of normal images (WGAN-GP), then an encoder E against both (izi_f).

    `fit` has two phases. First D maximises D(x) − D(G(z)) less its gradient penalty, in `critic_steps` steps
    for each of G, which maximises D(G(z)): every batch is cut into so many parts. Then G and D stay as they
    are and E minimises the mean squared errors of x̂ = G(E(x)) and, κ times, of D's features f. The score is
    the same sum, A_R(x) + κ A_D(x). Labelled anomalies are left out of training.

    Args:
        input_shape: (side, side, channels), a power of 2 from 16 to 256, channels 1 or 3.
        backbone, latent_dim: of G and E, as in `agad_tf.AABiGAN`; "dcgan" or "lenet".
        seed: of the noise z.
        crop: as in `agad_tf.AGAD`.
        score: "residual" is the paper's; "local" the mean of the largest values of the map of |x − x̂|,
            smoothed and standardised per pixel on training normals, as AGAD's; "fused" both.
        score_share: as in `agad_tf.AGAD`; None is "auto" where the score asks for "local".

    Attributes:
        generator, critic, encoder: G, D and E, which train.
        scoring_generator, scoring_critic, scoring_encoder: what scores.
        pretraining: whether a step trains G and D; scores mean nothing yet.

    Raises:
        InputError: a shape the networks cannot take.

    Source: Schlegl et al., f-AnoGAN, Medical Image Analysis 54, 2019, equations (4) and (5); Gulrajani et
    al., Improved Training of Wasserstein GANs, NeurIPS 2017, equation (3).
    """

    own_scores = ("residual",)
    takes_tables = False
    uses_anomalies = False
    paper_epochs = 14

    def __init__(
        self,
        input_shape,
        backbone: str = "auto",
        latent_dim: int = 128,
        seed: int = 0,
        crop: str = "stretch",
        score: str = "residual",
        score_share: float | str | None = None,
        **kwargs,
    ):
        check_kind(type(self), tuple(input_shape))
        self.offer_local(score, score_share)
        super().__init__(input_shape, backbone, latent_dim, score, seed, crop, **kwargs)
        for role, dtype in (("critic", self.dtype_policy), ("scoring_critic", self.scoring_dtype)):
            # Without batch norm, which would make a penalty of each image's gradient one of the batch's.
            setattr(self, role, ConvDiscriminator(self.sample_shape, None, dtype=dtype, name=role))
        self._pair("critic", "scoring_critic")
        self.make_local_score()
        self.pretraining = True
        self.built = True

    def trained_by(self):
        return {
            "optimizer": self.generator.trainable_variables,
            "discriminator_optimizer": self.critic.trainable_variables,
            "encoder_optimizer": self.encoder.trainable_variables,
        }

    @with_stabilisers
    def compile(
        self,
        learning_rate: float = 1e-4,
        beta_1: float = 0.0,
        beta_2: float = 0.9,
        encoder_learning_rate: float = 5e-5,
        critic_steps: int = 5,
        penalty_weight: float = 10.0,
        feature_weight: float = 1.0,
        generator_share: float = 0.5,
        generator_optimizer=None,
        discriminator_optimizer=None,
        encoder_optimizer=None,
        **stabilisers,
    ):
        """The settings of the paper and its code; stabilisers of AA-BiGAN can be switched on.

        Args:
            learning_rate, beta_1, beta_2: of the Adam optimizers of G and D.
            encoder_learning_rate: of E's RMSprop.
            critic_steps: steps of D for each step of G.
            penalty_weight: λ of the gradient penalty.
            feature_weight: κ.
            generator_share: of the epochs of `fit` for G and D, all but one at most; the rest is E's.
            generator_optimizer, discriminator_optimizer, encoder_optimizer: Keras optimizers instead.
            clip_norm, average_epochs, reestimate_batch_norm, guard, jit_compile, run_eagerly: see
                `agad_tf.baselines.stabilisers`.
        """
        settings = settings_of(locals())
        numbers = "learning_rate", "encoder_learning_rate", "penalty_weight", "feature_weight"
        check_settings(settings, numbers, ("generator_share",))
        if not isinstance(critic_steps, int) or critic_steps < 1:
            raise InputError(f"critic_steps expects a whole number of at least 1, received {critic_steps!r}")
        adam = keras.optimizers.Adam(learning_rate, beta_1, beta_2)
        defaults = {
            "optimizer": adam,
            "discriminator_optimizer": adam,
            "encoder_optimizer": keras.optimizers.RMSprop(encoder_learning_rate),
        }
        self.compile_with(defaults, settings)

    log_names = (
        "loss_generator",
        "loss_critic",
        "gradient_penalty",
        "loss_encoder",
        "image_error",
        "feature_error",
    )

    def enter(self, pretraining: bool) -> None:
        """Begins a phase of training, of G and D or else of E; `fit` does it before each epoch."""
        if pretraining != self.pretraining:
            self.pretraining = pretraining
            self._step_function = None  # it was traced for the other phase

    def training_callbacks(self):
        return [*super().training_callbacks(), Phases(self.settings["generator_share"])]

    def train_step(self, data):
        """Several steps of D and one of G, or one of E."""
        x = self.preprocess(self.unpack(data)[0])
        logs = self._adversarial_step(x) if self.pretraining else self._encoder_step(x)
        self.update_averages()
        return self.track(dict.fromkeys(self.log_names, 0.0) | logs, totals={})

    def _adversarial_step(self, x):
        count = self.settings["critic_steps"]
        rows = tf.shape(x)[0]
        size = tf.maximum(rows // count, 1)
        variables = self.trained_by()
        for number in range(count):
            part = tf.gather(x, (number * size + tf.range(size)) % rows)
            with tf.GradientTape() as tape:
                loss, penalty = self._critic_loss(part, number)
                scaled = self.scale_loss(loss, self.discriminator_optimizer)
            moved = variables["discriminator_optimizer"]
            self.step(tape, scaled, moved, self.discriminator_optimizer)
        with tf.GradientTape() as tape:
            made = self.generator(self._noise(part, count), training=True)
            loss_g = -batch_mean(self._judge(made)[0])
            scaled = self.scale_loss(loss_g, self.optimizer)
        self.step(tape, scaled, variables["optimizer"], self.optimizer)
        return {"loss_generator": loss_g, "loss_critic": loss, "gradient_penalty": penalty}

    def _critic_loss(self, x, number: int):
        """D(G(z)) − D(x) + λ (‖∇D(x̃)‖ − 1)², x̃ on the line between them; and the penalty."""
        made = tf.cast(self.generator(self._noise(x, number), training=True), x.dtype)
        seed = tf.stack([tf.constant(self.seed + number, tf.int32), tf.cast(self.average_steps, tf.int32)])
        share = of_this_replica(
            lambda rows: tf.random.stateless_uniform([rows, 1, 1, 1], seed, dtype=x.dtype), tf.shape(x)[0]
        )
        between = x + share * (made - x)
        with tf.GradientTape() as tape:
            tape.watch(between)
            judged = self._judge(between)[0]
        penalty = batch_mean(gradient_penalty(tape.gradient(judged, between)))
        loss = batch_mean(self._judge(made)[0]) - batch_mean(self._judge(x)[0])
        return loss + self.settings["penalty_weight"] * penalty, penalty

    def _judge(self, x):
        logit, features = self.critic(x, training=True)
        return tf.cast(logit, tf.float64 if logit.dtype == tf.float64 else tf.float32), features

    def _encoder_step(self, x):
        with tf.GradientTape() as tape:
            code = self.encoder(x, training=True)
            image, features = self._errors(x, code, self.generator, self.critic)
            image, features = batch_mean(image), batch_mean(features)
            loss = image + self.settings["feature_weight"] * features
            scaled = self.scale_loss(loss, self.encoder_optimizer)
        self.step(tape, scaled, self.encoder.trainable_variables, self.encoder_optimizer)
        return {"loss_encoder": loss, "image_error": image, "feature_error": features}

    def _errors(self, x, code, generator, critic, training=False):
        """Mean squared errors of G(code) and of D's features of it, each (batch,)."""
        reconstruction = generator(code, training=training)
        _, features = critic(x, training=training)
        _, features_hat = critic(reconstruction, training=training)
        return mean_squared(x, reconstruction), mean_squared(features, features_hat)

    def fit(self, x=None, y=None, batch_size=320, epochs=1, *, min_anomalies=1, **kwargs):
        """As `AnomalyDetector.fit`; a batch holds the 64 images of each of 5 steps of D."""
        return super().fit(x, y, batch_size, epochs, min_anomalies=min_anomalies, **kwargs)

    def choose_score(self, has_anomalies):
        return "residual"

    def raw_score(self, name, x, training=False):
        if name == "local":
            return self.local_part(x, self.redraw(x, training))
        code = self.scoring_encoder(x, training=training)
        image, features = self._errors(x, code, self.scoring_generator, self.scoring_critic, training)
        weight = self.settings["feature_weight"] if self.compiled else 1.0
        return tf.cast(image + weight * features, tf.float32)

    def redraw(self, x, training=False):
        return self.scoring_generator(self.scoring_encoder(x, training=training), training=training)

    def scoring_networks(self):
        return {scoring: getattr(self, scoring) for _, scoring in self._pairs}

    def get_config(self):
        config = super().get_config()
        del config["clip"]
        return config
