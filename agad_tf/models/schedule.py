"""The learning-rate schedule of AA-BiGAN."""

from __future__ import annotations

import keras


class EpochDecay(keras.callbacks.Callback):
    """Multiplies both learning rates by `factor` after every `epochs` epochs.

    Computed from the epoch's number and the first rates, so that a resumed training goes on as an undisturbed
    one; a rate that was set in between does not outlive the epoch.

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
                optimizer.learning_rate = initial * self.factor ** (epoch // self.epochs)


def initial_rate(optimizer: keras.optimizers.Optimizer) -> float | None:
    """The rate of an optimizer that has made no step; None where it follows a schedule of its own."""
    # The rate of the configuration is the one of the moment: after an epoch it is too late to ask.
    rate = getattr(optimizer, "inner_optimizer", optimizer).get_config()["learning_rate"]
    return rate if isinstance(rate, float) else None
