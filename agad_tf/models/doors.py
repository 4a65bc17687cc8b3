"""The doors samples come in by: arrays, tensors, datasets batched or not, `keras.utils.PyDataset`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from agad_tf.errors import InputError

_NORMAL_NAMES = ("normal", "good", "ok", "okay", "0")


def as_stream(x, sample_shape: tuple[int, ...], batch_size: int, what: str) -> tf.data.Dataset | None:
    """A dataset of batches, of x alone or (x, y), from what is none of an array; None for arrays and tensors.

    Args:
        x: a `tf.data.Dataset` of batches or of single samples, a `keras.utils.PyDataset`, or anything else.
        sample_shape: (height, width, channels) or (features,) of the model.
        batch_size: for datasets of single samples.
        what: the argument, for messages.

    Raises:
        InputError: a generator or iterator, a dataset of dicts, classes whose first is not the normal one.
    """
    if hasattr(x, "__next__"):
        raise InputError(
            f"{what} expects arrays, a tf.data.Dataset or a keras.utils.PyDataset, received a "
            f"{'generator' if inspect.isgenerator(x) else type(x).__name__}: wrap it in "
            "tf.data.Dataset.from_generator"
        )
    names = getattr(x, "class_names", None)
    if isinstance(x, keras.utils.PyDataset):
        x = _from_py_dataset(x)
    if not isinstance(x, tf.data.Dataset):
        return None
    _check_class_names(names, what)
    spec = x.element_spec
    first = spec[0] if isinstance(spec, tuple) else spec
    if not isinstance(first, tf.TensorSpec):
        raise InputError(
            f"{what} expects a dataset of x or (x, y), received elements {spec}: map it to these"
        )
    return x.batch(batch_size) if _is_single(first.shape, sample_shape) else x


def _is_single(shape: tf.TensorShape, sample_shape: tuple[int, ...]) -> bool:
    """Whether elements of a dataset are single samples and not batches."""
    if shape.rank is None:
        return False
    if len(sample_shape) == 1:
        return shape.rank == 1
    grey = sample_shape[-1] == 1
    # Of grey images without a channel, batches have an unknown first side alone.
    return (shape.rank == 3 and shape[-1] == sample_shape[-1]) or (
        grey and shape.rank == 2 and (shape[0] or not shape[1])
    )


def _check_class_names(names, what: str) -> None:
    """Datasets of folders number their classes by the alphabet: `anomaly` before `normal`."""
    if not names or len(names) != 2:
        return
    normal = [str(name).casefold() in _NORMAL_NAMES for name in names]
    if normal == [False, True]:
        raise InputError(
            f"{what} expects 0 for normal and 1 for anomaly, received classes numbered {names[0]} 0, "
            f"{names[1]} 1: pass class_names={[names[1], names[0]]} where the dataset is made"
        )


def _from_py_dataset(batches: keras.utils.PyDataset) -> tf.data.Dataset:
    """The batches of a PyDataset in order; its `on_epoch_end` is called after each pass."""
    count = batches.num_batches
    if not count:
        raise InputError(f"expected a PyDataset with at least one batch, received {count}: check its length")

    def parts(batch):
        batch = batch if isinstance(batch, tuple | list) else (batch,)
        return tuple(np.asarray(part) for part in batch if part is not None)

    def one_pass():
        for index in range(count):
            yield parts(batches[index])
        batches.on_epoch_end()

    signature = tuple(
        tf.TensorSpec((None, *part.shape[1:]), tf.as_dtype(part.dtype)) for part in parts(batches[0])
    )
    dataset = tf.data.Dataset.from_generator(one_pass, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset if len(signature) > 1 else dataset.map(lambda x: x)


class Watched:
    """Looks at every batch of datasets as it passes, and stops them at the first that is refused.

    An exception inside of a dataset would reach the caller as several lines of TensorFlow: here the dataset
    ends, and `errors` raises what was wrong.

    Args:
        look: takes x of a batch as an array; raises InputError for what is refused.
    """

    def __init__(self, look: Callable[[np.ndarray], object]):
        self._look, self._refused = look, None

    def through(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same batches, up to the first that is refused."""

        def good(x):
            try:
                self._look(x)
            except InputError as error:
                self._refused = error
            return np.bool_(self._refused is None)

        def passes(x, *_):
            return tf.ensure_shape(tf.numpy_function(good, [x], tf.bool), ())

        count = int(dataset.cardinality())
        watched = dataset.take_while(passes)
        return watched if count < 0 else watched.apply(tf.data.experimental.assert_cardinality(count))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises, after what reads the batches, what was refused among them."""
        try:
            yield
        except Exception:
            if self._refused is None:
                raise
        if self._refused is not None:
            raise self._refused from None
