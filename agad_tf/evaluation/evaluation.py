"""One value from judging to reporting: a detector, what it was tested on, and how well it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from agad_tf.evaluation.thresholds import Calibration

Explanation = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one evaluation found; made by `agad_tf.training.evaluate.judge`, shown by the report.

    Attributes:
        model: the detector that was judged. For pictures it has `explain(x)`, `preprocess` and its
            `value_range`.
        samples: the `Samples` that the test part belongs to.
        split: the `Split` whose test part was scored.
        scores: (n,), finite; those of the normals of the test part, then those of its anomalies.
        metrics: what `summary.summarise` gives, and more; JSON-able. Missing and None entries are not known.
        calibration: the threshold that the metrics were measured with, or None.
    """

    model: Any
    samples: Any
    split: Any
    scores: np.ndarray
    metrics: Mapping[str, Any]
    calibration: Calibration | None = None

    @cached_property
    def rows(self) -> np.ndarray:
        """Position of each score's sample in `samples`, int64 (n,)."""
        return self.split.labelled("test")[0]

    @cached_property
    def labels(self) -> np.ndarray:
        """0 for the normals, 1 for the anomalies, (n,)."""
        return self.split.labelled("test")[1]

    @property
    def classes(self) -> np.ndarray:
        """Class of each scored sample, an index into `samples.class_names`, (n,)."""
        return self.samples.classes[self.rows]

    @property
    def names(self) -> tuple[str, ...] | None:
        """File of each scored sample; None where the samples are no files."""
        paths = self.samples.paths
        return None if paths is None else tuple(paths[row] for row in self.rows)

    @property
    def has_pictures(self) -> bool:
        """Whether samples can be shown: rows of a table cannot."""
        return self.samples.x.ndim == 4

    def explain(self, picked: np.ndarray) -> Explanation:
        """Inputs, reconstructions and error maps, as the report and `heatmaps.reconstruction_grid` take them.

        Args:
            picked: positions in `scores`.
        """
        x = np.asarray(self.samples.x[self.rows[picked]])
        reconstruction, error_map = self.model.explain(x)
        return np.asarray(self.model.preprocess(x)), np.asarray(reconstruction), np.asarray(error_map)

    def data_facts(self) -> dict[str, object]:
        """What the detector was trained and tested on, as name and text."""
        samples, split = self.samples, self.split
        normal = {samples.class_names[c] for c in np.unique(samples.classes[split.test_normal])}
        anomalous = {samples.class_names[c] for c in np.unique(samples.classes[split.test_anomaly])}
        counts = {name: value for name, value in split.summary().items() if isinstance(value, int)}
        known = [samples.class_names[index] for index in split.known_classes]
        facts = {
            "data": samples.name,
            "samples": f"{len(self.rows)} in this test, {len(samples.x)} in all, each {_shape(samples.x)}",
            "normal classes": ", ".join(sorted(normal)) or "none",
            "anomalous classes": ", ".join(sorted(anomalous)) or "none",
            "labelled anomalies in training came from": ", ".join(known) or "nowhere: none were used",
        }
        words = {
            "train_normal": "normal samples trained on",
            "train_anomaly": "labelled anomalies trained on",
            "validation_normal": "normal samples held out",
            "validation_anomaly": "labelled anomalies held out",
            "polluted": "unlabelled anomalies among the normal ones",
        }
        facts |= {text: counts[name] for name, text in words.items() if counts.get(name)}
        return facts | {"hash of the split": split.sha256[:16]}


def _shape(x) -> str:
    if x.ndim == 2:
        return f"{x.shape[1]} numbers"
    height, width, channels = x.shape[1:]
    return f"{height} × {width} pixels, {'grey' if channels == 1 else 'colour'}"
