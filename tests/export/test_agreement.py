"""One measure of agreement: what rounding alone does to a standardised score refuses no export."""

import numpy as np
import pytest
from agad_cases import make, photographs

from agad_tf.edge import EdgeModel
from agad_tf.export.agreement import FLOAT32, agreement, rounded_size
from agad_tf.export.tflite import export_tflite


def test_by_hand():
    assert agreement([1, 0.5, 8], [1, 0.4, 4]) == pytest.approx(0.5)
    assert agreement([0.5], [0.4], size=10) == pytest.approx(0.01)
    assert np.isnan(agreement([1, 2], [1, np.nan]))


def test_a_score_of_large_parts_with_small_deviations_is_exported(tmp_path):
    """The parts are near 10 and vary by 0.0001: float32 itself moves their standardised sum by more."""
    model = make(score="fused", number=11)
    model.prepare_scoring(photographs(24))
    model.score_deviations.assign(np.full(len(model.score_names), 1e-4, np.float32))
    images = photographs(9, seed=4)
    path = export_tflite(model, tmp_path / "m.tflite", representative=photographs(24))
    expected, received = model.predict(images, verbose=0), EdgeModel(path).score(images)
    assert rounded_size(model) > 1e4
    assert agreement(expected, received, rounded_size(model)) <= FLOAT32
