"""TFLite export: float32, float16 or int8, with all that scoring needs in the one file."""

import hashlib
import json
import tempfile
import warnings
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tensorflow as tf

from agad_tf import edge_metadata
from agad_tf.baselines.fitted_once import FittedOnce
from agad_tf.baselines.forest import TreeDetector
from agad_tf.errors import InputError
from agad_tf.evaluation.calibration import Calibration
from agad_tf.export import recipe
from agad_tf.export.model_card import model_card
from agad_tf.export.scoring_net import scoring_twin
from agad_tf.export.versions import check_new_file
from agad_tf.files import written_whole
from agad_tf.models import AABiGANNeighbours, AnomalyDetector
from agad_tf.models.feature_scorer import FeatureScorer

PRECISIONS = ("float32", "float16", "int8")
REPRESENTATIVE = 256
"""Normals, and labelled anomalies, at most that `export_run` takes the ranges of an int8 export from."""

_INT8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
_INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def export_tflite(
    model: AnomalyDetector,
    path: str | Path,
    precision: str = "float32",
    representative: np.ndarray | None = None,
    calibration: Calibration | None = None,
    card: dict | None = None,
) -> Path:
    """Writes one .tflite file that `agad_tf.edge.EdgeModel` scores with.

    The graph takes preprocessed float32 samples `x` (batch, ...) and gives what the networks make of them;
    resizing before it and the score after it are done in NumPy, as the file's metadata say. An int8 graph
    computes in int8 from its first to its last operation and converts its float32 input and outputs itself;
    one of a table detector has int8 weights and computes in int16: 256 levels between the smallest and the
    largest value of a layer do not keep the ranking of rows, whose outliers are what matters. One on frozen
    features has int8 weights alone; each layer chooses its ranges by the sample at hand. Ranges fixed
    beforehand move its features away from the statistics that its scores compare them with.

    Args:
        model: a trained detector; any precision policy.
        path: the file; must not exist.
        precision: "float32", "float16" (weights) or "int8" (weights; activations of images too, but for those
            on frozen features).
        representative: samples as `predict` takes them, for the ranges of int8: normals, and labelled
            anomalies where there are some. 256 normals are enough; those on frozen features need none.
        calibration: the threshold of the day, or None for scores alone. Scores of int8 are other numbers than
            the model's: it wants a threshold from what the file itself gives, as `export_run` chooses it.
        card: see `agad_tf.export.saved_model.export_saved_model`.

    Returns:
        `path`.

    Raises:
        InputError: an unknown precision, no representative samples for int8, `path` exists.
    """
    path = check_new_file(path)
    content = tflite_bytes(model, precision, representative)
    write_tflite(path, content, metadata(model, precision, calibration, card), card)
    return path


def tflite_bytes(model: AnomalyDetector, precision: str, representative: np.ndarray | None = None) -> bytes:
    """The converted graph; see `export_tflite`."""
    if precision not in PRECISIONS:
        raise InputError(f"precision expects one of {', '.join(PRECISIONS)}, received {precision!r}")
    if precision != "float32" and isinstance(model, TreeDetector):
        raise InputError(
            f"precision {precision} expects a detector without trees, received {type(model).__name__}, "
            "where a rounded threshold sends samples to other leaves: take float32"
        )
    weights_alone = isinstance(model, FeatureScorer)
    if precision == "int8" and isinstance(model, FittedOnce | AABiGANNeighbours):
        raise InputError(
            "precision int8 expects a detector whose score reads its own networks alone, received "
            f"{type(model).__name__}, whose statistics 256 levels do not hold: take float32 or float16"
        )
    twin = scoring_twin(model)
    samples = _preprocessed(model, representative)
    if samples is not None:
        recipe.check_recipe(twin, samples[:8])
    elif precision == "int8" and not weights_alone:
        raise InputError("int8 expects representative normal samples, received none: pass some")
    with tempfile.TemporaryDirectory() as folder:
        save_graph(twin, folder)
        # From a SavedModel: from_concrete_functions of a Keras 3 model gives a graph of NaN without an error.
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        elif precision == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if not weights_alone:
                converter.target_spec.supported_ops = [_INT16 if model.is_table else _INT8]
                converter.representative_dataset = lambda: ({"x": sample[None]} for sample in samples)
        with warnings.catch_warnings():  # of the old interpreter, which the converter itself still uses
            warnings.filterwarnings("ignore", r"(?s).*tf\.lite\.Interpreter is deprecated")
            return converter.convert()


def save_graph(twin: AnomalyDetector, folder: str | Path) -> None:
    """Writes the SavedModel that converters read: preprocessed `x` to the outputs of the recipe."""
    spec = tf.TensorSpec((None, *twin.network_shape), tf.float32, name="x")
    function = tf.function(recipe.graph_outputs(twin), input_signature=[spec]).get_concrete_function()
    module = tf.Module()
    module.read = list(function.graph.variables)
    tf.saved_model.save(module, str(folder), signatures=function)


def metadata(
    model: AnomalyDetector, precision: str, calibration: Calibration | None, card: dict | None
) -> dict:
    """What the file says about itself, see `agad_tf.edge.EdgeModel`."""
    card = card or model_card(model, calibration)
    return {
        "format": edge_metadata.FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "precision": precision,
        "input": recipe.input_description(model),
        "score": {"name": model.score, "parts": recipe.score_parts(model)},
        "calibration": None if calibration is None else calibration.to_dict(),
        **{name: card[name] for name in ("name", "detector", "identity", "versions", "licence")},
    }


def write_tflite(path: Path, content: bytes, about: dict, card: dict | None = None) -> None:
    """Writes graph and metadata as one file: TFLite reads the front of it, zip readers its end.

    The metadata get the checksum of the graph; those of the archive are its own.
    """
    about = about | {"graph": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    with written_whole(path) as stream:
        stream.write(content)
        stream.flush()
        with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(edge_metadata.METADATA_NAME, json.dumps(about))
            if card is not None:
                archive.writestr("model_card.json", json.dumps(card, indent=2))


def _preprocessed(model: AnomalyDetector, samples: np.ndarray | None) -> np.ndarray | None:
    """The samples an int8 graph takes its ranges from, and more that it makes of them itself.

    Ranges of normals alone would cut off what the networks do with anomalies, and so their ranks. Each image
    is therefore also shown turned, each row also with twice its distance from the medians.
    """
    if samples is None:
        return None
    samples = np.asarray(model.check_samples(np.asarray(samples), "representative"))
    if not len(samples):
        raise InputError("representative expects normal samples, received none: pass some")
    x = np.array(model.preprocess(tf.constant(samples)), np.float32)
    if model.is_table:
        median = np.median(x, axis=0)
        return np.concatenate([x, median + 2 * (x - median)])
    # Two pixels at the ends of the range, so that the input's range is the model's and not the samples'.
    x[0, 0, 0], x[0, 0, 1] = model.preprocess.value_range
    turns = (1, 2, 3) if x.shape[1] == x.shape[2] else (2,)
    turned = [np.rot90(x[index :: len(turns)], k, axes=(1, 2)) for index, k in enumerate(turns)]
    return np.concatenate([x, *turned])
