"""The naive encoder-decoder generator (AGAD, Table 7)."""

from keras import layers

from agad_tf.errors import InputError
from agad_tf.layers import DownConv, UpConv
from agad_tf.networks.blocks import ConvBlock, RoutedNetwork, check_image_shape


class EncoderDecoder(RoutedNetwork):
    """Convolutions 4×4 of stride 2 down to a 1×1 code, and the mirror image up again; tanh.

    32×32 has three levels of 64, 128, 256 filters; larger images get more levels with doubled filters (up
    to 1024), smaller ones fewer. 2,133,632 trainable parameters for (32, 32, 1), 2,137,728 for (32, 32, 3).

    Args:
        input_shape: (side, side, channels); side a power of 2 from 8 to 256, channels 1 or 3.
        route_heads: routes of the batch norms; None leaves batch norm out.
        latent_dim: length of the code.

    Raises:
        InputError: another image shape.
    """

    sides = (8, 16, 32, 64, 128, 256)

    def __init__(self, input_shape, route_heads=(0,), latent_dim: int = 100, **kwargs):
        super().__init__(**kwargs)
        height, width, channels = check_image_shape(input_shape, "encoder_decoder")
        if height != width or height not in self.sides:
            raise InputError(
                f"encoder_decoder expects square images of side {', '.join(map(str, self.sides))}, "
                f"received {height}x{width}: resize the images or choose another backbone"
            )
        policy = self.dtype_policy
        depth = self.sides.index(height) + 1
        filters = [min(64 * 2**level, 1024) for level in range(depth)]

        def stage(name, convolution, norm, activation=None):
            setattr(
                self, name, ConvBlock(convolution, activation, route_heads if norm else None, dtype=policy)
            )
            return name

        plain = {"use_bias": False, "dtype": policy}
        leaky, relu = layers.LeakyReLU(0.2, dtype=policy), layers.ReLU(dtype=policy)
        # tanh in full precision: its rounding near ±1 would be reconstruction error of saturated pixels.
        tanh = layers.Activation("tanh", dtype="float64" if self.variable_dtype == "float64" else "float32")
        # The names, not the layers, go into the list: tf.train.Checkpoint skips a layer inside a list.
        self._stages = [
            stage(f"down_{level}", DownConv(size, **plain), level > 0, leaky)
            for level, size in enumerate(filters)
        ]
        self._stages.append(stage("code", layers.Conv2D(latent_dim, 4, **plain), False))
        self._stages.append(stage("expand", layers.Conv2DTranspose(filters[-1], 4, **plain), True, relu))
        for level in reversed(range(depth - 1)):
            self._stages.append(stage(f"up_{level}", UpConv(filters[level], **plain), True, relu))
        self._stages.append(stage("image", UpConv(channels, **plain), False, tanh))
        self._finish(input_shape)

    def call(self, x, route=None, training=False):
        """Reconstructs images (batch, height, width, channels) in [−1, 1] with the same shape and range."""
        for name in self._stages:
            x = getattr(self, name)(x, route=route, training=training)
        return x
