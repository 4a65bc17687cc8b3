"""The networks of AA-BiGAN for tables: multilayer perceptrons of 256-64-16 units (paper, section E)."""

import keras
import tensorflow as tf
from keras import layers

from agad_tf.layers import BN_STRATEGIES, RoutedBatchNormalization
from agad_tf.networks.blocks import RoutedNetwork

_GENERATOR_HEADS = BN_STRATEGIES["freeze"]


class _Perceptron(RoutedNetwork):
    """Dense layers, each but the last with batch norm (where there are heads) and LeakyReLU."""

    def __init__(self, inputs: int, units, outputs: int, route_heads=None, activation=None, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self._stages = list(range(len(units)))
        for level, width in enumerate(units):
            setattr(self, f"dense_{level}", layers.Dense(width, dtype=policy))
            if route_heads is not None:
                setattr(self, f"norm_{level}", RoutedBatchNormalization(route_heads, dtype=policy))
        self.activation = layers.LeakyReLU(0.1, dtype=policy)
        # In full precision: rounded values would be reconstruction error.
        full = "float64" if self.variable_dtype == "float64" else "float32"
        self.output_layer = layers.Dense(outputs, activation=activation, dtype=full)
        self._finish((inputs,))

    def call(self, x, route=None, training=False):
        return self.output_layer(self._hidden(x, route, training))

    def _hidden(self, x, route, training):
        for level in self._stages:
            x = getattr(self, f"dense_{level}")(x)
            if hasattr(self, f"norm_{level}"):
                x = getattr(self, f"norm_{level}")(x, route=route, training=training)
            x = self.activation(x)
        return x

    def linear_and_norm(self) -> list[tuple]:
        """Each dense layer with the batch norm behind it; none where there is no batch norm."""
        names = ((f"dense_{level}", f"norm_{level}") for level in self._stages)
        return [(getattr(self, dense), getattr(self, norm)) for dense, norm in names if hasattr(self, norm)]


class MLPEncoder(_Perceptron):
    """E: (batch, features) to codes (batch, latent_dim); hidden layers of 256 and 64 units."""

    def __init__(self, input_shape, latent_dim: int = 16, units=(256, 64), batch_norm=True, **kwargs):
        super().__init__(input_shape[0], units, latent_dim, (0,) if batch_norm else None, **kwargs)


class MLPGenerator(_Perceptron):
    """G: codes (batch, latent_dim) to rows (batch, features) of scaled values; hidden 64 and 256 units.

    A sigmoid keeps what it makes inside the training normals' range: outside of it are anomalies alone.
    """

    def __init__(
        self,
        input_shape,
        latent_dim: int = 16,
        units=(64, 256),
        batch_norm: bool = True,
        activation: str | None = "sigmoid",
        **kwargs,
    ):
        heads = _GENERATOR_HEADS if batch_norm else None
        super().__init__(latent_dim, units, input_shape[0], heads, activation, **kwargs)


class MLPPairDiscriminator(_Perceptron):
    """D or D': pairs of rows to one output each; hidden layers of 256, 64 and 16 units, no batch norm.

    Args:
        first, second: lengths of the two rows of a pair.
        units: of the hidden layers.
    """

    def __init__(self, first: int, second: int, units=(256, 64, 16), **kwargs):
        self._lengths = (first, second)
        super().__init__(first + second, units, 1, **kwargs)

    def _finish(self, input_shape):
        self(tuple(keras.Input((length,), dtype=self.compute_dtype) for length in self._lengths))

    def call(self, pair, route=None, training=False):
        """Judges pairs (x, other): (batch, n) and (k · batch, m), each group compared with the same x.

        A tuple of k tensors (batch, m), with a tuple of routes, passes one by one.

        Returns:
            (k · batch,); of a tuple k tensors (batch,).
        """
        x, others = pair
        if isinstance(others, tuple):
            groups = zip(others, route, strict=True)
            return tuple(self.call((x, other), its_route, training) for other, its_route in groups)
        return super().call(self._both(pair), route, training)[:, 0]

    def features(self, pair, route=None, training=False):
        """What the last layer sees of each pair: (k · batch, units). Arguments as in `call`."""
        return self._hidden(self._both(pair), route, training)

    def _both(self, pair):
        x, other = pair
        x = tf.tile(x, [tf.shape(other)[0] // tf.shape(x)[0], 1])
        return tf.concat([x, other], axis=-1)


def mlp_discriminators(input_shape, latent_dim: int, policy) -> tuple:
    """D and D' of tables."""
    features = input_shape[0]
    return (
        MLPPairDiscriminator(features, latent_dim, dtype=policy, name="discriminator"),
        MLPPairDiscriminator(features, features, dtype=policy, name="reconstruction_discriminator"),
    )
