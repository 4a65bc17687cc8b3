"""What every detector of this library is: a Keras model whose call is an anomaly score."""

import logging
import sys
import warnings

import keras
import numpy as np
import tensorflow as tf

from agad_tf.data.quota import quota_batches
from agad_tf.errors import InputError
from agad_tf.evaluation import metrics
from agad_tf.losses.reduction import replica_count
from agad_tf.models.inputs import check_images, check_labels, describe_quota, fitting_batch_size
from agad_tf.models.updates import apply_clipped, assign_all, averaged

logger = logging.getLogger("agad_tf")

SCORING_SAMPLES = 1024
"""Normal training samples that re-estimate batch norm and standardise a fused score: 4 batches of 256."""


class AnomalyDetector(keras.Model):
    """Base of the detectors: score, scoring networks, quota batches in `fit`, exact metrics in `evaluate`.

    A subclass makes its networks in `__init__`, pairs each raw network with the averaged one that scores
    (`_pair`), names its scores in `score_names` and computes them in `raw_score`.
    """

    score_names: tuple[str, ...] = ()
    log_names: tuple[str, ...] = ()
    total_names: tuple[str, ...] = ()

    def __init__(self, input_shape, score: str, **kwargs):
        super().__init__(**kwargs)
        # Images pass in full precision whatever the policy: rounded ones would be reconstruction error.
        self.autocast = False
        try:
            self.sample_shape = tuple(int(side) for side in input_shape)
        except (TypeError, ValueError):
            raise InputError(
                f"input_shape expects whole numbers, for instance (32, 32, 1), received {input_shape!r}"
            ) from None
        allowed = ("auto", "fused", *self.score_names)
        if score not in allowed:
            raise InputError(f"score expects one of {', '.join(allowed)}, received {score!r}")
        self.score = score
        self._pairs: list[tuple[str, str]] = []  # names of (raw network, scoring network)
        self._fitting = False
        self._scoring_sample = None
        self._warned = False
        self.scoring_prepared = self._state("scoring_prepared", ())
        self.average_decay = self._state("average_decay", ())
        self.average_steps = self._state("average_steps", ())
        # Standardise each score on training normals for the fused one.
        self.score_means = self._state("score_means", (len(self.score_names),))
        self.score_deviations = self._state("score_deviations", (len(self.score_names),), "ones")

    def _state(self, name, shape, initializer="zeros"):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=False,
            aggregation="only_first_replica",
            autocast=False,
            dtype="float32",
        )

    def _pair(self, raw: str, scoring: str) -> None:
        """Registers attribute names of a raw network and of its scoring twin, and makes them equal."""
        self._pairs.append((raw, scoring))
        getattr(self, scoring).trainable = False
        getattr(self, scoring).set_weights(getattr(self, raw).get_weights())

    # -- scoring ---------------------------------------------------------------------------------------------

    def raw_score(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Score `name` of samples in the model's range, (batch,), higher is more anomalous."""
        raise NotImplementedError(f"{type(self).__name__} must define raw_score(name, x)")

    def reconstruct(self, x) -> tf.Tensor:
        """Reconstruction of samples, in the model's range and shape."""
        raise NotImplementedError(f"{type(self).__name__} must define reconstruct(x)")

    def scoring_networks(self) -> dict[str, keras.Model]:
        """The networks that the chosen score reads, by attribute name: what an export holds."""
        raise NotImplementedError(f"{type(self).__name__} must define scoring_networks()")

    @property
    def parts_of_score(self) -> tuple[str, ...]:
        """The scores that `self.score` is made of; "auto" is the first until `fit` has decided."""
        if self.score == "fused":
            return self.score_names
        return (self.score_names[0] if self.score == "auto" else self.score,)

    def call(self, x, training=False):
        """Anomaly score of each sample, (batch,) float32, higher is more anomalous.

        Independent of the other samples of the batch, and always in inference mode: `training` is ignored.
        """
        x = self.preprocess(x)
        parts = self.parts_of_score
        if len(parts) == 1:
            return self.raw_score(parts[0], x)
        total = 0.0
        for index, name in enumerate(parts):
            total += (self.raw_score(name, x) - self.score_means[index]) / self.score_deviations[index]
        return total

    def explain(self, x) -> tuple[tf.Tensor, tf.Tensor]:
        """Reconstruction and error map |x − reconstruction| averaged over channels.

        Args:
            x: uint8 images of any size or float images in the model's range.

        Returns:
            (batch, height, width, channels) in the model's range and (batch, height, width), ≥ 0.
        """
        x = self.preprocess(tf.convert_to_tensor(x))
        reconstruction = self.reconstruct(x)
        return reconstruction, tf.reduce_mean(tf.abs(x - reconstruction), axis=-1)

    def prepare_scoring(self, normals=None, batch_size: int = 256) -> None:
        """Readies the scoring networks: batch-norm statistics re-estimated, fused score standardised.

        `fit` does it at its end and before each validation; by hand it is needed after `train_on_batch` or a
        training loop of one's own.

        Args:
            normals: normal training samples as `fit` takes them; the first 1024 are used. None takes the
                sample kept by the last `fit`.
            batch_size: images a batch of the re-estimation, the batch size of training at best.
        """
        normals = self._scoring_sample if normals is None else normals
        if normals is None:
            raise InputError(
                "prepare_scoring expects normal training samples, received none (no fit kept any): pass some"
            )
        normals = self.check_samples(np.asarray(normals), "normals")[:SCORING_SAMPLES]
        if not len(normals):
            raise InputError("normals expects at least one sample, received none: pass some")
        batches = [normals[i : i + batch_size] for i in range(0, len(normals), batch_size)]
        if len(batches) > 1 and len(batches[-1]) < batch_size:
            batches.pop()  # a small last batch would weigh as much as a whole one
        batches = [self.preprocess(tf.convert_to_tensor(batch)) for batch in batches]
        if not self.compiled or self.settings["reestimate_batch_norm"]:
            self._reestimate(batches)
        for index, name in enumerate(self.score_names):
            if self.score == "fused":
                scores = np.concatenate([self.raw_score(name, batch).numpy() for batch in batches])
                mean, deviation = float(scores.mean()), float(scores.std())
            else:
                mean, deviation = 0.0, 1.0
            self.score_means.assign(tf.tensor_scatter_nd_update(self.score_means.value, [[index]], [mean]))
            self.score_deviations.assign(
                tf.tensor_scatter_nd_update(self.score_deviations.value, [[index]], [max(deviation, 1e-12)])
            )
        self.scoring_prepared.assign(1.0)

    def _reestimate(self, batches) -> None:
        """Sets every batch norm of the scoring networks to its mean batch moments over `batches`."""
        norms = [norm for network in self.scoring_networks().values() for norm in network.batch_norms()]
        momenta = [norm.momentum for norm in norms]
        trainable = [norm.trainable for norm in norms]
        try:
            for norm in norms:
                norm.trainable = True  # a frozen batch norm would not look at the batch
            for index, batch in enumerate(batches):
                for norm in norms:
                    norm.momentum = index / (index + 1)  # running mean of the batches so far
                self.observe(batch)
        finally:
            for norm, momentum, state in zip(norms, momenta, trainable, strict=True):
                norm.momentum, norm.trainable = momentum, state

    def observe(self, batch) -> None:
        """One pass of a batch of normals through the scoring networks in training mode."""
        raise NotImplementedError(f"{type(self).__name__} must define observe(batch)")

    # -- training --------------------------------------------------------------------------------------------

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
        return dict(self.settings)

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
            tracker.update_state(totals[name] / replica_count())
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
        **kwargs,
    ):
        """Trains on normal samples and, where there are any, labelled anomalies.

        Args:
            x: samples as an array, uint8 (any size) or float in the model's range; or a `tf.data.Dataset` of
                batches, best from `agad_tf.quota_batches`, which keeps its anomaly quota.
            y: (n,) 0 normal, 1 anomaly; None takes every sample as normal. Not with a dataset.
            batch_size: samples a step, for arrays; no more than the data can fill twice over.
            epochs, verbose, callbacks, initial_epoch, steps_per_epoch: as in `keras.Model.fit`.
            validation_data: (x, y) for `evaluate` after each epoch.
            min_anomalies: the least number of anomalies in every batch where there are any, for arrays.
            seed: of the order of the samples.

        Returns:
            `keras.callbacks.History`.

        Raises:
            InputError: samples of a wrong type, shape or range, NaN, labels other than 0 and 1.
        """
        if kwargs:
            raise InputError(
                f"fit expects x, y, batch_size, epochs, callbacks, validation_data, min_anomalies, seed; "
                f"received {', '.join(kwargs)}: leave it out"
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
        if isinstance(x, tf.data.Dataset):
            if y is not None:
                raise InputError("fit expects labels inside the dataset, received y beside it: leave y out")
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
            )
        quota = getattr(dataset, "quota", None)
        if quota is not None:
            if verbose:
                print(describe_quota(quota), file=sys.stderr)
            steps_per_epoch = steps_per_epoch or quota.steps_per_epoch
            sample = self._collect_normals(dataset, quota.n_anomaly > 0)
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
                callbacks=callbacks,
                validation_data=validation_data,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                shuffle=False,  # the quota stream is shuffled already
            )
        finally:
            self._fitting = False
        self.prepare_scoring()
        return history

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

    # -- prediction and evaluation ---------------------------------------------------------------------------

    def predict(self, x, batch_size=256, **kwargs):
        """Anomaly scores of samples, (n,) float32; see `call`."""
        if self.compiled and not self._warned and not self.scoring_prepared.numpy():
            self._warned = True
            warnings.warn(
                "the scoring networks were not prepared since the last training step: scores use batch-norm "
                "statistics of training; call prepare_scoring(normal training samples)",
                stacklevel=2,
            )
        if isinstance(x, np.ndarray):
            x = self.check_samples(x, "x")
            if not len(x):
                raise InputError("predict expects at least one sample, received none: check the selection")
        return super().predict(x, batch_size=batch_size, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=256, verbose="auto", return_dict=True, **kwargs):
        """Exact AUROC and average precision over all scores at once, in inference mode.

        Args:
            x: samples as an array.
            y: (n,) 0 normal, 1 anomaly.
            batch_size: samples a prediction batch.
            verbose: as in `keras.Model.predict`.
            return_dict: False gives the list of values.

        Returns:
            `score_normal` (mean score of the normals) and, where both kinds are present, `auroc` and
            `average_precision`.
        """
        callbacks = kwargs.get("callbacks")
        if self._fitting:
            self.prepare_scoring()
        x, y = self._check_labelled(x, y)
        if callbacks is not None and hasattr(callbacks, "on_test_begin"):
            callbacks.on_test_begin()
        scores = self.predict(x, batch_size=batch_size or 256, verbose=0 if self._fitting else verbose)
        results = {"score_normal": float(scores[y == 0].mean())} if (y == 0).any() else {}
        if 0 < y.sum() < len(y):
            results["auroc"] = metrics.auroc(y, scores)
            results["average_precision"] = metrics.average_precision(y, scores)
        if callbacks is not None and hasattr(callbacks, "on_test_end"):
            callbacks.on_test_end(results)
        return results if return_dict else list(results.values())

    # -- checks ----------------------------------------------------------------------------------------------

    def check_samples(self, x: np.ndarray, name: str) -> np.ndarray:
        """Returns samples that the model takes, or says in one line why not."""
        return check_images(x, name, self.sample_shape, self.preprocess.value_range)

    def _check_labelled(self, x, y=None):
        x = self.check_samples(np.asarray(x), "x")
        return x, check_labels(y, len(x))


def choose_jit(jit_compile: bool | str) -> bool:
    """Whether to compile with XLA; "auto" is on for one GPU, off on CPU (slower) and on several replicas."""
    if jit_compile != "auto":
        return bool(jit_compile)
    chosen = bool(tf.config.list_physical_devices("GPU")) and replica_count() == 1
    logger.info("XLA %s (jit_compile='auto')", "on" if chosen else "off")
    return chosen


def _fresh(optimizer):
    """An unbuilt optimizer of the same configuration: one that is compiled twice must not keep its moments."""
    return keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
