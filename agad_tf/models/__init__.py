"""The detectors."""

from agad_tf.models.agad import AGAD
from agad_tf.models.detector import AnomalyDetector

__all__ = ["AGAD", "AnomalyDetector"]
