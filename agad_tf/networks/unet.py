"""The UNet generator: an encoder and a decoder with skip connections."""

import keras
from keras import layers

from agad_tf.layers import WidenConv
from agad_tf.networks.blocks import DoubleConv, RoutedNetwork, check_multiple

FILTERS = (32, 64, 128, 256, 512)


class UNet(RoutedNetwork):
    """UNet with 32 to 512 filters, two 3×3 convolutions a level, 2×2 transposed convolutions; tanh.

    7,759,521 trainable parameters for one channel without batch norm.

    Args:
        input_shape: (height, width, channels); sides multiples of 16, channels 1 or 3.
        route_heads: routes of the batch norms; None leaves batch norm out and gives the convolutions a bias.

    Raises:
        InputError: another image shape.

    Source: Ronneberger et al., MICCAI 2015; AGAD Tables 4, 5 and 8.
    """

    def __init__(self, input_shape, route_heads=(0,), **kwargs):
        super().__init__(**kwargs)
        _, _, channels = check_multiple(input_shape, 16, "unet")
        policy = self.dtype_policy
        self.pool = layers.MaxPooling2D(2, dtype=policy)
        for level, filters in enumerate(FILTERS):
            setattr(self, f"down_{level}", DoubleConv(filters, route_heads, dtype=policy))
        for level, filters in enumerate(FILTERS[:-1]):
            setattr(self, f"widen_{level}", WidenConv(filters, dtype=policy))
            setattr(self, f"up_{level}", DoubleConv(filters, route_heads, dtype=policy))
        self.image = image_head(channels, policy)
        self._finish(input_shape)

    def call(self, x, route=None, training=False):
        """Reconstructs images (batch, height, width, channels) in [−1, 1] with the same shape and range."""
        skips = []
        for level in range(len(FILTERS)):
            x = self.pool(x) if level else x
            x = getattr(self, f"down_{level}")(x, route=route, training=training)
            skips.append(x)
        for level in reversed(range(len(FILTERS) - 1)):
            x = getattr(self, f"widen_{level}")(x)
            x = keras.ops.concatenate([skips[level], x], axis=-1)
            x = getattr(self, f"up_{level}")(x, route=route, training=training)
        return self.image(x)


def image_head(channels: int, policy) -> keras.Sequential:
    """1×1 convolution and tanh, in full precision: rounding near ±1 would be reconstruction error."""
    full = "float64" if policy.variable_dtype == "float64" else "float32"
    return keras.Sequential(
        [layers.Conv2D(channels, 1, dtype=policy), layers.Activation("tanh", dtype=full)], name="image"
    )
