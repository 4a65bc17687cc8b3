"""Where the batches of a training come from, at any position of it and for any worker."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import numpy as np
import tensorflow as tf

from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError
from agad_tf.models.inputs import batches_of
from agad_tf.models.loop import Position, part_of


class TrainingBatches:
    """A dataset of batches as `fit` takes it: quota batches, or any other.

    Args:
        dataset: batches of the whole training, alike in every worker; quota batches may instead be those of
            one worker alone (`quota_batches(workers=..., worker=...)`), which know the whole.
        steps_per_epoch: None takes the length of the dataset.
        initial_epoch: where another dataset than quota batches is taken to stand when it begins.
        normals_alone: leaves rows of label 1 out of every batch.

    Attributes:
        steps: of an epoch.
        quota: of quota batches, else None.

    Raises:
        InputError: a dataset of unknown length without steps.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        steps_per_epoch: int | None,
        initial_epoch: int = 0,
        normals_alone: bool = False,
    ):
        self.normals_alone = normals_alone
        self.quota = getattr(dataset, "quota", None)
        if (
            self.quota is not None
            and tf.nest.flatten(dataset.element_spec)[0].shape[0] < self.quota.batch_size
        ):
            # Scaling and scores are fitted to normals of the whole, or each worker would have its own.
            dataset = dataset.of_worker()
        self.dataset, self.initial_epoch = dataset, initial_epoch
        if self.quota is None and steps_per_epoch is None and int(dataset.cardinality()) < 0:
            raise InputError(
                "fit expects a dataset of known length or steps_per_epoch, received neither: "
                "pass steps_per_epoch"
            )
        length = int(dataset.cardinality()) if self.quota is None else self.quota.steps_per_epoch
        self.steps = steps_per_epoch or length

    def as_they_come(self) -> tf.data.Dataset:
        """One epoch without augmentation."""
        # A repeated dataset has no end.
        return self.dataset.take(self.steps) if self.quota is None else self.dataset.unaugmented

    def stream(self, start: Position, workers: int = 1, worker: int = 0) -> tf.data.Dataset:
        """The endless batches of one worker from a position on."""
        batches = self._stream(start, workers, worker)
        return without_anomalies(batches) if self.normals_alone else batches

    def _stream(self, start: Position, workers: int, worker: int) -> tf.data.Dataset:
        passed = start.epoch * self.steps + start.step
        if self.quota is not None:
            share = self.dataset if workers == 1 else self.dataset.of_worker(workers=workers, worker=worker)
            return share.stream(0, passed)
        batches = with_known_labels(self.dataset).repeat().skip(passed - self.initial_epoch * self.steps)
        if workers == 1:
            return batches
        return batches.map(
            lambda *batch: tf.nest.map_structure(lambda part: part_of(part, worker, workers), batch)
        )

    def identity(self) -> dict:
        """What tells these batches from others: numbers, and a hash of the first batch."""
        digest = hashlib.sha256()
        for batch in self.stream(Position(self.initial_epoch)).take(1):
            for part in tf.nest.flatten(batch):
                digest.update(np.ascontiguousarray(part.numpy()).data)
        about = {"steps_per_epoch": self.steps, "first_batch": digest.hexdigest()}
        return about | ({} if self.quota is None else {"quota": asdict(self.quota)})


def in_order(x, y: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Batches (x, y) of arrays in their own order, without a quota."""
    labels = tf.data.Dataset.from_tensor_slices(y).batch(batch_size)
    rows = batches_of(x, batch_size) if isinstance(x, LazyRows) else None
    rows = tf.data.Dataset.from_tensor_slices(x).batch(batch_size) if rows is None else rows
    return tf.data.Dataset.zip(rows, labels)


def with_known_labels(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The same batches; one with another label than 0 and 1, which no loss would see, stops the training."""
    if not isinstance(batches.element_spec, tuple) or len(batches.element_spec) < 2:
        return batches  # unlabelled rows are normal

    def checked(x, y, *rest):
        known = tf.reduce_all((y == 0) | (y == 1))
        message = "y expects 0 (normal) and 1 (anomaly) in every batch, received others: map the labels"
        with tf.control_dependencies([tf.debugging.assert_equal(known, True, message)]):
            return x, tf.identity(y), *rest

    return batches.map(checked)


def without_anomalies(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Batches (x, y) less their rows of label 1; batches of nothing else are left out."""
    if not isinstance(batches.element_spec, tuple) or len(batches.element_spec) < 2:
        return batches  # unlabelled rows are normal

    def normals(x, y):
        normal = tf.reshape(tf.cast(y, tf.int32), [-1]) == 0
        return tf.boolean_mask(x, normal), tf.boolean_mask(y, normal)

    return batches.map(normals).filter(lambda x, y: tf.shape(y)[0] > 0)
