"""The guard goes back to the last good weights once, then stops, and says so."""

import keras
import numpy as np

from agad_tf import AGAD
from agad_tf.models.guard import DivergenceGuard


class Sabotage(keras.callbacks.Callback):
    """Ruins the generator at the start of given epochs, and notes its weights at the end of each."""

    def __init__(self, epochs, value=np.nan):
        super().__init__()
        self.epochs, self.value, self.ends = epochs, value, []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch in self.epochs:
            weight = self.model.generator.trainable_variables[0]
            weight.assign(np.full(weight.shape, self.value))

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(self.model.generator.get_weights())


def train(sabotage, epochs, **settings):
    keras.utils.set_random_seed(0)
    model = AGAD((8, 8, 1), "encoder_decoder")
    model.compile(**settings)
    x = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    history = model.fit(x, batch_size=8, epochs=epochs, callbacks=[sabotage], verbose=0)
    return model, history


def test_a_non_finite_epoch_is_undone_once_and_training_goes_on(capsys):
    sabotage = Sabotage({2})
    model, history = train(sabotage, epochs=4)
    assert len(history.epoch) == 4
    for before, after in zip(sabotage.ends[1], sabotage.ends[2], strict=True):
        np.testing.assert_array_equal(before, after)
    assert any((a != b).any() for a, b in zip(sabotage.ends[2], sabotage.ends[3], strict=True))
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 1
    assert lines[0].startswith("epoch 3: ")
    assert lines[0].endswith("went back to the weights of epoch 2 and went on")


def test_the_second_time_it_stops_with_good_weights(capsys):
    sabotage = Sabotage({1, 3})
    model, history = train(sabotage, epochs=6)
    assert len(history.epoch) == 4
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert "went back to the weights of epoch 3 and stopped" in capsys.readouterr().err
    assert np.isfinite(model.predict(np.zeros((2, 8, 8, 1), np.uint8), verbose=0)).all()


def test_a_collapse_in_the_first_epoch_stops_at_once(capsys):
    _, history = train(Sabotage({0}), epochs=3)
    assert len(history.epoch) == 1
    assert "no good epoch to go back to" in capsys.readouterr().err


def test_a_sudden_rise_of_the_error_counts_and_a_slow_one_does_not():
    guard = DivergenceGuard(factor=2.0)
    model = AGAD((8, 8, 1), "encoder_decoder")
    model.compile()
    guard.set_model(model)
    for epoch, error in enumerate([0.5, 0.3, 0.5, 0.59]):
        guard.on_epoch_end(epoch, {"normal_contextual": error, "val_auroc": float("nan")})
    assert guard.rollbacks == 0
    guard.on_epoch_end(4, {"normal_contextual": 0.61})
    assert guard.rollbacks == 1


def test_literal_mode_has_no_guard():
    sabotage = Sabotage({1})
    _, history = train(sabotage, epochs=3, literal=True)
    assert len(history.epoch) == 3
    assert np.isnan(sabotage.ends[2][0]).all()
