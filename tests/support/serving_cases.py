"""Exports and image files for the tests of scoring and serving."""

import atexit
import functools
import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from agad_cases import batch, make, photographs, train_once
from loopback_server import Models
from PIL import Image

from agad_tf.data.sources.images import decode_image
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.tflite import export_tflite

FEATURES = 4


@functools.cache
def detector():
    """A trained detector of 8 x 8 grey images, and its calibration."""
    # Kept for the whole process: nobody else may ask for this number.
    model = make(score="reconstruction", number="served")
    train_once(model, *batch([0] * 6 + [1] * 2))
    model.prepare_scoring(photographs(16))
    normals = model.predict(photographs(40, seed=1), verbose=0)
    return model, calibrate(normals, rate=0.2)


@functools.cache
def exports():
    """Name to folder of versions: `parts` 1 and 2, the detector's export twice; `rows` 1, one of tables.

    Made once a process: an export takes longer than the tests that use it.
    """
    root = Path(tempfile.mkdtemp(prefix="saved_models-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    model, calibration = detector()
    first = export_saved_model(model, root / "parts", calibration)
    shutil.copytree(first, root / "parts" / "2")
    export_table(root / "rows")
    return {"parts": root / "parts", "rows": root / "rows"}


@functools.cache
def tflite():
    """The detector as a .tflite file."""
    model, calibration = detector()
    return export_tflite(model, exports()["parts"].with_name("parts.tflite"), calibration=calibration)


@functools.cache
def served():
    """The exports, loaded."""
    return Models(exports())


def export_table(folder):
    """A SavedModel that scores rows by their squared length: enough for what is between a table and it."""

    @tf.function(input_signature=[tf.TensorSpec((None, FEATURES), tf.float32, name="rows")])
    def serving_default(rows):
        score = tf.reduce_sum(tf.square(rows), axis=-1)
        return {"score": score, "is_anomaly": score > 1.0}

    module = tf.Module()
    tf.saved_model.save(module, str(folder / "1"), signatures={"serving_default": serving_default})
    return folder / "1"


def squared_length(rows):
    return (np.asarray(rows, np.float32) ** 2).sum(axis=-1)


def scores_of_files(contents):
    """What the detector says of image files' bytes, decoded and resized here."""
    model, _ = detector()
    pixels = [np.asarray(model.preprocess(decode_image(data, "", 1)[None]))[0] for data in contents]
    return model.predict(np.stack(pixels), verbose=0)


def encode(pixels, form="PNG", **settings):
    """uint8 (height, width[, channels]) as an image file's bytes."""
    stream = io.BytesIO()
    Image.fromarray(np.squeeze(pixels)).save(stream, form, **settings)
    return stream.getvalue()


def image_files(count, seed=0):
    """Name to bytes of images of several formats and sizes."""
    rng = np.random.default_rng(seed)
    files = {}
    for index in range(count):
        shape = (int(rng.integers(3, 30)), int(rng.integers(3, 30)), int(rng.choice([1, 3])))
        form = ("PNG", "JPEG", "BMP")[index % 3]
        pixels = rng.integers(0, 256, shape, np.uint8)
        files[f"{index:03d}.{form.lower()}"] = encode(pixels, form)
    return files
