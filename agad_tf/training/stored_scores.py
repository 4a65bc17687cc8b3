"""The scores that a run's detector gave its held-out samples and its test part. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.data.splits.split import Split
from agad_tf.errors import reading
from agad_tf.evaluation.calibration import Calibration
from agad_tf.files import written_whole

FILE = "scores.npz"
HELD_OUT = "held-out normals of the training part"
"""What a calibration calls the scores it was chosen from, where they are those of the run."""
NAMES = ("validation_normal", "validation_anomaly", "test_normal", "test_anomaly")


@dataclass(frozen=True, eq=False)
class StoredScores:
    """Scores by part of the split, float64 (n,) each, in the order of its rows; `score` is their name."""

    score: str
    validation_normal: np.ndarray
    validation_anomaly: np.ndarray
    test_normal: np.ndarray
    test_anomaly: np.ndarray

    @classmethod
    def of(cls, split: Split, validation: np.ndarray, test: np.ndarray, score: str) -> StoredScores:
        """From the scores of `split.labelled("validation")` and `split.labelled("test")`."""
        held, tested = len(split.validation_normal), len(split.test_normal)
        return cls(score, validation[:held], validation[held:], test[:tested], test[tested:])

    def save(self, path: str | Path) -> None:
        """Writes an .npz archive without pickle, whole or not at all."""
        arrays = {name: np.asarray(getattr(self, name), np.float64) for name in NAMES}
        with written_whole(path) as file:
            np.savez_compressed(file, score=np.array(self.score), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> StoredScores:
        """Reads what `save` wrote.

        Raises:
            InputError: no such file, or a damaged one.
        """
        with (
            reading(path, "the scores of a run", "restore the file, or train again"),
            np.load(path, allow_pickle=False) as archive,
        ):
            return cls(str(archive["score"]), *(archive[name] for name in NAMES))

    def test_figures(self, calibration: Calibration) -> dict[str, float | None]:
        """See `figures_at`; of the test part."""
        return figures_at(calibration, self.test_normal, self.test_anomaly)


def figures_at(calibration: Calibration, normal: np.ndarray, anomaly: np.ndarray) -> dict[str, float | None]:
    """`threshold`, `false_alarm_rate` of the normals and `recall` of the anomalies; None without any."""
    figures = {"threshold": calibration.threshold}
    for name, scores in (("false_alarm_rate", normal), ("recall", anomaly)):
        figures[name] = float(calibration.is_anomaly(scores).mean()) if len(scores) else None
    return figures
