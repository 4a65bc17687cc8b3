"""Scaling of table rows inside the model, so that a served model takes raw rows."""

import keras
import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError


@keras.saving.register_keras_serializable("agad_tf")
class TableScaling(keras.layers.Layer):
    """Standardises columns, then maps the training normals' range of each to [0, 1].

    The two steps together are one affine map a column, (x − min) / (max − min), with minimum and maximum over
    the training normals: standardising first cancels out, and is here by its result. A column that is
    constant there has no range: it is only shifted, so that its training value is 0, and keeps its unit:
    without `clip` one such column can drown all others.

    Args:
        clip: scaled values are limited to [−clip, 1 + clip]; None limits nothing. Rows far outside of the
            training range then stay comparable instead of drowning every other column.
    """

    value_range = (-float("inf"), float("inf"))

    def __init__(self, clip: float | None = None, **kwargs):
        super().__init__(**kwargs)
        if clip is not None and not clip >= 0:
            raise InputError(f"clip expects a number of at least 0, or None for none; received {clip}")
        self.clip = clip

    def build(self, input_shape):
        def weight(name, initializer):
            return self.add_weight(
                name=name,
                shape=(input_shape[-1],),
                initializer=initializer,
                trainable=False,
                autocast=False,
                aggregation="only_first_replica",
            )

        self.minimum = weight("minimum", "zeros")
        self.range = weight("range", "ones")
        self.adapted = self.add_weight(
            name="adapted",
            shape=(),
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

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
        self.minimum.assign(minimum)
        self.range.assign(np.where(constant, 1.0, maximum - minimum))
        self.adapted.assign(1.0)
        return np.flatnonzero(constant).tolist()

    def call(self, rows):
        """Maps raw rows (batch, features) to scaled ones of the same shape."""
        dtype = self.variable_dtype
        scaled = (tf.cast(rows, dtype) - self.minimum) / self.range
        if self.clip is not None:
            scaled = tf.clip_by_value(scaled, -self.clip, 1.0 + self.clip)
        return tf.cast(scaled, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "clip": self.clip}
