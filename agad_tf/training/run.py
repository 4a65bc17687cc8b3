"""A run: from data to a trained, evaluated detector in one directory."""

import hashlib
import json
import logging
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import yaml

from agad_tf.data.sources.load import Samples
from agad_tf.data.splits import inspection as validation
from agad_tf.data.splits.protocols import one_class_split, whole_as_test
from agad_tf.data.splits.split import Split
from agad_tf.errors import CollapsedError, InputError
from agad_tf.evaluation import thresholds
from agad_tf.evaluation.summary import summarise
from agad_tf.files import write_atomically
from agad_tf.models import AnomalyDetector
from agad_tf.replicas import from_chief, is_chief
from agad_tf.training import hardware, loading
from agad_tf.training.callbacks import ProgressBar
from agad_tf.training.checkpoints import Checkpoints
from agad_tf.training.configuration import (
    DETECTORS,
    Configuration,
    calibration_defaults,
    configure,
)
from agad_tf.training.directory import CHECKPOINTS, check_free, partial_of, run_directory, write_json
from agad_tf.training.localisation import check_masks, pixel_report
from agad_tf.training.pictures import write_pictures
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


def train(
    configuration: Configuration, path: str | Path, progress: bool = True, resume: bool = False
) -> dict:
    """Loads data, splits, trains, evaluates on the test part and writes the run directory.

    With several workers (see `hardware.choose_strategy`) each calls this, and the directory is the chief's.

    Args:
        configuration: from `configure`; `data.source` must be set.
        path: the run directory; must not exist. It is called `path`.partial until it is whole.
        progress: show a progress bar on standard error.
        resume: go on from the newest checkpoint in `path`.partial, where there is one; the configuration must
            be the one it was started with.

    Returns:
        The metrics, as written to `metrics.json`.

    Raises:
        InputError: data, settings or a path that cannot be used; before anything was trained nothing is left
            behind that was not there, afterwards `path`.partial is kept.
    """
    path = Path(path)
    check_free(path, resume)
    if configuration["fit"]["epochs"] < 1:
        raise InputError(f"epochs expects at least 1, received {configuration['fit']['epochs']}")
    precision, strategy = hardware.prepare(**configuration["hardware"])
    chief = is_chief(strategy)
    progress = progress and chief
    samples, split = load_split(configuration)
    if samples.x.ndim == 2 and not DETECTORS[configuration["detector"]].takes_tables:
        able = ", ".join(name for name, detector in DETECTORS.items() if detector.takes_tables)
        raise InputError(
            f"{samples.name}: the detector {configuration['detector']} expects images, received a table of "
            f"{samples.x.shape[1]} columns: for tables choose --detector {able}"
        )
    settings = configuration["calibration"]
    problem = calibration_problem(split, settings)
    if problem is not None and settings != calibration_defaults():
        raise problem  # asked for, and not to be had: better known before training than after
    check_masks(samples, split, configuration["model"].get("crop", "stretch"))
    data = validation.validate(samples, split)
    if progress:
        print(validation.table(data), file=sys.stderr)
    # Before networks are built: a seed fixes their first weights.
    keras.utils.set_random_seed(configuration["fit"]["seed"])
    with strategy.scope():
        model = build(configuration, samples)
    with run_directory(path, resume, chief) as partial:
        checkpoints = Checkpoints(
            partial / CHECKPOINTS,
            **configuration["checkpoints"],
            resume=resume,
            identity={"data": data_identity(samples, split)},
        )
        text = yaml.safe_dump(_plain(configuration), sort_keys=False)
        write_atomically(partial / "config.yaml", text.encode())
        split.save(partial / "split.npz")
        write_json(partial / "data.json", data)
        events = partial / "tensorboard" if chief else None
        history = fit(model, configuration, samples, split, events, progress, [checkpoints])
        _check_alive(model, samples.x[split.train_normal[:1]])
        model.save(partial / "model.keras")
        if problem is not None:
            logger.warning("no threshold was chosen: %s", problem)
        calibration = None if problem else calibrate(model, samples, split, settings)
        if calibration is not None:
            calibration.save(partial / "calibration.json")
        scores, report = evaluate_split(model, samples, split, calibration)
        report |= {
            "selection": "last",
            "seed": configuration["fit"]["seed"],
            "seconds_training": round(checkpoints.seconds, 2),
            "epochs": configuration["fit"]["epochs"],
            "precision": precision,
            "jit_compile": bool(model.jit_compile),
            "replicas": strategy.num_replicas_in_sync,
            "split_sha256": split.sha256,
            "split": split.summary(),
        }
        write_json(partial / "history.json", history)
        write_json(partial / "metrics.json", report)
        write_pictures(model, samples, split, partial, calibration)
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
    from_chief(strategy, b"")  # a worker that left early would take the others with it
    return report


def data_identity(samples: Samples, split: Split) -> str:
    """Hash of the split and of the content of its training and validation samples."""
    digest = hashlib.sha256(split.sha256.encode())
    for part in ("train", "validation"):
        digest.update(samples.digests[split.labelled(part)[0]].tobytes())
    return digest.hexdigest()


def load_run(path: str | Path) -> Run:
    """Reads a finished run directory.

    Raises:
        InputError: no such run, or an unfinished or damaged one.
    """
    path = Path(path)
    if not path.is_dir():
        hint = "there is no such folder: train one with `agad-tf train`"
        if partial_of(path).is_dir():
            hint = f"it is unfinished: go on with `agad-tf train --resume {path}`"
        raise InputError(f"{path}: expected a run directory, but {hint}")
    missing = [name for name in ("config.yaml", "model.keras", "metrics.json") if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path}: expected a run directory, but {', '.join(missing)} is missing: train again"
        )
    configuration = configure(file=path / "config.yaml")
    try:
        model = keras.saving.load_model(path / "model.keras")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path / 'model.keras'}: expected a saved detector, received {reason}") from error
    try:
        metrics = json.loads((path / "metrics.json").read_text())
    except ValueError as error:
        raise InputError(
            f"{path / 'metrics.json'}: expected the metrics of a run, received something else ({error}): "
            "train again"
        ) from None
    calibration = path / "calibration.json"
    return Run(
        path,
        model,
        configuration,
        Split.load(path / "split.npz"),
        metrics,
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
        InputError: the run's data are gone or have changed, or the other source is of another kind.
    """
    if source is None:
        samples, split = load_split(run.configuration)
        if split.sha256 != run.split.sha256:
            raise InputError(
                f"{run.configuration['data']['source']}: expected the data the run was trained on, received "
                "data that split differently: put them back or name others with --data"
            )
        return samples, split
    samples = load_for(run, source)
    return samples, whole_as_test(samples, normal_classes or normal_classes_of(samples, run))


def normal_classes_of(samples: Samples, run: Run) -> tuple[int, ...]:
    """Which classes of another source are normal: what it says itself, else those named as in the run.

    Raises:
        InputError: the source does not say, and has no class of such a name.
    """
    if samples.normal_classes is not None:
        return samples.normal_classes
    about = run.split.settings
    names = {about["class_names"][index] for index in about["normal_classes"]}
    found = tuple(index for index, name in enumerate(samples.class_names) if name in names)
    if not found:
        raise InputError(
            f"{samples.name}: expected a class that is normal in the run ({', '.join(sorted(names))}), "
            f"received the classes {', '.join(samples.class_names)}: name the normal class, or "
            "put one kind into a folder of its own"
        )
    return found


def load_for(run: Run, source: str | Path) -> Samples:
    """Another source, read as the detector of a run takes it.

    Raises:
        InputError: a table for a detector of images or the other way round, or one of other columns.
    """
    shape = run.model.sample_shape
    if run.model.is_table:
        samples = loading.load(source)
    else:
        crop = run.configuration["model"].get("crop", "stretch")
        samples = loading.load(source, channels=shape[-1], image_size=shape[:2], crop=crop)
    if (samples.x.ndim == 2) != run.model.is_table or (run.model.is_table and samples.x.shape[1:] != shape):
        wanted = f"a table of {shape[0]} columns" if run.model.is_table else "images"
        received = f"a table of {samples.x.shape[1]} columns" if samples.x.ndim == 2 else "images"
        raise InputError(f"{source}: expected {wanted}, as {run.path} was trained on, received {received}")
    return samples


def build(configuration: Configuration, samples: Samples) -> AnomalyDetector:
    """An untrained, compiled detector that fits the samples; in the current strategy's scope."""
    model = configuration["model"] | {
        "dtype": hardware.choose_precision(configuration["hardware"]["precision"])
    }
    size = configuration["data"]["image_size"]
    if samples.x.ndim == 2:
        size = ()
    elif size is None:
        size = default_image_size(samples.x.shape[1:3], model.get("backbone", configuration["detector"]))
    size = (size, size) if isinstance(size, int) else tuple(size)
    configuration["data"]["image_size"] = list(size) or None
    detector = DETECTORS[configuration["detector"]]((*size, samples.x.shape[-1]), **model)
    detector.compile(**configuration["compile"])
    return detector


def default_image_size(stored: tuple[int, int], backbone: str) -> tuple[int, int]:
    """The smallest size from 32 up that the backbone takes and that loses no pixel, at most 128."""
    if backbone == "features":
        # Tiny images are enlarged: on grids of fewer than 6×6 patches there is little to tell apart.
        return tuple(min(max(96, -(-side // 16) * 16), 256) for side in stored)
    if backbone not in ("unet", "unet_plus_plus"):  # the others take squares whose side is a power of 2
        side = 32
        while side < min(max(stored), LARGEST_DEFAULT_SIDE):
            side *= 2
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
    train_rows, labels = split.labelled("train")
    held_out, held_out_labels = split.labelled("validation")
    labelled = (samples.x[held_out], held_out_labels) if len(held_out) else None
    callbacks = [ProgressBar(disable=not progress), *callbacks]
    if log_dir is not None and tensorboard_installed():
        callbacks.append(TensorBoardReport(log_dir, labelled))
    elif log_dir is not None:
        logger.warning("no TensorBoard events: the package is missing (pip install 'agad-tf[tensorboard]')")
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
    """Scores of the test part in inference mode; their metrics, and those of the error maps with masks.

    With normals alone, or anomalies alone, the figures that compare the two are None.
    """
    rows, labels = split.labelled("test")
    scores = model.predict(samples.x[rows], verbose=0)
    report = summarise(labels, scores, samples.classes[rows], split.known_classes)
    report |= {"score": model.score, "bn_mode": "inference"}
    if calibration is not None:
        alarms = calibration.is_anomaly(scores)
        report["threshold"] = calibration.threshold
        for kind, name in enumerate(("false_alarm_rate", "recall")):
            of_kind = alarms[labels == kind]
            report[name] = float(of_kind.mean()) if len(of_kind) else None
    return scores, report | pixel_report(model, samples, split)


def _check_alive(model, x) -> None:
    if not np.isfinite(model.predict(x, verbose=0)).all():
        raise CollapsedError(
            "expected finite scores after training, received NaN: training collapsed; lower the learning "
            "rate, or train without --literal"
        )


def _plain(configuration: Configuration) -> Configuration:
    """The configuration in types that YAML writes without tags."""
    return json.loads(json.dumps(configuration, default=str))
