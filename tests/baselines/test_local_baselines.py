"""The baselines that redraw images, scored by the places that they redraw worst."""

import numpy as np
import pytest
import tensorflow as tf
from baseline_cases import COLOUR, ROWS, both_kinds, make, samples
from contracts import check_agreement, check_independence, check_predict_is_call, check_save_and_load

from agad_tf.baselines import BASELINES
from agad_tf.errors import InputError
from agad_tf.export.agreement import FLOAT32, agreement, rounded_size
from agad_tf.export.saved_model import export_saved_model

OWN = {
    "autoencoder": "reconstruction",
    "ganomaly": "latent",
    "skip_ganomaly": "weighted",
    "f_anogan": "residual",
}
IMAGES = samples(COLOUR, 7, seed=3)


@pytest.fixture(scope="module", params=OWN)
def model(request):
    arguments = {"backbone": "lenet"} if request.param == "f_anogan" else {}
    model = make(request.param, COLOUR, score="local", score_share=0.02, **arguments)
    x, y = both_kinds(COLOUR)
    model.train_on_batch(x, y)
    model.prepare_scoring(samples(COLOUR, 24))
    return model


def test_it_is_the_mean_of_the_largest_standardised_errors(model):
    local = model.local_score
    maps = local.smoothed(model.anomaly_map(IMAGES)[..., None])[..., 0].numpy()
    standard = (maps - np.array(local.mean)) / np.array(local.deviation)
    largest = np.sort(standard.reshape(len(IMAGES), -1), axis=1)[:, -5:]  # 2 % of 256 pixels
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), largest.mean(1), rtol=1e-3, atol=1e-3)
    assert np.array(local.mean).min() > 0  # it is 0 until it is standardised


def test_contract(model, tmp_path):
    assert model.score_names == (OWN[_name(model)], "local")
    check_independence(lambda x: model(x), IMAGES, 1e-4)
    check_predict_is_call(model, IMAGES)
    loaded = check_save_and_load(model, IMAGES, tmp_path / "model.keras")
    for part in loaded.score_names:
        x = model.preprocess(IMAGES)
        check_agreement(loaded.raw_score(part, x), model.raw_score(part, x))


def test_the_saved_model_has_score_and_map(model, tmp_path):
    signatures = tf.saved_model.load(str(export_saved_model(model, tmp_path / "parts"))).signatures
    scores = signatures["serving_default"](images=IMAGES)["score"]
    assert agreement(model.predict(IMAGES, verbose=0), scores, rounded_size(model)) <= FLOAT32
    shown = signatures["explain"](images=IMAGES)
    np.testing.assert_allclose(shown["error_map"], model.anomaly_map(IMAGES), atol=1e-5)


def test_the_papers_score_is_the_default_and_has_no_such_part():
    for name, own in OWN.items():
        model = make(name, COLOUR)
        assert (model.score, model.score_names, model.local_score) == (own, (own,), None)
        with pytest.raises(InputError, match="score expects one of"):
            model.score = "local"


@pytest.mark.parametrize("name", OWN)
def test_fused_is_both(name):
    model = make(name, COLOUR, score="fused")
    assert (model.score_names, model.local_score.count) == ((OWN[name], "local"), 8)
    assert model.parts_of_score == model.score_names
    again = type(model).from_config(model.get_config())
    assert (again.score, again.score_names) == ("fused", model.score_names)
    # What was saved while "fused" was the one part keeps it.
    old = type(model).from_config(model.get_config() | {"score_share": None})
    assert old.score_names == (OWN[name],)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"score local expects images, received rows \(features,\): leave"):
        BASELINES["autoencoder"](ROWS, score="local")
    for cls in (BASELINES[name] for name in OWN):
        with pytest.raises(InputError, match=r"one of auto, fused, \w+, local, received 'locale'"):
            cls(COLOUR, score="locale")
        with pytest.raises(InputError, match="score_share expects a share above 0"):
            cls(COLOUR, score_share=2)


def _name(model):
    return next(name for name in OWN if type(model) is BASELINES[name])
