"""One definition of a decision; what cannot be scored is never normal."""

import numpy as np
import pytest
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.evaluation.decisions import Decision, above
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.export.saved_model import decide
from agad_tf.scoring import detectors, pipeline
from agad_tf.scoring.files import Sample

UNKNOWN = [np.nan, np.inf, -np.inf]


def test_by_hand():
    decision = Decision([3, 1, 2, 2], 2)
    assert decision.is_anomaly([1, 2, 2.5]).tolist() == [False, False, True]  # a tie is no alarm
    assert decision.p_values([0, 1, 2, 2.5, 4]).tolist() == [1, 1, 0.8, 0.4, 0.2]
    assert decision.p_values([]).shape == decision.is_anomaly([]).shape == (0,)


def test_what_cannot_be_scored_is_never_normal():
    decision = Decision([1, 2, 3], 2)
    assert decision.is_anomaly(UNKNOWN).all()
    assert np.isnan(decision.p_values(UNKNOWN)).all()
    assert above([0, 1], np.nan).all()
    with pytest.raises(InputError, match="expected scores to be numbers"):
        decision.is_anomaly(["high"])


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_the_graph_decides_alike(count):
    rng = np.random.default_rng(count)
    normals = np.sort(rng.choice(np.linspace(1, 2, 9, dtype=np.float32), count))  # with ties
    calibration = calibrate(normals, policy="quantile", quantile=0.9)
    scores = np.concatenate([normals, [0, 3, *UNKNOWN], np.nextafter(normals, 9), np.nextafter(normals, 0)])
    scores = scores.astype(np.float32)
    verdict = decide(tf.constant(scores), calibration)
    np.testing.assert_array_equal(verdict["is_anomaly"], calibration.decision.is_anomaly(scores))
    np.testing.assert_allclose(verdict["p_value"], calibration.decision.p_values(scores), rtol=1e-6)


def test_calibration_and_scoring_decide_alike():
    calibration = calibrate(np.arange(1.0, 40), rate=0.1)
    scores = np.array([0, 36, 37, *UNKNOWN], np.float32)
    assert calibration.is_anomaly(scores).tolist() == [False, False, True, True, True, True]
    verdict = detectors._verdict(scores, calibration.decision)
    np.testing.assert_array_equal(verdict["is_anomaly"], calibration.is_anomaly(scores))
    np.testing.assert_array_equal(verdict["p_value"], calibration.p_values(scores))
    samples = [Sample("a", value=np.zeros(1)), Sample("b", value=np.zeros(1))]
    answer = {"score": np.float32([5, np.nan])}
    ((good, bad),) = pipeline.score_samples(samples, None, lambda values: answer, threshold=4.0)
    assert good.is_anomaly is True
    assert (bad.is_anomaly, bad.error) == (None, "expected a finite score, received nan from the model")
