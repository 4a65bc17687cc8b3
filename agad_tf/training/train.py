"""Training a run: from data to a trained, evaluated detector in one directory."""

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import yaml

from agad_tf.baselines import TREES
from agad_tf.data.samples import Samples
from agad_tf.data.splits import inspection
from agad_tf.data.splits.split import Split
from agad_tf.errors import CollapsedError, InputError, Stopped
from agad_tf.files import rename_whole, write_atomically
from agad_tf.models import AnomalyDetector, FeatureDiscriminator
from agad_tf.replicas import from_chief, is_chief
from agad_tf.training import hardware, known_samples, stored_scores
from agad_tf.training.beside import FILE as BASELINE
from agad_tf.training.beside import beside
from agad_tf.training.callbacks import ProgressBar
from agad_tf.training.checkpoints import Checkpoints
from agad_tf.training.configuration import DETECTORS, Configuration, calibration_defaults
from agad_tf.training.directory import CHECKPOINTS, check_free, has_trained, run_directory, write_json
from agad_tf.training.estimate import tell
from agad_tf.training.evaluate import calibrate, calibration_problem, held_out_scores, judge
from agad_tf.training.kinds import caution, is_wanted, leave_one_kind_out
from agad_tf.training.known_samples import KnownSamples
from agad_tf.training.loading import default_image_size
from agad_tf.training.localisation import TrainingMasks, check_masks, training_masks
from agad_tf.training.open import load_split
from agad_tf.training.pictures import show
from agad_tf.training.small_sets import choose
from agad_tf.training.stored_scores import StoredScores
from agad_tf.training.tensorboard import TensorBoardReport, tensorboard_installed

logger = logging.getLogger("agad_tf")

FEATURES = "features"
"""Folder of a run, while it trains, for the features of its samples."""
MASKS_LEARNT = "masks_learnt"
"""Metric that only a training gives: how many masks it learnt from, and of how many labelled anomalies."""


def train(
    configuration: Configuration,
    path: str | Path,
    progress: bool = True,
    resume: bool = False,
    free: Collection[str] = (),
    why: str | None = None,
) -> dict:
    """Loads data, splits, trains, evaluates on the test part and writes the run directory.

    With several workers (see `hardware.choose_strategy`) each calls this, and the directory is the chief's.

    Args:
        configuration: from `configure`; `data.source` must be set.
        path: the run directory; must not exist. It is called `path`.partial until it is whole.
        progress: show a progress bar on standard error.
        resume: go on from the newest checkpoint in `path`.partial, where there is one; the configuration must
            be the one it was started with.
        free: names of settings that may be chosen by the data and the device, see `small_sets.choose`.
        why: reason for the detector, told once the data are known to be usable.

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
    backbone = configuration["model"].get("backbone")
    chosen = choose(configuration, free, split, images=samples.x.ndim == 4)
    if configuration["model"].get("backbone") != backbone:  # it decides the size at which images are held
        samples, split = load_split(configuration)
    if samples.x.ndim == 2 and not DETECTORS[configuration["detector"]].takes_tables:
        able = ", ".join(name for name, detector in DETECTORS.items() if detector.takes_tables)
        raise InputError(
            f"{samples.name}: the detector {configuration['detector']} expects images, received a table of "
            f"{samples.x.shape[1]} columns: for tables choose --detector {able}"
        )
    if samples.x.ndim == 4 and configuration["detector"] in TREES:
        raise InputError(
            f"{samples.name}: the detector {configuration['detector']} expects a table, received images, of "
            "which it has no heat maps: agad-tf compare takes them"
        )
    settings = configuration["calibration"]
    problem = calibration_problem(split, settings)
    if problem is not None and settings != calibration_defaults():
        raise problem  # asked for, and not to be had: better known before training than after
    check_masks(samples, split, configuration["model"].get("crop", "stretch"))
    masks = learnt_masks(configuration, samples, split)  # read once, and told before there is a run
    data = inspection.validate(samples, split)
    if progress:
        for words in filter(None, (why, chosen)):
            print(f"{samples.name}: {words}", file=sys.stderr)
        print(inspection.table(data), file=sys.stderr)
    with strategy.scope():
        model = build_anew(configuration, samples)
    report = configuration["report"]
    words = caution(model, samples, split, report["left_out"])
    if progress and words is not None:
        print(f"note: {words}", file=sys.stderr)
    if progress and strategy.num_replicas_in_sync == 1:
        told = tell(model, configuration, len(split.train_normal), len(split.train_anomaly))
        if told is not None:
            print(told, file=sys.stderr)
    identity = {"data": data_identity(samples, split)}
    if masks is not None:
        identity["masks of labelled anomalies"] = masks.identity
    with run_directory(path, resume, chief) as partial:
        checkpoints = Checkpoints(
            partial / CHECKPOINTS,
            **configuration["checkpoints"],
            resume=resume,
            identity=identity,
        )
        text = yaml.safe_dump(_plain(configuration), sort_keys=False)
        write_atomically(partial / "config.yaml", text.encode())
        split.save(partial / "split.npz")
        KnownSamples.of(samples, split).save(partial / known_samples.FILE)
        write_json(partial / "data.json", data)
        events = partial / "tensorboard" if chief else None
        try:
            with checkpoints.stopped_by_ctrl_c():
                history = fit(model, configuration, samples, split, events, progress, [checkpoints], masks)
        except KeyboardInterrupt:
            if chief and has_trained(partial):
                raise Stopped(
                    f"{path}: stopped; a checkpoint is written, go on with: agad-tf train --resume {path}"
                ) from None
            raise
        _check_alive(model, samples.x[split.train_normal[:1]])
        save_model(model, partial / "model.keras")
        if problem is not None:
            logger.warning("no threshold was chosen: %s", problem)
        held_out = held_out_scores(model, samples, split)
        calibration = None if problem else calibrate(held_out, split, settings, model.score)
        if calibration is not None:
            calibration.save(partial / "calibration.json")
        evaluation = judge(model, samples, split, calibration)
        StoredScores.of(split, held_out, evaluation.scores, model.score).save(partial / stored_scores.FILE)
        metrics = evaluation.metrics
        if is_wanted(evaluation, left_out=report["left_out"]) and strategy.num_replicas_in_sync == 1:
            metrics |= leave_one_kind_out(
                model,
                lambda: build_anew(configuration, samples),
                configuration["fit"],
                samples,
                split,
                partial / FEATURES,
                masks,
            )
        shutil.rmtree(partial / FEATURES, ignore_errors=True)  # other detectors have none
        simple = beside(evaluation, baseline=report["baseline"]) if chief else None
        if simple is not None:
            metrics["baseline"] = simple
            write_json(partial / BASELINE, simple)
        if masks is not None and samples.masks is not None and masks.labelled:
            metrics[MASKS_LEARNT] = {"masks": model.masks_learnt, "labelled_anomalies": masks.labelled}
        metrics |= {
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
        write_json(partial / "metrics.json", metrics)
        show(evaluation, partial, path.name, configuration)
    from_chief(strategy, b"")  # a worker that left early would take the others with it
    return metrics


def save_model(model: AnomalyDetector, path: Path) -> None:
    """Saves a detector; the file appears whole and is on the disk."""
    aside = path.with_name(f".partial-{path.name}")  # Keras looks at the end of a name
    try:
        model.save(aside)
        rename_whole(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def data_identity(samples: Samples, split: Split) -> str:
    """Hash of the split and of the content of its training and validation samples."""
    digest = hashlib.sha256(split.sha256.encode())
    for part in ("train", "validation"):
        digest.update(samples.digests[split.labelled(part)[0]].tobytes())
    return digest.hexdigest()


def learnt_masks(configuration: Configuration, samples: Samples, split: Split) -> TrainingMasks | None:
    """The masks that the detector of a configuration learns from; None for one that learns from no masks."""
    if DETECTORS[configuration["detector"]] is not FeatureDiscriminator:
        return None
    crop = configuration["model"]["crop"]
    return training_masks(samples, split.train_anomaly, crop, configuration["fit"])


def build_anew(configuration: Configuration, samples: Samples) -> AnomalyDetector:
    """As `build`, with the first weights that the seed of the configuration fixes."""
    keras.utils.set_random_seed(configuration["fit"]["seed"])
    return build(configuration, samples)


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
    if samples.encoding is not None:
        model["encoding"] = samples.encoding
    detector = DETECTORS[configuration["detector"]]((*size, samples.x.shape[-1]), **model)
    detector.compile(**configuration["compile"])
    if samples.x.ndim == 2:
        detector.identity = replace(detector.identity, kind="table", columns=samples.feature_names)
    return detector


def fit(
    model, configuration, samples, split, log_dir: Path | None, progress: bool, callbacks=(), masks=None
) -> dict[str, list[float]]:
    """Trains on the split's training part; returns the logs of each epoch.

    Args:
        model: from `build`.
        configuration: of the run.
        samples, split: from `load_split`.
        log_dir: for TensorBoard, or None.
        progress: show a progress bar.
        callbacks: further ones.
        masks: from `learnt_masks`.
    """
    train_rows, labels = split.labelled("train")
    held_out, held_out_labels = split.labelled("validation")
    labelled = (samples.x[held_out], held_out_labels) if len(held_out) else None
    callbacks = [ProgressBar(disable=not progress), *callbacks]
    if log_dir is not None and tensorboard_installed():
        callbacks.append(TensorBoardReport(log_dir, labelled))
    elif log_dir is not None:
        logger.warning("no TensorBoard events: the package is missing (pip install 'agad-tf[tensorboard]')")
    kept = {}
    if isinstance(model, FeatureDiscriminator):
        kept["masks"] = None if masks is None else masks.of(train_rows)
        if log_dir is not None:
            kept["features_folder"] = log_dir.parent / FEATURES  # a resumed run reads them again
    history = model.fit(
        samples.x[train_rows],
        labels,
        **kept,
        **configuration["fit"],
        validation_data=labelled,
        callbacks=callbacks,
        verbose=0,
    )
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def _check_alive(model, x) -> None:
    if not np.isfinite(model.predict(x, verbose=0)).all():
        raise CollapsedError(
            "expected finite scores after training, received NaN: training collapsed; lower the learning "
            "rate, or train without --literal"
        )


def _plain(configuration: Configuration) -> Configuration:
    """The configuration in types that YAML writes without tags."""
    return json.loads(json.dumps(configuration, default=str))
