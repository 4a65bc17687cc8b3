"""What the stability study writes down after each epoch."""

import keras
import numpy as np
import tensorflow as tf

from agad_tf.evaluation.metrics import auroc
from agad_tf.experiments.development import DevelopmentData


class Observer(keras.callbacks.Callback):
    """After each epoch: AUROC of every score, and quantities that need no anomalies.

    Attributes:
        records: one dict an epoch. `reconstruction`, `discriminator`, `fused`: AUROC on the test of the
            scoring networks; `raw`: AUROC of the reconstruction score of the raw generator with the moving
            statistics of training; `held_out_error`: mean reconstruction score of held-out normals;
            `contrast`: mean |x̂ − G(x̂)| over mean |x − x̂| on held-out normals; and the epoch's losses.
    """

    def __init__(self, problem: DevelopmentData):
        super().__init__()
        self.problem = problem
        self.records: list[dict[str, float]] = []

    def on_epoch_end(self, epoch, logs=None):
        self.model.prepare_scoring()
        record = {"epoch": epoch + 1}
        x = self.model.preprocess(tf.constant(self.problem.test_x))
        scores = {
            name: self._batched(lambda b, name=name: self.model.raw_score(name, b), x)
            for name in self.model.score_names
        }
        means = self.model.score_means.numpy()
        deviations = self.model.score_deviations.numpy()
        scores["fused"] = sum(
            (scores[name] - means[i]) / deviations[i] for i, name in enumerate(self.model.score_names)
        )
        scores["raw"] = self._batched(
            lambda b: tf.sqrt(tf.reduce_sum((b - self.model.generator(b, training=False)) ** 2, [1, 2, 3])), x
        )
        for name, values in scores.items():
            finite = np.isfinite(values).all()
            record[name] = auroc(self.problem.test_y, values) if finite else float("nan")
        held_out = self.model.preprocess(tf.constant(self.problem.held_out))
        reconstruction = self.model.scoring_generator(held_out, training=False)
        second = self.model.scoring_generator(reconstruction, training=False)
        error = float(tf.reduce_mean(tf.abs(held_out - reconstruction)))
        record["held_out_error"] = float(tf.reduce_mean(self.model.raw_score("reconstruction", held_out)))
        record["contrast"] = float(tf.reduce_mean(tf.abs(reconstruction - second))) / max(error, 1e-12)
        record |= {name: float(value) for name, value in (logs or {}).items()}
        self.records.append(record)

    @staticmethod
    def _batched(function, x) -> np.ndarray:
        return np.concatenate([function(x[i : i + 256]).numpy() for i in range(0, len(x), 256)])
