"""Means over a group of a batch, and over all replicas, before anything non-linear happens to them."""

import tensorflow as tf

from agad_tf.replicas import sum_over_replicas


def group_means(values: dict[str, tf.Tensor], member: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Means of per-sample values over the members of a group in the global batch.

    Sums and counts are reduced over replicas first, so that the mean, and any reciprocal of it, is that of
    the global batch however its samples are spread.

    Args:
        values: name to per-sample values (batch,).
        member: (batch,), 1 for a member, 0 otherwise.

    Returns:
        The means, 0 where the group is empty, and the number of members in the global batch (scalar).
    """
    names = list(values)
    sums = tf.stack([tf.reduce_sum(values[name] * member) for name in names] + [tf.reduce_sum(member)])
    sums = sum_over_replicas(sums)
    count = sums[-1]
    means = sums[:-1] / tf.maximum(count, 1.0)
    return dict(zip(names, tf.unstack(means), strict=True)), count
