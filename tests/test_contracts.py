"""Every model through the contracts of contracts.py."""

import contracts
import numpy as np
import pytest
from agad_cases import batch, make, photographs, train_once

NORMALS = photographs(24)


def agad(score, bn_strategy="shared", **compile_with):
    """A trained AGAD, ready to score."""
    model = make(score=score, bn_strategy=bn_strategy, compile_with=compile_with)
    train_once(model, *batch([0, 1, 0, 0, 1, 0]))
    model.prepare_scoring(NORMALS, batch_size=8)
    return model


MODELS = {
    "agad, reconstruction": lambda: agad("reconstruction", "adv_prop_freeze"),
    "agad, fused": lambda: agad("fused"),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))


@every_model
def test_score_is_independent_of_the_batch(model):
    model = model()
    contracts.check_independence(model, photographs(7, seed=1))
    contracts.check_independence(model, batch([0] * 7)[0])


@every_model
def test_score_is_taken_in_inference_mode(model):
    contracts.check_inference_mode(model(), photographs(5, seed=1))


@every_model
def test_predict_agrees_with_call(model):
    contracts.check_predict_is_call(model(), photographs(9, seed=1))


@every_model
def test_images_of_another_size(model):
    model = model()
    for images in (photographs(4, (13, 9, 1), 1), photographs(4, (5, 20, 1), 2), photographs(4, seed=3)):
        contracts.check_preprocessing(model, images, (8, 8), model.preprocess.value_range)


@every_model
def test_save_and_load(model, tmp_path):
    contracts.check_save_and_load(model(), photographs(6, seed=1), tmp_path / "model.keras")


@every_model
def test_explanation(model):
    contracts.check_explanation(model(), photographs(3, (13, 9, 1), 1))
    contracts.check_explanation(model(), batch([0, 0])[0])


def test_quota_batches_through_fit():
    model = agad("auto", run_eagerly=True)
    contracts.check_quota_batches_through_fit(model, NORMALS[:6], photographs(3, seed=4))


# The checks themselves must be able to fail.


def test_a_score_that_reads_its_neighbours_is_caught():
    x = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    with pytest.raises(AssertionError, match="scores differ"):
        contracts.check_independence(lambda batch: batch.sum(1) - batch.mean(), x)


def test_an_order_or_a_shape_that_is_lost_is_caught():
    x = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    with pytest.raises(AssertionError):
        contracts.check_independence(lambda batch: np.sort(batch.sum(1)), x)
    with pytest.raises(AssertionError):
        contracts.check_scores(lambda batch: batch.sum(1, keepdims=True), x)
    with pytest.raises(AssertionError):
        contracts.check_scores(lambda batch: np.full(len(batch), np.nan, np.float32), x)
    contracts.check_independence(lambda batch: batch.sum(1), x)


def test_another_resize_is_caught():
    images = photographs(4, (16, 16, 1))

    def nearest(batch):
        x = batch[:, ::2, ::2] / np.float32(127.5) - 1 if batch.dtype == np.uint8 else batch
        return x.reshape(len(x), -1).std(1)

    with pytest.raises(AssertionError, match="scores differ"):
        contracts.check_preprocessing(nearest, images, (8, 8), (-1, 1))
