"""Keras augmentation layers on quota batches, with draws that depend on seed, epoch and step alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from agad_tf.errors import InputError

Augmentation = keras.layers.Layer | Sequence[keras.layers.Layer] | Mapping[str, Mapping[str, Any] | None]


class _Draws(keras.random.SeedGenerator):
    """Hands out seeds made from one seed: the n-th of them is the same wherever and whenever."""

    def __init__(self, seed: tf.Tensor):
        # Not the base class's: it makes a variable, which a dataset cannot hold and a resumed run would miss.
        self.seed, self.drawn = seed, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self.drawn += 1
        seed = tf.random.fold_in(self.seed, self.drawn, alg="philox")
        return tf.bitcast(tf.cast(seed, tf.int32), tf.uint32)


def augmentation_layers(spec: Augmentation | None) -> list[keras.layers.Layer]:
    """The layers of an augmentation.

    Args:
        spec: a Keras image augmentation layer, a `keras.Sequential` or sequence of them, or names of
            `keras.layers` with their arguments, `{"RandomFlip": {"mode": "horizontal"}}`, as a YAML file
            holds them. None for none.

    Raises:
        InputError: an unknown name or argument, or a layer that is no image augmentation.
    """
    if spec is None:
        return []
    if isinstance(spec, Mapping):
        return [_named(name, arguments or {}) for name, arguments in spec.items()]
    if isinstance(spec, keras.Sequential):
        spec = spec.layers
    layers = [spec] if isinstance(spec, keras.layers.Layer) else list(spec)
    for layer in layers:
        _check(layer, type(layer).__name__)
    return layers


def _named(name: str, arguments: Mapping[str, Any]) -> keras.layers.Layer:
    kind = getattr(keras.layers, str(name), None)
    try:
        if kind is None:
            raise ValueError("no such layer")
        layer = kind(**arguments)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"augment expects names and arguments of Keras augmentation layers, for instance "
            f"{{RandomFlip: {{mode: horizontal}}}}, received {name}: {reason}"
        ) from None
    _check(layer, name)
    return layer


def _check(layer: keras.layers.Layer, name: str) -> None:
    if not all(hasattr(layer, method) for method in ("get_random_transformation", "transform_images")):
        raise InputError(
            f"augment expects Keras image augmentation layers such as RandomFlip, received {name}"
        )


def augmented(layers: Sequence[keras.layers.Layer], x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Applies the layers to a batch.

    Args:
        layers: from `augmentation_layers`.
        x: (batch, height, width, channels), uint8 or float.
        seed: int64 (2,), what all draws derive from.

    Returns:
        Same shape and dtype; uint8 images are rounded back.

    Raises:
        InputError: layers that change the shape.
    """
    images = tf.cast(x, tf.float32)
    for index, layer in enumerate(layers):
        draws = _Draws(tf.random.fold_in(seed, index, alg="philox"))
        transformation = layer.get_random_transformation(images, training=True, seed=draws)
        images = layer.transform_images(images, transformation, training=True)
    if images.shape != x.shape:
        raise InputError(
            f"augment expects layers that keep the shape {tuple(x.shape[1:])} of the images, received "
            f"layers that make it {tuple(images.shape[1:])}"
        )
    if x.dtype == tf.uint8:
        images = tf.clip_by_value(tf.round(images), 0.0, 255.0)
    return tf.cast(images, x.dtype)
