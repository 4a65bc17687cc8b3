"""The layer from images to a grid of features, where its networks come from, and the store beside it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from feature_cases import small_network

from agad_tf.errors import InputError
from agad_tf.features.layer import FrozenFeatures
from agad_tf.features.sources import open_network, tapped
from agad_tf.features.store import FeatureStore, content_digests


def layer(size=(64, 96), **settings):
    return FrozenFeatures(small_network(), size, dtype="float32", **settings)


def test_the_grid_is_that_of_the_middle_tap():
    features = layer()
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 96, 3)).astype("float32")
    grid = features(x).numpy()
    assert features.stride == 8
    assert grid.shape == (2, *features.grid) == (2, 8, 12, 6 + 8 + 10)
    fine, middle, coarse = (tap.numpy() for tap in features.network(x))
    np.testing.assert_allclose(grid[..., :6], fine.reshape(2, 8, 2, 12, 2, 6).mean((2, 4)), atol=1e-6)
    np.testing.assert_allclose(grid[..., 6:14], middle, atol=1e-6)
    between = (3 * coarse[:, 0, 0] + coarse[:, 0, 1]) / 4  # a quarter of a step of the coarse grid
    np.testing.assert_allclose(grid[:, 0, 1, 14:], between, atol=1e-6)


def test_features_are_standardised_and_grey_is_repeated():
    features = layer()
    x = np.random.default_rng(0).uniform(-1, 1, (4, 64, 96, 1)).astype("float32")
    raw = features.raw(x).numpy()
    np.testing.assert_allclose(raw, features.raw(np.repeat(x, 3, -1)), atol=1e-6)
    features.adapt(raw.mean((0, 1, 2)), raw.std((0, 1, 2)))
    standard = features(x).numpy()
    np.testing.assert_allclose(standard.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std((0, 1, 2)), 1, atol=1e-4)


def test_nothing_of_it_is_trained_and_all_of_it_is_saved(tmp_path):
    features = layer(value_range="caffe")
    features.adapt(np.arange(24.0), np.arange(1.0, 25))
    model = keras.Sequential([keras.Input((64, 96, 3)), features, keras.layers.Dense(1)])
    assert len(model.trainable_variables) == 2
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 96, 3)).astype("float32")
    model.save(tmp_path / "x.keras")
    loaded = keras.saving.load_model(tmp_path / "x.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.layers[0].digest() == features.digest()


@pytest.mark.parametrize(
    ("size", "message"),
    [((48, 96), "64 to 512"), ((64, 528), "64 to 512"), ((64, 100), "multiples of 16, received 64x100")],
)
def test_a_size_it_cannot_take(size, message):
    with pytest.raises(InputError, match=message):
        layer(size)


def test_a_network_of_one_size_says_which():
    images = keras.Input((64, 64, 3))
    network = keras.Model(images, keras.layers.Conv2D(2, 3, 4, padding="same")(images))
    with pytest.raises(InputError, match="64x64, which the network was made for"):
        FrozenFeatures(network, (96, 96))


def test_a_network_without_such_taps():
    images = keras.Input((None, None, 3))
    network = keras.Model(images, keras.layers.Conv2D(2, 3, 4, padding="same", name="only")(images))
    with pytest.raises(InputError, match="none at 8, 16: name layers with taps"):
        tapped(network, "mine")
    with pytest.raises(InputError, match="a layer 'deep' to tap, found none: the last ones are"):
        tapped(network, "mine", ["deep"])
    rows = keras.Model(row := keras.Input((3,)), keras.layers.Dense(2)(row))
    with pytest.raises(InputError, match="model of images"):
        tapped(rows, "mine")


def test_networks_of_keras_by_name_file_and_object(tmp_path):
    network, name, value_range = open_network("MobileNetV2", weights=None)
    assert (name, value_range) == ("MobileNetV2", "signed")
    taps = tapped(network, name)
    sides = [64 // shape[1] for shape in taps.compute_output_shape((1, 64, 64, 3))]
    assert sides == [4, 8, 16]
    small_network().save(tmp_path / "mine.keras")
    from_file, name, _ = open_network(str(tmp_path / "mine.keras"))
    assert name == "mine"
    x = tf.ones((1, 64, 64, 3))
    np.testing.assert_array_equal(tapped(from_file, name)(x)[0], small_network()(x)[0])


@pytest.mark.parametrize("source", ["efficientnet", "Model", "keras", "missing.keras"])
def test_an_unknown_source(source):
    with pytest.raises(InputError, match="features"):
        open_network(source, weights="missing")


def test_weights_that_cannot_be_had_are_one_line():
    with pytest.raises(InputError, match="features_weights the path of a file") as caught:
        open_network("MobileNetV2", weights="missing.weights.h5")
    assert "\n" not in str(caught.value)


def made(count):
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (count, 4, 4, 1), dtype=np.uint8), rng.normal(size=(count, 2, 2, 3))


@pytest.mark.parametrize("memory", [1 << 20, 50])
def test_each_sample_is_computed_once(memory):
    images, grids = made(8)
    images[5] = images[2]
    grids[5] = grids[2]
    asked = []

    def compute(positions):
        asked.extend(positions)
        for start in range(0, len(positions), 3):
            yield grids[positions[start : start + 3]]

    store = FeatureStore((2, 2, 3), memory=memory)
    digests = content_digests(images)
    rows = store.rows(digests[:4], compute)
    rows = np.concatenate([rows, store.rows(digests, compute)[4:]])
    assert len(asked) == 7
    assert store.shape == (7, 2, 2, 3)
    assert rows[5] == rows[2]
    assert (store.nbytes == 0) == (memory == 50)
    np.testing.assert_array_equal(store.read(rows), grids.astype(np.float16))


def test_another_process_goes_on_with_the_files(tmp_path):
    images, grids = made(5)
    digests = content_digests(images)
    FeatureStore((2, 2, 3), tmp_path, "a").rows(digests[:3], lambda at: [grids[at]])
    with open(tmp_path / "a.features", "ab") as stream:
        stream.write(b"killed here")
    asked = []
    store = FeatureStore((2, 2, 3), tmp_path, "a")
    rows = store.rows(digests, lambda at: asked.append(at) or [grids[at]])
    np.testing.assert_array_equal(asked, [[3, 4]])
    np.testing.assert_array_equal(store.read(rows), grids.astype(np.float16))


def test_content_is_pixels_type_and_shape():
    x = np.zeros((2, 4, 2, 1), np.uint8)
    same, other = content_digests(x)
    assert (same == other).all()
    assert (content_digests(x.reshape(2, 2, 4, 1))[0] != same).any()
    assert (content_digests(x.view(np.int8))[0] != same).any()
