"""What only a GPU can show: steps of every backbone by precision and XLA, and a short training of each.

    python benchmarks/gpu.py --out benchmarks/results/gpu.json
    python benchmarks/gpu.py --dry-run --out gpu.json   # tiny, on a CPU: only that it works

A step is `train_step` as `fit` compiles it, on random images of 32×32 that lie on the device. Its operations
a second stand beside those of a matrix product in the same precision and run: that is the peak of the device
as far as TensorFlow gets at it. Each backbone is also trained, with the defaults of Python (float32, XLA on a
GPU), on scikit-learn's digits: 8 is normal, twenty of another digit are labelled, all others are tested.

The run ends after `--minutes`; what it had no time for is listed by name in the results.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import speed_ours
import tensorflow as tf
from input_pipeline import machine

import agad_tf
from agad_tf.evaluation.metrics import auroc

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Batch and anomalies: large enough that the device and not the host is what a step waits for.
BATCHES = {
    "aa_bigan": (2048, 256),
    "encoder_decoder": (1024, 128),
    "unet": (512, 64),
    "unet_plus_plus": (256, 32),
}
SIDES = {False: 8192, True: 256}
"""Of the matrices whose product is the peak; in a dry run small ones."""
STEPS, LEAST_SECONDS = 50, 3.0
NORMAL, LABELLED = 8, 3


def median_seconds(run: Callable[[], float], steps: int) -> tuple[float, float, int]:
    """Seconds until the second call has ended, the median of later calls, and how many those were.

    Each call reads a number back from the device, so that it has ended when the clock is read.
    """
    began = time.perf_counter()
    run()
    run()
    first, taken = time.perf_counter() - began, []
    while len(taken) < steps and (sum(taken) < LEAST_SECONDS or len(taken) < 3):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return first, statistics.median(taken), len(taken)


def peak(precision: str, side: int) -> float:
    """Operations a second of a matrix product in the precision that a layer computes in."""
    dtype = keras.DTypePolicy(precision).compute_dtype
    a = tf.cast(tf.random.normal((side, side)), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.cast(tf.matmul(a, a)[0], tf.float32)))
    return 2 * side**3 / median_seconds(lambda: float(product()), STEPS)[1]


def step(kind: str, precision: str, xla: bool, batch: tuple[int, int], steps: int, best: float) -> dict:
    """One row: a backbone in a precision, with XLA or without."""
    run, said = speed_ours.make_step(kind, *batch, precision=precision, xla=xla)
    first, seconds, count = median_seconds(run, steps)
    return {
        "backbone": kind,
        "precision": precision,
        "xla": xla,
        "batch": batch[0],
        "steps": count,
        "seconds_until_second_step": round(first, 2),
        "seconds": round(seconds, 5),
        "images_a_second": round(batch[0] / seconds, 1),
        "gflop_a_second": round(said["flops"] / seconds / 1e9, 1),
        "share_of_peak": round(said["flops"] / seconds / best, 4),
    }


def training(kind: str, epochs: int, few: bool) -> dict:
    """One short training on digits: AUROC in per cent of labelled and of unseen digits, of half of each."""
    samples = agad_tf.load_samples("digits")
    rng = np.random.default_rng(0)
    rows = {digit: rng.permutation(np.flatnonzero(samples.classes == digit)) for digit in range(10)}
    train = {digit: own[: len(own) // 2] for digit, own in rows.items()}
    test = {digit: own[len(own) // 2 :] for digit, own in rows.items()}
    normals, anomalies = train[NORMAL], train[LABELLED][:20]
    if few:
        normals, anomalies = normals[:16], anomalies[:4]
    keras.utils.set_random_seed(0)
    model = (
        agad_tf.AABiGAN((32, 32, 1), backbone="dcgan")
        if kind == "aa_bigan"
        else agad_tf.AGAD((32, 32, 1), backbone=kind)
    )
    model.compile()
    x = samples.x[np.concatenate([normals, anomalies])]
    y = np.repeat([0, 1], [len(normals), len(anomalies)])
    began = time.perf_counter()
    batch = {"batch_size": 8, "min_anomalies": 2} if few else {"batch_size": 32, "min_anomalies": 4}
    model.fit(x, y, epochs=epochs, verbose=0, **batch)
    seconds = time.perf_counter() - began
    scores = {digit: model.predict(samples.x[own], verbose=0) for digit, own in test.items()}
    unseen = np.concatenate([own for digit, own in scores.items() if digit not in (NORMAL, LABELLED)])
    figures = {"labelled": scores[LABELLED], "unseen": unseen}
    return {
        "backbone": kind,
        "normals": len(normals),
        "labelled": len(anomalies),
        "epochs": epochs,
        "precision": model.dtype_policy.name,
        "xla": bool(model.jit_compile),
        "seconds": round(seconds, 1),
        "auroc": {
            name: round(100 * auroc(np.repeat([0, 1], [len(scores[NORMAL]), len(own)]),
                                    np.concatenate([scores[NORMAL], own])), 2)
            for name, own in figures.items()
        },
    }  # fmt: skip


def measure(minutes: float, dry: bool) -> dict:
    """All rows that there is time for; `left_out` names the others."""
    over = time.monotonic() + 60 * minutes
    rows, trainings, left_out, peaks = [], [], [], {}
    jobs = list(itertools.product(BATCHES, PRECISIONS, (False, True)))
    if dry:  # the plain variant of each; of the smallest every precision, and XLA once: it compiles for long
        plain = (PRECISIONS[0], False)
        jobs = [
            (kind, precision, xla)
            for kind, precision, xla in jobs
            if (precision, xla) == plain or (kind == "aa_bigan" and (not xla or precision == plain[0]))
        ]
    # One honest training of each comes first: what is cut short is the last of many rows.
    for kind in BATCHES if not dry else ("aa_bigan",):
        if time.monotonic() > over:
            left_out.append(f"training {kind}")
            continue
        trainings.append(training(kind, epochs=1 if dry else 100, few=dry))
        print(json.dumps(trainings[-1]), flush=True)
    for kind, precision, xla in jobs:
        if time.monotonic() > over:
            left_out.append(f"{kind} {precision}{' XLA' * xla}")
            continue
        if precision not in peaks:
            peaks[precision] = peak(precision, SIDES[dry])
        batch = (8, 2) if dry else BATCHES[kind]
        rows.append(step(kind, precision, xla, batch, 3 if dry else STEPS, peaks[precision]))
        print(json.dumps(rows[-1]), flush=True)
        keras.backend.clear_session()
        gc.collect()
    return {
        "peak_gflop_a_second": {name: round(value / 1e9, 1) for name, value in peaks.items()},
        "steps": rows,
        "trainings": trainings,
        "left_out": left_out,
    }


def device() -> str | None:
    """Name of the GPU, or None where TensorFlow sees none."""
    found = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU") if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--dry-run", action="store_true", help="tiny, on a CPU; its figures say nothing")
    given = parser.parse_args()
    name = device()
    if name is None and not given.dry_run:
        parser.error("expected a GPU that TensorFlow sees, found none: install agad-tf[gpu], or --dry-run")
    about = machine() | {
        "kind": "GPU" if name else "CPU",
        "device": name,
        "date": datetime.date.today().isoformat(),
        "dry_run": given.dry_run,
    }
    made = about | measure(given.minutes, given.dry_run)
    given.out.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
