"""The split: index arrays, written to one file and read back."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agad_tf.errors import InputError, reading
from agad_tf.files import written_whole

_NONE = np.zeros(0, np.int64)
_PARTS = (
    "train_normal",
    "train_anomaly",
    "validation_normal",
    "validation_anomaly",
    "test_normal",
    "test_anomaly",
    "selection_normal",
    "selection_anomaly",
)
SIDES = ("train", "validation", "test", "selection")
_ARRAYS = (*_PARTS, "polluted")


@dataclass(frozen=True, eq=False)
class Split:
    """Indices into `Samples`, sorted, int64, no row in two parts.

    Attributes:
        train_normal: unlabelled training rows, taken as normal; with pollution some are not.
        train_anomaly: collected (labelled) anomalies.
        validation_normal: held-out normals, for calibration and for the selection without labels.
        validation_anomaly: held-out anomalies of the collected classes only.
        test_normal, test_anomaly: the test part.
        selection_normal, selection_anomaly: the share of the test part, with labels, on which the papers
            select (`test_validation`); empty by default.
        polluted: those of `train_normal` whose class is anomalous.
        known_classes: classes of the collected anomalies.
        dropped_duplicates: training or validation rows left out as copies of rows on another side.
        dropped_groups: rows left out because others of their group are on another side.
        settings: what the split was drawn with; JSON-able.

    Raises:
        InputError: when parts share a row.
    """

    train_normal: np.ndarray
    train_anomaly: np.ndarray
    validation_normal: np.ndarray
    validation_anomaly: np.ndarray
    test_normal: np.ndarray
    test_anomaly: np.ndarray
    selection_normal: np.ndarray = field(default_factory=_NONE.copy)
    selection_anomaly: np.ndarray = field(default_factory=_NONE.copy)
    polluted: np.ndarray = field(default_factory=_NONE.copy)
    known_classes: tuple[int, ...] = ()
    dropped_duplicates: int = 0
    dropped_groups: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name in _ARRAYS:
            object.__setattr__(self, name, np.sort(np.asarray(getattr(self, name), np.int64)))
        rows = np.concatenate([getattr(self, name) for name in _PARTS])
        shared = len(rows) - len(np.unique(rows))
        if shared:
            raise InputError(
                f"expected parts without a common row, received {shared} rows that are in two; draw it again"
            )

    def check_sides(self, tied: np.ndarray) -> None:
        """Refuses a split that takes apart what belongs together.

        Args:
            tied: int64, one number for each of the samples; equal for rows of equal content or of one group.

        Raises:
            InputError: rows of one number are on two sides (train, validation, selection, test).
        """
        sides = {side: np.unique(tied[self.labelled(side)[0]]) for side in SIDES}
        for (one, first), (other, second) in itertools.combinations(sides.items(), 2):
            common = np.intersect1d(first, second)
            if len(common):
                row = int(np.flatnonzero(tied == common[0])[0])
                raise InputError(
                    f"expected no content and no group on two sides, received {len(common)} in {one} and in "
                    f"{other}, the first that of row {row}; draw the split again"
                )

    def labelled(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a part and what they are labelled as, normals first.

        Args:
            part: "train", "validation", "test" or "selection".

        Returns:
            (rows int64 (n,), labels int32 (n,)): 0 normal, 1 anomaly; unlabelled training rows count as
            normal.

        Raises:
            InputError: another part.
        """
        if part not in SIDES:
            raise InputError(f"expected a part train, validation, test or selection, received {part!r}")
        normal, anomaly = getattr(self, f"{part}_normal"), getattr(self, f"{part}_anomaly")
        labels = np.repeat(np.array([0, 1], np.int32), [len(normal), len(anomaly)])
        return np.concatenate([normal, anomaly]), labels

    @property
    def sha256(self) -> str:
        """Hash of the index arrays: two splits of the same rows are the same if and only if it is."""
        digest = hashlib.sha256()
        for name in _ARRAYS:
            rows = getattr(self, name)
            digest.update(f"{name}:{len(rows)}:".encode() + rows.astype("<i8").tobytes())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Counts of every part, the dropped and unused rows, and the contamination as drawn."""
        counts = {name: len(getattr(self, name)) for name in _ARRAYS}
        used = sum(counts[name] for name in _PARTS)
        dropped = self.dropped_duplicates + self.dropped_groups
        unused = self.settings["rows"] - used - dropped if "rows" in self.settings else None
        collected, trained = counts["train_anomaly"], counts["train_normal"] + counts["train_anomaly"]
        return counts | {
            "dropped_duplicates": self.dropped_duplicates,
            "dropped_groups": self.dropped_groups,
            "unused": unused,
            "anomaly_share_of_training": collected / trained if trained else 0.0,
            "known_classes": list(self.known_classes),
        }

    def save(self, path: str | Path) -> None:
        """Writes the split as an .npz archive without pickle; the file appears whole or not at all."""
        about = {
            "known_classes": list(self.known_classes),
            "dropped_duplicates": self.dropped_duplicates,
            "dropped_groups": self.dropped_groups,
            "settings": self.settings,
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with written_whole(path) as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Split:
        """Reads what `save` wrote.

        Raises:
            InputError: no such file, or not a split.
        """
        with reading(path, "a split written by Split.save", "restore the file, or train again"):
            with np.load(path, allow_pickle=False) as archive:
                about = json.loads(archive["about"].item())
                arrays = {name: archive[name] for name in _ARRAYS}
            return cls(
                **arrays,
                known_classes=tuple(about["known_classes"]),
                dropped_duplicates=about["dropped_duplicates"],
                dropped_groups=about.get("dropped_groups", 0),  # older files know no groups
                settings=about["settings"],
            )
