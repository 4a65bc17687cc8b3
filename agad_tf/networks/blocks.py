"""What the networks share: the base class that hands routes on, and blocks of convolution and batch norm."""

import keras
from keras import layers

from agad_tf.errors import InputError
from agad_tf.keras_private import flat_layers
from agad_tf.layers import RoutedBatchNormalization, SameConv


class RoutedNetwork(keras.Model):
    """A network whose batch norms are routed: `network(x, route=None, training=False)`.

    Subclasses make their layers in `__init__` and call `self._finish(input_shape)` last, which builds every
    weight, so that parameters can be counted, averaged and saved before the first batch.
    """

    def _finish(self, input_shape: tuple[int, ...]) -> None:
        # A symbolic call builds the sublayers by the shapes that reach them.
        self(keras.Input(input_shape, dtype=self.compute_dtype))

    def call(self, x, route=None, training=False):
        raise NotImplementedError(f"{type(self).__name__} must define call(x, route, training)")

    def batch_norms(self) -> list[RoutedBatchNormalization]:
        """The routed batch-normalisation layers of this network, at any depth."""
        return [layer for layer in flat_layers(self) if isinstance(layer, RoutedBatchNormalization)]


class ConvBlock(layers.Layer):
    """Convolution (or transposed convolution), batch norm if wanted, activation.

    Args:
        convolution: the convolution layer, unbuilt.
        activation: layer applied last, or None.
        route_heads: routes of the batch norm (see `RoutedBatchNormalization`), or None for no batch norm.
        batch_norm: further arguments of the batch norm.
    """

    def __init__(self, convolution, activation=None, route_heads=None, batch_norm=None, **kwargs):
        super().__init__(**kwargs)
        self.convolution = convolution
        self.norm = None
        if route_heads is not None:
            self.norm = RoutedBatchNormalization(route_heads, dtype=self.dtype_policy, **(batch_norm or {}))
        self.activation = activation

    def build(self, input_shape):
        self.convolution.build(input_shape)
        if self.norm is not None:
            self.norm.build(self.convolution.compute_output_shape(input_shape))

    def call(self, x, route=None, training=False):
        x = self.convolution(x)
        if self.norm is not None:
            x = self.norm(x, route=route, training=training)
        return x if self.activation is None else self.activation(x)


class DoubleConv(layers.Layer):
    """The block of UNet and UNet++: twice 3×3 convolution, batch norm if wanted, ReLU."""

    def __init__(self, filters: int, route_heads, **kwargs):
        super().__init__(**kwargs)
        for name in ("first", "second"):
            convolution = SameConv(filters, use_bias=route_heads is None, dtype=self.dtype_policy)
            relu = layers.ReLU(dtype=self.dtype_policy)
            setattr(self, name, ConvBlock(convolution, relu, route_heads, dtype=self.dtype_policy))

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build(self.first.convolution.compute_output_shape(input_shape))

    def call(self, x, route=None, training=False):
        return self.second(self.first(x, route=route, training=training), route=route, training=training)


def check_image_shape(input_shape: tuple[int, ...], network: str) -> tuple[int, int, int]:
    """Returns (height, width, channels) or says in one line what shape a network takes."""
    if len(input_shape) != 3 or any(not isinstance(n, int) or n < 1 for n in input_shape):
        raise InputError(
            f"{network} expects an image shape (height, width, channels), received {tuple(input_shape)}: "
            "give three positive whole numbers, for instance (32, 32, 1)"
        )
    if input_shape[2] not in (1, 3):
        raise InputError(
            f"{network} expects 1 (grey) or 3 (RGB) channels, received {input_shape[2]}: convert the images"
        )
    return tuple(input_shape)


def check_multiple(input_shape: tuple[int, ...], multiple: int, network: str) -> tuple[int, int, int]:
    """Like `check_image_shape`, and height and width must be multiples of `multiple`."""
    height, width, channels = check_image_shape(input_shape, network)
    if height % multiple or width % multiple:
        nearest = tuple(max(multiple, round(side / multiple) * multiple) for side in (height, width))
        raise InputError(
            f"{network} expects height and width in multiples of {multiple}, received {height}x{width}: "
            f"resize the images, for instance to {nearest[0]}x{nearest[1]}"
        )
    return height, width, channels
