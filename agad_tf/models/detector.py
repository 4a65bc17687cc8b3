"""What every detector of this library is: a Keras model whose call is an anomaly score."""

import hashlib
import logging
import sys
import warnings

import keras
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
from agad_tf.models.scorer import SCORING_SAMPLES, AnomalyScorer
from agad_tf.models.updates import apply_clipped, assign_all, averaged
from agad_tf.replicas import is_chief, replica_count

logger = logging.getLogger("agad_tf")


class AnomalyDetector(AnomalyScorer):
    """Base of the detectors: the scoring half, the optimizers, quota batches in `fit`.

    A subclass defines `train_step`, which ends with `update_averages`; says what its optimizers move, in
    `generator_variables` and `discriminator_variables` or, where there are not two of them, in `trained_by`;
    and names what it logs in `log_names` (epoch means) and `total_names` (sums).
    """

    takes_tables: bool = False
    takes_images: bool = True
    uses_anomalies: bool = True
    """Whether labelled anomalies are trained on; `fit` leaves them out where they are not."""
    needs_anomalies: bool = False
    """Whether `fit` refuses samples without any."""
    log_names: tuple[str, ...] = ()
    total_names: tuple[str, ...] = ()
    rate_factor: float = 1.0
    """What the caller's callbacks have multiplied the learning rates by; see `schedule.FollowedRates`."""
    guarded_error: str | None = "normal_contextual"
    """Log whose rise the divergence guard watches, besides losses that are not finite; None for none."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "compile" in cls.__dict__:
            cls.compile = habits.compile_door(cls.compile)
        for name in ("anomaly_map", "reconstruct"):
            if name in cls.__dict__:
                setattr(cls, name, habits.door_for_samples(cls.__dict__[name]))

    def trained_by(self) -> dict[str, list]:
        """The variables that each optimizer moves, by its attribute's name; "optimizer" is Keras' own."""
        return {
            "optimizer": self.generator_variables(),
            "discriminator_optimizer": self.discriminator_variables(),
        }

    def compile_with(self, optimizers: dict, settings: dict) -> None:
        """Compiles with all optimizers built and the settings kept for saving; `compile` of subclasses.

        Args:
            optimizers: Keras optimizers, or their names, by the names of `trained_by`.
            settings: every argument of the subclass's `compile`; read in train_step as `self.settings`. Names
                of optimizers end in "optimizer".
        """
        settings = dict(settings)
        if not 0 <= settings.get("beta_1", 0) < 1:
            raise InputError(f"beta_1 expects a number in [0, 1), received {settings['beta_1']}")
        for name in _optimizers_in(settings):
            settings[name] = keras.optimizers.serialize(keras.optimizers.get(settings[name]))
        self.settings = settings
        # All are built here, in the strategy's scope, or a resumed run would start with fresh moments.
        with self.distribute_strategy.scope():
            fresh = {name: _fresh(keras.optimizers.get(chosen)) for name, chosen in optimizers.items()}
            self._compile(fresh)

    def _compile(self, optimizers: dict) -> None:
        if self.dtype_policy.compute_dtype == "float16" and replica_count() > 1:
            raise InputError(
                f"dtype mixed_float16 cannot train on {replica_count()} replicas: an overflow is noticed on "
                "the first of them alone, and ruins the weights; take mixed_bfloat16 or float32"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns where it leaves XLA out; told below
            super().compile(
                optimizer=optimizers["optimizer"],
                jit_compile=choose_jit(self.settings["jit_compile"]),
                run_eagerly=self.settings["run_eagerly"],
            )
        if self.settings["jit_compile"] is True and not (self.jit_compile or self.run_eagerly):
            raise InputError(
                "jit_compile expects False or 'auto' where operations must be deterministic, received True: "
                "TensorFlow has no deterministic XLA"
            )
        logger.info("XLA %s", "on" if self.jit_compile else "off")
        for name, variables in self.trained_by().items():
            if name != "optimizer":
                optimizer = optimizers[name]
                if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
                    # Keras wraps only the optimizer it knows of.
                    optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
                setattr(self, name, optimizer)
            getattr(self, name).build(variables)
        # Sums over the epoch so far, and the number of steps. Not Keras metrics: on several replicas reading
        # those is an exchange between all of them, and a checkpoint is written by one alone.
        self.log_sums = tf.Variable(
            tf.zeros(len(self.log_names) + len(self.total_names) + 1),
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self._step_function = None
        self.rate_factor = 1.0

    def get_compile_config(self):
        return dict(self.settings) if self.compiled else None

    def compile_from_config(self, config):
        config = dict(config)
        for name in _optimizers_in(config):
            config[name] = keras.optimizers.deserialize(config[name])
        self.compile(**config)

    @property
    def generator_optimizer(self):
        """The optimizer of the generating side; Keras calls it `optimizer`."""
        return self.optimizer

    @staticmethod
    def unpack(data) -> tuple[tf.Tensor, tf.Tensor]:
        """x and int labels (batch,) of what `fit` or `train_on_batch` hands to train_step."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise InputError("training expects (x, y), received sample weights beside them: leave them out")
        y = tf.zeros(tf.shape(x)[0], tf.int32) if y is None else tf.cast(y, tf.int32)
        return x, tf.reshape(y, [-1])

    def scale_loss(self, loss, optimizer):
        """The loss to differentiate: shared among replicas, scaled for float16."""
        return optimizer.scale_loss(loss / replica_count())

    def step(self, tape, scaled_loss, variables, optimizer):
        """One clipped optimizer step; returns the gradient's global norm before clipping."""
        gradients = tape.gradient(scaled_loss, variables)
        return apply_clipped(optimizer, gradients, variables, self.settings["clip_norm"])

    def track(self, logs: dict, totals: dict) -> dict:
        """Epoch means of `logs` and epoch sums of `totals`, under `log_names` and `total_names`."""
        values = [logs[name] for name in self.log_names] + [totals[name] for name in self.total_names]
        sums = self.log_sums + tf.stack([tf.cast(value, tf.float32) for value in [*values, 1.0]])
        assign_all([self.log_sums], [sums])
        return self._named_logs(tf.unstack(sums))

    def epoch_logs(self) -> dict[str, float]:
        """The logs of the epoch so far; what `track` returned last."""
        sums = self.distribute_strategy.experimental_local_results(self.log_sums)[0]
        return {name: float(value) for name, value in self._named_logs(sums.numpy()).items()}

    def reset_metrics(self):
        super().reset_metrics()
        self.log_sums.assign(tf.zeros_like(self.log_sums))

    def _named_logs(self, sums) -> dict:
        *values, steps = sums
        means, totals = values[: len(self.log_names)], values[len(self.log_names) :]
        named = {name: value / steps for name, value in zip(self.log_names, means, strict=True)}
        if "loss_generator" in named:
            named = {"loss": named["loss_generator"], **named}
        return named | dict(zip(self.total_names, totals, strict=True))

    def update_averages(self) -> None:
        """Moves the scoring networks towards the raw ones; called at the end of each train_step."""
        # While fewer steps than the horizon were made, average over the steps there are.
        steps = tf.cast(self.average_steps, tf.float32)
        decay = tf.minimum(tf.cast(self.average_decay, tf.float32), (1.0 + steps) / (10.0 + steps))
        decay = tf.where(self.average_decay > 0, decay, 0.0)
        targets, values = [self.average_steps, self.scoring_prepared], [steps + 1.0, tf.zeros(())]
        for raw, scoring in self._pairs:
            raw, scoring = getattr(self, raw), getattr(self, scoring)
            learnt = {id(variable) for variable in raw.trainable_variables}
            for source, target in zip(raw.variables, scoring.variables, strict=True):
                targets.append(target)
                is_learnt = id(source) in learnt
                values.extend(averaged([target], [source], decay) if is_learnt else [source.value])
        assign_all(targets, values)

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


def choose_jit(jit_compile: bool | str) -> bool:
    """Whether to compile with XLA; "auto" is on for one GPU, off on CPU (slower) and on several replicas."""
    if jit_compile is True and replica_count() > 1:
        raise InputError(
            f"jit_compile expects False or 'auto' on several replicas, received True on {replica_count()}: "
            "TensorFlow cannot compile the exchange between them with XLA"
        )
    if isinstance(jit_compile, bool):
        return jit_compile
    if jit_compile != "auto":
        raise InputError(f"jit_compile expects True, False or 'auto', received {jit_compile!r}")
    return bool(tf.config.list_physical_devices("GPU")) and replica_count() == 1


def _optimizers_in(settings: dict) -> list[str]:
    """The names of the settings that are optimizers."""
    return [name for name, value in settings.items() if name.endswith("optimizer") and value is not None]


def _fresh(optimizer):
    """An unbuilt optimizer of the same configuration: compiled twice, it must not keep its moments."""
    return keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
