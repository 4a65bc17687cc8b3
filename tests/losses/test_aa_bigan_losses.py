"""Equations (15), (16), (33) and (34) against values worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf
from replicated import shared

from agad_tf.losses.aa_bigan import (
    Targets,
    discriminator_loss,
    generator_loss,
    least_squares,
    reconstruction_discriminator_loss,
    reconstruction_generator_loss,
)
from agad_tf.replicas import replica_count

PAPER = Targets()
OTHER = Targets(normal=3.0, generated=-1.0, generator=2.0)

# D of two normals, two anomalies, and of three generated pairs.
REAL = [1.5, 0.25, 0.5, -1.0]
GENERATED = [0.5, -0.5, 1.0]
NORMAL, ANOMALY = [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]


def tensors(*lists, dtype=tf.float32):
    return [tf.constant(values, dtype) for values in lists]


def close(value, expected, rtol=1e-6):
    np.testing.assert_allclose(value, expected, rtol=rtol)


def close_terms(terms, **expected):
    assert set(terms) == set(expected)
    for name, value in expected.items():
        close(terms[name], value)


def test_targets_of_theorem_3():
    assert (PAPER.normal, PAPER.generated, PAPER.generator, PAPER.anomaly) == (1, 0, 0.75, 0.5)
    assert OTHER.anomaly == 1  # (3 − 1) / 2
    assert Targets(anomaly=0.0).anomaly == 0  # given, not derived


def test_least_squares():
    close(least_squares(tf.constant([1.0, -2.0, 0.75]), 0.75), [0.0625, 7.5625, 0])


def test_discriminator_loss_equation_15():
    loss, terms = discriminator_loss(*tensors(REAL, GENERATED, NORMAL, ANOMALY), PAPER)
    # (.5² + (−.5)²) / 2; ((−.25)² + (−1.5)²) / 2; (.5² + (−.5)² + 1²) / 3
    close_terms(terms, normal=0.25, anomaly=1.15625, generated=0.5)
    close(loss, 1.90625)
    # Against 3, 1 and −1: ((−1.5)² + (−2.5)²) / 2; ((−.75)² + (−2)²) / 2; (1.5² + .5² + 2²) / 3
    loss, terms = discriminator_loss(*tensors(REAL, GENERATED, NORMAL, ANOMALY), OTHER)
    close_terms(terms, normal=4.25, anomaly=2.28125, generated=6.5 / 3)
    close(loss, 6.53125 + 6.5 / 3)


def test_generator_loss_equation_16():
    loss, terms = generator_loss(*tensors(REAL, GENERATED, NORMAL, ANOMALY), PAPER)
    # All against ¾: (.75² + .25²) / 2; (.5² + 1.75²) / 2; (.25² + 1.25² + .25²) / 3
    close_terms(terms, normal=0.3125, anomaly=1.65625, generated=0.5625)
    close(loss, 2.53125)
    # All against 2: (.5² + 1.5²) / 2; (1.75² + 3²) / 2; (1.5² + 2.5² + 1²) / 3
    loss, terms = generator_loss(*tensors(REAL, GENERATED, NORMAL, ANOMALY), OTHER)
    close_terms(terms, normal=1.25, anomaly=6.03125, generated=9.5 / 3)


def test_equations_9_and_10_are_a_case_of_them():
    targets = Targets(normal=1.0, generated=0.0, generator=0.5, anomaly=0.0)
    _, terms = discriminator_loss(*tensors(REAL, GENERATED, NORMAL, ANOMALY), targets)
    close_terms(terms, normal=0.25, anomaly=(0.0625 + 1) / 2, generated=0.5)
    _, terms = generator_loss(*tensors(REAL, GENERATED, NORMAL, ANOMALY), targets)
    close_terms(terms, normal=0.5, anomaly=(0.0625 + 2.25) / 2, generated=(0 + 1 + 0.25) / 3)


def test_reconstruction_terms_of_equation_33():
    same, rebuilt = [2.0, 1.0, 0.0, 0.5], [0.5, 100.0, -1.0, -100.0]
    loss, terms = reconstruction_discriminator_loss(*tensors(same, rebuilt, NORMAL, ANOMALY), PAPER)
    # (1² + (−1)²) / 2; (.5² + 0²) / 2; (.5² + (−1)²) / 2: the anomalies' ±100 are in no term
    close_terms(terms, same_normal=1, same_anomaly=0.125, reconstruction=0.625)
    close(loss, 1.75)
    loss, terms = reconstruction_discriminator_loss(*tensors(same, rebuilt, NORMAL, ANOMALY), OTHER)
    # Against 3, 1 and −1: (1² + 3²) / 2; (0² + .5²) / 2; (1.5² + 0²) / 2
    close_terms(terms, same_normal=5, same_anomaly=0.125, reconstruction=1.125)


def test_reconstruction_term_of_equation_34():
    rebuilt = [0.5, 100.0, -1.0, -100.0]
    close(reconstruction_generator_loss(*tensors(rebuilt, NORMAL), PAPER), (0.0625 + 3.0625) / 2)
    close(reconstruction_generator_loss(*tensors(rebuilt, NORMAL), OTHER), (2.25 + 9) / 2)


def all_losses(real, generated, normal, anomaly, targets=PAPER):
    """Each loss as (name, scalar), with D' given the numbers of D."""
    return {
        "discriminator": discriminator_loss(real, generated, normal, anomaly, targets)[0],
        "generator": generator_loss(real, generated, normal, anomaly, targets)[0],
        "same": reconstruction_discriminator_loss(real, real, normal, anomaly, targets)[0],
        "rebuilt": reconstruction_generator_loss(real, normal, targets),
    }


def test_group_without_members_has_no_term_and_no_gradient():
    real, generated, normal = tensors(REAL, GENERATED, [1.0] * 4)
    none = tf.zeros(4)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([real, generated])
        losses = all_losses(real, generated, normal, none)
        _, terms = discriminator_loss(real, generated, normal, none, PAPER)
    assert float(terms["anomaly"]) == 0
    # ((.5)² + (−.75)² + (−.5)² + (−2)²) / 4 + ½
    close(losses["discriminator"], (0.25 + 0.5625 + 0.25 + 4) / 4 + 0.5)
    for name, loss in losses.items():
        gradient = tape.gradient(loss, real)
        assert np.isfinite(gradient).all(), name
    close(tape.gradient(losses["discriminator"], real), 2 * (np.array(REAL) - 1) / 4)
    close(tape.gradient(losses["generator"], generated), 2 * (np.array(GENERATED) - 0.75) / 3)
    empty = all_losses(real, generated, none, none)
    close(empty["discriminator"], 0.5)
    assert float(empty["same"]) == float(empty["rebuilt"]) == 0


def test_gradient_stays_within_the_group():
    real, generated, normal, anomaly = tensors(REAL, GENERATED, NORMAL, ANOMALY)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([real, generated])
        loss, terms = discriminator_loss(real, generated, normal, anomaly, PAPER)
    close(tape.gradient(terms["anomaly"], real), [0, -0.25, 0, -1.5])  # 2 (D − ½) / 2
    close(tape.gradient(loss, real), [0.5, -0.25, -0.5, -1.5])
    assert tape.gradient(terms["normal"], generated) is None


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_arithmetic_is_float32_or_better(dtype):
    # 300² is beyond float16; the square of 1 + 2⁻⁷ is beyond the digits of bfloat16.
    real, generated = tensors([300.0, 1.0], [1.0078125], dtype=dtype)
    normal, anomaly = tensors([1.0, 0.0], [0.0, 1.0])
    for name, loss in all_losses(real, generated, normal, anomaly).items():
        assert loss.dtype == tf.float32, name
        assert np.isfinite(loss), name
    _, terms = discriminator_loss(real, generated, normal, anomaly, PAPER)
    close(terms["normal"], (float(real[0]) - 1) ** 2)
    close(terms["generated"], float(generated[0]) ** 2, rtol=0)
    doubles = all_losses(*tensors(REAL, GENERATED, NORMAL, ANOMALY, dtype=tf.float64))
    assert {loss.dtype for loss in doubles.values()} == {tf.float64}


def test_means_over_replicas_are_those_of_the_global_batch(strategy):
    # Replica 0 has one normal and no anomaly, replica 1 two anomalies and no normal.
    real = [[1.5, 9.0], [0.25, -1.0]]
    normal, anomaly = [[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]
    generated = [[0.5], [-0.5]]

    def both(real, generated, normal, anomaly):
        with tf.GradientTape() as tape:
            tape.watch(real)
            loss, terms = discriminator_loss(real, generated, normal, anomaly, PAPER)
            share = loss / replica_count()
        return terms, tape.gradient(share, real)

    terms, gradients = strategy.run(
        both, tuple(shared(strategy, parts) for parts in (real, generated, normal, anomaly))
    )
    for name, expected in {"normal": 0.25, "anomaly": 1.15625, "generated": 0.25}.items():
        close(strategy.experimental_local_results(terms[name]), [expected] * 2)
    # 2 (D − t) over the members of the group in the global batch: one normal, two anomalies.
    close(strategy.experimental_local_results(gradients), [[1.0, 0], [-0.25, -1.5]])
