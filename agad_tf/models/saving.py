"""What a detector knows of itself: its shape, its score, its samples' identity; and what its file keeps."""

import json
import warnings
from dataclasses import asdict, replace

import keras
import numpy as np

from agad_tf.data.rows import LazyRows
from agad_tf.errors import InputError
from agad_tf.identity import FEW, Identity
from agad_tf.models import habits
from agad_tf.models.inputs import (
    as_samples,
    check_alignment,
    check_images,
    check_labels,
    check_table,
    checked_encoding,
)
from agad_tf.pixels import PREPROCESSING

STATE = "state"
"""Entry of a weights file, beside the weights, that holds the resolved score and the identity."""


class SavedDetector(keras.Model):
    """A detector as its file keeps it: arguments, weights, the score that was decided, the identity.

    A subclass names its scores in `score_names` and makes its layer `preprocess`.
    """

    score_names: tuple[str, ...] = ()

    def __init__(self, input_shape, score: str, preprocessing: int = PREPROCESSING, encoding=None, **kwargs):
        super().__init__(**kwargs)
        # Images pass in full precision whatever the policy: rounded ones would be reconstruction error.
        self.autocast = False
        try:
            self.sample_shape = tuple(int(side) for side in input_shape)
        except (TypeError, ValueError):
            raise InputError(
                f"input_shape expects whole numbers, for instance (32, 32, 1), received {input_shape!r}"
            ) from None
        if len(self.sample_shape) not in (1, 3) or min(self.sample_shape) < 1:
            raise InputError(
                "input_shape expects (height, width, channels), or (features,) for the rows of a table; "
                f"received {self.sample_shape}"
            )
        self.encoding = checked_encoding(encoding, self.sample_shape)
        self.score = score
        self.preprocessing = preprocessing  # version of the resize, for the layer that a subclass makes
        self._identity = Identity()
        self._pairs: list[tuple[str, str]] = []  # names of (raw network, scoring network)
        self._fitting = False
        self._scoring_sample = None
        self._warned: set[str] = set()  # what was said once is not said again
        self.scoring_prepared = self._state("scoring_prepared", ())
        self.average_decay = self._state("average_decay", ())
        self.average_steps = self._state("average_steps", ())
        # Standardise each score on training normals for the fused one.
        self.score_means = self._state("score_means", (len(self.score_names),))
        self.score_deviations = self._state("score_deviations", (len(self.score_names),), "ones")

    @property
    def is_table(self) -> bool:
        """Whether samples are rows (features,) and not images."""
        return len(self.sample_shape) == 1

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Shape of a sample as the networks see it: `sample_shape`, or that of an encoded row."""
        return self.sample_shape if self.encoding is None else (self.encoding.width,)

    @property
    def scoring_dtype(self) -> str:
        """Of the networks that score: full precision, whatever trains."""
        return "float64" if self.variable_dtype == "float64" else "float32"

    @property
    def scoring_state(self) -> tuple[str, ...]:
        """Attributes of the constants, besides networks and preprocessing, that a score reads."""
        return ("score_means", "score_deviations", "scoring_prepared")

    @property
    def score(self) -> str:
        """The score that `call` gives; "auto" until `fit` has decided. Setting it is a choice that stays."""
        return self._score

    @score.setter
    def score(self, name: str):
        allowed = ("auto", "fused", *self.score_names)
        if name not in allowed:
            raise InputError(f"score expects one of {', '.join(allowed)}, received {name!r}")
        self._asked_score = name
        self._resolve_score(name)

    def _resolve_score(self, name: str) -> None:
        self._score = name
        self._forget_traces()

    def _forget_traces(self) -> None:
        """What was traced for another score, resize or set of parts must not be used again."""
        self.predict_function = self._map_function = None

    @property
    def identity(self) -> Identity:
        """What the samples of training were; `fit` completes what was not assigned before."""
        version = getattr(self.preprocess, "version", 1)
        return replace(self._identity, preprocessing=version, encoding=self.encoding)

    @identity.setter
    def identity(self, identity: Identity):
        if not isinstance(identity, Identity):
            raise InputError(
                f"identity expects an agad_tf.identity.Identity, received {type(identity).__name__}: make one"
            )
        if identity.columns is not None and (len(identity.columns),) != self.sample_shape:
            raise InputError(
                f"identity expects the names of the model's columns, shape {self.sample_shape}, received "
                f"{len(identity.columns)}: name every column"
            )
        self._identity = identity

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
        """Writes what `agad-tf export` writes: "tf_saved_model", "onnx" or "litert"; see `agad_tf.export`.

        Args:
            filepath: the folder of the SavedModel, or the file; must not exist.
            format: which.
            verbose: ignored; as in Keras.

        Raises:
            InputError: another format, other arguments of Keras, a path that exists.
        """
        habits.export(self, filepath, format, input_signature, kwargs)

    def save(self, filepath, *args, **kwargs):
        """As `keras.Model.save`, to a file that ends in .keras."""
        habits.check_save_path(filepath, kwargs.get("zipped"))
        return super().save(filepath, *args, **kwargs)

    def quantize(self, *args, **kwargs):
        """Refused: a detector is quantised when it is exported."""
        raise InputError(
            "quantize expects a plain Keras model, received a detector: its int8 is an export, "
            "agad_tf.export.tflite.export_tflite(model, path, precision='int8', representative=normals)"
        )

    def save_spec(self, dynamic_batch=True):
        """What `tf.lite.TFLiteConverter.from_keras_model` asks first, and is answered."""
        raise InputError(
            "TFLiteConverter expects a plain Keras model, received a detector, whose export is "
            "model.export('model.tflite', format='litert')"
        )

    def save_own_variables(self, store):
        """Weights of this model alone, and beside them the score that was decided and the identity."""
        super().save_own_variables(store)
        state = {
            "score": self._score,
            "asked_score": self._asked_score,
            "score_names": self.score_names,
            "identity": self.identity.to_dict(),
        }
        store[STATE] = np.frombuffer(json.dumps(state).encode(), np.uint8)

    def load_own_variables(self, store):
        weights = {name: store[name] for name in store.keys() if name != STATE}  # noqa: SIM118 (no dict)
        super().load_own_variables(weights)
        if STATE not in store.keys():  # noqa: SIM118
            self._set_preprocessing(1)  # a file of before: it holds weights alone
            return
        state = json.loads(np.asarray(store[STATE]).tobytes())
        self.score = state["asked_score"]
        self._resolve_score(state["score"])
        self.identity = Identity.from_dict(state["identity"])
        self._set_preprocessing(self._identity.preprocessing)

    def _set_preprocessing(self, version: int) -> None:
        """The resize that the weights were trained with."""
        if not self.is_table:
            self.preprocessing = self.preprocess.version = version
            self._forget_traces()

    def get_config(self):
        config = super().get_config()
        if self.encoding is not None:
            config["encoding"] = asdict(self.encoding)
        return config if self.is_table else {**config, "preprocessing": self.preprocessing}

    @classmethod
    def from_config(cls, config):
        if len(config.get("input_shape", ())) == 3:
            config = {"preprocessing": 1} | config  # saved before there was another
        return super().from_config(config)

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

    @property
    def parts_of_score(self) -> tuple[str, ...]:
        """The scores that `self.score` is made of; "auto" is the first until `fit` has decided."""
        if self.score == "fused":
            return self.score_names
        return (self.score_names[0] if self.score == "auto" else self.score,)

    def check_samples(self, x: np.ndarray, name: str) -> np.ndarray:
        """Returns samples that the model takes, or says in one line why not."""
        if self.is_table:
            return check_table(x, name, self.identity, self.sample_shape[0])
        value_range = self.preprocess.value_range
        x = check_images(x, name, self.sample_shape, value_range)
        known = np.asarray(x[:FEW]) if isinstance(x, LazyRows) else x
        warning = self.identity.judge_images(known, name, value_range)
        if warning is not None:
            self._warn_once(warning)
        return x

    def _warn_once(self, line: str) -> None:
        kind = line.split(":")[0] + line[-30:]  # the same with other numbers is no news
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(line, stacklevel=3)

    def _check_labelled(self, x, y=None):
        check_alignment(x, y)
        x = self.check_samples(as_samples(x), "x")
        return x, check_labels(y, len(x))
