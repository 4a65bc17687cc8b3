"""What the discriminators of AA-BiGAN share: D judges (image, code), D' judges (image, reconstruction)."""

import keras
import tensorflow as tf
from keras import layers

from agad_tf.layers.routed_batch_norm import FROZEN
from agad_tf.networks.blocks import RoutedNetwork

GROUP_HEADS = (0, 1, 2, FROZEN)
"""Heads of the discriminators' routes: normal, generated, anomaly, and rows that no loss reads.

Each group is normalised by its own moments, as if it had passed alone, and the affine is shared.
"""


class JointDiscriminator(RoutedNetwork):
    """D(x, z): features of x beside a dense layer of z, a dense layer over both, one output.

    Args:
        trunk: layer from x to features (batch, n), called with `route` and `training`.
        input_shape: of x.
        latent_dim: length of z.
        code_units: width of the dense layer of z.
        joint_units: width of the dense layer over both.
        code_slope, joint_slope: of the LeakyReLU after each.
    """

    def __init__(
        self,
        trunk,
        input_shape,
        latent_dim: int,
        code_units: int = 512,
        joint_units: int = 1024,
        code_slope: float = 0.1,
        joint_slope: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.trunk = trunk
        self.code = layers.Dense(code_units, dtype=policy)
        self.code_activation = layers.LeakyReLU(code_slope, dtype=policy)
        self.head = JudgementHead(joint_units, joint_slope, dtype=policy)
        self(tuple(keras.Input(shape, dtype=self.compute_dtype) for shape in (input_shape, (latent_dim,))))

    def call(self, pair, route=None, training=False):
        """Judges pairs (x, z) of equal batch size: (batch,), near a for normals and b for generated ones."""
        x, z = pair
        code = self.code_activation(self.code(z))
        return self.head(tf.concat([self.trunk(x, route=route, training=training), code], axis=-1))


class ReconstructionDiscriminator(RoutedNetwork):
    """D'(x, x̂): features of both by a trunk each, a dense layer over both, one output.

    Args:
        first_trunk, second_trunk: layers from x and x̂ to features (batch, n).
        input_shape: of x.
        units: width of the dense layer over both.
        slope: of the LeakyReLU after it.
    """

    def __init__(self, first_trunk, second_trunk, input_shape, units: int = 1024, slope=0.1, **kwargs):
        super().__init__(**kwargs)
        self.first_trunk = first_trunk
        self.second_trunk = second_trunk
        self.head = JudgementHead(units, slope, dtype=self.dtype_policy)
        self(tuple(keras.Input(input_shape, dtype=self.compute_dtype) for _ in range(2)))

    def call(self, pair, route=None, training=False):
        """Judges pairs (x, other).

        Args:
            pair: x (batch, ...) and what stands beside it, (k · batch, ...): k groups, each compared with the
                same x, whose features are computed once. Or a tuple of k tensors (batch, ...), which pass
                one by one.
            route: of the rows of the second; its first `batch` rows' are those of x too. Of a tuple a tuple.
            training: as in Keras.

        Returns:
            (k · batch,); of a tuple k tensors (batch,).
        """
        x, others = pair
        if isinstance(others, tuple):
            first = self.first_trunk(x, route=route[0], training=training)
            seconds = (self.second_trunk(*one, training=training) for one in zip(others, route, strict=True))
            return tuple(self.head(tf.concat([first, second], axis=-1)) for second in seconds)
        return self.head(self._both(pair, route, training))

    def features(self, pair, route=None, training=False):
        """What the last layer sees of each pair: (k · batch, units). Arguments as in `call`."""
        return self.head.features(self._both(pair, route, training))

    def _both(self, pair, route, training):
        x, other = pair
        rows = tf.shape(x)[0]
        first = self.first_trunk(x, route=None if route is None else route[:rows], training=training)
        second = self.second_trunk(other, route=route, training=training)
        first = tf.tile(first, [tf.shape(other)[0] // rows, 1])
        return tf.concat([first, second], axis=-1)


class JudgementHead(layers.Layer):
    """Dense layer, LeakyReLU, one output: features (batch, n) to (batch,)."""

    def __init__(self, units: int, slope: float, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(units, dtype=self.dtype_policy)
        self.activation = layers.LeakyReLU(slope, dtype=self.dtype_policy)
        self.output_layer = layers.Dense(1, dtype=self.dtype_policy)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.output_layer.build((None, self.hidden.units))

    def features(self, features):
        """What the output is drawn from: (batch, units)."""
        return self.activation(self.hidden(features))

    def call(self, features):
        return self.output_layer(self.features(features))[:, 0]
