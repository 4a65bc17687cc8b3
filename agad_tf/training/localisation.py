"""Where the defect is: error maps against the masks that some sources carry."""

import logging

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.sources.images import read_image, resize_uint8
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation import pixel_metrics

BATCH = 64

logger = logging.getLogger("agad_tf")


def pixel_report(model, samples: Samples, split: Split) -> dict:
    """Pixel AUROC and per-region overlap of the test part.

    Error maps and masks are compared at the size the model works at: a mask goes through the same resize and
    crop as its image, and a pixel that is at least half defect is one. Anomalies without a mask are left out.

    Args:
        model: a detector of images.
        samples, split: whose test part is measured.

    Returns:
        `pixel_auroc`, `pro` (up to a pixel false-positive rate of .3) and `n_masks`; nothing where the source
        has no masks for the test part, or where no defect is left of them at the model's size.

    Raises:
        InputError: an unreadable mask, or one of another size than its image.
    """
    masked = _masked(samples, split)
    if not masked:
        return {}
    rows = np.concatenate([split.test_normal, masked])
    masks, maps = [], []
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        images = np.asarray(samples.x[chosen])
        maps.append(np.asarray(model.anomaly_map(images)))
        stored = np.stack([_mask(samples, row, model.preprocess.crop) for row in chosen])
        low, high = model.preprocess.value_range
        masks.append(np.asarray(model.preprocess(stored))[..., 0] >= (low + high) / 2)
    masks, maps = np.concatenate(masks), np.concatenate(maps)
    if not masks.any():
        size = "x".join(map(str, masks.shape[1:]))
        logger.warning(
            "no pixel metrics: at %s pixels, where the model works, no mask has a defect left", size
        )
        return {}
    return {
        "pixel_auroc": pixel_metrics.pixel_auroc(masks, maps),
        "pro": pixel_metrics.pro(masks, maps),
        "n_masks": len(masked),
    }


def check_masks(samples: Samples, split: Split, crop: str) -> None:
    """Reads the masks of the test part: a bad one is better known before training than after.

    Raises:
        InputError: an unreadable mask, or one of another size than its image.
    """
    for row in _masked(samples, split):
        _mask(samples, row, crop)


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
        return resize_uint8(np.where(path, np.uint8(255), np.uint8(0))[..., None], size, crop)
    mask = read_image(path, channels=1)
    mask = np.where(mask > 0, np.uint8(255), np.uint8(0))
    if mask.shape[:2] == size:
        return mask
    stored = size if samples.paths is None else read_image(samples.paths[row], channels=1).shape[:2]
    if mask.shape[:2] != stored:
        raise InputError(
            f"{path}: expected a mask of its image's size {stored[0]}x{stored[1]}, received "
            f"{mask.shape[0]}x{mask.shape[1]}: make it anew, or remove it"
        )
    return resize_uint8(mask, size, crop)
