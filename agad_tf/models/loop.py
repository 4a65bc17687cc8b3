"""The loop of `fit`: one compiled step over a stream of batches, from any position, on any replicas.

Keras' own loop cannot start in the middle of an epoch and fails on several workers; this one calls the same
callbacks in the same order, and uses public TensorFlow alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from agad_tf.data.batches.quota import Quota
from agad_tf.errors import InputError
from agad_tf.models.schedule import FollowedRates
from agad_tf.replicas import from_chief


@dataclass(frozen=True, order=True)
class Position:
    """Where a training stands: epochs that are finished, and steps made in the one under way."""

    epoch: int = 0
    step: int = 0


class ResumingCallback(keras.callbacks.Callback):
    """A callback that knows where an interrupted training stood; `fit` asks it before it starts."""

    def find(self, callbacks: list, identity: Callable[[], dict]) -> Position | None:
        """The position to go on from; its state is put back in `on_train_begin`.

        Args:
            callbacks: all of this training.
            identity: gives what the training is: another one must not go on from this one's state.

        Returns:
            None to start at the beginning.
        """
        raise NotImplementedError(f"{type(self).__name__} must define find(callbacks, identity)")


def callback_list(
    model, own: list, callbacks, verbose, epochs: int, steps: int, quota: Quota | None = None
) -> keras.callbacks.CallbackList:
    """The callbacks of a training in the order they are called.

    Args:
        model: what trains.
        own: those of the algorithm, first: the others see the weights that training goes on with.
        callbacks: those of the caller; resuming ones come last, when all others have done their work.
        verbose, epochs, steps: of `fit`, for Keras' progress bar.
        quota: what the batches are made of, where it is known; all callbacks are told: `params["quota"]`.

    Raises:
        InputError: one that cannot work here.
    """
    given = getattr(callbacks, "callbacks", callbacks)
    given = keras.tree.flatten(given) if given else []
    for callback in given:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise InputError(
                "callbacks expects no BackupAndRestore, received one, which forgets the position in the data "
                "and what callbacks remember; use agad_tf.training.Checkpoints"
            )
    followed = FollowedRates()
    container = keras.callbacks.CallbackList(
        [*own, followed.before, *given, followed],
        add_history=True,
        add_progbar=verbose != 0,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
        model=model,
    )
    container.callbacks.sort(key=lambda callback: isinstance(callback, ResumingCallback))
    container.set_params(container.params | {"quota": quota})
    return container


def starting_position(
    callbacks: keras.callbacks.CallbackList, identity: Callable[[], dict], initial_epoch: int
) -> Position:
    """Where a resuming callback says that the training stood, else the beginning of `initial_epoch`.

    All callbacks are told: `params["start"]`.
    """
    start = None
    for callback in callbacks.callbacks:
        if isinstance(callback, ResumingCallback):
            start = start or callback.find(callbacks.callbacks, identity)
    start = start or Position(initial_epoch)
    callbacks.set_params(callbacks.params | {"start": start})
    return start


def run(
    model,
    batches: Callable[[Position, int, int], tf.data.Dataset],
    start: Position,
    epochs: int,
    steps: int,
    callbacks: keras.callbacks.CallbackList,
    validate: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Trains from `start` to the end of the last epoch, or until `model.stop_training`.

    Args:
        model: an `AnomalyDetector`.
        batches: position, number of workers and index of this one to the endless batches of this worker.
        start: where to begin.
        epochs: number of the last epoch.
        steps: of an epoch.
        callbacks: see `callback_list`.
        validate: metrics after each epoch, logged as `val_<name>`.
    """
    strategy = model.distribute_strategy
    iterator = None
    model.stop_training = False
    callbacks.on_train_begin()
    epoch, done, logs, step_logs = start.epoch, start.step, None, {}
    # Stopped in the middle of an epoch, a training still validates and ends that epoch.
    while epoch < epochs and not (model.stop_training and not done):
        if not done:
            model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        step_function = model.step_function()  # a callback may have begun another phase
        while done < steps and not model.stop_training:
            if iterator is None:
                iterator = iter(_for_replicas(strategy, batches, start))
            callbacks.on_train_batch_begin(done)
            step_logs = step_function(iterator)
            done += 1
            callbacks.on_train_batch_end(done - 1, step_logs)
        logs = model.epoch_logs()
        # What a subclass's train_step returns beside ours arrives as its last step left it, as in Keras.
        logs |= {name: float(value) for name, value in step_logs.items() if name not in logs}
        if validate is not None:
            measured = {f"val_{name}": value for name, value in validate().items()}
            # What callbacks decide by them, to stop for instance, all workers must decide alike.
            logs |= json.loads(from_chief(strategy, json.dumps(measured).encode()))
        callbacks.on_epoch_end(epoch, logs)
        epoch, done = epoch + 1, 0
    for name, variables in model.trained_by().items():
        getattr(model, name).finalize_variable_values(variables)
    callbacks.on_train_end(logs)


def compiled_step(model) -> Callable[[object], dict[str, tf.Tensor]]:
    """One step on the next batch of an iterator, traced once; eager where the model runs eagerly."""
    strategy = model.distribute_strategy

    def on_data(data):
        return model.train_step(data)

    if model.jit_compile and not model.run_eagerly:
        on_data = tf.function(on_data, jit_compile=True, reduce_retracing=True, autograph=False)

    def on_next(iterator):
        logs = strategy.run(on_data, args=(next(iterator),))
        # Every replica has the same numbers: they come from sums over all of them.
        return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

    return on_next if model.run_eagerly else tf.function(on_next, reduce_retracing=True, autograph=False)


def _for_replicas(strategy, batches, start: Position):
    """The batches of this process, each cut into as many equal slices as there are replicas here."""
    if strategy.num_replicas_in_sync == 1:
        return batches(start, 1, 0)

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        dataset = batches(start, workers, context.input_pipeline_id)
        return _sliced(dataset, context.num_replicas_in_sync // workers)

    return strategy.distribute_datasets_from_function(of_worker)


def _sliced(dataset: tf.data.Dataset, count: int) -> tf.data.Dataset:
    if count == 1:
        return dataset

    def slices(*batch):
        # Contiguous slices: quota batches spread their anomalies so that each holds its share.
        def one(index):
            return tf.nest.map_structure(lambda part: part_of(part, index, count), batch)

        return tf.data.Dataset.range(count).map(one)

    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return dataset.flat_map(slices).apply(endless)


def part_of(batch: tf.Tensor, index, count: int) -> tf.Tensor:
    """Slice `index` of `count` of a batch's rows."""
    rows = tf.shape(batch, tf.int64)[0]
    part = batch[index * rows // count : (index + 1) * rows // count]
    if batch.shape[0] is not None and batch.shape[0] % count == 0:
        part.set_shape((batch.shape[0] // count, *batch.shape[1:]))
    return part
