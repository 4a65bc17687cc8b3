"""Importing this says in one line where Keras is set to what this library cannot work with."""

import json
import os
import sys
from pathlib import Path

from agad_tf.errors import InputError


def check_keras() -> None:
    """Called before Keras is loaded: another backend may not even be installed.

    Raises:
        InputError: Keras is set to another backend than TensorFlow, or to channels first.
    """
    try:
        home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
        settings = json.loads((home / "keras.json").read_text())
    except (OSError, ValueError, RuntimeError):
        settings = {}  # none, or one that Keras itself will not read
    settings = settings if isinstance(settings, dict) else {}
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        backend, layout = keras.config.backend(), keras.config.image_data_format()
    else:
        backend = os.environ.get("KERAS_BACKEND") or settings.get("backend") or "tensorflow"
        layout = settings.get("image_data_format", "channels_last")
    if backend != "tensorflow":
        raise InputError(
            f"agad_tf expects the Keras backend tensorflow, received {backend}: set KERAS_BACKEND="
            "tensorflow, or backend in ~/.keras/keras.json"
        )
    if layout != "channels_last":
        raise InputError(
            f"agad_tf expects the Keras image_data_format channels_last, received {layout}: set it in "
            "~/.keras/keras.json"
        )


check_keras()
