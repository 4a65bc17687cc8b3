"""Tiny baselines and samples for the tests."""

import functools

import keras
import numpy as np
from agad_cases import photographs, values
from bigan_cases import rows

from agad_tf.baselines import BASELINES, FITTED_ONCE
from agad_tf.identity import Identity

GREY, COLOUR, ROWS = (16, 16, 1), (16, 16, 3), (5,)

# The smallest networks each can be made of.
SMALL = {
    "ganomaly": {"latent_dim": 4},
    "skip_ganomaly": {},
    "alad": {"latent_dim": 4},
    "f_anogan": {"latent_dim": 4},
    "isolation_forest": {},
    "oc_svm": {},
    "gradient_boosting": {},
    "stacked": {},
}
KERAS = tuple(
    name for name in BASELINES if issubclass(BASELINES[name], keras.Model) and name not in FITTED_ONCE
)
CLASSICAL = tuple(name for name in BASELINES if name not in (*KERAS, *FITTED_ONCE))


@functools.cache
def _built(name, shape, arguments):
    arguments = dict(arguments)
    keras.utils.set_random_seed(0)
    model = BASELINES[name](shape, **arguments)
    return model, model.variables, values(model.variables)


def make(name, shape, compile_with=None, **arguments):
    """A compiled Keras baseline; calls with the same arguments share one, with the same weights each time."""
    arguments = (SMALL.get(name, {"latent_dim": 4, "units": (8,)})) | arguments
    if shape[-1] == 3 and name in ("alad", "f_anogan"):
        arguments["latent_dim"] = 16
    model, variables, start = _built(name, shape, tuple(sorted(arguments.items())))
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    model._scoring_sample, model._warned = None, set()
    model.identity = Identity()
    model.compile(**{"run_eagerly": True} | (compile_with or {}))
    return model


def samples(shape, count, seed=0):
    """uint8 images, or raw rows."""
    return rows(count, *shape, seed) if len(shape) == 1 else photographs(count, shape, seed)


def both_kinds(shape, normals=10, anomalies=4):
    """Samples, the anomalies of another distribution, and their labels."""
    x = np.concatenate([samples(shape, normals), samples(shape, anomalies, seed=9) // 2])
    return x, np.repeat([0, 1], [normals, anomalies])


def small_shape(name):
    """A shape that a baseline takes: rows where it can."""
    return ROWS if BASELINES[name].takes_tables else GREY
