"""Opening what a run needs: the data of a configuration, a finished run, and data to judge it on."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from agad_tf.baselines.loading import load_model
from agad_tf.data.sources.load import Samples
from agad_tf.data.splits.protocols import one_class_split, whole_as_test
from agad_tf.data.splits.split import Split
from agad_tf.encoding import TableEncoding
from agad_tf.errors import InputError
from agad_tf.evaluation.calibration import Calibration
from agad_tf.evaluation.regions import RegionRule
from agad_tf.identity import Identity
from agad_tf.models import AnomalyDetector
from agad_tf.training import known_samples, loading, stored_scores
from agad_tf.training.configuration import Configuration, configure
from agad_tf.training.directory import check_run, load_calibration, read_json
from agad_tf.training.known_samples import KnownSamples
from agad_tf.training.stored_scores import StoredScores

logger = logging.getLogger("agad_tf")

UNKNOWN = Identity()


@dataclass(frozen=True)
class Run:
    """What a finished run directory holds; `known` and `scores` are None for runs of version 0.1."""

    path: Path
    model: AnomalyDetector
    configuration: Configuration
    split: Split
    metrics: dict
    calibration: Calibration | None
    regions: RegionRule | None = None
    known: KnownSamples | None = None
    scores: StoredScores | None = None


def load_run(path: str | Path) -> Run:
    """Reads a finished run directory.

    Raises:
        InputError: no such run, or an unfinished or damaged one.
    """
    path = check_run(path)
    configuration = configure(file=path / "config.yaml")
    regions, known, scores = (
        path / name for name in ("regions.json", known_samples.FILE, stored_scores.FILE)
    )
    return Run(
        path,
        load_model(path / "model.keras"),
        configuration,
        Split.load(path / "split.npz"),
        read_json(path / "metrics.json"),
        load_calibration(path),
        RegionRule.load(regions) if os.path.lexists(regions) else None,
        KnownSamples.load(known) if os.path.lexists(known) else None,
        StoredScores.load(scores) if os.path.lexists(scores) else None,
    )


def load_own(configuration: Configuration, identity: Identity = UNKNOWN) -> Samples:
    """The samples of the source that a configuration names; a table as a detector of `identity` takes it."""
    data = configuration["data"]
    if data["source"] is None:
        raise InputError(
            "expected data to train on, received none: give --data (a folder, an .npz, or digits)"
        )
    return loading.load(
        **data,
        crop=configuration["model"].get("crop", "stretch"),
        normal_classes=configuration["split"]["normal_classes"],
        backbone=configuration["model"].get("backbone", configuration["detector"]),
        columns=identity.columns,
        encoding=identity.encoding,
    )


def load_split(configuration: Configuration) -> tuple[Samples, Split]:
    """The samples of a configuration and the split drawn from them."""
    samples = load_own(configuration)
    split = one_class_split(samples, **configuration["split"])
    if not len(split.train_normal):
        raise InputError("expected normal samples to train on, received none: check --normal-class")
    return samples, split


def evaluation_data(
    run: Run, source: str | Path | None, normal_classes=(), label_column: str | int | None = None
) -> tuple[Samples, Split]:
    """The test part of a run, or all of another labelled source as one test part.

    The samples of a run are found again by their content, whatever their names and order; what has changed
    is said in a warning. So are samples of another source that the run was trained on.

    Raises:
        InputError: the run's data are gone, or the other source is of another kind.
    """
    if source is None:
        return _own_data(run)
    samples = load_for(run, source, label_column)
    if not normal_classes:
        samples = replace(samples, normal_classes=normal_classes_of(samples, run))
    count = known_to(run, samples)
    if count["train"] or count["validation"]:
        logger.warning(
            "%s: %d of %d samples were TRAINED ON and %d were held out for the threshold of %s: on those the "
            "figures are too good",
            source, count["train"], len(samples.classes), count["validation"], run.path,
        )  # fmt: skip
    return samples, whole_as_test(samples, normal_classes or None)


def known_to(run: Run, samples: Samples) -> dict[str, int]:
    """How many of the samples have the content of one of the run's "train" or "validation" part."""
    if run.known is None:
        return {"train": 0, "validation": 0}
    digests = known_samples.keys(samples.digests)
    sides = {side: run.known.contents(side) for side in ("train", "validation")}
    return {side: sum(digest in content for digest in digests) for side, content in sides.items()}


def _own_data(run: Run) -> tuple[Samples, Split]:
    if run.known is not None:
        samples = load_own(run.configuration, known_identity(run))
        split, changes = run.known.split_again(samples, run.split, run.path)
        if changes:
            logger.warning("%s", changes)
        return samples, split
    samples, split = load_split(run.configuration)
    if split.sha256 != run.split.sha256:
        raise InputError(
            f"{run.configuration['data']['source']}: expected the data the run was trained on, received "
            "data that split differently: put them back or name others with --data"
        )
    return samples, split


def normal_classes_of(samples: Samples, run: Run) -> tuple[int, ...]:
    """Which classes of another source are normal: what it says itself, else those named as in the run.

    None is where all of its classes are anomalous in the run.

    Raises:
        InputError: the source does not say, and has no class of such a name.
    """
    if samples.normal_classes is not None:
        return samples.normal_classes
    about = run.split.settings
    names = {about["class_names"][index] for index in about["normal_classes"]}
    found = tuple(index for index, name in enumerate(samples.class_names) if name in names)
    if not found and not set(samples.class_names) <= set(about["class_names"]):
        raise InputError(
            f"{samples.name}: expected a class that is normal in the run ({', '.join(sorted(names))}), "
            f"received the classes {', '.join(samples.class_names)}: name the normal class, or "
            "put one kind into a folder of its own"
        )
    return found


def known_identity(run: Run) -> Identity:
    """What the run's detector knows of its input; of a table of plain numbers, that it is one."""
    identity = run.model.identity
    if not run.model.is_table or identity.encoding is not None:
        return identity
    return replace(identity, encoding=TableEncoding.of_numbers(run.model.sample_shape[0]))


def load_for(run: Run, source: str | Path, label_column: str | int | None = None) -> Samples:
    """Another source, read as the detector of a run takes it: the columns of a table by their names.

    Args:
        run: from `load_run`.
        source: see `agad_tf.load_samples`.
        label_column: of a CSV table; None takes what the run was trained with.

    Raises:
        InputError: a table for a detector of images or the other way round, or one of other columns.
    """
    shape = run.model.sample_shape
    if run.model.is_table:
        if label_column is None:
            label_column = run.configuration["data"]["label_column"]
        known = known_identity(run)
        samples = loading.load(
            source, label_column=label_column, columns=known.columns, encoding=known.encoding
        )
    else:
        crop = run.configuration["model"].get("crop", "stretch")
        samples = loading.load(source, channels=shape[-1], image_size=shape[:2], crop=crop)
    if (samples.x.ndim == 2) != run.model.is_table or (run.model.is_table and samples.x.shape[1:] != shape):
        wanted = f"a table of {shape[0]} columns" if run.model.is_table else "images"
        received = f"a table of {samples.x.shape[1]} columns" if samples.x.ndim == 2 else "images"
        raise InputError(f"{source}: expected {wanted}, as {run.path} was trained on, received {received}")
    return samples
