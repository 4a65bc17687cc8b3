"""Runs: configuration, callbacks, the run directory, training from data to scores."""

__all__ = ["Checkpoints"]


def __getattr__(name: str):
    # Loads TensorFlow, which recalibrating a run does not need.
    if name == "Checkpoints":
        from agad_tf.training.checkpoints import Checkpoints

        return Checkpoints
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
