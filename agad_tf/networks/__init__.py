"""Networks: plain Keras models without losses."""

from agad_tf.networks.blocks import RoutedNetwork
from agad_tf.networks.encoder_decoder import EncoderDecoder
from agad_tf.networks.patch_discriminator import PatchDiscriminator
from agad_tf.networks.unet import UNet
from agad_tf.networks.unet_plus_plus import UNetPlusPlus

BACKBONES: dict[str, type[RoutedNetwork]] = {
    "encoder_decoder": EncoderDecoder,
    "unet": UNet,
    "unet_plus_plus": UNetPlusPlus,
}
"""Generators of AGAD by name."""

__all__ = ["BACKBONES", "EncoderDecoder", "PatchDiscriminator", "RoutedNetwork", "UNet", "UNetPlusPlus"]
