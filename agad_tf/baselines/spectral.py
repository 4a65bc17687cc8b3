"""Spectral normalisation of networks that know nothing of it: kernels are W / σ(W), and W is trained."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from agad_tf.models.updates import assign_all


class SpectralNorm:
    """Keeps the largest singular value of every kernel of some networks at 1.

    A kernel (…, in, out) is a matrix (… · in, out). Of W = σ W̄ the networks hold W̄, and σ is kept here. A
    step changes W. Dividing the kernels themselves after each step, as `keras.layers.SpectralNormalization`
    does, would forget within a few steps of Adam what was learnt before: σ would stay 1 while its steps, of
    the learning rate in every weight, do not become smaller beside it.

    Args:
        networks: built Keras networks; their kernels are normalised at once.
        make_state: (name, shape, initializer) to a variable that the model saves.

    Source: Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018, equation
    (12), algorithm 1.
    """

    def __init__(self, networks, make_state: Callable):
        variables = [variable for network in networks for variable in network.trainable_variables]
        self.kernels = [variable for variable in variables if variable.name == "kernel"]
        self._vectors = [
            make_state(f"singular_vector_{index}", (kernel.shape[-1], 1), "ones")
            for index, kernel in enumerate(self.kernels)
        ]
        self._norms = [make_state(f"spectral_norm_{index}", (), "ones") for index in range(len(self.kernels))]
        self._position = {id(kernel): index for index, kernel in enumerate(self.kernels)}
        self._normalise(range(len(self.kernels)), iterations=20)

    def step(self, gradients, variables, apply: Callable):
        """One optimizer step of W for the kernels among `variables`, of themselves for the others.

        Args:
            gradients: in the variables as they are, kernels normalised.
            variables: of the optimizer.
            apply: gradients to whatever this returns; makes the step.
        """
        gradients, chosen, raw = list(gradients), [], []
        for place, variable in enumerate(variables):
            index = self._position.get(id(variable))
            if index is None or gradients[place] is None:
                continue
            norm = tf.cast(self._norms[index], gradients[place].dtype)
            gradients[place] = gradient_in_raw(
                gradients[place], tf.convert_to_tensor(variable.value), self._vectors[index], norm
            )
            chosen.append(index)
            raw.append(tf.convert_to_tensor(variable.value) * norm)
        assign_all([self.kernels[index] for index in chosen], raw)
        result = apply(gradients)
        self._normalise(chosen)
        return result

    def _normalise(self, chosen, iterations: int = 1) -> None:
        """Makes kernels that hold W hold W̄, after so many power iterations."""
        vectors, norms, kernels = [], [], []
        for index in chosen:
            value = tf.convert_to_tensor(self.kernels[index].value)
            matrix = _matrix(value)
            right = tf.cast(self._vectors[index], matrix.dtype)
            for _ in range(iterations):
                left = tf.math.l2_normalize(tf.matmul(matrix, right))
                right = tf.math.l2_normalize(tf.matmul(matrix, left, transpose_a=True))
            norm = tf.maximum(tf.norm(tf.matmul(matrix, right)), 1e-12)
            vectors.append(right)
            norms.append(norm)
            kernels.append(value / norm)
        assign_all(
            [
                *(self._vectors[index] for index in chosen),
                *(self._norms[index] for index in chosen),
                *(self.kernels[index] for index in chosen),
            ],
            vectors + norms + kernels,
        )


def gradient_in_raw(gradient, kernel, vector, norm) -> tf.Tensor:
    """The gradient in W of a loss of W̄ = W / σ, σ = ‖W v‖: (g − ⟨g, W̄⟩ u vᵀ) / σ, u = W̄ v.

    Args:
        gradient: g, in W̄.
        kernel: W̄, of the same shape.
        vector: v, (out, 1), of length 1.
        norm: σ.
    """
    right = tf.cast(vector, kernel.dtype)
    left = tf.math.l2_normalize(tf.matmul(_matrix(kernel), right))
    outer = tf.reshape(tf.matmul(left, right, transpose_b=True), tf.shape(kernel))
    return (gradient - tf.reduce_sum(gradient * kernel) * outer) / norm


def _matrix(kernel: tf.Tensor) -> tf.Tensor:
    return tf.reshape(kernel, [-1, kernel.shape[-1]])
