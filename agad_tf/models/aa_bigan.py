"""AA-BiGAN: anomaly-aware bidirectional GAN (Tian et al., IJCAI 2022, arXiv 2204.13335)."""

import keras
import tensorflow as tf

from agad_tf.encoding import TableEncoding
from agad_tf.losses import aa_bigan as losses
from agad_tf.losses.reduction import group_means
from agad_tf.models.bidirectional import BidirectionalGAN
from agad_tf.models.schedule import EpochDecay, initial_rate
from agad_tf.models.settings import check_settings, settings_of

# Routes: the labels doubled are the first and the last; no loss reads a row that is left out.
GENERATED, ANOMALY, LEFT_OUT = 1, 2, 3

# What `literal=True` sets: the paper's algorithm without our stabilisers.
LITERAL = {"clip_norm": None, "average_epochs": 0.0, "reestimate_batch_norm": False, "guard": False}

RATES = ("learning_rate", "discriminator_learning_rate")


@keras.saving.register_keras_serializable("agad_tf")
class AABiGAN(BidirectionalGAN):
    """An encoder and a generator that learn the normal samples, told apart from collected anomalies.

    ```python
    model = agad_tf.AABiGAN((32, 32, 1))  # or (features,) for the rows of a table
    model.compile()
    model.fit(samples, labels, epochs=40)  # labels: 0 normal, 1 anomaly
    scores = model.predict(new_samples)  # higher is more anomalous
    ```

    Args:
        input_shape: (height, width, channels) the networks work at, channels 1 or 3; uint8 images of any size
            are resized to it. Or (features,): rows of raw numbers, scaled inside the model by what `fit` saw.
        backbone: "dcgan" (the paper's MNIST networks), "lenet" (its CIFAR-10 networks), "mlp" (tables), or
            "auto": mlp for rows, dcgan for grey images, lenet for colour.
        latent_dim: length of the code; None takes the paper's 100 (dcgan), 128 (lenet) or 16 (mlp).
        score: "reconstruction" is ||x − G(E(x))||², "latent" is ||E(x)||², "fused" their sum, each
            standardised on training normals; "auto" is "reconstruction".
        seed: of the noise z.
        crop: as in `agad_tf.AGAD`; images only.
        clip: limit of scaled table values, see `agad_tf.layers.TableScaling`; tables only. 0.5, [−0.5, 1.5],
            was chosen on validation parts (docs/results/aa_bigan_table2.md); the paper knows none.
        encoding: of tables with categories or missing values, from `agad_tf.table_encoding` or the `encoding`
            of `agad_tf.load_samples`; None takes finite numbers alone.

    Attributes:
        encoder, generator: E and G, which train; scoring_encoder, scoring_generator: their averages.
        discriminator, reconstruction_discriminator: D of (x, z) and D' of (x, x̂).

    Raises:
        InputError: a shape the backbone cannot take, an unknown name.
    """

    def __init__(
        self,
        input_shape,
        backbone: str = "auto",
        latent_dim: int | None = None,
        score: str = "auto",
        seed: int = 0,
        crop: str = "stretch",
        clip: float | None = 0.5,
        encoding: TableEncoding | None = None,
        **kwargs,
    ):
        super().__init__(
            input_shape, backbone, latent_dim, score, seed, crop, clip, encoding=encoding, **kwargs
        )
        self.discriminator, self.reconstruction_discriminator = self.make_discriminators(self.dtype_policy)
        self.built = True

    # -- training --------------------------------------------------------------------------------------------

    def discriminator_variables(self):
        """What Ṽ(D, D') moves."""
        return self.discriminator.trainable_variables + self.reconstruction_discriminator.trainable_variables

    def compile(
        self,
        learning_rate: float | None = None,
        discriminator_learning_rate: float | None = None,
        beta_1: float = 0.5,
        beta_2: float = 0.9,
        learning_rate_decay: float = 0.98,
        decay_epochs: int = 100,
        generator_optimizer=None,
        discriminator_optimizer=None,
        normal_target: float = 1.0,
        generated_target: float = 0.0,
        generator_target: float = 0.75,
        anomaly_target: float | None = None,
        update_order: str = "simultaneous",
        clip_norm: float | None = None,
        average_epochs: float = 2.0,
        reestimate_batch_norm: bool = True,
        guard: bool = True,
        literal: bool = False,
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
    ):
        """The paper's losses, targets and optimizers, and stabilisers of ours, each named so below.

        Args:
            learning_rate: of G's and E's Adam; None takes the paper's 1e-4 for images, and 3e-3 for
                tables, chosen on validation parts (docs/results/aa_bigan_table2.md).
            discriminator_learning_rate: of the Adam of D and D'; None takes a quarter of the other, as the
                paper does.
            beta_1, beta_2: of both Adam optimizers.
            learning_rate_decay: factor of both learning rates after every `decay_epochs` epochs.
            decay_epochs: 0 for no decay, which leaves the rates to other callbacks.
            generator_optimizer, discriminator_optimizer: Keras optimizers instead of Adam.
            normal_target, generated_target, generator_target: a, b and c of Theorem 3.
            anomaly_target: of D and D' for collected anomalies; None is the paper's (a + b) / 2.
            update_order: "simultaneous" differentiates both losses at the old weights (Algorithm 1).
                "discriminator_first" is the order of the authors' code, with its weights: D and D' are
                updated before the loss of G and E is taken, in which D' weighs 1/3 (1/2 without anomalies).
            clip_norm: stabiliser: largest global gradient norm of each optimizer; None for none.
            average_epochs: stabiliser: horizon of the moving average of weights that score, in epochs; 0
                scores with the raw weights.
            reestimate_batch_norm: stabiliser: batch-norm statistics of the scoring networks are re-estimated
                on normal training samples.
            guard: stabiliser: after an epoch with a loss that is not finite, back to the last good weights
                once, then stop; see `agad_tf.models.guard.DivergenceGuard`.
            literal: the paper's algorithm and nothing else: sets the stabilisers to 0, None and False, and
                `score="auto"` to the reconstruction error. What the paper leaves open for tables stays ours:
                the learning rate and `clip` of the constructor.
            jit_compile: XLA; "auto" is on for a GPU and off on a CPU, where it is slower.
            run_eagerly: as in Keras, for debugging.
        """
        settings = settings_of(locals())
        if literal:
            settings |= LITERAL
        orders = ("simultaneous", "discriminator_first")
        check_settings(settings, (*RATES, "decay_epochs"), choices={"update_order": orders}, optional=RATES)
        self.targets = losses.Targets(normal_target, generated_target, generator_target, anomaly_target)
        rate = (3e-3 if self.is_table else 1e-4) if learning_rate is None else learning_rate
        d_rate = rate / 4 if discriminator_learning_rate is None else discriminator_learning_rate
        rates = {"optimizer": rate, "discriminator_optimizer": d_rate}
        adams = {name: keras.optimizers.Adam(of_it, beta_1, beta_2) for name, of_it in rates.items()}
        self.compile_with(adams, settings)
        self.initial_rates = initial_rate(self.optimizer), initial_rate(self.discriminator_optimizer)

    def train_step(self, data):
        """Algorithm 1 of the supplement on one batch (x, y), or the order of the authors' code."""
        x, y = self.unpack(data)
        x = self.preprocess(x)
        with tf.GradientTape(persistent=True) as tape:
            passed = self._pass(x, y)
            loss_d, logs_d = self._discriminator_loss(passed)
            scaled_d = self.scale_loss(loss_d, self.discriminator_optimizer)
            if self.settings["update_order"] == "discriminator_first":
                with tape.stop_recording():
                    norm_d = self._step_discriminators(tape, scaled_d)
                passed |= self._judge(passed)  # by the new discriminators
            loss_g, logs_g = self._generator_loss(passed)
            scaled_g = self.scale_loss(loss_g, self.optimizer)
        if self.settings["update_order"] == "simultaneous":
            norm_d = self._step_discriminators(tape, scaled_d)
        norm_g = self.step(tape, scaled_g, self.generator_variables(), self.optimizer)
        del tape
        self.update_averages()
        logs = {"loss_generator": loss_g, "loss_discriminator": loss_d, **logs_g, **logs_d}
        logs |= {"gradient_norm_generator": norm_g, "gradient_norm_discriminator": norm_d}
        return self.track(logs, totals={})

    log_names = (
        "loss_generator",
        "loss_discriminator",
        *(f"generator_{name}" for name in ("normal", "anomaly", "generated", "reconstruction")),
        *(f"discriminator_{name}" for name in ("normal", "anomaly", "generated")),
        *(f"discriminator_{name}" for name in ("same_normal", "same_anomaly", "reconstruction")),
        "normal_reconstruction",
        "gradient_norm_generator",
        "gradient_norm_discriminator",
    )

    def _pass(self, x, y) -> dict[str, tf.Tensor]:
        """E on all samples together, G on their codes and on noise together, then D and D' on every group."""
        route = 2 * y  # 0 normal, 2 anomaly
        code = self.encoder(x, training=True)
        noise = self._noise(code)
        # One pass of G: the codes of anomalies go through without a part in its batch norm or in any loss.
        both = tf.concat([route, tf.zeros_like(y)], axis=0)
        made = self.generator(tf.concat([code, noise], axis=0), route=both, training=True)
        reconstruction, generated = tf.split(tf.cast(made, x.dtype), 2)
        passed = {
            "x": x,
            "route": route,
            "code": code,  # E(x)
            "noise": noise,  # z
            "reconstruction": reconstruction,  # x̂ = G(E(x))
            "generated": generated,  # G(z)
            "normal": tf.cast(y == 0, x.dtype),  # (B,) who is normal
            "anomaly": tf.cast(y == 1, x.dtype),  # (B,) who is an anomaly
        }
        return passed | self._judge(passed)

    def _judge(self, passed) -> dict[str, tf.Tensor]:
        """D on (x, E(x)) and (G(z), z), D' on (x, x) and (x, x̂); each group with its own batch moments."""
        x, route = passed["x"], passed["route"]
        # One by one: then G and E need no backward pass through groups that hold x alone.
        real = self.discriminator((x, passed["code"]), route=route, training=True)
        drawn = passed["generated"], passed["noise"]
        generated = self.discriminator(drawn, route=GENERATED, training=True)
        # D' compares x with itself and with x̂; the anomalies' x̂ are in none of its terms.
        others = x, passed["reconstruction"]
        routes = route, tf.where(route == ANOMALY, LEFT_OUT, GENERATED)
        same, reconstructed = self.reconstruction_discriminator((x, others), route=routes, training=True)
        return {
            "D(x, E(x))": real,
            "D(G(z), z)": generated,
            "D'(x, x)": same,
            "D'(x, x̂)": reconstructed,
        }

    def _discriminator_loss(self, passed):
        """Ṽ(D, D'), equation (33)."""
        groups = passed["normal"], passed["anomaly"], self.targets
        joint, logs = losses.discriminator_loss(passed["D(x, E(x))"], passed["D(G(z), z)"], *groups)
        extra, more = losses.reconstruction_discriminator_loss(
            passed["D'(x, x)"], passed["D'(x, x̂)"], *groups
        )
        return joint + extra, {f"discriminator_{name}": value for name, value in (logs | more).items()}

    def _generator_loss(self, passed):
        """Ṽ(G, E), equation (34)."""
        normal, anomaly = passed["normal"], passed["anomaly"]
        joint, logs = losses.generator_loss(
            passed["D(x, E(x))"], passed["D(G(z), z)"], normal, anomaly, self.targets
        )
        extra = losses.reconstruction_generator_loss(passed["D'(x, x̂)"], normal, self.targets)
        squares = tf.math.squared_difference(passed["x"], passed["reconstruction"])
        error = tf.reduce_sum(squares, axis=list(range(1, len(squares.shape))))
        means, _ = group_means({"error": error}, normal)
        logs = {f"generator_{name}": value for name, value in logs.items()}
        logs |= {"generator_reconstruction": extra, "normal_reconstruction": means["error"]}
        if self.settings["update_order"] == "discriminator_first":
            _, anomalies = group_means({"_": anomaly}, anomaly)
            extra /= tf.cast(tf.where(anomalies > 0, 3, 2), extra.dtype)
        return joint + extra, logs

    def _step_discriminators(self, tape, scaled_loss):
        return self.step(tape, scaled_loss, self.discriminator_variables(), self.discriminator_optimizer)

    def fit(self, x=None, y=None, batch_size=222, epochs=1, *, min_anomalies=22, **kwargs):
        """As `AnomalyDetector.fit`, with the batches of the authors' code: 200 normals and 22 anomalies."""
        return super().fit(x, y, batch_size, epochs, min_anomalies=min_anomalies, **kwargs)

    def training_callbacks(self):
        factor, epochs = self.settings["learning_rate_decay"], self.settings["decay_epochs"]
        decay = [EpochDecay(factor, epochs, self.initial_rates)] if epochs else []
        return super().training_callbacks() + decay
