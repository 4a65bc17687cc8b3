"""Pixel metrics against values worked out by hand, and a loop over thresholds."""

import numpy as np
import pytest

from agad_tf.errors import InputError
from agad_tf.evaluation import metrics
from agad_tf.evaluation.pixel_metrics import pixel_auroc, pro


def _one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_pixel_auroc_counts_all_pixels_at_once():
    masks = np.array([[[0, 1], [0, 0]], [[0, 0], [0, 1]]])
    maps = np.array([[[1, 5], [2, 3]], [[4, 6], [0, 7.0]]])
    assert metrics.auroc(masks.ravel(), maps.ravel()) == pixel_auroc(masks, maps) == pytest.approx(11 / 12)


def test_pro_weighs_regions_alike_by_hand():
    # 10 normal pixels; regions of 1 and 4. Error falls: small region, 2 normals, large region, other normals.
    masks, maps = np.zeros((1, 3, 5), int), np.zeros((1, 3, 5))
    masks[0, 0, 0] = 1
    masks[0, 1:, 3:] = 1
    maps[0, 0, 0] = 9
    maps[0, 0, 4], maps[0, 2, 0] = 8, 7
    maps[0, 1:, 3:] = [[6, 6], [5, 5]]
    # Overlap is 1/2 up to FPR .2, where it rises to 1, then stays.
    assert pro(masks, maps, fpr_limit=0.3) == pytest.approx((0.2 * 0.5 + 0.1 * 1) / 0.3)
    assert pro(masks, maps, fpr_limit=0.1) == pytest.approx(0.5)
    assert pro(masks, maps, fpr_limit=0.15) == pytest.approx(0.5)
    assert pro(masks, maps, fpr_limit=1) == pytest.approx(0.2 * 0.5 + 0.8)


def test_pro_of_a_constant_map_is_chance_and_of_the_mask_is_one():
    masks = np.zeros((2, 6, 6), int)
    masks[0, :2, :2] = masks[1, 4:, 4:] = 1
    assert pro(masks, np.zeros(masks.shape), 0.3) == pytest.approx(0.15)  # linear from (0, 0) to (1, 1)
    assert pro(masks, masks.astype(float)) == 1.0
    assert pro(masks, 1.0 - masks) == 0.0


def test_pro_regions_join_diagonally_but_not_across_images():
    diagonal = np.zeros((1, 4, 4), int)
    diagonal[0, 0, 0] = diagonal[0, 1, 1] = diagonal[0, 2, 2] = 1
    diagonal[0, 0, 3] = 1  # a region of 3 and one of 1
    maps = np.where(diagonal, 0.0, 0.0)
    maps[0, 0, 0] = 1  # 1/3 of one of two regions, before all else
    # Then one tie of everything: a straight line from (0, 1/6) to (1, 1).
    assert pro(diagonal, maps, 1) == pytest.approx((1 / 6 + 1) / 2)
    stacked = np.zeros((2, 4, 4), int)
    stacked[0, 1, 1] = 1
    stacked[1, 1, 1:3] = 1
    maps = np.zeros(stacked.shape)
    maps[0, 1, 1] = 1  # all of one region of two, not a third of one
    assert pro(stacked, maps, 1) == pytest.approx((1 / 2 + 1) / 2)


def test_pro_equals_a_threshold_loop():
    rng = np.random.default_rng(10)
    masks = np.zeros((3, 12, 12), bool)
    masks[0, 2:5, 2:5] = masks[0, 8:11, 7:9] = masks[2, 0:2, 0:9] = True
    maps = (rng.random(masks.shape) + 0.5 * masks).round(1)
    regions = [masks[0] & (np.arange(12)[:, None] < 6), masks[0] & (np.arange(12)[:, None] > 6), masks[2]]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        flagged = maps >= threshold
        overlap = [np.mean(flagged[i][region]) for i, region in zip((0, 0, 2), regions, strict=True)]
        points.append((np.mean(flagged[~masks]), np.mean(overlap)))
    fpr, overlap = np.array(points).T
    grid = np.linspace(0, 0.3, 200_001)
    assert pro(masks, maps) == pytest.approx(
        np.trapezoid(np.interp(grid, fpr, overlap), grid) / 0.3, abs=1e-6
    )


@pytest.mark.parametrize(
    ("masks", "maps", "limit", "words"),
    [
        (
            np.zeros((2, 3, 3)),
            np.zeros((2, 3, 3)),
            0.3,
            "both normal and defect pixels, received 18 of one kind",
        ),
        (np.full((1, 2, 2), 255), np.zeros((1, 2, 2)), 0.3, "masks of 0 (normal) and 1 (defect)"),
        (np.eye(3)[None], np.zeros((1, 3, 4)), 0.3, "received (1, 3, 3) and (1, 3, 4)"),
        (np.eye(3)[None], np.full((1, 3, 3), np.nan), 0.3, "finite error maps"),
        (np.eye(3)[None], np.zeros((1, 3, 3)), 0, "fpr_limit above 0 and up to 1, received 0"),
    ],
)
def test_bad_masks(masks, maps, limit, words):
    with pytest.raises(InputError) as error:
        pro(masks, maps, limit)
    assert words in _one_line(error)
