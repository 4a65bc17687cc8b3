"""Peak memory over small inputs that claim to be huge, beside the same job without them.

    python benchmarks/bombs.py --out benchmarks/results/bombs.json

A PNG of 130 kilobytes that holds 13000 x 13000 RGBA pixels, an .npz whose array claims 8 TB, an answer of a
server that unpacks to 1 GB. Each job is a process of its own; its peak resident memory is what the operating
system says at its end. Every bomb must be refused in one line.
"""

import argparse
import datetime
import gzip
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "data"), str(ROOT)]

import numpy as np  # noqa: E402
from input_pipeline import machine  # noqa: E402
from score_memory import LAUNCHER  # noqa: E402

SIDE = 13_000

SAVED_MODEL = """
import sys, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
for path in sys.argv[2:]:
    try:
        model.signatures["score_encoded"](image_bytes=tf.constant([open(path, "rb").read()]))
    except tf.errors.InvalidArgumentError:
        sys.exit(3)
"""
SAMPLES = """
import sys, agad_tf
try:
    agad_tf.load_samples(sys.argv[1]).x[:]
except agad_tf.InputError:
    sys.exit(3)
"""
CLIENT = """
import sys, numpy as np
from hostile_server import serving, whole
from agad_tf.serving import Client, ServingError
packed = open(sys.argv[1], "rb").read()
def answer(connection, stop):
    head = b"Content-Encoding: gzip\\r\\n" if sys.argv[1].endswith(".gz") else b""
    connection.sendall(whole(packed, head))
with serving(answer) as (url, _), Client(url, "parts", retries=0, timeout=60) as client:
    try:
        client.score(np.zeros((1, 8, 8, 1), np.uint8))
    except ServingError:
        sys.exit(3)
"""


def peak(*command) -> tuple[int, float]:
    """Exit status and peak memory in MiB of a process of its own."""
    environment = {"PYTHONPATH": ":".join([str(ROOT), str(ROOT / "tests" / "support")])}
    code = [sys.executable, "-c", LAUNCHER, *map(str, command)]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, check=True, env=environment)
    status, mib, _ = json.loads(done.stdout)
    return status, mib


def bombs(folder: Path) -> dict:
    """The files, by name: a good one of each kind and the one that claims more."""
    from serving_cases import encode
    from test_decoding import png_of_one_colour

    for name in ("good", "bad"):
        (folder / name / "normal").mkdir(parents=True)
        for index in range(4):
            pixels = np.random.default_rng(index).integers(0, 256, (28, 28), np.uint8)
            (folder / name / "normal" / f"{index}.png").write_bytes(encode(pixels))
    png_of_one_colour(folder / "bad" / "normal" / "bomb.png", SIDE, colour_type=6)
    np.savez(folder / "good.npz", x=np.zeros((8, 4)), y=np.arange(8) % 2)
    with (folder / "x.npy").open("wb") as header:
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
        )
    with zipfile.ZipFile(folder / "bad.npz", "w", zipfile.ZIP_DEFLATED) as bad:
        bad.write(folder / "x.npy", "x.npy")
    (folder / "good.json").write_text('{"outputs": {"score": [1.0]}}')
    with gzip.open(folder / "bad.gz", "wb") as packed:
        packed.write(b'{"outputs": {"score": [1.0]')
        for _ in range(1000):
            packed.write(b" " * 10**6)
        packed.write(b"}}")
    names = ("good", "bad", "good.npz", "bad.npz", "good.json", "bad.gz")
    return {name: folder / name for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    from serving_cases import exports, tflite

    model = exports()["parts"]
    newest = max(path for path in Path(model).iterdir() if path.name.isdigit())
    results, python = {}, sys.executable
    with tempfile.TemporaryDirectory() as folder:
        files = bombs(Path(folder))
        image = (files["good"] / "normal" / "0.png", files["bad"] / "normal" / "bomb.png")
        score = (python, "-m", "agad_tf.cli", "score")
        jobs = {
            "score, SavedModel": [(*score, model, one, "--out", "/dev/null") for one in image],
            "score, TFLite": [(*score, tflite(), one, "--out", "/dev/null") for one in image],
            "score_encoded of a SavedModel": [(python, "-c", SAVED_MODEL, newest, one) for one in image],
            "load_samples, a folder": [(python, "-c", SAMPLES, files[one]) for one in ("good", "bad")],
            "load_samples, .npz": [(python, "-c", SAMPLES, files[one]) for one in ("good.npz", "bad.npz")],
            "client, a packed answer": [
                (python, "-c", CLIENT, files[one]) for one in ("good.json", "bad.gz")
            ],
        }
        for name, (good, bad) in jobs.items():
            (status, usual), (refused, worst) = peak(*good), peak(*bad)
            results[name] = {
                "refused": status == 0 and refused == 3,
                "peak_mib_without": round(usual, 1),
                "peak_mib_with": round(worst, 1),
            }
            print(name, results[name], flush=True)
    if given.out is not None:
        content = {"date": str(datetime.date.today()), "machine": machine(), "jobs": results}
        given.out.write_text(json.dumps(content, indent=2) + "\n")
    sys.exit(not all(job["refused"] for job in results.values()))


if __name__ == "__main__":
    main()
