"""`agad-tf demo`: train, evaluate, export and score from the export, on images that need no download."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from agad_tf.data.sources.load import load_samples
from agad_tf.export import score_saved_model
from agad_tf.export.agreement import FLOAT32, agreement, rounded_size
from agad_tf.export.saved_model import export_saved_model
from agad_tf.training.configuration import configure
from agad_tf.training.open import load_run
from agad_tf.training.train import train


def demo(path: Path, export_folder: Path, settings=(), progress: bool = True) -> dict:
    """Runs the demo on scikit-learn's digits: one digit is normal, 5 % labelled anomalies help.

    Args:
        path: run directory to write.
        export_folder: where the SavedModel's versions go.
        settings: pairs (name, value) over the demo's own.
        progress: show a progress bar.

    Returns:
        The run's metrics with `export`, `export_agreement` (see `agad_tf.export.agreement`) and `agrees`.
    """
    settings = [
        ("source", "digits"),
        ("normal_classes", "8"),
        ("gamma", 0.05),
        ("backbone", "encoder_decoder"),
        ("epochs", 40),
        ("batch_size", 64),
        ("min_anomalies", 8),
        ("validation", 0.2),  # 24 held-out normals: enough to promise at most 5 % false alarms
        *settings,
    ]
    train(configure("agad", settings=settings), path, progress)
    run = load_run(path)
    exported = export_saved_model(run.model, export_folder, run.calibration)
    samples = load_samples("digits")
    images = samples.x[np.concatenate([run.split.test_normal, run.split.test_anomaly])]
    scores = run.model.predict(images, verbose=0)
    difference = agreement(scores, score_in_fresh_process(exported, images), rounded_size(run.model))
    return run.metrics | {
        "run": str(path),
        "pictures": str(path / "reconstructions.png"),
        "export": str(exported),
        "export_agreement": difference,
        "agrees": difference <= FLOAT32,
    }


def score_in_fresh_process(exported: Path, images: np.ndarray) -> np.ndarray:
    """Scores of an export in a process of its own that does not import this library."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "images.npy"), Path(folder, "scores.npy")
        np.save(inputs, images)
        # -I keeps the current folder, and so this library's source tree, off the path.
        command = [sys.executable, "-I", score_saved_model.__file__, exported, inputs, outputs]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"scoring from {exported} failed:\n{result.stderr}")
        return np.load(outputs)
