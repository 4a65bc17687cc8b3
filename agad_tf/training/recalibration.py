"""A new threshold for a finished run, without training."""

import functools
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.data.sources.images import resize_uint8
from agad_tf.data.sources.load import list_images, read_image
from agad_tf.data.sources.shards import is_shard_folder
from agad_tf.errors import InputError
from agad_tf.evaluation import thresholds
from agad_tf.files import write_atomically
from agad_tf.training.open import Run, evaluation_data, load_for, normal_classes_of


@dataclass(frozen=True)
class Recalibration:
    """What `recalibrate` did.

    Attributes:
        calibration: the new one, now in the run's `calibration.json`.
        previous: the run's calibration before, None where it had none.
        kept_as: the file that keeps the previous one, None where there was none.
        left_out: given samples that were left out because the run was trained on them.
    """

    calibration: thresholds.Calibration
    previous: thresholds.Calibration | None
    kept_as: Path | None
    left_out: int


def recalibrate(
    run: Run,
    policy: str | None = None,
    rate: float | None = None,
    confidence: float | None = None,
    recall: float | None = None,
    quantile: float | None = None,
    normals: str | Path | None = None,
    anomalies: str | Path | None = None,
) -> Recalibration:
    """Chooses a threshold again and writes the run's `calibration.json`; the old one is kept beside it.

    The old file becomes `calibration-1.json`, `calibration-2.json`, ... with the oldest first. Weights,
    `metrics.json` and exports stay as they are: a run's metrics tell what held when it was trained, and an
    export carries the calibration of its day.

    Args:
        run: from `load_run`.
        policy: one of `thresholds.POLICIES`; None follows from the wanted figure: `recall` means
            wanted_recall, `quantile` means quantile, anything else false_alarm_rate.
        rate, confidence, recall, quantile: see `thresholds.calibrate`; rate None is .05.
        normals: a folder of images, or a labelled source whose normals are meant; None takes the held-out
            normals of the run. Samples that the run was trained on are left out where its data can be read.
        anomalies: the same for anomalies. None takes those the run held out, unless normals are given.

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
    images = _Images(run)
    if normals is None:
        normal_scores, source = images.held_out("validation_normal"), "held-out normals of the training part"
        if not len(normal_scores):
            raise InputError(
                f"{run.path}: expected held-out normals, received a run that held none out: give --normals"
            )
    else:
        normal_scores, source = images.given(normals, normal=True), f"normals of {normals}"
    anomaly_scores = None
    if anomalies is not None:
        anomaly_scores = images.given(anomalies, normal=False)
    elif normals is None:
        anomaly_scores = images.held_out("validation_anomaly")
    calibration = thresholds.calibrate(
        normal_scores, anomaly_scores, policy, **settings, score=run.model.score, split=source
    )
    kept_as = _keep(run.path / "calibration.json")
    calibration.save(run.path / "calibration.json")
    return Recalibration(calibration, run.calibration, kept_as, images.left_out)


def _keep(path: Path) -> Path | None:
    """Copies a calibration to the first free `calibration-<n>.json`; it stays in place until replaced."""
    if not path.is_file():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}-{number}.json")).exists():
        number += 1
    write_atomically(kept, path.read_bytes())
    return kept


class _Images:
    """Scores of samples from the run or from elsewhere; counts those it was trained on."""

    def __init__(self, run: Run):
        self.run = run
        self.left_out = 0

    @functools.cached_property
    def _own(self):
        return evaluation_data(self.run, None)

    def held_out(self, part: str) -> np.ndarray:
        samples, split = self._own
        return self._scores(list(samples.x[getattr(split, part)]))

    def given(self, source: str | Path, normal: bool) -> np.ndarray:
        kind = "normals" if normal else "anomalies"
        x = _read(Path(source), self.run, normal)
        trained, stored = self._trained
        fresh = [image for image in x if self._digest(image, stored) not in trained]
        self.left_out += len(x) - len(fresh)
        if not fresh:
            why = f"{len(x)} samples that the run was trained on" if len(x) else "none"
            raise InputError(f"{source}: expected {kind} to calibrate on, received {why}: give held-out ones")
        return self._scores(fresh)

    @functools.cached_property
    def _trained(self) -> tuple[set[bytes], tuple[int, ...] | None]:
        """Digests of the training samples, and the size at which the run's source holds its images."""
        try:
            samples, split = self._own
        except InputError:  # the training data have gone: nothing to compare with
            return set(), None
        rows = np.concatenate([split.train_normal, split.train_anomaly])
        stored = samples.x.shape[1:3] if samples.x.ndim == 4 else None
        return {self._digest(image, stored) for image in samples.x[rows]}, stored

    def _digest(self, image: np.ndarray, stored: tuple[int, ...] | None) -> bytes:
        if stored is not None and image.shape[:2] != stored:
            # Images of several sizes were brought to one size when the run read them.
            image = resize_uint8(image, stored, self.run.configuration["model"].get("crop", "stretch"))
        return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()

    def _scores(self, x: list[np.ndarray]) -> np.ndarray:
        """Scores in the order given; samples of one size are predicted together."""
        by_shape = defaultdict(list)
        for index, image in enumerate(x):
            by_shape[image.shape].append(index)
        scores = np.empty(len(x))
        for rows in by_shape.values():
            scores[rows] = self.run.model.predict(np.stack([x[row] for row in rows]), verbose=0)
        return scores


def _read(source: Path, run: Run, normal: bool) -> np.ndarray | list[np.ndarray]:
    """All images of a folder without class folders, or the rows of one kind of a labelled source."""
    flat = source.is_dir() and not any(entry.is_dir() for entry in source.iterdir())
    if flat and not is_shard_folder(source) and not run.model.is_table:
        return [read_image(path, run.model.sample_shape[-1]) for path in list_images(source)]
    samples = load_for(run, source)
    return samples.x[np.isin(samples.classes, normal_classes_of(samples, run)) == normal]
