"""The detectors."""

from agad_tf.models.aa_bigan import AABiGAN
from agad_tf.models.agad import AGAD
from agad_tf.models.detector import AnomalyDetector

__all__ = ["AGAD", "AABiGAN", "AnomalyDetector"]
