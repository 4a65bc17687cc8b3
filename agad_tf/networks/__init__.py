"""Networks: plain Keras models without losses."""

from collections.abc import Callable
from typing import NamedTuple

from agad_tf import keras_backend  # noqa: F401 (checks, before Keras is loaded)
from agad_tf.networks import bigan_conv, mlp
from agad_tf.networks.blocks import RoutedNetwork
from agad_tf.networks.encoder_decoder import ConvDiscriminator, ConvEncoder, EncoderDecoder
from agad_tf.networks.patch_discriminator import PatchDiscriminator
from agad_tf.networks.unet import UNet
from agad_tf.networks.unet_plus_plus import UNetPlusPlus

BACKBONES: dict[str, type[RoutedNetwork]] = {
    "encoder_decoder": EncoderDecoder,
    "unet": UNet,
    "unet_plus_plus": UNetPlusPlus,
}
"""Generators of AGAD by name."""


class BiganBackbone(NamedTuple):
    """Networks of AA-BiGAN: E, G, what makes D and D', and the paper's latent dimensions."""

    encoder: type
    generator: type
    discriminators: Callable
    latent_dim: int


BIGAN_BACKBONES = {
    "dcgan": BiganBackbone(
        bigan_conv.DCGANEncoder, bigan_conv.DCGANGenerator, bigan_conv.dcgan_discriminators, 100
    ),
    "lenet": BiganBackbone(
        bigan_conv.LeNetEncoder, bigan_conv.LeNetGenerator, bigan_conv.lenet_discriminators, 128
    ),
    "mlp": BiganBackbone(mlp.MLPEncoder, mlp.MLPGenerator, mlp.mlp_discriminators, 16),
}
"""Networks of AA-BiGAN by name."""

__all__ = [
    "BACKBONES",
    "BIGAN_BACKBONES",
    "BiganBackbone",
    "ConvDiscriminator",
    "ConvEncoder",
    "EncoderDecoder",
    "PatchDiscriminator",
    "RoutedNetwork",
    "UNet",
    "UNetPlusPlus",
]
