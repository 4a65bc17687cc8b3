"""Losses and scores of the baselines against values worked out by hand."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from agad_tf.baselines import (
    ALAD,
    Autoencoder,
    Classifier,
    DeepSAD,
    DeepSVDD,
    FAnoGAN,
    GANomaly,
    SkipGANomaly,
    losses,
)
from agad_tf.baselines.base import phase_boundary, weight_decay
from agad_tf.baselines.spectral import SpectralNorm

LN2, LN4 = math.log(2), math.log(4)


def close(value, expected, rel=1e-5):
    np.testing.assert_allclose(value, expected, rtol=rel, atol=1e-7)


# -- the equations -------------------------------------------------------------------------------------------


def test_mean_squared():
    x = tf.constant([[[1.0, 2.0]], [[0.0, 0.0]]])
    other = tf.constant([[[1.0, 4.0]], [[3.0, 1.0]]])
    close(losses.mean_squared(x, other), [2.0, 5.0])  # (0 + 4) / 2, (9 + 1) / 2


def test_distances_to_a_centre():
    distance = losses.squared_distance(tf.constant([[1.0, 2.0], [0.0, -1.0]]), tf.constant([0.0, 1.0]))
    close(distance, [2.0, 4.0])
    close(losses.semi_supervised_distance(distance, tf.constant([0, 1]), eta=2.0), [2.0, 2 / (4 + 1e-6)])
    # At the centre a labelled anomaly costs as much as the authors' 10⁻⁶ lets it.
    close(losses.semi_supervised_distance(tf.constant([0.0]), tf.constant([1])), [1e6])


def test_centre_keeps_away_from_zero():
    centre = losses.away_from_zero(tf.constant([0.05, -0.05, 0.0, 0.3, -2.0]))
    close(centre, [0.1, -0.1, 0.1, 0.3, -2.0])


def test_cross_entropy():
    logit = tf.constant([0.0, math.log(3)])
    close(losses.cross_entropy(logit, 1.0), [LN2, math.log(4 / 3)])
    close(losses.cross_entropy(logit, tf.constant([1, 0])), [LN2, LN4])


def test_gradient_penalty():
    gradients = tf.constant([[[[3.0], [4.0]]], [[[0.0], [0.0]]]])
    close(losses.gradient_penalty(gradients), [16.0, 1.0])


def test_weight_decay_is_of_kernels_alone():
    kernel = keras.Variable([[1.0, 2.0], [3.0, 4.0]], name="kernel")
    bias = keras.Variable([9.0], name="bias")
    close(weight_decay(0.5, [kernel, bias]), 7.5)  # .25 · (1 + 4 + 9 + 16)
    close(weight_decay(0.5, [bias]), 0.0)


@pytest.mark.parametrize(
    ("share", "epochs", "boundary"), [(0.5, 300, 150), (0.5, 1, 0), (1.0, 5, 4), (0.0, 5, 0), (0.5, 3, 2)]
)
def test_the_second_phase_has_an_epoch(share, epochs, boundary):
    assert phase_boundary(share, epochs) == boundary


def normalised(shapes):
    """Kernels W of some shapes, copies of them, and what normalises them."""
    random = np.random.default_rng(0)
    kernels = [keras.Variable(random.normal(size=shape), name="kernel", dtype="float64") for shape in shapes]
    raw = [np.array(kernel) for kernel in kernels]
    network = SimpleNamespace(trainable_variables=[keras.Variable([1.0], name="bias"), *kernels])

    def state(name, shape, initializer):
        return keras.Variable(initializer, shape=shape, dtype="float64")

    return kernels, raw, SpectralNorm([network], state)


def largest(kernel):
    return np.linalg.svd(np.reshape(kernel, (-1, kernel.shape[-1])), compute_uv=False)[0]


def test_kernels_are_divided_by_their_largest_singular_value():
    kernels, raw, spectral = normalised([(4, 4, 3, 8), (6, 5)])
    for kernel, w, norm in zip(kernels, raw, spectral._norms, strict=True):
        assert float(norm) == pytest.approx(largest(w), rel=1e-2)  # 20 power iterations, from below
        close(kernel, w / float(norm), rel=1e-6)


def test_a_step_changes_what_was_divided():
    """W − ∂L/∂W of L = Σ g W / σ(W), differentiated through σ, and normalised again."""
    kernels, _, spectral = normalised([(6, 5)])
    spectral._normalise([0], iterations=200)
    w = np.array(kernels[0]) * float(spectral._norms[0])
    gradient = 0.1 * np.random.default_rng(1).normal(size=(6, 5))
    with tf.GradientTape() as tape:
        variable = tf.Variable(w)
        loss = tf.reduce_sum(gradient * variable) / tf.linalg.svd(variable, compute_uv=False)[0]
    expected = w - tape.gradient(loss, variable)
    seen = []

    def apply(gradients):
        seen.extend(gradients)
        kernels[0].assign(kernels[0] - gradients[0])
        return "norm"

    bias = keras.Variable([1.0])
    assert spectral.step([tf.constant(gradient), None], [kernels[0], bias], apply) == "norm"
    assert seen[1] is None
    close(np.array(kernels[0]) * float(spectral._norms[0]), expected, rel=1e-6)
    # The power iterations catch up while nothing more is learnt, and W stays.
    for _ in range(100):
        spectral.step([tf.zeros((6, 5), tf.float64)], [kernels[0]], lambda gradients: None)
    close(np.array(kernels[0]) * float(spectral._norms[0]), expected, rel=1e-6)
    assert largest(np.array(kernels[0])) == pytest.approx(1, abs=1e-4)


# -- losses and scores of models -----------------------------------------------------------------------------


def linear(cls, weights, **arguments):
    """A detector of rows whose encoder is one matrix; the scaling is still the identity."""
    model = cls((2,), units=(), latent_dim=len(weights[0]), **arguments)
    for encoder in (model.encoder, model.scoring_encoder):
        encoder.code.kernel.assign(weights)
    return model


def test_deep_svdd_and_deep_sad():
    x, y = tf.constant([[3.0, 2.0], [1.0, 3.0]]), tf.constant([0, 1])
    for cls, expected in ((DeepSVDD, (5.0 + 4.0) / 2), (DeepSAD, (5.0 + 1 / 4) / 2)):
        model = linear(cls, [[1.0, 0.0], [0.0, 1.0]])
        model.compile()
        model.centre.assign([1.0, 1.0])
        close(model(x), [5.0, 4.0])
        close(model.objective(x, y), expected, rel=1e-5)
        # The centre of two codes, none of its coordinates near 0.
        model.set_centre(np.array([[2.0, 0.3], [4.0, -0.3]], np.float32))
        close(model.centre, [3.0, 0.1])


def test_autoencoder():
    model = linear(Autoencoder, [[1.0], [0.0]])
    for decoder in (model.decoder, model.scoring_decoder):
        decoder.code.kernel.assign([[0.0, math.log(3)]])
    # x = (1, .25): code 1, x̂ = (sigmoid 0, sigmoid log 3) = (.5, .75)
    x = tf.constant([[1.0, 0.25], [0.0, 0.5]])
    close(model(x), [(0.25 + 0.25) / 2, (0.25 + 0) / 2])
    model.compile()
    close(model.objective(x, None), (0.25 + 0.125) / 2)


def test_classifier():
    model = linear(Classifier, [[2.0], [0.0]])
    for head in (model.head, model.scoring_head):
        head.dense.kernel.assign([[1.0]])
        head.dense.bias.assign([-1.0])
    x = tf.constant([[0.5, 9.0], [1.0, 9.0]])
    close(model(x), [0.0, 1.0])
    model.compile()
    close(model.objective(x, tf.constant([0, 1])), (LN2 + math.log(1 + math.exp(-1))) / 2)


def test_ganomaly_score():
    generator = SimpleNamespace(
        encode=lambda x, training: x[:, :1, :1, :], decode=lambda z, training: tf.repeat(2 * z, 2, axis=1)
    )
    stub = SimpleNamespace(
        scoring_generator=generator, scoring_encoder=lambda x, training: x[:, 1:, :, :] + [1.0, 0.0]
    )
    x = tf.constant([[[[3.0, 1.0]], [[7.0, 7.0]]]])  # z = (3, 1), x̂ = (6, 2) twice, ẑ = (7, 2)
    close(GANomaly.raw_score(stub, "latent", x), [(16 + 1) / 2])


def test_skip_ganomaly_score():
    stub = SimpleNamespace(
        scoring_discriminator=lambda x, training: (None, 3.0 * x),
        reconstruction_share=SkipGANomaly.reconstruction_share,
    )
    x = tf.zeros((2, 1, 1, 1))
    # R = 4, L = 36
    close(SkipGANomaly._part(stub, "weighted", x, x + 2.0, False), [0.9 * 4 + 0.1 * 36] * 2)


def test_alad_losses_and_score():
    real, fake = tf.constant([0.0, 0.0]), tf.constant([math.log(3)] * 2)
    judged = {"xz": (real, fake), "xx": (fake, real), "zz": (real, real)}
    expected = {"xz": LN2 + LN4, "xx": math.log(4 / 3) + LN2, "zz": 2 * LN2}
    for name, value in ALAD._discriminator_terms(judged).items():
        close(value, expected[name])
    expected = {"xz": LN2 + math.log(4 / 3), "xx": LN2, "zz": LN2}
    for name, value in ALAD._generator_terms(judged).items():
        close(value, expected[name])

    stub = SimpleNamespace(
        scoring_reconstruction_discriminator=SimpleNamespace(
            features=lambda pair, training: pair[0] * [1.0, 2.0] - pair[1]
        ),
        scoring_generator=lambda z, training: z + 1.0,
        scoring_encoder=lambda x, training: 2 * x,
    )
    # x̂ = 2 x + 1 = (3, 5): features (0, 2) and (-2, -1)
    close(ALAD.raw_score(stub, "features", tf.constant([[1.0, 2.0]])), [2 + 3])


def critic_of(weights):
    """D(x) = w · x, its features the pixels doubled."""
    return lambda x, training=False: (tf.reduce_sum(x * weights, axis=[1, 2, 3]), 2 * x)


def test_f_anogan_losses():
    weights = np.array([3.0, 4.0], np.float32).reshape(1, 2, 1, 1)
    stub = SimpleNamespace(
        generator=lambda z, training: tf.ones((2, 2, 1, 1)),
        critic=critic_of(weights),
        _noise=lambda x, number: None,
        settings={"penalty_weight": 10.0},
        seed=0,
        average_steps=tf.constant(0.0),
    )
    stub._judge = lambda x: FAnoGAN._judge(stub, x)
    x = tf.constant([[[[1.0]], [[0.0]]], [[[0.0]], [[0.5]]]])
    loss, penalty = FAnoGAN._critic_loss(stub, x, 0)
    close(penalty, 16.0)  # the gradient is w everywhere, ‖w‖ = 5
    close(loss, 7.0 - (3.0 + 2.0) / 2 + 160.0)

    image, features = FAnoGAN._errors(stub, x, None, stub.generator, stub.critic)
    close(image, [(0 + 1) / 2, (1 + 0.25) / 2])
    close(features, 4 * image)
    stub.compiled, stub.settings = True, {"feature_weight": 0.5}
    stub.scoring_encoder = lambda x, training: x
    stub.scoring_generator, stub.scoring_critic = stub.generator, stub.critic
    stub._errors = lambda *arguments: FAnoGAN._errors(stub, *arguments)
    close(FAnoGAN.raw_score(stub, "residual", x), 3 * image)
