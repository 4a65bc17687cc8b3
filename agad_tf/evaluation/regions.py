"""Where a heat map stands out: regions above what good samples show, as boxes and outlines.

    rule = RegionRule.from_normals(model.anomaly_map(held_out_normals))
    rule.find(model.anomaly_map(x)[0], (480, 640))  # boxes in a photograph of 640 x 480

NumPy, SciPy and Pillow; no TensorFlow.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from scipy import ndimage

from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import check_share
from agad_tf.files import write_atomically
from agad_tf.pixels import crop_box

RATE = 0.05
"""Share of good images in which a region may be marked, where nothing else is asked for."""

BLUR = 1 / 64
"""Deviation of the smoothing, as a share of the longer side: one pixel of a map of 64 pixels."""


@dataclass(frozen=True)
class Region:
    """A part of an image that stands out.

    Attributes:
        x, y: upper left corner of its box, in pixels of the image, from 0.
        width, height: of its box.
        peak: largest value of the smoothed map in it, divided by the threshold: above 1.
    """

    x: int
    y: int
    width: int
    height: int
    peak: float


@dataclass(frozen=True)
class RegionRule:
    """What counts as a region: connected pixels of the smoothed map above a threshold.

    Attributes:
        threshold: on the smoothed map.
        rate: share of good images that show a region, on average at most; of few normals 1 / (n + 1).
        n_normal: held-out normals that the threshold was chosen from.
    """

    threshold: float
    rate: float
    n_normal: int

    @classmethod
    def from_normals(cls, maps: ArrayLike, rate: float = RATE) -> RegionRule:
        """Chooses the threshold from the largest values of the maps of held-out normal images.

        It is the conformal quantile: of new good images at most `rate` show a region, on average. With fewer
        than 1 / rate - 1 normals it is the largest value seen, and the rate becomes 1 / (n + 1).

        Args:
            maps: (n, height, width), 0 or more.
            rate: above 0 and below 1.

        Raises:
            InputError: no maps, another shape, negative or infinite values, a rate out of range.
        """
        rate = check_share(rate, "rate")
        maps = np.asarray(maps)
        if maps.ndim != 3 or 0 in maps.shape:
            raise InputError(f"expected maps of held-out normals (n, height, width), received {maps.shape}")
        peaks = np.sort([smoothed(heat).max() for heat in maps])
        n = len(peaks)
        rank = min(n, math.ceil((n + 1) * (1 - rate) - 1e-9))
        return cls(float(peaks[rank - 1]), max(rate, 1 / (n + 1)), n)

    def marked(self, heat: ArrayLike, size: tuple[int, int], crop: str = "stretch") -> np.ndarray:
        """Which pixels of an image of `size` (height, width) lie in a region: bool (height, width)."""
        return on_image(smoothed(heat), size, crop) > self.threshold

    def find(self, heat: ArrayLike, size: tuple[int, int], crop: str = "stretch") -> list[Region]:
        """The regions of one image, the strongest first.

        Args:
            heat: (map height, map width), 0 or more.
            size: (height, width) of the image that the boxes are told in.
            crop: how the image was brought to the map's aspect, "stretch" or "centre".
        """
        heat = on_image(smoothed(heat), size, crop)
        labels, count = ndimage.label(heat > self.threshold, np.ones((3, 3)))
        peaks = ndimage.maximum(heat, labels, range(1, count + 1)) if count else []
        # Where the threshold is 0 - normals that are redrawn exactly - the peak itself is told.
        unit = self.threshold or 1.0
        found = [
            Region(
                box[1].start, box[0].start, *(side.stop - side.start for side in box[::-1]), float(p / unit)
            )
            for box, p in zip(ndimage.find_objects(labels), peaks, strict=True)
        ]
        return sorted(found, key=lambda region: -region.peak)

    def save(self, path: str | Path) -> None:
        """Writes it as JSON."""
        write_atomically(path, json.dumps(asdict(self), indent=2).encode())

    @classmethod
    def load(cls, path: str | Path) -> RegionRule:
        """Reads what `save` wrote.

        Raises:
            InputError: something else.
        """
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                raise ValueError("a folder, pipe or device")
            content = json.loads(Path(path).read_text("utf-8"))
            rule = cls(float(content["threshold"]), float(content["rate"]), int(content["n_normal"]))
        except (
            OSError,
            ArithmeticError,
            ValueError,
            LookupError,
            TypeError,
            RecursionError,
            MemoryError,
        ) as error:
            raise InputError(
                f"{path}: expected a threshold of heat maps, received something else ({error})"
            ) from None
        if not (math.isfinite(rule.threshold) and rule.threshold >= 0):
            raise InputError(f"{path}: expected a threshold of 0 or more, received {rule.threshold}")
        return rule


def smoothed(heat: ArrayLike) -> np.ndarray:
    """A heat map without its finest grain, float64.

    Raises:
        InputError: another shape than (height, width), or values that are negative, infinite or NaN.
    """
    heat = np.asarray(heat, np.float64)
    if heat.ndim != 2 or 0 in heat.shape:
        raise InputError(f"expected a heat map (height, width), received shape {heat.shape}")
    if not (np.isfinite(heat).all() and heat.min() >= 0):
        raise InputError(
            "expected a heat map of finite values of 0 or more, received others: check the detector"
        )
    return ndimage.gaussian_filter(heat, BLUR * max(heat.shape), mode="nearest")


def on_image(heat: np.ndarray, size: tuple[int, int], crop: str = "stretch") -> np.ndarray:
    """A map resized to an image of `size` (height, width); 0 where a centre crop left the image out."""
    top, left, height, width = crop_box(size, heat.shape, crop)
    resized = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.BILINEAR)
    if (height, width) == tuple(size):
        return np.asarray(resized)
    whole = np.zeros(size, np.float32)
    whole[top : top + height, left : left + width] = resized
    return whole


def outline(marked: np.ndarray, thickness: int = 1) -> np.ndarray:
    """The line just around what is marked, so many pixels thick: bool, same shape."""
    # A border of unmarked pixels, so that what touches the image's edge is outlined there too.
    padded = np.pad(np.asarray(marked, bool), 1)
    wider = ndimage.binary_dilation(padded, np.ones((3, 3)), iterations=thickness)
    line = (wider & ~padded)[1:-1, 1:-1]
    inside = marked & ~ndimage.binary_erosion(marked, np.ones((3, 3)), iterations=thickness)
    at_edge = np.ones_like(line)
    at_edge[thickness:-thickness, thickness:-thickness] = False
    return line | (inside & at_edge)
