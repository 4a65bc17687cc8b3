"""Networks of the one-class baselines: LeNets and perceptrons without bias (Deep SVDD, Deep SAD).

A bias in any layer would let Deep SVDD map everything to its centre (its Proposition 2). Batch norms have
neither offset nor scale for the same reason.
"""

from keras import layers

from agad_tf.errors import InputError
from agad_tf.layers import RoutedBatchNormalization
from agad_tf.networks.blocks import ConvBlock, RoutedNetwork, check_multiple

_NORM = {"epsilon": 1e-4, "center": False, "scale": False}
_SLOPE = 0.01  # of the LeakyReLU in the authors' code; the paper prints .1

# Filters and code length by channels, those of the papers' MNIST and CIFAR-10 networks.
LENETS = {1: ((8, 4), 32), 3: ((32, 64, 128), 128)}


def perceptron_units(features: int) -> tuple[tuple[int, ...], int]:
    """Hidden units and code length for a table: the six of Deep SAD's Table 7 by their number of columns."""
    if features > 100:
        return (128, 64), 32  # arrhythmia
    return (32, 16), 8 if features > 8 else 4  # thyroid, with 6 columns, has 4


class LeNetEncoder(RoutedNetwork):
    """φ of images: 5×5 convolutions, batch norm, LeakyReLU and 2×2 maxima; a dense layer. No bias anywhere.

    Args:
        input_shape: (height, width, channels), sides multiples of 2 to the number of filters.
        filters: of each convolution.
        latent_dim: length of the code.

    Raises:
        InputError: another image shape.
    """

    def __init__(self, input_shape, filters, latent_dim: int, **kwargs):
        super().__init__(**kwargs)
        check_multiple(input_shape, 2 ** len(filters), "the LeNet encoder")
        policy = self.dtype_policy
        self._stages = []
        for level, width in enumerate(filters):
            convolution = layers.Conv2D(width, 5, padding="same", use_bias=False, dtype=policy)
            leaky = layers.LeakyReLU(_SLOPE, dtype=policy)
            setattr(self, f"block_{level}", ConvBlock(convolution, leaky, (0,), _NORM, dtype=policy))
            self._stages.append(f"block_{level}")
        self.pool = layers.MaxPooling2D(2, dtype=policy)
        self.flat = layers.Flatten(dtype=policy)
        self.code = layers.Dense(latent_dim, use_bias=False, dtype=policy)
        self._finish(input_shape)

    def call(self, x, route=None, training=False):
        """Codes (batch, latent_dim) of images in [0, 1]."""
        for name in self._stages:
            x = self.pool(getattr(self, name)(x, route=route, training=training))
        return self.code(self.flat(x))


class LeNetDecoder(RoutedNetwork):
    """The mirror image: the code as a grid, 5×5 transposed convolutions with nearest ×2 between; sigmoid.

    Args:
        input_shape: of the images.
        filters: those of the encoder.
        latent_dim: length of the code; a multiple of 16, for the grid is (height / 8, width / 8) at 32×32.
    """

    def __init__(self, input_shape, filters, latent_dim: int, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        height, width, channels = input_shape
        # The papers' grid is 4×4 of a 28×28 or 32×32 image, whatever the number of filters.
        doublings = min(3, _halvings(height), _halvings(width))
        if len(filters) > doublings:
            raise InputError(
                f"filters expects at most {doublings} numbers for images of {height}x{width}, "
                f"received {tuple(filters)}: leave out the last"
            )
        rows, columns = height >> doublings, width >> doublings
        self.grid = _Grid((rows, columns, -1), latent_dim, dtype=policy, name="grid")
        self.leaky = layers.LeakyReLU(_SLOPE, dtype=policy)
        self.wider = layers.UpSampling2D(2, dtype=policy)
        self._bare = doublings - len(filters)  # doublings before the first convolution
        self._stages = []
        plain = {"kernel_size": 5, "padding": "same", "use_bias": False, "dtype": policy}
        for level, size in enumerate(reversed(tuple(filters))):
            convolution = layers.Conv2DTranspose(size, **plain)
            leaky = layers.LeakyReLU(_SLOPE, dtype=policy)
            setattr(self, f"block_{level}", ConvBlock(convolution, leaky, (0,), _NORM, dtype=policy))
            self._stages.append(f"block_{level}")
        full = "float64" if self.variable_dtype == "float64" else "float32"
        sigmoid = layers.Activation("sigmoid", dtype=full)
        self.image = ConvBlock(layers.Conv2DTranspose(channels, **plain), sigmoid, dtype=policy)
        self._finish((latent_dim,))

    def call(self, x, route=None, training=False):
        """Images in [0, 1] of codes (batch, latent_dim)."""
        x = self.leaky(self.grid(x))
        for _ in range(self._bare):
            x = self.wider(x)
        for name in self._stages:
            x = self.wider(getattr(self, name)(x, route=route, training=training))
        return self.image(x)


class _Grid(layers.Layer):
    """A code as a grid: of the papers' 4×4 where the code fills one, else through a dense layer."""

    def __init__(self, shape, latent_dim: int, **kwargs):
        super().__init__(**kwargs)
        rows, columns, _ = shape
        policy = self.dtype_policy
        self.dense = None
        if latent_dim % (rows * columns):
            depth = max(1, latent_dim // 16)
            self.dense = layers.Dense(rows * columns * depth, use_bias=False, dtype=policy)
        self.reshape = layers.Reshape(shape, dtype=policy)

    def call(self, code):
        return self.reshape(code if self.dense is None else self.dense(code))


class PerceptronEncoder(RoutedNetwork):
    """φ of rows: dense layers, batch norm, LeakyReLU; no bias anywhere.

    Args:
        input_shape: (features,).
        units: of the hidden layers.
        latent_dim: length of the code.
    """

    activation: str | None = None

    def __init__(self, input_shape, units, latent_dim: int, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self._stages = []
        for level, width in enumerate(units):
            setattr(self, f"dense_{level}", layers.Dense(width, use_bias=False, dtype=policy))
            setattr(self, f"norm_{level}", RoutedBatchNormalization((0,), dtype=policy, **_NORM))
            self._stages.append(level)
        self.leaky = layers.LeakyReLU(_SLOPE, dtype=policy)
        full = "float64" if self.variable_dtype == "float64" else "float32"
        # The last activation in full precision: its rounding would be reconstruction error.
        dtype = policy if self.activation is None else full
        self.code = layers.Dense(latent_dim, activation=self.activation, use_bias=False, dtype=dtype)
        self._finish(input_shape)

    def call(self, x, route=None, training=False):
        """Codes (batch, latent_dim) of scaled rows."""
        for level in self._stages:
            x = getattr(self, f"dense_{level}")(x)
            x = self.leaky(getattr(self, f"norm_{level}")(x, route=route, training=training))
        return self.code(x)


class PerceptronDecoder(PerceptronEncoder):
    """The mirror image: codes to scaled rows (batch, features); sigmoid.

    Args:
        input_shape: (features,) of the rows.
        units: of the encoder's hidden layers.
        latent_dim: length of the code.
    """

    activation = "sigmoid"

    def __init__(self, input_shape, units, latent_dim: int, **kwargs):
        super().__init__((latent_dim,), tuple(reversed(tuple(units))), input_shape[0], **kwargs)


def one_class_networks(sample_shape, units, latent_dim: int | None) -> tuple:
    """(encoder class, decoder class, their arguments) for images or rows; None takes the papers' sizes."""
    if len(sample_shape) == 1:
        paper_units, paper_dim = perceptron_units(sample_shape[0])
        classes = PerceptronEncoder, PerceptronDecoder
    else:
        paper_units, paper_dim = LENETS.get(sample_shape[-1], LENETS[3])
        classes = LeNetEncoder, LeNetDecoder
    units = tuple(paper_units if units is None else units)
    latent_dim = paper_dim if latent_dim is None else int(latent_dim)
    if latent_dim < 1 or min(units, default=1) < 1:
        raise InputError(
            f"units and latent_dim expect numbers of at least 1, received {units} and {latent_dim}"
        )
    return (*classes, (sample_shape, units, latent_dim))


def _halvings(side: int) -> int:
    """How often a side can be halved."""
    return (side & -side).bit_length() - 1
