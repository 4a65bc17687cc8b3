"""ONNX export, float32, with preprocessing and score inside the graph."""

import json
from pathlib import Path

import tensorflow as tf

from agad_tf.checksums import seal_onnx
from agad_tf.errors import InputError
from agad_tf.evaluation.calibration import Calibration
from agad_tf.export import recipe
from agad_tf.export.model_card import model_card
from agad_tf.export.scoring_net import scoring_twin
from agad_tf.export.versions import check_new_file
from agad_tf.files import write_atomically
from agad_tf.models import AnomalyDetector

OPSET = 18
METADATA_KEY = "agad_tf"
"""Key of the ONNX metadata property that holds the model card and the calibration, as JSON."""


def export_onnx(
    model: AnomalyDetector,
    path: str | Path,
    calibration: Calibration | None = None,
    card: dict | None = None,
) -> Path:
    """Writes one .onnx file: samples to `score`, and `reconstruction` where the score reads one.

    Input `images` is uint8 (batch, any height, any width, channels), resized inside; of a table detector it
    is `rows`, float64 (batch, features), as they are in the table. The metadata property `agad_tf` is JSON
    with the `card` and the whole `calibration` (None where there is none): an anomaly scores above its
    `threshold`.

    Args:
        model: a trained detector; any precision policy, exported in float32.
        path: the file; must not exist.
        calibration: the threshold of the day, or None.
        card: see `agad_tf.export.saved_model.export_saved_model`.

    Returns:
        `path`.

    Raises:
        InputError: `path` exists, or the package tf2onnx is missing.
    """
    path = check_new_file(path)
    try:
        import tf2onnx
    except ImportError:
        raise InputError("expected the package tf2onnx, found none: pip install 'agad-tf[onnx]'") from None
    twin = scoring_twin(model)
    if model.is_table:
        spec = tf.TensorSpec((None, *model.sample_shape), tf.float64, name="rows")
    else:
        spec = tf.TensorSpec((None, None, None, model.sample_shape[-1]), tf.uint8, name="images")

    parts = recipe.graph_outputs(twin)

    @tf.function(input_signature=[spec])
    def function(samples):
        if twin.is_table:
            x = twin.preprocess(samples)
        else:
            # As float32, since tf2onnx gives the result of a resize the type of its input.
            x = twin.preprocess.resize_and_scale(tf.cast(samples, tf.float32))
        outputs = {"score": twin.chosen_score(x)}
        if twin.encoding is not None:  # whose gaps and codes would be scored whatever they are
            usable = tf.reduce_all(twin.preprocess.usable(samples), axis=1)
            outputs["score"] = tf.where(usable, outputs["score"], float("nan"))
        given = parts(x)
        return outputs | {name: given[name] for name in ("reconstruction",) if name in given}

    graph, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=OPSET)
    about = {
        "card": card or model_card(model, calibration),
        "calibration": None if calibration is None else calibration.to_dict(),
    }
    graph.metadata_props.add(key=METADATA_KEY, value=json.dumps(about))
    write_atomically(path, seal_onnx(graph.SerializeToString()))
    return path
