"""AGAD: adversarial generative anomaly detection (Shi and Zhang, arXiv 2304.04211)."""

import json

import keras
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.layers import BN_STRATEGIES
from agad_tf.losses import agad as losses
from agad_tf.losses.reduction import group_means
from agad_tf.models.agad_scorer import AGADScorer
from agad_tf.models.inputs import preprocessing
from agad_tf.models.settings import check_settings, settings_of
from agad_tf.models.updates import reinitialise_below
from agad_tf.networks import BACKBONES, PatchDiscriminator
from agad_tf.networks.own_backbone import described, make_own_backbone

RECONSTRUCTION = 1  # the route of every fed-back reconstruction; routes 0 and 2 are the labels, doubled

NOT_NEGATIVE = (
    "learning_rate",
    "reciprocal_epsilon",
    "discriminator_reset_threshold",
    "adversarial_weight",
    "contextual_weight",
    "contextual_adversarial_weight",
    "latent_weight",
)

CHOICES = {
    "latent_distance": losses.LATENT_DISTANCES,
    "anomaly_contextual_pair": ("reconstruction", "input"),
    "group_weighting": ("equal", "share"),
    "update_order": ("simultaneous", "discriminator_first"),
}

# What `literal=True` sets: the paper's algorithm without our stabilisers.
LITERAL = {
    "reciprocal_epsilon": 0.0,
    "clip_norm": None,
    "average_epochs": 0.0,
    "reestimate_batch_norm": False,
    "discriminator_sees_anomaly_reconstructions": False,
    "guard": False,
}


@keras.saving.register_keras_serializable("agad_tf")
class AGAD(AGADScorer):
    """A generator that learns to reconstruct normal images and to fail on everything else.

    ```python
    model = agad_tf.AGAD((32, 32, 1), backbone="encoder_decoder")
    model.compile()
    model.fit(images, labels, epochs=10)  # labels: 0 normal, 1 anomaly
    scores = model.predict(new_images)  # higher is more anomalous
    ```

    Args:
        input_shape: (height, width, channels) the networks work at; channels 1 or 3. uint8 images of any
            size are resized to it.
        backbone: generator: "encoder_decoder", "unet", "unet_plus_plus"; a Keras model of images to images
            of the same shape, whose weights training starts from; or a registered class of `keras.Model`
            or its registered name, made by `cls(input_shape)`, with `route_heads=…` where it takes them.
        bn_strategy: which samples share batch-norm statistics: "shared", "adv_prop" (fed-back
            reconstructions have a head of their own), "freeze" (anomalies are normalised by the normal
            head's moving statistics), "adv_prop_freeze" (paper, section 6.2).
        batch_norm: False leaves batch norm out of the generator.
        score: "reconstruction" is the paper's A(x) = ||x − x̂||₂; "local" the mean of the largest values of
            the map of |x − x̂|, smoothed and standardised per pixel on training normals; "discriminator" the
            negated logit of D; "fused" the sum of all three, each standardised on training normals; "auto"
            is replaced at `fit` by "fused" with labelled anomalies; without, by "local" from 64 pixels a
            side on, else by "reconstruction".
        seed: of the values a discriminator gets when it is re-initialised.
        crop: what resizing does to images of another aspect than `input_shape`: "stretch" distorts them,
            "centre" takes the largest window of the right aspect from their middle.
        score_share: share of the pixels that "local" averages, "auto" for eight of them; None for a detector
            without it, as all were before there was one.

    Attributes:
        generator, discriminator: the networks that train.
        scoring_generator, scoring_discriminator: their averages, which score.

    Raises:
        InputError: an image shape the backbone cannot take, an unknown name, a model of one's own that takes
            or gives another shape, a class that is not registered.
    """

    def __init__(
        self,
        input_shape,
        backbone: str | keras.Model | type[keras.Model] = "unet_plus_plus",
        bn_strategy: str = "shared",
        batch_norm: bool = True,
        score: str = "auto",
        seed: int = 0,
        crop: str = "stretch",
        score_share: float | str | None = "auto",
        **kwargs,
    ):
        self.offer_local(score, score_share)  # before the rest: it says which scores there are
        super().__init__(input_shape, score, **kwargs)
        if bn_strategy not in BN_STRATEGIES:
            raise InputError(
                f"bn_strategy expects one of {', '.join(BN_STRATEGIES)}, received {bn_strategy!r}"
            )
        # As text: a model or a dict would be tracked, and saved a third time.
        self._backbone = json.dumps(described(backbone, BACKBONES))
        self.bn_strategy, self.batch_norm, self.seed = bn_strategy, batch_norm, seed
        heads = BN_STRATEGIES[bn_strategy]
        full = self.scoring_dtype
        self.preprocess = preprocessing(
            self.sample_shape, (-1.0, 1.0), crop, dtype=full, version=self.preprocessing
        )
        for role, dtype in (("", self.dtype_policy), ("scoring_", full)):
            network = self._make_generator(backbone, heads, dtype=dtype, name=f"{role}generator")
            setattr(self, network.name, network)
        for role, dtype in (("", self.dtype_policy), ("scoring_", full)):
            network = PatchDiscriminator(self.sample_shape, heads, dtype=dtype, name=f"{role}discriminator")
            setattr(self, network.name, network)
        self._pair("generator", "scoring_generator")
        self._pair("discriminator", "scoring_discriminator")
        self.make_local_score()
        self.built = True

    @property
    def backbone(self) -> str | dict:
        """The name of the generator, the registered one of a class, or the config of a Keras model."""
        return json.loads(self._backbone)

    def _make_generator(self, backbone, heads, **kwargs):
        chosen, heads = self.backbone, heads if self.batch_norm else None
        if isinstance(chosen, str) and chosen in BACKBONES:
            return BACKBONES[chosen](self.sample_shape, heads, **kwargs)
        return make_own_backbone(backbone, chosen, self.sample_shape, heads, self.bn_strategy, **kwargs)

    # -- training --------------------------------------------------------------------------------------------

    def generator_variables(self):
        """What L_g moves."""
        return self.generator.trainable_variables

    def discriminator_variables(self):
        """What L_d moves."""
        return self.discriminator.trainable_variables

    def compile(
        self,
        learning_rate: float = 2e-4,
        beta_1: float = 0.5,
        generator_optimizer=None,
        discriminator_optimizer=None,
        adversarial_weight: float = 1.0,
        contextual_weight: float = 50.0,
        contextual_adversarial_weight: float = 15.0,
        latent_weight: float = 5.0,
        latent_distance: str = "mean_squared",
        anomaly_contextual_pair: str = "reconstruction",
        group_weighting: str = "equal",
        update_order: str = "simultaneous",
        discriminator_reset_threshold: float = 1e-5,
        reciprocal_epsilon: float = 0.1,
        clip_norm: float | None = 5.0,
        discriminator_sees_anomaly_reconstructions: bool = False,
        average_epochs: float = 2.0,
        reestimate_batch_norm: bool = True,
        guard: bool = True,
        literal: bool = False,
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
    ):
        """The paper's losses, weights and optimizers, and stabilisers of ours, each named so below.

        Args:
            learning_rate: of both Adam optimizers.
            beta_1: of both Adam optimizers (the paper does not say; the GAN literature's .5).
            generator_optimizer, discriminator_optimizer: Keras optimizers instead of Adam.
            adversarial_weight, contextual_weight, contextual_adversarial_weight, latent_weight: λ.
            latent_distance: reading of equation (7), see `agad_tf.losses.agad.latent_loss`.
            anomaly_contextual_pair: what anomalies fail to match: "reconstruction" is |x̂ − G(x̂)| of
                equation (10) and Algorithm 1, "input" is |x − x̂| of equation (3).
            group_weighting: "equal" counts L_n and L_a once each, "share" by their share of the batch.
            update_order: "simultaneous" differentiates both losses at the old weights (Algorithm 1),
                "discriminator_first" updates D before the generator's loss is taken.
            discriminator_reset_threshold: δ; D is re-initialised when its loss falls under it.
            reciprocal_epsilon: stabiliser: added to the means of equation (10) before their reciprocals.
            clip_norm: stabiliser: largest global gradient norm of each optimizer; None for none.
            discriminator_sees_anomaly_reconstructions: stabiliser: L_d also teaches D that x̂ of anomalies
                is generated, which Algorithm 1 leaves out.
            average_epochs: stabiliser: horizon of the moving average of weights that score, in epochs; 0
                scores with the raw weights.
            reestimate_batch_norm: stabiliser: batch-norm statistics of the scoring networks are re-estimated
                on normal training images.
            guard: stabiliser: after a diverging epoch, back to the last good weights once, then stop; see
                `agad_tf.models.guard.DivergenceGuard`.
            literal: the paper's algorithm and nothing else: sets the stabilisers to 0, None and False, and
                `score="auto"` to the paper's reconstruction error.
            jit_compile: XLA; "auto" is on for a GPU and off on a CPU, where it is slower.
            run_eagerly: as in Keras, for debugging.
        """
        settings = settings_of(locals())
        if literal:
            settings |= LITERAL
        check_settings(settings, NOT_NEGATIVE, choices=CHOICES)
        self.loss_weights = losses.LossWeights(
            adversarial_weight, contextual_weight, contextual_adversarial_weight, latent_weight
        )
        self.compile_with(keras.optimizers.Adam(learning_rate, beta_1), settings)

    def train_step(self, data):
        """Algorithm 1 on one batch (x, y), in the order that `compile(update_order=...)` asks for."""
        x, y = self.unpack(data)
        x = self.preprocess(x)

        discriminator_first = self.settings["update_order"] == "discriminator_first"

        with tf.GradientTape(persistent=True) as tape:
            passed = self._pass(x, y)
            loss_d, logs_d = self._discriminator_loss(passed)
            scaled_d = self.scale_loss(loss_d, self.discriminator_optimizer)
            if discriminator_first:
                with tape.stop_recording():
                    norm_d = self._step_discriminator(tape, scaled_d)
                passed |= self._judge(passed)  # by the new D
            loss_g, logs_g = self._generator_loss(passed)
            scaled_g = self.scale_loss(loss_g, self.optimizer)
        norm_g = self.step(tape, scaled_g, self.generator_variables(), self.optimizer)
        if not discriminator_first:
            norm_d = self._step_discriminator(tape, scaled_d)
        del tape

        reset = self._reset_discriminator(loss_d)
        self.update_averages()
        logs = {"loss_generator": loss_g, "loss_discriminator": loss_d, **logs_g, **logs_d}
        logs |= {"gradient_norm_generator": norm_g, "gradient_norm_discriminator": norm_d}
        return self.track(logs, totals={"discriminator_resets": reset})

    log_names = (
        "loss_generator",
        "loss_discriminator",
        "loss_normal",
        "loss_anomaly",
        *(f"normal_{name}" for name in ("adversarial", "contextual", "contextual_adversarial", "latent")),
        *(f"anomaly_{name}" for name in ("adversarial", "contextual_adversarial", "latent")),
        *(f"discriminator_{name}" for name in ("normal", "reconstruction", "anomaly")),
        "gradient_norm_generator",
        "gradient_norm_discriminator",
    )
    total_names = ("discriminator_resets",)

    def _pass(self, x, y) -> dict[str, tf.Tensor]:
        """Lines 3 and 4 of Algorithm 1: G on the batch and on its reconstructions, D on both."""
        route = 2 * y  # 0 normal, 2 anomaly
        reconstruction = self.generator(x, route=route, training=True)
        passed = {
            "x": x,  # x
            "route": route,
            "reconstruction": reconstruction,  # x̂
            "second": self._feed_back(reconstruction),  # x̂'
        }
        judged = self._judge(passed)
        groups = {
            "normal": tf.cast(y == 0, judged["logit"].dtype),  # (B,) who is normal
            "anomaly": tf.cast(y == 1, judged["logit"].dtype),  # (B,) who is an anomaly
        }
        return passed | judged | groups

    def _judge(self, passed) -> dict[str, tf.Tensor]:
        """D on the batch and on its reconstructions."""
        logit, features = self.discriminator(passed["x"], route=passed["route"], training=True)
        logit_hat, features_hat = self.discriminator(
            passed["reconstruction"], route=RECONSTRUCTION, training=True
        )
        return {
            "logit": logit,  # y
            "features": features,  # z
            "logit_hat": logit_hat,  # ŷ
            "features_hat": features_hat,  # ẑ
        }

    def _step_discriminator(self, tape, scaled_loss):
        return self.step(tape, scaled_loss, self.discriminator_variables(), self.discriminator_optimizer)

    def _feed_back(self, reconstruction):
        """x̂' = G(x̂), what the contextual adversarial loss compares x̂ with."""
        return self.generator(reconstruction, route=RECONSTRUCTION, training=True)

    def _generator_loss(self, passed):
        """Lines 6 and 9: L_n over the normals plus L_a over the anomalies, equations (9) to (11)."""
        settings, weights = self.settings, self.loss_weights
        x, reconstruction = passed["x"], passed["reconstruction"]
        contextual = losses.contextual_loss(x, reconstruction)
        adcon = losses.contextual_adversarial_loss(reconstruction, passed["second"])
        latent = losses.latent_loss(passed["features"], passed["features_hat"], settings["latent_distance"])
        normal, normals = group_means(
            {
                "adversarial": losses.adversarial_loss(passed["logit_hat"], 1.0),
                "contextual": contextual,
                "contextual_adversarial": adcon,
                "latent": latent,
            },
            passed["normal"],
        )
        anomaly, anomalies = group_means(
            {
                "adversarial": losses.adversarial_loss(passed["logit_hat"], 0.0),
                "contextual_adversarial": adcon
                if settings["anomaly_contextual_pair"] == "reconstruction"
                else -contextual,
                "latent": latent,
            },
            passed["anomaly"],
        )
        # Without anomalies the means are 0; 1 keeps their unused reciprocals, and the gradients, finite.
        some = anomalies > 0
        anomaly = {
            "adversarial": tf.where(some, anomaly["adversarial"], 1.0),
            "contextual_adversarial": tf.where(some, anomaly["contextual_adversarial"], -1.0),
            "latent": tf.where(some, anomaly["latent"], 1.0),
        }
        loss_n = losses.normality_loss(**normal, weights=weights)
        loss_a = losses.anomaly_loss(**anomaly, weights=weights, epsilon=settings["reciprocal_epsilon"])
        loss = losses.total_loss(loss_n, loss_a, normals, anomalies, settings["group_weighting"])
        logs = {"loss_normal": loss_n, "loss_anomaly": tf.where(some, loss_a, 0.0)}
        logs |= {f"normal_{name}": value for name, value in normal.items()}
        logs |= {f"anomaly_{name}": tf.where(some, value, 0.0) for name, value in anomaly.items()}
        return loss, logs

    def _discriminator_loss(self, passed):
        """Lines 7 and 10: normals are real, their reconstructions and the anomalies are not."""
        fake = losses.adversarial_loss(passed["logit_hat"], 0.0)
        normal, normals = group_means(
            {"reconstruction": fake, "normal": losses.adversarial_loss(passed["logit"], 1.0)},
            passed["normal"],
        )
        anomaly, anomalies = group_means(
            {"anomaly": losses.adversarial_loss(passed["logit"], 0.0), "reconstruction": fake},
            passed["anomaly"],
        )
        loss_a = anomaly["anomaly"]
        if self.settings["discriminator_sees_anomaly_reconstructions"]:
            loss_a += anomaly["reconstruction"]
        loss = losses.discriminator_loss(
            normal["reconstruction"],
            normal["normal"],
            loss_a,
            normals,
            anomalies,
            self.settings["group_weighting"],
        )
        return loss, {
            "discriminator_normal": normal["normal"],
            "discriminator_reconstruction": normal["reconstruction"],
            "discriminator_anomaly": anomaly["anomaly"],
        }

    def _reset_discriminator(self, loss):
        """Gives D new weights, batch-norm statistics and optimizer moments where its loss fell under δ."""
        seed = tf.stack([tf.constant(self.seed, tf.int32), tf.cast(self.average_steps, tf.int32)])
        threshold = self.settings["discriminator_reset_threshold"]
        return reinitialise_below(threshold, loss, self.discriminator, self.discriminator_optimizer, seed)

    def get_config(self):
        return {
            **super().get_config(),
            "input_shape": self.sample_shape,
            "backbone": self.backbone,
            "bn_strategy": self.bn_strategy,
            "batch_norm": self.batch_norm,
            "seed": self.seed,
            "crop": self.preprocess.crop,
        }

    @classmethod
    def from_config(cls, config):
        return super().from_config({"score_share": None} | config)  # saved before there was a local score
