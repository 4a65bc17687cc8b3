"""Baselines of two phases: what each trains, rates that fall, resuming between them."""

import keras
import numpy as np
import pytest
from agad_cases import values
from baseline_cases import GREY, ROWS, both_kinds, make, samples
from training_cases import Interruption, Killed

from agad_tf.baselines.base import Phases, RateDrop
from agad_tf.training import Checkpoints


def test_deep_svdd_pretrains_then_centres_then_contracts():
    model = make("deep_svdd", ROWS)
    normals = samples(ROWS, 24)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            mean = model.encoder(model.preprocess(normals), training=False).numpy().mean(0)
            seen.append((model.pretraining, model.centre.numpy(), mean, values(model.decoder.variables)))

    model.fit(normals, epochs=4, batch_size=8, callbacks=[Watch()], verbose=0)
    assert [pretraining for pretraining, *_ in seen] == [True, True, False, False]
    mean = seen[2][2]
    expected = np.where(np.abs(mean) < 0.1, np.where(mean < 0, -0.1, 0.1), mean)
    np.testing.assert_allclose(seen[2][1], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.centre, seen[2][1])  # it stays
    for first, last in zip(seen[2][3], values(model.decoder.variables), strict=True):
        np.testing.assert_array_equal(first, last)
    # Trained again without pre-training, it keeps its centre.
    model.settings["pretraining_share"] = 0.0
    model.fit(normals, epochs=1, batch_size=8, verbose=0)
    np.testing.assert_array_equal(model.centre, seen[2][1])


@pytest.mark.parametrize("name", ["deep_svdd", "deep_sad", "classifier"])
def test_one_class_encoders_have_no_bias(name):
    """With one, Deep SVDD could map everything to its centre."""
    for shape in (ROWS, GREY):
        names = {variable.name for variable in make(name, shape).encoder.trainable_variables}
        assert names == {"kernel"}


def test_f_anogan_trains_the_generator_then_the_encoder():
    model = make("f_anogan", GREY)
    history = model.fit(samples(GREY, 8), epochs=2, batch_size=8, verbose=0).history
    assert history["loss_critic"][0] != 0 == history["loss_critic"][1]
    assert history["loss_encoder"][1] > 0 == history["loss_encoder"][0]


def test_phases_and_rates_follow_the_epochs_number():
    class Model:
        initial_rate = 0.3
        rate_factor = 1.0

        def __init__(self):
            self.optimizer = keras.optimizers.SGD(0.3)
            self.entered = []

        def enter(self, first):
            self.entered.append(first)

    model = Model()
    callbacks = [Phases(0.5), RateDrop(1 / 3, begin=0.5)]
    rates = []
    for callback in callbacks:
        callback.set_model(model)
        callback.set_params({"epochs": 12})
    for epoch in (0, 5, 6, 7, 8, 11, 0):
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
        rates.append(round(float(model.optimizer.learning_rate), 6))
    assert model.entered == [True, True, False, False, False, False, True]
    assert rates == [0.3, 0.3, 0.3, 0.3, 0.03, 0.03, 0.3]


@pytest.mark.parametrize(
    "steps", [pytest.param(3, marks=pytest.mark.slow), 7, pytest.param(10, marks=pytest.mark.slow)]
)
def test_a_training_of_two_phases_resumes_anywhere_bit_for_bit(tmp_path, steps):
    """3 steps an epoch, 2 epochs a phase: in the first, in the first epoch of the second, in the last."""
    x, y = both_kinds(ROWS, normals=18, anomalies=3)
    how = {"epochs": 4, "batch_size": 7, "verbose": 0}

    def trained(*callbacks):
        model = make("deep_sad", ROWS)
        model.pretraining = False
        model.fit(x, y, callbacks=list(callbacks), **how)
        return values(model.variables)

    undisturbed = trained()
    with pytest.raises(Killed):
        trained(Interruption(steps=steps), Checkpoints(tmp_path, every=1))
    for first, second in zip(trained(Checkpoints(tmp_path, every=1)), undisturbed, strict=True):
        np.testing.assert_array_equal(first, second)
