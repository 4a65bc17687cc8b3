"""Images that an export of a detector trained on uint8 cannot have been meant for: refused or warned of."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from agad_cases import make, photographs
from loopback_server import Models, loopback

from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.identity import Identity
from agad_tf.scoring.detectors import open_detector
from agad_tf.serving import Client

IMAGES = photographs(12)
UNIT = (IMAGES / 255).astype("float32")
SIGNED = (IMAGES / 127.5 - 1).astype("float32")
CAST = (IMAGES > 127).astype(np.uint8)  # what becomes of x / 255 as uint8
BRIGHT = np.maximum(IMAGES, 128)
FORMATS = {"tf_saved_model": "served/1", "litert": "model.tflite", "onnx": "model.onnx"}


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    model = make(score="reconstruction", number=31)
    model.prepare_scoring(IMAGES)
    model.identity = Identity(kind="uint8")
    for form, name in FORMATS.items():
        model.export(folder / name, format=form)
    model.save(folder / "model.keras")
    return folder, model.predict(IMAGES, verbose=0)


@pytest.mark.parametrize("name", [*FORMATS.values(), "model.keras"])
def test_every_opened_detector_takes_uint8_alone(exports, name):
    folder, expected = exports
    detector = open_detector(folder / name)
    for wrong in (UNIT, SIGNED, IMAGES.astype("float64"), IMAGES.astype("int32")):
        with pytest.raises(InputError, match=f"expected uint8 images, 0 to 255, received {wrong.dtype}"):
            detector.scores(wrong)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(detector.scores(IMAGES), expected, rtol=1e-5)
        assert np.isfinite(detector.scores(BRIGHT)).all()
    with pytest.warns(UserWarning, match="uint8 images of 0 and 1 alone"):
        detector.scores(CAST)


def test_the_float_signature_refuses_several_images_without_a_dark_pixel(exports):
    folder, expected = exports
    loaded = tf.saved_model.load(str(folder / "served/1"))

    def score(x):
        return loaded.signatures["score_float"](images=tf.constant(x))["score"].numpy()

    np.testing.assert_allclose(score(SIGNED), expected, rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected floats from -1 to 1, as in training"):
        score(UNIT)
    assert np.isfinite(score(UNIT[:3])).all()  # of few images it may be so
    assert np.isnan(score(SIGNED * np.nan)).all()


def test_the_edge_model_judges_what_it_is_given(exports):
    folder, expected = exports
    model = EdgeModel(folder / "model.tflite")
    np.testing.assert_allclose(model.score_preprocessed(SIGNED), expected, rtol=1e-5)
    assert np.isnan(model.score_preprocessed(SIGNED * np.nan)).all()
    for wrong, words in (
        (UNIT, "as in training; received floats from 0 to 1, none under 0"),
        (UNIT * 255, r"float images in \[-1, 1\], received 0 to 255"),
        (SIGNED * np.inf, r"float images in \[-1, 1\], received"),
        (IMAGES, r"float images \(n, 8, 8, 1\), received uint8"),
        (SIGNED[:, :4], r"float images \(n, 8, 8, 1\), received float32 \(12, 4, 8, 1\)"),
    ):
        with pytest.raises(InputError, match=words):
            model.score_preprocessed(wrong)
    with pytest.warns(UserWarning, match="x: floats from .* if these are x / 255"):
        model.score_preprocessed(UNIT[:2])
    for score in (model.score, model.explain):
        with pytest.warns(UserWarning, match="uint8 images of 0 and 1 alone"):
            score(CAST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score(BRIGHT)  # bright as they are, and no x / 255


def test_the_client_warns_of_floats_that_were_cast(exports):
    folder, expected = exports
    with loopback(Models({"m": folder / "served"})) as server, Client(server.rest, "m") as client:
        np.testing.assert_allclose(client.score(IMAGES)["score"], expected, rtol=1e-4)
        with pytest.raises(InputError, match="expected uint8 images, 0 to 255, received float32"):
            client.score(UNIT)
        with pytest.warns(UserWarning, match="uint8 images of 0 and 1 alone"):
            client.score(CAST)
