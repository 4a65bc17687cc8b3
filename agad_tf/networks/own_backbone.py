"""A backbone of one's own: a Keras model, or a registered class of them, as the generator."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import warnings
from collections.abc import Sequence

import keras

from agad_tf.errors import InputError
from agad_tf.keras_private import flat_layers
from agad_tf.layers import RoutedBatchNormalization
from agad_tf.networks.blocks import RoutedNetwork

EXAMPLE = "a network from images (height, width, channels) to images of the same shape in [-1, 1]"


class OwnBackbone(RoutedNetwork):
    """A user's network as a generator: checked, called with a route where it takes one.

    Args:
        input_shape: (height, width, channels).
        network: from (batch, *input_shape) to the same.
        **kwargs: of `keras.Model`; the output is cast to float32 (float64 under that policy).

    Raises:
        InputError: a network that takes or gives another shape, or has nothing to train.
    """

    def __init__(self, input_shape, network: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.autocast = False  # the network's own layers say what they compute in
        self.network = network
        self.full = "float64" if self.variable_dtype == "float64" else "float32"
        self.takes = takes_route(network), "training" in inspect.signature(network.call).parameters
        image = keras.Input(input_shape, dtype=self.full)
        taken = getattr(network, "input_shape", None) if _is_graph(network) else None
        if taken is not None and not _fits(taken, input_shape):
            raise InputError(
                f"backbone expects a model that takes images {tuple(input_shape)}, received one that takes "
                f"{_shown(taken)}: build it for this input_shape, or give AGAD that one"
            )
        # Called by itself first: Keras makes several lines of what is raised inside of a call.
        output = self._tried(image)
        if isinstance(output, tuple | list | dict):
            raise InputError(
                f"backbone expects a model with one output, received {len(output)}: return the image alone"
            )
        if tuple(getattr(output, "shape", ())[1:]) != tuple(input_shape):
            raise InputError(
                f"backbone expects a model whose output has the shape of its input, {tuple(input_shape)}, "
                f"received {_shown(getattr(output, 'shape', None))}: end with as many channels, at full size"
            )
        self(image)
        if not network.trainable_variables:
            raise InputError(
                "backbone expects a model with trainable weights, received one without: set trainable = True"
            )

    def call(self, x, route=None, training=False):
        return keras.ops.cast(self._through(x, route, training), self.full)

    def _through(self, x, route=None, training=False):
        routed, trains = self.takes
        more = ({"route": route} if routed else {}) | ({"training": training} if trains else {})
        return self.network(x, **more)

    def _tried(self, image):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what fails; told below
                return self._through(image)
        except Exception as error:  # Keras, TensorFlow and the user's code have errors of their own
            raise InputError(
                f"backbone expects {EXAMPLE}, received one that fails on {tuple(image.shape[1:])}: "
                f"{_reason(error)}"
            ) from error

    def batch_norms(self):
        """Those with routes and those of Keras: both are re-estimated for scoring."""
        kinds = (RoutedBatchNormalization, keras.layers.BatchNormalization)
        return [layer for layer in flat_layers(self) if isinstance(layer, kinds)]


def takes_route(network) -> bool:
    """Whether a network, or a class of them, has a `call` with an argument `route`."""
    return "route" in inspect.signature(network.call).parameters


def described(backbone, named: Sequence[str]) -> str | dict:
    """What a file keeps of a backbone: a name, the registered name of a class, or the config of a model.

    Args:
        backbone: one of these; a config as a file has it stays as it is.
        named: the names there are.

    Raises:
        InputError: none of these, a class that is not registered, a model that cannot be made again.
    """
    if isinstance(backbone, str):
        if backbone in named or keras.saving.get_registered_object(backbone) is not None:
            return backbone
        advice = (
            ": import the module that registers this class (agad-tf --import MODULE)"
            if ">" in backbone
            else ""
        )
        raise InputError(
            f"backbone expects one of {', '.join(named)}, a Keras model or a registered class, received "
            f"{backbone!r}{advice}"
        )
    if isinstance(backbone, dict):
        return backbone
    if inspect.isclass(backbone) and issubclass(backbone, keras.Model):
        return _registered(backbone)
    if not isinstance(backbone, keras.Model):
        raise InputError(
            f"backbone expects a name, a Keras model or a registered class, received {backbone!r:.80}: give "
            f"{EXAMPLE}"
        )
    for layer in flat_layers(backbone):
        if not type(layer).__module__.startswith("keras."):
            _registered(type(layer))
    try:
        # As a file has it: plain values.
        return json.loads(json.dumps(keras.saving.serialize_keras_object(backbone)))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _cannot_be_made_again(type(backbone).__name__, error) from error


def make_own_backbone(
    backbone, description: str | dict, input_shape: Sequence[int], route_heads, strategy: str, **kwargs
) -> OwnBackbone:
    """A new network of a description, with the weights of `backbone` where that is a model.

    Args:
        backbone: what the user gave, for its weights; or None.
        description: see `described`.
        input_shape: (height, width, channels).
        route_heads: see `RoutedBatchNormalization`; None for no batch norm.
        strategy: name of the route heads, for messages.
        **kwargs: dtype and name.
    """
    if isinstance(description, str):
        network = _of_class(description, tuple(input_shape), route_heads, kwargs["dtype"])
    else:
        network = _of_config(description, keras.dtype_policies.get(kwargs["dtype"]))
    asked = "batch_norm=False" if route_heads is None else f"bn_strategy={strategy!r}"
    takes_heads = "route_heads" in inspect.signature(type(network).__init__).parameters
    if route_heads is None and not takes_heads:
        raise InputError(
            f"{asked} expects a backbone class whose constructor takes route_heads, received "
            f"{type(network).__name__}: leave batch norm out of the network itself"
        )
    if route_heads is not None and set(route_heads) != {0} and not takes_route(network):
        raise InputError(
            f"{asked} expects a backbone whose call takes route, received {type(network).__name__}: take "
            "bn_strategy='shared', or add the argument"
        )
    made = OwnBackbone(input_shape, network, **kwargs)
    if isinstance(backbone, keras.Model) and backbone.built:
        try:
            network.set_weights(backbone.get_weights())
        except ValueError as error:
            raise _cannot_be_made_again(type(network).__name__, error) from error
    return made


def _of_class(name: str, input_shape, route_heads, dtype) -> keras.Model:
    cls = keras.saving.get_registered_object(name)
    if not inspect.isclass(cls) or not issubclass(cls, keras.Model):
        raise InputError(
            f"backbone expects a class of keras.Model, received {name!r}: subclass keras.Model, with "
            "input_shape as its first argument"
        )
    parameters = inspect.signature(cls.__init__).parameters
    more = {"route_heads": route_heads} if "route_heads" in parameters else {}
    with _policy(dtype):  # the layers that it makes compute in it
        try:
            return cls(input_shape, **more)
        except InputError:
            raise
        except Exception as error:  # the user's code
            raise InputError(
                f"backbone expects a class that is made by {cls.__name__}({input_shape}), received an error: "
                f"{_reason(error)}"
            ) from error


def _of_config(config: dict, policy) -> keras.Model:
    if policy.compute_dtype == policy.variable_dtype:
        config = _in_full_precision(config)
    try:
        return keras.saving.deserialize_keras_object(config)
    except Exception as error:  # Keras has an error of its own for each kind of what is missing
        raise _cannot_be_made_again(config.get("class_name"), error) from error


def _in_full_precision(config):
    """The config of a model whose layers compute in float32 where they computed in half precision."""
    half = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")
    if isinstance(config, list):
        return [_in_full_precision(entry) for entry in config]
    if not isinstance(config, dict):
        return config
    config = {key: _in_full_precision(value) for key, value in config.items()}
    policy = config.get("dtype")
    if policy in half:
        config["dtype"] = "float32"
    elif isinstance(policy, dict) and policy.get("config", {}).get("name") in half:
        config["dtype"] = policy | {"config": {"name": "float32"}}
    return config


def _registered(cls: type) -> str:
    """The name that a class is registered by, which files keep."""
    name = keras.saving.get_registered_name(cls)
    if name == cls.__name__ and keras.saving.get_registered_object(name) is not cls:
        raise InputError(
            f"backbone expects registered classes, received {name}, which no file could name: put "
            "@keras.saving.register_keras_serializable() above it"
        )
    return name


def _cannot_be_made_again(name, error: Exception) -> InputError:
    return InputError(
        f"backbone expects a model that Keras can make again from its config, received {name} "
        f"({_reason(error)}): import the module that registers its classes, give them get_config, and leave "
        "Lambda layers out"
    )


def _reason(error: Exception) -> str:
    """The line of an error that says what was wrong; Keras puts others before it."""
    lines = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception enc", "Could not automat"))]
    return (told[0] if told else type(error).__name__)[:200].rstrip(".")


def _is_graph(network) -> bool:
    """Whether a model knows its input: a functional or sequential one."""
    return isinstance(network, keras.Sequential) or bool(getattr(network, "inputs", None))


def _fits(taken, input_shape) -> bool:
    """Whether (None, height, width, channels) of a model, sides None for any, is that of its images."""
    if not isinstance(taken, tuple | list) or len(taken) != 1 + len(input_shape):
        return False
    return all(side in (None, wanted) for side, wanted in zip(taken[1:], input_shape, strict=True))


def _shown(shape) -> str:
    if isinstance(shape, tuple | list) and shape and isinstance(shape[0], int | None):
        return str(tuple(shape[1:]))
    return str(shape)


@contextlib.contextmanager
def _policy(dtype):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
