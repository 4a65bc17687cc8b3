"""What the baselines share whose networks are those of Deep SVDD and Deep SAD."""

from agad_tf.baselines.base import Baseline
from agad_tf.baselines.networks import one_class_networks


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

    def make_networks(self, encoder: type, decoder: type, arguments: tuple) -> None:
        """Makes the networks, by `_make`, from the classes of both halves and their common arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define make_networks")

    def get_config(self):
        return {**super().get_config(), "units": self.units, "latent_dim": self.latent_dim}
