"""What a run remembers of its data: the content of every sample, and which part it went to. NumPy only."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError, reading
from agad_tf.files import written_whole

FILE = "samples.npz"
FORMAT = "agad_tf.samples/1"
PARTS = (
    "",
    "train_normal",
    "train_anomaly",
    "validation_normal",
    "validation_anomaly",
    "test_normal",
    "test_anomaly",
    "selection_normal",
    "selection_anomaly",
)
"""What the numbers in `KnownSamples.parts` mean; the first is a sample that was left out."""


@dataclass(frozen=True, eq=False)
class KnownSamples:
    """The samples of a run, found again by what they hold, whatever their names and order.

    Attributes:
        digests: content digest of every sample, uint8 (n, 16).
        parts: uint8 (n,), positions in `PARTS`.
        classes: int64 (n,), positions in `class_names`.
        class_names: of the source.
        group: (n,) strings, or None where the source knows no groups.
        columns: names of a table's columns, or None.
        shape: of one sample as the source held it.
    """

    digests: np.ndarray
    parts: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    group: np.ndarray | None
    columns: tuple[str, ...] | None
    shape: tuple[int, ...]

    @classmethod
    def of(cls, samples: Samples, split: Split) -> KnownSamples:
        """What is to be remembered of samples and the split drawn from them."""
        parts = np.zeros(len(samples.classes), np.uint8)
        for number, name in enumerate(PARTS[1:], 1):
            parts[getattr(split, name)] = number
        shape = tuple(int(side) for side in samples.x.shape[1:])
        names, columns = samples.class_names, samples.feature_names
        return cls(
            samples.digests, parts, samples.classes, tuple(names), samples.group,
            None if columns is None else tuple(columns), shape,
        )  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Writes an .npz archive without pickle, whole or not at all."""
        about = {
            "format": FORMAT,
            "parts": PARTS,
            "class_names": self.class_names,
            "columns": self.columns,
            "shape": self.shape,
        }
        arrays = {"digests": self.digests, "parts": self.parts, "classes": self.classes}
        if self.group is not None:
            arrays["group"] = np.array([json.dumps(self.group.tolist())])
        with written_whole(path) as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> KnownSamples:
        """Reads what `save` wrote.

        Raises:
            InputError: no such file, or a damaged one.
        """
        with reading(path, "the samples of a run", "train again, or restore the file"):
            with np.load(path, allow_pickle=False) as archive:
                about = json.loads(archive["about"].item())
                group = json.loads(archive["group"].item()) if "group" in archive else None
                arrays = [archive[name] for name in ("digests", "parts", "classes")]
            if about["format"] != FORMAT or len({len(array) for array in arrays}) != 1:
                raise ValueError(f"format {about['format']}")
            columns = about["columns"]
            return cls(
                arrays[0], arrays[1], arrays[2], tuple(about["class_names"]),
                None if group is None else np.array(group, dtype=str),
                None if columns is None else tuple(columns), tuple(about["shape"]),
            )  # fmt: skip

    def contents(self, *sides: str) -> set[bytes]:
        """The digests of all samples of some sides: "train", "validation", "test" or "selection"."""
        numbers = [number for number, name in enumerate(PARTS) if name.partition("_")[0] in sides]
        return set(keys(self.digests[np.isin(self.parts, numbers)]))

    def places(self, samples: Samples) -> np.ndarray:
        """Where each remembered sample is among these now: int64 (n,), -1 for one that is gone.

        Of samples with equal content that of the same class is taken, and those that the run used come first.
        """
        names = np.array([*samples.class_names, ""], dtype=object)[samples.classes]
        own = np.array([*self.class_names, ""], dtype=object)[self.classes]
        if np.array_equal(samples.digests, self.digests) and np.array_equal(names, own):
            return np.arange(len(own))
        now, known = keys(samples.digests), keys(self.digests)
        free: dict[tuple, deque[int]] = defaultdict(deque)
        for row, (digest, name) in enumerate(zip(now, names, strict=True)):
            free[digest, name].append(row)
        found = np.full(len(known), -1, np.int64)
        order = np.argsort(self.parts == 0, kind="stable").tolist()
        for index in order:
            rows = free.get((known[index], own[index]))
            if rows:
                found[index] = rows.popleft()
        rest: dict[bytes, deque[int]] = defaultdict(deque)
        for (digest, _), rows in free.items():
            rest[digest].extend(rows)
        for index in order:
            if found[index] < 0 and rest.get(known[index]):
                found[index] = rest[known[index]].popleft()
        return found

    def split_again(self, samples: Samples, split: Split, path: str | Path) -> tuple[Split, str | None]:
        """The split of the run in terms of its samples as they lie now, and what has changed in one line.

        Args:
            samples: the source of the run, read again.
            split: of the run, in the positions of its training.
            path: of the run, for what is said.

        Raises:
            InputError: none of the test samples is among these.
        """
        place = self.places(samples)
        if np.array_equal(place, np.arange(len(samples.classes))):
            return split, None
        arrays, gone = {}, {}
        for name in (*PARTS[1:], "polluted"):
            rows = place[getattr(split, name)]
            arrays[name], gone[name] = rows[rows >= 0], int((rows < 0).sum())
        tested = len(split.test_normal) + len(split.test_anomaly)
        missing = gone["test_normal"] + gone["test_anomaly"]
        if tested and missing == tested:
            raise InputError(
                f"{samples.name}: expected the data that {path} was trained on, received others: none of its "
                f"{tested} test samples is among these {len(samples.classes)}; put them back or name others "
                "with --data"
            )
        now = {name: index for index, name in enumerate(samples.class_names)}
        names = (self.class_names[index] for index in split.known_classes)
        known = tuple(now[name] for name in names if name in now)
        again = replace(split, **arrays, known_classes=known)
        held = gone["validation_normal"] + gone["validation_anomaly"]
        added = len(samples.classes) - int((place >= 0).sum())
        changes = [
            f"{added} samples were added and are left out" if added else "",
            f"{missing} of the {tested} test samples are GONE" if missing else "",
            f"{held} held-out samples are gone" if held else "",
        ]
        told = "; ".join(filter(None, changes))
        return again, f"{samples.name}: since {path} was trained, {told}" if told else None


def keys(digests: np.ndarray) -> list[bytes]:
    """Digests as values that sets and dicts take."""
    return [digest.tobytes() for digest in np.ascontiguousarray(digests)]
