"""What a training looks like in TensorBoard: curves, score histograms, what the detector redraws."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import auroc
from agad_tf.models.inputs import as_samples, check_labels

MOST_SCORES = 2048
"""Validation samples at most that are scored for the histograms of an epoch."""


def tensorboard_installed() -> bool:
    """Whether the package that writes TensorBoard's summaries is there."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoardReport(keras.callbacks.Callback):
    """Writes losses, validation AUROC, score histograms and fixed pictures after each epoch.

    ```python
    model.fit(x, y, validation_data=(vx, vy), callbacks=[TensorBoardReport("logs", (vx, vy))])
    ```

    Tags: `training/<log>` and `validation/<log>` for every number in the epoch's logs, `validation/auroc`;
    `scores/normal` and `scores/anomaly`, histograms of the validation scores (at most 2048 samples, the same
    ones each epoch); `pictures/normal` and `pictures/anomaly`, a few fixed samples as input, reconstruction,
    error side by side. Error is |input − reconstruction| averaged over channels; white is an error of half
    the model's range or more, in every epoch.

    Args:
        log_dir: folder for the event file.
        validation_data: (x, y) as `fit` takes them; None writes the logs only. y may hold one kind only.
        images: samples drawn as pictures, half of them normal, half anomalies where there are both.

    Raises:
        InputError: TensorBoard is not installed, or data that are not (x, y).
    """

    def __init__(self, log_dir: str | Path, validation_data=None, images: int = 8):
        super().__init__()
        if not tensorboard_installed():
            raise InputError(
                "TensorBoardReport needs the package tensorboard, which is not installed: "
                "pip install 'agad-tf[tensorboard]'"
            )
        if images < 0:
            raise InputError(f"images expects 0 or more samples, received {images}: take 8")
        self.log_dir = Path(log_dir)
        self.writer = None
        self.x = self.y = None
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise InputError(
                    "validation_data expects arrays (x, y), received "
                    f"{type(validation_data).__name__}: pass two arrays"
                )
            self._choose(*validation_data, images)

    def _choose(self, x, y, images: int) -> None:
        x = as_samples(x)
        y = check_labels(y, len(x))
        rows = np.arange(len(y))
        if len(rows) > MOST_SCORES:
            rows = np.sort(np.random.default_rng(0).choice(len(rows), MOST_SCORES, replace=False))
        self.x, self.y = np.asarray(x[rows]), y[rows]
        kinds = [kind for kind in (0, 1) if (self.y == kind).any()]
        each = -(-images // len(kinds)) if kinds and images else 0
        self._pictured = {kind: np.flatnonzero(self.y == kind)[:each] for kind in kinds}

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_end(self, epoch, logs=None):
        logs = {name: float(value) for name, value in (logs or {}).items()}
        with self.writer.as_default(step=epoch):
            for name, value in logs.items():
                validation = name.startswith("val_")
                group = "validation" if validation else "training"
                tf.summary.scalar(f"{group}/{name.removeprefix('val_')}", value)
            if self.x is not None and len(self.x):
                if not self.model.scoring_prepared.numpy():
                    self.model.prepare_scoring()  # fit ran no validation that would have done it
                self._scores("val_auroc" in logs)
                self._pictures()
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()

    def _scores(self, auroc_logged: bool) -> None:
        scores = self.model.predict(self.x, verbose=0)
        # A collapsed training may score NaN, which a histogram cannot hold.
        finite = np.isfinite(scores)
        for kind, name in ((0, "normal"), (1, "anomaly")):
            part = scores[(self.y == kind) & finite]
            if part.size:
                tf.summary.histogram(f"scores/{name}", part)
        if not auroc_logged and finite.all() and 0 < self.y.sum() < len(self.y):
            tf.summary.scalar("validation/auroc", auroc(self.y, scores))

    def _pictures(self) -> None:
        low, high = self.model.preprocess.value_range
        for kind, rows in self._pictured.items():
            if not len(rows) or self.x.ndim != 4:
                continue
            x = tf.convert_to_tensor(self.x[rows])
            x, reconstruction, error = self.model.pictured(x)
            x = tf.cast(x, tf.float32)
            error = tf.repeat(tf.cast(error, tf.float32)[..., None] * 2 / (high - low), x.shape[-1], axis=-1)
            strips = tf.concat(
                [(x - low) / (high - low), (tf.cast(reconstruction, tf.float32) - low) / (high - low), error],
                axis=2,
            )
            name = "anomaly" if kind else "normal"
            tf.summary.image(
                f"pictures/{name}",
                tf.clip_by_value(strips, 0.0, 1.0),
                max_outputs=len(rows),
                description="input, reconstruction, error; one row a sample",
            )
