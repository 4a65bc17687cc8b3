"""How a score follows from what the networks of an export make of a sample; NumPy alone."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np


def _root_of_squares(x: np.ndarray, output: np.ndarray) -> np.ndarray:
    return np.sqrt(_sum_of_squares(x, output))


def _sum_of_squares(x: np.ndarray, output: np.ndarray) -> np.ndarray:
    return _squared_length(x, x - output)


def _squared_length(x: np.ndarray, output: np.ndarray) -> np.ndarray:
    flat = output.reshape(len(x), -1)
    # In float64: a long sum in float32 loses digits, and the mean that is taken off uncovers it.
    return np.einsum("ij,ij->i", flat, flat, dtype=np.float64)


def _negated_mean(x: np.ndarray, output: np.ndarray) -> np.ndarray:
    return -output.reshape(len(x), -1).mean(axis=1, dtype=np.float64)


def _length(x: np.ndarray, output: np.ndarray) -> np.ndarray:
    return np.sqrt(_squared_length(x, output))


def _mean_of_largest(x: np.ndarray, output: np.ndarray, count: int) -> np.ndarray:
    """Of each channel the mean of its `count` largest values, and of all channels the mean."""
    values = np.sort(output.reshape(len(x), -1, output.shape[-1]), axis=1)[:, -count:]
    return values.mean(axis=(1, 2), dtype=np.float64)


def _largest_errors(x: np.ndarray, output: np.ndarray, count: int, **standard) -> np.ndarray:
    """The mean of the `count` largest values of `standardised_errors`."""
    return _mean_of_largest(x, standardised_errors(x, output, **standard)[..., None], count)


FORMULAS = {
    "length": _length,
    "mean_of_largest": _mean_of_largest,
    "largest_errors": _largest_errors,
    "root_of_squares": _root_of_squares,
    "sum_of_squares": _sum_of_squares,
    "squared_length": _squared_length,
    "negated_mean": _negated_mean,
}
"""How a part of a score follows from preprocessed samples and one output of the graph, by name."""

ARGUMENTS = ("count", "kernel", "map_mean", "map_deviation")
"""What a part of a score may hold for its formula."""


def standardised_errors(
    x: np.ndarray, output: np.ndarray, kernel: np.ndarray, map_mean: np.ndarray, map_deviation: np.ndarray
) -> np.ndarray:
    """|x − output| averaged over channels, smoothed, in deviations from normal images; (n, height, width).

    As `agad_tf.layers.LocalScore.standardised` computes it.

    Args:
        x, output: (n, height, width, channels).
        kernel: of the smoothing, an odd number of weights.
        map_mean, map_deviation: (height, width), of smoothed errors of normal images.
    """
    errors = np.abs(x - output).mean(axis=-1)
    radius = len(kernel) // 2
    for axis in (1, 2) if radius else ():
        around = [(radius, radius) if dimension == axis else (0, 0) for dimension in range(3)]
        padded = np.pad(errors, around, "symmetric")
        length = errors.shape[axis]
        shifted = (padded.take(range(at, at + length), axis) for at in range(len(kernel)))
        errors = sum(weight * part for weight, part in zip(kernel, shifted, strict=True))
    return (errors - map_mean) / map_deviation


def as_text(values: np.ndarray) -> str:
    """Numbers as float32 in base 64: a map in JSON, in a third of its room as digits."""
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode("ascii")


def ready(part: dict, shape: Sequence[int]) -> dict:
    """A part of a score with its maps as arrays.

    Args:
        part: from the metadata of an export.
        shape: of a sample.

    Raises:
        KeyError, TypeError, ValueError: it is not what its formula needs.
    """
    if part["formula"] != "largest_errors":
        return part
    height, width, _ = shape
    kernel = np.array(part["kernel"], np.float32)
    if kernel.ndim != 1 or len(kernel) % 2 == 0 or not np.isfinite(kernel).all():
        raise ValueError(f"a kernel of {kernel.shape}")
    arrays = {"kernel": kernel}
    for name in ("map_mean", "map_deviation"):
        values = np.frombuffer(base64.b64decode(part[name], validate=True), "<f4")
        if values.size != height * width or not np.isfinite(values).all():
            raise ValueError(f"{values.size} values of {name}")
        arrays[name] = values.reshape(height, width)
    if not (arrays["map_deviation"] > 0).all():
        raise ValueError("a map_deviation of 0")
    if type(part["count"]) is not int or not 1 <= part["count"] <= height * width:
        raise ValueError(f"a count of {part['count']!r} pixels")
    return part | arrays


def combine(x: np.ndarray, outputs: dict[str, np.ndarray], parts: Sequence[dict]) -> np.ndarray:
    """The score of preprocessed samples from what the networks made of them.

    Args:
        x: float32 (n, ...), preprocessed.
        outputs: output name to float32 (n, ...).
        parts: of the score, each from `ready`: its `output`, its `formula` and what that needs besides, and
            `mean` and `deviation` where several are standardised and summed.

    Returns:
        float32 (n,), higher is more anomalous.
    """
    scores = []
    for part in parts:
        scores.append(FORMULAS[part["formula"]](x, outputs[part["output"]], **_arguments(part)))
    if len(parts) > 1:
        scores = [(s - part["mean"]) / part["deviation"] for s, part in zip(scores, parts, strict=True)]
    return np.sum(scores, axis=0).astype(np.float32)


def _arguments(part: dict) -> dict:
    return {name: part[name] for name in ARGUMENTS if name in part}
