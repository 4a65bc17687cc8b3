"""Columns with a large offset: their variation survives, as far as float64 has it."""

import keras
import numpy as np
import pytest

from agad_tf.data.sources.tables import table_array
from agad_tf.layers import TableScaling

OFFSET = 5_400_123.0
SMALL = np.random.default_rng(0).normal(0, 0.04, (50, 2))


def adapted(rows):
    layer = TableScaling()
    layer.build((None, rows.shape[1]))
    layer.adapt(rows)
    return layer


@pytest.mark.parametrize("offset", [OFFSET, -1.6e9, 1e12])
def test_an_offset_changes_nothing(offset):
    layer, moved = adapted(SMALL), adapted(SMALL + offset)
    step = np.spacing(abs(offset)) / np.ptp(SMALL, axis=0).min()
    received = moved(SMALL + offset)
    assert received.dtype == "float32"
    np.testing.assert_allclose(received, layer(SMALL), atol=4 * step + 1e-6)


def test_the_range_is_saved_in_float64(tmp_path):
    layer = adapted(SMALL + OFFSET)
    rows = keras.Input((2,), dtype="float64")
    keras.Model(rows, layer(rows)).save(tmp_path / "scaling.keras")
    loaded = keras.saving.load_model(tmp_path / "scaling.keras")
    np.testing.assert_array_equal(loaded(SMALL + OFFSET), layer(SMALL + OFFSET))


def test_files_of_before_round_rows_as_their_training_did():
    """They hold the range in float32, and 1 for adapted."""
    rows = SMALL.astype("float32") + np.float32(1000)
    minimum, spread = rows.min(axis=0), np.ptp(rows, axis=0)
    layer = adapted(SMALL)
    assert layer.exact
    layer.load_own_variables({"0": minimum, "1": spread, "2": np.float32(1)})
    assert not layer.exact
    expected = (rows - minimum) / spread
    np.testing.assert_array_equal(layer(rows), expected)
    np.testing.assert_array_equal(layer(rows.astype("float64") + 1e-6), expected)


def test_float32_values_that_have_merged_are_told(caplog):
    table_array((20 * SMALL + OFFSET).astype(np.float32), "x", ["north", "east"])
    assert "x: column 'north'" in caplog.text
    assert "float64" in caplog.text
    caplog.clear()
    for rows in (SMALL + OFFSET, SMALL.astype(np.float32), np.arange(10, dtype=np.float32)[:, None] + 2000):
        table_array(rows, "x")
    table_array(np.full((5, 1), 7, np.float32), "x")
    assert not caplog.records
