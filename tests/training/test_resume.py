"""A training that was interrupted anywhere ends as if it had not been; two of one seed are equal."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from agad_cases import make, photographs
from training_cases import DETECTORS, STEPS, Interruption, Killed, assert_same_bits, trainable

from agad_tf.errors import InputError
from agad_tf.training import Checkpoints


def resumed(training, folder, interruption, every, **arguments):
    """The history of a training that was interrupted and went on."""
    with pytest.raises(Killed):
        training.fit(callbacks=[interruption, Checkpoints(folder, every)], **arguments)
    return training.fit(callbacks=[Checkpoints(folder, every)], **arguments).history


@pytest.mark.parametrize("detector", DETECTORS)
def test_resumed_is_undisturbed_bit_for_bit(detector, tmp_path):
    """Weights, averages, statistics, both optimizers, logs; and all trainings share one trace of the step."""
    training = trainable(detector)
    history = training.fit().history
    state = training.state()
    assert resumed(training, tmp_path, Interruption(steps=STEPS + 3), every=2) == history
    assert_same_bits(training.state(), state)
    assert training.traces == 1
    with pytest.raises(InputError, match=r"batches.first_batch changed"):
        training.fit(callbacks=[Checkpoints(tmp_path)], seed=5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "augment"),
    [("agad", False), ("agad", True), ("aa_bigan", False)],  # its rows of a table are not augmented
)
def test_resumed_with_validation_and_augmentation(detector, augment, tmp_path):
    training = trainable(detector)
    arguments = {"validation_data": (training.x, training.y)}
    if augment:
        arguments["augment"] = {"RandomFlip": {"mode": "horizontal"}}
    history = training.fit(**arguments).history
    state = training.state()
    assert resumed(training, tmp_path, Interruption(epoch=0), 3, **arguments) == history
    assert_same_bits(training.state(), state)


@pytest.mark.slow
def test_another_dataset_is_read_up_to_the_position(tmp_path):
    training = trainable("aa_bigan")
    data = tf.data.Dataset.from_tensor_slices((training.x, training.y))
    # One order for all passes: a dataset that is shuffled anew whenever it is read cannot be gone on with.
    data = data.shuffle(37, seed=3, reshuffle_each_iteration=False).batch(12)
    history = training.fit(x=data).history
    state = training.state()
    assert resumed(training, tmp_path, Interruption(steps=STEPS + 2), 1, x=data) == history
    assert_same_bits(training.state(), state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 10}, "batches.quota.batch_size was 12, is 10"),
        ({"x": 1}, "batches.normals changed"),
    ],
)
def test_other_data_are_refused(tmp_path, change, words):
    training = trainable("aa_bigan")
    with pytest.raises(Killed):
        training.fit(callbacks=[Interruption(steps=3), Checkpoints(tmp_path, 1)])
    change = change | ({"x": training.x + 1} if "x" in change else {})
    with pytest.raises(InputError, match=words):
        training.fit(callbacks=[Checkpoints(tmp_path)], **change)


@pytest.mark.slow
def test_another_configuration_is_refused(tmp_path):
    training = trainable("aa_bigan")
    with pytest.raises(Killed):
        training.fit(callbacks=[Interruption(steps=3), Checkpoints(tmp_path, 1)])
    settings = training.model.settings
    training.model.settings = settings | {"clip_norm": 2.0}
    try:
        with pytest.raises(InputError, match=r"compile.clip_norm was None, is 2.0; undo the change or take"):
            training.fit(callbacks=[Checkpoints(tmp_path)])
    finally:
        training.model.settings = settings


@pytest.mark.slow
def test_killed_commands_end_as_undisturbed_ones():
    """Three of the kills of benchmarks/kills.py: of trainings and of a preparation."""
    script = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    command = [sys.executable, script, "--kills", "3"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=script.parents[1])
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 kills: 0 with lost, 0 with litter, 0 with differs" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("detector", DETECTORS)
def test_two_trainings_of_one_seed_are_equal_and_of_two_seeds_are_not(detector):
    training = trainable(detector)
    history = training.fit(epochs=1).history
    state = training.state()
    assert training.fit(epochs=1).history == history
    assert_same_bits(training.state(), state)
    training.fit(epochs=1, seed=1)
    assert any((one != other).any() for one, other in zip(training.state(), state, strict=True))
    assert np.isfinite(history["loss_generator"]).all()


@pytest.mark.slow
def test_a_change_to_or_from_loss_scaling_is_told(tmp_path):
    x, y = photographs(24), np.repeat([0, 1], [20, 4])

    def fit(dtype, epochs):
        model = make(dtype=dtype, number=dtype, score="reconstruction", compile_with={"literal": True})
        model.fit(x, y, 12, epochs, min_anomalies=4, callbacks=[Checkpoints(tmp_path)], verbose=0)

    fit("float32", 1)
    fit("mixed_bfloat16", 2)  # has the same variables
    with pytest.raises(InputError, match="was one of the two in mixed_float16"):
        fit("mixed_float16", 3)
