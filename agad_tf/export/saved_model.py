"""SavedModel export: exactly the networks that the score reads, in float32, with preprocessing inside."""

import os
import shutil
from pathlib import Path

import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import Calibration
from agad_tf.models import AnomalyDetector


def export_saved_model(
    model: AnomalyDetector, folder: str | Path, calibration: Calibration | None = None
) -> Path:
    """Writes the next version under `folder`, as TF Serving expects it: `folder`/1, `folder`/2, ...

    Signatures: `serving_default` (images: uint8, any size) and `score_float` (images: float32 in the model's
    range and size) give `score`; `explain` (images: uint8, any size) gives `reconstruction` and `error_map`
    where the score reads the generator. With a calibration the first two also give `p_value`, `is_anomaly`
    and `threshold`, (batch,) each, as `Calibration` computes them.

    Args:
        model: a trained detector; any precision policy, exported in float32.
        folder: `saved_models/<name>`.
        calibration: the threshold of the day, or None for scores alone.

    Returns:
        Path of the new version. It appears whole or not at all; existing versions are never written over.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder for versions, found a file: choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    module = ScoringModule(float32_twin(model), calibration)
    partial = folder / f".partial-{os.getpid()}"
    try:
        tf.saved_model.save(module, str(partial), signatures=module.signatures())
        return _claim_version(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class ScoringModule(tf.Module):
    """The scoring networks' variables and the functions over them; nothing else is saved."""

    def __init__(self, model: AnomalyDetector, calibration: Calibration | None = None):
        super().__init__()
        # Variables, not networks: what an attribute holds is saved, and a network holds more than it scores.
        self.networks = [
            [variable.value for variable in network.variables]
            for network in model.scoring_networks().values()
        ]
        self.constants = [model.score_means.value, model.score_deviations.value]
        height, width, channels = model.sample_shape

        def verdict(images):
            score = model(images)
            return {"score": score} | ({} if calibration is None else decide(score, calibration))

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, channels), tf.uint8, name="images")])
        def serving_default(images):
            return verdict(images)

        @tf.function(
            input_signature=[tf.TensorSpec((None, height, width, channels), tf.float32, name="images")]
        )
        def score_float(images):
            return verdict(images)

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, channels), tf.uint8, name="images")])
        def explain(images):
            reconstruction, error_map = model.explain(images)
            return {"reconstruction": reconstruction, "error_map": error_map}

        self._functions = {"serving_default": serving_default, "score_float": score_float}
        if "reconstruction" in model.parts_of_score:
            self._functions["explain"] = explain

    def signatures(self):
        """Signature name to function."""
        return dict(self._functions)


def decide(score: tf.Tensor, calibration: Calibration) -> dict[str, tf.Tensor]:
    """p-value, decision and threshold for scores (batch,), in the graph; equal to those of `Calibration`."""
    exact = tf.cast(score, tf.float64)  # as the calibration holds its scores: ties stay ties
    normals = tf.constant(calibration.normal_scores, tf.float64)  # ascending
    at_least = calibration.n_normal - tf.searchsorted(normals, exact, side="left")
    threshold = tf.fill(tf.shape(exact), tf.constant(calibration.threshold, tf.float64))
    return {
        "p_value": tf.cast((1 + at_least) / (calibration.n_normal + 1), tf.float32),
        "is_anomaly": exact > threshold,
        "threshold": tf.cast(threshold, tf.float32),
    }


def float32_twin(model: AnomalyDetector) -> AnomalyDetector:
    """The same detector with float32 computation, whatever precision it was trained in."""
    if model.dtype_policy.name == "float32":
        return model
    config = model.get_config()
    config["dtype"] = "float32"
    twin = type(model).from_config(config)
    for name, network in model.scoring_networks().items():
        getattr(twin, name).set_weights(network.get_weights())
    twin.score_means.assign(model.score_means)
    twin.score_deviations.assign(model.score_deviations)
    twin.scoring_prepared.assign(model.scoring_prepared)
    return twin


def _claim_version(partial: Path, folder: Path) -> Path:
    """Renames to the next free version number; another export may claim one at the same moment."""
    while True:
        versions = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
        version = folder / str(max(versions, default=0) + 1)
        try:
            os.rename(partial, version)  # fails on a folder that is not empty
            return version
        except OSError:
            if not version.exists():
                raise
