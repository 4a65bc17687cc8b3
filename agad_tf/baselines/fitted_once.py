"""What the detectors share that are fitted in one pass over the training part, without training steps."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.models.detector import AnomalyDetector
from agad_tf.models.inputs import held_out_share, learnt_columns


class FittedOnce(AnomalyDetector):
    """Base of detectors that are fitted in one pass; a subclass fits its weights in `fit_to`.

    For callbacks, checkpoints and validation `fit` is one epoch, of arrays of one step, whatever is asked
    for. Fitted again, a detector forgets what it was fitted to before.
    """

    uses_anomalies = False
    guarded_error = None
    _training_normals = _training_anomalies = None

    def fit_to(self, normals) -> None:
        """Fits the weights to training normals as `check_samples` gives them, all of them."""
        raise NotImplementedError(f"{type(self).__name__} must define fit_to(normals)")

    def trained_by(self):
        return {}

    def compile(self, jit_compile: bool | str = "auto", run_eagerly: bool = False):
        """There is nothing to choose.

        Args:
            jit_compile: XLA; "auto" is on for a GPU and off on a CPU.
            run_eagerly: as in Keras, for debugging.
        """
        self.compile_once({"jit_compile": jit_compile, "run_eagerly": run_eagerly})

    def compile_once(self, settings: dict) -> None:
        """Compiles with settings, among them `jit_compile` and `run_eagerly`."""
        self.compile_with({"optimizer": keras.optimizers.SGD()}, settings)  # which moves nothing

    def step_function(self):
        return lambda iterator: {}

    def training_callbacks(self):
        return []

    def decay_of_averages(self, steps_per_epoch):
        return 0.0

    def choose_score(self, has_anomalies):
        return self.score_names[0]

    def fit(self, x=None, y=None, batch_size=32, epochs=1, *, min_anomalies=1, augment=None, **kwargs):
        """Fits to the normals among the samples and, where `uses_anomalies`, to labelled anomalies.

        Args:
            x, y: as in `AnomalyDetector.fit`; of a dataset of images the first 1024 normals are taken. A
                detector that uses labels takes arrays alone.
            batch_size, epochs, min_anomalies: of detectors that train by steps; without effect here.
            augment: not to be had.
            kwargs: as there.
        """
        kwargs["min_anomalies"] = min_anomalies
        if augment is not None:
            raise InputError(f"augment expects None, received some: {type(self).__name__} makes no steps")
        self._training_normals = self._training_anomalies = None
        if isinstance(x, tf.data.Dataset | keras.utils.PyDataset) or x is None:
            if self.uses_anomalies:
                raise InputError(
                    f"{type(self).__name__} expects arrays x and y, received "
                    f"{'none' if x is None else 'a dataset'}: pass all samples and labels at once"
                )
            return super().fit(x, y, batch_size, 1, **kwargs)
        if not self.compiled:
            self.compile()
        if self.is_table and not self.preprocess.adapted.numpy():
            self._identity = learnt_columns(self._identity, x)
        x, y = self._check_labelled(x, y)
        share = kwargs.get("validation_split")
        train, labels = held_out_share(x, y, share)[:2] if share else (x, y)
        self._training_normals = train[labels == 0]
        self._training_anomalies = train[labels == 1] if self.uses_anomalies else None
        try:
            return super().fit(x, y, batch_size, 1, **kwargs | {"steps_per_epoch": 1})
        finally:
            self._training_normals = self._training_anomalies = None

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """As in Keras, in one line where the file is of another detector, or of one before `fit`.

        Raises:
            InputError: weights of other shapes, or none where this detector was fitted.
        """
        try:
            return super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{filepath}: expected weights of a fitted {type(self).__name__} of this shape, received "
                f"others ({reason}): save them after fit, or load them into a detector that is made anew"
            ) from error

    def adapt(self, normals) -> None:
        """Fits to these normals and nothing more: no checks, no callbacks, no validation.

        Args:
            normals: as `check_samples` gives them.
        """
        self._adapt(normals)
        self.prepare_scoring()

    def _adapt(self, normals):
        super()._adapt(normals)
        self.fit_to(normals if self._training_normals is None else self._training_normals)
        self._forget_traces()  # they were traced for the weights before

    def prepare_scoring(self, normals=None, batch_size=256):
        """Nothing is left to do after `fit`."""
        self.scoring_prepared.assign(1.0)

    def observe(self, batch):
        """There is no batch norm."""

    def standardise(self, scores: dict[str, np.ndarray]) -> None:
        """Sets the constants of the fused score from scores of normals, by part."""
        found = [scores[name] for name in self.score_names]
        self.score_means.assign([values.mean() for values in found])
        self.score_deviations.assign([max(values.std(), 1e-12) for values in found])
