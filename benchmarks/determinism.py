"""Trains one run of one seed again and again, with one thing changed each time: which changes change bits?

    python benchmarks/determinism.py --out benchmarks/results/determinism.json

Each training is `agad-tf train` in a process of its own, of AGAD and of AA-BiGAN on scikit-learn digits. The
run is compared with the first one: every array of `model.keras`, bit for bit, and the test AUROC.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from input_pipeline import machine
from kills import ENVIRONMENT, contents, differing

DETECTORS = {
    "agad": ["--backbone", "encoder_decoder"],
    "aa_bigan": ["--detector", "aa_bigan"],
}
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
CHANGES = {
    "nothing": ({}, []),
    "two threads in place of one": (
        {"TF_NUM_INTRAOP_THREADS": "2", "TF_NUM_INTEROP_THREADS": "2", "OMP_NUM_THREADS": "2"},
        [],
    ),
    "deterministic=true": ({}, ["--set", "deterministic=true"]),
    "no oneDNN": ({"TF_ENABLE_ONEDNN_OPTS": "0"}, []),
    "instructions up to AVX2 in oneDNN": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, []),
    "XLA": ({}, ["--set", "jit_compile=true"]),
    "mixed_bfloat16": ({}, ["--precision", "mixed_bfloat16"]),
    "another seed": ({}, ["--seed", "1"]),
}


def train(folder: Path, options: list[str], environment: dict[str, str]) -> dict:
    """What a run ends with; see `kills.contents`."""
    command = f"train --data digits --normal-class 8 --gamma 0.05 --epochs 2 --quiet --json --out {folder}"
    done = subprocess.run(
        [sys.executable, "-m", "agad_tf.cli", *command.split(), *options],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | ONE_THREAD | environment,
    )
    if done.returncode:
        raise RuntimeError(f"the run ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return contents(folder)


def compared(first: dict, found: dict) -> dict:
    """How many arrays differ, by how much at most beside the largest value of their array, and the AUROCs."""
    arrays = [name for name, value in first.items() if isinstance(value, np.ndarray) and value.size]
    shared = [name for name in arrays if getattr(found.get(name), "dtype", None) == first[name].dtype]
    numbers = [name for name in shared if first[name].dtype.kind == "f"]
    largest = max(
        float(np.abs(found[name] - first[name]).max() / max(np.abs(first[name]).max(), 1e-30))
        for name in numbers
    )
    different = len([name for name in differing(first, found) if name in arrays])
    return {
        "arrays": len(arrays),
        "arrays_that_differ": different,
        "largest_relative_difference": largest,
        "auroc": found["metrics.json"]["auroc"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    results = {"machine": machine(), "runs": []}
    with tempfile.TemporaryDirectory() as folder:
        for detector, options in DETECTORS.items():
            first = train(Path(folder, detector), options, {})
            for number, (name, (environment, more)) in enumerate(CHANGES.items()):
                found = train(Path(folder, f"{detector}-{number}"), [*options, *more], environment)
                one = {"detector": detector, "changed": name} | compared(first, found)
                results["runs"].append(one)
                print(json.dumps(one), flush=True)
                if arguments.out is not None:
                    arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
