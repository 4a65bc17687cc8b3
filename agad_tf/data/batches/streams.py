"""Rows in the order of their shuffles, from memory, from shards or from datasets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError

_NORMALS, _FILL, _ANOMALIES = range(3)  # kinds of shuffle, each with its own random stream
_KINDS = 3


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


class IndexedRows:
    """Rows in memory or in shards, drawn by index."""

    def __init__(self, normal, anomaly, seed: int):
        spec = _spec(normal, "normal")
        self.seed, self.n_normal, self.n_anomaly, self.spec = seed, len(normal), 0, spec
        self.both = None
        self.normal = _drawer(normal)
        if anomaly is not None:
            _check_alike(spec, _spec(anomaly, "anomaly"))
            self.n_anomaly, self.anomaly = len(anomaly), _drawer(anomaly)
            lazy = isinstance(normal, LazyRows) and type(anomaly) is type(normal)
            if lazy and normal.store is anomaly.store:  # read in the order of the batch at once
                self.both = _drawer(
                    type(normal)(normal.store, np.concatenate([normal.positions, anomaly.positions]))
                )
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

    def epoch(self, epoch: tf.Tensor, steps: int, p: int, q: int) -> tf.data.Dataset:
        """What `rows` takes for each of `steps` batches of p normals and q anomalies."""
        passes = [self._shuffled(self.n_normal, which, epoch) for which in (_NORMALS, _FILL)]
        indices = [tf.reshape(tf.concat(passes, 0)[: steps * p], (steps, p))]
        if q:
            first, offset = _under_way(epoch, steps * q, self.block)
            # Enough blocks for an epoch that begins at the end of one.
            numbers = first + tf.range((steps * q - 1) // self.block + 2, dtype=tf.int64)
            blocks = tf.reshape(tf.map_fn(self._anomaly_block, numbers, fn_output_signature=tf.int64), [-1])
            indices.append(tf.reshape(blocks[offset : offset + steps * q], (steps, q)))
        return tf.data.Dataset.from_tensor_slices(tuple(indices))

    def rows(self, order: np.ndarray, normals: tf.Tensor, anomalies: tf.Tensor | None = None) -> tf.Tensor:
        """One batch; its row i is row order[i] of [normals, anomalies]."""
        if anomalies is None:
            return self.normal(normals)
        if self.both is not None:
            return self.both(tf.gather(tf.concat([normals, anomalies + self.n_normal], 0), order))
        x = self.normal(normals)
        return tf.gather(tf.concat([x, self.anomaly(anomalies)], 0), order)


def _drawer(rows: np.ndarray | LazyRows | tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """What turns positions into rows, inside of a dataset."""
    if isinstance(rows, LazyRows):

        def read(positions):
            x = tf.numpy_function(rows.read, [positions], tf.as_dtype(rows.dtype), stateful=False)
            x.set_shape((positions.shape[0], *rows.shape[1:]))
            return x

        return read
    # On the host, where tf.data works, and as a tensor that the dataset captures: no graph holds pixels.
    with tf.device("CPU:0"):
        tensor = tf.convert_to_tensor(rows)
    return lambda positions: tf.gather(tensor, positions)


class StreamedRows:
    """Rows that datasets read one by one, shuffled through a bounded buffer."""

    def __init__(self, normal, anomaly, seed: int, shuffle_buffer: int):
        if shuffle_buffer < 1:
            raise InputError(
                f"expected a shuffle_buffer of at least 1, received {shuffle_buffer}; pass a larger one"
            )
        spec = _spec(normal, "normal")
        self.seed, self.buffer, self.n_anomaly, self.spec = seed, shuffle_buffer, 0, spec
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

    def epoch(self, epoch: tf.Tensor, steps: int, p: int, q: int) -> tf.data.Dataset:
        """What `rows` takes for each of `steps` batches of p normals and q anomalies."""
        normals, fill = (self._shuffled(self.normal, which, epoch) for which in (_NORMALS, _FILL))
        streams = [normals.concatenate(fill).batch(p, drop_remainder=True)]
        if q:
            first, offset = _under_way(epoch, steps * q, self.n_anomaly)
            passes = tf.data.Dataset.range(first, tf.int64.max).flat_map(
                lambda number: self._shuffled(self.anomaly, _ANOMALIES, number)
            )
            streams.append(passes.skip(offset).batch(q, drop_remainder=True))
        return tf.data.Dataset.zip(tuple(streams)).take(steps)

    def rows(self, order: np.ndarray, normals: tf.Tensor, anomalies: tf.Tensor | None = None) -> tf.Tensor:
        """One batch; its row i is row order[i] of [normals, anomalies]."""
        if anomalies is None:
            return normals
        return tf.gather(tf.concat([normals, anomalies], 0), order)


def _under_way(epoch: tf.Tensor, drawn: int, block: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The block of anomalies that is under way when the epoch begins, and how many of it are used up."""
    used = epoch * drawn
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
