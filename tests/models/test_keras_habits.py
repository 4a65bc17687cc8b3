"""What users of Keras do works, or one line says what to do instead."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import batch, make, photographs
from test_input_kind import Batches

from agad_tf import AGAD, AABiGAN
from agad_tf.baselines import Autoencoder, GANomaly
from agad_tf.errors import InputError

X, Y = batch([0] * 12 + [1] * 4)


def rates(model):
    return float(model.optimizer.learning_rate), float(model.discriminator_optimizer.learning_rate)


def fit(model, x=X, y=Y, **more):
    return model.fit(x, y, **{"batch_size": 8, "min_anomalies": 2, "verbose": 0} | more)


# -- learning rates ------------------------------------------------------------------------------------------


def test_a_callback_moves_both_optimizers():
    model = make(compile_with={"run_eagerly": True, "discriminator_optimizer": keras.optimizers.Adam(1e-4)})
    fit(model, epochs=2, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.1)])
    assert rates(model) == pytest.approx((2e-6, 1e-6))


def test_a_plateau_moves_both_optimizers():
    model = make(compile_with={"run_eagerly": True})
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=1e9, min_lr=0)
    fit(model, epochs=3, callbacks=[plateau])
    assert rates(model) == pytest.approx((5e-5, 5e-5))


def test_a_callback_and_the_schedule_of_the_paper_are_multiplied():
    model = AABiGAN((4,), latent_dim=2)
    model.compile(learning_rate=1e-3, decay_epochs=1, learning_rate_decay=0.5, run_eagerly=True)
    halve_once = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * (0.1 if epoch == 0 else 1))
    rows = np.random.default_rng(0).normal(size=(12, 4))
    model.fit(rows, batch_size=12, epochs=3, verbose=0, callbacks=[halve_once])
    assert rates(model) == pytest.approx((1e-3 * 0.1 * 0.25, 1e-3 / 4 * 0.1 * 0.25))


# -- compile -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_one_optimizer_is_for_both(named):
    how = ("sgd",) if named else (keras.optimizers.SGD(0.01),)
    for model, name in ((make(), "generator_optimizer"), (GANomaly((8, 8, 1), latent_dim=4), "optimizer")):
        model.compile(*how)
        for optimizer in (model.optimizer, model.discriminator_optimizer):
            assert isinstance(optimizer, keras.optimizers.SGD)
            assert float(optimizer.learning_rate) == pytest.approx(0.01)
        assert model.optimizer is not model.discriminator_optimizer
        assert model.get_compile_config()[name]["class_name"] == "SGD"
    model = make()
    model.compile(optimizer=how[0])
    assert isinstance(model.discriminator_optimizer, keras.optimizers.SGD)


@pytest.mark.parametrize(
    ("arguments", "more", "words"),
    [
        (("adamm",), {}, "optimizer expects an optimizer of Keras or its name"),
        (("adam", "mse"), {}, "the losses are the paper's"),
        ((), {"loss": "mse"}, "received loss: the losses are the paper's"),
        ((), {"metrics": ["auc"]}, "received metrics: evaluate gives the AUROC"),
        ((), {"lr": 1e-3}, "compile expects learning_rate, .* received lr: leave it out"),
    ],
)
def test_what_compile_refuses(arguments, more, words):
    with pytest.raises(InputError, match=words):
        make().compile(*arguments, **more)


# -- fit -----------------------------------------------------------------------------------------------------


class Noted(AGAD):
    """A user's model with a log of its own."""

    def compile(self, **kwargs):
        super().compile(run_eagerly=True, **kwargs)

    def train_step(self, data):
        return super().train_step(data) | {"mine": tf.constant(3.0)}


def test_history_has_loss_and_val_loss_and_what_a_subclass_logs():
    model = Noted((8, 8, 1), "encoder_decoder")
    model.compile(optimizer="adam")
    stop = keras.callbacks.EarlyStopping()  # val_loss
    history = fit(model, validation_data=(X, Y), callbacks=[stop]).history
    assert history["loss"] == history["loss_generator"]
    assert history["mine"] == [3.0]
    assert history["val_loss"] == history["val_score_normal"]
    assert np.isfinite(history["val_loss"]).all()
    assert stop.best == history["val_loss"][0]


def test_validation_split_holds_out_some_of_each_label():
    model = make(compile_with={"run_eagerly": True})
    history = fit(model, validation_split=0.25, min_anomalies=1).history
    assert set(history) > {"val_loss", "val_auroc"}
    for share, words in ((1.5, "share from 0 to 1"), (0.01, "normals on both sides")):
        with pytest.raises(InputError, match=words):
            fit(model, validation_split=share)


def test_without_shuffle_samples_come_in_their_order():
    model = make(compile_with={"run_eagerly": True})
    seen = []
    step = model.train_step
    model.train_step = lambda data: seen.append(data[0].numpy()) or step(data)
    try:
        fit(model, shuffle=False)
    finally:
        del model.train_step
    np.testing.assert_array_equal(np.concatenate(seen), X)


@pytest.mark.parametrize("kind", ["batches", "single", "PyDataset"])
def test_fit_and_validation_take_datasets(kind):
    data = {
        "batches": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(8),
        "single": lambda: tf.data.Dataset.from_tensor_slices((X, Y)),
        "PyDataset": lambda: Batches(X, Y),
    }[kind]
    model = make(compile_with={"run_eagerly": True})
    history = fit(model, data(), None, validation_data=data(), epochs=2).history
    assert np.isfinite(history["val_auroc"]).all()
    assert len(history["loss"]) == 2
    assert model.evaluate(data(), verbose=0)["auroc"] == pytest.approx(history["val_auroc"][-1])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"class_weight": {0: 1.0, 1: 9.0}}, "received class_weight: min_anomalies says how many"),
        ({"sample_weight": np.ones(16)}, "received sample_weight: min_anomalies says how many"),
        ({"validation_steps": 3}, "received validation_steps: pass validation_data.take"),
        ({"x": (image for image in X), "y": None}, "received a generator: wrap it in tf.data.Dataset"),
        ({"x": iter(list(X)), "y": None}, "received a list_iterator: wrap it in tf.data.Dataset"),
        ({"x": None, "y": None}, "expected samples as an array, .* received None: convert it"),
        ({"x": object(), "y": None}, "expected samples as an array, .* received a object: convert it"),
        ({"x": [X[0], X[1][:4]], "y": None}, "expected samples of one shape, received some of several"),
        ({"y": [None] * 16}, r"y expects 0 \(normal\) and 1 \(anomaly\), received \[None\]"),
        ({"y": np.where(Y, "bad", "good")}, r"received \['good', 'bad'\]: map the labels"),
    ],
)
def test_what_fit_refuses(more, words):
    with pytest.raises(InputError, match=words):
        fit(make(), **more)


def test_classes_that_are_numbered_the_other_way_round_are_noticed(tmp_path):
    for name, count in (("anomaly", 2), ("normal", 4)):
        (tmp_path / name).mkdir()
        for index, image in enumerate(photographs(count)):
            keras.utils.save_img(tmp_path / name / f"{index}.png", image)
    data = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(8, 8), color_mode="grayscale", verbose=False
    )
    with pytest.raises(InputError, match=r"classes numbered anomaly 0, normal 1: pass class_names="):
        make().fit(data)
    with pytest.raises(InputError, match="classes numbered anomaly 0"):
        make().evaluate(data)


def test_arguments_at_the_defaults_of_keras_are_none():
    more = ("class_weight", "sample_weight", "validation_steps", "validation_batch_size")
    fit(make(compile_with={"run_eagerly": True}), validation_freq=1, **dict.fromkeys(more))


def test_a_schedule_moves_both_optimizers_and_a_rate_is_a_number():
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-3, 1, 0.5)
    model = make()
    model.compile(optimizer=keras.optimizers.Adam(schedule), run_eagerly=True)
    fit(model)  # 2 steps
    assert rates(model) == pytest.approx((2.5e-4, 2.5e-4))
    for arguments, named in (((schedule,), {}), ((), {"learning_rate": schedule})):
        with pytest.raises(InputError, match=r"received a schedule: .*Adam\(schedule\)"):
            make().compile(*arguments, **named)


def test_a_second_fit_with_labels_decides_the_score_again():
    model = make(compile_with={"run_eagerly": True})
    fit(model, X[Y == 0], None)
    assert model.score == "reconstruction"
    fit(model)
    assert model.score == "fused"
    fit(model, X[Y == 0], None)  # what was learnt from labels is still there
    assert model.score == "fused"


def test_evaluate_measures_all_that_it_is_given_or_says_what_to_do():
    model = make()
    model.prepare_scoring(X)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    for more, words in (
        ({"steps": 1}, r"received steps: pass dataset.take\(steps\)"),
        ({"sample_weight": np.ones(16)}, "received sample_weight: leave it out"),
    ):
        with pytest.raises(InputError, match=words):
            model.evaluate(data, verbose=0, **more)
    seen = []
    watch = keras.callbacks.LambdaCallback(on_test_end=seen.append)
    results = model.evaluate(X, Y, verbose=0, callbacks=[watch], steps=None)
    assert seen == [results]
    assert model.evaluate(X, Y, verbose=0, return_dict=False) == list(results.values())


def test_a_rate_that_is_set_by_hand_is_that_of_its_own_optimizer():
    model = make()
    before = float(model.discriminator_optimizer.learning_rate)
    model.optimizer.learning_rate = 0.5
    assert float(model.optimizer.learning_rate) == 0.5
    assert float(model.discriminator_optimizer.learning_rate) == before
    model.discriminator_optimizer.learning_rate = 0.25
    assert rates(model) == (0.5, 0.25)


def test_batches_by_hand():
    model = make(compile_with={"run_eagerly": True})
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert np.isfinite(logs["loss_generator"])
    with pytest.raises(InputError, match="received sample_weight: min_anomalies"):
        model.train_on_batch(X, Y, sample_weight=np.ones(16))
    with pytest.raises(InputError, match=r"test_on_batch expects .* use evaluate"):
        make().test_on_batch(X, Y)
    with pytest.raises(InputError, match="received class_weight: min_anomalies"):
        make().train_on_batch(X, Y, class_weight={0: 1, 1: 2})


# -- files ---------------------------------------------------------------------------------------------------


def test_export_is_that_of_the_command_line(tmp_path):
    model = make()
    model.prepare_scoring(photographs(8))
    model.export(tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    images = photographs(3)
    scores = loaded.signatures["serving_default"](images=tf.constant(images))["score"]
    np.testing.assert_allclose(scores, model.predict(images, verbose=0), rtol=1e-4)
    assert {"score_at", "score_float"} <= set(loaded.signatures)
    with pytest.raises(InputError, match="expected a path that is free"):
        model.export(tmp_path / "saved")
    for more, words in (
        ({"format": "openvino"}, "format expects one of tf_saved_model, onnx, litert"),
        ({"input_signature": []}, "received input_signature"),
    ):
        with pytest.raises(InputError, match=words):
            model.export(tmp_path / "other", **more)


def test_files_that_cannot_hold_a_detector():
    model = Autoencoder((4,))
    with pytest.raises(InputError, match=r"model.h5: expected a name that ends in .keras"):
        model.save("model.h5")
    with pytest.raises(InputError, match=r"model: expected a name that ends in .keras, received another"):
        model.save("model")
    with pytest.raises(InputError, match="its int8 is an export"):
        model.quantize("int8")
    with pytest.raises(InputError, match=r"whose export is model.export\('model.tflite', format='litert'\)"):
        tf.lite.TFLiteConverter.from_keras_model(model).convert()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('{"backend": "jax"}', "expects the Keras backend tensorflow, received jax"),
        ('{"image_data_format": "channels_first"}', "channels_last, received channels_first"),
    ],
)
def test_keras_that_is_set_otherwise(tmp_path, settings, words):
    (tmp_path / "keras.json").write_text(settings)
    result = subprocess.run(
        [sys.executable, "-c", "import agad_tf; agad_tf.AGAD"],
        env={"KERAS_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert words in result.stderr.splitlines()[-1]
