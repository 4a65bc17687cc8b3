"""Masks say which patches the label of an image is about."""

import feature_cases
import numpy as np
import pytest
import tensorflow as tf

import agad_tf
from agad_tf.data.rendered import as_samples, render
from agad_tf.errors import InputError
from agad_tf.models.feature_discriminator import FeatureDiscriminator
from agad_tf.models.patch_labels import at_masks, content_of, worst_places
from agad_tf.training.localisation import training_masks


def test_a_mask_says_which_patches_a_label_is_about():
    """Of two bright bars one is under the mask: patches of the other are not taken, however bad they look."""
    x, y = feature_cases.parts(36, range(30, 36)), np.repeat([0, 1], [30, 6])
    masks = [None] * 30 + [np.zeros((64, 64), bool) for _ in range(6)]
    for index in range(30, 36):
        masks[index][8:16, 40:56] = True  # a row of two patches of 8 pixels
    taken = []

    class Watched(FeatureDiscriminator):
        def _worst(self, grid, begun, allowed=None):
            taken.append(allowed)
            return super()._worst(grid, begun, allowed)

    model = feature_cases.make()
    model.__class__ = Watched
    model.fit(x, y, 36, 1, min_anomalies=6, steps_per_epoch=2, masks=masks, verbose=0)
    assert taken
    assert all(allowed.shape[1:] == 64 for allowed in taken)
    rows = model.rows_of(model.check_samples(x, "x"))
    allowed = model._patch_labels.of(content_of(tf.constant(np.asarray(rows[:])))).numpy()
    assert allowed[:30].all()
    expected = np.zeros((8, 8), bool)
    expected[0:3, 4:8] = True  # two patches and those beside them
    np.testing.assert_array_equal(allowed[30:].reshape(6, 8, 8), np.stack([expected] * 6))
    places = worst_places(tf.constant([[5.0, 1.0, 9.0, 2.0]]), 3, tf.constant([[True, True, False, False]]))
    assert places.numpy().tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([None], "one for each of 12 samples"),
        ([None] * 11 + [np.zeros((64, 64))], "with a defect in it"),
        ([None] * 11 + [np.ones((64, 10))], r"\(64, 64\) .* received shape \(64, 10\)"),
    ],
)
def test_masks_that_cannot_be_read_are_told(masks, expected):
    x, y = feature_cases.parts(12, range(8, 12)), np.repeat([0, 1], [8, 4])
    with pytest.raises(InputError, match=expected):
        feature_cases.make().fit(x, y, masks=masks, verbose=0)


def test_a_mask_that_is_cropped_away_counts_as_none():
    layer = feature_cases.make(crop="centre").preprocess
    mask = np.zeros((64, 128), bool)
    mask[:, :8] = True
    positions, patches = at_masks([None, mask, mask.T[:64]], np.array([0, 1, 0]), layer, (8, 8), (64, 128))
    assert positions.shape == (0,)
    assert patches.shape == (0, 64)


def test_masks_of_files_reach_the_detector():
    """Those of labelled anomalies in the training part, as bool arrays at the size of the images."""
    samples = as_samples(render("plate", 12, {"dent": 6}, size=(96, 128)))
    rows = np.arange(18)
    learnt = training_masks(samples, rows[12:], "stretch", {})
    masks = learnt.of(rows)
    assert [mask is not None for mask in masks] == [False] * 12 + [True] * 6
    np.testing.assert_array_equal(masks[12], samples.masks[12])
    assert learnt.of(rows[:12]) is None
    assert learnt.identity == f"6 of 6, content {learnt.content}"
    changed = training_masks(samples, rows[12:], "stretch", {"augment": ["flip"]})
    assert changed.of(rows) is None
    assert changed.identity == "none"


def test_maps_of_many_images_are_those_of_each():
    x, y = feature_cases.parts(40, range(36, 40)), np.repeat([0, 1], [36, 4])
    model = feature_cases.make()
    model.fit(x, y, steps_per_epoch=2, verbose=0)
    many = model.predict_map(x, batch_size=16)
    np.testing.assert_allclose(many, model.anomaly_map(x), rtol=1e-4, atol=1e-5)
    for bad, expected in ((x[:0], "at least one image"), (x[:2].astype(float) * 9, "expects|expected")):
        with pytest.raises(InputError, match=expected):
            model.predict_map(bad)
    with pytest.raises(InputError, match="heat maps"):
        agad_tf.AABiGAN((5,)).predict_map(np.zeros((2, 5)))
