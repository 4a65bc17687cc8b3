"""A run: from data to a trained, evaluated detector in one directory."""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import yaml

from agad_tf.data import validation
from agad_tf.data.protocols import one_class_split, whole_as_test
from agad_tf.data.sources import Samples
from agad_tf.data.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation import heatmaps, metrics, thresholds
from agad_tf.models import AnomalyDetector
from agad_tf.networks.encoder_decoder import EncoderDecoder
from agad_tf.training import loading
from agad_tf.training.callbacks import ProgressBar
from agad_tf.training.configuration import (
    DETECTORS,
    PRECISIONS,
    Configuration,
    calibration_defaults,
    configure,
)
from agad_tf.training.localisation import pixel_report
from agad_tf.training.reporting import report_run
from agad_tf.training.tensorboard import TensorBoardReport, tensorboard_installed

logger = logging.getLogger("agad_tf")

LARGEST_DEFAULT_SIDE = 128
"""Larger images are resized to it unless an image size is given; the AGAD paper's size for medical images."""


@dataclass(frozen=True)
class Run:
    """What a finished run directory holds."""

    path: Path
    model: AnomalyDetector
    configuration: Configuration
    split: Split
    metrics: dict
    calibration: thresholds.Calibration | None


def train(configuration: Configuration, path: str | Path, progress: bool = True) -> dict:
    """Loads data, splits, trains, evaluates on the test part and writes the run directory.

    Args:
        configuration: from `configure`; `data.source` must be set.
        path: the run directory; must not exist. It is called `path`.partial until it is whole.
        progress: show a progress bar on standard error.

    Returns:
        The metrics, as written to `metrics.json`.

    Raises:
        InputError: data, settings or a path that cannot be used; nothing is left behind.
    """
    path = Path(path)
    _check_free(path)
    samples, split = load_split(configuration)
    if samples.x.ndim == 2:
        raise InputError(
            f"{samples.name}: the detector {configuration['detector']} expects images, received a table of "
            f"{samples.x.shape[1]} columns: give a folder or an .npz of images"
        )
    settings = configuration["calibration"]
    problem = calibration_problem(split, settings)
    if problem is not None and settings != calibration_defaults():
        raise problem  # asked for, and not to be had: better known before training than after
    data = validation.validate(samples, split)
    if progress:
        print(validation.table(data), file=sys.stderr)
    # Before networks are built: a seed fixes their first weights.
    keras.utils.set_random_seed(configuration["fit"]["seed"])
    model = build(configuration, samples)
    with run_directory(path) as partial:
        (partial / "config.yaml").write_text(yaml.safe_dump(_plain(configuration), sort_keys=False))
        split.save(partial / "split.npz")
        _write_json(partial / "data.json", data)
        started = time.perf_counter()
        history = fit(model, configuration, samples, split, partial / "tensorboard", progress)
        seconds = time.perf_counter() - started
        _check_alive(model, samples.x[split.train_normal[:1]])
        model.save(partial / "model.keras")
        calibration = None if problem else calibrate(model, samples, split, settings)
        if calibration is not None:
            calibration.save(partial / "calibration.json")
        scores, report = evaluate_split(model, samples, split, calibration)
        report |= {
            "selection": "last",
            "seed": configuration["fit"]["seed"],
            "seconds_training": round(seconds, 2),
            "epochs": configuration["fit"]["epochs"],
            "jit_compile": bool(model.jit_compile),
            "split_sha256": split.sha256,
            "split": split.summary(),
        }
        _write_json(partial / "history.json", history)
        _write_json(partial / "metrics.json", report)
        write_pictures(model, samples, split, partial / "reconstructions.png", calibration)
        report_run(
            partial / "report.html",
            path.name,
            model,
            samples,
            split,
            scores,
            report,
            calibration,
            configuration,
        )
    return report


def load_run(path: str | Path) -> Run:
    """Reads a finished run directory.

    Raises:
        InputError: no such run, or an unfinished or damaged one.
    """
    path = Path(path)
    if not path.is_dir():
        partial = path.with_name(path.name + ".partial")
        hint = f"it is unfinished ({partial} exists)" if partial.is_dir() else "there is no such folder"
        raise InputError(f"{path}: expected a run directory, but {hint}: train one with `agad-tf train`")
    missing = [name for name in ("config.yaml", "model.keras", "metrics.json") if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path}: expected a run directory, but {', '.join(missing)} is missing: train again"
        )
    configuration = configure(file=path / "config.yaml")
    try:
        model = keras.saving.load_model(path / "model.keras")
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path / 'model.keras'}: expected a saved detector, received {reason}") from error
    calibration = path / "calibration.json"
    return Run(
        path,
        model,
        configuration,
        Split.load(path / "split.npz"),
        json.loads((path / "metrics.json").read_text()),
        thresholds.Calibration.load(calibration) if calibration.is_file() else None,
    )


def load_split(configuration: Configuration) -> tuple[Samples, Split]:
    """The samples of a configuration and the split drawn from them."""
    data = configuration["data"]
    if data["source"] is None:
        raise InputError(
            "expected data to train on, received none: give --data (a folder, an .npz, or digits)"
        )
    samples = loading.load(
        **data,
        crop=configuration["model"].get("crop", "stretch"),
        normal_classes=configuration["split"]["normal_classes"],
    )
    split = one_class_split(samples, **configuration["split"])
    if not len(split.train_normal):
        raise InputError("expected normal samples to train on, received none: check --normal-class")
    return samples, split


def evaluation_data(run: Run, source: str | None, normal_classes=()) -> tuple[Samples, Split]:
    """The test part of a run, or all of another labelled source as one test part.

    Raises:
        InputError: the run's data are gone or have changed, or the other source lacks one of the labels.
    """
    if source is None:
        samples, split = load_split(run.configuration)
        if split.sha256 != run.split.sha256:
            raise InputError(
                f"{run.configuration['data']['source']}: expected the data the run was trained on, received "
                "data that split differently: put them back or name others with --data"
            )
        return samples, split
    height, width, channels = run.model.sample_shape
    crop = run.configuration["model"].get("crop", "stretch")
    samples = loading.load(source, channels=channels, image_size=(height, width), crop=crop)
    return samples, whole_as_test(samples, normal_classes or run.configuration["split"]["normal_classes"])


def build(configuration: Configuration, samples: Samples) -> AnomalyDetector:
    """An untrained, compiled detector that fits the samples."""
    model = dict(configuration["model"])
    if model["dtype"] not in PRECISIONS:
        raise InputError(f"precision expects one of {', '.join(PRECISIONS)}, received {model['dtype']!r}")
    size = configuration["data"]["image_size"]
    if size is None:
        size = default_image_size(samples.x.shape[1:3], model.get("backbone"))
    size = (size, size) if isinstance(size, int) else tuple(size)
    configuration["data"]["image_size"] = list(size)
    detector = DETECTORS[configuration["detector"]]((*size, samples.x.shape[-1]), **model)
    detector.compile(**configuration["compile"])
    return detector


def default_image_size(stored: tuple[int, int], backbone: str | None) -> tuple[int, int]:
    """The smallest size from 32 up that the backbone takes and that loses no pixel, at most 128."""
    if backbone == "encoder_decoder":
        side = min([s for s in EncoderDecoder.sides if s >= max(32, *stored)] or [LARGEST_DEFAULT_SIDE])
        side = min(side, LARGEST_DEFAULT_SIDE)
        return side, side
    return tuple(min(max(32, -(-side // 16) * 16), LARGEST_DEFAULT_SIDE) for side in stored)


def fit(
    model, configuration, samples, split, log_dir: Path | None, progress: bool, callbacks=()
) -> dict[str, list[float]]:
    """Trains on the split's training part; returns the logs of each epoch.

    Args:
        model: from `build`.
        configuration: of the run.
        samples, split: from `load_split`.
        log_dir: for TensorBoard, or None.
        progress: show a progress bar.
        callbacks: further ones.
    """
    train_rows = np.concatenate([split.train_normal, split.train_anomaly])
    labels = np.repeat([0, 1], [len(split.train_normal), len(split.train_anomaly)])
    held_out = np.concatenate([split.validation_normal, split.validation_anomaly])
    held_out_labels = np.repeat([0, 1], [len(split.validation_normal), len(split.validation_anomaly)])
    labelled = (samples.x[held_out], held_out_labels) if len(held_out) else None
    callbacks = [ProgressBar(disable=not progress), *callbacks]
    if log_dir is not None and tensorboard_installed():
        callbacks.append(TensorBoardReport(log_dir, labelled))
    elif log_dir is not None:
        logger.warning("no TensorBoard events: the package is missing (pip install agad-tf[tensorboard])")
    history = model.fit(
        samples.x[train_rows],
        labels,
        **configuration["fit"],
        validation_data=labelled,
        callbacks=callbacks,
        verbose=0,
    )
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def calibration_problem(split: Split, settings: dict) -> InputError | None:
    """Why the held-out samples of a split allow no such calibration; None where they do."""
    try:
        if not len(split.validation_normal):
            raise InputError("a threshold needs held-out normals, received none")
        # Made-up scores: only their number decides.
        stand_ins = np.arange(len(split.validation_normal)), np.arange(len(split.validation_anomaly))
        thresholds.calibrate(*stand_ins, **settings)
    except InputError as error:
        counts = f"{len(split.validation_normal)} normals and {len(split.validation_anomaly)} anomalies"
        return InputError(f"{error} (held out are {counts}; --set validation=0.2 holds out a fifth)")
    return None


def calibrate(model, samples: Samples, split: Split, settings: dict) -> thresholds.Calibration:
    """The threshold that the settings ask for, from the held-out samples of the split."""
    normal_scores, anomaly_scores = (
        model.predict(samples.x[rows], verbose=0) if len(rows) else None
        for rows in (split.validation_normal, split.validation_anomaly)
    )
    return thresholds.calibrate(
        normal_scores,
        anomaly_scores,
        **settings,
        score=model.score,
        split="held-out normals of the training part",
    )


def evaluate_split(model, samples, split, calibration=None) -> tuple[np.ndarray, dict]:
    """Scores of the test part in inference mode; their metrics, and those of the error maps with masks."""
    rows = np.concatenate([split.test_normal, split.test_anomaly])
    labels = np.repeat([0, 1], [len(split.test_normal), len(split.test_anomaly)])
    scores = model.predict(samples.x[rows], verbose=0)
    report = metrics.summarise(labels, scores, samples.classes[rows], split.known_classes)
    report |= {"score": model.score, "bn_mode": "inference"}
    if calibration is not None:
        alarms = calibration.is_anomaly(scores)
        report["threshold"] = calibration.threshold
        report["false_alarm_rate"] = float(alarms[labels == 0].mean())
        report["recall"] = float(alarms[labels == 1].mean())
    return scores, report | pixel_report(model, samples, split)


def write_pictures(model, samples, split, path: Path, calibration=None, columns: int = 8) -> None:
    """`reconstructions.png`: input, reconstruction, error map; normals above, anomalies below."""
    rng = np.random.default_rng(0)
    kinds = [rng.permutation(rows)[:columns] for rows in (split.test_normal, split.test_anomaly)]
    rows = np.concatenate(kinds)
    labels = np.repeat([0, 1], [len(kind) for kind in kinds])
    x = np.asarray(samples.x[rows])
    reconstruction, error_map = model.explain(x)
    heatmaps.reconstruction_grid(
        np.asarray(model.preprocess(x)),
        np.asarray(reconstruction),
        np.asarray(error_map),
        labels,
        model.predict(x, verbose=0),
        path=path,
        threshold=None if calibration is None else calibration.threshold,
    )


@contextmanager
def run_directory(path: Path) -> Iterator[Path]:
    """A directory that is called `path`.partial until its block ends well; after bad input it is removed."""
    partial = _check_free(path)
    partial.mkdir(parents=True)
    try:
        yield partial
    except InputError:
        shutil.rmtree(partial)
        raise
    os.replace(partial, path)


def _check_free(path: Path) -> Path:
    partial = path.with_name(path.name + ".partial")
    for taken, meaning in ((path, "a finished run"), (partial, "an unfinished run")):
        if taken.exists():
            raise InputError(
                f"{taken}: expected a free name, found {meaning}: choose another --out or remove it"
            )
    return partial


def _check_alive(model, x) -> None:
    if not np.isfinite(model.predict(x, verbose=0)).all():
        raise InputError(
            "expected finite scores after training, received NaN: training collapsed; lower the learning "
            "rate, or train without --literal"
        )


def _write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _plain(configuration: Configuration) -> Configuration:
    """The configuration in types that YAML writes without tags."""
    return json.loads(json.dumps(configuration, default=str))
