"""Detectors from scikit-learn: one-class SVM on samples or on codes.

They have the verbs of the Keras detectors. Training is one step: for callbacks `fit` is one epoch, whatever
`epochs` says (the hybrid trains its autoencoder for so many). They are not saved: training takes seconds.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf
from sklearn.svm import OneClassSVM as SklearnOneClassSVM

from agad_tf.baselines.autoencoder import Autoencoder
from agad_tf.encoding import TableEncoding
from agad_tf.errors import InputError
from agad_tf.identity import Identity
from agad_tf.layers import TableScaling
from agad_tf.models.inputs import (
    as_samples,
    check_images,
    check_labels,
    check_table,
    checked_encoding,
    learnt_columns,
    preprocessing,
)


class ClassicalDetector:
    """Base: samples through the layers that the Keras detectors scale and resize with, then flattened.

    A subclass makes its estimator, whose `score_samples` or `decision_function` is higher for normal
    samples, in `_estimate`, and scores with it in `_score`.

    Args:
        input_shape: (height, width, channels), channels 1 or 3, or (features,).
        seed: of whatever is drawn.
        crop: as in `agad_tf.AGAD`; images only.
        clip, encoding: as in `agad_tf.AABiGAN`; tables only.

    Raises:
        InputError: another shape.
    """

    takes_tables = True
    takes_images = True
    uses_anomalies = False

    def __init__(
        self,
        input_shape,
        seed: int = 0,
        crop: str = "stretch",
        clip: float | None = None,
        encoding: TableEncoding | None = None,
    ):
        self.sample_shape = tuple(int(side) for side in input_shape)
        if len(self.sample_shape) not in (1, 3) or min(self.sample_shape) < 1:
            raise InputError(
                "input_shape expects (height, width, channels), or (features,) for the rows of a table; "
                f"received {self.sample_shape}"
            )
        self.seed, self.crop, self.clip = seed, crop, clip
        self.encoding = checked_encoding(encoding, self.sample_shape)
        self.preprocess = preprocessing(self.sample_shape, (0.0, 1.0), crop, clip, encoding=self.encoding)
        self.identity = Identity(encoding=self.encoding)
        self.settings: dict | None = None
        self.estimator = None
        self.history = None
        self.stop_training = False

    @property
    def is_table(self) -> bool:
        """Whether samples are rows (features,) and not images."""
        return len(self.sample_shape) == 1

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self.settings is not None

    def fit(
        self,
        x=None,
        y=None,
        batch_size=256,
        epochs=1,
        *,
        verbose="auto",
        callbacks=None,
        min_anomalies=1,
        seed=0,
    ):
        """Trains on the normal samples; labelled anomalies are left out.

        Args:
            x: samples as the Keras detectors take them, as an array.
            y: (n,) 0 normal, 1 anomaly; None takes every sample as normal.
            callbacks: Keras callbacks, called as for one epoch of one step.
            verbose: other than 0 says how many samples are trained on.
            batch_size, epochs, min_anomalies, seed: of detectors that train by steps; without effect here,
                except where the class says so.

        Returns:
            `keras.callbacks.History` of one epoch.

        Raises:
            InputError: as in the Keras detectors.
        """
        if not self.compiled:
            self.compile()
        if self.is_table:
            self.identity = learnt_columns(replace(self.identity, kind="table"), x)
        x = self._check(as_samples(x), "x")
        y = check_labels(y, len(x))
        normals = np.asarray(x[y == 0])
        if not len(normals):
            raise InputError("fit expects normal samples (label 0), received none: check the labels")
        if verbose:
            print(f"{len(normals)} normal samples, {(y == 1).sum()} anomalies left out", file=sys.stderr)
        if isinstance(self.preprocess, TableScaling):
            self.preprocess.adapt(normals)
        container = keras.callbacks.CallbackList(
            callbacks, add_history=True, model=self, epochs=1, steps=1, verbose=0
        )
        container.on_train_begin()
        container.on_epoch_begin(0)
        container.on_train_batch_begin(0)
        self._estimate(normals, batch_size=batch_size, epochs=epochs, verbose=verbose, seed=seed)
        container.on_train_batch_end(0, {})
        container.on_epoch_end(0, {})
        container.on_train_end({})
        return self.history

    def predict(self, x, batch_size=256, verbose="auto") -> np.ndarray:
        """Anomaly scores of samples, (n,) float32, higher is more anomalous; independent of one another.

        Raises:
            InputError: before `fit`, or samples of another shape.
        """
        if self.estimator is None:
            raise InputError(f"{type(self).__name__} expects fit before predict, received neither: call fit")
        x = self._check(as_samples(x), "x")
        if not len(x):
            raise InputError("predict expects at least one sample, received none: check the selection")
        size = batch_size or 256
        parts = [self._score(np.asarray(x[start : start + size])) for start in range(0, len(x), size)]
        return np.concatenate(parts).astype(np.float32)

    def __call__(self, x) -> np.ndarray:
        """As `predict`."""
        return self.predict(x)

    def _check(self, x, name: str):
        if self.is_table:
            return check_table(x, name, self.identity, self.sample_shape[0])
        return check_images(x, name, self.sample_shape, self.preprocess.value_range)

    def _flat(self, x: np.ndarray) -> np.ndarray:
        """Preprocessed samples as rows (n, values) of float64: SVMs are sensitive to rounding."""
        values = self.preprocess(tf.convert_to_tensor(x)).numpy()
        return values.reshape(len(values), -1).astype(np.float64)

    def _estimate(self, normals: np.ndarray, **how) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _estimate(normals)")

    def _score(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define _score(x)")


class OneClassSVM(ClassicalDetector):
    """ν-one-class SVM with an RBF kernel on the samples themselves ("OC-SVM raw").

    The score is minus the signed distance to the separating surface, Σ αᵢ k(xᵢ, x) − ρ. Labelled anomalies
    are left out of training.

    Source: Schölkopf et al., Estimating the Support of a High-Dimensional Distribution, Neural Computation
    13, 2001, equation (3.10). The published figures choose the kernel width on a tenth of the labelled test
    set; here it is scikit-learn's "scale", which takes no label.
    """

    def compile(self, nu: float = 0.1, gamma: float | str = "scale"):
        """The papers' ν.

        Args:
            nu: bound of the share of training samples outside the surface, in (0, 1).
            gamma: of the kernel exp(−γ‖x − x'‖²), above 0; "scale" is 1 / (values · variance of them all).
        """
        if not 0 < nu < 1:
            raise InputError(f"nu expects a number above 0 and below 1, received {nu}")
        if gamma != "scale" and not (isinstance(gamma, int | float) and gamma > 0):
            raise InputError(f"gamma expects a number above 0 or 'scale', received {gamma!r}")
        self.settings = {"nu": nu, "gamma": gamma}

    def _estimate(self, normals, **how):
        settings = {name: self.settings[name] for name in ("nu", "gamma")}
        self.estimator = SklearnOneClassSVM(kernel="rbf", **settings).fit(self._features(normals))

    def _score(self, x):
        return -self.estimator.decision_function(self._features(x))

    def _features(self, x):
        return self._flat(x)


class HybridOneClassSVM(OneClassSVM):
    """The one-class SVM on the codes of an autoencoder that was trained first ("OC-SVM hybrid").

    `fit` trains `agad_tf.baselines.Autoencoder` for `epochs` epochs in batches of `batch_size`, on the normal
    samples, then the SVM. Labelled anomalies are left out of both.

    Args:
        input_shape, seed, crop, clip, encoding: as in `Autoencoder`.
        units, latent_dim: of the autoencoder.

    Source: Ruff et al., Deep Semi-Supervised Anomaly Detection, ICLR 2020, section 4 ("OC-SVM Hybrid"); the
    kernel width as in `OneClassSVM`.
    """

    def __init__(
        self,
        input_shape,
        units=None,
        latent_dim=None,
        seed: int = 0,
        crop="stretch",
        clip=None,
        encoding=None,
    ):
        super().__init__(input_shape, seed, crop, clip, encoding)
        self.autoencoder = Autoencoder(
            self.sample_shape, units, latent_dim, seed, crop, clip, encoding=encoding
        )
        self.preprocess = self.autoencoder.preprocess

    def compile(self, nu: float = 0.1, gamma: float | str = "scale", **autoencoder):
        """As `OneClassSVM.compile`; what else there is goes to `Autoencoder.compile`."""
        super().compile(nu, gamma)
        self.autoencoder.compile(**autoencoder)
        self.settings |= autoencoder

    def _estimate(self, normals, *, batch_size, epochs, verbose, seed):
        how = {"batch_size": batch_size, "epochs": epochs, "verbose": verbose, "seed": seed}
        self.autoencoder.fit(normals, **how)
        super()._estimate(normals)

    def _features(self, x):
        return self.autoencoder.encode(x).numpy().astype(np.float64)
