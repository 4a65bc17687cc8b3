"""The replicas of a `tf.distribute` strategy, seen from inside a step; one without a strategy."""

import functools

import numpy as np
import tensorflow as tf

_BLOCK = 4096
"""Bytes."""


def sum_over_replicas(value):
    """Sum of a tensor, or of each tensor of a list, over all replicas; differentiable."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce("sum", value)


def replica_count() -> int:
    """Number of replicas that train in step."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_index_and_count() -> tuple:
    """Which replica this is (int, or int tensor under several), from 0, and how many train in step."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return 0, 1
    return context.replica_id_in_sync_group, context.num_replicas_in_sync


def of_this_replica(draw, rows):
    """This replica's rows of what is drawn for all replicas at once: `draw(number of rows)`, `rows` each."""
    index, count = replica_index_and_count()
    return draw(count * rows)[index * rows : (index + 1) * rows]


def is_chief(strategy) -> bool:
    """Whether this process is the one that writes; the only one always is."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    with_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (resolver.task_id == 0 and not with_chief)


def worker_count(strategy) -> int:
    """Number of processes that train together."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return 1
    spec = resolver.cluster_spec()
    return sum(spec.num_tasks(job) for job in spec.jobs if job in ("chief", "worker"))


def from_chief(strategy, content: bytes) -> bytes:
    """The chief's bytes, in every process of a strategy; all of them must call this."""
    if worker_count(strategy) == 1:
        return content
    chief = is_chief(strategy)
    summed = _sum_from_chief(strategy)
    length = int(summed(tf.constant([len(content) if chief else 0], tf.int32))[0])
    if not length:
        return b""
    # Whole blocks: what is exchanged after each epoch has one shape, and is traced once.
    numbers = np.zeros(-(-length // _BLOCK) * _BLOCK // 4, "<i4")
    if chief:
        numbers.view(np.uint8)[:length] = np.frombuffer(content, np.uint8)
    return np.asarray(summed(tf.constant(numbers))).astype("<i4").tobytes()[:length]


@functools.cache
def _sum_from_chief(strategy):
    """A function of int32 numbers (n,) to the chief's, in every process."""
    chief = is_chief(strategy)

    @tf.function
    def summed(values):
        # Every replica adds its numbers: only the chief's first one has any.
        def one():
            context = tf.distribute.get_replica_context()
            mine = chief & (context.replica_id_in_sync_group == 0)
            return context.all_reduce("sum", tf.where(mine, values, tf.zeros_like(values)))

        return strategy.experimental_local_results(strategy.run(one))[0]

    return summed
