"""The replicas of a `tf.distribute` strategy, seen from inside a step; one without a strategy."""

import tensorflow as tf


def sum_over_replicas(value):
    """Sum of a tensor, or of each tensor of a list, over all replicas; differentiable."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce("sum", value)


def replica_count() -> int:
    """Number of replicas that train in step."""
    return tf.distribute.get_strategy().num_replicas_in_sync
