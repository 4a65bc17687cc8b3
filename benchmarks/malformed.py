"""Thousands of malformed files, requests and tables against everything that scores.

    python benchmarks/malformed.py --count 10000 --out benchmarks/results/malformed.json

The cases and the checks are those of tests/repo/test_malformed.py, which runs a few hundred of them; here
`agad-tf score` runs as a program of its own, whose end and whose standard error are looked at too. Exit
status 1 if anything was lost, scored wrongly, scored though it cannot be, or refused though it is good.
"""

import argparse
import importlib.metadata
import inspect
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

PACKAGES = ("tensorflow", "numpy", "pillow", "grpcio", "requests", "ai-edge-litert")


def program(arguments, stdin=b""):
    """`agad-tf` as a process: (status, standard output, standard error)."""
    command = [sys.executable, "-m", "agad_tf.cli", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT)
    text = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
    return done.returncode, *text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    from malformed_checks import TARGETS

    results, failures = {}, []
    for name, (check, share) in TARGETS.items():
        count = round(given.count * share)
        runs = {"run": program} if "run" in inspect.signature(check).parameters else {}
        with tempfile.TemporaryDirectory() as folder:
            wrong = check(count, given.seed, Path(folder), **runs)
        results[name] = {"cases": count, "wrong": len(wrong)}
        failures += [f"{name}: {line}" for line in wrong]
        print(f"{name}: {count} cases, {len(wrong)} wrong", flush=True)
    print("\n".join(failures[:50]))
    if given.out is not None:
        versions = {package: importlib.metadata.version(package) for package in PACKAGES}
        content = {
            "count": sum(result["cases"] for result in results.values()),
            "wrong": len(failures),
            "seed": given.seed,
            "python": sys.version.split()[0],
            "versions": versions,
            "targets": results,
            "failures": failures[:50],
        }
        given.out.write_text(json.dumps(content, indent=2) + "\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
