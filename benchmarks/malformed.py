"""Malformed files, arrays, tables, answers and saved detectors at every door, counted by kind.

    python benchmarks/malformed.py --each 20 --out benchmarks/results/malformed_matrix.json
    python benchmarks/malformed.py --count 10000 --out benchmarks/results/malformed.json

The first is the matrix of tests/support/malformed_matrix.py: doors (image files, arrays, tensors and
datasets, CSV, npz and mat, requests to the client, answers of servers, runs, shards, exports, .keras files)
by kinds of damage. Each case is refused in one line, harmless (the answer is the right one), or one of what
must not be: wrong (another answer, or an answer where there is none), a traceback, lost rows.

The second runs the targets of tests/support/malformed_checks.py: thousands of files, requests and rows in
random order against everything that scores; `agad-tf score` is a program of its own there, whose end and
whose standard error are looked at too. Exit status 1 if anything is as it must not be.
"""

import argparse
import datetime
import importlib.metadata
import inspect
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "grpcio", "requests", "ai-edge-litert", "onnxruntime")


def program(arguments, stdin=b""):
    """`agad-tf` as a process: (status, standard output, standard error)."""
    command = [sys.executable, "-m", "agad_tf.cli", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT)
    text = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
    return done.returncode, *text


def one_door(name: str, each: int, seed: int) -> tuple[dict, list[str]]:
    """The row of a door in the matrix, and what is as it must not be."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from malformed_arrays import SERVERS
    from malformed_doors import DOORS
    from malformed_matrix import matrix

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        counts, wrong = matrix({name: DOORS[name]}, each, seed, Path(folder), print)
    SERVERS.close()  # their threads would keep the process
    return counts, wrong


def run_matrix(given) -> tuple[dict, list[str]]:
    """All doors, several at a time; results and failures."""
    from malformed_doors import DOORS
    from malformed_matrix import OUTCOMES

    doors, failures = {}, []
    with ProcessPoolExecutor(given.processes, multiprocessing.get_context("spawn")) as pool:
        # A fresh process for each would load TensorFlow each time.
        for counts, wrong in pool.map(one_door, DOORS, [given.each] * len(DOORS), [given.seed] * len(DOORS)):
            doors |= counts
            failures += wrong
    cells = [cell for kinds in doors.values() for cell in kinds.values()]
    outcomes = {one: sum(cell[one] for cell in cells) for one in OUTCOMES}
    results = {"cells": len(cells), "cases_of_a_cell": given.each, "outcomes": outcomes, "doors": doors}
    print(outcomes)
    return results, failures


def run_targets(given) -> tuple[dict, list[str]]:
    """All targets, one after the other; results and failures."""
    from malformed_checks import TARGETS

    targets, failures = {}, []
    for name, (check, share) in TARGETS.items():
        count = round(given.count * share)
        runs = {"run": program} if "run" in inspect.signature(check).parameters else {}
        with tempfile.TemporaryDirectory() as folder:
            wrong = check(count, given.seed, Path(folder), **runs)
        targets[name] = {"cases": count, "wrong": len(wrong)}
        failures += [f"{name}: {line}" for line in wrong]
        print(f"{name}: {count} cases, {len(wrong)} wrong", flush=True)
    count = sum(result["cases"] for result in targets.values())
    return {"count": count, "wrong": len(failures), "targets": targets}, failures


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", type=int, default=20, help="cases of a kind at a door")
    parser.add_argument("--processes", type=int, default=2, help="doors at a time")
    parser.add_argument("--count", type=int, help="the targets instead, with so many cases together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = parser.parse_args()
    results, failures = (run_matrix if given.count is None else run_targets)(given)
    print("\n".join(failures[:50]))
    if given.out is not None:
        content = {
            "date": str(datetime.date.today()),
            "seed": given.seed,
            "python": sys.version.split()[0],
            "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
            **results,
            "failures": failures[:50],
        }
        given.out.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
