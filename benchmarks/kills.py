"""Kills a training at random moments and goes on with it: the result must be that of an undisturbed one.

    python benchmarks/kills.py --kills 20 --out benchmarks/results/kills.json

For AGAD on images and AA-BiGAN on a table in turn: one run of `agad-tf train` is left alone. Each further one
is killed with SIGKILL at a moment drawn uniformly over the duration of the first, and then the same command,
with `--resume`, is given again. Equal means: every array of `model.keras` (weights, batch-norm statistics,
averages, both optimizers) bit for bit, and the same logs of every epoch, metrics and threshold. Exits with
status 1 when one run differs.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
from input_pipeline import machine

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
TIMES = ("seconds_training",)
EPOCHS = {"agad": 20, "aa_bigan": 60}
SETTINGS = {
    "agad": {"data": "digits", "normal-class": 8, "gamma": 0.05, "backbone": "encoder_decoder"}
    | {"image-size": 8, "batch-size": 32, "min-anomalies": 8},
    "aa_bigan": {"detector": "aa_bigan", "data": "table.npz", "gamma": 0.05}
    | {"batch-size": 32, "min-anomalies": 8, "set": "validation=0.2"},
}


def write_table(folder: Path) -> None:
    """240 normal rows and 60 anomalies, which lie elsewhere."""
    y = np.repeat([0, 1], [240, 60])
    x = np.random.default_rng(0).normal(size=(300, 6)) + 2 * y[:, None]
    np.savez(folder / "table.npz", x=x.astype("float32"), y=y)


def command(detector: str, run: Path, every: int) -> list[str]:
    """Starts the run, or goes on with it."""
    settings = SETTINGS[detector] | {"epochs": EPOCHS[detector], "resume": run.name}
    options = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    options += ["--set", f"checkpoints.every={every}", "--quiet", "--json"]
    return [sys.executable, "-m", "agad_tf.cli", "train", *options]


def contents(run: Path) -> dict:
    """What a run ended with: arrays of the model by name, and results that no clock has touched."""
    held = {}
    with zipfile.ZipFile(run / "model.keras") as archive, archive.open("model.weights.h5") as stream:
        h5py.File(stream).visititems(
            lambda name, item: held.update({name: item[()]} if isinstance(item, h5py.Dataset) else {})
        )
    for name in ("metrics.json", "history.json", "calibration.json"):
        if (run / name).is_file():
            values = json.loads((run / name).read_text())
            held[name] = {key: value for key, value in values.items() if key not in TIMES}
    return held


def differing(wanted: dict, found: dict) -> list[str]:
    """Names of what is not the same, bit for bit."""

    def bits(value):
        return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value

    return [
        name
        for name in sorted(wanted.keys() | found.keys())
        if name not in wanted or name not in found or bits(wanted[name]) != bits(found[name])
    ]


def finish(detector: str, run: Path, every: int) -> str:
    """Runs to the end; what was said about going on."""
    done = subprocess.run(
        command(detector, run, every), capture_output=True, text=True, cwd=run.parent, env=ENVIRONMENT
    )
    if done.returncode:
        raise RuntimeError(f"the run ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    said = re.findall(r"checkpoints: (.*)|(is finished)|(a damaged checkpoint.*)", done.stderr)
    return "; ".join("".join(parts) for parts in said) or "started"


def killed(detector: str, run: Path, every: int, seconds: float) -> bool:
    """Starts the run and kills it after so many seconds; False if it was done by then."""
    process = subprocess.Popen(
        command(detector, run, every),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=run.parent,
        env=ENVIRONMENT,
    )
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def undisturbed(detector: str, folder: Path, every: int) -> tuple[float, dict]:
    """Seconds that a run takes, and what it ended with."""
    run = folder / f"{detector}-undisturbed"
    started = time.perf_counter()
    finish(detector, run, every)
    return time.perf_counter() - started, contents(run)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=int, default=5, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    draw, every, kills = random.Random(arguments.seed), arguments.every, []
    results = {"machine": machine(), "epochs": EPOCHS, "steps_between_checkpoints": every}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_table(folder)
        alone = {}
        while len(kills) < arguments.kills:
            detector = list(SETTINGS)[len(kills) % 2]
            if detector not in alone:
                alone[detector] = undisturbed(detector, folder, every)
            duration, wanted = alone[detector]
            moment = draw.uniform(0, duration)
            run = folder / f"{len(kills)}-{moment:.3f}"
            if not killed(detector, run, every, moment):
                continue
            said = finish(detector, run, every)
            differs = differing(wanted, contents(run))
            one = {"detector": detector, "after_seconds": round(moment, 2), "then": said}
            kills.append(one | {"equal": not differs} | ({"differs": differs[:5]} if differs else {}))
            print(json.dumps(kills[-1]), flush=True)
    equal = sum(one["equal"] for one in kills)
    results["undisturbed"] = {
        name: {"seconds": round(duration, 1), "arrays_and_files": len(held)}
        for name, (duration, held) in alone.items()
    }
    results |= {"kills": kills, "equal": equal}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"{equal} of {arguments.kills} equal to the undisturbed run")
    raise SystemExit(equal < arguments.kills)


if __name__ == "__main__":
    main()
