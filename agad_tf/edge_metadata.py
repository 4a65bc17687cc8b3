"""What a TFLite export says about itself: read and checked with NumPy alone."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from pathlib import Path

from agad_tf.checksums import damaged, sha256_of
from agad_tf.errors import InputError
from agad_tf.formulas import FORMULAS, ready
from agad_tf.identity import Identity
from agad_tf.pixels import CROPS

FORMAT = "agad_tf tflite 1"
METADATA_NAME = "agad_tf.json"
"""Entry of the zip archive at the end of a .tflite file that says how its outputs become a score."""


def read_metadata(path: str | Path) -> dict:
    """What a TFLite export says about itself.

    Raises:
        InputError: no such file, not a TFLite export of this library, or damaged.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(METADATA_NAME))
    except OSError as error:
        raise InputError(f"{path}: expected a .tflite file, could not read it ({error.strerror})") from None
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError, ValueError
    ):  # fmt: skip
        metadata = None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected a TFLite export made with `agad-tf export --format tflite`, received another "
            "file: export again"
        )
    try:
        check_metadata(metadata)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(
            f"{path}: expected the metadata of a TFLite export, received: {reason}; export again"
        ) from None
    return metadata


def check_metadata(metadata: dict) -> None:
    """Raises one of what Python raises where an entry is missing, or is not what scoring can use."""
    about, parts, calibration = metadata["input"], metadata["score"]["parts"], metadata["calibration"]
    shape, table = about["shape"], about["kind"] == "table"
    if about["kind"] not in ("table", "image") or len(shape) != (1 if table else 3):
        raise ValueError(f"input {about['kind']!r} of shape {shape}")
    if not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"shape {shape}")
    if table:
        encoding = Identity.from_dict(metadata.get("identity")).encoding
        width = shape[0] if encoding is None else encoding.width
        if encoding is not None:
            _check_numbers("fill", about["fill"], shape[0])
        _check_numbers("minimum", about["minimum"], width)
        _check_numbers("range", about["range"], width)
        _check_numbers("clip", [] if about["clip"] is None else [about["clip"]])
    else:
        _check_numbers("value_range", about["value_range"], 2)
        if about["crop"] not in CROPS:
            raise ValueError(f"crop {about['crop']!r}")
        if about.get("preprocessing", 1) not in (1, 2):
            raise ValueError(f"preprocessing {about['preprocessing']!r}")
    for part in parts:
        if part["formula"] not in FORMULAS or not isinstance(part["output"], str):
            raise ValueError(f"formula {part['formula']!r} of output {part['output']!r}")
        ready(part, shape)
        _check_numbers("mean and deviation", [part["mean"], part["deviation"]])
    if not parts:
        raise ValueError("a score of no parts")
    if calibration is not None:
        _check_numbers("threshold", [calibration["threshold"]])
        _check_numbers("normal_scores", calibration["normal_scores"])


def _check_numbers(name: str, values: list, count: int | None = None) -> None:
    if count not in (None, len(values)):
        raise ValueError(f"{len(values)} values of {name}")
    for value in values:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{value!r} in {name}")


def check_graph(path: Path, metadata: dict) -> None:
    """Refuses a graph that is not as it was written; says nothing of a file without a checksum."""
    graph = metadata.get("graph")
    if graph is not None:
        try:
            same = sha256_of(path, int(graph["bytes"])) == graph["sha256"]
        except (KeyError, TypeError, ValueError):
            same = False
        if not same:
            raise damaged(path)
