"""Metrics, thresholds and pictures of anomaly scores; nothing here knows a model or loads TensorFlow."""
