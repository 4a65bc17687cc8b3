"""The papers' networks in PyTorch, for comparison: channels first, padding as a PyTorch user writes it.

Modules are registered in the order of our layers, so that `load` can copy our weights into them one by one.
A convolution 3×3 of stride 2 pads one row before the image here and one after it in Keras: with flipped
kernels and flipped images both compute the same (`load(..., flip=True)`).
"""

import itertools

import numpy as np
import torch
from torch import nn

NORM = {"momentum": 0.1, "eps": 1e-5}


def block(convolution, activation=None, norm: int | None = None) -> nn.Sequential:
    """Convolution, batch norm of `norm` channels if any, activation."""
    parts = [convolution, nn.BatchNorm2d(norm, **NORM) if norm else None, activation]
    return nn.Sequential(*(part for part in parts if part is not None))


def down(inputs: int, outputs: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 4, 2, 1, bias=bias)


def up(inputs: int, outputs: int, bias: bool) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=bias)


# -- AGAD ----------------------------------------------------------------------------------------------------


def encoder_decoder(channels: int = 1, latent: int = 100) -> nn.Sequential:
    """The naive generator of AGAD for 32×32 images (Table 7)."""

    def leaky():
        return nn.LeakyReLU(0.2)

    return nn.Sequential(
        block(down(channels, 64, False), leaky()),
        block(down(64, 128, False), leaky(), 128),
        block(down(128, 256, False), leaky(), 256),
        block(nn.Conv2d(256, latent, 4, bias=False)),
        block(nn.ConvTranspose2d(latent, 256, 4, bias=False), nn.ReLU(), 256),
        block(up(256, 128, False), nn.ReLU(), 128),
        block(up(128, 64, False), nn.ReLU(), 64),
        block(up(64, channels, False), nn.Tanh()),
    )


class DoubleConv(nn.Sequential):
    """Twice 3×3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int):
        def one(channels):
            return block(nn.Conv2d(channels, outputs, 3, 1, 1, bias=False), nn.ReLU(), outputs)

        super().__init__(one(inputs), one(outputs))


FILTERS = (32, 64, 128, 256, 512)


class UNet(nn.Module):
    """UNet with 32 to 512 filters and 2×2 transposed convolutions."""

    def __init__(self, channels: int = 1):
        super().__init__()
        sizes = (channels, *FILTERS)
        self.down = nn.ModuleList(DoubleConv(*pair) for pair in zip(sizes, FILTERS, strict=False))
        self.widen_and_up = nn.ModuleList(
            nn.ModuleList([nn.ConvTranspose2d(2 * size, size, 2, 2), DoubleConv(2 * size, size)])
            for size in FILTERS[:-1]
        )
        self.image = nn.Sequential(nn.Conv2d(FILTERS[0], channels, 1), nn.Tanh())
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        skips = []
        for level, convolutions in enumerate(self.down):
            x = convolutions(self.pool(x) if level else x)
            skips.append(x)
        for level in reversed(range(len(FILTERS) - 1)):
            widen, convolutions = self.widen_and_up[level]
            x = convolutions(torch.cat([skips[level], widen(x)], 1))
        return self.image(x)


class UNetPlusPlus(nn.Module):
    """Nested UNet: node (i, j) sees every (i, <j) and the widened (i+1, j−1)."""

    def __init__(self, channels: int = 1):
        super().__init__()
        self.parts = nn.ModuleDict()
        for level, filters in enumerate(FILTERS):
            for column in range(len(FILTERS) - level):
                below = FILTERS[level - 1] if level else channels
                inputs = (column + 1) * filters if column else below
                self.parts[f"node_{level}_{column}"] = DoubleConv(inputs, filters)
                if column:
                    widen = nn.ConvTranspose2d(FILTERS[level + 1], filters, 2, 2)
                    self.parts[f"widen_{level}_{column}"] = widen
        self.image = nn.Sequential(nn.Conv2d(FILTERS[0], channels, 1), nn.Tanh())
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        nodes = [[] for _ in FILTERS]
        for level in range(len(FILTERS)):
            x = self.pool(nodes[level - 1][0]) if level else x
            nodes[level].append(self.parts[f"node_{level}_0"](x))
        for column in range(1, len(FILTERS)):
            for level in range(len(FILTERS) - column):
                widened = self.parts[f"widen_{level}_{column}"](nodes[level + 1][column - 1])
                x = torch.cat([*nodes[level], widened], 1)
                nodes[level].append(self.parts[f"node_{level}_{column}"](x))
        return self.image(nodes[0][-1])


class PatchDiscriminator(nn.Module):
    """AGAD's D: an image to its logit and its features."""

    def __init__(self, channels: int = 1):
        super().__init__()
        self.features = nn.Sequential(
            block(down(channels, 64, False), nn.LeakyReLU(0.2), 64),
            block(down(64, 128, False), nn.LeakyReLU(0.2), 128),
        )
        self.classifier = nn.Conv2d(128, 1, 3, 1, 1)

    def forward(self, x):
        features = self.features(x)
        return self.classifier(features).mean((1, 2, 3)), features


GENERATORS = {"encoder_decoder": encoder_decoder, "unet": UNet, "unet_plus_plus": UNetPlusPlus}

# -- AA-BiGAN, networks for MNIST ----------------------------------------------------------------------------


def encoder(latent: int = 100) -> nn.Sequential:
    """E: 32×32×1 to a code."""
    sizes = (1, 32, 64, 128, 256, 512)
    levels = [
        block(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.1), outputs if level else None)
        for level, (inputs, outputs) in enumerate(itertools.pairwise(sizes))
    ]
    return nn.Sequential(*levels, nn.Flatten(), nn.Linear(512, latent))


def generator(latent: int = 100) -> nn.Sequential:
    """G: a code to 32×32×1."""
    return nn.Sequential(
        nn.Unflatten(1, (latent, 1, 1)),
        block(nn.ConvTranspose2d(latent, 128, 4), nn.ReLU(), 128),
        block(up(128, 64, True), nn.ReLU(), 64),
        block(up(64, 32, True), nn.ReLU(), 32),
        block(up(32, 1, True), nn.Sigmoid()),
    )


def trunk() -> nn.Sequential:
    """Features (batch, 256) of an image for D and D'."""
    levels = [
        block(down(64 if level else 1, 64, True), nn.LeakyReLU(0.1), 64 if level else None)
        for level in range(4)
    ]
    return nn.Sequential(*levels, nn.Flatten())


class JointDiscriminator(nn.Module):
    """D(x, z)."""

    def __init__(self, latent: int = 100):
        super().__init__()
        self.trunk = trunk()
        self.code = nn.Sequential(nn.Linear(latent, 512), nn.LeakyReLU(0.1))
        self.head = nn.Sequential(nn.Linear(256 + 512, 1024), nn.LeakyReLU(0.1), nn.Linear(1024, 1))

    def forward(self, x, z):
        return self.head(torch.cat([self.trunk(x), self.code(z)], 1))[:, 0]


class ReconstructionDiscriminator(nn.Module):
    """D'(x, x̂)."""

    def __init__(self):
        super().__init__()
        self.first = trunk()
        self.second = trunk()
        self.head = nn.Sequential(nn.Linear(512, 1024), nn.LeakyReLU(0.1), nn.Linear(1024, 1))

    def forward(self, x, other):
        return self.judge(self.first(x), self.second(other))

    def judge(self, first, second):
        """From the features of both."""
        return self.head(torch.cat([first, second], 1))[:, 0]


# -- weights -------------------------------------------------------------------------------------------------


def load(network: nn.Module, arrays: list[np.ndarray], flip: bool = False, grid: int = 2) -> None:
    """Copies the trainable variables of one of our networks, in their order.

    Args:
        network: the same network here.
        arrays: kernels (height, width, in, out), dense kernels (in, out), biases, batch-norm scales and
            offsets (heads, channels) with one head.
        flip: flip the 3×3 kernels in both directions.
        grid: side of the features that are flattened before a dense layer.

    Raises:
        ValueError: another number of arrays, or another shape: not the same network.
    """
    parameters = [
        (module, parameter) for module in network.modules() for parameter in module.parameters(recurse=False)
    ]
    if len(parameters) != len(arrays):
        raise ValueError(f"expected {len(parameters)} arrays, received {len(arrays)}: not the same network")
    with torch.no_grad():
        for (module, parameter), array in zip(parameters, arrays, strict=True):
            value = _here(module, array, flip, grid) if array.ndim > 1 else array
            if tuple(value.shape) != tuple(parameter.shape):
                raise ValueError(
                    f"expected {tuple(parameter.shape)}, received {array.shape}: not the same network"
                )
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def _here(module: nn.Module, array: np.ndarray, flip: bool, grid: int) -> np.ndarray:
    if isinstance(module, nn.BatchNorm2d):
        return array.reshape(-1)
    if isinstance(module, nn.Linear):
        return _channels_first(array, grid).T
    if flip and array.shape[:2] == (3, 3):
        array = array[::-1, ::-1]
    return array.transpose(3, 2, 0, 1)


def _channels_first(kernel: np.ndarray, grid: int) -> np.ndarray:
    """Rows of the kernel after flattened features: (height, width, channel) to (channel, height, width)."""
    blocks = {256 + 512: 1, 512: 2}.get(kernel.shape[0], 0) if kernel.shape[1] == 1024 else 0
    kernel = kernel.copy()
    for index in range(blocks):
        rows = kernel[256 * index : 256 * (index + 1)].reshape(grid, grid, -1, kernel.shape[1])
        kernel[256 * index : 256 * (index + 1)] = rows.transpose(2, 0, 1, 3).reshape(256, -1)
    return kernel


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
