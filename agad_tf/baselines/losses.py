"""The losses of the baselines, one function per equation, over network outputs.

Each gives one value per sample, (batch,), in float32 or better, except where it says so; the caller takes the
means.
"""

import tensorflow as tf


def mean_squared(x: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Mean of (x − other)² over everything but the batch; (batch,), ≥ 0."""
    x = _full(x)
    squares = tf.math.squared_difference(x, tf.cast(other, x.dtype))
    return tf.reduce_mean(squares, axis=list(range(1, len(squares.shape))))


def squared_distance(code: tf.Tensor, centre: tf.Tensor) -> tf.Tensor:
    """‖φ(x) − c‖², Deep SVDD (ICML 2018), equation (4): loss and score; (batch,), ≥ 0."""
    code = _full(code)
    return tf.reduce_sum(tf.square(code - tf.cast(centre, code.dtype)), axis=-1)


def semi_supervised_distance(distance: tf.Tensor, y: tf.Tensor, eta: float = 1.0) -> tf.Tensor:
    """The terms of Deep SAD (ICLR 2020), equation (8): ‖φ(x) − c‖², of anomalies η (‖φ(x) − c‖²)⁻¹.

    Args:
        distance: ‖φ(x) − c‖², (batch,), ≥ 0.
        y: (batch,), 0 normal or unlabelled, 1 anomaly.
        eta: η, weight of labelled samples.

    Returns:
        (batch,); the authors' 10⁻⁶ keeps the reciprocal finite.
    """
    return tf.where(y == 1, eta / (distance + 1e-6), distance)


def away_from_zero(centre: tf.Tensor, least: float = 0.1) -> tf.Tensor:
    """A centre whose coordinates in (−least, least) are moved to the nearer end; 0 goes to least.

    A coordinate of 0 could be reached with weights of 0 alone. Deep SVDD's code; its section 3.3.
    """
    return tf.where(tf.abs(centre) < least, tf.where(centre < 0, -least, least), centre)


def cross_entropy(logit: tf.Tensor, target: tf.Tensor | float) -> tf.Tensor:
    """Binary cross-entropy of a logit against a target in [0, 1]; (batch,), ≥ 0."""
    logit = _full(logit)
    labels = tf.broadcast_to(tf.cast(target, logit.dtype), tf.shape(logit))
    return tf.nn.sigmoid_cross_entropy_with_logits(logits=logit, labels=labels)


def gradient_penalty(gradients: tf.Tensor) -> tf.Tensor:
    """(‖∇D(x̃)‖₂ − 1)², WGAN-GP (NeurIPS 2017), equation (3); (batch,), ≥ 0.

    Args:
        gradients: of the critic's output in each image between a real and a generated one, (batch, ...).
    """
    gradients = _full(gradients)
    squares = tf.reduce_sum(tf.square(gradients), axis=list(range(1, len(gradients.shape))))
    # The gradient of sqrt at 0 is infinite.
    return tf.square(tf.sqrt(tf.maximum(squares, 1e-12)) - 1.0)


def _full(value):
    value = tf.convert_to_tensor(value)
    return value if value.dtype == tf.float64 else tf.cast(value, tf.float32)
