"""Every detector as a scikit-learn outlier detector: pipelines, cross-validation, grid search.

    from agad_tf.sklearn import AABiGANEstimator
    detector = AABiGANEstimator(epochs=20).fit(rows, y)  # y: 1 normal, -1 anomaly
    detector.predict(new_rows)                           # 1 or -1

`AGADEstimator`, `AABiGANEstimator` and one class for each baseline (`estimators()` has them all). Their
arguments are those of the detector's constructor, `compile` and `fit`, with the same names and defaults.
Labels are those of scikit-learn: **1 is normal and -1 an anomaly**, and higher scores are more *normal*.
Everywhere else in this library 1 is an anomaly and higher is more anomalous.
"""

from __future__ import annotations

import contextlib
import inspect
import random

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_array, check_is_fitted, check_random_state, validate_data

from agad_tf.encoding import learnt
from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import threshold_for_false_alarm_rate
from agad_tf.frames import frame_rows, is_frame, table_encoding
from agad_tf.identity import Identity

_LEFT_OUT = {"self", "input_shape", "kwargs", "autoencoder", "x", "y", "verbose", "callbacks", "seed", "name"}
_LEFT_OUT |= {"encoding"}
_LEFT_OUT |= {"validation_data", "initial_epoch", "steps_per_epoch", "augment", "run_eagerly"}
_OWN = {"false_alarm_rate": 0.05, "held_out": 0.2, "random_state": 0, "missing": "refuse"}
_PLACES = ("__init__", "compile", "fit")
_RENAMED = {"score": "detector_score"}  # `score` is a method in scikit-learn


class DetectorEstimator(OutlierMixin, BaseEstimator):
    """Base of the estimators; a subclass names its detector and has its settings as arguments.

    Args:
        false_alarm_rate: of fresh normal samples, that `predict` keeps to on average; in (0, 1).
        held_out: share of the normals that are not trained on but set the threshold, in (0, 1).
        random_state: an int seeds weights, batches and the held-out share.
        missing: values of a table (NaN, None): "refuse" them, fill them with the "median" of the training
            normals, or that and an "indicator"; see `agad_tf.table_encoding`.
        **settings: of the detector's constructor, `compile` and `fit`; the constructor's `score` is called
            `detector_score` here.

    Attributes:
        detector_: the trained detector, with everything that it can.
        offset_: `decision_function` is `score_samples` less this:
            minus the threshold on the detector's score.
        n_features_in_, feature_names_in_: of tables, as in scikit-learn: a frame whose columns are others,
            or stand in another order, is refused.

    Raises:
        InputError: samples or labels that cannot be used; a `ValueError`, as scikit-learn expects.
    """

    detector: type
    _places: dict[str, tuple[str, ...]]

    def __init__(self, **settings):
        known = inspect.signature(type(self)).parameters
        for name in settings:
            if name not in known:
                raise TypeError(f"{type(self).__name__} expects {', '.join(known)}; received {name!r}")
        for name, parameter in known.items():
            setattr(self, name, settings.get(name, parameter.default))

    def fit(self, X, y=None):  # noqa: N803 - scikit-learn's name
        """Trains on the normal samples and, where the detector uses them, on labelled anomalies.

        Args:
            X: rows (n, features), a data frame (texts and categories too), or images
                (n, height, width, channels), uint8 or float in the model's range.
            y: (n,) 1 normal, -1 anomaly; None takes every sample as normal.

        Returns:
            self.
        """
        x = self._samples(X, reset=True)
        anomaly = self._anomalies(y, len(x))
        seed = int(check_random_state(self.random_state).randint(2**31))
        normals = np.flatnonzero(~anomaly)
        if len(normals) < 2:
            raise InputError(
                f"fit expects at least 2 normal samples, received {len(normals)} (n_samples = {len(x)}): one "
                "part trains, the other sets the threshold"
            )
        shuffled = np.random.default_rng(seed).permutation(normals)
        count = min(max(1, round(self.held_out * len(normals))), len(normals) - 1)
        held_out, train = shuffled[:count], np.concatenate([shuffled[count:], np.flatnonzero(anomaly)])
        settings = {
            place: {name: getattr(self, _RENAMED.get(name, name)) for name in names}
            for place, names in self._places.items()
        }
        with _first_weights_from(seed):
            encoding = {} if self._encoding is None else {"encoding": self._encoding}
            detector = self.detector(x.shape[1:], seed=seed, **settings["__init__"], **encoding)
            detector.compile(**settings["compile"])
        detector.fit(x[train], anomaly[train].astype(int), seed=seed, verbose=0, **settings["fit"])
        self.detector_ = detector
        scores = self.score_samples(X)[held_out]
        # Fewer held-out normals than the rate needs: nothing under the largest of them is called an anomaly.
        rate = max(self.false_alarm_rate, 1 / (count + 1))
        self.offset_ = -threshold_for_false_alarm_rate(-scores, rate)
        return self

    def score_samples(self, X) -> np.ndarray:  # noqa: N803
        """Minus the detector's score, float64 (n,): higher is more normal."""
        check_is_fitted(self, "detector_")
        return -np.asarray(self.detector_.predict(self._samples(X), verbose=0), np.float64)

    def decision_function(self, X) -> np.ndarray:  # noqa: N803
        """`score_samples` less `offset_`, float64 (n,): under 0 is an anomaly."""
        return self.score_samples(X) - self.offset_

    def predict(self, X) -> np.ndarray:  # noqa: N803
        """1 for normal, -1 for an anomaly, int (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _samples(self, X, reset: bool = False) -> np.ndarray:  # noqa: N803
        if getattr(X, "ndim", 2) == 4:
            self._encoding = None
            return check_array(X, dtype=None, ensure_2d=False, allow_nd=True)
        gaps = self.missing != "refuse"
        if is_frame(X) and (self._is_mixed(X) if reset else self._encoding is not None):
            validate_data(self, X, reset=reset, skip_check_array=True)  # the names of its columns
            if reset:
                self._encoding = table_encoding(X, self.missing)
            return frame_rows(X, Identity("table", encoding=self._encoding), X.shape[1], "X")
        x = validate_data(
            self,
            X,
            reset=reset,
            dtype=np.float64,
            ensure_min_samples=2 if reset else 1,
            ensure_all_finite="allow-nan" if gaps else True,
        )
        if reset:
            names = getattr(self, "feature_names_in_", None)
            self._encoding = learnt(list(x.T), self.missing, "X", names)
        return x

    def _is_mixed(self, frame) -> bool:
        """Whether a frame holds anything but numbers that are all there."""
        numbers = all(np.asarray(frame[name]).dtype.kind in "iufb" for name in frame.columns)
        return self.missing != "refuse" or not numbers

    @staticmethod
    def _anomalies(y, count: int) -> np.ndarray:
        if y is None:
            return np.zeros(count, bool)
        y = np.asarray(y).reshape(-1)
        if len(y) != count:
            raise InputError(
                f"y expects one label a sample, received {len(y)} for {count} samples: align them"
            )
        if not np.isin(y, (-1, 1)).all():
            raise InputError(
                f"y expects 1 (normal) and -1 (anomaly), as scikit-learn has it, received "
                f"{np.unique(y)[:5].tolist()}: of labels with 1 for anomalies make np.where(y == 1, -1, 1)"
            )
        return y == -1


@contextlib.contextmanager
def _first_weights_from(seed: int):
    """Seeds Keras, whose first weights come from its global state, and gives NumPy and Python theirs back."""
    import keras

    states = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _estimator(name: str, detector: type) -> type[DetectorEstimator]:
    """The estimator class of a detector, with the arguments of its three methods."""
    own = inspect.signature
    given = {
        place: {
            key: value
            for key, value in own(getattr(detector, place)).parameters.items()
            if key not in _LEFT_OUT and value.kind not in (value.VAR_KEYWORD, value.VAR_POSITIONAL)
        }
        for place in _PLACES
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(key, keyword, default=value) for key, value in _OWN.items()]
    for settings in given.values():
        settings = {_RENAMED.get(key, key): value for key, value in settings.items()}
        parameters += [
            inspect.Parameter(key, keyword, default=value.default) for key, value in settings.items()
        ]

    def __init__(self, **settings):  # noqa: N807 - of the class made here; it carries the signature
        DetectorEstimator.__init__(self, **settings)

    __init__.__signature__ = inspect.Signature(
        [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *parameters]
    )
    return type(
        f"{detector.__name__}Estimator",
        (DetectorEstimator,),
        {
            "__init__": __init__,
            "__module__": __name__,
            "__doc__": f"`{detector.__name__}` ({name}) for scikit-learn; see `DetectorEstimator`.",
            "detector": detector,
            "_places": {place: tuple(settings) for place, settings in given.items()},
        },
    )


def estimators() -> dict[str, type[DetectorEstimator]]:
    """The estimator class of every detector and baseline, by the name that the command line uses."""
    if not _made:
        from agad_tf.baselines import BASELINES
        from agad_tf.training.configuration import DETECTORS

        _made.update({name: _estimator(name, cls) for name, cls in (DETECTORS | BASELINES).items()})
    return _made


_made: dict[str, type[DetectorEstimator]] = {}


def __getattr__(name: str):
    # Detectors bring TensorFlow: they are looked at when the first class is asked for.
    if name.endswith("Estimator"):
        for cls in estimators().values():
            if cls.__name__ == name:
                return cls
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; it has estimators() and the classes in it"
    )
