"""Steps with clipped gradients, averages of weights, re-initialisation; on any number of replicas."""

import math

import keras
import tensorflow as tf

from agad_tf.keras_private import follows_schedule, rate_variable
from agad_tf.replicas import sum_over_replicas


def assign_all(variables, values) -> None:
    """Assigns `values` to Keras `variables`; in replica context every replica must hold the same values."""
    variables = [_tf_variable(variable) for variable in variables]
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(tf.cast(value, variable.dtype))
        return

    def update(strategy, *values):
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(variable, lambda v, x: v.assign(tf.cast(x, v.dtype)), args=(value,))

    context.merge_call(update, args=tuple(values))


def apply_clipped(optimizer, gradients, variables, clip_norm: float | None) -> tf.Tensor:
    """One optimizer step, its gradient clipped to a global norm over all variables and replicas.

    Args:
        optimizer: a built Keras optimizer, possibly a LossScaleOptimizer around one.
        gradients: of a loss scaled by `optimizer.scale_loss` and divided by the number of replicas.
        variables: the variables of `gradients`.
        clip_norm: largest global norm; None for no clipping.

    Returns:
        The global norm of the unscaled gradient before clipping, scalar; 0 where a LossScaleOptimizer left
        out the step.
    """
    present = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    summed = [sum_over_replicas(tf.convert_to_tensor(g)) for g, _ in present]
    norm = tf.linalg.global_norm(summed)
    scale = getattr(optimizer, "dynamic_scale", None)
    if scale is not None:
        norm = norm / tf.cast(scale, norm.dtype)
    if clip_norm is not None:
        factor = tf.minimum(clip_norm / tf.maximum(norm, 1e-12), 1.0)
        present = [(g * tf.cast(factor, g.dtype), v) for g, v in present]
    optimizer.apply([g for g, _ in present], [v for _, v in present])
    if scale is not None:
        # A gradient that float16 cannot hold is no divergence: the optimizer lowers its scale and waits.
        norm = tf.where(tf.math.is_finite(norm), norm, tf.zeros_like(norm))
    return norm


def averaged(average, raw, decay) -> list[tf.Tensor]:
    """decay · average + (1 − decay) · raw, variable by variable."""
    values = []
    for mean, current in zip(average, raw, strict=True):
        share = tf.cast(decay, mean.dtype)
        values.append(share * mean + (1.0 - share) * tf.cast(current, mean.dtype))  # exactly raw at decay 0
    return values


def fresh_values(variables, seed: tf.Tensor) -> list[tf.Tensor]:
    """New initial values for a network's variables: Glorot uniform kernels, batch norms and biases at rest.

    Args:
        variables: Keras variables of a network.
        seed: int tensor of shape (2,); the same seed gives the same values on every replica.
    """
    values = []
    for index, variable in enumerate(variables):
        shape, dtype = tuple(variable.shape), variable.dtype
        if variable.name == "kernel":
            receptive = math.prod(shape[:-2])
            limit = math.sqrt(6.0 / (receptive * (shape[-2] + shape[-1])))
            draw = tf.random.stateless_uniform(
                shape, seed + tf.constant([0, index]), -limit, limit, dtype=dtype
            )
            values.append(draw)
        elif variable.name in ("gamma", "moving_variance"):
            values.append(tf.ones(shape, dtype))
        else:
            values.append(tf.zeros(shape, dtype))
    return values


def reinitialise_below(threshold: float, loss, network, optimizer, seed: tf.Tensor) -> tf.Tensor:
    """Gives a network new weights, and its optimizer a new beginning, where its loss is too low.

    The optimizer's moments become 0 and so does its step count, or Adam would not correct the new moments for
    their short past and take steps many times too long; under a learning-rate schedule, which the count
    drives, it stays.

    Args:
        threshold: the loss under which it happens.
        loss: scalar.
        network, optimizer: Keras network, and what trains it.
        seed: as in `fresh_values`.

    Returns:
        Scalar float32, 1 where it happened, else 0.
    """
    reset = loss < threshold
    memory = optimizer_moments(optimizer)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not follows_schedule(inner):
        memory.append(inner.iterations)
    fresh = fresh_values(network.variables, seed) + [tf.zeros_like(variable) for variable in memory]
    targets = network.variables + memory
    # A select, not a branch: variables cannot be assigned inside a branch on several replicas.
    values = [tf.where(reset, new, tf.cast(old, new.dtype)) for new, old in zip(fresh, targets, strict=True)]
    assign_all(targets, values)
    return tf.cast(reset, tf.float32)


def optimizer_moments(optimizer) -> list:
    """The variables with an optimizer's memory of past gradients, without iteration and learning rate."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    keep = {id(inner.iterations), id(rate_variable(inner))}
    return [variable for variable in inner.variables if id(variable) not in keep]


def training_variables(model) -> list:
    """All variables that training changes: networks, statistics, averages, random seeds, all optimizers."""
    optimizers = [getattr(model, name) for name in model.trained_by()]
    return [*model.variables, *(variable for optimizer in optimizers for variable in optimizer.variables)]


def _tf_variable(variable):
    return variable.value if isinstance(variable, keras.Variable) else variable
