"""What every detector of this library is: a Keras model whose call is an anomaly score."""

import hashlib
import logging
import sys

import numpy as np
import tensorflow as tf

from agad_tf.data.batches.quota import quota_batches
from agad_tf.errors import InputError
from agad_tf.layers import TableScaling
from agad_tf.models import habits, loop
from agad_tf.models.batches import TrainingBatches, in_order
from agad_tf.models.doors import Watched, as_stream
from agad_tf.models.guard import DivergenceGuard
from agad_tf.models.inputs import (
    as_samples,
    check_alignment,
    check_labels,
    describe_quota,
    fitting_batch_size,
    held_out_share,
    learnt_columns,
)
from agad_tf.models.scorer import SCORING_SAMPLES
from agad_tf.models.trainer import AnomalyTrainer
from agad_tf.replicas import is_chief

logger = logging.getLogger("agad_tf")


class AnomalyDetector(AnomalyTrainer):
    """Base of the detectors: `fit`, with quota batches, around the training half and the scoring half."""

    takes_tables: bool = False
    takes_images: bool = True
    uses_anomalies: bool = True
    """Whether labelled anomalies are trained on; `fit` leaves them out where they are not."""
    needs_anomalies: bool = False
    """Whether `fit` refuses samples without any."""
    guarded_error: str | None = "normal_contextual"
    """Log whose rise the divergence guard watches, besides losses that are not finite; None for none."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "compile" in cls.__dict__:
            cls.compile = habits.compile_door(cls.compile)
        for name in ("anomaly_map", "reconstruct"):
            if name in cls.__dict__:
                setattr(cls, name, habits.door_for_samples(cls.__dict__[name]))

    def fit(
        self,
        x=None,
        y=None,
        batch_size=256,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_data=None,
        initial_epoch=0,
        steps_per_epoch=None,
        min_anomalies=32,
        seed=0,
        augment=None,
        validation_split=0.0,
        shuffle=True,
        **kwargs,
    ):
        """Trains on normal samples and, where there are any, labelled anomalies.

        Args:
            x: samples as an array or `LazyRows` (images in shards), uint8 (any size) or float in the model's
                range; or a `tf.data.Dataset`, best from `agad_tf.quota_batches`, which keeps its anomaly
                quota, of batches or of single samples; or a `keras.utils.PyDataset`.
            y: (n,) 0 normal, 1 anomaly; None takes every sample as normal. Not with a dataset.
            batch_size: samples a step, for arrays; made smaller where the normals do not fill one batch.
            epochs, verbose, callbacks, initial_epoch, steps_per_epoch: as in `keras.Model.fit`.
            validation_data: (x, y), or a dataset of them, for `evaluate` after each epoch.
            min_anomalies: the least number of anomalies in every batch where there are any, for arrays.
            seed: of the order of the samples.
            augment: Keras image augmentation layers for the training batches, or their names and arguments,
                `{"RandomFlip": {"mode": "horizontal"}}`; None, as in the papers, for none. With a dataset,
                put them into it.
            validation_split: share of the arrays, the last of each label, that is held out as
                `validation_data`.
            shuffle: False takes arrays in their order, in batches without a quota.

        Returns:
            `keras.callbacks.History`; `loss` is what the optimizer of the generating side minimises.

        Raises:
            InputError: samples of a wrong type, shape or range, NaN, labels other than 0 and 1.
        """
        habits.check_fit_arguments(kwargs)
        if not self.compiled:
            self.compile()
        if self.is_table and not self.preprocess.adapted.numpy():
            self._identity = learnt_columns(self._identity, x)
        stream = as_stream(x, self.sample_shape, batch_size, "fit")
        if stream is None:
            x, y = self._check_labelled(x, y)
            if validation_split:
                if validation_data is not None:
                    raise InputError("fit expects validation_data or validation_split, received both")
                x, y, validation_data = held_out_share(x, y, validation_split)
        elif y is not None or augment is not None or validation_split:
            name = "y" if y is not None else "augment" if augment is not None else "validation_split"
            what = {
                "y": "labels inside the dataset, received y beside it: leave y out",
                "augment": "augmentation inside the dataset, received augment beside it: give it to "
                "quota_batches",
                "validation_split": "validation_split with arrays alone, received a dataset: pass "
                "validation_data",
            }
            raise InputError(f"fit expects {what[name]}")
        validation_data = self._validation(validation_data, batch_size)
        watched = Watched(self._see)
        if stream is not None:
            batches = TrainingBatches(
                stream, steps_per_epoch, initial_epoch, normals_alone=not self.uses_anomalies
            )
        else:
            normal, anomaly = x[y == 0], x[y == 1] if self.uses_anomalies else x[:0]
            if not len(normal):
                raise InputError("fit expects normal samples (label 0), received none: check the labels")
            replicas = self.distribute_strategy.num_replicas_in_sync
            batch_size = fitting_batch_size(len(normal), len(anomaly), batch_size, min_anomalies, replicas)
            if shuffle:
                dataset = quota_batches(
                    normal,
                    anomaly if len(anomaly) else None,
                    batch_size,
                    min_anomalies,
                    seed=seed,
                    replicas=replicas,
                    augment=augment,
                )
            elif augment is not None:
                raise InputError("augment expects shuffle=True, received False: put it into a dataset")
            else:
                dataset = in_order(x, y, batch_size)
            batches = TrainingBatches(
                dataset, steps_per_epoch, initial_epoch, normals_alone=not self.uses_anomalies and not shuffle
            )
            if isinstance(x, np.ndarray):
                self._complete_identity(x)
        if batches.quota is not None and verbose and is_chief(self.distribute_strategy):
            print(describe_quota(batches.quota), file=sys.stderr)
            if not self.uses_anomalies:
                print(f"{type(self).__name__} leaves labelled anomalies out of training", file=sys.stderr)
        has_anomalies = None if batches.quota is None else batches.quota.n_anomaly > 0
        self._begin(self._collect_normals(batches.as_they_come(), has_anomalies), batches.steps)
        container = loop.callback_list(
            self, self.training_callbacks(), callbacks, verbose, epochs, batches.steps, batches.quota
        )
        start = loop.starting_position(container, lambda: self._training_identity(batches), initial_epoch)

        def validate():
            return self.evaluate(*validation_data, callbacks=container)

        def passing(*position):
            return batches.stream(*position) if stream is None else watched.through(batches.stream(*position))

        self._fitting = True
        try:
            with watched.errors():
                loop.run(
                    self,
                    passing,
                    start,
                    epochs,
                    batches.steps,
                    container,
                    None if validation_data is None else validate,
                )
        finally:
            self._fitting = False
        self.prepare_scoring()
        return self.history

    def _validation(self, data, batch_size: int) -> tuple | None:
        """The arguments that `evaluate` gets after each epoch."""
        if data is None:
            return None
        stream = as_stream(data, self.sample_shape, batch_size, "validation_data")
        if stream is not None:
            return (stream,)
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise InputError(
                f"validation_data expects arrays (x, y) or a dataset, received {type(data).__name__}"
                f"{f' of {len(data)}' if isinstance(data, tuple | list) else ''}: pass two arrays"
            )
        return self._check_labelled(*data)

    def _see(self, x: np.ndarray) -> np.ndarray:
        """Checks a batch that is trained on, and keeps the range of its values."""
        x = self.check_samples(x, "x")
        self._complete_identity(x)
        return x

    def _complete_identity(self, x: np.ndarray) -> None:
        """Takes kind and range of training samples into the identity."""
        self._identity = self._identity.completed(x)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """One training step on samples (n, ...) and labels (n,); call `prepare_scoring` before scoring."""
        habits.check_fit_arguments({"sample_weight": sample_weight, "class_weight": class_weight})
        check_alignment(x, y)
        x = self._see(as_samples(x))
        y = check_labels(y, len(x))
        return super().train_on_batch(tf.constant(x), y, return_dict=return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Refused: AUROC is no mean over batches."""
        raise InputError(
            "test_on_batch expects a metric that is a mean over batches, and AUROC is none: use evaluate"
        )

    def step_function(self):
        """One training step on the next batch of an iterator, traced at its first call; see `loop`."""
        if self._step_function is None:
            self._step_function = loop.compiled_step(self)
        return self._step_function

    def _training_identity(self, batches: TrainingBatches) -> dict:
        """What a checkpoint of this training must have been made with."""
        model = {name: value for name, value in self.get_config().items() if name != "name"}
        columns = self._identity.columns
        model |= {} if columns is None else {"columns": list(columns)}
        normals = hashlib.sha256(np.ascontiguousarray(self._scoring_sample).data).hexdigest()
        return {
            "model": model,
            "compile": self.get_compile_config(),
            "batches": batches.identity() | {"normals": normals},
        }

    def training_callbacks(self) -> list:
        """Callbacks that belong to the algorithm; `fit` adds them before the caller's."""
        return [DivergenceGuard(error=self.guarded_error)] if self.settings["guard"] else []

    def _begin(self, sample, steps_per_epoch: int) -> None:
        normals, has_anomalies = sample
        self._adapt(normals)
        self._scoring_sample = normals[:SCORING_SAMPLES]
        self._complete_identity(normals)
        # Labels that come in a later `fit` decide again; those of an earlier one have been learnt from.
        if self._asked_score == "auto" and (self.score == "auto" or has_anomalies):
            self._resolve_score(self.choose_score(has_anomalies))
        self.average_decay.assign(self.decay_of_averages(steps_per_epoch))

    def decay_of_averages(self, steps_per_epoch: int) -> float:
        """Share of the averaged weights that a step keeps, in [0, 1); 0 scores with the raw weights."""
        horizon = self.settings["average_epochs"] * steps_per_epoch
        return float(np.exp(-1.0 / horizon)) if horizon > 0 else 0.0

    def choose_score(self, has_anomalies: bool) -> str:
        """What `score="auto"` becomes, decided by `fit`; the fused score is none of the papers'."""
        fused = has_anomalies and not self.settings.get("literal")
        return "fused" if fused else self.score_names[0]

    def _adapt(self, normals) -> None:
        """Fits the scaling of table rows to all training normals, once: continued training keeps it."""
        scaling = self.preprocess
        if not isinstance(scaling, TableScaling) or scaling.adapted.numpy():
            return
        constant = scaling.adapt(normals)
        if constant:
            columns = ", ".join(map(str, constant[:10])) + (", ..." if len(constant) > 10 else "")
            logger.warning(
                "%d of %d columns are constant among the training normals and are not scaled: %s (from 0)",
                len(constant),
                *self.sample_shape,
                columns,
            )

    def _collect_normals(self, dataset, has_anomalies):
        """Normals of a labelled dataset to prepare scoring with, and whether it holds anomalies.

        Of images the first `SCORING_SAMPLES`; of table rows all, for they fit the scaling too.
        """
        wanted = float("inf") if self.is_table else SCORING_SAMPLES
        kept, count, seen = [], 0, False
        for batch in dataset:
            x, y = self.unpack(batch)
            normal = check_labels(y.numpy(), len(y)) == 0
            seen = seen or not normal.all()
            if count < wanted:
                kept.append(self.check_samples(x.numpy()[normal], "x"))
                count += len(kept[-1])
            if count >= wanted and (has_anomalies is not None or seen):
                break
        if not count:
            raise InputError("fit expects normal samples (label 0), received none: check the labels")
        return np.concatenate(kept), seen if has_anomalies is None else has_anomalies
