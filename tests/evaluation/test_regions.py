"""Regions of heat maps: where, how large, how often in good images, and drawn where they are."""

import json

import numpy as np
import pytest
from PIL import Image

from agad_tf.errors import InputError
from agad_tf.evaluation.heatmaps import FOUND, MASK, draw_outlines
from agad_tf.evaluation.regions import RegionRule, on_image, outline, smoothed


def spot(top, left, size=64, side=6, value=10.0):
    heat = np.full((size, size), 0.1)
    heat[top : top + side, left : left + side] = value
    return heat


def test_boxes_are_told_in_pixels_of_the_photograph():
    rule = RegionRule(3.0, 0.05, 20)
    (region,) = rule.find(spot(30, 10), (480, 640))
    # Rows 30 to 36 of 64 become 225 to 270 of 480, columns 10 to 16 become 100 to 160 of 640.
    assert abs(region.y - 225) <= 6
    assert abs(region.y + region.height - 270) <= 6
    assert abs(region.x - 100) <= 8
    assert abs(region.x + region.width - 160) <= 8
    assert region.peak == pytest.approx(smoothed(spot(30, 10)).max() / 3, rel=0.05)


def test_two_spots_are_two_regions_the_stronger_first():
    heat = np.maximum(spot(5, 5), spot(40, 40, value=20.0))
    found = RegionRule(3.0, 0.05, 20).find(heat, (64, 64))
    assert len(found) == 2
    assert found[0].peak > found[1].peak
    assert (found[0].x, found[0].y) > (30, 30)
    assert RegionRule(30.0, 0.05, 20).find(heat, (64, 64)) == []


def test_a_centre_crop_puts_boxes_where_they_are_in_the_whole_photograph():
    heat = spot(29, 29)
    (region,) = RegionRule(3.0, 0.05, 20).find(heat, (100, 300), "centre")
    assert abs(region.x + region.width / 2 - 150) <= 2
    assert abs(region.y + region.height / 2 - 50) <= 2
    whole = on_image(heat, (100, 300), "centre")
    assert whole.shape == (100, 300)
    assert not whole[:, :100].any()


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_good_images_show_a_region_no_more_often_than_the_rate(rate):
    rng = np.random.default_rng(0)
    shown = []
    for _ in range(60):
        maps = rng.gamma(2.0, 1.0, (39, 12, 12))
        rule = RegionRule.from_normals(maps, rate)
        shown += [bool(rule.find(heat, (12, 12))) for heat in rng.gamma(2.0, 1.0, (20, 12, 12))]
    assert np.mean(shown) <= rate + 3 * np.sqrt(rate / len(shown))
    assert np.mean(shown) >= 0.5 * rate


def test_of_few_normals_the_rate_is_what_they_allow():
    maps = np.random.default_rng(0).random((4, 8, 8))
    rule = RegionRule.from_normals(maps)
    assert rule == RegionRule(max(smoothed(heat).max() for heat in maps), 0.2, 4)


def test_saved_and_loaded(tmp_path):
    rule = RegionRule(1.25, 0.05, 20)
    rule.save(tmp_path / "regions.json")
    assert RegionRule.load(tmp_path / "regions.json") == rule
    for content in (
        "{",
        "[]",
        json.dumps({"threshold": "x"}),
        '{"threshold": NaN, "rate": 1, "n_normal": 1}',
    ):
        (tmp_path / "regions.json").write_text(content)
        with pytest.raises(InputError, match="threshold"):
            RegionRule.load(tmp_path / "regions.json")


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (np.zeros((0, 4, 4)), "maps of held-out normals"),
        (np.zeros((4, 4)), "received \\(4, 4\\)"),
        (np.full((1, 4, 4), -1.0), "0 or more"),
        (np.full((1, 4, 4), np.nan), "finite"),
    ],
)
def test_refused(maps, words):
    with pytest.raises(InputError, match=words):
        RegionRule.from_normals(maps)


def test_outlines_surround_and_cover_nothing_inside():
    found = np.zeros((40, 60), bool)
    found[10:20, 20:40] = True
    line = outline(found, 2)
    assert not (line & found).any()
    assert line[8:10, 20:40].all()
    assert line[20:22, 20:40].all()
    assert line.sum() == (14 * 24) - (10 * 20)
    assert not outline(np.zeros((5, 5), bool)).any()
    # What fills the picture is outlined along its border.
    assert outline(np.ones((9, 9), bool)).sum() == 9 * 9 - 7 * 7


def test_outlines_are_drawn_on_a_copy():
    picture = np.zeros((40, 60, 3), np.uint8)
    found, mask = np.zeros((2, 40, 60), bool)
    found[10:20, 20:40] = mask[25:30, 5:15] = True
    drawn = draw_outlines(picture, found, mask, thickness=1)
    assert not picture.any()
    assert tuple(drawn[9, 25]) == FOUND
    assert tuple(drawn[24, 8]) == MASK
    assert not drawn[15, 30].any()
    Image.fromarray(drawn)
