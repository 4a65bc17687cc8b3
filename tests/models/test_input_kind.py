"""Kind and range of samples at every door: refused where they must be wrong, warned of where they may be."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import make, photographs

from agad_tf import AGAD, AABiGAN
from agad_tf.errors import InputError
from agad_tf.identity import Identity

IMAGES = photographs(12)
UNIT = (IMAGES / 255).astype("float32")
SIGNED = UNIT * 2 - 1

UINT8 = Identity(kind="uint8")
FLOAT = Identity(kind="float", smallest=-1.0, largest=1.0)
UNIT_FLOAT = Identity(kind="float", smallest=0.0, largest=1.0)


def test_a_kind_without_a_range_is_not_known_to_see_negative_values():
    assert not Identity(kind="float").sees_negative(-1.0)
    assert FLOAT.sees_negative(-1.0)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y=None):
        super().__init__()
        self.x, self.y = x, np.zeros(len(x), np.int32) if y is None else y

    def __len__(self):
        return len(self.x) // 4

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return self.x[rows], self.y[rows]


def scored_by(model):
    """Every door that scores, as functions of samples."""
    return {
        "array": lambda x: model.predict(x, verbose=0),
        "tensor": lambda x: model.predict(tf.constant(x), verbose=0),
        "batches": lambda x: model.predict(tf.data.Dataset.from_tensor_slices(x).batch(4), verbose=0),
        "single": lambda x: model.predict(tf.data.Dataset.from_tensor_slices(x), verbose=0),
        "PyDataset": lambda x: model.predict(Batches(x), verbose=0),
        "on batch": model.predict_on_batch,
        "call": lambda x: model(x),
        "explain": lambda x: model.explain(x),
        "anomaly_map": lambda x: model.anomaly_map(x),
        "reconstruct": lambda x: model.reconstruct(x),
        "evaluate": lambda x: model.evaluate(x, np.zeros(len(x)), verbose=0),
        "evaluate dataset": lambda x: model.evaluate(
            tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(4), verbose=0
        ),
        "normals": lambda x: model.prepare_scoring(x),
    }


@pytest.fixture(scope="module")
def model():
    model = make(number=8)
    model.prepare_scoring(IMAGES)
    return model


@pytest.mark.parametrize(
    ("identity", "x", "words"),
    [
        (UINT8, UNIT, r"expects uint8 images, or floats from -1 to 1.*none under 0: pass the uint8 images"),
        (FLOAT, UNIT, "none under 0"),
        (UNIT_FLOAT, IMAGES, "expects floats from 0 to 1, as in training, received uint8 images"),
        (UNIT_FLOAT, SIGNED, "expects floats from 0 to 1, as in training, received -1 to 1"),
        (UINT8, IMAGES.astype("int32"), "uint8 or float images, received int32: convert them"),
        (UINT8, IMAGES.astype("float32"), r"float images in \[-1, 1\], received 0 to 255"),
    ],
)
def test_what_must_be_wrong_is_refused_at_every_door(model, identity, x, words):
    model.identity = identity
    for name, door in scored_by(model).items():
        with pytest.raises(InputError, match=words) as error:
            door(x)
        assert "\n" not in str(error.value), name


@pytest.mark.parametrize(
    ("identity", "x"),
    [(UINT8, IMAGES), (UINT8, SIGNED), (FLOAT, IMAGES), (FLOAT, SIGNED), (UNIT_FLOAT, UNIT)],
)
def test_what_is_right_passes_every_door_without_a_word(model, identity, x):
    model.identity = identity
    expected = model.predict(x, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("tensor", "batches", "single", "PyDataset", "on batch", "call"):
            np.testing.assert_allclose(scored_by(model)[name](x), expected, rtol=1e-5, err_msg=name)
        loss = model.evaluate(x, np.zeros(12), verbose=0)
        assert scored_by(model)["evaluate dataset"](x) == pytest.approx(loss)


def test_what_may_be_wrong_is_warned_of_once(model):
    model.identity = UINT8
    model._warned.clear()
    with pytest.warns(UserWarning, match="if these are x / 255, pass the uint8 images"):
        model(UNIT[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(UNIT[2:4])
    with pytest.warns(UserWarning, match="nearly black: were floats from 0 to 1 cast to uint8"):
        model.predict((IMAGES > 128).astype("uint8"), verbose=0)


def test_a_bright_image_is_scored():
    model = make(number=8)
    model.identity = UINT8
    bright = np.full((1, 8, 8, 1), 200, np.uint8)
    assert np.isfinite(model.predict(bright, verbose=0)).all()
    assert np.isfinite(model(np.zeros((1, 8, 8, 1), np.uint8))).all()  # a camera that is off


def test_a_model_whose_range_is_0_to_1_takes_both():
    model = AABiGAN((16, 16, 1), latent_dim=4)
    model.identity = UINT8
    x = photographs(4, (16, 16, 1))
    np.testing.assert_allclose(model(x), model((x / 255).astype("float32")), rtol=1e-4)
    with pytest.warns(UserWarning, match="divided by 255 twice"):
        model((x / 255 / 255).astype("float32"))


def test_training_on_floats_of_another_scale_is_warned_of():
    with pytest.warns(UserWarning, match="where the model takes -1 to 1"):
        make(number=9, compile_with={"run_eagerly": True}).fit(UNIT, batch_size=12, verbose=0)


def test_a_dataset_is_checked_beyond_its_first_batches(monkeypatch):
    monkeypatch.setattr("agad_tf.models.detector.SCORING_SAMPLES", 4)
    x = np.concatenate([SIGNED, np.full((4, 8, 8, 1), 255.0, "float32")])
    dataset = tf.data.Dataset.from_tensor_slices((x, np.zeros(16, np.int32))).batch(4)
    model = make(compile_with={"run_eagerly": True})
    model.identity = Identity()
    with pytest.raises(InputError, match=r"float images in \[-1, 1\], received 255 to 255") as error:
        model.fit(dataset, verbose=0)
    assert "\n" not in str(error.value)


def test_a_batch_that_is_trained_on_by_hand_is_checked():
    model = make(compile_with={"run_eagerly": True})
    model.identity = UINT8
    for x, words in ((UNIT, "none under 0"), (IMAGES.astype("int64"), "received int64")):
        with pytest.raises(InputError, match=words):
            model.train_on_batch(x, np.zeros(12))
    model.identity = Identity()
    model.train_on_batch(IMAGES)
    assert model.identity.kind == "uint8"


def test_whole_numbers_are_refused_inside_of_a_graph_too():
    model = AGAD((8, 8, 1), "encoder_decoder")
    for x, words in (
        (tf.zeros((2, 8, 8, 1), tf.int64), "uint8 or float images, received int64"),
        (tf.zeros((2, 9, 9, 1)), "float images of 8x8, received 9x9"),
    ):
        with pytest.raises(Exception, match=words):
            tf.function(model)(x)
