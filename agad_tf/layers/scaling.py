"""Scaling of table rows inside the model, so that a served model takes raw rows."""

import keras
import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError

_ADAPTED_TO_FLOAT32, _ADAPTED = 1.0, 2.0


@keras.saving.register_keras_serializable("agad_tf")
class TableScaling(keras.layers.Layer):
    """Standardises columns, then maps the training normals' range of each to [0, 1].

    The two steps together are one affine map a column, (x − min) / (max − min), with minimum and maximum over
    the training normals: standardising first cancels out, and is here by its result. A column that is
    constant there has no range: it is only shifted, so that its training value is 0, and keeps its unit:
    without `clip` one such column can drown all others.

    The map is computed in float64, and its result is rounded to the layer's type: time stamps and coordinates
    differ in digits that float32 does not have. Files of before round rows first, as in their training.

    Args:
        clip: scaled values are limited to [−clip, 1 + clip]; None limits nothing. Rows far outside of the
            training range then stay comparable instead of drowning every other column.
    """

    value_range = (-float("inf"), float("inf"))

    def __init__(self, clip: float | None = None, **kwargs):
        super().__init__(**kwargs)
        self.autocast = False  # Keras would round rows before the subtraction
        if clip is not None and not clip >= 0:
            raise InputError(f"clip expects a number of at least 0, or None for none; received {clip}")
        self.clip = clip

    def build(self, input_shape):
        def weight(name, shape, initializer, dtype):
            return self.add_weight(
                name=name,
                shape=shape,
                initializer=initializer,
                dtype=dtype,
                trainable=False,
                autocast=False,
                aggregation="only_first_replica",
            )

        self.minimum = weight("minimum", (input_shape[-1],), "zeros", "float64")
        self.range = weight("range", (input_shape[-1],), "ones", "float64")
        # Whether, and to rows of which precision: a weight, so that it goes wherever the range goes.
        self.adapted = weight("adapted", (), "zeros", "float32")

    @property
    def exact(self) -> bool:
        """Whether rows are scaled in float64; False in files made before that."""
        return float(self.adapted.numpy()) != _ADAPTED_TO_FLOAT32

    def adapt(self, rows: np.ndarray) -> list[int]:
        """Takes minimum and maximum of each column.

        Args:
            rows: (n, features), training normals.

        Returns:
            The columns that are constant, by position.
        """
        rows = np.asarray(rows, np.float64)
        minimum, maximum = rows.min(axis=0), rows.max(axis=0)
        constant = maximum == minimum
        self.set_range(minimum, np.where(constant, 1.0, maximum - minimum))
        return np.flatnonzero(constant).tolist()

    def set_range(self, minimum: np.ndarray, range_: np.ndarray) -> None:
        """Maps minimum to 0 and minimum + range to 1, float64 (features,) each."""
        self.minimum.assign(minimum)
        self.range.assign(range_)
        self.adapted.assign(_ADAPTED)

    def call(self, rows):
        """Maps raw rows (batch, features) to scaled ones of the same shape."""
        dtype = self.variable_dtype
        scaled = (tf.cast(rows, tf.float64) - self.minimum) / self.range
        rounded = tf.cast(rows, dtype) - tf.cast(self.minimum, dtype)
        rounded /= tf.cast(self.range, dtype)
        scaled = tf.where(self.adapted == _ADAPTED_TO_FLOAT32, rounded, tf.cast(scaled, dtype))
        if self.clip is not None:
            scaled = tf.clip_by_value(scaled, -self.clip, 1.0 + self.clip)
        return tf.cast(scaled, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "clip": self.clip}
