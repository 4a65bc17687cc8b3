"""The doors of `malformed_matrix` by which something saved comes in: runs, shards, exports, .keras files."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
from malformed_matrix import Case, artefact, change_leaf
from run_cases import untrained_run
from serving_cases import detector, exports, tflite

from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.edge_metadata import METADATA_NAME
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.export.onnx import export_onnx
from agad_tf.scoring.detectors import open_detector
from agad_tf.training.open import evaluation_data, load_run

PIXELS = np.random.default_rng(5).integers(0, 256, (6, 8, 8, 1), np.uint8)


def asked(path: Path) -> np.ndarray:
    """Scores, p-values and decisions that a saved detector gives fixed images."""
    given, names = open_detector(path, threads=1).score(list(PIXELS)), ("score", "p_value", "is_anomaly")
    return np.concatenate([np.asarray(given[name], np.float64) for name in names if name in given])


def listed(path: Path, left: tuple[str, ...] = ()) -> list[str]:
    """Names of the files in a folder, but for these, and hidden ones."""
    files = [file for file in path.rglob("*") if file.is_file() and file.name not in left]
    return sorted(str(file.relative_to(path)) for file in files if not file.name.startswith("."))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def saved_model(rng, folder: Path) -> dict:
    """A SavedModel export: graph, variables, card, checksums."""
    good = folder / "good"
    shutil.copytree(exports()["parts"] / "1", good)
    # What is for people alone, and what TensorFlow writes and does not read:
    left = ("model_card.md", "fingerprint.pb")
    return artefact(good, asked, lambda path: listed(path, left), _made(folder / "work"))


def tflite_files(rng, folder: Path) -> dict:
    """A .tflite export: graph and metadata in one file."""
    good = Path(shutil.copy(tflite(), folder / "good.tflite"))
    with zipfile.ZipFile(good) as archive:
        about = archive.read(METADATA_NAME)
    graph, right = good.read_bytes()[: json.loads(about)["graph"]["bytes"]], asked(good)

    def metadata(values):
        """Metadata that are whole JSON and say something impossible."""

        def make(rng):
            content = json.loads(about)
            said = change_leaf(rng, content, values)
            path = folder / "changed.tflite"
            with open(path, "wb") as stream:
                stream.write(graph)
                stream.flush()
                with zipfile.ZipFile(stream, "a") as archive:
                    archive.writestr(METADATA_NAME, json.dumps(content))
            return Case(said, lambda: asked(path), right, free=True)

        return make

    return artefact(good, asked, lambda path: [""], _made(folder / "work")) | {
        "wrong range": metadata((-1, 0, 10**30, -1e300, 2**31, "text", None, [], {}, True)),
        "NaN and infinity": metadata((float("nan"), float("inf"), float("-inf"))),
    }


def onnx_files(rng, folder: Path) -> dict:
    """An .onnx export, with its card and calibration inside."""
    model, calibration = detector()
    good = export_onnx(model, folder / "good.onnx", calibration)
    return artefact(good, asked, lambda path: [""], _made(folder / "work"))


def keras_files(rng, folder: Path) -> dict:
    """A .keras file."""
    good = folder / "good.keras"
    detector()[0].save(good)
    return artefact(good, asked, lambda path: [""], _made(folder / "work"))


def run_folders(rng, folder: Path) -> dict:
    """A run: its detector, threshold and split, as `score` and `evaluate` read them."""
    run = untrained_run(folder / "good", normal_classes="8")
    normals = load_samples("digits").x[run.split.train_normal]
    calibrate(run.model.predict(normals, verbose=0), rate=0.2).save(run.path / "calibration.json")

    def used(path):
        samples, split = evaluation_data(load_run(path), None)
        return np.concatenate([asked(path), split.labelled("test")[0], samples.x.shape])

    return artefact(run.path, used, listed, _made(folder / "work"))


def shards(rng, folder: Path) -> dict:
    """Prepared shards: manifest, index, records."""
    np.savez(folder / "set.npz", x=np.repeat(PIXELS, 4, axis=0), y=["normal", "bad"] * 12)
    prepare(folder / "set.npz", folder / "good", progress=False)

    def used(path):
        samples = load_samples(path)
        x = np.asarray(samples.x, np.float64)
        return np.concatenate([x.reshape(len(x), -1).sum(1), samples.classes])

    return artefact(folder / "good", used, listed, _made(folder / "work"))


SAVED = {
    "run folders": run_folders,
    "shards and manifests": shards,
    "exports, SavedModel": saved_model,
    "exports, TFLite": tflite_files,
    "exports, ONNX": onnx_files,
    ".keras files": keras_files,
}
