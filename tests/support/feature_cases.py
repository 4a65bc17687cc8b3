"""Small networks and images for the detector on frozen features."""

import keras
import numpy as np

from agad_tf.models import FeatureDiscriminator


def small_network(channels=3, name="small"):
    """Strides 4, 8 and 16, a few channels each; weights from one seed."""
    x = images = keras.Input((None, None, channels), name="images")
    taps = []
    for depth, width in enumerate((4, 6, 8, 10)):
        x = keras.layers.Conv2D(
            width,
            3,
            2,
            padding="same",
            activation="tanh",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.4, seed=depth),
            name=f"down_{depth}",
        )(x)
        taps.append(x)
    return keras.Model(images, taps[1:], name=name)


def make(shape=(64, 64, 1), compiled=None, **settings):
    """A compiled detector on the small network."""
    keras.utils.set_random_seed(0)
    model = FeatureDiscriminator(shape, features=small_network(), units=(16, 8), **settings)
    model.compile(**(compiled or {}))
    return model


def parts(count, defects=(), shape=(64, 64, 1), seed=0):
    """Noisy grey plates uint8; those whose index is in `defects` have a bright bar."""
    rng = np.random.default_rng(seed)
    images = rng.normal(120, 15, (count, *shape))
    for index in defects:
        row, column = rng.integers(8, shape[0] - 16), rng.integers(8, shape[1] - 24)
        images[index, row : row + 8, column : column + 16] += 100
    return images.clip(0, 255).astype(np.uint8)
