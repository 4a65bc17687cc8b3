"""One value from judging to reporting: a detector, what it was tested on, and how well it did."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from agad_tf.evaluation.calibration import Calibration
from agad_tf.evaluation.regions import RegionRule
from agad_tf.evaluation.wording import masks_line
from agad_tf.pixels import read_image, read_mask

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
        regions: what counts as a region of a heat map; None: chosen from the held-out normals of the split.
    """

    model: Any
    samples: Any
    split: Any
    scores: np.ndarray
    metrics: Mapping[str, Any]
    calibration: Calibration | None = None
    regions: RegionRule | None = None

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
        return tuple(np.asarray(part) for part in self.model.pictured(x))

    @property
    def redraws(self) -> bool:
        """Whether the detector redraws samples."""
        return getattr(self.model, "reconstructs", hasattr(self.model, "reconstruct"))

    def redrawn(self, picked: np.ndarray) -> np.ndarray | None:
        """Scored samples as the detector redraws them, in its range; None of one that redraws nothing."""
        if not self.redraws:
            return None
        return np.asarray(self.model.reconstruct(np.asarray(self.samples.x[self.rows[picked]])))

    def heat_maps(self, picked: np.ndarray) -> np.ndarray:
        """Heat maps of scored samples, float (n, height, width), 0 or more.

        Args:
            picked: positions in `scores`.
        """
        return heat_maps(self.model, self.samples, self.rows[picked])

    @cached_property
    def region_rule(self) -> RegionRule | None:
        """What counts as a region; None without held-out normals."""
        held_out = self.split.validation_normal
        if self.regions is not None or not len(held_out):
            return self.regions
        return region_rule(self.model, self.samples, held_out)

    def photo(self, position: int) -> np.ndarray:
        """A scored sample as it was given, from its file if it has one: uint8 (height, width, 1 or 3)."""
        row = self.rows[position]
        path = None if self.samples.paths is None else self.samples.paths[row]
        if path and os.path.isfile(path):
            return read_image(path)
        return np.asarray(self.samples.x[row])

    def mask(self, position: int) -> np.ndarray | None:
        """Where the defect of a scored sample is: bool (height, width) of its photo; None without a mask."""
        masks = self.samples.masks
        mask = None if masks is None else masks[self.rows[position]]
        if mask is None or isinstance(mask, np.ndarray):
            return mask
        # One image may have a folder of masks.
        files = sorted(Path(mask).glob("*.*")) if os.path.isdir(mask) else [mask]
        files = [file for file in files if os.path.isfile(file)]
        return np.any([read_mask(file) for file in files], axis=0) if files else None

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
        if self.metrics.get("masks_learnt"):
            facts["masks in training"] = masks_line(self.metrics["masks_learnt"])
        return facts | {"hash of the split": split.sha256[:16]}


def heat_maps(model: Any, samples: Any, rows: np.ndarray, batch: int = 64) -> np.ndarray:
    """Heat maps of rows of `samples`: the detector's own, else how far each pixel is from its redrawing."""
    maps = []
    for start in range(0, len(rows), batch):
        maps.append(image_maps(model, np.asarray(samples.x[rows[start : start + batch]])))
    return np.concatenate(maps)


def image_maps(model: Any, x: np.ndarray) -> np.ndarray:
    """Heat maps of images as `predict` takes them, (n, height, width), 0 or more."""
    if hasattr(model, "predict_map"):
        return model.predict_map(x)
    return np.asarray(model.anomaly_map(x) if hasattr(model, "anomaly_map") else model.explain(x)[1])


def region_rule(model: Any, samples: Any, held_out: np.ndarray) -> RegionRule:
    """What counts as a region, from the heat maps of up to 100 held-out normals."""
    return RegionRule.from_normals(heat_maps(model, samples, held_out[:100]))


def _shape(x) -> str:
    if x.ndim == 2:
        return f"{x.shape[1]} numbers"
    height, width, channels = x.shape[1:]
    return f"{height} × {width} pixels, {'grey' if channels == 1 else 'colour'}"
