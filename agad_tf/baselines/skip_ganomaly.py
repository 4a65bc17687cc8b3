"""Skip-GANomaly: AGAD without its contextual adversarial term and without anomalies."""

import inspect

import keras
import tensorflow as tf

from agad_tf.baselines.losses import mean_squared
from agad_tf.baselines.stabilisers import with_stabilisers
from agad_tf.models.agad import AGAD
from agad_tf.models.settings import settings_of


@keras.saving.register_keras_serializable("agad_tf")
class SkipGANomaly(AGAD):
    """A UNet that reconstructs normal images and a discriminator D whose features f both are compared in.

    G minimises w_adv times the cross-entropy of D(x̂) against "real", plus w_con |x − x̂| + w_lat |f(x) −
    f(x̂)|², each a mean; D tells x from x̂. The score is .9 R(x) + .1 L(x), R and L the mean squared errors of
    the image and of the features. Labelled anomalies are left out of training.

    Args:
        input_shape: (height, width, channels), multiples of 16, channels 1 or 3.
        backbone: generator, as in `agad_tf.AGAD`; the paper's is a UNet.
        seed: of the values a discriminator gets when it is re-initialised.
        crop: as in `agad_tf.AGAD`.
        score: "weighted" is the paper's; "local" that of `agad_tf.AGAD`; "fused" both.
        score_share: as in `agad_tf.AGAD`; None is "auto" where the score asks for "local".

    Attributes:
        generator, discriminator: G and D; scoring_generator, scoring_discriminator: what scores.

    Raises:
        InputError: another image shape.

    Source: Akçay et al., Skip-GANomaly, IJCNN 2019, equations (1) to (8). Its users measured large drops when
    batch norm is put in inference mode, which here it always is.
    """

    own_scores = ("weighted",)
    uses_anomalies = False
    guarded_error = None
    paper_epochs = 15
    reconstruction_share = 0.9
    """λ of A(x) = λ R(x) + (1 − λ) L(x)."""

    def __init__(
        self,
        input_shape,
        backbone: str = "unet",
        seed: int = 0,
        crop: str = "stretch",
        score: str = "weighted",
        score_share: float | str | None = None,
        **kwargs,
    ):
        super().__init__(
            input_shape, backbone, score=score, seed=seed, crop=crop, score_share=score_share, **kwargs
        )

    @with_stabilisers
    def compile(
        self,
        learning_rate: float = 2e-4,
        beta_1: float = 0.5,
        adversarial_weight: float = 1.0,
        contextual_weight: float = 50.0,
        latent_weight: float = 1.0,
        discriminator_reset_threshold: float = 1e-5,
        generator_optimizer=None,
        discriminator_optimizer=None,
        **stabilisers,
    ):
        """The settings of the paper and its code; stabilisers of AGAD can be switched on.

        Args:
            learning_rate, beta_1: of both Adam optimizers.
            adversarial_weight, contextual_weight, latent_weight: w_adv, w_con, w_lat.
            discriminator_reset_threshold: D is re-initialised when its loss falls under it.
            generator_optimizer, discriminator_optimizer: Keras optimizers instead of Adam.
            clip_norm, average_epochs, reestimate_batch_norm, guard, jit_compile, run_eagerly: see
                `agad_tf.baselines.stabilisers`.
        """
        settings = settings_of(locals())
        super().compile(**settings, contextual_adversarial_weight=0.0)

    def get_compile_config(self):
        config = super().get_compile_config()
        return config and {name: config[name] for name in inspect.signature(self.compile).parameters}

    log_names = tuple(
        name for name in AGAD.log_names if "anomaly" not in name and name != "normal_contextual_adversarial"
    )

    def _feed_back(self, reconstruction):
        return reconstruction  # the new term of AGAD, which would compare them, is then 0

    def fit(self, x=None, y=None, batch_size=64, epochs=1, *, min_anomalies=1, **kwargs):
        """As `AnomalyDetector.fit`, with the batches of the paper's code."""
        return super().fit(x, y, batch_size, epochs, min_anomalies=min_anomalies, **kwargs)

    def raw_scores(self, names, x, training=False):
        reconstruction = self.redraw(x, training)
        return [self._part(name, x, reconstruction, training) for name in names]

    def _part(self, name, x, reconstruction, training):
        if name == "local":
            return self.local_part(x, reconstruction)
        _, features = self.scoring_discriminator(x, training=training)
        _, features_hat = self.scoring_discriminator(reconstruction, training=training)
        residual = tf.cast(mean_squared(x, reconstruction), tf.float32)
        latent = tf.cast(mean_squared(features, features_hat), tf.float32)
        return self.reconstruction_share * residual + (1 - self.reconstruction_share) * latent

    def scoring_networks(self):
        return {scoring: getattr(self, scoring) for _, scoring in self._pairs}

    def get_config(self):
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in ("bn_strategy", "batch_norm")}
