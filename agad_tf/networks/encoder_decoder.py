"""The naive encoder-decoder generator (AGAD, Table 7), and its first half alone (GANomaly)."""

from keras import layers

from agad_tf.errors import InputError
from agad_tf.layers import DownConv, UpConv
from agad_tf.networks.blocks import ConvBlock, RoutedNetwork, check_image_shape

SIDES = (8, 16, 32, 64, 128, 256)


class _Downwards(RoutedNetwork):
    """Convolutions 4×4 of stride 2 down to 4×4, and one to a 1×1 code; blocks one after the other."""

    sides = SIDES
    first_filters = 64

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # The names, not the layers, go into the list: tf.train.Checkpoint skips a layer inside a list.
        self._stages: list[str] = []

    def _add(self, name, convolution, norm=None, activation=None) -> None:
        setattr(self, name, ConvBlock(convolution, activation, norm, dtype=self.dtype_policy))
        self._stages.append(name)

    def _go_down(self, input_shape, route_heads, latent_dim: int, name: str) -> list[int]:
        """Adds the blocks to the code; returns the filters of all but the last."""
        height, width, _ = check_image_shape(input_shape, name)
        if height != width or height not in self.sides:
            raise InputError(
                f"{name} expects square images of side {', '.join(map(str, self.sides))}, "
                f"received {height}x{width}: resize the images or choose another backbone"
            )
        filters = [min(self.first_filters * 2**level, 1024) for level in range(self.sides.index(height) + 1)]
        plain = {"use_bias": False, "dtype": self.dtype_policy}
        leaky = layers.LeakyReLU(0.2, dtype=self.dtype_policy)
        for level, size in enumerate(filters):
            self._add(f"down_{level}", DownConv(size, **plain), route_heads if level else None, leaky)
        self._add("code", layers.Conv2D(latent_dim, 4, **plain))
        return filters

    def _through(self, x, stages, route, training):
        for name in stages:
            x = getattr(self, name)(x, route=route, training=training)
        return x

    def call(self, x, route=None, training=False):
        return self._through(x, self._stages, route, training)


class EncoderDecoder(_Downwards):
    """Convolutions 4×4 of stride 2 down to a 1×1 code, and the mirror image up again; tanh.

    32×32 has three levels of 64, 128, 256 filters; larger images get more levels with doubled filters (up
    to 1024), smaller ones fewer. 2,133,632 trainable parameters for (32, 32, 1), 2,137,728 for (32, 32, 3).
    Called, it reconstructs images (batch, height, width, channels) in [−1, 1].

    Args:
        input_shape: (side, side, channels); side a power of 2 from 8 to 256, channels 1 or 3.
        route_heads: routes of the batch norms; None leaves batch norm out.
        latent_dim: length of the code.

    Raises:
        InputError: another image shape.
    """

    def __init__(self, input_shape, route_heads=(0,), latent_dim: int = 100, **kwargs):
        super().__init__(**kwargs)
        filters = self._go_down(input_shape, route_heads, latent_dim, "encoder_decoder")
        policy = self.dtype_policy
        plain = {"use_bias": False, "dtype": policy}
        relu = layers.ReLU(dtype=policy)
        # tanh in full precision: its rounding near ±1 would be reconstruction error of saturated pixels.
        tanh = layers.Activation("tanh", dtype="float64" if self.variable_dtype == "float64" else "float32")
        self._add("expand", layers.Conv2DTranspose(filters[-1], 4, **plain), route_heads, relu)
        for level in reversed(range(len(filters) - 1)):
            self._add(f"up_{level}", UpConv(filters[level], **plain), route_heads, relu)
        self._add("image", UpConv(input_shape[-1], **plain), None, tanh)
        self._finish(input_shape)

    def encode(self, x, route=None, training=False):
        """The code of images, (batch, 1, 1, latent_dim)."""
        return self._through(x, self._stages[: self._stages.index("expand")], route, training)

    def decode(self, code, route=None, training=False):
        """Images of codes (batch, 1, 1, latent_dim)."""
        return self._through(code, self._stages[self._stages.index("expand") :], route, training)


class ConvEncoder(_Downwards):
    """The first half of `EncoderDecoder`: images to codes (batch, 1, 1, latent_dim). Arguments as there."""

    def __init__(self, input_shape, route_heads=(0,), latent_dim: int = 100, **kwargs):
        super().__init__(**kwargs)
        self._go_down(input_shape, route_heads, latent_dim, "the encoder")
        self._finish(input_shape)


class ConvDiscriminator(_Downwards):
    """The first half of `EncoderDecoder` with one output, whose last features can be seen.

    Args:
        input_shape, route_heads: as in `EncoderDecoder`.
    """

    def __init__(self, input_shape, route_heads=(0,), **kwargs):
        super().__init__(**kwargs)
        self._go_down(input_shape, route_heads, 1, "the discriminator")
        self._finish(input_shape)

    def call(self, x, route=None, training=False):
        """Judges images.

        Returns:
            logit: (batch,), above 0 for "real".
            features: (batch, 4, 4, filters), what the last convolution sees.
        """
        features = self._through(x, self._stages[:-1], route, training)
        return self._through(features, self._stages[-1:], route, training)[:, 0, 0, 0], features
