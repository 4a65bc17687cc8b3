"""A detector of a comparison, built once and trained several times: on all labels, then without some of them.

Most of a short training is not steps: networks are made, and a step and a score are traced. A candidate does
that once and puts its first weights back before each training, which is then that of a fresh detector.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Sequence

import keras
import numpy as np

from agad_tf.baselines import BASELINES, FITTED_ONCE
from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.models import AnomalyDetector, FeatureDiscriminator
from agad_tf.models.updates import training_variables
from agad_tf.training.configuration import DETECTORS, configure
from agad_tf.training.small_sets import CHOSEN, choose, steps_of
from agad_tf.training.train import build, default_image_size, learnt_masks

STEPS = 1500
"""Of the baselines that train by steps, AA-BiGAN's in the study of tables. Their papers' epochs take hours
on many samples, and are too few steps on few."""
OF_TABLES = {"classifier": {"learning_rate": 3e-3}}
"""Arguments of `compile` on tables: with its paper's 1e-4 so many steps are too few for the classifier; this
is AA-BiGAN's rate (docs/results/six_tables.md)."""


class StopAfter(keras.callbacks.Callback):
    """Ends a training when its share of the time that is left is over.

    The share is taken after the first step: what tracing takes is then gone for all alike.

    Args:
        over: `time.monotonic()` when all trainings have to be over; None never ends one.
        trainings: how many share what is left, this one among them.
    """

    def __init__(self, over: float | None, trainings: int = 1):
        super().__init__()
        self.over, self.trainings, self.stopped, self._end = over, trainings, False, None

    def on_train_batch_end(self, batch, logs=None):
        if self.over is None:
            return
        now = time.monotonic()
        if self._end is None:
            self._end = now + max(0.0, self.over - now) / self.trainings
        elif now > self._end:
            self.stopped = self.model.stop_training = True


class Candidate:
    """A detector with the settings that `agad-tf train` gives it, and its data.

    Args:
        name: of `DETECTORS` or `BASELINES`.
        samples, split: what it is trained on.
        settings: as of `compare`.

    Attributes:
        detector: untrained, or as the last `train` left it.
    """

    def __init__(self, name: str, samples: Samples, split: Split, settings: Sequence[tuple[str, object]]):
        self.name, self.samples, self.split = name, samples, split
        self._seed, self._settings = dict(settings).get("seed", 0), settings
        self._used, self._masks = False, None
        self._build()
        if isinstance(self.detector, FeatureDiscriminator):  # read once for all trainings
            self._masks = learnt_masks(configure(name, settings=_settings_of(name, settings)), samples, split)

    @property
    def uses_labels(self) -> bool:
        """Whether labelled anomalies change what is learnt."""
        return self.detector.uses_anomalies

    def _build(self) -> None:
        keras.utils.set_random_seed(self._seed)
        self.detector, self._fit = self._made()
        by_steps = isinstance(self.detector, AnomalyDetector) and self.name not in FITTED_ONCE
        # What is fitted in one pass forgets by itself.
        own = training_variables(self.detector) if by_steps else []
        self._first = [(variable, np.array(variable)) for variable in own]

    def _made(self) -> tuple[AnomalyDetector, dict]:
        """A compiled detector and the settings of its `fit`."""
        samples, split = self.samples, self.split
        if self.name in DETECTORS:
            configuration = configure(self.name, settings=_settings_of(self.name, self._settings))
            choose(configuration, CHOSEN.get(self.name, ()), split, images=samples.x.ndim == 4)
            return build(configuration, samples), dict(configuration["fit"])
        encoding = {} if samples.encoding is None else {"encoding": samples.encoding}
        detector = BASELINES[self.name](_input_shape(samples), **encoding)
        detector.compile(**(OF_TABLES.get(self.name, {}) if samples.x.ndim == 2 else {}))
        return detector, {"epochs": _epochs(detector, len(split.train_normal), len(split.train_anomaly))}

    def train(self, anomalies: np.ndarray, over: float | None, trainings: int = 1) -> bool:
        """Trains from the first weights on the normals and on some labelled anomalies.

        Args:
            anomalies: their rows, (n,).
            over, trainings: as of `StopAfter`.

        Returns:
            Whether the clock stopped it; one pass is whole, however long it took.
        """
        if self._used and isinstance(self.detector, FeatureDiscriminator):
            self._build()  # its step is traced again for each set of labels: nothing would be gained
        self._used = True
        keras.utils.set_random_seed(self._seed)
        for variable, value in self._first:
            variable.assign(value)
        normals = self.split.train_normal
        rows = np.concatenate([normals, anomalies])
        labels = np.repeat([0, 1], [len(normals), len(anomalies)])
        clock, fit = StopAfter(over, trainings), self._fit
        if self._masks is not None:
            fit = fit | {"masks": self._masks.of(rows)}
        self.detector.fit(self.samples.x[rows], labels, **fit, verbose=0, callbacks=[clock])
        return clock.stopped and self.name not in FITTED_ONCE


def _settings_of(name: str, settings) -> list[tuple[str, object]]:
    """Those of the settings that this detector has: `seed`, and what says which rows are read and split."""
    sections = configure(name)
    shared = [
        pair for pair in settings if pair[0] == "seed" or pair[0].rpartition(".")[2] in sections["data"]
    ]
    return [pair for pair in shared if pair[0] != "source"]


def _input_shape(samples: Samples) -> tuple[int, ...]:
    if samples.x.ndim == 2:
        return samples.x.shape[1:]
    return (*default_image_size(samples.x.shape[1:3], "encoder_decoder"), samples.x.shape[-1])


def _epochs(detector, normals: int, anomalies: int) -> int:
    """Epochs of a baseline that hold `STEPS` steps, in the batches that its `fit` makes of its samples."""
    given = inspect.signature(detector.fit).parameters
    batches = {name: given[name].default for name in ("batch_size", "min_anomalies")}
    return math.ceil(STEPS / steps_of({"fit": batches}, normals, anomalies if detector.uses_anomalies else 0))
