"""The local score: a small defect counts as much as it stands out where it is."""

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from agad_tf.errors import InputError
from agad_tf.layers import LocalScore

MAPS = np.random.default_rng(0).random((6, 16, 20, 2)).astype(np.float32)


def test_worked_out_by_hand():
    layer = LocalScore(smoothing=1.5 / 16, share=0.01, floor=0.01)
    layer(MAPS)
    layer.adapt(MAPS)
    smooth = np.stack([gaussian_filter(m, 1.5, axes=(0, 1), truncate=3.4) for m in MAPS])
    mean, deviation = smooth.mean((0, 3)), smooth.std((0, 3)) + 0.01
    standard = (smooth - mean[..., None]) / deviation[..., None]
    largest = np.sort(standard.reshape(6, -1, 2), axis=1)[:, -3:]  # 1 % of 320 pixels
    np.testing.assert_allclose(layer(MAPS), largest.mean(1), atol=2e-3)
    np.testing.assert_allclose(layer.standardised(MAPS), standard, atol=5e-3)


def test_neither_smoothing_nor_adapted_it_is_the_mean_of_the_largest():
    layer = LocalScore(share=2 / 320)
    expected = np.sort(MAPS.reshape(6, -1, 2), axis=1)[:, -2:].mean(1)
    np.testing.assert_allclose(layer(MAPS), expected, rtol=1e-6)


def test_adapts_in_batches_as_at_once():
    whole, batches = LocalScore(smoothing=0.1), LocalScore(smoothing=0.1)
    for layer, maps in ((whole, MAPS), (batches, [MAPS[:4], MAPS[4:]])):
        layer(MAPS)
        layer.adapt(maps)
    np.testing.assert_allclose(whole(MAPS), batches(MAPS), rtol=1e-5)


def test_a_pixel_that_never_changes_does_not_divide_by_zero():
    layer = LocalScore()
    layer(MAPS)
    layer.adapt(np.ones_like(MAPS))
    assert np.isfinite(layer(MAPS)).all()


def test_is_saved_with_what_it_learnt(tmp_path):
    image = keras.Input((16, 20, 2))
    layer = LocalScore(smoothing=0.1, share=0.02, floor=0.01)
    model = keras.Model(image, layer(image))
    layer.adapt(MAPS)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(MAPS), loaded(MAPS))


@pytest.mark.parametrize("setting", [{"share": 0}, {"share": 1.1}, {"smoothing": -1}, {"floor": -0.1}])
def test_settings_out_of_range(setting):
    with pytest.raises(InputError, match=f"{next(iter(setting))} expects"):
        LocalScore(**setting)


def test_no_maps():
    layer = LocalScore()
    layer(MAPS)
    with pytest.raises(InputError, match="at least one map"):
        layer.adapt(MAPS[:0])
