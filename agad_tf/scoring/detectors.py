"""What can score: a run, a saved detector, an export, a server; all behind one small interface."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agad_tf.checksums import check_manifest, check_onnx
from agad_tf.errors import InputError
from agad_tf.evaluation.decisions import Decision
from agad_tf.files import named
from agad_tf.identity import FEW, Identity, warn_of_images
from agad_tf.pixels import read_image
from agad_tf.scoring.files import regular
from agad_tf.serving import Client
from agad_tf.serving.payload import encoded_image

if TYPE_CHECKING:
    from agad_tf.evaluation.regions import RegionRule

FORMATS = ("auto", "run", "keras", "savedmodel", "tflite", "onnx")

EXPORTS = {"savedmodel": "saved_model.pb", "tflite": "model.tflite", "onnx": "model.onnx"}
"""Format of an export to the file that makes a version of it."""


@dataclass(frozen=True)
class Maps:
    """Where a detector's heat maps come from.

    Attributes:
        of: uint8 images (n, height, width, channels) to maps (n, map height, map width), 0 or more.
        rule: what counts as a region; None where the detector brings none along.
        crop: how an image is brought to the map's aspect, "stretch" or "centre".
    """

    of: Callable[[np.ndarray], np.ndarray]
    rule: RegionRule | None = None
    crop: str = "stretch"


@dataclass(frozen=True)
class Detector:
    """A way to score, wherever the model runs.

    Attributes:
        score: values of one shape to arrays of the same length; see `pipeline.score_samples`.
        read: path of an image file to what `score` takes; None for a detector of tables.
        features: columns that a detector of tables takes; None for one of images.
        identity: what the detector knows of its input.
        maps: its heat maps; None where there are none to be had.
    """

    score: Callable[[list], dict[str, np.ndarray]]
    read: Callable[[str], np.ndarray | bytes] | None = None
    features: int | None = None
    identity: Identity = field(default_factory=Identity)
    maps: Maps | None = None

    def scores(self, samples: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """Scores (n,) of samples as `predict` takes them: uint8 images of one size, or rows."""
        if self.features is None:
            if samples.dtype != np.uint8:  # a runtime would cast them, and find the images black
                raise InputError(
                    f"expected uint8 images, 0 to 255, received {samples.dtype}: pass the images as they are "
                    "stored"
                )
            warn_of_images(replace(self.identity, smallest=None), np.asarray(samples[:FEW]), (-1.0, 1.0))
        starts = range(0, len(samples), batch_size)
        return np.concatenate([self.score(list(samples[i : i + batch_size]))["score"] for i in starts])


def open_detector(path: str | Path, form: str = "auto", threads: int | None = None) -> Detector:
    """The detector in a run directory, a .keras file, an export (SavedModel, .tflite, .onnx) or its versions.

    An export's checksums are checked here, once; one made before there were any is taken as it is.

    Args:
        path: of a folder of versions (`saved_models/<name>`) the newest is taken.
        form: one of `FORMATS`; "auto" looks at the path.
        threads: for the runtimes of .tflite and .onnx; None for as many as there are cores.

    Raises:
        InputError: nothing there, something else, or damaged.
    """
    found, place = find_detector(path)
    if form not in ("auto", found):
        raise InputError(
            f"{path}: expected the format {form}, found {found}: leave --format out or correct it"
        )
    if found in ("tflite", "onnx"):
        return {"tflite": _tflite, "onnx": _onnx}[found](place, threads or os.cpu_count() or 1)
    return {"run": _run, "keras": _keras, "savedmodel": _saved_model}[found](place)


def find_detector(path: str | Path) -> tuple[str, Path]:
    """Format of what a path names, and where it is: the newest version in a folder of versions.

    Raises:
        InputError: nothing there, or something else.
    """
    path = Path(path)
    if path.is_file() and path.suffix in (".keras", ".tflite", ".onnx"):
        return path.suffix[1:], path
    if (path / "config.yaml").exists() or named(path).with_name(f"{named(path).name}.partial").exists():
        return "run", path  # `load_run` says what is missing
    for folder in (path, *(version for _, version in reversed(numbered_folders(path)))):
        for form, file in EXPORTS.items():
            if (folder / file).is_file():
                return form, folder if form == "savedmodel" else folder / file
    received = "another kind of file or folder" if path.exists() else "nothing there"
    raise InputError(
        f"{path}: expected a run directory, a .keras file, a SavedModel, a .tflite or .onnx file or a folder "
        f"of their versions, received {received}: check the path"
    )


def numbered_folders(folder: str | Path) -> list[tuple[int, Path]]:
    """Versions of an export, ascending, as a server reads their names: ASCII digits and nothing else."""
    entries = Path(folder).iterdir() if Path(folder).is_dir() else ()
    numbers = (entry for entry in entries if entry.name.isascii() and entry.name.isdigit())
    return sorted((int(entry.name), entry) for entry in numbers)


@contextmanager
def _opening(path: Path, expected: str, advice: str) -> Iterator[None]:
    """Whatever a library raises over a damaged file becomes one line: each has errors of its own."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:300]
        raise InputError(f"{path}: expected {expected}, received: {reason}; {advice}") from error


def _run(path: Path) -> Detector:
    from agad_tf.training.open import load_run

    finished = load_run(path)
    calibration = finished.calibration
    decision = None if calibration is None else calibration.decision
    return _from_model(finished.model, decision, finished.regions)


def _keras(path: Path) -> Detector:
    from agad_tf.baselines.loading import load_model

    return _from_model(load_model(path), None)


def _from_model(model, decision: Decision | None, regions: RegionRule | None = None) -> Detector:
    import tensorflow as tf

    shape = model.sample_shape
    table = len(shape) == 1
    spec = (
        tf.TensorSpec((None, *shape), tf.float64)
        if table
        else tf.TensorSpec((None, None, None, shape[-1]), tf.uint8)
    )
    # `predict` would be traced anew for images of another size.
    function = tf.function(lambda x: model(x), input_signature=[spec])

    def score(values: list[np.ndarray]) -> dict[str, np.ndarray]:
        x, size = np.stack(values), model.scoring_batch
        parts = [function(x[start : start + size]).numpy() for start in range(0, len(x), size)]
        return _verdict(np.concatenate(parts), decision)

    opened = _local(score, shape[-1], table, model.identity)
    if table or not model.explains:
        return opened
    from agad_tf.evaluation.evaluation import image_maps

    crop = getattr(model.preprocess, "crop", "stretch")
    return replace(opened, maps=Maps(lambda images: image_maps(model, images), regions, crop))


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

    check_manifest(path)
    with _opening(path, "a SavedModel", "export again"):
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures.get("serving_default")
        if function is None or "score" not in function.structured_outputs:
            raise InputError(f"{path}: expected an export of agad-tf, received another SavedModel")
        ((name, spec),) = function.structured_input_signature[1].items()
        last, rank = spec.shape[-1], spec.shape.rank
        card = path / "assets.extra" / "model_card.json"
        identity = _identity_in(json.loads(card.read_bytes())) if card.exists() else Identity()

    def score(values: list[np.ndarray], keep=loaded) -> dict[str, np.ndarray]:
        outputs = function(**{name: tf.constant(np.stack(values), spec.dtype)})
        return {key: value.numpy() for key, value in outputs.items()}

    return _local(score, last, rank == 2, identity)


def _identity_in(card: dict) -> Identity:
    """What a model card says of the input; nothing in cards made before it was kept."""
    return Identity.from_dict(card.get("identity"))


def _onnx(path: Path, threads: int) -> Detector:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            "expected the package onnxruntime, found none: pip install 'agad-tf[onnx]'"
        ) from None
    with _opening(path, "an ONNX export", "export again"):
        content = path.read_bytes()
        check_onnx(path, content)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        about = session.get_modelmeta().custom_metadata_map.get("agad_tf")
        (given,) = session.get_inputs()
        if about is None or "score" not in [output.name for output in session.get_outputs()]:
            raise InputError(f"{path}: expected an export of agad-tf, received another ONNX file")
        about = json.loads(about)
        last, table = int(given.shape[-1]), len(given.shape) == 2
        calibration, decision = about["calibration"], None
        if calibration is not None:
            decision = Decision(calibration["normal_scores"], calibration["threshold"])
        identity = _identity_in(about["card"])

    def score(values: list[np.ndarray]) -> dict[str, np.ndarray]:
        samples = np.stack(values)
        if table:  # exports of before take float32
            samples = samples.astype(np.float64 if given.type == "tensor(double)" else np.float32)
        return _verdict(session.run(["score"], {given.name: samples})[0], decision)

    return _local(score, last, table, identity)


def _tflite(path: Path, threads: int) -> Detector:
    from agad_tf.edge import EdgeModel

    model = EdgeModel(path, threads)
    shape = model.metadata["input"]["shape"]

    def score(values: list[np.ndarray]) -> dict[str, np.ndarray]:
        samples = np.stack(values)
        raw = model.is_table or samples.dtype == np.uint8
        return _verdict(
            model.score(samples) if raw else model.score_preprocessed(samples, check=False), model.decision
        )

    if model.is_table:
        return Detector(score, features=shape[0], identity=model.identity)

    def read(path: str) -> np.ndarray:
        # Resized by the reading threads: images of all sizes share a batch, and wait in little memory.
        return model.preprocess(read_image(path, shape[2])[None])[0]

    return Detector(score, regular(read), identity=model.identity)


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
        columns = client.sample_shape[0]
        return Detector(lambda rows: client.score(np.stack(rows)), features=columns, identity=client.identity)
    return Detector(client.score_encoded, regular(encoded_image))


def _local(score: Callable, last: int, table: bool, identity: Identity) -> Detector:
    """A detector on this machine; `last` is the number of columns or of channels."""
    if table:
        return Detector(score, features=last, identity=identity)
    return Detector(score, regular(lambda path: read_image(path, last)), identity=identity)
