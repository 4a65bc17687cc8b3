"""Choosing an epoch without anomalies: which one, and that its networks are the ones that score."""

import keras
import numpy as np
import pytest
from agad_cases import batch, make, photographs

from agad_tf.errors import InputError
from agad_tf.training import Checkpoints
from agad_tf.training.selection import NormalOnlySelection


class Scores(keras.callbacks.Callback):
    """Scores and error of `x` after each epoch, from the scoring networks readied as at the end of `fit`."""

    def __init__(self, x):
        super().__init__()
        self.x, self.scores = x, []

    def on_epoch_end(self, epoch, logs=None):
        self.model.prepare_scoring()
        self.scores.append(self.model.predict(self.x, verbose=0))


def train(selection, held_out, epochs=4, *others):
    x, y = batch([0] * 24 + [1] * 6)
    model = make(
        compile_with={"average_epochs": 0.5, "learning_rate": 1e-2, "guard": False}, score="reconstruction"
    )
    scores = Scores(held_out)
    model.fit(x, y, 16, epochs, min_anomalies=4, callbacks=[scores, selection, *others], verbose=0)
    return model, scores.scores


@pytest.mark.parametrize("criterion", ["contrast", "error"])
def test_the_networks_of_the_best_epoch_score(criterion):
    held_out = photographs(20, seed=5)
    # Values that make the second epoch the best whatever was learnt.
    selection = NormalOnlySelection(held_out, criterion)
    told = iter([2.0, 3.0, float("nan"), 2.5] if criterion == "contrast" else [2.0, 1.0, float("nan"), 1.5])
    selection._measure = lambda: next(told)
    model, scores = train(selection, held_out)
    assert selection.best_epoch == 2
    np.testing.assert_allclose(model.predict(held_out, verbose=0), scores[1], rtol=1e-5)
    assert np.abs(scores[1] - scores[3]).max() > 1e-3


def test_an_interrupted_training_chooses_among_all_its_epochs(tmp_path):
    held_out = photographs(20, seed=5)
    told = [1.0, 2.0, 3.0, 4.0]  # the first epoch is the best

    def trained(epochs, values):
        selection = NormalOnlySelection(held_out, "error")
        selection._measure = iter(values).__next__
        model, _ = train(selection, held_out, epochs, Checkpoints(tmp_path / "checkpoints"))
        return selection, model

    trained(2, told[:2])
    selection, model = trained(4, told[2:])
    assert (selection.best_epoch, selection.values) == (1, told)
    undisturbed = NormalOnlySelection(held_out, "error")
    undisturbed._measure = iter(told).__next__
    expected, _ = train(undisturbed, held_out)
    np.testing.assert_array_equal(model.predict(held_out, verbose=0), expected.predict(held_out, verbose=0))
    again, _ = trained(4, [])  # finished already
    assert again.best_epoch == 1


def test_the_criteria_are_what_they_say():
    held_out = photographs(20, seed=5)
    contrast, error = NormalOnlySelection(held_out, batch_size=8), NormalOnlySelection(held_out, "error")
    model, _ = train(contrast, held_out, epochs=1)
    error.set_model(model)
    error.on_train_begin()
    x = model.preprocess(held_out)
    reconstruction = model.scoring_generator(x, training=False)
    second = model.scoring_generator(reconstruction, training=False)
    mean_error = np.abs(x - reconstruction).mean()
    assert error._measure() == pytest.approx(mean_error, rel=1e-5)
    assert contrast.values[0] == pytest.approx(np.abs(reconstruction - second).mean() / mean_error, rel=1e-4)


def test_wrong_arguments_are_told():
    with pytest.raises(InputError, match="contrast, error"):
        NormalOnlySelection(photographs(2), "loss")
    with pytest.raises(InputError, match="hold some out"):
        NormalOnlySelection(photographs(0))
