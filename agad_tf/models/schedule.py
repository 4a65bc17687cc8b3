"""Learning rates: the schedule of AA-BiGAN, and callbacks of the caller that move every optimizer."""

from __future__ import annotations

import keras

from agad_tf.keras_private import follows_schedule


class EpochDecay(keras.callbacks.Callback):
    """Multiplies both learning rates by `factor` after every `epochs` epochs.

    Computed from the epoch's number, the first rates and the factor of the caller's own callbacks
    (`FollowedRates`), so that a resumed training goes on as an undisturbed one.

    Args:
        factor: in (0, 1].
        epochs: at least 1.
        initial_rates: of the model's `optimizer` and `discriminator_optimizer`, as `initial_rate` gives them.
    """

    def __init__(self, factor: float, epochs: int, initial_rates: tuple[float | None, float | None]):
        super().__init__()
        self.factor, self.epochs, self.initial_rates = factor, epochs, initial_rates

    def on_epoch_begin(self, epoch, logs=None):
        optimizers = self.model.optimizer, self.model.discriminator_optimizer
        for optimizer, initial in zip(optimizers, self.initial_rates, strict=True):
            if initial is not None:
                decayed = initial * self.factor ** (epoch // self.epochs)
                optimizer.learning_rate = decayed * self.model.rate_factor


class FollowedRates(keras.callbacks.Callback):
    """Makes every optimizer follow what the caller's callbacks do to the learning rate of `model.optimizer`.

    Keras' callbacks (`LearningRateScheduler`, `ReduceLROnPlateau`) know one optimizer. Whatever they multiply
    its rate by, the others are multiplied by too, and so is `model.rate_factor`, which the algorithm's own
    schedules heed. It comes after the caller's callbacks; `before` comes before them.
    """

    def __init__(self):
        super().__init__()
        self.before = _RateBefore(self)
        self.rate = None

    def note(self) -> None:
        """Keeps the rate that the caller's callbacks find."""
        self.rate = rate_of(self.model.optimizer)

    def _follow(self) -> None:
        rate = rate_of(self.model.optimizer)
        if rate is None or self.rate is None or rate == self.rate or not self.rate:
            return
        factor = rate / self.rate
        self.model.rate_factor *= factor
        for name in self.model.trained_by():
            optimizer = getattr(self.model, name)
            other = rate_of(optimizer)
            if name != "optimizer" and other is not None:
                optimizer.learning_rate = other * factor
        self.rate = rate

    def on_train_begin(self, logs=None):
        self._follow()

    def on_epoch_begin(self, epoch, logs=None):
        self._follow()

    def on_train_batch_begin(self, batch, logs=None):
        self._follow()

    def on_train_batch_end(self, batch, logs=None):
        self._follow()

    def on_epoch_end(self, epoch, logs=None):
        self._follow()

    def get_state(self) -> dict:
        """What a checkpoint must keep of it."""
        return {"rate_factor": self.model.rate_factor}

    def set_state(self, state: dict) -> None:
        """Goes on from what `get_state` gave."""
        self.model.rate_factor = state["rate_factor"]


class _RateBefore(keras.callbacks.Callback):
    """Notes the rate before the caller's callbacks are called."""

    def __init__(self, followed: FollowedRates):
        super().__init__()
        self.followed = followed

    def on_train_begin(self, logs=None):
        self.followed.note()

    def on_epoch_begin(self, epoch, logs=None):
        self.followed.note()

    def on_train_batch_begin(self, batch, logs=None):
        self.followed.note()

    def on_train_batch_end(self, batch, logs=None):
        self.followed.note()

    def on_epoch_end(self, epoch, logs=None):
        self.followed.note()


def rate_of(optimizer: keras.optimizers.Optimizer) -> float | None:
    """The rate of the moment; None where a schedule of its own sets it."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if follows_schedule(inner):
        return None
    return float(keras.ops.convert_to_numpy(inner.learning_rate))


def initial_rate(optimizer: keras.optimizers.Optimizer) -> float | None:
    """The rate of an optimizer that has made no step; None where it follows a schedule of its own."""
    # The rate of the configuration is the one of the moment: after an epoch it is too late to ask.
    rate = getattr(optimizer, "inner_optimizer", optimizer).get_config()["learning_rate"]
    return rate if isinstance(rate, float) else None
