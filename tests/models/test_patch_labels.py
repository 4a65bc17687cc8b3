"""Masks say which patches the label of an image is about."""

import feature_cases
import numpy as np
import pytest
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.models.feature_discriminator import FeatureDiscriminator
from agad_tf.models.patch_labels import content_of, worst_places


def test_a_mask_says_which_patches_a_label_is_about():
    """Of two bright bars one is under the mask: patches of the other are not taken, however bad they look."""
    x, y = feature_cases.parts(36, range(30, 36)), np.repeat([0, 1], [30, 6])
    masks = [None] * 30 + [np.zeros((64, 64), bool) for _ in range(6)]
    for index in range(30, 36):
        masks[index][8:16, 40:56] = True  # a row of two patches of 8 pixels
    taken = []

    class Watched(FeatureDiscriminator):
        def _worst(self, grid, begun, under=None):
            taken.append(under)
            return super()._worst(grid, begun, under)

    model = feature_cases.make()
    model.__class__ = Watched
    model.fit(x, y, 36, 1, min_anomalies=6, steps_per_epoch=2, masks=masks, verbose=0)
    assert taken
    rows = model.rows_of(model.check_samples(x, "x"))
    under = model._patch_labels.of(content_of(tf.constant(np.asarray(rows[:])))).numpy()
    assert under[:30].all()
    expected = np.zeros((8, 8), bool)
    expected[0:3, 4:8] = True  # two patches and those beside them
    np.testing.assert_array_equal(under[30:].reshape(6, 8, 8), np.stack([expected] * 6))
    places = worst_places(tf.constant([[5.0, 1.0, 9.0, 2.0]]), 3, tf.constant([[True, True, False, False]]))
    assert places.numpy().tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([None], "one for each of 12 samples"),
        ([None] * 11 + [np.zeros((64, 64))], "with a defect in it"),
        ([None] * 11 + [np.ones(64)], r"\(height, width\)"),
    ],
)
def test_masks_that_cannot_be_read_are_told(masks, expected):
    x, y = feature_cases.parts(12, range(8, 12)), np.repeat([0, 1], [8, 4])
    with pytest.raises(InputError, match=expected):
        feature_cases.make().fit(x, y, masks=masks, verbose=0)
