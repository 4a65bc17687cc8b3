"""The UNet++ generator: nested, dense skip pathways."""

import keras
from keras import layers

from agad_tf.layers import WidenConv
from agad_tf.networks.blocks import DoubleConv, RoutedNetwork, check_multiple
from agad_tf.networks.unet import FILTERS, image_head


class UNetPlusPlus(RoutedNetwork):
    """The original nested UNet: node X(i, j) sees every X(i, <j) and the widened X(i+1, j−1); tanh.

    32 to 512 filters, 2×2 transposed convolutions; 9,041,601 trainable parameters for one channel without
    batch norm.

    Args:
        input_shape: (height, width, channels); sides multiples of 16, channels 1 or 3.
        route_heads: routes of the batch norms; None leaves batch norm out and gives the convolutions a bias.

    Raises:
        InputError: another image shape.

    Source: Zhou et al., IEEE Transactions on Medical Imaging 39, 2020, Figure 1; AGAD section 3.3.1.
    """

    def __init__(self, input_shape, route_heads=(0,), **kwargs):
        super().__init__(**kwargs)
        _, _, channels = check_multiple(input_shape, 16, "unet_plus_plus")
        policy = self.dtype_policy
        self.pool = layers.MaxPooling2D(2, dtype=policy)
        for level, filters in enumerate(FILTERS):
            for column in range(len(FILTERS) - level):
                setattr(self, f"node_{level}_{column}", DoubleConv(filters, route_heads, dtype=policy))
                if column:
                    widen = WidenConv(filters, dtype=policy)
                    setattr(self, f"widen_{level}_{column}", widen)
        self.image = image_head(channels, policy)
        self._finish(input_shape)

    def call(self, x, route=None, training=False):
        """Reconstructs images (batch, height, width, channels) in [−1, 1] with the same shape and range."""
        nodes = [[] for _ in FILTERS]  # nodes[level][column] = X(level, column)
        for level in range(len(FILTERS)):
            x = self.pool(nodes[level - 1][0]) if level else x
            nodes[level].append(self.node_at(level, 0)(x, route=route, training=training))
        for column in range(1, len(FILTERS)):
            for level in range(len(FILTERS) - column):
                widened = getattr(self, f"widen_{level}_{column}")(nodes[level + 1][column - 1])
                x = keras.ops.concatenate([*nodes[level], widened], axis=-1)
                nodes[level].append(self.node_at(level, column)(x, route=route, training=training))
        return self.image(nodes[0][-1])

    def node_at(self, level: int, column: int) -> DoubleConv:
        """The convolution block of node X(level, column)."""
        return getattr(self, f"node_{level}_{column}")
