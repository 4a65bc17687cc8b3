"""What a model knows of its input, and where it keeps it."""

import keras
import numpy as np
import pytest
from agad_cases import batch, make, photographs

from agad_tf import AGAD, AABiGAN
from agad_tf.errors import InputError
from agad_tf.identity import Identity


def fitted(x, y=None, **arguments):
    model = make(number=7, compile_with={"run_eagerly": True}, **arguments)
    model.identity = Identity()
    model.fit(x, y, batch_size=8, min_anomalies=2, verbose=0)
    return model


def test_fit_completes_the_identity():
    assert make().identity.kind is None
    assert fitted(photographs(8)).identity.kind == "uint8"
    x, y = batch([0] * 8 + [1] * 4)
    about = fitted(x, y).identity
    assert about.kind == "float"
    assert (about.smallest, about.largest) == pytest.approx((x.min(), x.max()))


def test_columns_stay_through_fit_and_file(tmp_path):
    model = AABiGAN((3,))
    model.compile()
    model.identity = Identity(columns=("a", "b", "c"))
    model.fit(np.random.default_rng(0).normal(size=(20, 3)), batch_size=8, verbose=0)
    assert model.identity.kind == "table"
    assert model.identity.columns == ("a", "b", "c")
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").identity == model.identity


def test_an_identity_of_other_columns_is_refused():
    with pytest.raises(InputError, match="identity expects the names of the model's columns"):
        AABiGAN((3,)).identity = Identity(columns=("a", "b"))
    with pytest.raises(InputError, match="received TrackedDict"):
        AABiGAN((3,)).identity = {"columns": ["a", "b", "c"]}


def test_weights_carry_the_resolved_score_and_the_identity(tmp_path):
    x, y = batch([0] * 12 + [1] * 4)
    model = fitted(x, y)
    assert model.score == "fused"
    model.save_weights(tmp_path / "model.weights.h5")
    other = AGAD((8, 8, 1), "encoder_decoder")
    before = other.predict(x, verbose=0)
    other.load_weights(tmp_path / "model.weights.h5")
    assert other.score == "fused"
    assert other.identity == model.identity
    np.testing.assert_allclose(other.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)
    assert np.abs(before - other.predict(x, verbose=0)).max() > 1e-3


def test_a_second_fit_with_labels_decides_the_score_again(tmp_path):
    x, y = batch([0] * 12 + [1] * 4)
    model = fitted(x[y == 0])
    assert model.score == "reconstruction"
    model.save(tmp_path / "model.keras")
    for continued in (model, keras.saving.load_model(tmp_path / "model.keras")):
        continued.fit(x, y, batch_size=8, min_anomalies=2, verbose=0)
        assert continued.score == "fused"
    model.fit(x[y == 0], batch_size=8, verbose=0)  # what was learnt from labels is still there
    assert model.score == "fused"
    chosen = fitted(x[y == 0], score="reconstruction")
    chosen.fit(x, y, batch_size=8, min_anomalies=2, verbose=0)
    assert chosen.score == "reconstruction"


def test_a_score_that_is_set_is_the_one_that_predict_gives():
    x, y = batch([0] * 12 + [1] * 4)
    model = fitted(x, y)
    model.predict(x, verbose=0)
    model.score = "discriminator"
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="score expects one of"):
        model.score = "best"
