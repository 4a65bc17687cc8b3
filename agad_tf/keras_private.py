"""What this library reads of Keras that Keras has not made public: one place to look after an upgrade."""

from __future__ import annotations

import keras


def follows_schedule(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer's rate is a `LearningRateSchedule` and cannot be set."""
    return isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule)


def rate_variable(optimizer: keras.optimizers.Optimizer):
    """The variable that holds an optimizer's rate, or the schedule in its place."""
    return getattr(optimizer, "_learning_rate", None)


def flat_layers(network: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A network and all layers inside of it, however deep."""
    return list(network._flatten_layers())


def forget_weight(layer: keras.layers.Layer, weight: keras.Variable) -> None:
    """Takes a weight out of a layer, which another one is to stand for."""
    layer._untrack_variable(weight)
