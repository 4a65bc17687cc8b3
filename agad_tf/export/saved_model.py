"""SavedModel export: exactly the networks that the score reads, in float32, with preprocessing inside."""

from pathlib import Path

import tensorflow as tf

from agad_tf.checksums import write_manifest
from agad_tf.evaluation.calibration import Calibration
from agad_tf.export.encoded_images import decode_in_graph
from agad_tf.export.model_card import write_model_card
from agad_tf.export.scoring_net import scoring_twin
from agad_tf.export.versions import new_version
from agad_tf.identity import FEW, Identity
from agad_tf.models import AnomalyDetector

RANGE_TOLERANCE = 1e-3
"""How far float images may lie outside of the model's range, as `fit` and `predict` allow it."""


def export_saved_model(
    model: AnomalyDetector,
    folder: str | Path,
    calibration: Calibration | None = None,
    card: dict | None = None,
) -> Path:
    """Writes the next version under `folder`, as TF Serving expects it: `folder`/1, `folder`/2, ...

    Signatures of an image detector:

    - `serving_default`: `images` uint8 (batch, any height, any width, channels), resized inside, to `score`
      and, with a calibration, `p_value`, `is_anomaly` and `threshold`, (batch,) each.
    - `score_at`: `images` and `threshold` float32, (batch,) or (1,) for all, to `score` and `is_anomaly`.
    - `score_float`: `images` float32 in the model's range and size; gives what `serving_default` gives.
      Four images or more without a value under 0, where training saw such, are x / 255 and an error.
    - `score_encoded`: `image_bytes` string (batch,), JPEG or PNG files of any sizes; likewise.
    - `explain`: `images` to `reconstruction` and `error_map`, where the score reads a reconstruction; to
      `anomaly_map`, of a detector on frozen features.

    Of a table detector: `serving_default`, `score_at` and `explain` take `rows` float64 (batch, features) as
    they are in the table, `score_float32` such rows in float32 (where that holds their digits), `score_float`
    rows float32 that are preprocessed already. A detector that knows the names of its columns has `columns`
    too: `rows` (any, left unread) to `columns`, string (batch, features), in their order; one of a mixed
    table `encoding`, likewise, JSON a column: servers tell no more of a model than its signatures. Rows of a
    mixed table hold the codes of categories, and NaN for what is missing; see `agad_tf.encoding`.

    A batch without samples is refused, and so are thresholds that are neither one nor one a sample.

    A sample that cannot be judged (NaN, infinity, float images outside of the model's range) gets the score
    and the p-value NaN and counts as an anomaly; its neighbours are not touched.

    Args:
        model: a trained detector; any precision policy, exported in float32.
        folder: `saved_models/<name>`.
        calibration: the threshold of the day, or None for scores alone.
        card: what `assets.extra/model_card.json` and `.md` say; None for what the model itself tells, see
            `agad_tf.export.model_card`.

    Returns:
        Path of the new version. It appears whole or not at all; existing versions are never written over.

    Raises:
        InputError: `folder` is a file; the detector was trained on floats from 0 to 1 where an export would
            map uint8 images to other values.
    """
    with new_version(folder) as version:
        write_saved_model(model, version.partial, calibration, card)
    return version.path


def write_saved_model(
    model: AnomalyDetector, path: Path, calibration: Calibration | None = None, card: dict | None = None
) -> None:
    """Writes the SavedModel of `export_saved_model` into the folder `path`."""
    twin = scoring_twin(model)  # named: the functions alone would not keep its variables
    functions = signatures(twin, calibration)
    # Variables, not networks: what an attribute holds is saved, and a network holds more than it scores.
    module = tf.Module()
    module.read = list({id(v): v for f in functions.values() for v in f.graph.variables}.values())
    tf.saved_model.save(module, str(path), signatures=functions)
    write_model_card(path / "assets.extra", model, calibration, card)
    write_manifest(path)


def signatures(model: AnomalyDetector, calibration: Calibration | None = None) -> dict:
    """Signature name to concrete function; see `export_saved_model`.

    Args:
        model: from `scoring_twin`.
        calibration: the threshold of the day, or None.
    """
    functions = (_table_functions if model.is_table else _image_functions)(model, calibration)
    shown = {"reconstruction", "local"}
    shown.update(getattr(model, "outside_parts", ()))  # these show what they score by
    if not shown.intersection(model.parts_of_score):
        del functions["explain"]  # what it shows is not in the export
    return {name: function.get_concrete_function() for name, function in functions.items()}


def _image_functions(model, calibration) -> dict:
    height, width, channels = model.sample_shape
    low, high = model.preprocess.value_range
    images = tf.TensorSpec((None, None, None, channels), tf.uint8, name="images")
    floats = tf.TensorSpec((None, height, width, channels), tf.float32, name="images")
    # One graph that all signatures call: the networks are traced and stored once.
    score = tf.function(lambda x: model.chosen_score(_some(x)), input_signature=[floats])

    @tf.function(input_signature=[images])
    def serving_default(images):
        return _verdict(score(model.preprocess(images)), calibration)

    @tf.function(input_signature=[images, _THRESHOLD])
    def score_at(images, threshold):
        return _verdict_at(score(model.preprocess(images)), threshold)

    @tf.function(input_signature=[floats])
    def score_float(images):
        images = _scaled_as_in_training(model.identity, images, low, high)
        inside = (images >= low - RANGE_TOLERANCE) & (images <= high + RANGE_TOLERANCE)  # false for NaN
        return _verdict(_where_valid(inside, score(images)), calibration)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def score_encoded(image_bytes):
        def decode(encoded):
            return model.preprocess(decode_in_graph(encoded, channels)[None])[0]

        x = tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec(floats.shape[1:], tf.float32))
        return _verdict(score(x), calibration)

    @tf.function(input_signature=[images])
    def explain(images):
        return _explanation(model, images)

    made = {
        "serving_default": serving_default,
        "score_at": score_at,
        "score_float": score_float,
        "score_encoded": score_encoded,
    }
    return made | ({"explain": explain} if model.explains else {})


def _table_functions(model, calibration) -> dict:
    rows = tf.TensorSpec((None, *model.sample_shape), tf.float64, name="rows")
    floats = tf.TensorSpec((None, *model.sample_shape), tf.float32, name="rows")
    prepared = tf.TensorSpec((None, *model.network_shape), tf.float32, name="rows")
    score_prepared = tf.function(lambda x: model.chosen_score(_some(x)), input_signature=[prepared])

    def score(rows):
        return _where_valid(model.preprocess.usable(rows), score_prepared(model.preprocess(rows)))

    @tf.function(input_signature=[rows])
    def serving_default(rows):
        return _verdict(score(rows), calibration)

    @tf.function(input_signature=[rows, _THRESHOLD])
    def score_at(rows, threshold):
        return _verdict_at(score(rows), threshold)

    @tf.function(input_signature=[floats])
    def score_float32(rows):
        return _verdict(score(rows), calibration)

    @tf.function(input_signature=[prepared])
    def score_float(rows):
        return _verdict(_where_valid(tf.math.is_finite(rows), score_prepared(rows)), calibration)

    @tf.function(input_signature=[rows])
    def explain(rows):
        return _explanation(model, rows)

    made = {
        "serving_default": serving_default,
        "score_at": score_at,
        "score_float32": score_float32,
        "score_float": score_float,
    } | _told_by_column(model, rows)
    return made | ({"explain": explain} if model.explains else {})


def _told_by_column(model, rows: tf.TensorSpec) -> dict:
    """Signatures that tell what the detector knows of its columns: a text a column, whatever the rows."""
    known = {"columns": model.identity.columns}
    if model.encoding is not None:
        known["encoding"] = model.encoding.by_column()

    def telling(name: str, texts: list[str]):
        @tf.function(input_signature=[rows])
        def tell(rows):
            # Once a row: a server that batches wants outputs as long as their inputs.
            return {name: tf.tile(tf.constant(texts)[None], [tf.shape(rows)[0], 1])}

        return tell

    return {name: telling(name, texts) for name, texts in known.items() if texts is not None}


_THRESHOLD = tf.TensorSpec((None,), tf.float32, name="threshold")


def _explanation(model, samples: tf.Tensor) -> dict[str, tf.Tensor]:
    samples = _some(samples)
    if not model.reconstructs:
        return {"anomaly_map": model.anomaly_map(samples)}
    reconstruction, error_map = model.explain(samples)
    return {"reconstruction": reconstruction, "error_map": error_map}


def _some(samples: tf.Tensor) -> tf.Tensor:
    """The samples, of which there must be one: a convolution would say so in words of its own."""
    found = tf.debugging.Assert(tf.shape(samples)[0] > 0, ["expected at least one sample, received none"])
    with tf.control_dependencies([found]):
        return tf.identity(samples)


def _scaled_as_in_training(identity: Identity, images: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """The images; several of which none is under 0 where those of training were are x / 255, and refused."""
    if low >= 0 or not identity.sees_negative(low):
        return images
    scaled_otherwise = tf.reduce_all(images >= 0) & (tf.shape(images)[0] >= FEW)
    fits = tf.debugging.Assert(
        tf.logical_not(scaled_otherwise),
        [
            f"expected floats from {low:g} to {high:g}, as in training, received several images "
            "without a value under 0: pass uint8 images, or scale x / 127.5 - 1"
        ],
    )
    with tf.control_dependencies([fits]):
        return tf.identity(images)


def _where_valid(valid: tf.Tensor, score: tf.Tensor) -> tf.Tensor:
    """The score, NaN for samples with a value that is not `valid`."""
    whole = tf.reduce_all(valid, axis=list(range(1, len(valid.shape))))
    return tf.where(whole, score, float("nan"))


def _verdict(score: tf.Tensor, calibration: Calibration | None) -> dict[str, tf.Tensor]:
    return {"score": score} | ({} if calibration is None else decide(score, calibration))


def _verdict_at(score: tf.Tensor, threshold: tf.Tensor) -> dict[str, tf.Tensor]:
    count, given = tf.shape(score)[0], tf.shape(threshold)[0]
    # Broadcast, one image would get as many decisions as there are thresholds.
    fits = tf.debugging.Assert(
        (given == 1) | (given == count), ["expected one threshold, or one a sample, received", given]
    )
    with tf.control_dependencies([fits]):
        normal = (score <= threshold) & tf.math.is_finite(score)  # false where either is NaN
    return {"score": score, "is_anomaly": tf.logical_not(normal)}


def decide(score: tf.Tensor, calibration: Calibration) -> dict[str, tf.Tensor]:
    """p-value, decision and threshold for scores (batch,), in the graph.

    Equal to those of `agad_tf.evaluation.decisions.Decision`, also for scores that are NaN or infinite.
    """
    exact = tf.cast(score, tf.float64)  # as the calibration holds its scores: ties stay ties
    normals = tf.constant(calibration.normal_scores, tf.float64)  # ascending
    at_least = calibration.n_normal - _count_below(normals, exact)
    p_value = tf.cast((1 + at_least) / (calibration.n_normal + 1), tf.float32)
    threshold = tf.fill(tf.shape(exact), tf.constant(calibration.threshold, tf.float64))
    return {
        "p_value": tf.where(tf.math.is_finite(score), p_value, float("nan")),
        "is_anomaly": tf.logical_not((exact <= threshold) & tf.math.is_finite(score)),
        "threshold": tf.cast(threshold, tf.float32),
    }


def _count_below(ascending: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """How many of the ascending numbers are less than each value; `searchsorted` in operations of everyone.

    Runtimes other than TensorFlow know no `LowerBound`, and could not read the export.
    """
    count = tf.zeros(tf.shape(values), tf.int32)
    step = 1 << (len(ascending).bit_length() - 1)
    while step:
        more = count + step
        fits = more <= len(ascending)
        reached = tf.gather(ascending, tf.minimum(more, len(ascending)) - 1)
        count = tf.where(fits & (reached < values), more, count)
        step //= 2
    return count
