"""What the detectors take as samples and labels, checked in one place."""

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import tensorflow as tf

from agad_tf.columns import LABEL_NAMES
from agad_tf.data.batches.quota import anomalies_per_batch
from agad_tf.data.rows import LazyRows
from agad_tf.data.sources.tables import table_array
from agad_tf.encoding import TableEncoding
from agad_tf.errors import InputError
from agad_tf.frames import column_names, frame_rows, is_frame, named_columns
from agad_tf.identity import Identity
from agad_tf.layers import ImagePreprocessing, TableScaling
from agad_tf.pixels import PREPROCESSING

logger = logging.getLogger("agad_tf")


def preprocessing(
    sample_shape: tuple[int, ...],
    value_range: tuple[float, float],
    crop: str = "stretch",
    clip: float | None = None,
    dtype: str = "float32",
    version: int = PREPROCESSING,
    encoding: TableEncoding | None = None,
) -> ImagePreprocessing | TableScaling:
    """The layer from samples as they come to those that networks see: images resized, rows scaled.

    Args:
        sample_shape: (height, width, channels) or (features,) of the model.
        value_range: of images; rows are scaled to [0, 1].
        crop: of images, see `ImagePreprocessing`.
        clip: of rows, see `TableScaling`.
        dtype: of the result.
        version: of images, see `ImagePreprocessing`.
        encoding: of rows, see `TableScaling`.
    """
    if len(sample_shape) == 3:
        return ImagePreprocessing(sample_shape[:2], value_range, crop, version, dtype=dtype)
    scaling = TableScaling(clip, encoding, dtype=dtype)
    scaling.build((None, *sample_shape))
    return scaling


def as_samples(x):
    """An array of what is none; samples in shards stay there, data frames keep their names.

    Raises:
        InputError: what holds no samples, None or an object of another library.
    """
    if isinstance(x, LazyRows) or is_frame(x):
        return x
    try:
        array = np.asarray(x)
    except ValueError:
        raise InputError(
            "expected samples of one shape, received some of several: make them equal, or resize images"
        ) from None
    if not array.ndim:
        raise InputError(
            "expected samples as an array, a tensor, a data frame, a tf.data.Dataset or a "
            f"keras.utils.PyDataset, received {'None' if x is None else f'a {type(x).__name__}'}: convert it"
        )
    return array


def checked_encoding(
    encoding: TableEncoding | dict | None, sample_shape: tuple[int, ...]
) -> TableEncoding | None:
    """An encoding as `agad_tf.table_encoding` gives it, or as a file holds it; None of plain numbers.

    Raises:
        InputError: none of a table of this shape.
    """
    if encoding is None:
        return None
    if isinstance(encoding, dict):
        encoding = TableEncoding(**encoding)
    if not isinstance(encoding, TableEncoding) or (len(encoding.categories),) != sample_shape:
        received = type(encoding).__name__
        if isinstance(encoding, TableEncoding):
            received = f"one of {len(encoding.categories)} columns"
        raise InputError(
            f"encoding expects that of a table, for a shape {sample_shape}, received {received}: learn it "
            "with agad_tf.table_encoding(frame) and give the number of its columns"
        )
    return None if encoding.is_plain else encoding


def learnt_columns(identity: Identity, x) -> Identity:
    """With the names of a data frame's columns, which are those of training from now on."""
    if identity.columns is not None or not is_frame(x):
        return identity
    names = column_names(x, "x")
    labels = [name for name in names if name.casefold() in LABEL_NAMES]
    if labels:
        logger.warning(
            "x: the columns %s are taken as features: if one is the label, pass it as y, without it in x",
            ", ".join(map(repr, labels)),
        )
    return replace(identity, columns=tuple(names[index] for index in named_columns(names, "x")))


def check_table(x, name: str, identity: Identity, features: int) -> np.ndarray:
    """Returns rows as float64 (n, features) in the model's order; of data frames columns go by their names.

    Raises:
        InputError: see `check_rows` and `agad_tf.frames.frame_rows`.
    """
    rows = frame_rows(x, identity, features, name) if is_frame(x) else x
    return check_rows(rows, name, features, identity.encoding)


def batches_of_rows(rows: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Rows as a dataset of batches in their own precision: Keras would round arrays to float32."""
    return tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)


def batches_of(rows: LazyRows, batch_size: int) -> tf.data.Dataset:
    """Samples in shards as a dataset of batches, in order, a few of them in memory."""
    starts = tf.data.Dataset.range(0, len(rows), batch_size)

    def read(start):
        batch = tf.numpy_function(
            lambda first: np.asarray(rows[first : first + batch_size]),
            [start],
            tf.as_dtype(rows.dtype),
            stateful=False,
        )
        batch.set_shape((None, *rows.shape[1:]))
        return batch

    return starts.map(read, num_parallel_calls=2, deterministic=True).prefetch(2)


def check_images(
    x: np.ndarray, name: str, sample_shape: tuple[int, int, int], value_range: tuple[float, float]
) -> np.ndarray:
    """Returns images that a model of `sample_shape` takes.

    Args:
        x: uint8 (n, any height, any width, channels) or float (n, *sample_shape) in `value_range`; the last
            axis may be left out for one channel.
        name: of the argument, for the message.
        sample_shape: (height, width, channels) of the model.
        value_range: of float images.

    Raises:
        InputError: another shape, type or range, NaN.
    """
    height, width, channels = sample_shape
    received = x.shape
    if x.shape == (height, width, channels) and channels == 1:
        raise InputError(
            f"{name} expects images (n, height, width, 1), received one image {x.shape}: give x[None]"
        )
    if x.ndim == 3 and channels == 1:
        x = x[..., None]
    if x.ndim != 4 or x.shape[-1] != channels:
        raise InputError(
            f"{name} expects images (n, height, width, {channels}), received shape {received}: reshape them"
        )
    if 0 in x.shape[1:3]:
        raise InputError(f"{name} expects images with pixels, received shape {received}: leave them out")
    if x.dtype == np.uint8:
        return x
    if not np.issubdtype(x.dtype, np.floating):
        raise InputError(f"{name} expects uint8 or float images, received {x.dtype}: convert them")
    if x.shape[1:3] != (height, width):
        raise InputError(
            f"{name} expects float images of {height}x{width}, received {x.shape[1]}x{x.shape[2]}: "
            "resize them or pass uint8, which the model resizes"
        )
    if not len(x):
        return x
    (low, high), smallest, largest = value_range, float(x.min()), float(x.max())
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        raise InputError(f"{name} expects finite values, received NaN or infinity: clean the images")
    if smallest < low - 1e-3 or largest > high + 1e-3:
        raise InputError(
            f"{name} expects float images in [{low:g}, {high:g}], received {smallest:g} to {largest:g}: "
            "rescale them or pass uint8, which the model scales"
        )
    return x


def check_rows(x: np.ndarray, name: str, features: int, encoding: TableEncoding | None = None) -> np.ndarray:
    """Returns rows of a table (n, features) as float64; categories are codes, missing values NaN.

    Raises:
        InputError: another shape or type, missing or infinite values; names the first such column.
    """
    if x.ndim != 2 or x.shape[1] != features:
        raise InputError(f"{name} expects rows (n, {features}), received shape {x.shape}: reshape them")
    return table_array(x, name, encoding=encoding) if len(x) else x.astype(np.float64)


def check_labels(y, count: int) -> np.ndarray:
    """Returns labels as int32 (count,), 0 normal and 1 anomaly; None means all normal.

    Raises:
        InputError: another length, other values.
    """
    if y is None:
        return np.zeros(count, np.int32)
    y = np.asarray(y).reshape(-1)
    if len(y) != count:
        raise InputError(f"y expects one label a sample, received {len(y)} for {count} samples: align them")
    if not np.isin(y, (0, 1)).all():
        received = list(dict.fromkeys(y.tolist()))[:5]
        raise InputError(f"y expects 0 (normal) and 1 (anomaly), received {received}: map the labels")
    return y.astype(np.int32)


def check_alignment(x, y) -> None:
    """Refuses labels whose index says that they are those of other rows: samples go by position.

    Raises:
        InputError: data frame and series of pandas with the same index in another order.
    """
    rows, labels = getattr(x, "index", None), getattr(y, "index", None)
    if not hasattr(rows, "equals") or not hasattr(labels, "equals") or rows.equals(labels):
        return
    # Counted, not sorted: texts and numbers have no order.
    if len(rows) == len(labels) and Counter(rows.dropna()) == Counter(labels.dropna()):
        raise InputError(
            "y expects the labels in the order of x, received the same index in another order: pass "
            "y.loc[x.index]"
        )


def whole_number(value, name: str) -> int:
    """A number of things, at least 1.

    Raises:
        InputError: anything else, True among it.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} expects a whole number above 0, received {value!r}")
    return int(value)


def held_out_share(x, y: np.ndarray, share: float) -> tuple:
    """x and y without the last `share` of each label, and those as (x, y).

    Raises:
        InputError: a share outside of (0, 1), or one that leaves no normal on one side.
    """
    if not 0 < share < 1:
        raise InputError(f"validation_split expects a share from 0 to 1, received {share!r}")
    held = np.zeros(len(y), bool)
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        held[rows[len(rows) - int(len(rows) * share) :]] = True
    if not (y[held] == 0).any() or not (y[~held] == 0).any():
        raise InputError(
            f"validation_split expects normals on both sides, received {share} of {int((y == 0).sum())}: "
            "pass more samples or another share"
        )
    return x[~held], y[~held], (x[held], y[held])


def fitting_batch_size(
    normals: int, anomalies: int, batch_size: int, min_anomalies: int, replicas: int = 1
) -> int:
    """The batch size, made smaller where the data are too few: no normal comes twice in one batch."""
    # No batch above this one can fit: normals alone would be more than there are.
    most = max(normals + min_anomalies, -(-(normals + 1) * (normals + anomalies) // max(normals, 1))) + 1
    first = batch_size - replicas * max(0, (batch_size - most) // replicas)
    for smaller in range(first, 0, -replicas):
        # The share of anomalies can ask for more of them than the minimum does.
        if smaller - anomalies_per_batch(normals, anomalies, smaller, min_anomalies) <= normals:
            return smaller
    return batch_size  # quota_batches says what is wrong with it


def describe_quota(quota) -> str:
    """One line about the batches of a training, for its log."""
    text = f"{quota.n_normal} normal samples, batches of {quota.batch_size}"
    if not quota.n_anomaly:
        return text + ", no anomalies"
    return text + (
        f" with {quota.anomalies_per_batch} of {quota.n_anomaly} anomalies each "
        f"(an anomaly is seen {quota.repeat_rate:.1f} times an epoch)"
    )
