"""The guard against a collapse: back to the last good weights once, then stop."""

import sys

import keras
import numpy as np

from agad_tf.models.updates import training_variables


class DivergenceGuard(keras.callbacks.Callback):
    """Watches the losses of each epoch; `fit` adds it unless `compile(guard=False)`.

    An epoch is bad when a loss is not finite, or when the reconstruction error of the training normals is
    more than `factor` times its lowest epoch mean so far. After the first bad epoch, weights, batch-norm
    statistics and both optimizers go back to the last good epoch and training goes on with the next order of
    the samples; after the second they go back and training stops. Each time one line on standard error says
    so. Without a good epoch to go back to, training stops at once.

    Args:
        factor: rise of the reconstruction error that counts as divergence, > 1.
        error: log name of the reconstruction error of normals; None watches for losses that are not finite
            alone.

    Attributes:
        rollbacks: how often it went back, 0 to 2.
    """

    def __init__(self, factor: float = 2.0, error: str | None = "normal_contextual"):
        super().__init__()
        if factor <= 1:
            raise ValueError(f"factor must be above 1, received {factor}")
        self.factor = factor
        self.error = error
        self.rollbacks = 0
        self._lowest = float("inf")
        self._good: tuple[int, list[np.ndarray]] | None = None

    def on_epoch_end(self, epoch, logs=None):
        reason = self._what_is_wrong(logs or {})
        if reason is None:
            self._lowest = min(self._lowest, float(logs.get(self.error, self._lowest)))
            self._good = (epoch, [variable.numpy() for variable in self._state()])
            return
        self.rollbacks += 1
        action = "no good epoch to go back to; training stops"
        if self._good is not None:
            last, values = self._good
            for variable, value in zip(self._state(), values, strict=True):
                variable.assign(value)
            action = f"went back to the weights of epoch {last + 1}"
            action += " and stopped" if self.rollbacks > 1 else " and went on"
        if self._good is None or self.rollbacks > 1:
            self.model.stop_training = True
        print(f"epoch {epoch + 1}: {reason}; {action}", file=sys.stderr)

    def _what_is_wrong(self, logs) -> str | None:
        bad = [name for name, value in logs.items() if not np.isfinite(value) and not name.startswith("val_")]
        if bad:
            return f"{bad[0]} is not finite"
        error = logs.get(self.error)
        if error is not None and float(error) > self.factor * self._lowest:
            return f"the reconstruction error of normals rose from {self._lowest:.3g} to {float(error):.3g}"
        return None

    def get_state(self) -> dict:
        """What a checkpoint must keep of it."""
        good = None if self._good is None else list(self._good)
        return {"rollbacks": self.rollbacks, "lowest": self._lowest, "good": good}

    def set_state(self, state: dict) -> None:
        """Goes on from what `get_state` gave."""
        self.rollbacks, self._lowest = state["rollbacks"], state["lowest"]
        self._good = None if state["good"] is None else tuple(state["good"])

    def _state(self) -> list:
        return training_variables(self.model)
