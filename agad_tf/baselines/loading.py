"""Loads a saved detector, whichever class it is of."""

from __future__ import annotations

import os
from pathlib import Path

import keras

import agad_tf.models  # noqa: F401 - registers the classes that a file may hold
from agad_tf import baselines
from agad_tf.errors import InputError, reading
from agad_tf.models.scorer import AnomalyScorer


def load_model(path: str | Path) -> AnomalyScorer:
    """A detector from a .keras file that `save` or a run has written.

    As `keras.saving.load_model`, which finds a class only once it was imported: this imports all of ours. A
    backbone class of your own must be imported before.

    Args:
        path: of the file, or of a run directory, which holds one.

    Raises:
        InputError: nothing there, a damaged file, another model than a detector of agad_tf.
    """
    baselines.BASELINES  # noqa: B018 - looked at, they are imported and registered too
    path = Path(path)
    path = path / "model.keras" if path.is_dir() else path
    with reading(path, "a saved detector, a .keras file", "restore it, or save it again"):
        if not os.path.exists(path):
            raise FileNotFoundError
        if path.suffix != ".keras":
            raise InputError(f"{path}: expected a saved detector, a .keras file, received another: check it")
        model = keras.saving.load_model(path)
    if not isinstance(model, AnomalyScorer):
        raise InputError(
            f"{path}: expected a detector of agad_tf, received a {type(model).__name__}: take "
            "keras.saving.load_model"
        )
    return model
