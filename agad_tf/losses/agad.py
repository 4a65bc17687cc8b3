"""The losses of AGAD, one function per equation (Shi and Zhang, arXiv 2304.04211).

Equations (5) to (8) give one value per sample, (batch,), so that the caller averages over the normals or the
anomalies of a batch; (9) to (11) and the discriminator's loss combine those averages. x̂ = G(x), x̂' = G(x̂),
(y, z) = D(x), (ŷ, ẑ) = D(x̂). All arithmetic is in float32 or better.
"""

from dataclasses import dataclass

import tensorflow as tf

from agad_tf.errors import InputError

LATENT_DISTANCES = ("mean_squared", "sum_squared", "root_mean_squared", "norm")


@dataclass(frozen=True)
class LossWeights:
    """λ of equations (9) and (10), with the paper's values."""

    adversarial: float = 1.0
    contextual: float = 50.0
    contextual_adversarial: float = 15.0
    latent: float = 5.0


def adversarial_loss(logit: tf.Tensor, target: float) -> tf.Tensor:
    """l_adv, equation (5): binary cross-entropy of the discriminator's logit against a target.

    Args:
        logit: (batch,), any real number.
        target: 1 for "real and normal", 0 for "generated or anomalous".

    Returns:
        (batch,), ≥ 0.
    """
    logit = _full(logit)
    labels = tf.fill(tf.shape(logit), tf.cast(target, logit.dtype))
    return tf.nn.sigmoid_cross_entropy_with_logits(logits=logit, labels=labels)


def contextual_loss(x: tf.Tensor, reconstruction: tf.Tensor) -> tf.Tensor:
    """l_con, equation (6): mean absolute error |x − x̂| over pixels and channels; (batch,), ≥ 0."""
    return _per_sample_mean(tf.abs(_full(x) - _full(reconstruction)))


def latent_loss(features: tf.Tensor, reconstructed: tf.Tensor, distance: str = "mean_squared") -> tf.Tensor:
    """l_lat, equation (7): distance of the discriminator's features of x and of x̂.

    The paper prints |z − ẑ|₂; whether squared, summed or averaged is not said, and it changes the reciprocal
    of equation (10) by orders of magnitude.

    Args:
        features: z, (batch, ...).
        reconstructed: ẑ, same shape.
        distance: "mean_squared" (default reading), "sum_squared", "root_mean_squared" or "norm".

    Returns:
        (batch,), ≥ 0.
    """
    squares = tf.math.squared_difference(_full(features), _full(reconstructed))
    axes = list(range(1, len(squares.shape)))
    if distance == "mean_squared":
        return tf.reduce_mean(squares, axes)
    if distance == "sum_squared":
        return tf.reduce_sum(squares, axes)
    if distance == "root_mean_squared":
        return _safe_sqrt(tf.reduce_mean(squares, axes))
    if distance == "norm":
        return _safe_sqrt(tf.reduce_sum(squares, axes))
    raise InputError(f"latent distance must be one of {', '.join(LATENT_DISTANCES)}; received {distance!r}")


def contextual_adversarial_loss(reconstruction: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """l_adcon, equation (8): minus the mean absolute error |x̂ − G(x̂)|; (batch,), ≤ 0.

    The gradient flows through both arguments.
    """
    return -_per_sample_mean(tf.abs(_full(reconstruction) - _full(second)))


def normality_loss(
    adversarial, contextual, contextual_adversarial, latent, weights: LossWeights
) -> tf.Tensor:
    """L_n, equation (9): weighted sum of the four terms' means over the normals of a batch (scalars)."""
    return (
        weights.adversarial * adversarial
        + weights.contextual * contextual
        + weights.contextual_adversarial * contextual_adversarial
        + weights.latent * latent
    )


def anomaly_terms(
    adversarial, contextual_adversarial, latent, weights: LossWeights, epsilon: float
) -> dict[str, tf.Tensor]:
    """The three summands of equation (10), by name; see `anomaly_loss`."""
    return {
        "adversarial": weights.adversarial * reciprocal(adversarial, epsilon),
        "contextual_adversarial": weights.contextual_adversarial
        * reciprocal(-contextual_adversarial, epsilon),
        "latent": weights.latent * reciprocal(latent, epsilon),
    }


def anomaly_loss(
    adversarial, contextual_adversarial, latent, weights: LossWeights, epsilon: float
) -> tf.Tensor:
    """L_a, equation (10): weighted reciprocals of the terms' means over the anomalies of a batch.

    Args:
        adversarial: mean l_adv(ŷ, 0) over the anomalies, scalar ≥ 0.
        contextual_adversarial: mean l_adcon, scalar ≤ 0.
        latent: mean l_lat, scalar ≥ 0.
        weights: λ.
        epsilon: added to each mean before its reciprocal; 0 is the paper's formula. The gradient of
            λ / (l_adv + ε) in the discriminator's logit is at most about λ / (4 ε).

    Returns:
        Scalar, > 0.
    """
    terms = anomaly_terms(adversarial, contextual_adversarial, latent, weights, epsilon)
    return terms["adversarial"] + terms["contextual_adversarial"] + terms["latent"]


def reciprocal(value: tf.Tensor, epsilon: float) -> tf.Tensor:
    """1 / (value + ε) for value ≥ 0, in the precision of `value` (float32 or better)."""
    return 1.0 / (_full(value) + epsilon)


def total_loss(normal, anomaly, normal_count, anomaly_count, weighting: str = "equal") -> tf.Tensor:
    """L, equation (11), for a batch of both kinds.

    Args:
        normal: L_n of the batch's normals, scalar.
        anomaly: L_a of the batch's anomalies, scalar; must be finite even where there are none.
        normal_count: number of normals in the batch.
        anomaly_count: number of anomalies; a group without members contributes nothing.
        weighting: "equal" gives each group weight 1; "share" its share of the batch.

    Returns:
        Scalar.
    """
    if weighting == "share":
        total = tf.maximum(normal_count + anomaly_count, 1.0)
        return normal * normal_count / total + anomaly * anomaly_count / total
    if weighting != "equal":
        raise InputError(f"group weighting must be 'equal' or 'share'; received {weighting!r}")
    return _if_any(normal, normal_count) + _if_any(anomaly, anomaly_count)


def discriminator_loss(
    reconstructed_normal, real_normal, real_anomaly, normal_count, anomaly_count, weighting: str = "equal"
) -> tf.Tensor:
    """L_d, Algorithm 1, lines 7 and 10.

    Args:
        reconstructed_normal: mean l_adv(ŷ, 0) over the normals, scalar.
        real_normal: mean l_adv(y, 1) over the normals.
        real_anomaly: mean l_adv(y, 0) over the anomalies.
        normal_count: number of normals in the batch.
        anomaly_count: number of anomalies in the batch.
        weighting: as in `total_loss`.

    Returns:
        Scalar, ≥ 0.
    """
    return total_loss(
        reconstructed_normal + real_normal, real_anomaly, normal_count, anomaly_count, weighting
    )


def _if_any(loss, count):
    return tf.where(count > 0, loss, tf.zeros_like(loss))


def _full(value):
    value = tf.convert_to_tensor(value)
    return value if value.dtype == tf.float64 else tf.cast(value, tf.float32)


def _per_sample_mean(values):
    return tf.reduce_mean(values, axis=list(range(1, len(values.shape))))


def _safe_sqrt(values):
    # The gradient of sqrt at 0 is infinite; a floor far below any feature distance makes it 0 there.
    return tf.sqrt(tf.maximum(values, 1e-12))
