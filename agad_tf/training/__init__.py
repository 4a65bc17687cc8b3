"""Runs: configuration, callbacks, the run directory, training from data to scores."""

from agad_tf.training.checkpoints import Checkpoints

__all__ = ["Checkpoints"]
