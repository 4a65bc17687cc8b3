"""Training steps and scoring against PyTorch, what a step spends its time on, and how it grows.

    make bench
    python benchmarks/training_speed.py --what aa_bigan --torch .venv-bench/bin/python

TensorFlow and PyTorch run in a process each and take turns, one step at a time, so that what disturbs the
machine disturbs both; a ratio is the median over the rounds of ours divided by theirs in the same round.
First PyTorch takes over our weights and must give our outputs and the losses of our step. `--what`:

* aa_bigan, encoder_decoder, unet, unet_plus_plus: training steps, and floating-point operations a second
  beside those of a large matrix product, measured in the same rounds;
* scoring: one image and 256;
* shares: input, forward, backward, update of a step;
* growth: seconds of a step and peak memory over batch, image size, and number of images.

Results are added to those already in `--out`. With a GPU, our steps are measured in float32, bfloat16 and
float16, each with and without XLA.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from input_pipeline import machine
from speed_worker import Worker

HERE = Path(__file__).parent
OURS, TORCH = HERE / "speed_ours.py", HERE / "speed_torch.py"
# Batch and anomalies; the large networks in smaller batches, for a step must not take minutes.
BATCHES = {"aa_bigan": (222, 22), "encoder_decoder": (256, 32), "unet": (64, 8), "unet_plus_plus": (32, 4)}
MODES = ("eager", "channels_last", "compile")
AIMS = {"shared": 0.85, "public": 0.50, "scoring": 1.0}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def gpu() -> str | None:
    """The GPU that TensorFlow sees, asked in a process of its own: it must not hold the memory here."""
    code = "import tensorflow as tf; print([d.name for d in tf.config.list_physical_devices('GPU')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return None if found.strip() == "[]" else found.strip()


def rounds_of(participants: dict[str, Worker], rounds: int, count: int = 1) -> dict[str, list[dict]]:
    """Measures everybody in turn, `rounds` times, each time starting with another one."""
    names, results = list(participants), {name: [] for name in participants}
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            results[name] += participants[name].ask(run=name, count=count)
    return results


def seconds(results: list[dict]) -> dict[str, float]:
    """Medians."""
    return {kind: round(statistics.median(one[kind] for one in results), 5) for kind in results[0]}


def ratio(ours: list[dict], theirs: list[dict]) -> dict[str, float]:
    """Median over the rounds of ours / theirs, and its quartiles in processor time."""
    pairs = {kind: [a[kind] / b[kind] for a, b in zip(ours, theirs, strict=True)] for kind in ours[0]}
    summary = {kind: round(statistics.median(values), 3) for kind, values in pairs.items()}
    if len(ours) > 1:
        low, _, high = statistics.quantiles(pairs["processor"], n=4, method="inclusive")
        summary["processor_quartiles"] = [round(low, 3), round(high, 3)]
    return summary


def made(worker: Worker, name: str, said: dict, **job) -> bool:
    """Readies a job; False, with the reason among what is said, where the other side cannot."""
    try:
        said[name] = worker.ask(make=name, job=job)
    except RuntimeError as error:
        if worker.process.poll() is not None:
            raise
        said[name] = {"failed": str(error)}
        print(f"{name}: {error}", file=sys.stderr)
        return False
    return True


def steps(kind: str, workers: tuple[Worker, Worker], rounds: int, modes) -> dict:
    """One model's training step against each form and mode of PyTorch's."""
    ours, torch = workers
    batch, anomalies = BATCHES[kind]
    job = {"kind": kind, "batch": batch, "anomalies": anomalies}
    said, participants = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        proof = str(Path(folder, "proof.npz"))
        said["ours"] = ours.ask(make="ours", job={"what": "step", "proof": proof} | job)
        said["proof"] = torch.ask(make="proof", job={"what": "proof", "kind": kind, "path": proof})
    participants["ours"] = ours
    if made(ours, "matmul", said, what="matmul"):
        participants["matmul"] = ours
    variants = [
        (f"ours {precision}{' XLA' * xla}", precision, xla) for precision in PRECISIONS for xla in (0, 1)
    ]
    for name, precision, xla in variants[1:] if gpu() else []:
        if made(ours, name, said, what="step", precision=precision, xla=bool(xla), **job):
            participants[name] = ours
    for form in ("shared", "public")[: 1 + (kind == "aa_bigan")]:
        for mode in modes:
            name = f"torch {form} {mode}"
            if made(torch, name, said, what="step", form=form, mode=mode, **job):
                if said[name]["parameters"] != said["ours"]["parameters"]:
                    raise RuntimeError(f"parameters: ours {said['ours']}, PyTorch's {said[name]}")
                participants[name] = torch
    results = rounds_of(participants, rounds)
    summary = {
        "batch": batch,
        "anomalies": anomalies,
        "parameters": said["ours"]["parameters"],
        "largest_relative_difference": max(said["proof"]["relative_differences"].values()),
        "rounds": rounds,
        "seconds": {name: seconds(result) for name, result in results.items()},
        "seconds_until_second_step": {
            name: round(one["seconds_to_make"], 1) for name, one in said.items() if "seconds_to_make" in one
        },
        "failed": {name: one["failed"] for name, one in said.items() if "failed" in one},
        "ratios": {
            name: ratio(results["ours"], result) for name, result in results.items() if "torch" in name
        },
    }
    summary["aims"] = {
        name: {"at_most": AIMS[name.split()[1]], "met": one["processor"] <= AIMS[name.split()[1]]}
        for name, one in summary["ratios"].items()
    }
    # Operations a second of processor time: of one core, however many take part.
    speed, peak = (
        said[name]["flops"] / summary["seconds"][name]["processor"] / 1e9 for name in ("ours", "matmul")
    )
    summary["gflop"] = round(said["ours"]["flops"] / 1e9, 2)
    summary["gflop_per_processor_second"] = {
        "step": round(speed, 1),
        "matrix product": round(peak, 1),
        "share": round(speed / peak, 3),
    }
    return summary


def scoring(workers: tuple[Worker, Worker], rounds: int, modes) -> dict:
    """Scores of one image and of 256."""
    ours, torch = workers
    table = {}
    for kind in BATCHES:
        for batch in (1, 256):
            said, participants = {}, {"ours": ours}
            ours.ask(make="ours", job={"what": "score", "kind": kind, "batch": batch})
            for mode in modes:
                name = f"torch {mode}"
                if made(torch, name, said, what="score", kind=kind, batch=batch, mode=mode):
                    participants[name] = torch
            results = rounds_of(participants, rounds, count=1 if batch > 1 else 5)
            table[f"{kind}, {batch}"] = {
                "seconds": {name: seconds(result) for name, result in results.items()},
                "ratios": {
                    name: ratio(results["ours"], result) for name, result in results.items() if name != "ours"
                },
                "failed": {name: one["failed"] for name, one in said.items() if "failed" in one},
            }
            print(kind, batch, json.dumps(table[f"{kind}, {batch}"]["ratios"]), flush=True)
    return table


def shares(threads: int, rounds: int) -> dict:
    """What each part adds to a step, in processor seconds, and its share."""
    table = {}
    for kind in ("aa_bigan", "encoder_decoder", "unet"):
        batch, anomalies = BATCHES[kind]
        with Worker(sys.executable, str(OURS), threads) as worker:
            parts = ("input", "forward", "backward", "update")
            for part in parts:
                job = {"what": "part", "kind": kind, "part": part, "batch": batch, "anomalies": anomalies}
                worker.ask(make=part, job=job)
            results = rounds_of(dict.fromkeys(parts, worker), rounds)
        spent = {part: statistics.median(one["processor"] for one in results[part]) for part in parts}
        # Each holds the one before; the batch comes from elsewhere.
        own = {
            "input": spent["input"],
            "forward": spent["forward"],
            "backward": spent["backward"] - spent["forward"],
            "update": spent["update"] - spent["backward"],
        }
        total = sum(own.values())
        table[kind] = {
            "batch": batch,
            "processor_seconds": {part: round(value, 5) for part, value in own.items()},
            "share": {part: round(value / total, 4) for part, value in own.items()},
        }
    return table


def growth(threads: int, rounds: int) -> dict:
    """Seconds of a step and peak memory of a process that makes nothing else."""
    cases = {
        "batch": [
            {"what": "step", "batch": batch, "anomalies": batch // 8} for batch in (32, 64, 128, 256, 512)
        ],
        "image side, batch 32": [
            {"what": "step", "batch": 32, "anomalies": 4, "side": side} for side in (32, 64, 128)
        ],
        "images in memory, batch 64": [
            {"what": "fit", "images": images, "batch": 64, "anomalies": 8}
            for images in (1000, 10_000, 100_000)
        ],
    }
    table = {}
    for name, jobs in cases.items():
        rows = []
        for job in jobs:
            with Worker(sys.executable, str(OURS), threads) as worker:
                worker.ask(make="ours", job=job | {"kind": "encoder_decoder"})
                spent = seconds(worker.ask(run="ours", count=rounds))
                row = {key: value for key, value in job.items() if key not in ("what", "anomalies")}
                rows.append(row | {"seconds": spent, "peak_mb": worker.ask(peak=True)})
                print(name, rows[-1], flush=True)
        table[name] = rows
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", nargs="+", choices=(*BATCHES, "scoring", "shares", "growth"), required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="of PyTorch")
    parser.add_argument("--torch", default=".venv-bench/bin/python", help="interpreter that has PyTorch")
    parser.add_argument("--out", type=Path, help="JSON file for the results; others in it are kept")
    arguments = parser.parse_args()
    if gpu() is None:
        print("no GPU: float32 without XLA alone; nothing here says anything about a GPU")
    for what in arguments.what:
        started = machine() | {"date": datetime.date.today().isoformat(), "gpu": gpu()}
        if what == "shares":
            result = shares(arguments.threads, arguments.rounds)
        elif what == "growth":
            result = growth(arguments.threads, arguments.rounds)
        else:
            with (
                Worker(sys.executable, str(OURS), arguments.threads) as ours,
                Worker(arguments.torch, str(TORCH), arguments.threads) as torch,
            ):
                if what == "scoring":
                    result = scoring((ours, torch), arguments.rounds, arguments.modes)
                else:
                    result = steps(what, (ours, torch), arguments.rounds, arguments.modes)
            started["versions"]["torch"] = _version(arguments.torch)
        started["load_average_at_end"] = round(os.getloadavg()[0], 2)
        result = {"machine": started, "threads": arguments.threads, "results": result}
        print(json.dumps(result, indent=2), flush=True)
        if arguments.out is not None:
            known = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
            known[f"{what}, {arguments.threads} thread{'s' * (arguments.threads > 1)}"] = result
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(known, indent=2) + "\n")


def _version(python: str) -> str:
    code = "import importlib.metadata as m; print(m.version('torch'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
