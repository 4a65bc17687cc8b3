"""The losses of AA-BiGAN, one function per equation (Tian et al., IJCAI 2022, and its supplement).

D judges (x, E(x)) of normals and of collected anomalies, and (G(z), z); D' judges (x, x) of both and (x, x̂)
of normals, x̂ = G(E(x)). Every loss is least squares against a target. The functions take per-sample outputs
and who is a member of which group; every term is the mean over its group in the global batch, 0 for an empty
group. All arithmetic is in float32 or better.
"""

from dataclasses import dataclass

import tensorflow as tf

from agad_tf.losses.reduction import group_means


@dataclass(frozen=True)
class Targets:
    """a, b and c of Theorem 3, with the paper's values.

    Attributes:
        normal: a, D's target for normals.
        generated: b, D's target for generated pairs.
        generator: c, the value that G and E want D to give to everything.
        anomaly: D's target for collected anomalies; None is (a + b) / 2. With 0, and c = .5, equations (15)
            and (16) become (9) and (10).
    """

    normal: float = 1.0
    generated: float = 0.0
    generator: float = 0.75
    anomaly: float | None = None

    def __post_init__(self):
        if self.anomaly is None:
            object.__setattr__(self, "anomaly", (self.normal + self.generated) / 2)


def least_squares(output: tf.Tensor, target: float) -> tf.Tensor:
    """(D − t)² of each output; (batch,), ≥ 0."""
    output = tf.cast(output, tf.float32) if output.dtype.size < 4 else output
    return tf.square(output - target)


def discriminator_loss(real, generated, normal, anomaly, targets: Targets) -> tuple[tf.Tensor, dict]:
    """V(D), equation (15).

    E[(D(x⁺, E(x⁺)) − a)²] + E[(D(x⁻, E(x⁻)) − (a+b)/2)²] + E[(D(G(z), z) − b)²]

    Args:
        real: D(x, E(x)), (batch,).
        generated: D(G(z), z), (any number,).
        normal, anomaly: (batch,), 1 where x is normal and where it is an anomaly, else 0.
        targets: a, b and c.

    Returns:
        The loss, and its terms "normal", "anomaly", "generated".
    """
    terms = {
        "normal": _mean(least_squares(real, targets.normal), normal),
        "anomaly": _mean(least_squares(real, targets.anomaly), anomaly),
        "generated": _mean(least_squares(generated, targets.generated)),
    }
    return sum(terms.values()), terms


def generator_loss(real, generated, normal, anomaly, targets: Targets) -> tuple[tf.Tensor, dict]:
    """V(G, E), equation (16): all three terms of (15) against c. Arguments and result as there."""
    terms = {
        "normal": _mean(least_squares(real, targets.generator), normal),
        "anomaly": _mean(least_squares(real, targets.generator), anomaly),
        "generated": _mean(least_squares(generated, targets.generator)),
    }
    return sum(terms.values()), terms


def reconstruction_discriminator_loss(
    same, reconstructed, normal, anomaly, targets: Targets
) -> tuple[tf.Tensor, dict]:
    """What equation (33) adds to V(D), the loss of D'.

    E[(D'(x⁺, x⁺) − a)²] + E[(D'(x⁻, x⁻) − (a+b)/2)²] + E[(D'(x⁺, x̂⁺) − b)²]

    Args:
        same: D'(x, x), (batch,).
        reconstructed: D'(x, x̂), (batch,).
        normal, anomaly: as in `discriminator_loss`.
        targets: a, b and c.

    Returns:
        The loss, and its terms "same_normal", "same_anomaly", "reconstruction".
    """
    terms = {
        "same_normal": _mean(least_squares(same, targets.normal), normal),
        "same_anomaly": _mean(least_squares(same, targets.anomaly), anomaly),
        "reconstruction": _mean(least_squares(reconstructed, targets.generated), normal),
    }
    return sum(terms.values()), terms


def reconstruction_generator_loss(reconstructed, normal, targets: Targets) -> tf.Tensor:
    """What equation (34) adds to V(G, E): E[(D'(x⁺, x̂⁺) − c)²].

    Its other two terms, D'(x, x) of normals and anomalies, hold neither G nor E: they have no gradient and
    are left out.
    """
    return _mean(least_squares(reconstructed, targets.generator), normal)


def _mean(values: tf.Tensor, member: tf.Tensor | None = None) -> tf.Tensor:
    member = tf.ones_like(values) if member is None else tf.cast(member, values.dtype)
    return group_means({"value": values}, member)[0]["value"]
