"""Keras layers."""

from agad_tf.layers.convolutions import DownConv, SameConv, UpConv, WidenConv
from agad_tf.layers.preprocessing import ImagePreprocessing
from agad_tf.layers.routed_batch_norm import BN_STRATEGIES, FROZEN, RoutedBatchNormalization

__all__ = [
    "BN_STRATEGIES",
    "FROZEN",
    "DownConv",
    "ImagePreprocessing",
    "RoutedBatchNormalization",
    "SameConv",
    "UpConv",
    "WidenConv",
]
