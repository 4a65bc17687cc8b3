"""Which pretrained networks there are, what range they take, and which of their layers are tapped."""

from __future__ import annotations

from pathlib import Path

import keras

from agad_tf.errors import InputError
from agad_tf.features.efficientnet_lite import efficientnet_lite0

STRIDES = (4, 8, 16)
"""Input pixels a step of a tap's grid, on each axis."""

_PROBE = 256

# What the networks of keras.applications take, by the beginning of their names, of x in [−1, 1]: "signed" x
# itself, "bytes" 0 to 255, "caffe" 0 to 255 in the order blue, green, red less the mean of ImageNet, "torch"
# standardised by the mean and deviation of ImageNet. Longer names come first.
_RANGES = {
    "MobileNetV3": "bytes",
    "MobileNet": "signed",
    "EfficientNet": "bytes",
    "ConvNeXt": "bytes",
    "DenseNet": "torch",
    "Inception": "signed",
    "Xception": "signed",
    "NASNet": "signed",
    "VGG": "caffe",
}


def range_of(name: str) -> str:
    """What range a network of `keras.applications` takes; see `FrozenFeatures`."""
    if name.startswith("ResNet"):
        return "signed" if name.endswith("V2") else "caffe"
    return next((kind for start, kind in _RANGES.items() if name.startswith(start)), "signed")


def open_network(source, weights: str | Path = "imagenet") -> tuple[keras.Model, str, str]:
    """A network from what a user may name.

    Args:
        source: "efficientnet_lite0"; the name of a network of `keras.applications`; the path of a `.keras`
            file; a Keras model.
        weights: of `keras.applications`: "imagenet" (Keras downloads them) or the path of a weights file.

    Returns:
        The network, its name and the range it takes.

    Raises:
        InputError: an unknown name, weights that cannot be had.
    """
    if isinstance(source, keras.Model):
        return source, source.name, "signed"
    if str(source) == "efficientnet_lite0":
        return efficientnet_lite0(), "efficientnet_lite0", "signed"
    if str(source).endswith(".keras"):
        try:
            return keras.saving.load_model(source, compile=False), Path(source).stem, "signed"
        except (OSError, ValueError, TypeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"features: expected a Keras model in {source}, received {reason}") from None
    maker = getattr(keras.applications, str(source), None)
    if not str(source)[:1].isupper() or not callable(maker):
        raise InputError(
            "features expects efficientnet_lite0, the name of a network of keras.applications (MobileNetV2, "
            f"ResNet50, ...), a .keras file or a Keras model; received {source!r}"
        )
    try:
        network = maker(include_top=False, weights=None if weights is None else str(weights))
    except Exception as error:  # of Keras, of the network, of the file system: each has its own kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"features {source}: expected its weights ({weights}), could not get them ({reason}): give "
            "features_weights the path of a file, or take efficientnet_lite0"
        ) from None
    return network, str(source), range_of(str(source))


def tapped(network: keras.Model, name: str, taps=None) -> keras.Model:
    """The part of a network that ends in its taps, finest first.

    Args:
        network: a functional Keras model of images.
        name: for messages.
        taps: names of layers; None finds, for each of the strides 4, 8 and 16, the last sum of a block, or
            the last layer where no sum has that stride. A network with several outputs already is taken to
            end in its taps.

    Raises:
        InputError: no such layer, none of such a stride, no images as input.
    """
    if not hasattr(network, "inputs") or len(network.inputs) != 1 or len(network.inputs[0].shape) != 4:
        raise InputError(f"features {name}: expected a functional Keras model of images, received another")
    if taps is None and len(network.outputs) > 1:
        return network
    if taps is None:
        taps = _find_taps(network, name)
    missing = [tap for tap in taps if tap not in {layer.name for layer in network.layers}]
    if missing:
        shown = ", ".join(layer.name for layer in network.layers[-4:])
        raise InputError(
            f"features {name}: expected a layer {missing[0]!r} to tap, found none: the last ones are {shown}"
        )
    return keras.Model(network.inputs, [network.get_layer(tap).output for tap in taps], name=network.name)


def _find_taps(network: keras.Model, name: str) -> list[str]:
    sides = [_PROBE if side is None else side for side in network.inputs[0].shape[1:3]]
    channels = network.inputs[0].shape[3] or 3
    every = keras.Model(network.inputs, [layer.output for layer in network.layers])
    shapes = every.compute_output_shape((1, *sides, channels))
    found: dict[int, list] = {stride: [] for stride in STRIDES}
    for layer, shape in zip(network.layers, shapes, strict=True):
        padding = isinstance(layer, keras.layers.ZeroPadding2D)
        if isinstance(shape, tuple) and len(shape) == 4 and shape[1] and not padding:
            stride = sides[0] // shape[1]
            exact = (shape[1] * stride, shape[2] * stride) == tuple(sides)
            if stride in found and exact:
                found[stride].append(layer)
    missing = [stride for stride, layers in found.items() if not layers]
    if missing:
        raise InputError(
            f"features {name}: expected layers at strides {', '.join(map(str, STRIDES))}, found none at "
            f"{', '.join(map(str, missing))}: name layers with taps, or take another network"
        )
    return [
        next((layer for layer in reversed(layers) if isinstance(layer, keras.layers.Add)), layers[-1]).name
        for layers in found.values()
    ]
