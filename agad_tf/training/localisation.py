"""Where the defect is: error maps against the masks that some sources carry."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.sources.files import list_images
from agad_tf.data.sources.images import resize_uint8
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation import pixel_metrics
from agad_tf.evaluation.evaluation import heat_maps
from agad_tf.pixels import image_header, read_mask

BATCH = 64

logger = logging.getLogger("agad_tf")


def pixel_report(model, samples: Samples, split: Split) -> dict:
    """Pixel AUROC and per-region overlap of the test part.

    Error maps and masks are compared at the size the model works at: a mask goes through the same resize and
    crop as its image, and a pixel that is at least half defect is one. Anomalies without a mask, or with an
    empty one, are left out.

    Args:
        model: a detector of images.
        samples, split: whose test part is measured.

    Returns:
        `pixel_auroc`, `pro` (up to a pixel false-positive rate of .3) and `n_masks`; nothing where the source
        has no masks for the test part, or where no defect is left of them at the model's size.

    Raises:
        InputError: an unreadable mask, or one of another size than its image.
    """
    crop = getattr(model.preprocess, "crop", "stretch")  # tables have none, and no masks
    masked = [row for row in _masked(samples, split) if _mask(samples, row, crop).any()]
    if not masked:
        return {}
    rows = np.concatenate([split.test_normal, masked])
    low, high = model.preprocess.value_range
    masks = []
    for start in range(0, len(rows), BATCH):
        stored = np.stack([_mask(samples, row, crop) for row in rows[start : start + BATCH]])
        masks.append(np.asarray(model.preprocess(stored))[..., 0] >= (low + high) / 2)
    masks = np.concatenate(masks)
    if not masks.any():
        size = "x".join(map(str, masks.shape[1:]))
        logger.warning(
            "no pixel metrics: at %s pixels, where the model works, no mask has a defect left", size
        )
        return {}
    maps = heat_maps(model, samples, rows)
    return {
        "pixel_auroc": pixel_metrics.pixel_auroc(masks, maps),
        "pro": pixel_metrics.pro(masks, maps),
        "n_masks": len(masked),
    }


@dataclass(frozen=True)
class TrainingMasks:
    """The masks that a training learns from, each read once.

    Attributes:
        held: by row, bool (height, width) sized as the images are held, with a defect in it.
        labelled: number of labelled anomalies that are trained on, with a mask or without.
        content: of the masks and of which images they are, 8 hexadecimal digits.
    """

    held: Mapping[int, np.ndarray]
    labelled: int
    content: str

    def of(self, rows: np.ndarray) -> list[np.ndarray | None] | None:
        """The masks of some rows as `FeatureDiscriminator.fit` takes them; None where none has one."""
        masks = [self.held.get(int(row)) for row in rows]
        return masks if any(mask is not None for mask in masks) else None

    @property
    def identity(self) -> str:
        """What must be the same when a training goes on."""
        return f"{len(self.held)} of {self.labelled}, content {self.content}" if self.held else "none"


def training_masks(samples: Samples, rows: np.ndarray, crop: str, fit: Mapping) -> TrainingMasks:
    """Reads the masks of the labelled anomalies; none where images are changed before they are learnt.

    Args:
        samples, rows: the labelled anomalies that are trained on.
        crop: of the detector.
        fit: settings of `fit`.

    Raises:
        InputError: an unreadable mask, or one of another size than its image.
    """
    held, digest = {}, hashlib.sha256()
    for row in rows if samples.masks is not None and fit.get("augment") is None else ():
        if samples.masks[row] is None:
            continue
        mask = _mask(samples, row, crop)[..., 0] >= 128
        if mask.any():
            held[int(row)] = mask
            digest.update(samples.digests[row].tobytes() + np.packbits(mask).tobytes())
    return TrainingMasks(held, len(rows), digest.hexdigest()[:8])


def check_masks(samples: Samples, split: Split, crop: str) -> None:
    """Reads the masks of the test part: a bad one is better known before training than after.

    Anomalies that have none, or an empty one, are told.

    Raises:
        InputError: an unreadable mask, or one of another size than its image.
    """
    masked = _masked(samples, split)
    if not masked:
        return
    empty = [row for row in masked if not _mask(samples, row, crop).any()]
    without = np.setdiff1d(split.test_anomaly, masked)
    for rows, what in ((without, "no mask"), (empty, "an empty mask")):
        if len(rows):
            logger.warning(
                "%d of %d anomalies in the test have %s, e.g. %s: they do not count in the figures by pixel",
                len(rows), len(split.test_anomaly), what,
                f"row {rows[0]}" if samples.paths is None else samples.paths[rows[0]],
            )  # fmt: skip


def _masked(samples: Samples, split: Split) -> list[int]:
    """The anomalies of the test part that have a mask."""
    if samples.masks is None:
        return []
    return [row for row in split.test_anomaly if samples.masks[row] is not None]


def _mask(samples: Samples, row: int, crop: str) -> np.ndarray:
    """A mask as uint8 (height, width, 1), 255 where the defect is, sized as the image was when it was read.

    All 0 for an image without one.
    """
    path, size = samples.masks[row], tuple(samples.x.shape[1:3])
    if path is None:
        return np.zeros((*size, 1), np.uint8)
    if isinstance(path, np.ndarray):
        return resize_uint8(
            np.where(path, np.uint8(255), np.uint8(0))[..., None], size, crop, antialias=False
        )
    files = list_images(path) if Path(path).is_dir() else [path]  # one image may have several masks
    masks = [read_mask(file) for file in files]
    if len({mask.shape for mask in masks}) > 1:
        raise InputError(f"{path}: expected masks of one size, received several: make them anew")
    mask = np.where(np.any(masks, axis=0), np.uint8(255), np.uint8(0))[..., None]
    if mask.shape[:2] == size:
        return mask
    stored = size if samples.paths is None else image_header(samples.paths[row])[0]
    if mask.shape[:2] != stored:
        raise InputError(
            f"{path}: expected a mask of its image's size {stored[0]}x{stored[1]}, received "
            f"{mask.shape[0]}x{mask.shape[1]}: make it anew, or remove it"
        )
    return resize_uint8(mask, size, crop, antialias=False)
