"""A new threshold for a finished run, without training; without TensorFlow where no new image is scored."""

from __future__ import annotations

import functools
import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from agad_tf.columns import LABEL_NAMES
from agad_tf.csv_rows import CsvFile, numeric_rows
from agad_tf.data.content import content_digest, row_digests
from agad_tf.data.sources.images import resize_uint8
from agad_tf.data.sources.load import find, list_images, read_image
from agad_tf.data.sources.shards import is_shard_folder
from agad_tf.errors import InputError, reading
from agad_tf.evaluation import thresholds
from agad_tf.files import write_atomically
from agad_tf.training import known_samples, stored_scores
from agad_tf.training.directory import check_run, load_calibration
from agad_tf.training.known_samples import KnownSamples, keys
from agad_tf.training.stored_scores import HELD_OUT, StoredScores

if TYPE_CHECKING:
    from agad_tf.training.open import Run

logger = logging.getLogger("agad_tf")


@dataclass(frozen=True)
class Recalibration:
    """What `recalibrate` did.

    Attributes:
        calibration: the new one, now in the run's `calibration.json`.
        previous: the run's calibration before, None where it had none.
        kept_as: the file that keeps the previous one, None where there was none.
        left_out: given samples that were left out because the run was trained on them.
        copies: given samples that were left out because their content was given before.
        test: `false_alarm_rate` and `recall` of the run's test part at the new threshold; None for a run
            whose scores were not stored.
    """

    calibration: thresholds.Calibration
    previous: thresholds.Calibration | None
    kept_as: Path | None
    left_out: int
    copies: int = 0
    test: dict[str, float | None] | None = None


def recalibrate(
    run: Run | str | Path,
    policy: str | None = None,
    rate: float | None = None,
    confidence: float | None = None,
    recall: float | None = None,
    quantile: float | None = None,
    normals: str | Path | None = None,
    anomalies: str | Path | None = None,
    label_column: str | int | None = None,
) -> Recalibration:
    """Chooses a threshold again and writes the run's `calibration.json`; the old one is kept beside it.

    The old file becomes `calibration-1.json`, `calibration-2.json`, ... with the oldest first. Weights,
    `metrics.json` and exports stay as they are: a run's metrics tell what held when it was trained, and an
    export carries the calibration of its day.

    Args:
        run: from `load_run`, or its directory; the model of a directory is loaded when it is needed.
        policy: one of `thresholds.POLICIES`; None follows from the wanted figure: `recall` means
            wanted_recall, `quantile` means quantile, anything else false_alarm_rate.
        rate, confidence, recall, quantile: see `thresholds.calibrate`; rate None is .05.
        normals: a folder of images, or a labelled source whose normals are meant; None takes the held-out
            normals of the run. Samples that the run was trained on are left out, and so are copies.
        anomalies: the same for anomalies. None takes those the run held out, unless normals are given.
        label_column: name or position of the label in tables that are given; a CSV table without a label is
            all of one kind.

    Raises:
        InputError: too few normals for the rate, no anomalies where the policy needs them, a figure of
            another policy, data that cannot be read. Nothing is written then.
    """
    if policy is None:
        policy = (
            "wanted_recall"
            if recall is not None
            else "quantile"
            if quantile is not None
            else "false_alarm_rate"
        )
    if rate is not None and policy != "false_alarm_rate":
        raise InputError(f"policy {policy} takes no rate, received {rate:g}: leave it out")
    settings = {"rate": 0.05 if rate is None else rate, "confidence": confidence}
    settings |= {"recall": recall, "quantile": quantile}
    files = _Files(run)
    samples = _Given(files, label_column)
    chosen_normals = None if normals is None else samples.fresh(normals, normal=True)
    chosen_anomalies = None if anomalies is None else samples.fresh(anomalies, normal=False)
    if normals is None and not files.held_out_count("validation_normal"):
        raise InputError(
            f"{files.path}: expected held-out normals, received a run that held none out: give --normals"
        )
    use_own_anomalies = anomalies is None and normals is None
    counts = [
        files.held_out_count("validation_normal") if normals is None else len(chosen_normals),
        files.held_out_count("validation_anomaly") if use_own_anomalies else len(chosen_anomalies or ()),
    ]
    # Made-up scores: their number decides what can be had, before a model is loaded.
    thresholds.calibrate(*map(np.arange, counts), policy, **settings)

    if normals is None:
        normal_scores, source = files.held_out("validation_normal"), HELD_OUT
    else:
        normal_scores, source = samples.scores(chosen_normals), f"normals of {normals}"
    anomaly_scores = None
    if anomalies is not None:
        anomaly_scores = samples.scores(chosen_anomalies)
    elif use_own_anomalies:
        anomaly_scores = files.held_out("validation_anomaly")
    calibration = thresholds.calibrate(
        normal_scores, anomaly_scores, policy, **settings, score=files.score, split=source
    )
    previous = load_calibration(files.path)
    kept_as = _keep(files.path / "calibration.json")
    calibration.save(files.path / "calibration.json")
    stored = files.stored
    test = None if stored is None else stored.test_figures(calibration)
    return Recalibration(calibration, previous, kept_as, samples.left_out, samples.copies, test)


def _keep(path: Path) -> Path | None:
    """Copies a calibration to the first free `calibration-<n>.json`; it stays in place until replaced."""
    if not path.is_file():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}-{number}.json")).exists():
        number += 1
    write_atomically(kept, path.read_bytes())
    return kept


class _Files:
    """A run, of which as little is loaded as is asked for."""

    def __init__(self, run: Run | str | Path):
        self.path = check_run(getattr(run, "path", run))
        self._loaded = None if isinstance(run, str | Path) else run

    @functools.cached_property
    def run(self) -> Run:
        """The whole run; loads TensorFlow."""
        if self._loaded is not None:
            return self._loaded
        from agad_tf.training.open import load_run

        return load_run(self.path)

    @functools.cached_property
    def configuration(self) -> dict:
        with reading(self.path / "config.yaml", "the settings of a run", "restore the file, or train again"):
            return yaml.safe_load((self.path / "config.yaml").read_text())

    @functools.cached_property
    def known(self) -> KnownSamples | None:
        path = self.path / known_samples.FILE
        return KnownSamples.load(path) if path.is_file() else None

    @functools.cached_property
    def stored(self) -> StoredScores | None:
        path = self.path / stored_scores.FILE
        return StoredScores.load(path) if path.is_file() else None

    @functools.cached_property
    def _own(self):
        from agad_tf.training.open import evaluation_data

        return evaluation_data(self.run, None)

    @property
    def score(self) -> str:
        return self.run.model.score if self.stored is None else self.stored.score

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self.run.model.sample_shape if self.known is None else self.known.shape

    @property
    def is_table(self) -> bool:
        return len(self.sample_shape) == 1

    @property
    def crop(self) -> str:
        return (self.configuration.get("model") or {}).get("crop", "stretch")

    def held_out_count(self, part: str) -> int:
        if self.stored is not None:
            return len(getattr(self.stored, part))
        return len(getattr(self.run.split, part))

    def held_out(self, part: str) -> np.ndarray:
        """Scores of a held-out part of the run."""
        if self.stored is not None:
            return getattr(self.stored, part)
        samples, split = self._own
        return predicted(self.run.model, list(samples.x[getattr(split, part)]))

    @functools.cached_property
    def seen(self) -> dict[str, set[bytes]]:
        """Content of the samples by what the run did with them: "train" and "test"."""
        if self.known is not None:
            return {side: self.known.contents(side) for side in ("train", "test")}
        try:
            samples, split = self._own
        except InputError as error:
            logger.warning(
                "%s keeps no record of its samples, and its data cannot be read again (%s): samples that it "
                "was trained on CANNOT BE LEFT OUT of the given ones",
                self.path, error,
            )  # fmt: skip
            return {"train": set(), "test": set()}
        return {side: set(keys(samples.digests[split.labelled(side)[0]])) for side in ("train", "test")}

    @functools.cached_property
    def stored_shape(self) -> tuple[int, ...] | None:
        """Of one sample as the run's source holds it; None where that is not known."""
        if self.known is not None:
            return self.known.shape
        try:
            return tuple(self._own[0].x.shape[1:])
        except InputError:  # `seen` tells it
            return None


class _Given:
    """Samples from elsewhere: read, and those left out that the run was trained on or that came before."""

    def __init__(self, files: _Files, label_column: str | int | None):
        self.files, self.label_column = files, label_column
        self.left_out = self.copies = 0

    def fresh(self, source: str | Path, normal: bool) -> list[np.ndarray]:
        """The samples of a source that the run has not been trained on, each content once."""
        kind = "normals" if normal else "anomalies"
        x, digests = self._read(find(source), normal)
        trained, tested = self.files.seen["train"], self.files.seen["test"]
        fresh, before, of_test, left_out, copies = [], set(), 0, 0, 0
        for sample, digest in zip(x, digests, strict=True):
            contents = {digest, self._as_stored(sample)}
            if contents & trained:
                left_out += 1
            elif digest in before:
                copies += 1
            else:
                fresh.append(sample)
                of_test += bool(contents & tested)
            before.add(digest)
        self.left_out, self.copies = self.left_out + left_out, self.copies + copies
        if not fresh:
            why = f"{len(x)} samples that the run was trained on" if len(x) else "none"
            raise InputError(f"{source}: expected {kind} to calibrate on, received {why}: give held-out ones")
        if of_test:
            logger.warning(
                "%s: %d of %d %s are of the TEST PART of %s: its test figures at this threshold are too good",
                source, of_test, len(fresh), kind, self.files.path,
            )  # fmt: skip
        return fresh

    def scores(self, x: list[np.ndarray]) -> np.ndarray:
        return predicted(self.files.run.model, x)

    def _as_stored(self, sample: np.ndarray) -> bytes:
        """Digest of an image at the size at which the run's source holds its images."""
        shape = self.files.stored_shape
        if sample.ndim == 3 and shape is not None and sample.shape[:2] != tuple(shape[:2]):
            sample = resize_uint8(sample, tuple(shape[:2]), self.files.crop)
        return content_digest(sample)

    def _read(self, source: Path, normal: bool) -> tuple[list[np.ndarray], list[bytes]]:
        """All images of a folder without class folders, or the rows of one kind of a labelled source."""
        flat = source.is_dir() and not any(entry.is_dir() for entry in source.iterdir())
        if flat and not is_shard_folder(source) and not self.files.is_table:
            channels = self.files.sample_shape[-1]
            images = [read_image(path, channels) for path in list_images(source)]
            return images, [content_digest(image) for image in images]
        from agad_tf.training.open import load_for, normal_classes_of

        rows = self._unlabelled(source)
        if rows is not None:
            return list(rows), keys(row_digests(rows))
        samples = load_for(self.files.run, source, self.label_column)
        wanted = np.isin(samples.classes, normal_classes_of(samples, self.files.run)) == normal
        return list(samples.x[wanted]), keys(samples.digests[wanted])

    def _unlabelled(self, source: Path) -> np.ndarray | None:
        """The rows of a CSV table without a label, all of one kind; None for every other source.

        Raises:
            InputError: rows that cannot be scored, or other columns than those of training.
        """
        if not self.files.is_table or source.suffix.casefold() != ".csv" or self.label_column is not None:
            return None
        identity, (features,) = self.files.run.model.identity, self.files.sample_shape
        file = CsvFile(source, identity.columns or ())
        if file.names is None:
            labelled = file.width != features
        else:
            labelled = any(
                name.casefold() in LABEL_NAMES for name in {*file.names} - {*(identity.columns or ())}
            )
        if labelled:
            return None
        rows = [value for _, value in numeric_rows(source, features, identity)]
        broken = [row for row in rows if isinstance(row, str)]
        if broken:
            raise InputError(broken[0])
        return np.array(rows).reshape(-1, features)


def predicted(model, x: list[np.ndarray]) -> np.ndarray:
    """Scores in the order given; samples of one size are predicted together."""
    by_shape = defaultdict(list)
    for index, sample in enumerate(x):
        by_shape[sample.shape].append(index)
    scores = np.empty(len(x))
    for rows in by_shape.values():
        scores[rows] = model.predict(np.stack([x[row] for row in rows]), verbose=0)
    return scores
