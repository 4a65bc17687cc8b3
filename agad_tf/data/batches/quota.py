"""Batches with a fixed number of anomalies, the same ones for the same seed, epoch and step."""

from __future__ import annotations

import functools
import itertools
import logging
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from agad_tf.data.batches.augmentation import Augmentation, augmentation_layers, augmented
from agad_tf.data.batches.streams import IndexedRows, StreamedRows
from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quota:
    """What a stream of quota batches is made of; constant for a run.

    Attributes:
        batch_size: rows in a batch.
        normals_per_batch: of these, normals.
        anomalies_per_batch: of these, anomalies.
        steps_per_epoch: batches in which every normal is seen once or twice.
        repeat_rate: mean number of times that each anomaly is seen in an epoch; 0 without anomalies.
        n_normal: normals there are.
        n_anomaly: anomalies there are.
    """

    batch_size: int
    normals_per_batch: int
    anomalies_per_batch: int
    steps_per_epoch: int
    repeat_rate: float
    n_normal: int
    n_anomaly: int


def anomalies_per_batch(n: int, a: int, batch_size: int, min_anomalies: int) -> int:
    """max(min_anomalies, round(batch_size * a / (n + a))) for n normals and a anomalies; 0 where a is 0."""
    return max(min_anomalies, round(batch_size * a / (n + a))) if a else 0


def anomaly_positions(batch_size: int, anomalies: int) -> np.ndarray:
    """Rows of a batch that hold the anomalies: floor((i + 0.5) * batch_size / anomalies), int64 (anomalies,).

    Each contiguous slice of 1 / R of the batch, for R that divides both numbers, holds exactly anomalies / R
    of them: replicas that share a batch share its anomalies.
    """
    return (2 * np.arange(anomalies) + 1) * batch_size // (2 * max(anomalies, 1))


def quota_batches(
    normal: np.ndarray | LazyRows | tf.Tensor | tf.data.Dataset,
    anomaly: np.ndarray | LazyRows | tf.Tensor | tf.data.Dataset | None = None,
    batch_size: int = 256,
    min_anomalies: int = 32,
    seed: int = 0,
    *,
    replicas: int = 1,
    workers: int = 1,
    worker: int = 0,
    augment: Augmentation | None = None,
    shuffle_buffer: int = 10_000,
) -> tf.data.Dataset:
    """Batches that each hold the same number of anomalies, at fixed positions spread evenly over the batch.

    The number is max(min_anomalies, round(batch_size * a / (n + a))) for n normals and a anomalies. In an
    epoch every normal is seen once or twice: the last batch is filled from another shuffle. The anomalies are
    shuffled and repeated pass after pass without regard to where epochs end, so that over any stretch of a
    run the numbers of times that two of them were seen differ by at most one.

    Iterating over the result is one epoch: its first iteration is epoch 0, and each iteration is the next
    one. Attributes are set on it (a dataset made from it by `map` and the like does not have them):

    - `quota`: the `Quota`;
    - `stream(epoch=0, step=0)`: an infinite dataset that starts there. Its batches are a function of seed,
      epoch and step alone, so that a run resumes bit for bit;
    - `of_worker(workers=1, worker=0)`: the same batches, whole or the share of one worker.

    Args:
        normal: images (n, height, width, channels) or table rows (n, features), as an array, as `LazyRows`
            (images in shards: the same batches as from an array of them, a few in memory), or as a dataset of
            single images or rows of known shape. A dataset must give the same elements, in the same order,
            each time; where its length is unknown it is counted once, which reads it.
        anomaly: the same for the anomalies; None or empty: batches of normals alone.
        batch_size: rows in a (global) batch.
        min_anomalies: least number of anomalies in a batch, at least 1; without effect without anomalies.
        seed: any whole number.
        replicas: number of devices that share a batch; must divide the batch size and the number of
            anomalies.
        workers: number of processes that share a batch, each with a dataset of its own; must divide both too.
        worker: which of them this is, from 0. It gets its slice of every batch, batch_size / workers rows,
            and reads no other rows: however the data lie in files, no worker is without anomalies.
        augment: a Keras image augmentation layer or several, applied to the training batches (see
            `agad_tf.data.batches.augmentation.augmentation_layers`); their draws too depend on seed,
            epoch and step alone. None, as in the papers, leaves the images as they are.
        shuffle_buffer: elements a shuffle holds where datasets are given. Arrays are shuffled whole.

    Returns:
        Dataset of (x, y) of static shape: x (batch_size / workers, ...) with its dtype unchanged, y int32
        (batch_size / workers,), 0 normal and 1 anomaly.

    Raises:
        InputError: no normals, too few for the batch (says how large it can be), a quota that leaves no room
            for normals, numbers that the replicas do not divide, or shapes or dtypes that differ.

    Source: AGAD, section 3.3.2: at least 32 anomalies in every batch of 256.
    """
    normal, anomaly = _as_rows(normal), _as_rows(anomaly)
    if anomaly is not None and not isinstance(anomaly, tf.data.Dataset) and not len(anomaly):
        anomaly = None
    if isinstance(normal, tf.data.Dataset) or isinstance(anomaly, tf.data.Dataset):
        source = StreamedRows(normal, anomaly, int(seed) % 2**63, shuffle_buffer)
    else:
        source = IndexedRows(normal, anomaly, int(seed) % 2**63)
    quota = _plan(source.n_normal, source.n_anomaly, batch_size, min_anomalies, replicas, workers)
    if not 0 <= worker < workers:
        raise InputError(f"expected worker from 0 to {workers - 1}, received {worker}; count them from 0")
    layers = augmentation_layers(augment)
    if layers:  # once outside of the dataset: layers are built, and what is wrong with them is told plainly
        augmented(layers, tf.zeros((2, *source.spec.shape), source.spec.dtype), tf.zeros(2, tf.int64))
    _log.info(
        "quota: %d anomalies in each batch of %d, %d steps an epoch, each anomaly seen %.2f times an epoch",
        quota.anomalies_per_batch,
        quota.batch_size,
        quota.steps_per_epoch,
        quota.repeat_rate,
    )
    dataset = _assemble(source, quota, workers, worker, layers)
    # What statistics of the normals are taken from: they describe images as they come, not augmented ones.
    dataset.unaugmented = _assemble(source, quota, workers, worker, []) if layers else dataset
    dataset.of_worker = functools.partial(
        quota_batches,
        normal,
        anomaly,
        batch_size,
        min_anomalies,
        seed,
        replicas=replicas,
        augment=augment,
        shuffle_buffer=shuffle_buffer,
    )
    return dataset


def _as_rows(rows):
    known = tf.data.Dataset | tf.Tensor | LazyRows
    return rows if rows is None or isinstance(rows, known) else np.asarray(rows)


def _plan(n: int, a: int, batch_size: int, min_anomalies: int, replicas: int, workers: int) -> Quota:
    """Checks the numbers and works out the quota."""
    for name, value in (("batch_size", batch_size), ("replicas", replicas), ("workers", workers)):
        if value < 1:
            raise InputError(f"expected {name} of at least 1, received {value}; pass a larger one")
    if not n:
        raise InputError("expected normals to train on, received none; check the split")
    if a and min_anomalies < 1:
        raise InputError(
            f"expected min_anomalies of at least 1, received {min_anomalies}; pass no anomalies to train "
            "without them"
        )
    q = anomalies_per_batch(n, a, batch_size, min_anomalies)
    if q >= batch_size:
        raise InputError(
            f"expected fewer anomalies than the batch size {batch_size}, received a quota of {q} "
            f"(min_anomalies {min_anomalies}, {a} anomalies beside {n} normals); raise batch_size or lower "
            "min_anomalies or the anomalies"
        )
    for sharing, name in ((replicas, "replicas"), (workers, "workers")):
        if batch_size % sharing:
            raise InputError(
                f"expected a batch size that {sharing} {name} divide, received {batch_size}; the nearest are "
                f"{_nearest(batch_size, sharing, sharing)}"
            )
        if q % sharing:
            # A quota that follows from the share of anomalies can only be raised.
            least = anomalies_per_batch(n, a, batch_size, 1)
            raise InputError(
                f"expected a number of anomalies in a batch that {sharing} {name} divide, received {q}; the "
                f"nearest min_anomalies are {_nearest(q, sharing, least)}"
            )
    p = batch_size - q
    if p > 2 * n:
        possible = (
            b
            for b in range(min(batch_size - 1, _most(n, a, min_anomalies)), 0, -1)
            if b - anomalies_per_batch(n, a, b, min_anomalies) <= 2 * n
        )
        raise InputError(
            f"expected at least {-(-p // 2)} normals for {p} in each batch (each at most twice an epoch), "
            f"received {n}; the largest batch_size possible is {next(possible)}"
        )
    steps = -(-n // p)
    return Quota(batch_size, p, q, steps, steps * q / a if a else 0.0, n, a)


def _most(n: int, a: int, min_anomalies: int) -> int:
    """No batch above this one can fit: its normals would be more than twice those there are."""
    return max(2 * n + min_anomalies, -(-(2 * n + 1) * (n + a) // n)) + 1


def _nearest(value: int, divisor: int, least: int) -> str:
    below = value // divisor * divisor
    return " and ".join(str(number) for number in (below, below + divisor) if number >= max(least, 1))


def _assemble(
    source: IndexedRows | StreamedRows, quota: Quota, workers: int, worker: int, layers: list
) -> tf.data.Dataset:
    p, q = quota.normals_per_batch, quota.anomalies_per_batch
    positions = anomaly_positions(quota.batch_size, q)
    labels = np.zeros(quota.batch_size, np.int32)
    labels[positions] = 1
    # Row i of the batch is row order[i] of [normals, anomalies].
    order = np.empty(quota.batch_size, np.int64)
    order[labels == 0] = np.arange(p)
    order[positions] = p + np.arange(q)
    if workers > 1:
        size = quota.batch_size // workers
        mine = slice(worker * size, (worker + 1) * size)
        labels, order = labels[mine], order[mine]
    wanted = [order[labels == 0], order[labels == 1] - p]
    # The same order among the wanted rows alone.
    order = np.argsort(np.argsort(order))

    def batch(rows, number):
        if workers > 1:
            rows = [tf.gather(some, index) for some, index in zip(rows, wanted, strict=False)]
        x = source.rows(order, *rows)
        x.set_shape((len(labels), *x.shape[1:]))
        if layers:
            seed = tf.stack([tf.constant(source.seed, tf.int64), number * workers + worker])
            x = augmented(layers, x, seed)
        return x, tf.constant(labels)

    def epochs(numbers: tf.data.Dataset, skip: int, cardinality: int) -> tf.data.Dataset:
        def one(epoch: tf.Tensor) -> tf.data.Dataset:
            first = epoch * quota.steps_per_epoch
            return tf.data.Dataset.zip(
                source.epoch(epoch, quota.steps_per_epoch, p, q),
                tf.data.Dataset.range(first, first + quota.steps_per_epoch),
            )

        keys = numbers.flat_map(one)
        keys = keys.skip(skip).apply(tf.data.experimental.assert_cardinality(cardinality))
        batches = keys.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return batches.prefetch(tf.data.AUTOTUNE)

    count = itertools.count()

    def next_epoch() -> np.int64:
        return np.int64(next(count))

    def iteration(_):
        epoch = tf.numpy_function(next_epoch, [], tf.int64)
        epoch.set_shape(())
        return epoch

    def stream(epoch: int = 0, step: int = 0) -> tf.data.Dataset:
        if epoch < 0 or step < 0:
            raise InputError(f"expected an epoch and a step of at least 0, received {epoch} and {step}")
        start = epoch + step // quota.steps_per_epoch
        return epochs(
            tf.data.Dataset.counter(start), step % quota.steps_per_epoch, tf.data.INFINITE_CARDINALITY
        )

    dataset = epochs(tf.data.Dataset.from_tensors(0).map(iteration), 0, quota.steps_per_epoch)
    dataset.quota, dataset.stream = quota, stream
    return dataset
