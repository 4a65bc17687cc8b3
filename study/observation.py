"""What the studies of stability see of a model after an epoch."""

import numpy as np
import tensorflow as tf

from agad_tf.evaluation.metrics import auroc
from study.development import DevelopmentData


def observer(model, problem: DevelopmentData):
    """A `look` of `study.watch` at a development problem.

    It sees `reconstruction`, `discriminator`, `fused`: AUROC on the test of the scoring networks; `raw`:
    AUROC of the reconstruction score of the raw generator with the moving statistics of training;
    `held_out_error`: mean reconstruction score of held-out normals; `contrast`: mean |x̂ − G(x̂)| over mean
    |x − x̂| on held-out normals; and the epoch's losses.
    """

    def look(logs):
        x = model.preprocess(tf.constant(problem.test_x))
        batches = [_scores(model, x[i : i + 200]).numpy() for i in range(0, len(x), 200)]
        scores = dict(zip((*model.score_names, "raw"), np.concatenate(batches, axis=1), strict=True))
        scores["fused"] = model.fuse([scores[name] for name in model.score_names]).numpy()
        seen = {}
        for name, values in scores.items():
            finite = np.isfinite(values).all()
            seen[name] = auroc(problem.test_y, values) if finite else float("nan")
        held_out = model.preprocess(tf.constant(problem.held_out))
        score, error, second = (float(value) for value in _held_out(model, held_out))
        seen |= {"held_out_error": score, "contrast": second / max(error, 1e-12)}
        return seen | {name: float(value) for name, value in logs.items()}

    return look


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
