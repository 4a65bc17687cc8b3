"""What a training runs on: precision, replicas, determinism."""

from __future__ import annotations

import json
import os
import sys

import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.replicas import replica_count

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16", "float64")
STRATEGIES = ("auto", "none", "mirrored", "multi_worker")

BFLOAT16_CAPABILITY = (8, 0)
"""CUDA compute capability from which tensor cores take bfloat16: Ampere, 2020."""


def prepare(
    precision: str = "auto", strategy: str = "auto", deterministic: bool = False
) -> tuple[str, tf.distribute.Strategy]:
    """Readies this process for a training; to be called before anything else touches TensorFlow.

    Args:
        precision: see `choose_precision`.
        strategy: see `choose_strategy`.
        deterministic: only operations that give the same bits each time, on a GPU too; some are slower, and
            there is no XLA. Lasts until the process ends. On a CPU nothing needs it.

    Returns:
        (dtype policy, strategy): build and compile the model with the one in the scope of the other.

    Raises:
        InputError: unknown names, or what this machine cannot do.
    """
    chosen = choose_strategy(strategy)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    with chosen.scope():
        return choose_precision(precision), chosen


def choose_precision(precision: str = "auto") -> str:
    """The dtype policy for this machine: `AGAD(shape, dtype=choose_precision())`.

    With several replicas, call it in the scope of their strategy.

    Args:
        precision: "auto" is mixed_bfloat16 where every GPU has it (compute capability 8.0), mixed_float16 on
            one older GPU, float32 on several of them and without GPU. Any other value stands for itself.

    Raises:
        InputError: an unknown precision, or mixed_float16 with several replicas.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision expects one of {', '.join(PRECISIONS)}, received {precision!r}")
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    # A GPU that is not NVIDIA's tells no capability.
    capabilities = [one["compute_capability"] for one in details if "compute_capability" in one]
    if not capabilities or len(capabilities) < len(gpus):
        return "float32"
    if min(capabilities) >= BFLOAT16_CAPABILITY:
        return "mixed_bfloat16"
    return "mixed_float16" if replica_count() == 1 else "float32"


def choose_strategy(strategy: str = "auto") -> tf.distribute.Strategy:
    """How replicas share a training; build and compile the model in its `scope()`.

    Args:
        strategy: "multi_worker" trains with the processes that the environment variable TF_CONFIG names,
            "mirrored" on all GPUs of this machine, "none" on one device; "auto" is the first of these that
            there are several of.

    Raises:
        InputError: an unknown name, "multi_worker" without TF_CONFIG, "mirrored" without several devices.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"strategy expects one of {', '.join(STRATEGIES)}, received {strategy!r}")
    workers = _workers() if strategy in ("auto", "multi_worker") else 0
    if workers > 1:
        print(f"waiting for {workers} workers", file=sys.stderr)
        return tf.distribute.MultiWorkerMirroredStrategy()
    if strategy == "multi_worker":
        raise InputError(
            "strategy multi_worker expects the environment variable TF_CONFIG to name two workers or more, "
            f"found {workers or 'none'}: set it as docs/training.md shows"
        )
    if strategy == "none":
        return tf.distribute.get_strategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if strategy == "auto" and (len(devices) == 1 or devices[0].device_type == "CPU"):
        return tf.distribute.get_strategy()
    if len(devices) == 1:
        raise InputError(
            "strategy mirrored expects two GPUs or more, found "
            f"{'one' if devices[0].device_type == 'GPU' else 'none'}: leave it at auto"
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _workers() -> int:
    """Number of training processes that TF_CONFIG names; 0 without it."""
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 0
    try:
        cluster = json.loads(text).get("cluster", {})
        return sum(len(cluster.get(job, ())) for job in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError):
        raise InputError(
            "TF_CONFIG expects JSON with a cluster and a task, as docs/training.md shows; received "
            f"{text[:80]!r}: mend or unset it"
        ) from None
