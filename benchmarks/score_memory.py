"""Peak memory of `agad-tf score` over few and over many images or table rows.

    python benchmarks/score_memory.py --out benchmarks/results/score_memory.json

Each job is a process of its own; its peak resident memory is what the operating system says at its end. The
images are hard links to a hundred small PNG files, one of them unreadable; the detector is a small AGAD.
"""

import argparse
import csv
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

import numpy as np  # noqa: E402

SIDE = 28
DISTINCT = 100


def images(folder, count):
    """`count` names for 100 images, the last of which is none."""
    from serving_cases import encode

    rng = np.random.default_rng(0)
    folder.mkdir()
    sources = []
    for index in range(DISTINCT):
        source = folder.with_name(f"{folder.name}-{index}.png")
        source.write_bytes(encode(rng.integers(0, 256, (SIDE, SIDE), np.uint8)))
        sources.append(source)
    sources[-1].write_bytes(b"no image")
    for index in range(count):
        part = folder / f"{index // 10_000:03d}"
        part.mkdir(exist_ok=True)
        os.link(sources[index % DISTINCT], part / f"{index:07d}.png")
    return folder


def rows(path, count):
    """A CSV file of `count` rows, every hundredth broken."""
    from serving_cases import FEATURES

    rng = np.random.default_rng(0)
    path = path.with_suffix(".csv")
    with path.open("w") as file:
        for index in range(count):
            cells = rng.normal(size=FEATURES) if (index + 1) % DISTINCT else ["no number"] * FEATURES
            file.write(",".join(map(str, cells)) + "\n")
    return path


# A process starts with the peak of the one it was made from: a small one stands in between.
LAUNCHER = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024, sum(usage[:2])]))
"""


def score(model, source, out, count):
    """Runs one job; peak memory in MiB and seconds of processor time."""
    job = [sys.executable, "-m", "agad_tf.cli", "score", str(model), str(source), "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *job], cwd=ROOT, capture_output=True, check=True)
    status, peak, seconds = json.loads(done.stdout)
    with out.open(newline="") as file:
        errors = [bool(row["error"]) for row in csv.DictReader(file)]
    assert (status, len(errors), sum(errors)) == (3, count, count // DISTINCT), (status, len(errors))
    return {"peak_mib": round(peak, 1), "processor_seconds": round(seconds, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs=2, default=[5_000, 100_000], metavar=("FEW", "MANY"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    from serving_cases import exports, tflite

    jobs = {
        "images, SavedModel": (exports()["parts"], images),
        "images, TFLite": (tflite(), images),
        "table rows, SavedModel": (exports()["rows"], rows),
    }
    results = {}
    for name, (model, make) in jobs.items():
        with tempfile.TemporaryDirectory() as folder:
            few, many = (
                score(model, make(Path(folder, str(count)), count), Path(folder, f"{count}.out"), count)
                for count in given.counts
            )
        results[name] = {str(count): job for count, job in zip(given.counts, (few, many), strict=True)}
        results[name]["ratio"] = round(many["peak_mib"] / few["peak_mib"], 3)
        print(name, results[name], flush=True)
    if given.out is not None:
        content = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "tensorflow": importlib.metadata.version("tensorflow"),
            "image": [SIDE, SIDE, 1],
            "jobs": results,
        }
        given.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
