"""Small discriminators of patches, several side by side: the mean of their logits is steadier than one."""

import keras

from agad_tf.errors import InputError


def patch_members(channels: int, members: int, units, dtype=None, name: str | None = None) -> keras.Model:
    """Features (batch, rows, columns, channels) to logits (batch, rows, columns, members).

    Each member is a chain of 1×1 convolutions with LeakyReLU of slope .2: it sees one patch at a time.

    Args:
        channels: of the features.
        members: how many discriminators.
        units: channels of the hidden layers of each.
        dtype, name: of the model.

    Raises:
        InputError: no members, units below 1.
    """
    if members < 1 or min(units, default=1) < 1:
        raise InputError(f"expected members and units of at least 1, received {members} and {list(units)}")
    features = keras.Input((None, None, channels), name="features")
    logits = []
    for member in range(members):
        x = features
        for depth, count in enumerate(units):
            x = keras.layers.Conv2D(count, 1, dtype=dtype, name=f"member_{member}_hidden_{depth}")(x)
            # Not the layer LeakyReLU: TensorFlow fails to fuse its gradient, and says so in the log.
            x = keras.ops.maximum(x, 0.2 * x)
        logits.append(keras.layers.Conv2D(1, 1, dtype="float32", name=f"member_{member}_logit")(x))
    joined = logits[0] if members == 1 else keras.layers.Concatenate(dtype="float32", name="logits")(logits)
    return keras.Model(features, joined, name=name)
