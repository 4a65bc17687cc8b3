"""Opening what a run needs: the data of a configuration, a finished run, and data to judge it on."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras

from agad_tf.data.sources.load import Samples
from agad_tf.data.splits.protocols import one_class_split, whole_as_test
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation import thresholds
from agad_tf.evaluation.regions import RegionRule
from agad_tf.models import AnomalyDetector
from agad_tf.training import loading
from agad_tf.training.configuration import Configuration, configure
from agad_tf.training.directory import partial_of


@dataclass(frozen=True)
class Run:
    """What a finished run directory holds."""

    path: Path
    model: AnomalyDetector
    configuration: Configuration
    split: Split
    metrics: dict
    calibration: thresholds.Calibration | None
    regions: RegionRule | None = None


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
    calibration, regions = path / "calibration.json", path / "regions.json"
    return Run(
        path,
        model,
        configuration,
        Split.load(path / "split.npz"),
        metrics,
        thresholds.Calibration.load(calibration) if calibration.is_file() else None,
        RegionRule.load(regions) if regions.is_file() else None,
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
        backbone=configuration["model"].get("backbone"),
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
    if not normal_classes:
        normal_classes = [samples.class_names[index] for index in normal_classes_of(samples, run)]
    return samples, whole_as_test(samples, normal_classes)


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
