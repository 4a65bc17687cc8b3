"""Before a training begins: about how long it will take, and how much memory."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from agad_tf.models import AGAD, AnomalyDetector
from agad_tf.models.inputs import fitting_batch_size
from agad_tf.training.callbacks import duration
from agad_tf.training.configuration import Configuration
from agad_tf.training.small_sets import steps_of

PASSES = 6.5
"""Time of a training step, in passes of the same batch through what scores; see `benchmarks/estimate.py`."""
KEPT = 1.3
"""Memory of a training step, in that of all values on the way through what scores; from there too."""
GRAPH = 130
"""MiB for the graph of a step and what TensorFlow keeps beside it; from there too."""
MOST = 16
"""Images that are passed through; a larger batch takes as many times more."""
COPIES = 3
"""Of the trained weights: two moments of the optimizer, and the gradient."""
MIB = 2**20


logger = logging.getLogger("agad_tf")


@dataclass(frozen=True)
class Estimate:
    """What a training will take.

    Attributes:
        seconds: of a step.
        mib: largest memory of the process.
        free: MiB that the machine has left for it, with what the process has already; None where it does not
            say.
    """

    seconds: float
    mib: float
    free: float | None

    @property
    def fits(self) -> bool:
        """Whether there is as much memory, as far as that is known."""
        return self.free is None or self.mib <= self.free


def estimate(model: AGAD, batch_size: int) -> Estimate | None:
    """Passes zeros through what scores, which draws no random number and changes nothing.

    Args:
        model: compiled.
        batch_size: samples of a training step.

    Returns:
        None on a GPU, whose memory TensorFlow takes as it needs, and where Linux does not say what is in use.
    """
    before = of_process("VmRSS")
    if before is None or tf.config.list_physical_devices("GPU"):
        return None
    shape = (min(batch_size, MOST), *model.network_shape)
    times = batch_size / shape[0]
    passing = tf.function(lambda x: model.raw_scores(model.score_names, x)).get_concrete_function(
        tf.TensorSpec(shape, tf.float32)
    )
    x = tf.zeros(shape)
    passing(x)  # the first one also places memory
    began = time.perf_counter()
    passing(x)
    seconds = PASSES * times * (time.perf_counter() - began)
    weights = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    needed = KEPT * times * _values(passing.graph) + COPIES * 4 * weights
    available = _available()
    free = None if available is None else available + before
    return Estimate(seconds, before + GRAPH + needed / MIB, free)


def tell(model: AnomalyDetector, configuration: Configuration, normals: int, anomalies: int) -> str | None:
    """The estimate for a run in a line; warns where the machine has too little memory.

    Args:
        model: compiled.
        configuration: of the run.
        normals, anomalies: samples of its training part.

    Returns:
        None for other detectors than AGAD, which the factors were measured on, and where nothing is known.
    """
    fit = configuration["fit"]
    if type(model) is not AGAD:
        return None
    size = fitting_batch_size(normals, anomalies, fit["batch_size"], fit["min_anomalies"])
    found = estimate(model, size)
    if found is None:
        return None
    if not found.fits:
        logger.warning(
            "training expects about %.1f GiB of memory, and %.1f GiB are free: lower --batch-size or "
            "--image-size",
            found.mib / 1024,
            found.free / 1024,
        )
    steps = fit["epochs"] * steps_of(configuration, normals, anomalies)
    line = (
        f"expect about {duration(found.seconds * steps)} for all {steps} steps, counted from the first, on "
        f"this machine, and {found.mib / 1024:.1f} GiB of memory"
    )
    if configuration["report"]["left_out"]:
        line += "; left_out=true adds a training about as long for each kind, and one without labels"
    return line


def _values(graph: tf.Graph) -> int:
    """Bytes of everything that is computed in a graph."""
    total = 0
    for operation in graph.get_operations():
        if operation.type in ("Const", "Placeholder", "ReadVariableOp", "Identity"):
            continue
        for output in operation.outputs:
            if output.dtype.is_floating and output.shape.is_fully_defined():
                total += output.shape.num_elements() * output.dtype.size
    return total


def of_process(name: str) -> float | None:
    """MiB that Linux gives for this process under a name."""
    return _mib(Path("/proc/self/status"), name)


def _available() -> float | None:
    return _mib(Path("/proc/meminfo"), "MemAvailable")


def _mib(path: Path, name: str) -> float | None:
    if not path.is_file():
        return None
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return None
