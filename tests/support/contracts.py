"""What every detector and every export must keep, as checks on a `score` function or on a model.

`score` takes samples as an array (uint8 images, floats in the model's range, or raw rows of a table) and
returns (n,) scores: `model.predict`, a loaded model, an export, a baseline. Checks on models take the model
itself.
"""

import keras
import numpy as np

from agad_tf.data.batches.quota import quota_batches
from agad_tf.pixels import resize_antialiased

FLOAT32, FLOAT16 = 1e-5, 1e-3


def as_numpy(value):
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)


def check_agreement(scores, expected, tolerance=FLOAT32):
    """|Δ| / max(1, |score|) is within the tolerance for every sample."""
    scores, expected = as_numpy(scores), as_numpy(expected)
    assert scores.shape == expected.shape
    assert np.isfinite(scores).all()
    difference = np.abs(scores - expected) / np.maximum(1, np.abs(expected))
    assert difference.max() <= tolerance, f"scores differ by {difference.max():.2g}, allowed {tolerance:g}"


def check_scores(score, x):
    """One finite float32 number for each sample, and not the same one for all."""
    scores = as_numpy(score(x))
    assert scores.shape == (len(x),)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert np.ptp(scores) > 1e-4
    return scores


def check_independence(score, x, tolerance=FLOAT32):
    """The score of a sample depends neither on batch size and order nor on its neighbours."""
    expected = check_scores(score, x)
    for size in (1, 3, len(x) - 1):
        parts = [as_numpy(score(x[i : i + size])) for i in range(0, len(x), size)]
        check_agreement(np.concatenate(parts), expected, tolerance)
    order = np.random.default_rng(0).permutation(len(x))
    check_agreement(as_numpy(score(x[order]))[np.argsort(order)], expected, tolerance)
    strangers = x.copy()
    strangers[1:] = 255 if x.dtype == np.uint8 else x.max()
    check_agreement(as_numpy(score(strangers))[:1], expected[:1], tolerance)


def check_preprocessing(score, images, image_size, value_range, tolerance=FLOAT32):
    """uint8 images of any size score like floats that the NumPy twin resized and scaled."""
    low, high = value_range
    resized = resize_antialiased(images, image_size) * np.float32((high - low) / 255) + np.float32(low)
    check_agreement(score(images), score(resized.astype(np.float32)), tolerance)


def check_scaling(model, rows, tolerance=FLOAT32):
    """Raw rows score like rows that NumPy scaled by the limits the model keeps."""
    minimum, spread = (as_numpy(weight) for weight in (model.preprocess.minimum, model.preprocess.range))
    assert np.ptp(spread) > 0  # it has seen training rows
    scaled = ((rows.astype(np.float32) - minimum) / spread).astype(np.float32)
    if (clip := model.preprocess.clip) is not None:
        scaled = np.clip(scaled, -clip, 1 + clip)
    check_agreement(model(rows), model.chosen_score(scaled), tolerance)


def check_inference_mode(model, x):
    """`training=True` changes neither the score nor anything in the model."""
    before = [np.array(variable) for variable in model.variables]
    expected = model(x, training=False)
    np.testing.assert_array_equal(model(x, training=True), expected)
    np.testing.assert_array_equal(model(x), expected)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


def check_predict_is_call(model, x):
    """`predict`, in batches of any size, is the call; so is what `evaluate` judges."""
    expected = as_numpy(model(x))
    for batch_size in (4, len(x)):
        check_agreement(model.predict(x, batch_size=batch_size, verbose=0), expected)


def check_save_and_load(model, x, path):
    """A loaded model scores alike and knows everything the saved one knew; returns it."""
    model.save(path)
    loaded = keras.saving.load_model(path)
    check_agreement(loaded(x), model(x))
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert loaded.compiled == model.compiled
    assert loaded.get_compile_config() == model.get_compile_config()
    for network, copy in zip(model.layers, loaded.layers, strict=True):
        for variable, other in zip(network.variables, copy.variables, strict=True):
            np.testing.assert_array_equal(variable, other, err_msg=variable.path)
    return loaded


def check_explanation(model, samples):
    """Reconstruction and errors have the model's shape, whatever the size of the images."""
    reconstruction, errors = map(as_numpy, model.explain(samples))
    assert reconstruction.shape == (len(samples), *model.sample_shape)
    assert np.isfinite(reconstruction).all()
    x = as_numpy(model.preprocess(samples))
    expected = np.abs(x - reconstruction)
    if not model.is_table:
        low, high = model.preprocess.value_range
        assert low <= reconstruction.min() <= reconstruction.max() <= high
        expected = expected.mean(-1)
    assert errors.shape == expected.shape
    np.testing.assert_allclose(errors, expected, atol=1e-5)
    np.testing.assert_allclose(model.reconstruct(samples), reconstruction, atol=1e-5)


def check_quota_batches_through_fit(model, normal, anomaly):
    """`fit` takes quota batches; every normal is seen, and the model is ready to score afterwards.

    A detector that does not use labelled anomalies never sees them.
    """
    batches = quota_batches(normal, anomaly, batch_size=8, min_anomalies=2)
    seen = []
    step = model.train_step
    model.train_step = lambda data: seen.append(as_numpy(data[1])) or step(data)  # eager: one call a batch
    try:
        history = model.fit(batches, epochs=2, verbose=0).history
    finally:
        del model.train_step
    assert len(seen) == 2 * batches.quota.steps_per_epoch
    anomalies = batches.quota.anomalies_per_batch
    expected = (8, anomalies) if model.uses_anomalies else (8 - anomalies, 0)
    assert {(len(y), int(y.sum())) for y in seen} == {expected}
    assert all(np.isfinite(values).all() and len(values) == 2 for values in history.values())
    assert float(model.scoring_prepared) == 1
    check_scores(lambda x: model(x), normal[:5])
