"""Which epoch scores, chosen without a single anomaly."""

import keras
import numpy as np

from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError
from agad_tf.models.inputs import as_samples

CRITERIA = ("contrast", "error")


class NormalOnlySelection(keras.callbacks.Callback):
    """Ends `fit` with the scoring networks of the epoch that looks best on held-out normals.

    ```python
    selection = NormalOnlySelection(held_out_normals)
    model.fit(x, y, epochs=40, callbacks=[selection])
    selection.best_epoch  # the model scores with its networks
    ```

    The raw networks and their optimizers stay those of the last epoch, so that training can go on.

    Args:
        normals: held-out normal samples as `fit` takes them, not trained on.
        criterion: "contrast" takes the epoch with the highest mean |x̂ − G(x̂)| over mean |x − x̂|: the
            generator changes what it made itself much more than what is normal; images only. "error" takes
            the lowest mean |x − x̂|.
        batch_size: samples a prediction batch.

    Attributes:
        values: the criterion after each epoch.
        best_epoch: the chosen epoch, from 1; 0 before the first.

    Raises:
        InputError: an unknown criterion, no samples, "contrast" with a model of table rows.
    """

    def __init__(self, normals: np.ndarray | LazyRows, criterion: str = "contrast", batch_size: int = 256):
        super().__init__()
        if criterion not in CRITERIA:
            raise InputError(f"criterion expects one of {', '.join(CRITERIA)}, received {criterion!r}")
        if not len(normals):
            raise InputError("normals expects held-out normal samples, received none: hold some out")
        self.normals, self.criterion, self.batch_size = normals, criterion, batch_size
        self.values: list[float] = []
        self.best_epoch = 0
        self._best: list[np.ndarray] = []

    def on_train_begin(self, logs=None):
        if self.criterion == "contrast" and self.model.is_table:
            raise InputError(
                "criterion 'contrast' expects a model of images, received one of table rows: take 'error'"
            )
        self.normals = self.model.check_samples(as_samples(self.normals), "normals")

    def on_epoch_end(self, epoch, logs=None):
        self.model.prepare_scoring()
        value = self._measure()
        self.values.append(value)
        better = max if self.criterion == "contrast" else min
        finite = [known for known in self.values if np.isfinite(known)]
        if np.isfinite(value) and (not self._best or value == better(finite)):
            self.best_epoch = epoch + 1
            self._best = [variable.numpy() for variable in self._scoring_variables()]

    def on_train_end(self, logs=None):
        for variable, value in zip(self._scoring_variables(), self._best, strict=bool(self._best)):
            variable.assign(value)

    def get_state(self) -> dict:
        """What `Checkpoints` keeps, for an interrupted training to choose among all its epochs."""
        return {"values": self.values, "best_epoch": self.best_epoch, "best": self._best}

    def set_state(self, state: dict) -> None:
        """Takes back what `get_state` gave."""
        self.values, self.best_epoch = list(state["values"]), state["best_epoch"]
        self._best = list(state["best"])

    def _measure(self) -> float:
        error = second_error = 0.0
        for start in range(0, len(self.normals), self.batch_size):
            batch = np.asarray(self.normals[start : start + self.batch_size])
            reconstruction, errors = self.model.explain(batch)
            error += float(np.mean(errors)) * len(batch)
            if self.criterion == "contrast":
                second_error += float(np.mean(self.model.explain(reconstruction)[1])) * len(batch)
        return second_error / max(error, 1e-12) if self.criterion == "contrast" else error / len(self.normals)

    def _scoring_variables(self) -> list:
        return [variable for network in self.model.averaged_networks() for variable in network.variables]
