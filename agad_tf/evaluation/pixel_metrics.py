"""Metrics of error maps against defect masks: pixel AUROC and per-region overlap (PRO).

NumPy, SciPy and scikit-learn only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import check_share


def _check_masks_and_maps(masks: ArrayLike, maps: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    mask, values = np.asarray(masks), np.asarray(maps, dtype=np.float64)
    if mask.ndim != 3 or mask.shape != values.shape:
        raise InputError(
            f"Expected masks and maps of one shape (n, height, width), received {mask.shape} "
            f"and {values.shape}: resize the maps to the masks."
        )
    if not np.isin(mask, (0, 1)).all():
        raise InputError(
            "Expected masks of 0 (normal) and 1 (defect), received other values: "
            "threshold the masks first (mask > 0)."
        )
    if not np.isfinite(values).all():
        raise InputError(
            "Expected finite error maps, received NaN or infinite values: check the model's weights."
        )
    mask = mask.astype(bool)
    if mask.all() or not mask.any():
        raise InputError(
            f"Pixel metrics need both normal and defect pixels, received {mask.size} of one "
            "kind: add images with the other kind."
        )
    return mask, values


def pixel_auroc(masks: ArrayLike, maps: ArrayLike) -> float:
    """AUROC over all pixels of all images at once.

    Args:
        masks: (n, height, width), 1 where the defect is.
        maps: (n, height, width), error per pixel, higher is more anomalous.

    Raises:
        InputError: shapes differ, masks other than 0 and 1, maps not finite, one kind of pixel only.
    """
    mask, values = _check_masks_and_maps(masks, maps)
    return float(roc_auc_score(mask.ravel(), values.ravel()))


def pro(masks: ArrayLike, maps: ArrayLike, fpr_limit: float = 0.3) -> float:
    """Per-region overlap: area under mean region coverage against pixel FPR, from 0 to ``fpr_limit``.

    Every connected defect (8 neighbours) weighs the same, however large. Bergmann et al., "The MVTec anomaly
    detection dataset", IJCV 2021: linear between thresholds, divided by ``fpr_limit``.

    Args:
        masks: (n, height, width), 1 where the defect is.
        maps: (n, height, width), error per pixel, higher is more anomalous.
        fpr_limit: above 0, up to 1.

    Returns:
        A value in [0, 1]; chance is fpr_limit / 2.

    Raises:
        InputError: as `pixel_auroc`; ``fpr_limit`` out of range.
    """
    mask, values = _check_masks_and_maps(masks, maps)
    limit = check_share(fpr_limit, "fpr_limit", upper_included=True)
    within_image = np.zeros((3, 3, 3), dtype=bool)
    within_image[1] = True  # neighbours in the picture, never in the next picture of the batch
    regions, count = ndimage.label(mask, structure=within_image)
    sizes = np.bincount(regions.ravel())
    weight = np.where(mask, 1 / (count * sizes[regions]), 0.0).ravel()
    order = np.argsort(-values.ravel(), kind="stable")
    falling = values.ravel()[order]
    last_of_tie = np.append(falling[1:] != falling[:-1], True)
    normal = ~mask.ravel()[order]
    fpr = np.append(0.0, (np.cumsum(normal) / normal.sum())[last_of_tie])
    overlap = np.append(0.0, np.cumsum(weight[order])[last_of_tie])
    inside = fpr <= limit
    # Several thresholds may share one FPR; the last point inside has the highest overlap there.
    x, y = fpr[inside], overlap[inside]
    if x[-1] < limit:
        after = int(inside.sum())
        share = (limit - x[-1]) / (fpr[after] - x[-1])
        x, y = np.append(x, limit), np.append(y, y[-1] + share * (overlap[after] - y[-1]))
    return float(min(1.0, np.trapezoid(y, x) / limit))
