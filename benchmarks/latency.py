"""Time to score on one thread: every export of AGAD's nets, and PyTorch eager of the same nets, in one run.

    python benchmarks/latency.py --torch PYTHON --out benchmarks/results/latency.json \\
        --page docs/results/exports.md

PYTHON is an interpreter that has PyTorch, which is no dependency here (default: this one). Detectors with
their first weights, which time does not depend on, score 32×32 grey images, one and 256 at once. Each round
measures every runtime in turn, PyTorch too; `ratio` is the median over the rounds of PyTorch's time to this
one's. Processor time, because the machine may be shared: on one thread it is the latency of an idle machine.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pages import with_table

from agad_tf.export.parity import processor_name
from study.runner import one_thread

BACKBONES = ("encoder_decoder", "unet_plus_plus")
SIDE, MANY = 32, 256
REPEATS = {1: 20, MANY: 1}
PACKAGES = ("tensorflow", "ai-edge-litert", "onnxruntime", "openvino")


def detector(backbone: str, images: np.ndarray):
    """AGAD with its first weights, ready to score."""
    import keras

    from agad_tf import AGAD

    keras.utils.set_random_seed(0)
    model = AGAD((SIDE, SIDE, 1), backbone=backbone, score="reconstruction")
    model.compile()
    model.prepare_scoring(images[:64])
    return model


def runtimes(model, folder: Path, images: np.ndarray) -> dict:
    """Name to a function that scores the first n of the images."""
    import onnxruntime
    import openvino
    import tensorflow as tf

    from agad_tf.edge import EdgeModel
    from agad_tf.export.onnx import export_onnx
    from agad_tf.export.saved_model import export_saved_model
    from agad_tf.export.tflite import PRECISIONS, export_tflite

    x = np.asarray(model.preprocess(tf.constant(images)))
    path = export_saved_model(model, folder / "saved_model")
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["score_float"]
    parts = {n: tf.constant(x[:n]) for n in REPEATS}
    found = {"SavedModel, TensorFlow": lambda n, keep=loaded: serve(images=parts[n])["score"].numpy()}

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    found["SavedModel, OpenVINO"] = lambda n: compiled({"images": images[:n]})["score"]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    file = str(export_onnx(model, folder / "model.onnx"))
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    found["ONNX Runtime"] = lambda n: session.run(["score"], {"images": images[:n]})[0]

    for precision in PRECISIONS:
        runner = EdgeModel(export_tflite(model, folder / f"{precision}.tflite", precision, images[:64]))
        found[f"TFLite {precision}"] = lambda n, runner=runner: runner.score_preprocessed(x[:n])
    return found


class Torch:
    """PyTorch in a process of its own, asked over a pipe."""

    def __init__(self, python: str, model, backbone: str, folder: Path, images: np.ndarray):
        x = np.asarray(model.preprocess(images))
        np.savez(folder / "weights.npz", images=x, **torch_weights(model))
        command = [python, Path(__file__).with_name("torch_latency.py"), folder / "weights.npz", backbone]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = json.loads(self.process.stdout.readline())
        expected = model.predict(images[:16], verbose=0)
        np.testing.assert_allclose(self.about.pop("scores"), expected, rtol=1e-4)  # it is the same net

    def seconds(self, batch: int, repeats: int) -> tuple[float, float]:
        """Wall and processor seconds of the fastest of some calls."""
        self.process.stdin.write(f"{batch} {repeats}\n")
        self.process.stdin.flush()
        return tuple(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)


def torch_weights(model) -> dict[str, np.ndarray]:
    """Weights and batch-norm statistics in the order of the layers, as torch_latency.py takes them."""
    stored = {"weight": model.generator.trainable_variables}
    for kind in ("mean", "variance"):
        stored[kind] = [w[0] for w in model.scoring_generator.weights if w.name == f"moving_{kind}"]
    return {f"{k}_{index}": np.asarray(v) for k, values in stored.items() for index, v in enumerate(values)}


def seconds(function, batch: int, repeats: int) -> tuple[float, float]:
    """Wall and processor seconds of the fastest of some calls."""
    wall, processor = [], []
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        function(batch)
        wall.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    return min(wall), min(processor)


def measure(backbone: str, python: str, rounds: int, images: np.ndarray) -> tuple[list[dict], dict]:
    """A record of each runtime and batch."""
    records = []
    with tempfile.TemporaryDirectory() as folder:
        model = detector(backbone, images)
        torch = Torch(python, model, backbone, Path(folder), images)
        functions = runtimes(model, Path(folder), images)
        timers = {name: lambda n, r, f=f: seconds(f, n, r) for name, f in functions.items()}
        timers["PyTorch eager"] = torch.seconds
        for batch, repeats in REPEATS.items():
            taken = {name: [] for name in timers}
            for timer in timers.values():
                timer(batch, 1)  # warm
            for _ in range(rounds):
                for name, timer in timers.items():
                    taken[name].append(timer(batch, repeats))
            for name, times in taken.items():
                ratios = [t[1] / o[1] for t, o in zip(taken["PyTorch eager"], times, strict=True)]
                records.append(
                    {
                        "backbone": backbone,
                        "batch": batch,
                        "runtime": name,
                        "processor_ms": round(1000 * min(t[1] for t in times), 3),
                        "wall_ms": round(1000 * min(t[0] for t in times), 3),
                        "ratio": round(statistics.median(ratios), 3),
                    }
                )
                print(records[-1], flush=True)
        torch.close()
    return records, torch.about


def table(records: list[dict]) -> str:
    """All records in Markdown: a line a runtime."""
    columns = [(backbone, batch) for backbone in BACKBONES for batch in REPEATS]
    heads = [f"{backbone}, {batch} image{'s' * (batch > 1)}" for backbone, batch in columns]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for name in dict.fromkeys(record["runtime"] for record in records):
        cells = []
        for column in columns:
            (found,) = (r for r in records if (r["backbone"], r["batch"]) == column and r["runtime"] == name)
            cells.append(f"{found['processor_ms']:.2f} ms ({found['ratio']:.1f}×)")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints every runtime."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path, help="page whose table is replaced")
    given = parser.parse_args()
    one_thread()
    images = np.random.default_rng(0).integers(0, 256, (MANY, SIDE, SIDE, 1), np.uint8)
    load = os.getloadavg()[0]
    records, nets = [], {}
    for backbone in BACKBONES:
        found, nets[backbone] = measure(backbone, given.torch, given.rounds, images)
        records += found
    content = {
        "processor": processor_name(),
        "machine": platform.machine(),
        "versions": {package: version(package) for package in PACKAGES},
        "pytorch": nets,
        "image": [SIDE, SIDE, 1],
        "rounds": given.rounds,
        "load_before": round(load, 1),
        "records": records,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(content, indent=2) + "\n")
    if given.page is not None:
        given.page.write_text(with_table(given.page.read_text(), "latency", table(records)))


if __name__ == "__main__":
    main()
