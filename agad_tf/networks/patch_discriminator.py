"""The discriminator of AGAD: a logit and the features it was drawn from."""

import tensorflow as tf
from keras import layers

from agad_tf.layers import DownConv
from agad_tf.networks.blocks import ConvBlock, RoutedNetwork, check_multiple


class PatchDiscriminator(RoutedNetwork):
    """Two Conv-BN-LeakyReLU blocks (4×4, stride 2, 64 and 128 filters) and a fully convolutional classifier.

    The classifier is a 3×3 convolution to one logit a patch; the image's logit is the mean over patches, so
    any size works and one image is one term of a masked batch mean.

    Args:
        input_shape: (height, width, channels); sides multiples of 4, channels 1 or 3.
        route_heads: routes of the batch norms; None leaves batch norm out.

    Raises:
        InputError: another image shape.

    Source: AGAD, section 3.3.1.
    """

    filters = (64, 128)

    def __init__(self, input_shape, route_heads=(0,), **kwargs):
        super().__init__(**kwargs)
        check_multiple(input_shape, 4, "the discriminator")
        policy = self.dtype_policy
        leaky = layers.LeakyReLU(0.2, dtype=policy)
        for name, filters in zip(("first", "second"), self.filters, strict=True):
            convolution = DownConv(filters, use_bias=route_heads is None, dtype=policy)
            setattr(self, name, ConvBlock(convolution, leaky, route_heads, dtype=policy))
        self.classifier = layers.Conv2D(1, 3, padding="same", dtype=policy)
        self._finish(input_shape)

    def call(self, x, route=None, training=False):
        """Judges images (batch, height, width, channels).

        Returns:
            logit: (batch,) float32 (float64 under that policy), above 0 for "real and normal".
            features: (batch, height / 4, width / 4, 128), z of the paper.
        """
        x = self.first(x, route=route, training=training)
        features = self.second(x, route=route, training=training)
        patches = self.classifier(features)
        full = tf.float64 if self.variable_dtype == "float64" else tf.float32
        return tf.reduce_mean(tf.cast(patches, full), axis=[1, 2, 3]), features
