"""Where the defect is: error maps against the masks that some sources carry."""

import numpy as np

from agad_tf.data.images import read_image
from agad_tf.data.samples import Samples
from agad_tf.data.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation import pixel_metrics

BATCH = 64


def pixel_report(model, samples: Samples, split: Split) -> dict:
    """Pixel AUROC and per-region overlap of the test part.

    Error maps and masks are compared at the size the model works at: a mask goes through the same resize and
    crop as its image, and a pixel that is at least half defect is one. Anomalies without a mask are left out.

    Args:
        model: a detector of images.
        samples, split: whose test part is measured.

    Returns:
        `pixel_auroc`, `pro` (up to a pixel false-positive rate of .3) and `n_masks`; nothing where the source
        has no masks for the test part.

    Raises:
        InputError: an unreadable mask, or one of another size than its image.
    """
    if samples.masks is None:
        return {}
    masked = [row for row in split.test_anomaly if samples.masks[row] is not None]
    if not masked:
        return {}
    rows = np.concatenate([split.test_normal, masked])
    masks, maps = [], []
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        images = np.asarray(samples.x[chosen])
        maps.append(np.asarray(model.explain(images)[1]))
        stored = np.stack([_mask(samples.masks[row], images.shape[1:3]) for row in chosen])
        low, high = model.preprocess.value_range
        masks.append(np.asarray(model.preprocess(stored))[..., 0] >= (low + high) / 2)
    masks, maps = np.concatenate(masks), np.concatenate(maps)
    return {
        "pixel_auroc": pixel_metrics.pixel_auroc(masks, maps),
        "pro": pixel_metrics.pro(masks, maps),
        "n_masks": len(masked),
    }


def _mask(path: str | None, size: tuple[int, int]) -> np.ndarray:
    """A mask as uint8 (height, width, 1), 255 where the defect is; all 0 for a normal image."""
    if path is None:
        return np.zeros((*size, 1), np.uint8)
    mask = read_image(path, channels=1)
    if mask.shape[:2] != tuple(size):
        raise InputError(
            f"{path}: expected a mask of its image's size {size[0]}x{size[1]}, received "
            f"{mask.shape[0]}x{mask.shape[1]}: leave the image size of the data to the model, or resize it"
        )
    return np.where(mask > 0, np.uint8(255), np.uint8(0))
