"""AGAD's local score: what it reads, when it is standardised, what files of before know of it."""

import keras
import numpy as np
import pytest
from agad_cases import batch, make, photographs, train_once
from scipy.ndimage import correlate1d

from agad_tf import AGAD
from agad_tf.errors import InputError

SHAPE = (16, 16, 3)
NORMALS, IMAGES = photographs(24, SHAPE), photographs(6, SHAPE, seed=1)


@pytest.fixture
def model():
    model = make(SHAPE, number=41, score="local", score_share=0.02)
    train_once(model, *batch([0, 0, 0, 1], SHAPE))
    model.prepare_scoring(NORMALS)
    return model


def smooth_errors(model, images):
    """|x − x̂| over channels through a Gaussian of ¾ of a pixel, by SciPy."""
    x, reconstruction = model.preprocess(images).numpy(), model.reconstruct(images).numpy()
    errors, deviation = np.abs(x - reconstruction).mean(-1), 0.75
    radius = int(np.ceil(3 * deviation))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    for axis in (1, 2):
        errors = correlate1d(errors, weights / weights.sum(), axis, mode="reflect")
    return errors


def test_score_and_map_worked_out_by_hand(model):
    normal = smooth_errors(model, NORMALS)
    standard = (smooth_errors(model, IMAGES) - normal.mean(0)) / (normal.std(0) + 0.01)
    largest = np.sort(standard.reshape(6, -1), axis=1)[:, -5:]  # 2 % of 256 pixels
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), largest.mean(1), rtol=1e-3, atol=1e-3)
    assert set(model.scoring_networks()) == {"scoring_generator"}


def test_fit_standardises_before_each_validation_and_at_its_end():
    model = AGAD((8, 8, 1), "encoder_decoder", score="local")
    model.compile(average_epochs=1.0)
    x, y = photographs(24), np.repeat([0, 1], [20, 4])
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((logs["val_auroc"], np.array(model.local_score.mean)))
    )
    model.fit(x, y, 8, 2, min_anomalies=2, validation_data=(x, y), verbose=0, callbacks=[look])
    assert model.score == "local"
    (first, before), (second, after) = seen
    assert 0 <= min(first, second) <= max(first, second) <= 1
    assert before.min() > 0  # it is 0 until it is standardised
    assert not np.array_equal(before, after)
    maps = model.explain(x[y == 0])[1].numpy()
    assert np.asarray(model.local_score.mean).mean() == pytest.approx(maps.mean(), rel=0.05)


@pytest.mark.parametrize(("side", "score"), [(32, "reconstruction"), (64, "local")])
def test_without_labels_the_size_says_which_score(side, score):
    model = AGAD((side, side, 1), "encoder_decoder")
    model.compile()
    assert model.choose_score(False) == score
    assert model.choose_score(True) == "fused"
    model.compile(literal=True)
    assert model.choose_score(False) == "reconstruction"


def test_it_is_saved_with_what_it_learnt(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(IMAGES), loaded(IMAGES))
    for name in ("reconstruction", "discriminator", "local"):
        x = model.preprocess(IMAGES)
        np.testing.assert_array_equal(model.raw_score(name, x), loaded.raw_score(name, x))


def test_files_of_before_have_the_scores_they_had(model):
    config = {name: value for name, value in model.get_config().items() if name != "score_share"}
    old = AGAD.from_config(config | {"score": "fused"})
    assert old.score_names == old.parts_of_score == ("reconstruction", "discriminator")
    assert old.score_means.shape == (2,)
    assert not [variable for variable in old.variables if "local" in variable.path]
    with pytest.raises(InputError, match="expects one of auto, fused, reconstruction, discriminator, re"):
        old.score = "local"
    assert old.get_config()["score_share"] is None


def test_eight_pixels_of_any_size_are_the_default():
    for side in (8, 16):
        layer = AGAD((side, side, 1), "encoder_decoder").local_score
        assert layer.count == 8
        assert layer.smoothing * side == pytest.approx(0.75)


def test_files_of_before_keep_their_smoothing(model):
    config = model.get_config()
    again = AGAD.from_config(config)
    assert again.local_score.smoothing == model.local_score.smoothing == 0.75 / min(SHAPE[:2])
    old = AGAD.from_config({name: value for name, value in config.items() if name != "score_smoothing"})
    assert old.local_score.smoothing == 1.5 / 64


@pytest.mark.parametrize("share", [0, 1.5, -1, True, "all"])
def test_a_share_out_of_range(share):
    with pytest.raises(InputError, match="score_share expects a share above 0"):
        AGAD((8, 8, 1), "encoder_decoder", score_share=share)
