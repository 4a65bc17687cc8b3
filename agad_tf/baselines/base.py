"""What the Keras baselines share beyond `AnomalyDetector`: networks in pairs, one loss, a falling rate."""

from __future__ import annotations

import keras
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.losses.reduction import group_means
from agad_tf.models.detector import AnomalyDetector
from agad_tf.models.inputs import preprocessing
from agad_tf.models.schedule import initial_rate
from agad_tf.models.updates import fresh_values


def check_kind(detector: type, sample_shape: tuple[int, ...]) -> None:
    """Says in one line when a detector does not take rows of a table."""
    if len(sample_shape) == 1 and not detector.takes_tables:
        raise InputError(
            f"{detector.__name__} expects images (height, width, channels), received rows (features,) of "
            f"shape {sample_shape}: it is not defined for tables"
        )


class Baseline(AnomalyDetector):
    """A detector with one loss: `objective`, a mean over the batch.

    Networks are made by `_make`: each has a twin that scores, in full precision, which without
    `average_epochs` is a copy of it. So the stabilisers of AGAD and AA-BiGAN can be had for a baseline too,
    by the same names in `compile`; by default they are off, as in the papers.
    """

    guarded_error = None
    value_range = (0.0, 1.0)
    log_names = ("loss", "gradient_norm")
    paper_epochs: int
    """Epochs that the paper trains for; those of `fit` are one, as everywhere in Keras."""

    def __init__(self, input_shape, seed, crop, clip=None, score=None, **kwargs):
        super().__init__(input_shape, score or self.score_names[0], **kwargs)
        check_kind(type(self), self.sample_shape)
        self.seed, self.crop, self.clip = seed, crop, clip
        self.preprocess = preprocessing(
            self.sample_shape,
            self.value_range,
            crop,
            clip,
            self.scoring_dtype,
            self.preprocessing,
            self.encoding,
        )
        self._made = 0

    def _make(self, name: str, network, *arguments, scores: bool = True, **named) -> None:
        """Makes a network as attribute `name` and, where it scores, its twin `scoring_name`.

        Weights are drawn from the model's seed alone.
        """
        made = network(*arguments, **named, dtype=self.dtype_policy, name=name)
        setattr(self, name, made)
        seed = tf.constant([self.seed, self._made])
        for variable, value in zip(made.variables, fresh_values(made.variables, seed), strict=True):
            variable.assign(value)
        self._made += 1
        if scores:
            twin = f"scoring_{name}"
            setattr(self, twin, network(*arguments, **named, dtype=self.scoring_dtype, name=twin))
            self._pair(name, twin)

    def scoring_networks(self):
        return {scoring: getattr(self, scoring) for _, scoring in self._pairs}

    def objective(self, x, y) -> tf.Tensor:
        """The loss of preprocessed samples and their labels, scalar; without weight decay."""
        raise NotImplementedError(f"{type(self).__name__} must define objective(x, y)")

    def active_optimizer(self) -> str:
        """Which optimizer of `trained_by` this step is made with."""
        return "optimizer"

    def train_step(self, data):
        """One step of one optimizer on one batch (x, y)."""
        x, y = self.unpack(data)
        name = self.active_optimizer()
        optimizer, variables = getattr(self, name), self.trained_by()[name]
        with tf.GradientTape() as tape:
            loss = self.objective(self.preprocess(x), y)
            scaled = self.scale_loss(loss + weight_decay(self.settings["weight_decay"], variables), optimizer)
        norm = self.step(tape, scaled, variables, optimizer)
        self.update_averages()
        return self.track({"loss": loss, "gradient_norm": norm}, totals={})

    def fit(self, x=None, y=None, batch_size=128, epochs=1, *, min_anomalies=1, **kwargs):
        """As `AnomalyDetector.fit`, with the papers' batches: anomalies by their share of the data."""
        return super().fit(x, y, batch_size, epochs, min_anomalies=min_anomalies, **kwargs)

    def compile_with(self, default, settings):
        super().compile_with(default, settings)
        self.initial_rate = initial_rate(self.optimizer)

    def training_callbacks(self):
        callbacks = super().training_callbacks()
        if "learning_rate_drop" in self.settings:
            begin = self.settings.get("pretraining_share", 0.0)
            callbacks.append(RateDrop(self.settings["learning_rate_drop"], begin))
        return callbacks

    def get_config(self):
        return {
            **super().get_config(),
            "input_shape": self.sample_shape,
            "seed": self.seed,
            "crop": self.crop,
            "clip": self.clip,
        }


class Phases(keras.callbacks.Callback):
    """Tells a model before each epoch which of two phases it is in: `model.enter(pretraining: bool)`.

    By the epoch's number, so that it resumes.

    Args:
        share: of the epochs that are the first phase's.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def on_epoch_begin(self, epoch, logs=None):
        self.model.enter(epoch < phase_boundary(self.share, self.params["epochs"]))


class RateDrop(keras.callbacks.Callback):
    """Divides the main learning rate by 10 after a share of the epochs; by their number, so that it resumes.

    Args:
        share: of the epochs; the papers' epoch 50 of 150 is 1/3, 1 is never.
        begin: share of the epochs that come before those counted here, in another phase.
    """

    def __init__(self, share: float, begin: float = 0.0):
        super().__init__()
        self.share, self.begin = share, begin

    def on_epoch_begin(self, epoch, logs=None):
        if self.model.initial_rate is None:
            return  # a schedule of the caller's own
        begin = phase_boundary(self.begin, self.params["epochs"])
        drop = begin + self.share * (self.params["epochs"] - begin)
        rate = self.model.initial_rate / (10 if epoch >= drop else 1)
        self.model.optimizer.learning_rate = rate * self.model.rate_factor


def phase_boundary(share: float, epochs: int) -> int:
    """The first epoch of the second of two phases, of which the first has a share; the second has one."""
    return min(round(share * epochs), epochs - 1)


def weight_decay(factor: float, variables) -> tf.Tensor | float:
    """factor / 2 · Σ ‖W‖² over kernels: its gradient is the weight decay of the papers' Adam."""
    kernels = [variable for variable in variables if variable.name == "kernel"]
    if not factor or not kernels:
        return 0.0
    return factor / 2 * tf.add_n([tf.reduce_sum(tf.square(tf.convert_to_tensor(k))) for k in kernels])


def batch_mean(values: tf.Tensor) -> tf.Tensor:
    """Mean of per-sample values over the global batch."""
    return group_means({"value": values}, tf.ones_like(values))[0]["value"]
