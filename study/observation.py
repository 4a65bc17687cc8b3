"""What the stability study writes down after each epoch."""

import keras
import numpy as np
import tensorflow as tf

from agad_tf.evaluation.metrics import auroc
from study.development import DevelopmentData


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
        batches = [_scores(self.model, x[i : i + 200]).numpy() for i in range(0, len(x), 200)]
        scores = dict(zip((*self.model.score_names, "raw"), np.concatenate(batches, axis=1), strict=True))
        scores["fused"] = self.model.fuse([scores[name] for name in self.model.score_names]).numpy()
        for name, values in scores.items():
            finite = np.isfinite(values).all()
            record[name] = auroc(self.problem.test_y, values) if finite else float("nan")
        held_out = self.model.preprocess(tf.constant(self.problem.held_out))
        score, error, second = (float(value) for value in _held_out(self.model, held_out))
        record |= {"held_out_error": score, "contrast": second / max(error, 1e-12)}
        record |= {name: float(value) for name, value in (logs or {}).items()}
        self.records.append(record)


# Graphs are kept for a model that runs again.
@tf.function(reduce_retracing=True)
def _scores(model, x) -> tf.Tensor:
    """(scores, batch): those of the scoring networks, then the raw generator's reconstruction score."""
    raw = tf.sqrt(tf.reduce_sum((x - model.generator(x, training=False)) ** 2, [1, 2, 3]))
    return tf.stack([model.raw_score(name, x) for name in model.score_names] + [raw])


@tf.function(reduce_retracing=True)
def _held_out(model, x) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Means of the reconstruction score, of |x − x̂| and of |x̂ − G(x̂)|."""
    reconstruction = model.scoring_generator(x, training=False)
    second = model.scoring_generator(reconstruction, training=False)
    return (
        tf.reduce_mean(model.raw_score("reconstruction", x)),
        tf.reduce_mean(tf.abs(x - reconstruction)),
        tf.reduce_mean(tf.abs(reconstruction - second)),
    )
