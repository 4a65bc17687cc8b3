"""What every detector of this library is: a Keras model whose call is an anomaly score."""

import logging
import sys

import keras
import numpy as np
import tensorflow as tf

from agad_tf.data.quota import quota_batches
from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError
from agad_tf.models.guard import DivergenceGuard
from agad_tf.models.inputs import LabelledRows, describe_quota, fitting_batch_size
from agad_tf.models.scorer import SCORING_SAMPLES, AnomalyScorer
from agad_tf.models.updates import apply_clipped, assign_all, averaged
from agad_tf.replicas import replica_count

logger = logging.getLogger("agad_tf")


class AnomalyDetector(AnomalyScorer):
    """Base of the detectors: the scoring half, two optimizers, quota batches in `fit`.

    A subclass defines `train_step`, which ends with `update_averages`, `generator_variables` and
    `discriminator_variables`, and names what it logs in `log_names` (epoch means) and `total_names` (sums).
    """

    log_names: tuple[str, ...] = ()
    total_names: tuple[str, ...] = ()

    def compile_adversaries(self, generator_optimizer, discriminator_optimizer, settings: dict) -> None:
        """Compiles with both optimizers built and the settings kept for saving; `compile` of subclasses.

        Args:
            generator_optimizer: of `generator_variables()`.
            discriminator_optimizer: of `discriminator_variables()`.
            settings: every argument of the subclass's `compile`; read in train_step as `self.settings`.
        """
        settings = dict(settings)
        for name in ("generator_optimizer", "discriminator_optimizer"):
            if settings[name] is not None:
                settings[name] = keras.optimizers.serialize(keras.optimizers.get(settings[name]))
        self.settings = settings
        super().compile(
            optimizer=_fresh(generator_optimizer),
            jit_compile=choose_jit(settings["jit_compile"]),
            run_eagerly=settings["run_eagerly"],
        )
        self.discriminator_optimizer = _fresh(discriminator_optimizer)
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            # Keras wraps only the optimizer it knows of.
            self.discriminator_optimizer = keras.optimizers.LossScaleOptimizer(self.discriminator_optimizer)
        # Built here, inside the strategy's scope, or a resumed run would start with fresh moments.
        self.optimizer.build(self.generator_variables())
        self.discriminator_optimizer.build(self.discriminator_variables())
        self._log_means = {name: keras.metrics.Mean(name=name) for name in self.log_names}
        self._log_totals = {name: keras.metrics.Sum(name=name) for name in self.total_names}

    def get_compile_config(self):
        return dict(self.settings) if self.compiled else None

    def compile_from_config(self, config):
        config = dict(config)
        for name in ("generator_optimizer", "discriminator_optimizer"):
            if config[name] is not None:
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
        for name, tracker in self._log_means.items():
            tracker.update_state(logs[name])
        for name, tracker in self._log_totals.items():
            tracker.update_state(totals[name])
        trackers = {**self._log_means, **self._log_totals}
        return {name: tracker.result() for name, tracker in trackers.items()}

    def update_averages(self) -> None:
        """Moves the scoring networks towards the raw ones; called at the end of each train_step."""
        # While fewer steps than the horizon were made, average over the steps there are.
        steps = tf.cast(self.average_steps, tf.float32)
        decay = tf.minimum(tf.cast(self.average_decay, tf.float32), (1.0 + steps) / (10.0 + steps))
        decay = tf.where(self.average_decay > 0, decay, 0.0)
        targets, values = [self.average_steps, self.scoring_prepared], [steps + 1.0, tf.zeros(())]
        for raw, scoring in self._pairs:
            raw, scoring = getattr(self, raw), getattr(self, scoring)
            learnt = {variable.path.split("/", 1)[1]: variable for variable in raw.trainable_variables}
            for source, target in zip(raw.variables, scoring.variables, strict=True):
                targets.append(target)
                is_learnt = source.path.split("/", 1)[1] in learnt
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
        **kwargs,
    ):
        """Trains on normal samples and, where there are any, labelled anomalies.

        Args:
            x: samples as an array or `LazyRows` (images in shards), uint8 (any size) or float in the model's
                range; or a `tf.data.Dataset` of batches, best from `agad_tf.quota_batches`, which keeps its
                anomaly quota.
            y: (n,) 0 normal, 1 anomaly; None takes every sample as normal. Not with a dataset.
            batch_size: samples a step, for arrays; made smaller where the normals do not fill one batch.
            epochs, verbose, callbacks, initial_epoch, steps_per_epoch: as in `keras.Model.fit`.
            validation_data: (x, y) for `evaluate` after each epoch.
            min_anomalies: the least number of anomalies in every batch where there are any, for arrays.
            seed: of the order of the samples.
            augment: Keras image augmentation layers for the training batches, or their names and arguments,
                `{"RandomFlip": {"mode": "horizontal"}}`; None, as in the papers, for none. With a dataset,
                put them into it.

        Returns:
            `keras.callbacks.History`.

        Raises:
            InputError: samples of a wrong type, shape or range, NaN, labels other than 0 and 1.
        """
        if kwargs:
            raise InputError(
                f"fit expects x, y, batch_size, epochs, callbacks, validation_data, min_anomalies, seed, "
                f"augment; received {', '.join(kwargs)}: leave it out"
            )
        if not self.compiled:
            self.compile()
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise InputError(
                    f"validation_data expects arrays (x, y), received {type(validation_data).__name__}"
                    f"{f' of {len(validation_data)}' if isinstance(validation_data, tuple | list) else ''}: "
                    "pass two arrays"
                )
            validation_data = self._check_labelled(*validation_data)
            if isinstance(validation_data[0], LazyRows):
                validation_data = LabelledRows(*validation_data)
        if isinstance(x, tf.data.Dataset):
            if y is not None:
                raise InputError("fit expects labels inside the dataset, received y beside it: leave y out")
            if augment is not None:
                raise InputError(
                    "fit expects augmentation inside the dataset, received augment beside it: give it to "
                    "quota_batches"
                )
            dataset = x
        else:
            x, y = self._check_labelled(x, y)
            normal, anomaly = x[y == 0], x[y == 1]
            if not len(normal):
                raise InputError("fit expects normal samples (label 0), received none: check the labels")
            replicas = self.distribute_strategy.num_replicas_in_sync
            batch_size = fitting_batch_size(len(normal), len(anomaly), batch_size, min_anomalies, replicas)
            dataset = quota_batches(
                normal,
                anomaly if len(anomaly) else None,
                batch_size,
                min_anomalies,
                seed=seed,
                replicas=replicas,
                augment=augment,
            )
        quota = getattr(dataset, "quota", None)
        if quota is not None:
            if verbose:
                print(describe_quota(quota), file=sys.stderr)
            steps_per_epoch = steps_per_epoch or quota.steps_per_epoch
            sample = self._collect_normals(dataset.unaugmented, quota.n_anomaly > 0)
            train_data = dataset.stream(initial_epoch)
        else:
            if steps_per_epoch is None and int(dataset.cardinality()) < 0:
                raise InputError(
                    "fit expects a dataset of known length or steps_per_epoch, received neither: "
                    "pass steps_per_epoch"
                )
            # One epoch of it: a repeated dataset has no end.
            sample = self._collect_normals(dataset.take(steps_per_epoch or -1), None)
            train_data = dataset
        self._begin(sample, steps_per_epoch or int(dataset.cardinality()))
        self._fitting = True
        try:
            history = super().fit(
                train_data,
                epochs=epochs,
                verbose=verbose,
                callbacks=self._guarded(callbacks),
                validation_data=validation_data,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                shuffle=False,  # the quota stream is shuffled already
            )
        finally:
            self._fitting = False
        self.prepare_scoring()
        return history

    def _guarded(self, callbacks):
        if not self.settings["guard"]:
            return callbacks
        guard = DivergenceGuard()
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(guard)
            return callbacks
        # First, so that the others see the weights that training goes on with.
        return [guard, *keras.tree.flatten(callbacks or [])]

    def _begin(self, sample, steps_per_epoch: int) -> None:
        normals, has_anomalies = sample
        self._scoring_sample = normals
        if self.score == "auto":
            self.score = self.choose_score(has_anomalies)
            self.predict_function = None  # it was traced for another score
        horizon = self.settings["average_epochs"] * steps_per_epoch
        self.average_decay.assign(float(np.exp(-1.0 / horizon)) if horizon > 0 else 0.0)

    def choose_score(self, has_anomalies: bool) -> str:
        """What `score="auto"` becomes, decided once by `fit`."""
        return "fused" if has_anomalies else self.score_names[0]

    def _collect_normals(self, dataset, has_anomalies):
        """The first `SCORING_SAMPLES` normals of a labelled dataset, and whether it holds anomalies."""
        kept, count, seen = [], 0, False
        for batch in dataset:
            x, y = self.unpack(batch)
            normal = y.numpy() == 0
            seen = seen or not normal.all()
            if count < SCORING_SAMPLES:
                kept.append(self.check_samples(x.numpy()[normal], "x"))
                count += len(kept[-1])
            if count >= SCORING_SAMPLES and (has_anomalies is not None or seen):
                break
        if not count:
            raise InputError("fit expects normal samples (label 0), received none: check the labels")
        return np.concatenate(kept)[:SCORING_SAMPLES], seen if has_anomalies is None else has_anomalies


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
    chosen = bool(tf.config.list_physical_devices("GPU")) and replica_count() == 1
    logger.info("XLA %s (jit_compile='auto')", "on" if chosen else "off")
    return chosen


def _fresh(optimizer):
    """An unbuilt optimizer of the same configuration: compiled twice, it must not keep its moments."""
    return keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
