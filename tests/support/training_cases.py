"""Trainings for the tests: of detectors whose step is traced once, and of a model that takes no time."""

import functools

import agad_cases
import bigan_cases
import keras
import numpy as np
import tensorflow as tf

from agad_tf.models import loop
from agad_tf.models.updates import training_variables

DETECTORS = ("agad", "aa_bigan")
STEPS = 4
"""Of an epoch."""


class Trainable:
    """A compiled detector that can be trained again and again from the same start.

    Args:
        model: compiled, its score chosen.
        x, y: samples and labels: 4 steps of 12 an epoch.

    Attributes:
        traces: how often the training step was traced.
    """

    def __init__(self, model, x, y):
        self.model, self.x, self.y, self.traces = model, x, y, 0
        self.start = self.state()
        step = model.train_step

        def counted(data):
            self.traces += 1
            return step(data)

        model.train_step = counted

    def fit(self, epochs=2, callbacks=(), x=None, **arguments):
        """Trains from the start; the history."""
        for variable, value in zip(training_variables(self.model), self.start, strict=True):
            variable.assign(value)
        keras.utils.set_random_seed(1)
        if not isinstance(x, tf.data.Dataset):
            arguments = {"y": self.y, "batch_size": 12, "min_anomalies": 4} | arguments
        x = self.x if x is None else x
        return self.model.fit(x, epochs=epochs, verbose=0, callbacks=list(callbacks), **arguments)

    def state(self):
        """Copies of everything that training changes."""
        return agad_cases.values(training_variables(self.model))


@functools.cache
def trainable(detector: str) -> Trainable:
    """32 normals and 5 anomalies."""
    y = np.repeat([0, 1], [32, 5])
    if detector == "agad":
        model = agad_cases.make(number="trainable", score="reconstruction")
        return Trainable(model, agad_cases.photographs(37), y)
    model = bigan_cases.make(number="trainable", score="reconstruction")
    return Trainable(model, bigan_cases.rows(37), y)


class Tiny(keras.Model):
    """What the training loop and checkpoints need of a detector, around two weights and a random layer."""

    def __init__(self):
        super().__init__()
        self.noise = keras.random.SeedGenerator(3)
        self.w = self.add_weight(shape=(2,), initializer="ones", name="w")
        self.v = self.add_weight(shape=(2,), initializer="ones", name="v")
        self.rate_factor = 1.0
        self.built = True
        self.compile(optimizer=keras.optimizers.Adam(0.1))
        self.discriminator_optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        self.optimizer.build([self.w])
        self.discriminator_optimizer.build([self.v])
        self.log_sums = tf.Variable(tf.zeros(2))
        self.function = loop.compiled_step(self)
        self.start = self.state()

    def trained_by(self):
        return {"optimizer": [self.w], "discriminator_optimizer": [self.v]}

    def step_function(self):
        return self.function

    def train_step(self, x):
        z = keras.random.normal((2,), seed=self.noise)
        with tf.GradientTape(persistent=True) as tape:
            error = tf.reduce_mean((self.w * z - tf.cast(x, tf.float32)) ** 2)
            other = tf.reduce_mean((self.v - self.w) ** 2)
        for optimizer, loss, variable in (
            (self.optimizer, error, self.w),
            (self.discriminator_optimizer, other, self.v),
        ):
            optimizer.apply([tape.gradient(loss, variable.value)], [variable])
        self.log_sums.assign_add(tf.stack([error, 1.0]))
        return {"error": self.log_sums[0] / self.log_sums[1]}

    def epoch_logs(self):
        total, steps = self.log_sums.numpy()
        return {"error": float(total / steps)}

    def reset_metrics(self):
        self.log_sums.assign([0.0, 0.0])

    def train(self, epochs=3, callbacks=(), own=(), identity=None):
        """Trains from the start; the history."""
        for variable, value in zip(training_variables(self), self.start, strict=True):
            variable.assign(value)
        keras.utils.set_random_seed(1)
        container = loop.callback_list(self, list(own), list(callbacks), 0, epochs, STEPS)
        start = loop.starting_position(container, lambda: identity or {"model": {"rate": 0.1}}, 0)
        loop.run(self, self.batches, start, epochs, STEPS, container)
        return self.history

    @staticmethod
    def batches(start, workers, worker):
        return tf.data.Dataset.counter(start.epoch * STEPS + start.step)

    def state(self):
        """Copies of everything that training changes."""
        return agad_cases.values(training_variables(self))


class Killed(Exception):  # noqa: N818 - no error
    """Stands for the end of the process."""


class Interruption(keras.callbacks.Callback):
    """Ends a training, before what comes after it in the list of callbacks has its turn.

    Args:
        steps: after so many steps; None: see epoch.
        epoch: at the end of this one.
    """

    def __init__(self, steps=None, epoch=None):
        super().__init__()
        self.left, self.epoch = steps, epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.left is not None:
            self.left -= 1
            if not self.left:
                raise Killed

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


def assert_same_bits(found, wanted):
    """Lists of arrays that are equal in every bit."""
    assert len(found) == len(wanted)
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"variable {number}", strict=True)
