"""Keras layers."""

from agad_tf.layers.preprocessing import ImagePreprocessing
from agad_tf.layers.routed_batch_norm import BN_STRATEGIES, FROZEN, RoutedBatchNormalization
from agad_tf.layers.strided_conv import DownConv, UpConv

__all__ = ["BN_STRATEGIES", "FROZEN", "DownConv", "ImagePreprocessing", "RoutedBatchNormalization", "UpConv"]
