"""A Keras model, or a registered class, as the backbone of AGAD."""

import sys

import keras
import numpy as np
import pytest
from agad_cases import batch, photographs
from click.testing import CliRunner
from keras import layers

import agad_tf
from agad_tf import AGAD
from agad_tf.cli import main
from agad_tf.errors import InputError
from agad_tf.scoring.detectors import open_detector
from agad_tf.sklearn import AGADEstimator

SHAPE = (8, 8, 1)
X, Y = batch([0] * 12 + [1] * 4)


def graph(shape=SHAPE, channels=1, activation="tanh"):
    """A U-Net of one level by the functional API."""
    image = keras.Input(shape)
    fine = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(image)))
    coarse = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(fine)
    both = layers.Concatenate()([fine, layers.UpSampling2D()(coarse)])
    return keras.Model(image, layers.Conv2D(channels, 1, activation=activation)(both))


@keras.saving.register_keras_serializable("test_own_backbone")
class Routed(keras.Model):
    """A class that takes heads and routes."""

    def __init__(self, input_shape, route_heads=(0,), **kwargs):
        super().__init__(**kwargs)
        self.heads = route_heads
        self.convolution = layers.Conv2D(4, 3, padding="same")
        self.norm = agad_tf.RoutedBatchNormalization(route_heads)
        self.image = layers.Conv2D(input_shape[-1], 1)
        self.range = layers.Activation("tanh", dtype="float32")

    def call(self, x, route=None, training=False):
        x = keras.ops.relu(self.norm(self.convolution(x), route=route, training=training))
        return self.range(self.image(x))


@keras.saving.register_keras_serializable("test_own_backbone")
class Plain(keras.Model):
    """A class without routes, batch norm or an argument `training`."""

    def __init__(self, input_shape):
        super().__init__()
        self.image = layers.Conv2D(input_shape[-1], 3, padding="same", activation="tanh")

    def call(self, x):
        return self.image(x)


class Unregistered(Plain):
    pass


def trained(backbone, **more):
    model = AGAD(SHAPE, backbone, **more)
    model.compile(run_eagerly=True)
    model.fit(X, Y, batch_size=8, min_anomalies=2, verbose=0)
    return model


@pytest.mark.parametrize("make", [graph, lambda: Routed, lambda: Plain], ids=["model", "class", "plain"])
def test_trains_maps_saves_and_loads(make, tmp_path):
    model = trained(make())
    scores = model.predict(X, verbose=0)
    assert np.isfinite(scores).all()
    assert model.anomaly_map(X[:2]).shape == (2, 8, 8)
    model.save(tmp_path / "model.keras")
    loaded = agad_tf.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), scores)
    assert loaded.backbone == model.backbone
    loaded.fit(X, Y, batch_size=8, min_anomalies=2, verbose=0)  # optimizers and all
    np.testing.assert_array_equal(open_detector(tmp_path / "model.keras").scores(photographs(3)).shape, (3,))


def test_training_starts_from_the_weights_of_a_model_and_leaves_it_as_it_is():
    own = graph()
    before = own.get_weights()
    model = AGAD(SHAPE, own)
    for weights in (model.generator.get_weights(), model.scoring_generator.get_weights()):
        for given, taken in zip(before, weights, strict=True):
            np.testing.assert_array_equal(given, taken)
    trained(own)
    for old, new in zip(before, own.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_every_trainable_weight_moves_and_batch_norm_is_estimated_again():
    model = AGAD(SHAPE, graph())
    before = [np.array(weight) for weight in model.generator.trainable_variables]
    model.compile(run_eagerly=True)
    model.fit(X, Y, batch_size=8, min_anomalies=2, verbose=0)
    for old, new in zip(before, model.generator.trainable_variables, strict=True):
        assert not np.array_equal(old, new), new.path
    (norm,) = model.scoring_generator.batch_norms()
    (raw,) = model.generator.batch_norms()
    inner = keras.Model(
        model.scoring_generator.network.inputs[0], model.scoring_generator.network.layers[1].output
    )
    normals = X[Y == 0]
    expected = np.array(inner(normals)).mean((0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean, expected, atol=1e-5)
    assert not np.allclose(raw.moving_mean, expected, atol=1e-3)
    assert norm.momentum == 0.99
    assert not norm.trainable


def test_heads_and_routes_reach_a_class_that_takes_them():
    model = trained(Routed, bn_strategy="adv_prop_freeze")
    assert model.generator.network.heads == (0, 1, -1)
    mean = np.array(model.generator.network.norm.moving_mean)  # (heads, channels)
    assert not np.allclose(mean[0], mean[1])
    assert trained("test_own_backbone>Routed").backbone == model.backbone == "test_own_backbone>Routed"


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
@pytest.mark.parametrize("backbone", ["model", "class"])
def test_scores_are_in_full_precision_whatever_trains(policy, backbone):
    keras.config.set_dtype_policy(policy)
    try:
        own = graph() if backbone == "model" else Routed
        model = trained(own, dtype=policy)
    finally:
        keras.config.set_dtype_policy("float32")
    full = "float64" if policy == "float64" else "float32"
    for network, computes in ((model.scoring_generator, full), (model.generator, policy)):
        convolution = next(one for one in network.network.layers if isinstance(one, layers.Conv2D))
        assert convolution.compute_dtype == computes.removeprefix("mixed_")
    assert model.reconstruct(X[:2]).dtype == full


@pytest.mark.parametrize(("format", "name"), [("tf_saved_model", "saved"), ("litert", "model.tflite")])
def test_exports_score_like_the_model(format, name, tmp_path):
    model = trained(graph())
    images = photographs(4)
    model.export(tmp_path / name, format=format)
    np.testing.assert_allclose(
        open_detector(tmp_path / name).scores(images), model.predict(images, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_score_and_train_of_the_command_line_import_a_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_networks.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('my_networks')\n"
        "class Small(keras.Model):\n"
        "    def __init__(self, input_shape):\n"
        "        super().__init__()\n"
        "        self.image = keras.layers.Conv2D(input_shape[-1], 3, padding='same', activation='tanh')\n"
        "    def call(self, x):\n"
        "        return self.image(x)\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = "train --data digits --normal-class 8 --backbone my_networks>Small --image-size 8 --epochs 1 "
    words += "--batch-size 64 --out run --quiet"
    refused = CliRunner().invoke(main, words.split())
    assert refused.exit_code == 2
    assert "import the module that registers this class (agad-tf --import MODULE)" in refused.stderr
    done = CliRunner().invoke(main, ["--import", "my_networks", *words.split()])
    assert done.exit_code == 0, done.output
    keras.utils.save_img("a.png", photographs(1)[0])
    scored = CliRunner().invoke(main, ["--import", "my_networks", "score", "run/model.keras", "a.png"])
    assert scored.exit_code == 0, scored.output
    assert "a.png," in scored.stdout
    missing = CliRunner().invoke(main, ["--import", "not_there", "score", "run", "a.png"])
    assert missing.exit_code == 2
    assert missing.stderr.startswith("agad-tf: --import expects a Python module, received 'not_there'")


def test_a_file_of_a_class_that_is_not_imported_is_told(tmp_path):
    AGAD(SHAPE, Plain).save(tmp_path / "model.keras")
    held = keras.saving.get_custom_objects().pop("test_own_backbone>Plain")
    try:
        with pytest.raises(InputError, match=r"'test_own_backbone>Plain': import the module that registers"):
            agad_tf.load_model(tmp_path / "model.keras")
    finally:
        keras.saving.get_custom_objects()["test_own_backbone>Plain"] = held


def test_an_estimator_takes_one():
    estimator = AGADEstimator(backbone=graph(), batch_size=8)
    assert set(estimator.fit(photographs(12)).predict(photographs(3))) <= {-1, 1}


def sequence(*chain):
    return keras.Sequential([keras.Input(SHAPE), *chain])


def frozen():
    model = graph()
    model.trainable = False
    return model


def two_outputs():
    image = keras.Input(SHAPE)
    return keras.Model(image, [layers.Conv2D(1, 3, padding="same")(image)] * 2)


class NoLayer(layers.Layer):
    def call(self, x):
        return x


REFUSED = {
    "unknown name": (lambda: "unett", {}, "one of encoder_decoder, unet, .* received 'unett'$"),
    "not a model": (lambda: 3, {}, "a name, a Keras model or a registered class, received 3"),
    "unregistered class": (
        lambda: Unregistered,
        {},
        "registered classes, received Unregistered.* put @",
    ),
    "unregistered model": (lambda: Unregistered(SHAPE), {}, "registered classes, received Unregistered"),
    "unregistered layer": (lambda: sequence(NoLayer()), {}, "registered classes, received NoLayer"),
    "lambda": (lambda: sequence(layers.Lambda(lambda x: x)), {}, r"make again .* leave Lambda layers out"),
    "input shape": (lambda: graph((16, 16, 1)), {}, r"takes images \(8, 8, 1\), received .* \(16, 16, 1\)"),
    "channels": (lambda: graph(channels=2), {}, r"\(8, 8, 1\), received \(8, 8, 2\): end with as many"),
    "smaller": (lambda: sequence(layers.Conv2D(1, 3)), {}, r"\(8, 8, 1\), received \(6, 6, 1\)"),
    "vector": (lambda: sequence(layers.Flatten(), layers.Dense(4)), {}, r"received \(4,\)"),
    "two outputs": (two_outputs, {}, "one output, received 2"),
    "fails": (lambda: keras.Sequential([layers.Reshape((3,))]), {}, r"that fails on \(8, 8, 1\): The total"),
    "frozen": (frozen, {}, "trainable weights, received one without"),
    "no heads": (graph, {"batch_norm": False}, "whose constructor takes route_heads, received Functional"),
    "no route": (graph, {"bn_strategy": "freeze"}, "whose call takes route, received Functional"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_backbone_is_one_line(case):
    make, more, words = REFUSED[case]
    with pytest.raises(InputError, match=words) as told:
        AGAD(SHAPE, make(), **more)
    assert "\n" not in str(told.value)
    assert "\x1b" not in str(told.value)
    assert str(told.value).startswith(("backbone expects", "bn_strategy=", "batch_norm="))
