"""A generator of samples with an encoder to its codes: what the bidirectional GANs share."""

import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.models.detector import AnomalyDetector
from agad_tf.models.inputs import preprocessing
from agad_tf.networks import BIGAN_BACKBONES
from agad_tf.replicas import of_this_replica


class BidirectionalGAN(AnomalyDetector):
    """Base of detectors with an encoder E and a generator G: networks, scores, samples, noise.

    A subclass makes its discriminators after this constructor, sets `built`, and trains. The arguments are
    those of `agad_tf.AABiGAN`.

    Attributes:
        encoder, generator: E and G, which train; scoring_encoder, scoring_generator: their averages.
    """

    score_names = ("reconstruction", "latent")
    takes_tables = True
    # Its error may rise for good reasons, where nothing but a discriminator asks for a good reconstruction.
    guarded_error = None

    def __init__(self, input_shape, backbone, latent_dim, score, seed, crop, clip=None, **kwargs):
        super().__init__(input_shape, score, **kwargs)
        self.backbone, self.seed, self.crop, self.clip = backbone, seed, crop, clip
        networks = BIGAN_BACKBONES[self._choose(backbone)]
        self.latent_dim = networks.latent_dim if latent_dim is None else int(latent_dim)
        if self.latent_dim < 1:
            raise InputError(f"latent_dim expects a number of at least 1, received {latent_dim}")
        policy, full = self.dtype_policy, self.scoring_dtype
        self.preprocess = preprocessing(
            self.sample_shape, (0.0, 1.0), crop, clip, full, self.preprocessing, self.encoding
        )
        for name, network in (("encoder", networks.encoder), ("generator", networks.generator)):
            for role, dtype in ((name, policy), (f"scoring_{name}", full)):
                setattr(self, role, network(self.network_shape, self.latent_dim, dtype=dtype, name=role))
            self._pair(name, f"scoring_{name}")

    def make_discriminators(self, dtype) -> tuple:
        """The backbone's D of (x, z) and D' of (x, x̂), new."""
        networks = BIGAN_BACKBONES[self._choose(self.backbone)]
        return networks.discriminators(self.network_shape, self.latent_dim, dtype)

    def _choose(self, backbone: str) -> str:
        if backbone not in ("auto", *BIGAN_BACKBONES):
            raise InputError(
                f"backbone expects one of auto, {', '.join(BIGAN_BACKBONES)}, received {backbone!r}"
            )
        if backbone == "auto":
            return "mlp" if self.is_table else "dcgan" if self.sample_shape[-1] == 1 else "lenet"
        if (backbone == "mlp") != self.is_table:
            kinds = ("images (height, width, channels)", "rows (features,)")
            wanted, received = reversed(kinds) if backbone == "mlp" else kinds
            raise InputError(
                f"backbone {backbone} expects {wanted}, received {received} of shape {self.sample_shape}: "
                "leave the backbone to auto"
            )
        return backbone

    def raw_score(self, name, x, training=False):
        code = self.scoring_encoder(x, training=training)
        if name == "latent":
            return tf.reduce_sum(tf.square(tf.cast(code, tf.float32)), axis=-1)
        reconstruction = self.scoring_generator(code, training=training)
        difference = tf.cast(x, tf.float32) - tf.cast(reconstruction, tf.float32)
        return tf.reduce_sum(tf.square(difference), axis=list(range(1, len(x.shape))))

    def reconstruct(self, x):
        """G(E(x)), of the shape and scale of preprocessed samples."""
        code = self.scoring_encoder(self.preprocess(tf.convert_to_tensor(x)), training=False)
        return self.scoring_generator(code, training=False)

    def generate(self, count: int, seed: int = 0):
        """G(z) for `count` codes z ~ N(0, I) drawn from `seed`; (count, ...) in the model's range."""
        z = tf.random.stateless_normal([count, self.latent_dim], [seed, 0])
        return self.scoring_generator(z, training=False)

    def scoring_networks(self):
        networks = {"scoring_encoder": self.scoring_encoder}
        if "reconstruction" in self.parts_of_score:
            networks["scoring_generator"] = self.scoring_generator
        return networks

    def observe(self, batch):
        # G was trained on codes and noise together, half and half.
        code = self.scoring_encoder(batch, training=True)
        noise = tf.random.stateless_normal(tf.shape(code), [self.seed, 1], dtype=code.dtype)
        self.scoring_generator(tf.concat([code, noise], axis=0), training=True)

    def choose_score(self, has_anomalies):
        return "reconstruction"

    def generator_variables(self):
        """G and E."""
        return self.generator.trainable_variables + self.encoder.trainable_variables

    def _noise(self, code, draw: int = 0):
        """z ~ N(0, I) for every sample, fixed by seed and step, the same however replicas share the batch.

        Args:
            code: anything of as many rows, and of the dtype wanted.
            draw: tells apart the draws of one step.
        """
        seed = tf.stack([tf.constant(self.seed + draw, tf.int32), tf.cast(self.average_steps, tf.int32)])
        # XLA makes other normal numbers of the same bits.
        return of_this_replica(
            lambda rows: tf.random.stateless_normal([rows, self.latent_dim], seed, dtype=code.dtype),
            tf.shape(code)[0],
        )

    def get_config(self):
        return {
            **super().get_config(),
            "input_shape": self.sample_shape,
            "backbone": self.backbone,
            "latent_dim": self.latent_dim,
            "score": self.score,
            "seed": self.seed,
            "crop": self.crop,
            "clip": self.clip,
        }
