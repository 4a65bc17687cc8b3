"""Batches with a fixed number of anomalies, the same ones for the same seed, epoch and step."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError

_log = logging.getLogger(__name__)
_NORMALS, _FILL, _ANOMALIES = range(3)  # kinds of shuffle, each with its own random stream
_KINDS = 3


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
    shuffle_buffer: int = 10_000,
) -> tf.data.Dataset:
    """Batches that each hold the same number of anomalies, at fixed positions spread evenly over the batch.

    The number is max(min_anomalies, round(batch_size * a / (n + a))) for n normals and a anomalies. In an
    epoch every normal is seen once or twice: the last batch is filled from another shuffle. The anomalies are
    shuffled and repeated pass after pass without regard to where epochs end, so that over any stretch of a
    run the numbers of times that two of them were seen differ by at most one.

    Iterating over the result is one epoch: its first iteration is epoch 0, and each iteration is the next
    one. Two attributes are set on it (a dataset made from it by `map` and the like does not have them):

    - `quota`: the `Quota`;
    - `stream(epoch=0, step=0)`: an infinite dataset that starts there. Its batches are a function of seed,
      epoch and step alone, so that a run resumes bit for bit.

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
        shuffle_buffer: elements a shuffle holds where datasets are given. Arrays are shuffled whole.

    Returns:
        Dataset of (x, y) of static shape: x (batch_size, ...) with its dtype unchanged, y int32
        (batch_size,), 0 normal and 1 anomaly.

    Raises:
        InputError: no normals, too few for the batch (says how large it can be), a quota that leaves no room
            for normals, numbers that the replicas do not divide, or shapes or dtypes that differ.

    Source: AGAD, section 5: at least 32 anomalies in every batch of 256.
    """
    normal, anomaly = _as_rows(normal), _as_rows(anomaly)
    if anomaly is not None and not isinstance(anomaly, tf.data.Dataset) and not len(anomaly):
        anomaly = None
    if isinstance(normal, tf.data.Dataset) or isinstance(anomaly, tf.data.Dataset):
        source = _DatasetRows(normal, anomaly, int(seed) % 2**63, shuffle_buffer)
    else:
        source = _ArrayRows(normal, anomaly, int(seed) % 2**63)
    quota = _plan(source.n_normal, source.n_anomaly, batch_size, min_anomalies, replicas)
    _log.info(
        "quota: %d anomalies in each batch of %d, %d steps an epoch, each anomaly seen %.2f times an epoch",
        quota.anomalies_per_batch,
        quota.batch_size,
        quota.steps_per_epoch,
        quota.repeat_rate,
    )
    return _assemble(source, quota)


def _as_rows(rows):
    known = tf.data.Dataset | tf.Tensor | LazyRows
    return rows if rows is None or isinstance(rows, known) else np.asarray(rows)


def _plan(n: int, a: int, batch_size: int, min_anomalies: int, replicas: int) -> Quota:
    """Checks the numbers and works out the quota."""
    for name, value in (("batch_size", batch_size), ("replicas", replicas)):
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
    if batch_size % replicas:
        raise InputError(
            f"expected a batch size that {replicas} replicas divide, received {batch_size}; the nearest are "
            f"{_nearest(batch_size, replicas, replicas)}"
        )
    if q % replicas:
        # A quota that follows from the share of anomalies can only be raised.
        least = anomalies_per_batch(n, a, batch_size, 1)
        raise InputError(
            f"expected a number of anomalies in a batch that {replicas} replicas divide, received {q}; the "
            f"nearest min_anomalies are {_nearest(q, replicas, least)}"
        )
    p = batch_size - q
    if p > 2 * n:
        possible = (
            b
            for b in range(batch_size - 1, 0, -1)
            if b - anomalies_per_batch(n, a, b, min_anomalies) <= 2 * n
        )
        raise InputError(
            f"expected at least {-(-p // 2)} normals for {p} in each batch (each at most twice an epoch), "
            f"received {n}; the largest batch_size possible is {next(possible)}"
        )
    steps = -(-n // p)
    return Quota(batch_size, p, q, steps, steps * q / a if a else 0.0, n, a)


def _nearest(value: int, divisor: int, least: int) -> str:
    below = value // divisor * divisor
    return " and ".join(str(number) for number in (below, below + divisor) if number >= max(least, 1))


def _assemble(source: _ArrayRows | _DatasetRows, quota: Quota) -> tf.data.Dataset:
    p, q = quota.normals_per_batch, quota.anomalies_per_batch
    positions = anomaly_positions(quota.batch_size, q)
    labels = np.zeros(quota.batch_size, np.int32)
    labels[positions] = 1
    # Row i of the batch is row order[i] of [normals, anomalies].
    order = np.empty(quota.batch_size, np.int64)
    order[labels == 0] = np.arange(p)
    order[positions] = p + np.arange(q)

    def batch(*rows):
        x = source.rows(order, *rows)
        x.set_shape((quota.batch_size, *x.shape[1:]))
        return x, tf.constant(labels)

    def epochs(numbers: tf.data.Dataset, skip: int, cardinality: int) -> tf.data.Dataset:
        keys = numbers.flat_map(lambda epoch: source.epoch(epoch, quota))
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


def _spec(rows, what: str) -> tf.TensorSpec:
    """Shape and dtype of one row."""
    if isinstance(rows, tf.data.Dataset):
        spec = rows.element_spec
        if not isinstance(spec, tf.TensorSpec):
            raise InputError(
                f"expected {what} as a dataset of x alone, received elements {spec}; map it to x"
            )
        shape = spec.shape
    else:
        spec, shape = rows, rows.shape[1:]
    shape = tf.TensorShape(shape)
    if shape.rank not in (1, 3) or not shape.is_fully_defined():
        raise InputError(
            f"expected {what} as images (height, width, channels) or table rows (features,) of known shape, "
            f"received rows of shape {shape}; resize or reshape them, and give datasets unbatched"
        )
    return tf.TensorSpec(shape, spec.dtype)


def _check_alike(normal: tf.TensorSpec, anomaly: tf.TensorSpec) -> None:
    if normal != anomaly:
        raise InputError(
            f"expected normals and anomalies alike, received rows of shape {normal.shape} "
            f"{normal.dtype.name} and {anomaly.shape} {anomaly.dtype.name}; convert one of them"
        )


def _seed(seed: int, which: int, index: tf.Tensor) -> tf.Tensor:
    """A seed of shape (2,) for one shuffle: different for any two (seed, kind of shuffle, index)."""
    return tf.stack([tf.constant(seed, tf.int64), _KINDS * index + which])


class _ArrayRows:
    """Rows in memory or in shards, drawn by index."""

    def __init__(self, normal, anomaly, seed: int):
        spec = _spec(normal, "normal")
        self.seed, self.n_normal, self.n_anomaly = seed, len(normal), 0
        self.normal = _drawer(normal)
        if anomaly is not None:
            _check_alike(spec, _spec(anomaly, "anomaly"))
            self.n_anomaly, self.anomaly = len(anomaly), _drawer(anomaly)
            # Few anomalies are drawn many passes at once: one by one costs more than the batches do.
            self.block = max(1, 256 // self.n_anomaly) * self.n_anomaly

    def _shuffled(self, length: int, which: int, index: tf.Tensor) -> tf.Tensor:
        # Not `index_shuffle`: of few rows it reaches only some of the orders, and those unequally often.
        rows = tf.range(length, dtype=tf.int64)
        return tf.random.experimental.stateless_shuffle(rows, _seed(self.seed, which, index), alg="philox")

    def _anomaly_block(self, number: tf.Tensor) -> tf.Tensor:
        if self.block == self.n_anomaly:
            return self._shuffled(self.n_anomaly, _ANOMALIES, number)
        shape = (self.block // self.n_anomaly, self.n_anomaly)
        keys = tf.random.stateless_uniform(shape, _seed(self.seed, _ANOMALIES, number), alg="philox")
        return tf.reshape(tf.cast(tf.argsort(keys), tf.int64), [-1])

    def epoch(self, epoch: tf.Tensor, quota: Quota) -> tf.data.Dataset:
        steps, p, q = quota.steps_per_epoch, quota.normals_per_batch, quota.anomalies_per_batch
        passes = [self._shuffled(quota.n_normal, which, epoch) for which in (_NORMALS, _FILL)]
        indices = [tf.reshape(tf.concat(passes, 0)[: steps * p], (steps, p))]
        if q:
            first, offset = _under_way(epoch, quota, self.block)
            # Enough blocks for an epoch that begins at the end of one.
            numbers = first + tf.range((steps * q - 1) // self.block + 2, dtype=tf.int64)
            blocks = tf.reshape(tf.map_fn(self._anomaly_block, numbers, fn_output_signature=tf.int64), [-1])
            indices.append(tf.reshape(blocks[offset : offset + steps * q], (steps, q)))
        return tf.data.Dataset.from_tensor_slices(tuple(indices))

    def rows(self, order: np.ndarray, normals: tf.Tensor, anomalies: tf.Tensor | None = None) -> tf.Tensor:
        x = self.normal(normals)
        if anomalies is None:
            return x
        return tf.gather(tf.concat([x, self.anomaly(anomalies)], 0), order)


def _drawer(rows: np.ndarray | LazyRows | tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """What turns positions into rows, inside of a dataset."""
    if isinstance(rows, LazyRows):

        def read(positions):
            x = tf.numpy_function(rows.read, [positions], tf.uint8, stateful=False)
            x.set_shape((positions.shape[0], *rows.shape[1:]))
            return x

        return read
    # On the host, where tf.data works, and as a tensor that the dataset captures: no graph holds pixels.
    with tf.device("CPU:0"):
        tensor = tf.convert_to_tensor(rows)
    return lambda positions: tf.gather(tensor, positions)


class _DatasetRows:
    """Rows that datasets read one by one, shuffled through a bounded buffer."""

    def __init__(self, normal, anomaly, seed: int, shuffle_buffer: int):
        if shuffle_buffer < 1:
            raise InputError(
                f"expected a shuffle_buffer of at least 1, received {shuffle_buffer}; pass a larger one"
            )
        spec = _spec(normal, "normal")
        self.seed, self.buffer, self.n_anomaly = seed, shuffle_buffer, 0
        self.normal, self.n_normal = _counted(normal, "normal")
        if anomaly is not None:
            _check_alike(spec, _spec(anomaly, "anomaly"))
            self.anomaly, self.n_anomaly = _counted(anomaly, "anomaly")

    def _shuffled(self, dataset: tf.data.Dataset, which: int, index: tf.Tensor) -> tf.data.Dataset:
        if not tf.executing_eagerly():
            # Inside of the dataset's function this sets the seed of that function's graph alone. Without it
            # the order would depend on what the program gave to tf.random.set_seed. Not 0: shuffle compares
            # the pair (graph seed, own seed) with (0, 0), which fails for a tensor unless the first differs.
            tf.random.set_seed(1)
        seed = tf.random.stateless_uniform((), _seed(self.seed, which, index), None, None, tf.int64)
        return dataset.shuffle(self.buffer, seed, reshuffle_each_iteration=False)

    def epoch(self, epoch: tf.Tensor, quota: Quota) -> tf.data.Dataset:
        normals, fill = (self._shuffled(self.normal, which, epoch) for which in (_NORMALS, _FILL))
        streams = [normals.concatenate(fill).batch(quota.normals_per_batch, drop_remainder=True)]
        if quota.n_anomaly:
            first, offset = _under_way(epoch, quota, self.n_anomaly)
            passes = tf.data.Dataset.range(first, tf.int64.max).flat_map(
                lambda number: self._shuffled(self.anomaly, _ANOMALIES, number)
            )
            streams.append(passes.skip(offset).batch(quota.anomalies_per_batch, drop_remainder=True))
        return tf.data.Dataset.zip(tuple(streams)).take(quota.steps_per_epoch)

    def rows(self, order: np.ndarray, normals: tf.Tensor, anomalies: tf.Tensor | None = None) -> tf.Tensor:
        if anomalies is None:
            return normals
        return tf.gather(tf.concat([normals, anomalies], 0), order)


def _under_way(epoch: tf.Tensor, quota: Quota, block: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The block of anomalies that is under way when the epoch begins, and how many of it are used up."""
    used = epoch * (quota.steps_per_epoch * quota.anomalies_per_batch)
    return used // block, used % block


def _counted(rows, what: str) -> tuple[tf.data.Dataset, int]:
    if isinstance(rows, LazyRows):
        raise InputError(f"expected normals and anomalies alike, received a dataset and {what} in shards")
    if not isinstance(rows, tf.data.Dataset):
        return tf.data.Dataset.from_tensor_slices(rows), len(rows)
    count = int(rows.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise InputError(f"expected {what} as a finite dataset, received an infinite one; leave out repeat()")
    if count == tf.data.UNKNOWN_CARDINALITY:
        count = int(rows.reduce(np.int64(0), lambda total, _: total + 1))
    return rows, count
