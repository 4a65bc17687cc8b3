"""Exports of trained detectors in every format against the detectors themselves, on real data.

    python benchmarks/export_parity.py --mnist mnist.npz --table satellite.npz --work DIR \
        --out benchmarks/results/export_parity.json --page docs/results/exports.md

Each detector of `DETECTORS` is trained (once: a run in the work folder is taken as it is), exported in every
format as by `agad-tf export`, and scored by another runtime each time: TensorFlow, OpenVINO, ONNX
Runtime, and `agad_tf.edge` with ai-edge-litert. Data are development problems alone: MNIST 5 from the
official training part, and training and validation rows of a table. Trainings are short: what is shown is
that exports score as their models do.
"""

import argparse
import json
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pages import with_table

from study.runner import one_thread

NORMALS, ANOMALIES = 1000, 1000
AGAD = {"gamma": 0.05, "image_size": 32, "batch_size": 64, "min_anomalies": 8}
DETECTORS = {
    "AGAD, encoder_decoder": ("agad", AGAD | {"backbone": "encoder_decoder", "epochs": 5}),
    "AGAD, unet": ("agad", AGAD | {"backbone": "unet", "epochs": 2}),
    "AGAD, unet_plus_plus": ("agad", AGAD | {"backbone": "unet_plus_plus", "epochs": 1}),
    "AA-BiGAN, images": ("aa_bigan", {"gamma": 0.05, "image_size": 32, "epochs": 30}),
    "AA-BiGAN, table": ("aa_bigan", {"gamma": 0.01, "epochs": 100}),
}
"""Name to the detector and what differs from the defaults of `agad-tf train`."""

FORMATS = [
    ("savedmodel", "float32", "TensorFlow"),
    ("onnx", "float32", "ONNX Runtime"),
    ("tflite", "float32", "LiteRT"),
    ("tflite", "float16", "LiteRT"),
    ("tflite", "int8", "LiteRT"),
]
PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert", "tf2onnx", "onnxruntime", "openvino")


def development_images(source: Path, path: Path) -> None:
    """MNIST 5 and as many of the other digits, from the official training part."""
    with np.load(source) as archive:
        x, y = archive["x_train"], archive["y_train"]
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [
            rng.permutation(np.flatnonzero(y == 5))[:NORMALS],
            rng.permutation(np.flatnonzero(y != 5))[:ANOMALIES],
        ]
    )
    np.savez_compressed(path, x=x[rows], y=y[rows])


def development_rows(source: Path, path: Path) -> None:
    """A table without the test rows of the first development seed."""
    from agad_tf.data.sources.load import load_samples
    from agad_tf.data.splits.protocols import one_class_split
    from study.training import FIRST_DEVELOPMENT_SEED, PROTOCOL

    samples = load_samples(source)
    split = one_class_split(samples, **PROTOCOL, seed=FIRST_DEVELOPMENT_SEED)
    rows = np.setdiff1d(np.arange(len(samples.x)), np.concatenate([split.test_normal, split.test_anomaly]))
    np.savez_compressed(path, X=np.asarray(samples.x)[rows], y=(samples.classes[rows] != 0).astype(np.int8))


def trained(name: str, mnist: Path, table: Path, work: Path):
    """The finished run of a detector, trained where there is none yet."""
    from agad_tf.training.configuration import configure
    from agad_tf.training.open import load_run
    from agad_tf.training.train import train

    detector, settings = DETECTORS[name]
    rows = name.endswith("table")
    source = work / ("rows.npz" if rows else "images.npz")
    if not source.exists():
        (development_rows if rows else development_images)(table if rows else mnist, source)
    path = work / "runs" / name.replace(", ", "-").replace(" ", "_")
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        given = {"source": str(source), "normal_classes": [0 if rows else 5], **settings}
        configuration = configure(detector, settings=list(given.items()))
        train(configuration, path, progress=False, resume=path.with_name(path.name + ".partial").exists())
    return load_run(path)


def compared(run, work: Path, format: str, precision: str) -> tuple[dict, Path]:
    """The parity report of one export, and where it is; written even if it ranks worse."""
    from agad_tf.export.from_run import export_run

    folder = work / "exports" / f"{run.path.name}-{format}-{precision}"
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run of this command
    path, report = export_run(run, folder, format, precision, force=True)
    return report, path


def openvino_score(path: Path):
    """Samples to the scores that OpenVINO computes with a SavedModel, on one thread."""
    import openvino

    core = openvino.Core()
    # It would compute in bfloat16 where the processor has it.
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    (given,) = compiled.inputs

    def score(samples: np.ndarray) -> np.ndarray:
        samples = samples.astype(np.float32) if samples.ndim == 2 else samples
        parts = [samples[start : start + 256] for start in range(0, len(samples), 256)]
        return np.concatenate([compiled({given.any_name: part})["score"] for part in parts])

    return score


def records_of(name: str, run, work: Path) -> list[dict]:
    """A record of each format, and of OpenVINO on the SavedModel; what an earlier call made is kept."""
    from agad_tf.export import parity
    from agad_tf.export.from_run import parity_samples
    from agad_tf.training.open import evaluation_data

    kept = work / "records" / f"{run.path.name}.json"
    kept.parent.mkdir(exist_ok=True)
    records = json.loads(kept.read_text()) if kept.exists() else {}
    about = {
        "detector": name,
        "score": run.model.score,
        "epochs": run.metrics["epochs"],
        "trained_on": run.metrics["split"],
    }
    for format, precision, runtime in FORMATS:
        if f"{format} {precision}" in records:
            continue
        report, path = compared(run, work, format, precision)
        found = {f"{format} {precision}": about | {"runtime": runtime} | report}
        if format == "savedmodel":
            score = openvino_score(path)
            x, labels = parity_samples(*evaluation_data(run, None))
            again = parity.compare(run.model.predict(x, verbose=0), score(x), labels)
            again["latency"] = parity.latency(lambda: score(x[:1]), 1)  # noqa: B023 - called at once
            found["savedmodel OpenVINO"] = about | report | {"runtime": "OpenVINO"} | again
        records |= found
        kept.write_text(json.dumps(records))
        for record in found.values():
            print(row(record), flush=True)
    return list(records.values())


def row(record: dict) -> str:
    """A line of the table in Markdown."""
    spearman = record["spearman"]
    cells = [
        record["detector"],
        record["format"] if record["format"] != "tflite" else f"tflite {record['precision']}",
        record["runtime"],
        f"{record['agreement']:.1e}",
        f"{record['difference_median']:.1e}",
        "" if spearman is None else f"{spearman:.5f}",
        f"{100 * record['auroc_before']:.2f}",
        f"{100 * record['auroc_after']:.2f}",
        f"{record['decisions_changed']:.2%}",
        f"{record['size_bytes'] / 1e6:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def table(records: list[dict]) -> str:
    """All records in Markdown."""
    head = (
        "| detector | export | runtime | largest difference | median difference | Spearman | AUROC before "
        "| AUROC after | decisions changed | MB |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *map(row, records)])


def main() -> None:
    """Trains, exports, compares; writes the results and the table of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, required=True, help="mnist.npz as of keras.datasets")
    parser.add_argument("--table", type=Path, required=True, help="satellite.npz with X and y")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and exports")
    parser.add_argument("--only", nargs="*", default=list(DETECTORS), help="names of detectors")
    parser.add_argument("--samples", type=int, default=600, help="test samples of each detector")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path, help="page whose table is replaced")
    given = parser.parse_args()
    one_thread()
    from agad_tf.export import from_run

    from_run.PARITY_SAMPLES = given.samples
    given.work.mkdir(exist_ok=True)
    records = []
    for name in given.only:
        records += records_of(name, trained(name, given.mnist, given.table, given.work), given.work)
    content = {
        "machine": f"{platform.machine()}, CPU only",
        "versions": {package: version(package) for package in PACKAGES},
        "records": records,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(content, indent=2) + "\n")
    if given.page is not None:
        given.page.write_text(with_table(given.page.read_text(), "parity", table(records)))


if __name__ == "__main__":
    main()
