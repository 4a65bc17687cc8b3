"""Tiny AGAD models and batches for the tests."""

import functools

import keras
import numpy as np

from agad_tf import AGAD
from agad_tf.identity import Identity


@functools.cache
def _built(number, shape, backbone, arguments):
    keras.utils.set_random_seed(0)
    model = AGAD(shape, backbone, **dict(arguments))
    return model, model.variables, values(model.variables)


def make(shape=(8, 8, 1), backbone="encoder_decoder", compile_with=None, number=0, **arguments):
    """A compiled model that steps in a fraction of a second.

    Networks take longer to build than to train: calls with the same arguments share one model, which starts
    from the same weights each time; `number` tells apart models that are needed side by side.
    """
    model, variables, start = _built(number, shape, backbone, tuple(sorted(arguments.items())))
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    model.score = arguments.get("score", "auto")
    model.identity = Identity()
    model.compile(**(compile_with or {}))
    return model


def batch(labels, shape=(8, 8, 1), seed=0, dtype="float32"):
    """Images in [−1, 1], the anomalies brighter, and int labels."""
    labels = np.asarray(labels, np.int32)
    x = np.random.default_rng(seed).uniform(-1, 0.5, (len(labels), *shape))
    return (x + 0.5 * labels[:, None, None, None]).astype(dtype), labels


def photographs(count, shape=(8, 8, 1), seed=0):
    """uint8 images."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def train_once(model, x, y):
    """Logs of one train_step, as numbers of that step alone."""
    model.reset_metrics()
    return {name: float(value) for name, value in model.train_step((x, y)).items()}


def values(variables):
    """Copies of variables' values."""
    return [np.array(variable) for variable in variables]


def copy_weights(source, target):
    """Makes two models of one architecture equal, statistics and moments included."""
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old)
    for name in ("optimizer", "discriminator_optimizer"):
        for old, new in zip(getattr(source, name).variables, getattr(target, name).variables, strict=True):
            new.assign(old)
    return target
