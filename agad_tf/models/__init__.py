"""The detectors."""

from agad_tf import keras_backend  # noqa: F401 (checks, before Keras is loaded)
from agad_tf.models.aa_bigan import AABiGAN
from agad_tf.models.agad import AGAD
from agad_tf.models.bigan_neighbours import AABiGANNeighbours
from agad_tf.models.detector import AnomalyDetector
from agad_tf.models.feature_discriminator import FeatureDiscriminator

__all__ = ["AGAD", "AABiGAN", "AABiGANNeighbours", "AnomalyDetector", "FeatureDiscriminator"]
