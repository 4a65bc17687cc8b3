"""What the baselines share whose networks are those of Deep SVDD and Deep SAD."""

import keras

from agad_tf.baselines.base import Baseline
from agad_tf.baselines.networks import one_class_networks
from agad_tf.baselines.stabilisers import with_stabilisers
from agad_tf.models.settings import check_settings, settings_of


class OneClassNetwork(Baseline):
    """Base: the encoder of images or rows, and its arguments; a subclass makes its networks of it."""

    takes_tables = True

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
        encoder, decoder, arguments = one_class_networks(self.network_shape, units, latent_dim)
        _, self.units, self.latent_dim = arguments
        self.make_networks(encoder, decoder, arguments)
        self.built = True

    @with_stabilisers
    def compile(
        self,
        learning_rate: float = 1e-4,
        learning_rate_drop: float = 1 / 3,
        weight_decay: float = 0.5e-6,
        optimizer=None,
        **stabilisers,
    ):
        """The papers' settings; stabilisers of AGAD and AA-BiGAN can be switched on.

        Args:
            learning_rate: of Adam.
            learning_rate_drop: share of the epochs after which the rate is divided by 10 (the papers' 50 of
                150); 1 for never.
            weight_decay: λ of λ/2 Σ‖W‖².
            optimizer: a Keras optimizer instead of Adam.
            clip_norm, average_epochs, reestimate_batch_norm, guard, jit_compile, run_eagerly: see
                `agad_tf.baselines.stabilisers`.
        """
        settings = settings_of(locals())
        check_settings(settings, ("learning_rate", "weight_decay"), ("learning_rate_drop",))
        self.compile_with(keras.optimizers.Adam(learning_rate), settings)

    def make_networks(self, encoder: type, decoder: type, arguments: tuple) -> None:
        """Makes the networks, by `_make`, from the classes of both halves and their common arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define make_networks")

    def get_config(self):
        return {**super().get_config(), "units": self.units, "latent_dim": self.latent_dim}
