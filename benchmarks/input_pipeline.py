"""How fast do batches come from each source, with the quota, and how much memory do they take?

    python benchmarks/input_pipeline.py --out benchmarks/results/input_pipeline.json

Every measurement runs in a process of its own, on made images (smooth, with noise), with batches of 256 of
which 32 are anomalies:

* sources: images a second while batches are drawn, seconds until the first batch could be asked for
  (`load_samples`), and peak memory, for an array, a folder of PNG files, shards, and shards read into memory;
* memory: peak memory of the same number of batches, and of the same number of training steps, from shards of
  10,000 and of 100,000 images;
* waiting: share of a training step (naive backbone, 32 x 32) that is spent waiting for its batch.

Peak memory is that of the whole process, TensorFlow included; `start` is what it is after the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

SECONDS = 2.0  # drawing, a measurement
BATCH, QUOTA = 256, 32


def images(count: int, side: int, seed: int = 0) -> np.ndarray:
    """uint8 (count, side, side, 3): a gradient of its own for each image, and noise."""
    rng = np.random.default_rng(seed)
    slope = rng.uniform(-120, 120, (count, 1, 1, 3)).astype(np.float32)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)[None, :, None, None]
    out = np.empty((count, side, side, 3), np.uint8)
    for start in range(0, count, 1000):
        some = slope[start : start + 1000] * ramp + 128
        some = some + rng.normal(0, 4, (len(some), side, side, 1)).astype(np.float32)
        out[start : start + 1000] = np.clip(some, 0, 255)
    return out


def write_sources(folder: Path, count: int, side: int, kinds: tuple[str, ...]) -> None:
    """`set.npz`, `folder/` and `shards/` of the same images, one in twenty an anomaly."""
    from PIL import Image

    from agad_tf.data.sources.prepare import prepare

    x, y = images(count, side), (np.arange(count) % 20 == 0).astype(int)
    np.savez(folder / "set.npz", x=x, y=y, class_names=["normal", "anomaly"])
    if "folder" in kinds:
        for name in ("normal", "anomaly"):
            (folder / "folder" / name).mkdir(parents=True)
        for index, image in enumerate(x):
            name = ("normal", "anomaly")[y[index]]
            Image.fromarray(image).save(folder / "folder" / name / f"{index:06d}.png")
    del x
    prepare(folder / "set.npz", folder / "shards", progress=False)


def peak() -> float:
    """Peak memory of this process, MB."""
    # Not getrusage: its figure is handed down from the process that started this one.
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024 / 1e6


def batches(source: str, cache: str | None):
    """(dataset, seconds until there is one)"""
    from agad_tf.data.batches.quota import quota_batches
    from agad_tf.training.loading import load

    started = time.perf_counter()
    samples = load(source, cache=cache)
    normal = samples.class_names.index("normal")
    seconds = time.perf_counter() - started
    rows = [np.flatnonzero((samples.classes == normal) == wanted) for wanted in (True, False)]
    return quota_batches(samples.x[rows[0]], samples.x[rows[1]], BATCH, QUOTA), len(samples.x), seconds


def draw(source: str, cache: str | None, steps: int | None) -> dict:
    """Images a second of batches alone; `steps` of them, or as many as come in some seconds."""
    import tensorflow as tf  # noqa: F401 - so that `start` holds it

    start = peak()
    dataset, count, seconds = batches(source, cache)
    iterator = iter(dataset.stream())
    for _ in range(5):
        next(iterator)
    drawn, started = 0, time.perf_counter()
    while drawn < steps if steps else time.perf_counter() - started < SECONDS:
        next(iterator)
        drawn += 1
    rate = drawn * BATCH / (time.perf_counter() - started)
    return {
        "images": count,
        "images_per_second": round(rate),
        "seconds_to_load": round(seconds, 2),
        "images_per_second_of_loading": round(count / seconds),
        "start_mb": round(start),
        "peak_mb": round(peak()),
    }


def train(source: str, cache: str | None, steps: int) -> dict:
    """Share of training steps that is waiting for a batch, and peak memory of training."""
    import tensorflow as tf

    import agad_tf

    dataset, count, _ = batches(source, cache)
    model = agad_tf.AGAD((32, 32, 3), backbone="encoder_decoder")
    model.compile()
    step = tf.function(model.train_step)
    iterator = iter(dataset.stream())
    step(next(iterator))
    waiting = total = 0.0
    for _ in range(steps):
        started = time.perf_counter()
        batch = next(iterator)
        received = time.perf_counter()
        float(step(batch)["loss_generator"])  # wait until it is done
        waiting += received - started
        total += time.perf_counter() - started
    return {
        "images": count,
        "waiting_share": round(waiting / total, 5),
        "seconds_a_step": round(total / steps, 4),
        "peak_mb": round(peak()),
    }


def measured(job: str, source: Path, cache: str | None = None, steps: int | None = None) -> dict:
    """A measurement in a process of its own."""
    command = [sys.executable, __file__, "--job", json.dumps([job, str(source), cache, steps])]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def machine() -> dict:
    """What the figures were measured on."""
    cpu = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return {
        "kind": "CPU",
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory, 1),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in ("tensorflow", "keras", "numpy", "pillow")}
        | {"python": platform.python_version()},
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument(
        "--few", type=int, default=10_000, help="images of the small set for the memory check"
    )
    parser.add_argument("--many", type=int, default=100_000, help="images of the large one")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job, source, cache, steps = json.loads(arguments.job)
        result = train(source, cache, steps) if job == "train" else draw(source, cache, steps)
        print(json.dumps(result))
        return
    results = {"machine": machine(), "batch_size": BATCH, "anomalies_per_batch": QUOTA}
    with tempfile.TemporaryDirectory() as folder:
        results["sources"] = {}
        for side, count in ((32, 4000), (128, 1000)):
            here = Path(folder, f"{side}")
            here.mkdir()
            write_sources(here, count, side, ("folder", "shards"))
            results["sources"][f"{side}x{side}x3"] = {
                name: measured("draw", here / source, cache)
                for name, source, cache in (
                    ("array", "set.npz", None),
                    ("folder", "folder", None),
                    ("shards", "shards", None),
                    ("shards in memory", "shards", "memory"),
                )
            }
        results["memory"] = {}
        for count in (arguments.few, arguments.many):
            here = Path(folder, f"{count}")
            here.mkdir()
            write_sources(here, count, 32, ("shards",))
            (here / "set.npz").unlink()
            results["memory"][str(count)] = {
                "batches": measured("draw", here / "shards", steps=300),
                "training": measured("train", here / "shards", steps=4),
            }
    few, many = (results["memory"][str(count)] for count in (arguments.few, arguments.many))
    results["memory"]["ratio"] = {job: round(many[job]["peak_mb"] / few[job]["peak_mb"], 3) for job in few}
    results["aims"] = {
        "50,000 images/s from shards of 32 x 32": results["sources"]["32x32x3"]["shards"]["images_per_second"]
        >= 50_000,
        "waiting under 2 % of a step": many["training"]["waiting_share"] < 0.02,
        "peak memory within 10 %": max(results["memory"]["ratio"].values()) <= 1.1,
    }
    text = json.dumps(results, indent=2)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
