"""Scaling of table rows inside the model, so that a served model takes raw rows, gaps and codes included."""

from dataclasses import asdict

import keras
import numpy as np
import tensorflow as tf

from agad_tf.encoding import TableEncoding
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
        encoding: of a table with categories or missing values, also as a dict: what is scaled are its
            entries, (batch, encoding.width).
    """

    value_range = (-float("inf"), float("inf"))

    def __init__(self, clip: float | None = None, encoding: TableEncoding | dict | None = None, **kwargs):
        super().__init__(**kwargs)
        self.autocast = False  # Keras would round rows before the subtraction
        if clip is not None and not clip >= 0:
            raise InputError(f"clip expects a number of at least 0, or None for none; received {clip}")
        self.clip = clip
        self.encoding = TableEncoding(**encoding) if isinstance(encoding, dict) else encoding

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

        features = width = input_shape[-1]
        if self.encoding is not None:
            width = self.encoding.width
        self.minimum = weight("minimum", (width,), "zeros", "float64")
        self.range = weight("range", (width,), "ones", "float64")
        # Whether, and to rows of which precision: a weight, so that it goes wherever the range goes.
        self.adapted = weight("adapted", (), "zeros", "float32")
        # What stands for a missing value; in no file of a table of plain numbers.
        self.fill = None if self.encoding is None else weight("fill", (features,), "zeros", "float64")

    @property
    def exact(self) -> bool:
        """Whether rows are scaled in float64; False in files made before that."""
        return float(self.adapted.numpy()) != _ADAPTED_TO_FLOAT32

    def adapt(self, rows: np.ndarray) -> list[int]:
        """Takes minimum and maximum of each column, and what stands for its missing values.

        Args:
            rows: (n, features), training normals.

        Returns:
            The columns of numbers that are constant, by position.

        Raises:
            InputError: a column without any value.
        """
        rows = np.asarray(rows, np.float64)
        if self.encoding is not None:
            fill = self.encoding.fill_of(rows)
            self.fill.assign(fill)
            rows = self.encoding.expanded(rows, fill)
        minimum, maximum = rows.min(axis=0), rows.max(axis=0)
        constant = maximum == minimum
        self.set_range(minimum, np.where(constant, 1.0, maximum - minimum))
        if self.encoding is None:
            return np.flatnonzero(constant).tolist()
        # The entry of all other categories is nearly always constant: no news.
        return self.encoding.sources[constant & np.isnan(self.encoding.entry_codes)].tolist()

    def set_range(self, minimum: np.ndarray, range_: np.ndarray) -> None:
        """Maps minimum to 0 and minimum + range to 1, float64 (features,) each."""
        self.minimum.assign(minimum)
        self.range.assign(range_)
        self.adapted.assign(_ADAPTED)

    def call(self, rows):
        """Maps raw rows (batch, features) to scaled ones, of the same shape or (batch, encoding.width)."""
        dtype = self.variable_dtype
        if self.encoding is not None:
            rows = self._expanded(tf.cast(rows, tf.float64))
        scaled = (tf.cast(rows, tf.float64) - self.minimum) / self.range
        rounded = tf.cast(rows, dtype) - tf.cast(self.minimum, dtype)
        rounded /= tf.cast(self.range, dtype)
        scaled = tf.where(self.adapted == _ADAPTED_TO_FLOAT32, rounded, tf.cast(scaled, dtype))
        if self.clip is not None:
            scaled = tf.clip_by_value(scaled, -self.clip, 1.0 + self.clip)
        return tf.cast(scaled, self.compute_dtype)

    def _expanded(self, rows):
        """As `TableEncoding.expanded`, in the graph."""
        codes, sources = self.encoding.entry_codes, self.encoding.sources
        gaps = tf.math.is_nan(rows)
        filled = tf.gather(tf.where(gaps, self.fill, rows), sources, axis=1)
        told = tf.cast(tf.equal(filled, tf.constant(codes)), tf.float64)
        entries = tf.where(np.isnan(codes), filled, told)
        return tf.where(codes < 0, tf.cast(tf.gather(gaps, sources, axis=1), tf.float64), entries)

    def usable(self, rows):
        """Which values can be scored, bool (batch, features): finite within float32, codes that there are.

        A missing value (NaN) can where the encoding allows it.
        """
        rows = tf.cast(rows, tf.float64)
        if self.encoding is None:
            return tf.abs(rows) <= np.finfo(np.float32).max  # false for NaN
        largest = self.encoding.largest_codes
        coded = np.isfinite(largest)
        whole = tf.equal(rows, tf.floor(rows)) | ~coded
        smallest = np.where(coded, 0.0, -np.finfo(np.float32).max)
        inside = (rows >= smallest) & (rows <= np.minimum(largest, np.finfo(np.float32).max))
        usable = whole & inside
        return usable | tf.math.is_nan(rows) if self.encoding.allows_gaps else usable

    def get_config(self):
        encoding = {} if self.encoding is None else {"encoding": asdict(self.encoding)}
        return {**super().get_config(), "clip": self.clip, **encoding}
