"""What can score: a run, a saved detector, an export, a server; all behind one small interface."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.errors import InputError
from agad_tf.evaluation.decisions import Decision
from agad_tf.files import named
from agad_tf.pixels import read_image
from agad_tf.scoring.files import regular
from agad_tf.serving import Client
from agad_tf.serving.payload import encoded_image

FORMATS = ("auto", "run", "keras", "savedmodel", "tflite")


@dataclass(frozen=True)
class Detector:
    """A way to score, wherever the model runs.

    Attributes:
        score: values of one shape to arrays of the same length; see `pipeline.score_samples`.
        read: path of an image file to what `score` takes; None for a detector of tables.
        features: columns that a detector of tables takes; None for one of images.
    """

    score: Callable[[list], dict[str, np.ndarray]]
    read: Callable[[str], np.ndarray | bytes] | None = None
    features: int | None = None


def open_detector(path: str | Path, form: str = "auto") -> Detector:
    """The detector in a run directory, a .keras file, a SavedModel, a .tflite file or a folder of versions.

    Args:
        path: of a folder of versions (`saved_models/<name>`) the newest is taken.
        form: one of `FORMATS`; "auto" looks at the path.

    Raises:
        InputError: nothing there, something else, or damaged.
    """
    found, place = find_detector(path)
    if form not in ("auto", found):
        raise InputError(f"{path}: expected the format {form}, found {found}: leave --format out or mend it")
    return {"run": _run, "keras": _keras, "savedmodel": _saved_model, "tflite": _tflite}[found](place)


def find_detector(path: str | Path) -> tuple[str, Path]:
    """Format of what a path names, and where it is: the newest version in a folder of versions.

    Raises:
        InputError: nothing there, or something else.
    """
    path = Path(path)
    if path.is_file() and path.suffix in (".keras", ".tflite"):
        return path.suffix[1:], path
    if (path / "config.yaml").exists() or named(path).with_name(f"{named(path).name}.partial").exists():
        return "run", path  # `load_run` says what is missing
    versions = [entry for entry in path.iterdir() if entry.name.isdecimal()] if path.is_dir() else []
    for folder in (path, *sorted(versions, key=lambda version: int(version.name), reverse=True)):
        if (folder / "saved_model.pb").is_file():
            return "savedmodel", folder
        if (folder / "model.tflite").is_file():
            return "tflite", folder / "model.tflite"
    received = "another kind of file or folder" if path.exists() else "nothing there"
    raise InputError(
        f"{path}: expected a run directory, a .keras file, a SavedModel, a .tflite file or a folder of their "
        f"versions, received {received}: check the path"
    )


def _run(path: Path) -> Detector:
    from agad_tf.training.open import load_run

    finished = load_run(path)
    calibration = finished.calibration
    return _from_model(finished.model, None if calibration is None else calibration.decision)


def _keras(path: Path) -> Detector:
    import keras

    import agad_tf.models  # noqa: F401 - registers the classes that a file may hold

    try:
        model = keras.saving.load_model(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: expected a saved detector, received: {reason}") from error
    return _from_model(model, None)


def _from_model(model, decision: Decision | None) -> Detector:
    import tensorflow as tf

    shape = getattr(model, "sample_shape", None)
    if shape is None:
        raise InputError(f"expected a detector of agad_tf, received a {type(model).__name__}")
    table = len(shape) == 1
    spec = (
        tf.TensorSpec((None, *shape), tf.float32)
        if table
        else tf.TensorSpec((None, None, None, shape[-1]), tf.uint8)
    )
    # `predict` would be traced anew for images of another size.
    function = tf.function(lambda x: model(x), input_signature=[spec])

    def score(values: list[np.ndarray]) -> dict[str, np.ndarray]:
        return _verdict(function(np.stack(values)).numpy(), decision)

    return _local(score, shape[-1], table)


def _verdict(scores: np.ndarray, decision: Decision | None) -> dict[str, np.ndarray]:
    if decision is None:
        return {"score": scores}
    return {
        "score": scores,
        "p_value": decision.p_values(scores),
        "is_anomaly": decision.is_anomaly(scores),
    }


def _saved_model(path: Path) -> Detector:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: expected a SavedModel, received: {reason}; export again") from error
    function = loaded.signatures.get("serving_default")
    if function is None or "score" not in function.structured_outputs:
        raise InputError(f"{path}: expected an export of agad-tf, received another SavedModel")
    ((name, spec),) = function.structured_input_signature[1].items()

    def score(values: list[np.ndarray], keep=loaded) -> dict[str, np.ndarray]:
        outputs = function(**{name: tf.constant(np.stack(values))})
        return {key: value.numpy() for key, value in outputs.items()}

    return _local(score, spec.shape[-1], spec.shape.rank == 2)


def _tflite(path: Path) -> Detector:
    from agad_tf.edge import EdgeModel

    model = EdgeModel(path, threads=os.cpu_count() or 1)
    shape = model.metadata["input"]["shape"]

    def score(values: list[np.ndarray]) -> dict[str, np.ndarray]:
        samples = np.stack(values)
        scores = model.score(samples) if model.is_table else model.score_preprocessed(samples)
        return _verdict(scores, model.decision)

    if model.is_table:
        return Detector(score, features=shape[0])
    # Resized by the reading threads: images of all sizes share a batch, and wait in little memory.
    return Detector(score, regular(lambda path: model.preprocess(read_image(path, shape[2])[None])[0]))


def open_server(url: str, timeout: float = 30.0) -> Detector:
    """The detector behind a TensorFlow Serving server.

    Files are sent as JPEG or PNG, rows of tables as numbers.

    Args:
        url: http://host:8501/NAME or grpc://host:8500/NAME, either with /VERSION after it.
        timeout: seconds for each answer.

    Raises:
        InputError: a URL that cannot be used.
        ServingError: no such server or model.
    """
    parts = url.rstrip("/").split("/")
    version = int(parts.pop()) if parts[-1].isdecimal() and len(parts) > 4 else None
    if len(parts) < 4 or not parts[-1]:
        raise InputError(f"expected a server like http://host:8501/NAME, received {url!r}: name the model")
    client = Client("/".join(parts[:-1]), parts[-1], version, timeout)
    if client.is_table:
        return Detector(lambda rows: client.score(np.stack(rows)), features=client.sample_shape[0])
    return Detector(client.score_encoded, regular(encoded_image))


def _local(score: Callable, last: int, table: bool) -> Detector:
    """A detector on this machine; `last` is the number of columns or of channels."""
    if table:
        return Detector(score, features=last)
    return Detector(score, regular(lambda path: read_image(path, last)))
