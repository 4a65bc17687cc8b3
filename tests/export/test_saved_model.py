"""The SavedModel: what it holds, and that it decides as the calibration does."""

import io

import bigan_cases
import keras
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import batch, make, photographs, train_once
from contracts import check_agreement, check_independence
from PIL import Image

from agad_tf import AGAD
from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.export import saved_model
from agad_tf.export.onnx import export_onnx
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.scoring_net import fold_batch_norm, scoring_twin
from agad_tf.export.tflite import export_tflite
from agad_tf.identity import Identity


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


def test_a_threshold_fits_all_samples_or_each(trained, tmp_path):
    signatures = tf.saved_model.load(str(export_saved_model(trained, tmp_path / "parts"))).signatures
    score_at, images = signatures["score_at"], tf.constant(photographs(3))
    for given in ([9.0], [9.0, 9.0, 9.0]):
        assert score_at(images=images, threshold=tf.constant(given))["is_anomaly"].shape == (3,)
    for count, given in ((1, [1.0, 2.0, 3.0]), (3, [1.0, 2.0])):
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected one threshold, or one a sample"):
            score_at(images=images[:count], threshold=tf.constant(given))


def test_a_batch_of_no_samples_is_refused_in_words(trained, tmp_path):
    signatures = tf.saved_model.load(str(export_saved_model(trained, tmp_path / "parts"))).signatures
    none = tf.constant(photographs(3))[:0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected at least one sample, received none"):
        signatures["serving_default"](images=none)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected at least one sample, received none"):
        signatures["score_encoded"](image_bytes=tf.constant([], tf.string))


def test_a_detector_trained_on_other_values_than_an_export_makes_is_refused(tmp_path):
    model = make(score="reconstruction", number=21)
    model.identity = Identity("float", smallest=0.0, largest=1.0)
    try:
        for export in (export_saved_model, export_tflite, export_onnx):
            with pytest.raises(InputError, match="an export expects floats from 0 to 1, as in training"):
                export(model, tmp_path / export.__name__)
    finally:
        model.identity = Identity()  # the model is shared by tests
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_a_calibration_there_are_scores_alone(trained, tmp_path):
    signatures = tf.saved_model.load(str(export_saved_model(trained, tmp_path / "parts"))).signatures
    assert set(signatures["serving_default"].structured_outputs) == {"score"}


def test_it_holds_the_scoring_networks_and_nothing_else(trained, tmp_path):
    path = export_saved_model(trained, tmp_path / "parts")
    stored = tf.train.list_variables(str(path / "variables" / "variables"))
    numbers = sum(int(np.prod(shape)) for name, shape in stored if "OBJECT_GRAPH" not in name)
    norms = trained.scoring_generator.batch_norms()
    statistics = sum(norm.count_params() for norm in norms)
    offsets = sum(norm.beta.shape[-1] for norm in norms)
    # no discriminator, no raw generator, no optimizer; of each batch norm one offset is left
    assert numbers == trained.scoring_generator.count_params() - statistics + offsets


def test_every_signature_of_images(trained, tmp_path):
    calibration = calibrate(trained.predict(photographs(40, seed=1), verbose=0), rate=0.1)
    signatures = tf.saved_model.load(
        str(export_saved_model(trained, tmp_path / "parts", calibration))
    ).signatures
    assert set(signatures) == {"serving_default", "score_at", "score_float", "score_encoded", "explain"}
    images = photographs(7, (13, 9, 1), seed=3)
    expected = trained.predict(images, verbose=0)
    check_independence(lambda x: signatures["serving_default"](images=tf.constant(x))["score"], images)
    floats = signatures["score_float"](images=trained.preprocess(images))
    check_agreement(floats["score"], expected)
    middle = float(np.median(expected))
    for threshold in ([middle], np.full(7, middle)):
        decided = signatures["score_at"](images=images, threshold=tf.constant(threshold, tf.float32))
        check_agreement(decided["score"], expected)
        np.testing.assert_array_equal(decided["is_anomaly"], decided["score"].numpy() > np.float32(middle))
    files = [photographs(1, size, seed)[0] for seed, size in enumerate([(9, 9, 1), (4, 21, 1), (8, 8, 1)])]
    encoded = signatures["score_encoded"](image_bytes=[png(pixels) for pixels in files])
    check_agreement(encoded["score"], [trained.predict(pixels[None], verbose=0)[0] for pixels in files])
    assert set(encoded) == {"score", "p_value", "is_anomaly", "threshold"}
    explained = signatures["explain"](images=images)
    reconstruction, error_map = trained.explain(images)
    np.testing.assert_allclose(explained["reconstruction"], reconstruction, atol=1e-5)
    np.testing.assert_allclose(explained["error_map"], error_map, atol=1e-5)
    assert all(spec.dtype.is_floating or spec.dtype == tf.bool for f in signatures.values()
               for spec in f.structured_outputs.values())  # fmt: skip


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(stream, "PNG")
    return stream.getvalue()


def test_samples_that_cannot_be_judged_are_anomalies_and_spoil_no_others(trained, tmp_path):
    calibration = calibrate(trained.predict(photographs(40, seed=1), verbose=0), rate=0.1)
    path = export_saved_model(trained, tmp_path / "parts", calibration)
    x = np.array(trained.preprocess(photographs(5)))
    expected = trained.predict(x, verbose=0)
    x[1, 2, 3], x[3, 0, 0] = np.nan, 7.0
    verdict = tf.saved_model.load(str(path)).signatures["score_float"](images=tf.constant(x))
    bad = np.array([False, True, False, True, False])
    assert np.isnan(verdict["score"].numpy()[bad]).all()
    assert np.isnan(verdict["p_value"].numpy()[bad]).all()
    assert verdict["is_anomaly"].numpy()[bad].all()
    check_agreement(verdict["score"].numpy()[~bad], expected[~bad])


def test_signatures_of_tables(tmp_path):
    model = bigan_cases.make()
    model.fit(bigan_cases.rows(20), np.repeat([0, 1], 10), batch_size=10, min_anomalies=2, verbose=0)
    signatures = tf.saved_model.load(str(export_saved_model(model, tmp_path / "rows"))).signatures
    assert set(signatures) == {"serving_default", "score_at", "score_float32", "score_float", "explain"}
    rows = bigan_cases.rows(9, seed=2).astype(np.float64)
    expected = model.predict(rows, verbose=0)
    check_agreement(signatures["serving_default"](rows=tf.constant(rows))["score"], expected)
    check_agreement(signatures["score_float"](rows=model.preprocess(rows))["score"], expected)
    check_agreement(signatures["score_float32"](rows=rows.astype(np.float32))["score"], expected)
    rows[4, 1] = np.inf
    scores = signatures["serving_default"](rows=tf.constant(rows))["score"].numpy()
    assert np.flatnonzero(np.isnan(scores)).tolist() == [4]
    check_agreement(np.delete(scores, 4), np.delete(expected, 4))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_any_precision_is_exported_in_float32(policy, tmp_path):
    keras.utils.set_random_seed(0)
    model = AGAD((8, 8, 1), backbone="encoder_decoder", score="reconstruction", dtype=policy)
    model.compile()
    model.prepare_scoring(photographs(16))
    full = AGAD((8, 8, 1), backbone="encoder_decoder", score="reconstruction", dtype="float32")
    full.scoring_generator.set_weights(model.scoring_generator.get_weights())
    path = export_saved_model(model, tmp_path / "parts")
    images = photographs(9, seed=1)
    served = tf.saved_model.load(str(path)).signatures["serving_default"](images=images)["score"]
    check_agreement(served, full.predict(images, verbose=0))
    kinds = {dtype for _, dtype in variables(path)}
    assert kinds == {tf.float32}


def variables(path):
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    kinds = reader.get_variable_to_dtype_map()
    return [(name, kind) for name, kind in kinds.items() if "OBJECT_GRAPH" not in name]


@pytest.mark.parametrize("backbone", ["encoder_decoder", "unet", "unet_plus_plus"])
def test_batch_norm_is_folded_and_changes_no_output(backbone):
    side = 8 if backbone == "encoder_decoder" else 16
    model = make((side, side, 1), backbone, score="reconstruction")
    for norm in model.scoring_generator.batch_norms():  # as if trained: no scale is 1, no mean 0
        for weight, (low, high) in zip(
            norm.weights, [(-0.5, 1.5), (-0.3, 0.3), (-0.2, 0.2), (0.2, 2)], strict=True
        ):
            weight.assign(np.random.default_rng(0).uniform(low, high, weight.shape))
    x, _ = batch([0] * 4, (side, side, 1))
    twin = scoring_twin(model)
    np.testing.assert_allclose(twin.scoring_generator(x), model.scoring_generator(x), rtol=0, atol=2e-5)
    norms = len(model.scoring_generator.batch_norms())
    assert norms > 0
    from_config = type(model).from_config(model.get_config())
    assert fold_batch_norm(from_config.scoring_generator) == norms  # every one of them


def test_a_version_appears_whole_or_not_at_all(trained, tmp_path, monkeypatch):
    folder = tmp_path / "parts"
    assert export_saved_model(trained, folder) == folder / "1"
    (folder / "7").mkdir()
    (folder / "7" / "something").write_text("")  # never written over, whatever it is
    assert export_saved_model(trained, folder) == folder / "8"

    def full(*_, **__):
        assert [entry.name for entry in folder.glob(".partial*")]
        raise OSError("no space left on device")

    monkeypatch.setattr(saved_model, "write_model_card", full)
    with pytest.raises(OSError, match="no space left"):
        export_saved_model(trained, folder)
    assert sorted(entry.name for entry in folder.glob("[!.]*")) == ["1", "7", "8"]
    assert not list(folder.glob(".partial*"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder for versions"):
        export_saved_model(trained, tmp_path / "file")
