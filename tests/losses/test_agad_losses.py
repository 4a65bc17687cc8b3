"""Equations (5) to (11) and the discriminator's loss against values worked out by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
from replicated import shared

from agad_tf.errors import InputError
from agad_tf.losses.agad import (
    LATENT_DISTANCES,
    LossWeights,
    adversarial_loss,
    anomaly_loss,
    anomaly_terms,
    contextual_adversarial_loss,
    contextual_loss,
    discriminator_loss,
    latent_loss,
    normality_loss,
    reciprocal,
    total_loss,
)
from agad_tf.losses.reduction import group_means
from agad_tf.replicas import replica_count

WEIGHTS = LossWeights()


def close(value, expected, rtol=1e-6):
    np.testing.assert_allclose(value, expected, rtol=rtol)


def test_weights_of_the_paper():
    assert (WEIGHTS.adversarial, WEIGHTS.contextual) == (1, 50)
    assert (WEIGHTS.contextual_adversarial, WEIGHTS.latent) == (15, 5)


def test_adversarial_loss_equation_5():
    # sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2: −ln 3/4 and −ln 1/2 against 1; −ln 1/4 and −ln 1/2 against 0.
    logit = tf.constant([math.log(3), 0.0])
    close(adversarial_loss(logit, 1.0), [math.log(4 / 3), math.log(2)])
    close(adversarial_loss(logit, 0.0), [math.log(4), math.log(2)])
    # Far out it is the logit itself, where log(sigmoid) would be infinite.
    close(adversarial_loss(tf.constant([-1000.0]), 1.0), [1000])
    close(adversarial_loss(tf.constant([1000.0]), 0.0), [1000])


def test_contextual_loss_equation_6():
    # First image: (|1 − 0| + |−1 − ½|) / 2 = 1.25; second: (¼ + ¾) / 2 = 0.5.
    x = tf.reshape(tf.constant([[1.0, -1.0], [0.5, 0.0]]), (2, 1, 2, 1))
    reconstruction = tf.reshape(tf.constant([[0.0, 0.5], [0.25, 0.75]]), (2, 1, 2, 1))
    close(contextual_loss(x, reconstruction), [1.25, 0.5])


def test_latent_loss_equation_7():
    # z − ẑ = (1, 2, 2, 0): squares 1 + 4 + 4 + 0 = 9, of four features.
    z = tf.reshape(tf.constant([[2.0, 3.0, 1.0, 5.0]]), (1, 2, 1, 2))
    z_hat = tf.reshape(tf.constant([[1.0, 1.0, -1.0, 5.0]]), (1, 2, 1, 2))
    close(latent_loss(z, z_hat), [9 / 4])
    expected = {"mean_squared": 9 / 4, "sum_squared": 9, "root_mean_squared": 3 / 2, "norm": 3}
    assert set(expected) == set(LATENT_DISTANCES)
    for distance, value in expected.items():
        close(latent_loss(z, z_hat, distance), [value])


@pytest.mark.parametrize("distance", LATENT_DISTANCES)
def test_gradient_at_distance_zero_is_finite(distance):
    z = tf.constant([[1.0, -2.0], [0.0, 3.0]])
    for difference in (0.0, 1e-12, 1e-3):
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = tf.reduce_sum(latent_loss(z, tf.stop_gradient(z + difference), distance))
        assert np.isfinite(tape.gradient(loss, z)).all()


def test_contextual_adversarial_loss_equation_8_and_its_two_gradients():
    # −(|½ − 0| + |−½ − ½|) / 2 = −¾; the gradients are ∓ sign / 2.
    reconstruction, second = tf.constant([[0.5, -0.5]]), tf.constant([[0.0, 0.5]])
    with tf.GradientTape() as tape:
        tape.watch([reconstruction, second])
        loss = contextual_adversarial_loss(reconstruction, second)
    close(loss, [-0.75])
    by_reconstruction, by_second = tape.gradient(loss, [reconstruction, second])
    close(by_reconstruction, [[-0.5, 0.5]])
    close(by_second, [[0.5, -0.5]])


def test_normality_loss_equation_9():
    # 1 · 0.5 + 50 · 0.1 + 15 · (−0.2) + 5 · 0.3 = 0.5 + 5 − 3 + 1.5 = 4
    close(normality_loss(0.5, 0.1, -0.2, 0.3, WEIGHTS), 4)
    # 2 · 0.5 + 3 · 0.1 + 4 · (−0.2) + 6 · 0.3 = 1 + 0.3 − 0.8 + 1.8 = 2.3
    close(normality_loss(0.5, 0.1, -0.2, 0.3, LossWeights(2, 3, 4, 6)), 2.3)


def test_anomaly_loss_equation_10():
    # 1 / 0.5 + 15 / 0.3 + 5 / 0.25 = 2 + 50 + 20 = 72
    close(anomaly_loss(0.5, -0.3, 0.25, WEIGHTS, epsilon=0), 72)
    # 1 / (0.5 + 0.5) + 15 / (0.3 + 0.5) + 5 / (0.25 + 0.5) = 1 + 18.75 + 6 ⅔
    terms = anomaly_terms(0.5, -0.3, 0.25, WEIGHTS, epsilon=0.5)
    close([terms[name] for name in ("adversarial", "contextual_adversarial", "latent")], [1, 18.75, 20 / 3])
    close(anomaly_loss(0.5, -0.3, 0.25, WEIGHTS, epsilon=0.5), 26 + 5 / 12)


def test_total_loss_equation_11():
    # Each group once: 4 + 72. By share of 3 normals and 1 anomaly: 4 · ¾ + 72 · ¼ = 3 + 18.
    n, a = tf.constant(4.0), tf.constant(72.0)
    close(total_loss(n, a, 3.0, 1.0), 76)
    close(total_loss(n, a, 3.0, 1.0, "share"), 21)
    close(total_loss(n, a, 3.0, 1.0, "equal"), 76)


def test_discriminator_loss_of_algorithm_1():
    # 0.2 + 0.3 + 0.7; by share of 3 normals and 1 anomaly: 0.5 · ¾ + 0.7 · ¼ = 0.375 + 0.175.
    terms = tf.constant(0.2), tf.constant(0.3), tf.constant(0.7)
    close(discriminator_loss(*terms, 3.0, 1.0), 1.2)
    close(discriminator_loss(*terms, 3.0, 1.0, "share"), 0.55)


@pytest.mark.parametrize("weighting", ["equal", "share"])
def test_group_without_members_contributes_nothing(weighting):
    n, a = tf.constant(4.0), tf.constant(72.0)
    close(total_loss(n, a, 3.0, 0.0, weighting), 4)
    close(total_loss(n, a, 0.0, 3.0, weighting), 72)
    close(total_loss(n, a, 0.0, 0.0, weighting), 0)
    terms = tf.constant(0.2), tf.constant(0.3), tf.constant(0.7)
    close(discriminator_loss(*terms, 3.0, 0.0, weighting), 0.5)
    close(discriminator_loss(*terms, 0.0, 3.0, weighting), 0.7)


@pytest.mark.parametrize("members", [[1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
def test_group_means_of_any_mix(members):
    values = np.array([[1.0, 2.0, 4.0, 8.0], [-1.0, 0.0, 3.0, 5.0]])
    chosen = np.array(members, bool)
    named = {"first": tf.constant(values[0]), "second": tf.constant(values[1])}
    means, count = group_means(named, tf.constant(members, tf.float64))
    assert float(count) == sum(members)
    for name, row in zip(named, values, strict=True):
        close(means[name], row[chosen].mean() if chosen.any() else 0)


def test_group_means_over_replicas_are_those_of_the_global_batch(strategy):
    # Replica 0 has one member (5), replica 1 three (1, 2, 4): mean 12 / 4 = 3, not (5 + 7/3) / 2.
    values, members = [[5.0, 9.0, 9.0], [1.0, 2.0, 4.0]], [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]

    def mean(values, member):
        with tf.GradientTape() as tape:
            tape.watch(values)
            means, count = group_means({"value": values}, member)
            loss = tf.square(means["value"]) / replica_count()  # not linear: 3² = 9
        return means["value"], count, tape.gradient(loss, values)

    means, counts, gradients = map(
        strategy.experimental_local_results,
        strategy.run(mean, (shared(strategy, values), shared(strategy, members))),
    )
    close(means, [3, 3])
    close(counts, [4, 4])
    # d mean² / d value = 2 · 3 / 4 for a member.
    close(np.array(gradients), 1.5 * np.array(members))


@pytest.mark.parametrize("epsilon", [1e-6, 1e-2, 0.1])
def test_gradient_of_the_reciprocal_is_bounded_by_a_quarter_of_its_epsilon(epsilon):
    # d/ds 1 / (l + ε) with l = ln(1 + e^s) is −σ(s) / (l + ε)²; it is largest about l = ε, where
    # σ(s) = 1 − e^(−ε) ≤ ε, so at most ε / (2ε)² = 1 / (4ε).
    worst = math.log(math.expm1(epsilon))
    logits = tf.constant([worst, *np.linspace(-60, 30, 2001)], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        terms = reciprocal(adversarial_loss(logits, 0.0), epsilon)
    gradient = tape.gradient(terms, logits).numpy()
    close(gradient[0], math.expm1(-epsilon) / (4 * epsilon**2), rtol=1e-6)
    assert np.abs(gradient).max() <= 1 / (4 * epsilon)
    assert -gradient[0] > 0.9 / (4 * epsilon)


def test_literal_reciprocal_blows_up_exponentially():
    logits = tf.constant([-10.0, -20.0, -30.0], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        terms = reciprocal(adversarial_loss(logits, 0.0), 0.0)
    close(tape.gradient(terms, logits), -np.exp(-logits.numpy()), rtol=1e-4)
    assert np.isinf(reciprocal(adversarial_loss(tf.constant([-200.0]), 0.0), 0.0))


def test_arithmetic_is_float32_or_better():
    small = tf.constant([[1.0, 1.0078125]], tf.bfloat16)
    for loss in (contextual_loss(small, 0 * small), latent_loss(small, 0 * small)):
        assert loss.dtype == tf.float32
    close(contextual_loss(small, 0 * small), [1.00390625], rtol=0)  # bfloat16 has no such number
    assert adversarial_loss(tf.constant([1.0], tf.float16), 1.0).dtype == tf.float32
    assert reciprocal(tf.constant(1e-6, tf.float16), 0.0) > 0
    assert (
        contextual_loss(tf.constant([[1.0]], tf.float64), tf.constant([[0.0]], tf.float64)).dtype
        == tf.float64
    )


def test_unknown_names():
    z = tf.zeros((1, 2))
    with pytest.raises(InputError, match="mean_squared, sum_squared, root_mean_squared, norm; received 'l2'"):
        latent_loss(z, z, "l2")
    with pytest.raises(InputError, match="'equal' or 'share'; received 'half'"):
        total_loss(tf.constant(1.0), tf.constant(1.0), 1.0, 1.0, "half")
