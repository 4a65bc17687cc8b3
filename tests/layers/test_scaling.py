"""Table rows scaled inside the model: by the training normals' range, and nothing else."""

import keras
import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from agad_tf.errors import InputError
from agad_tf.layers import TableScaling

ROWS = np.array([[1.0, -10.0, 5.0], [3.0, 10.0, 5.0], [2.0, 0.0, 5.0]], "float32")


def adapted(rows=ROWS, **arguments):
    layer = TableScaling(**arguments)
    layer.build((None, rows.shape[1]))
    return layer, layer.adapt(rows)


def test_each_column_is_mapped_from_its_range_to_0_1():
    layer, constant = adapted()
    # (x − 1) / 2, (x + 10) / 20; the third column has no range and is only shifted.
    np.testing.assert_allclose(layer(ROWS), [[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0]], rtol=1e-6)
    np.testing.assert_allclose(layer(np.array([[5.0, -30.0, 4.5]])), [[2, -1, -0.5]], rtol=1e-6)
    assert constant == [2]
    assert adapted(ROWS[:, :2])[1] == []


def test_it_is_standardising_and_then_min_max():
    rows = np.random.default_rng(0).lognormal(size=(200, 4)) * [1e-3, 1, 50, 1e5] + [0, -7, 300, 1e5]
    others = rows[::-1] * 1.3
    standard = StandardScaler().fit(rows)
    smallest = MinMaxScaler().fit(standard.transform(rows))
    layer, _ = adapted(rows, dtype="float64")
    for some in (rows, others):
        expected = smallest.transform(standard.transform(some))
        np.testing.assert_allclose(layer(some), expected, rtol=1e-9, atol=1e-9)


def test_columns_far_from_zero_keep_their_digits():
    rows = 1e6 + np.arange(17)[:, None].astype("float32")
    layer, _ = adapted(rows)
    np.testing.assert_allclose(layer(rows)[:, 0], np.arange(17) / 16, atol=1e-7)


def test_clip_limits_what_lies_outside():
    far = np.array([[100.0, -1000.0, 5.0], [2.0, 12.0, 7.5]], "float32")
    np.testing.assert_allclose(adapted(clip=0.5)[0](far), [[1.5, -0.5, 0], [0.5, 1.1, 1.5]], rtol=1e-6)
    np.testing.assert_allclose(adapted(clip=0)[0](far), [[1, 0, 0], [0.5, 1, 1]], rtol=1e-6)
    np.testing.assert_allclose(adapted()[0](far), [[49.5, -49.5, 0], [0.5, 1.1, 2.5]], rtol=1e-6)


@pytest.mark.parametrize("clip", [-0.1, float("nan")])
def test_clip_refuses(clip):
    with pytest.raises(InputError, match="clip expects a number of at least 0, or None for none; received"):
        TableScaling(clip)


def test_rows_of_any_number_type():
    layer, _ = adapted()
    for kind in ("int64", "float64", "float32", "int8"):
        scaled = layer(ROWS.astype(kind))
        assert scaled.dtype == "float32"
        np.testing.assert_allclose(scaled[:, 1], [0, 1, 0.5], rtol=1e-6)
    assert adapted(dtype="float64")[0](ROWS).dtype == "float64"


def test_range_and_clip_are_saved():
    layer, _ = adapted(clip=0.25)
    assert layer.exact
    copy = TableScaling.from_config(layer.get_config())
    copy.build((None, 3))
    assert float(copy.adapted) == 0
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(ROWS * 2), layer(ROWS * 2))
    assert float(copy.adapted)
    assert copy.exact
    assert not copy.trainable_variables


def test_it_works_inside_a_functional_model(tmp_path):
    layer, _ = adapted()
    rows = keras.Input((3,))
    model = keras.Model(rows, layer(rows))
    model.save(tmp_path / "scaling.keras")
    loaded = keras.saving.load_model(tmp_path / "scaling.keras")
    np.testing.assert_array_equal(loaded(ROWS * 3), layer(ROWS * 3))
