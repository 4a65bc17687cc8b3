"""The baselines as a whole: registry, verbs, inputs; scikit-learn's detectors; that each learns something."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import contracts
import keras
import numpy as np
import pytest
from baseline_cases import CLASSICAL, COLOUR, GREY, KERAS, ROWS, both_kinds, make, samples, small_shape
from docstrings import documented
from sklearn.datasets import load_digits

from agad_tf import baselines
from agad_tf.baselines import BASELINES
from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import auroc

IMAGES_ALONE = {"ganomaly", "skip_ganomaly", "f_anogan", "mahalanobis", "nearest_patches", "pca"}
WITH_ANOMALIES = {"deep_sad", "classifier", "gradient_boosting", "stacked"}


def one_line(error):
    return "\n" not in str(error.value)


# -- registry ------------------------------------------------------------------------------------------------


def test_registry():
    assert tuple(BASELINES) == baselines.NAMES
    assert set(BASELINES) == {
        *("autoencoder", "deep_svdd", "deep_sad", "classifier", "ganomaly", "skip_ganomaly", "alad"),
        *(
            "f_anogan",
            "mahalanobis",
            "nearest_patches",
            "pca",
            "oc_svm",
            "oc_svm_hybrid",
            "isolation_forest",
            "neighbours",
            "gradient_boosting",
            "stacked",
        ),
    }
    for name, cls in BASELINES.items():
        assert getattr(baselines, cls.__name__) is cls
        assert cls.takes_images
        assert cls.takes_tables == (name not in IMAGES_ALONE)
        assert cls.uses_anomalies == (name in WITH_ANOMALIES)
        assert "Source: " in cls.__doc__
        assert cls.uses_anomalies == ("left out of" not in cls.__doc__.replace("\n    ", " "))
    with pytest.raises(AttributeError, match="no attribute 'autoencoders'"):
        baselines.autoencoders  # noqa: B018


def test_the_documented_table_is_what_the_classes_say():
    text = (Path(__file__).parents[2] / "docs/baselines.md").read_text("utf-8")
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    rows = {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in rows if len(cells) == 7}
    assert tuple(rows) == baselines.NAMES
    for name, (cls, images, tables, anomalies, *_) in rows.items():
        kind = BASELINES[name]
        assert cls == f"`{kind.__name__}`"
        assert (images == "yes", tables == "yes") == (kind.takes_images, kind.takes_tables)
        assert (anomalies != "left out") == kind.uses_anomalies


def test_names_load_no_tensorflow():
    code = "import agad_tf.baselines as b, json, sys; print(json.dumps([b.NAMES, sorted(sys.modules)]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    names, modules = json.loads(result.stdout)
    assert tuple(names) == baselines.NAMES
    assert not {"tensorflow", "keras", "sklearn"} & set(modules)


@pytest.mark.parametrize("name", list(BASELINES))
def test_verbs_have_the_same_arguments(name):
    """A grid of runs calls them all alike."""
    cls = BASELINES[name]
    assert {"input_shape", "seed", "crop"} <= set(inspect.signature(cls).parameters)
    fit = inspect.signature(cls.fit).parameters
    for argument in ("x", "y", "batch_size", "epochs", "min_anomalies"):
        assert argument in fit
    assert {"callbacks", "seed", "verbose"} <= set(fit) or "kwargs" in fit
    compiled = set(inspect.signature(cls.compile).parameters) - {"self", "autoencoder"}
    described = BASELINES["oc_svm"] if name == "oc_svm_hybrid" else cls
    assert compiled == set(documented(described.compile))


# -- inputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(IMAGES_ALONE))
def test_rows_are_refused_where_the_method_is_not_defined_for_them(name):
    with pytest.raises(InputError, match=r"images|image shape") as error:
        BASELINES[name](ROWS)
    assert one_line(error)


@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [
        ("autoencoder", (30, 30, 1), {}),
        ("autoencoder", (16, 16, 2), {}),
        ("autoencoder", (16, 16, 1), {"units": (4, 4, 4, 4)}),
        ("deep_svdd", ROWS, {"latent_dim": 0}),
        ("ganomaly", (20, 20, 1), {}),
        ("alad", (16, 16, 3), {"latent_dim": 5}),
        ("f_anogan", (16, 16, 1), {"backbone": "mlp"}),
        ("oc_svm", (16, 16), {}),
        ("isolation_forest", (0,), {}),
    ],
)
def test_shapes_and_sizes_that_cannot_be(name, shape, arguments):
    with pytest.raises(InputError) as error:
        BASELINES[name](shape, **arguments)
    assert one_line(error)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("autoencoder", {"learning_rate": -1.0}),
        ("autoencoder", {"learning_rate_drop": 1.5}),
        ("deep_svdd", {"pretraining_share": -0.1}),
        ("deep_sad", {"eta": -1.0}),
        ("classifier", {"clip_norm": 0.0}),
        ("ganomaly", {"encoder_weight": -1.0}),
        ("skip_ganomaly", {"latent_weight": -1.0}),
        ("alad", {"average_decay": 2.0}),
        ("f_anogan", {"critic_steps": 0}),
        ("oc_svm", {"nu": 0.0}),
        ("oc_svm", {"gamma": "auto"}),
        ("isolation_forest", {"n_estimators": 0}),
    ],
)
def test_nonsense_in_compile(name, arguments):
    shape = small_shape(name)
    model = make(name, shape) if name in KERAS else BASELINES[name](shape)
    with pytest.raises(InputError, match=next(iter(arguments))) as error:
        model.compile(**arguments)
    assert one_line(error)


def test_classifier_without_anomalies_and_anything_without_normals():
    x, y = both_kinds(ROWS)
    with pytest.raises(InputError, match="expects labelled anomalies") as error:
        make("classifier", ROWS).fit(x[y == 0], verbose=0)
    assert one_line(error)
    for name in ("autoencoder", "oc_svm"):
        model = make(name, ROWS) if name in KERAS else BASELINES[name](ROWS)
        with pytest.raises(InputError, match="expects normal samples"):
            model.fit(x[y == 1], y[y == 1], verbose=0)


def test_what_is_left_out_is_said(capsys):
    x, y = both_kinds(ROWS)
    make("autoencoder", ROWS).fit(x, y, batch_size=8, verbose=2)
    assert "leaves labelled anomalies out" in capsys.readouterr().err
    BASELINES["oc_svm"](ROWS).fit(x, y)
    assert "10 normal samples, 4 anomalies left out" in capsys.readouterr().err


# -- scikit-learn's ------------------------------------------------------------------------------------------


def test_one_class_svm_by_hand():
    """Two samples, ν = ½: α = ½ for both, and ρ = (1 + exp(−γ d²)) / 2 puts both on the surface."""
    model = BASELINES["oc_svm"]((1,))
    model.compile(nu=0.5, gamma=2.0)
    model.fit(np.array([[10.0], [12.0]]), verbose=0)  # scaled to 0 and 1
    at, between, far = np.exp(-2.0), np.exp(-0.5), np.exp(-2.0 * 9) + np.exp(-2.0 * 16)
    expected = [0.0, (1 + at) / 2 - between, (1 + at) / 2 - far / 2]
    scores = model.predict(np.array([[10.0], [11.0], [18.0]]))
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_isolation_forest_by_hand():
    """Two samples a tree: any cut parts them, one cut deep, and c(2) = 1: score 2^(−1)."""
    model = BASELINES["isolation_forest"]((1,))
    model.compile(n_estimators=10, max_samples=2)
    model.fit(np.array([[0.0], [1.0]]), verbose=0)
    assert float(model.usual_cuts) == 1
    np.testing.assert_allclose(model.predict(np.array([[0.0], [1.0]])), [0.5, 0.5], rtol=1e-6)


def test_hybrid_is_the_svm_on_codes():
    x, y = both_kinds(ROWS)
    hybrid = BASELINES["oc_svm_hybrid"](ROWS, units=(8,), latent_dim=4)
    hybrid.compile(run_eagerly=True)
    hybrid.fit(x, y, epochs=2, batch_size=8, verbose=0)
    assert int(hybrid.autoencoder.optimizer.iterations) == 2 * 2
    codes = hybrid.autoencoder.encode(x).numpy().astype(float)
    from sklearn.svm import OneClassSVM

    expected = -OneClassSVM(nu=0.1, gamma="scale").fit(codes[y == 0]).decision_function(codes)
    np.testing.assert_allclose(hybrid.predict(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"),
    # The autoencoder's own contracts cover the hybrid on rows and colour.
    [
        (name, shape)
        for name in CLASSICAL
        for shape in (GREY, ROWS, COLOUR)
        if "hybrid" not in name or shape == GREY
    ],
    ids=str,
)
def test_contracts_of_the_classical(name, shape):
    arguments = {"units": (8,), "latent_dim": 4} if name == "oc_svm_hybrid" else {}
    model = BASELINES[name](shape, **arguments)
    model.compile(**({"run_eagerly": True} if arguments else {}))
    x, y = both_kinds(shape, normals=40)
    history = model.fit(x, y, epochs=1, verbose=0)
    assert history.epoch == [0]
    contracts.check_independence(model.predict, samples(shape, 7, 1))
    if shape != ROWS:
        images = samples((21, 17, shape[-1]), 4, 2)
        contracts.check_preprocessing(model.predict, images, shape[:2], (0.0, 1.0))
    for batch_size in (3, 100):
        np.testing.assert_array_equal(model.predict(x, batch_size=batch_size), model.predict(x))


@pytest.mark.parametrize("name", ["oc_svm", "isolation_forest"])
def test_the_classical_scale_rows_and_leave_anomalies_out(name):
    x, y = both_kinds(ROWS, normals=30, anomalies=6)
    model, alone = (BASELINES[name](ROWS, seed=3) for _ in range(2))
    model.fit(x, y, verbose=0)
    alone.fit(x[y == 0] * 10 + 5, verbose=0)
    np.testing.assert_allclose(model.predict(x), alone.predict(x * 10 + 5), atol=1e-4)
    with pytest.raises(InputError, match="fit before predict"):
        BASELINES[name](ROWS).predict(x)


def test_the_classical_call_callbacks_as_for_one_epoch():
    calls = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            calls.append((epoch, self.model.predict(samples(ROWS, 2)).shape))

    BASELINES["oc_svm"](ROWS).fit(samples(ROWS, 20), epochs=7, callbacks=[Watch()], verbose=0)
    assert calls == [(0, (2,))]


# -- that each learns something ------------------------------------------------------------------------------

# Steps enough to leave chance behind, not to be good: the papers' rates are made for thousands of steps.
FAST = {
    "autoencoder": ({"learning_rate": 1e-2}, 8),
    "deep_svdd": ({"learning_rate": 1e-2}, 10),
    "deep_sad": ({"learning_rate": 1e-2}, 10),
    "classifier": ({"learning_rate": 1e-2}, 8),
    "ganomaly": ({"learning_rate": 2e-3, "average_epochs": 2.0, "reestimate_batch_norm": True}, 8),
    "skip_ganomaly": ({"learning_rate": 1e-3, "reestimate_batch_norm": True}, 4),
    "alad": ({"learning_rate": 2e-3, "average_decay": 0.9, "reestimate_batch_norm": True}, 20),
    "f_anogan": ({"learning_rate": 1e-3, "encoder_learning_rate": 1e-3}, 16),
    "oc_svm": ({}, 1),
    "oc_svm_hybrid": ({"learning_rate": 1e-2}, 8),
    "isolation_forest": ({}, 1),
    "gradient_boosting": ({"max_iter": 20}, 1),
    "stacked": ({"max_iter": 20}, 1),
}
EXPENSIVE = {"skip_ganomaly", "alad", "f_anogan"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in EXPENSIVE else n for n in FAST]
)
def test_each_tells_a_digit_from_the_others(name):
    """Zeros are normal, ten ones are labelled; the test holds the eight digits never seen as well."""
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[..., None]
    normal = images[digits.target == 0]
    x = np.concatenate([normal[:128], images[digits.target == 1][:10]])
    y = np.repeat([0, 1], [128, 10])
    test = np.concatenate([normal[128:], images[digits.target > 0][200:500]])
    labels = np.repeat([0, 1], [len(normal) - 128, 300])
    compile_with, epochs = FAST[name]
    shape = (
        (8, 8, 1) if name in (*CLASSICAL, "autoencoder", *WITH_ANOMALIES, "deep_svdd", "ganomaly") else GREY
    )
    keras.utils.set_random_seed(0)
    model = BASELINES[name](shape, seed=1)
    model.compile(**compile_with)
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    # Chance would be .5 with a standard error of √((n + m + 1) / (12 n m)) = .044: .7 is more than four away.
    assert auroc(labels, model.predict(test, verbose=0)) > 0.7
