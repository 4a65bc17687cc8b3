"""How a detector is compiled and makes a training step: optimizers, settings, logs, averaged weights."""

import logging
import warnings

import keras
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.models.scorer import AnomalyScorer
from agad_tf.models.updates import apply_clipped, assign_all, averaged
from agad_tf.replicas import replica_count

logger = logging.getLogger("agad_tf")


class AnomalyTrainer(AnomalyScorer):
    """The training half of a detector, but for `fit`.

    A subclass defines `compile`, which ends with `compile_with`, and `train_step`, which ends with
    `update_averages`; says what its optimizers move, in `generator_variables` and `discriminator_variables`
    or, where there are not two of them, in `trained_by`; and names what it logs in `log_names` (epoch means)
    and `total_names` (sums).
    """

    log_names: tuple[str, ...] = ()
    total_names: tuple[str, ...] = ()
    rate_factor: float = 1.0
    """What the caller's callbacks have multiplied the learning rates by; see `schedule.FollowedRates`."""

    def trained_by(self) -> dict[str, list]:
        """The variables that each optimizer moves, by its attribute's name; "optimizer" is Keras' own."""
        return {
            "optimizer": self.generator_variables(),
            "discriminator_optimizer": self.discriminator_variables(),
        }

    def compile_with(self, default, settings: dict) -> None:
        """Compiles with all optimizers built and the settings kept for saving; `compile` of subclasses.

        Args:
            default: a Keras optimizer where `settings` name none; or such defaults by the names of
                `trained_by`. Each is copied.
            settings: every argument of the subclass's `compile`; read in train_step as `self.settings`.
                Optimizers among them go by the names of `trained_by`, or "generator_optimizer".
        """
        settings = dict(settings)
        if not 0 <= settings.get("beta_1", 0) < 1:
            raise InputError(f"beta_1 expects a number in [0, 1), received {settings['beta_1']}")
        for name in _optimizers_in(settings):
            settings[name] = keras.optimizers.serialize(keras.optimizers.get(settings[name]))
        self.settings = settings
        defaults = default if isinstance(default, dict) else dict.fromkeys(self.trained_by(), default)
        given = {"optimizer": settings.get("generator_optimizer")} | settings
        # All are built here, in the strategy's scope, or a resumed run would start with fresh moments.
        with self.distribute_strategy.scope():
            self._compile({name: _fresh(given.get(name) or default) for name, default in defaults.items()})

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
    return keras.optimizers.deserialize(keras.optimizers.serialize(keras.optimizers.get(optimizer)))
