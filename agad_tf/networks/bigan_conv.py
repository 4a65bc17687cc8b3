"""The convolutional networks of AA-BiGAN: "dcgan" for grey images, "lenet" for colour (paper, section E)."""

from keras import layers

from agad_tf.errors import InputError
from agad_tf.layers import BN_STRATEGIES, DownConv, HalveConv, UpConv
from agad_tf.networks.blocks import ConvBlock, RoutedNetwork, check_image_shape
from agad_tf.networks.discriminators import GROUP_HEADS, JointDiscriminator, ReconstructionDiscriminator

SIDES = (16, 32, 64, 128, 256)

# G sees the codes of normals and noise together; codes of anomalies pass beside, for no loss reads them.
_GENERATOR_HEADS = BN_STRATEGIES["freeze"]
_LENET_NORM = {"epsilon": 1e-4, "center": False, "scale": False}


class _Chain(RoutedNetwork):
    """Blocks one after the other; subclasses name theirs with `_add`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # The names, not the layers, go into the list: tf.train.Checkpoint skips a layer inside a list.
        self._stages: list[str] = []

    def _add(self, name, layer) -> None:
        setattr(self, name, layer)
        self._stages.append(name)

    def call(self, x, route=None, training=False):
        for name in self._stages:
            layer = getattr(self, name)
            x = layer(x, route=route, training=training) if isinstance(layer, ConvBlock) else layer(x)
        return x


class DCGANEncoder(_Chain):
    """E: 3×3 convolutions of stride 2 with 32, 64, ... (at most 512) filters down to 1×1, then a dense layer.

    1,621,220 trainable parameters for (32, 32, 1) and 100 latent dimensions.

    Args:
        input_shape: (side, side, channels), side a power of 2 from 16 to 256; each doubling adds a level.
        latent_dim: length of the code.

    Raises:
        InputError: another image shape.
    """

    def __init__(self, input_shape, latent_dim: int = 100, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        for level in range(_check_side(input_shape, "dcgan").bit_length() - 1):
            convolution = HalveConv(min(32 * 2**level, 512), dtype=policy)
            norm = (0,) if level else None
            leaky = layers.LeakyReLU(0.1, dtype=policy)
            self._add(f"down_{level}", ConvBlock(convolution, leaky, norm, dtype=policy))
        self._add("flat", layers.Flatten(dtype=policy))
        self._add("code", layers.Dense(latent_dim, dtype=policy))
        self._finish(input_shape)


class DCGANGenerator(_Chain):
    """G: transposed convolutions 4×4 from 1×1 up, with 128, 64, 32 filters before the image; sigmoid."""

    def __init__(self, input_shape, latent_dim: int = 100, **kwargs):
        super().__init__(**kwargs)
        policy, side = self.dtype_policy, _check_side(input_shape, "dcgan")
        filters = [min(32 * 2**level, 512) for level in range(side.bit_length() - 3)]  # 32, 64, 128 at 32×32
        relu = layers.ReLU(dtype=policy)
        self._add("grid", layers.Reshape((1, 1, latent_dim), dtype=policy))
        first = layers.Conv2DTranspose(filters[-1], 4, dtype=policy)
        self._add("expand", ConvBlock(first, relu, _GENERATOR_HEADS, dtype=policy))
        for level in reversed(range(len(filters) - 1)):
            convolution = UpConv(filters[level], dtype=policy)
            self._add(f"up_{level}", ConvBlock(convolution, relu, _GENERATOR_HEADS, dtype=policy))
        convolution = UpConv(input_shape[2], dtype=policy)
        self._add("image", ConvBlock(convolution, _sigmoid(self), dtype=policy))
        self._finish((latent_dim,))


class DCGANTrunk(layers.Layer):
    """Features of an image for a discriminator: 4×4 convolutions of 64 filters and stride 2 down to 2×2."""

    def __init__(self, side: int, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self._stages = []
        for level in range(side.bit_length() - 2):
            leaky = layers.LeakyReLU(0.1, dtype=policy)
            heads = GROUP_HEADS if level else None
            convolution = DownConv(64, dtype=policy)
            block = ConvBlock(convolution, leaky, heads, {"share_affine": True}, dtype=policy)
            setattr(self, f"down_{level}", block)
            self._stages.append(f"down_{level}")
        self.flat = layers.Flatten(dtype=policy)

    def call(self, x, route=None, training=False):
        for name in self._stages:
            x = getattr(self, name)(x, route=route, training=training)
        return self.flat(x)


class LeNetTrunk(layers.Layer):
    """5×5 convolutions of 32, 64, 128 filters, batch norm without affine and 2×2 maxima down to 4×4."""

    def __init__(self, side: int, route_heads, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self._stages = []
        for level in range(side.bit_length() - 3):
            convolution = layers.Conv2D(min(32 * 2**level, 256), 5, 1, "same", use_bias=False, dtype=policy)
            leaky = layers.LeakyReLU(0.01, dtype=policy)
            block = ConvBlock(convolution, leaky, route_heads, _LENET_NORM, dtype=policy)
            setattr(self, f"block_{level}", block)
            self._stages.append(f"block_{level}")
        self.pool = layers.MaxPooling2D(2, dtype=policy)
        self.flat = layers.Flatten(dtype=policy)

    def call(self, x, route=None, training=False):
        for name in self._stages:
            x = self.pool(getattr(self, name)(x, route=route, training=training))
        return self.flat(x)


class LeNetEncoder(RoutedNetwork):
    """E: the trunk and a dense layer without bias.

    Args:
        input_shape: (side, side, channels), side a power of 2 from 16 to 256; each doubling adds a level.
        latent_dim: length of the code.

    Raises:
        InputError: another image shape.
    """

    def __init__(self, input_shape, latent_dim: int = 128, **kwargs):
        super().__init__(**kwargs)
        self.trunk = LeNetTrunk(_check_side(input_shape, "lenet"), (0,), dtype=self.dtype_policy)
        self.code = layers.Dense(latent_dim, use_bias=False, dtype=self.dtype_policy)
        self._finish(input_shape)

    def call(self, x, route=None, training=False):
        return self.code(self.trunk(x, route=route, training=training))


class LeNetGenerator(_Chain):
    """G: the code as a 4×4 grid, 5×5 transposed convolutions of stride 1, nearest ×2 between; sigmoid."""

    def __init__(self, input_shape, latent_dim: int = 128, **kwargs):
        super().__init__(**kwargs)
        policy, side = self.dtype_policy, _check_side(input_shape, "lenet")
        if latent_dim % 16:
            raise InputError(
                f"latent_dim expects a multiple of 16 for lenet, whose generator starts from a 4x4 grid; "
                f"received {latent_dim}"
            )
        filters = [min(32 * 2**level, 256) for level in range(side.bit_length() - 3)]  # 32, 64, 128 at 32×32
        leaky = layers.LeakyReLU(0.01, dtype=policy)
        plain = {"kernel_size": 5, "padding": "same", "use_bias": False, "dtype": policy}
        self._add("grid", layers.Reshape((4, 4, latent_dim // 16), dtype=policy))
        self._add("leaky", leaky)
        for level in reversed(range(len(filters))):
            convolution = layers.Conv2DTranspose(filters[level], **plain)
            block = ConvBlock(convolution, leaky, _GENERATOR_HEADS, _LENET_NORM, dtype=policy)
            self._add(f"block_{level}", block)
            self._add(f"wider_{level}", layers.UpSampling2D(2, dtype=policy))
        convolution = layers.Conv2DTranspose(input_shape[2], **plain)
        self._add("image", ConvBlock(convolution, _sigmoid(self), dtype=policy))
        self._finish((latent_dim,))


def dcgan_discriminators(input_shape, latent_dim: int, policy) -> tuple:
    """D and D' of the MNIST networks; 1,961,346 trainable parameters for (32, 32, 1) and 100."""
    side = _check_side(input_shape, "dcgan")
    trunks = [DCGANTrunk(side, dtype=policy, name=name) for name in ("trunk", "first_trunk", "second_trunk")]
    return (
        JointDiscriminator(trunks[0], input_shape, latent_dim, dtype=policy, name="discriminator"),
        ReconstructionDiscriminator(
            *trunks[1:], input_shape, dtype=policy, name="reconstruction_discriminator"
        ),
    )


def lenet_discriminators(input_shape, latent_dim: int, policy) -> tuple:
    """D and D' of the CIFAR-10 networks."""
    side = _check_side(input_shape, "lenet")
    names = ("trunk", "first_trunk", "second_trunk")
    trunks = [LeNetTrunk(side, GROUP_HEADS, dtype=policy, name=name) for name in names]
    return (
        JointDiscriminator(
            trunks[0],
            input_shape,
            latent_dim,
            code_slope=0.2,
            joint_slope=0.2,
            dtype=policy,
            name="discriminator",
        ),
        ReconstructionDiscriminator(
            *trunks[1:], input_shape, slope=0.2, dtype=policy, name="reconstruction_discriminator"
        ),
    )


def _sigmoid(network):
    # In full precision: its rounding near 0 and 1 would be reconstruction error of saturated pixels.
    return layers.Activation("sigmoid", dtype="float64" if network.variable_dtype == "float64" else "float32")


def _check_side(input_shape, network: str) -> int:
    height, width, _ = check_image_shape(tuple(input_shape), network)
    if height != width or height not in SIDES:
        raise InputError(
            f"{network} expects square images of side {', '.join(map(str, SIDES))}, received "
            f"{height}x{width}: give such an image size; uint8 images are resized to it"
        )
    return height
