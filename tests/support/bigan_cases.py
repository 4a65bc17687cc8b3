"""Tiny AA-BiGAN models and batches for the tests."""

import functools

import keras
import numpy as np
from agad_cases import values

from agad_tf import AABiGAN
from agad_tf.identity import Identity

SHAPES = {"dcgan": (16, 16, 1), "lenet": (16, 16, 3), "mlp": (5,)}
NETWORKS = ("encoder", "generator", "discriminator", "reconstruction_discriminator")
MIXED = (0, 1, 0, 0, 1, 0)


@functools.cache
def _built(number, shape, arguments):
    keras.utils.set_random_seed(0)
    model = AABiGAN(shape, **dict(arguments))
    return model, model.variables, values(model.variables)


def make(shape=(5,), compile_with=None, number=0, **arguments):
    """A compiled model; calls with the same arguments share one, with the same weights each time.

    `number` tells apart models that are needed side by side.
    """
    arguments.setdefault("latent_dim", 16 if shape[-1] == 3 else 4)
    model, variables, start = _built(number, shape, tuple(sorted(arguments.items())))
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    model.score = arguments.get("score", "auto")
    model._scoring_sample, model._warned = None, set()
    model.identity = Identity()
    model.compile(**(compile_with or {}))
    return model


def batch(labels, shape=(5,), seed=0, dtype="float32"):
    """Images in [0, 1] or rows, the anomalies larger, and int labels."""
    labels = np.asarray(labels, np.int32)
    x = np.random.default_rng(seed).uniform(0, 0.7, (len(labels), *shape))
    return (x + 0.3 * labels.reshape(-1, *(1 for _ in shape))).astype(dtype), labels


def rows(count, features=5, seed=0):
    """Raw table rows whose columns differ widely in place and spread."""
    random = np.random.default_rng(seed)
    scales = np.array([1e-3, 1.0, 7.0, 250.0, 1e4])[:features]
    return (random.normal(size=(count, features)) * scales + 3 * scales).astype("float32")


def trainable(model):
    """The trainable variables of all four networks."""
    return model.generator_variables() + model.discriminator_variables()


def without_effect(network):
    """Biases in front of a batch norm, which takes them out again: their gradient is rounding."""
    idle = set()
    for layer in network._flatten_layers():
        if getattr(layer, "norm", None) is not None and layer.convolution.use_bias:
            idle.add(id(layer.convolution.bias))
        for level in range(4):
            if hasattr(layer, f"norm_{level}"):
                idle.add(id(getattr(layer, f"dense_{level}").bias))
    return idle
