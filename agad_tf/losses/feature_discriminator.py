"""Losses of the discriminator of patches on frozen features, one function a term.

Logits are (batch, patches, members): positive where a member takes a patch for anomalous. `counted` is
(batch, members), 1 where a member learns from a sample, 0 where the sample is held out from it.
"""

import tensorflow as tf

from agad_tf.losses.reduction import group_means


def _cross_entropy(logits: tf.Tensor, target: float) -> tf.Tensor:
    return tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), target), logits)


def _mean(values: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Sum over members of each one's mean over what counts for it in the global batch."""
    members = values.shape[-1]
    return tf.add_n(
        [group_means({"_": values[:, member]}, counted[:, member])[0]["_"] for member in range(members)]
    )


def noise_loss(normal: tf.Tensor, noisy: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of normal patches, target 0, against the same patches with noise, target 1.

    Source: SimpleNet (Liu et al., CVPR 2023), section 3.4, whose hinge is a cross-entropy here.

    Args:
        normal, noisy: logits (batch, patches, members), not of as many patches each.
        counted: (batch, members), 0 for anomalies too.
    """
    kinds = [_cross_entropy(normal, 0.0), _cross_entropy(noisy, 1.0)]
    return _mean(sum(tf.reduce_mean(values, axis=1) for values in kinds) / 2, counted)


def largest_count(patches: int, share: float) -> int:
    """How many patches a share of them is, at least 1."""
    return max(1, round(share * patches))


def worst_mean(logits: tf.Tensor, share: float) -> tf.Tensor:
    """Mean of the largest share of the patch logits of each sample, (batch, members)."""
    count = largest_count(logits.shape[1], share)
    largest, _ = tf.math.top_k(tf.transpose(logits, (0, 2, 1)), count)
    return tf.reduce_mean(largest, axis=-1)


def label_loss(worst: tf.Tensor, normal: tf.Tensor, anomaly: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of samples, judged by their worst patches: normals, target 0, and anomalies, 1.

    An image label says that there is a defect and not where: multiple-instance learning. Each kind counts
    once however many of it are in the batch; without anomalies it is 0.

    Args:
        worst: (batch, members), logits of the worst patches.
        normal, anomaly: (batch, members), who counts as which.
    """
    anomalies = tf.cast(group_means({}, anomaly[:, 0])[1] > 0, worst.dtype)
    normals = _mean(_cross_entropy(worst, 0.0), normal)
    return anomalies * (normals + _mean(_cross_entropy(worst, 1.0), anomaly)) / 2
