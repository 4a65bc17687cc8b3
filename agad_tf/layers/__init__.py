"""Keras layers."""

from agad_tf import keras_backend  # noqa: F401 (checks, before Keras is loaded)
from agad_tf.layers.convolutions import DownConv, HalveConv, SameConv, UpConv, WidenConv
from agad_tf.layers.local_score import LocalScore
from agad_tf.layers.preprocessing import ImagePreprocessing
from agad_tf.layers.routed_batch_norm import BN_STRATEGIES, FROZEN, RoutedBatchNormalization
from agad_tf.layers.scaling import TableScaling

__all__ = [
    "BN_STRATEGIES",
    "FROZEN",
    "DownConv",
    "HalveConv",
    "ImagePreprocessing",
    "LocalScore",
    "RoutedBatchNormalization",
    "SameConv",
    "TableScaling",
    "UpConv",
    "WidenConv",
]
