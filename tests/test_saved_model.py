"""The SavedModel: what it holds, and that it decides as the calibration does."""

import numpy as np
import pytest
import tensorflow as tf
from agad_cases import batch, make, photographs, train_once

from agad_tf.evaluation.thresholds import calibrate
from agad_tf.export.saved_model import export_saved_model


@pytest.fixture(scope="module")
def trained():
    model = make(score="reconstruction")
    train_once(model, *batch([0] * 6 + [1] * 2))
    model.prepare_scoring(photographs(16))
    return model


def test_it_decides_as_the_calibration_does(trained, tmp_path):
    normals = trained.predict(photographs(40, seed=1), verbose=0)
    calibration = calibrate(normals, rate=0.1)
    path = export_saved_model(trained, tmp_path / "parts", calibration)
    # The calibration's own normals are among them: scores that tie with the threshold.
    images = np.concatenate(
        [photographs(40, seed=1), np.zeros((3, 8, 8, 1), np.uint8), photographs(9, seed=2)]
    )
    signatures = tf.saved_model.load(str(path)).signatures
    served = {name: value.numpy() for name, value in signatures["serving_default"](images=images).items()}
    assert served["is_anomaly"].dtype == bool
    assert 0 < served["is_anomaly"].sum() < len(images)
    np.testing.assert_array_equal(served["is_anomaly"], calibration.is_anomaly(served["score"]))
    np.testing.assert_allclose(served["p_value"], calibration.p_values(served["score"]), rtol=1e-6)
    np.testing.assert_allclose(served["threshold"], calibration.threshold, rtol=1e-6)
    floats = signatures["score_float"](images=np.asarray(trained.preprocess(images)))
    np.testing.assert_allclose(floats["p_value"], served["p_value"], rtol=1e-6)


def test_without_a_calibration_there_are_scores_alone(trained, tmp_path):
    signatures = tf.saved_model.load(str(export_saved_model(trained, tmp_path / "parts"))).signatures
    assert set(signatures["serving_default"].structured_outputs) == {"score"}


def test_it_holds_the_scoring_networks_and_nothing_else(trained, tmp_path):
    path = export_saved_model(trained, tmp_path / "parts")
    stored = tf.train.list_variables(str(path / "variables" / "variables"))
    numbers = sum(int(np.prod(shape)) for name, shape in stored if "OBJECT_GRAPH" not in name)
    wanted = trained.scoring_generator.count_params() + 2 * len(trained.score_names)
    assert numbers == wanted  # no discriminator, no raw generator, no optimizer
