"""Time and memory of wide and of long tables: `agad-tf train` and `agad-tf score`, and a `compare`.

    python benchmarks/large_tables.py --out benchmarks/results/large_tables.json

Every command is a process of its own; its peak resident memory is what the operating system says at its end.
A wide table has 2,000 columns of 5,000 rows, a long one 2,000,000 rows of 10 columns, a mixed one text and
gaps among 200,000 rows. Half a per cent of the rows are anomalies, whose values are shifted. Each trains for
one epoch; what is scored are the rows without their label.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

# A process starts with the peak of the one it was made from: a small one stands in between.
LAUNCHER = """
import json, os, subprocess, sys, time
begun = time.monotonic()
process = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=open(sys.argv[1], "w"))
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024, sum(usage[:2]),
                  time.monotonic() - begun]))
"""


def numbers(rows, columns, seed=0):
    """Correlated columns, float32, and labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    x += rng.normal(size=(rows, 1)).astype(np.float32)
    y = np.zeros(rows, np.int8)
    y[rng.permutation(rows)[: rows // 200]] = 1
    x[y == 1, : columns // 2] += 3
    return x, y


def archive(folder, rows, columns):
    """(labelled, unlabelled) as .npz archives."""
    x, y = numbers(rows, columns)
    np.savez(folder / "labelled.npz", X=x, y=y)
    np.savez(folder / "rows.npz", X=x)
    return folder / "labelled.npz", folder / "rows.npz"


def text(folder, rows, columns, mixed=False):
    """(labelled, unlabelled) as CSV files; mixed: a column of texts, and every twentieth first cell empty."""
    x, y = numbers(rows, columns)
    names = [f"c{index}" for index in range(columns)] + (["colour"] if mixed else [])
    colours = np.random.default_rng(1).choice(["red", "green", "blue"], rows)
    for name, labels in (("labelled", y), ("rows", None)):
        with (folder / f"{name}.csv").open("w") as file:
            file.write(",".join([*names, *(["label"] if labels is not None else [])]) + "\n")
            for index, row in enumerate(x.tolist()):
                cells = [f"{value:.5g}" for value in row]
                if mixed:
                    cells[0] = "" if index % 20 == 0 else cells[0]
                    cells.append(colours[index])
                file.write(",".join([*cells, *([str(labels[index])] if labels is not None else [])]) + "\n")
    return folder / "labelled.csv", folder / "rows.csv"


JOBS = {
    "wide, 5,000 x 2,000, npz": (archive, (5_000, 2_000), ()),
    "long, 2,000,000 x 10, npz": (archive, (2_000_000, 10), ()),
    "long, 2,000,000 x 10, CSV": (text, (2_000_000, 10), ()),
    "mixed, 200,000 x 10, CSV": (text, (200_000, 10, True), ("--missing", "indicator")),
}


def command(*arguments):
    """One command: peak memory in MiB, seconds of the clock and of the processors."""
    with tempfile.NamedTemporaryFile("r") as said:
        job = [
            sys.executable,
            "-c",
            LAUNCHER,
            said.name,
            sys.executable,
            "-m",
            "agad_tf.cli",
            *map(str, arguments),
        ]
        done = subprocess.run(job, cwd=ROOT, capture_output=True, check=True)
        status, peak, processor, seconds = json.loads(done.stdout)
        if status:
            raise SystemExit(f"agad-tf {arguments[0]}: {said.read()[-2000:]}")
    return {"seconds": round(seconds, 1), "processor_seconds": round(processor, 1), "peak_mib": round(peak)}


def measured(make, size, options, folder):
    """Figures of one table."""
    begun = time.monotonic()
    labelled, rows = make(folder, *size)
    found = {"seconds_making": round(time.monotonic() - begun, 1), "bytes": labelled.stat().st_size}
    run = folder / "run"
    how = ("--detector", "aa_bigan", "--epochs", 1, "--set", "baseline=false", "--quiet", "--out", run)
    found["train"] = command("train", "--data", labelled, *options, *how)
    found["auroc"] = round(json.loads((run / "metrics.json").read_text())["auroc"], 4)
    found["score"] = command("score", run, rows, "--out", folder / "scores.csv")
    with (folder / "scores.csv").open() as file:
        assert sum(1 for _ in file) == size[0] + 1
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="part of a name of a table")
    parser.add_argument("--compare", metavar="TABLE", help="a table that agad-tf compare is run on too")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results = {}
    if given.out is not None and given.out.is_file():
        results = json.loads(given.out.read_text())["tables"]
    for name, (make, size, options) in JOBS.items():
        if given.only is None or given.only in name:
            with tempfile.TemporaryDirectory() as folder:
                results[name] = measured(make, size, options, Path(folder))
            print(name, results[name], flush=True)
    if given.compare is not None:
        with tempfile.TemporaryDirectory() as folder:
            how = ("--minutes", 2, "--out", Path(folder, "compared"))
            name = f"compare --minutes 2, {Path(given.compare).stem}"
            results[name] = command("compare", "--data", given.compare, *how)
        print(name, results[name], flush=True)
    if given.out is not None:
        content = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other work",
            "tensorflow": importlib.metadata.version("tensorflow"),
            "tables": results,
        }
        given.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
