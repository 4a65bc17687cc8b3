"""Trees as arrays: scikit-learn's own scores, saving, exports, the command line, what is refused."""

import json

import contracts
import keras
import numpy as np
import pytest
import tensorflow as tf
from baseline_cases import GREY, samples
from click.testing import CliRunner
from sklearn import ensemble
from sklearn.neighbors import NearestNeighbors

from agad_tf.baselines import BASELINES, TREES
from agad_tf.baselines.trees import average_cuts
from agad_tf.cli import main
from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.export.agreement import FLOAT32, agreement, rounded_size
from agad_tf.export.onnx import export_onnx
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.tflite import export_tflite
from agad_tf.scoring.detectors import open_detector


def rows(seed=0, normals=200, anomalies=20):
    """Normals in a ball; half of the anomalies far out, half hidden in one column's sign."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(normals + anomalies, 6))
    x[normals : normals + anomalies // 2] *= 4
    x[:normals, 3] = np.abs(x[:normals, 3])
    x[normals + anomalies // 2 :, 3] = -np.abs(x[normals + anomalies // 2 :, 3]) - 0.1
    return x, np.repeat([0, 1], [normals, anomalies])


def few(name):
    return {"n_estimators": 20} if name == "isolation_forest" else {"max_iter": 10}


def make(name, shape=(6,), **settings):
    model = BASELINES[name](shape, seed=1)
    model.compile(**(few(name) | settings))
    return model


@pytest.fixture(scope="module", params=TREES)
def fitted(request):
    model = make(request.param)
    model.fit(*rows(), verbose=0)
    return model, rows(seed=3, normals=30, anomalies=10)[0]


def scaled(model, x):
    return np.asarray(model.preprocess(tf.constant(x)))


def test_scores_are_those_of_scikit_learn(fitted):
    model, x = fitted
    train, labels = rows()
    train, new = scaled(model, train), scaled(model, x)
    scores = model.predict(x, verbose=0)
    if model.score_names == ("isolation",):
        own = ensemble.IsolationForest(n_estimators=20, random_state=1).fit(train[labels == 0])
        np.testing.assert_allclose(scores, -own.score_samples(new), rtol=1e-5)
        return
    if model.trees_of_score == ("trees",):
        own = ensemble.HistGradientBoostingClassifier(
            max_iter=10, class_weight="balanced", early_stopping=False, random_state=1
        )
        own.fit(train.astype(np.float64), labels)
        np.testing.assert_allclose(scores, own.decision_function(new.astype(np.float64)), rtol=1e-4)
        return
    columns = np.asarray(model.columns(tf.constant(new)))
    forest = ensemble.IsolationForest(random_state=1).fit(train[labels == 0])
    np.testing.assert_allclose(columns[:, -2], -forest.score_samples(new), rtol=1e-5)
    away, _ = NearestNeighbors(n_neighbors=5).fit(train[labels == 0]).kneighbors(new)
    np.testing.assert_allclose(columns[:, -1], away[:, 4], rtol=1e-4)


def test_a_number_at_a_threshold_goes_where_scikit_learn_sends_it():
    """Thresholds of scikit-learn are float64; a rounded one must not swap sides with the number beside it."""
    x = np.repeat(np.float32([0.1, 0.3, 0.30000004, 0.7]), 40)[:, None]
    labels = np.repeat([0, 1, 0, 1], 40)
    model = BASELINES["gradient_boosting"]((1,))
    model.compile(max_iter=5)
    model.fit(x, labels, verbose=0)
    own = ensemble.HistGradientBoostingClassifier(max_iter=5, class_weight="balanced", early_stopping=False)
    order = np.argsort(labels, kind="stable")
    own.fit(scaled(model, x)[order].astype(np.float64), labels[order])
    expected = own.decision_function(scaled(model, x).astype(np.float64))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4)
    assert expected[labels == 1].min() > expected[labels == 0].max()  # neighbours in float32 told apart


def test_the_average_number_of_cuts():
    assert average_cuts(1) == 0
    assert average_cuts(2) == 1
    # Equation (1) with H(n − 1) = ln(n − 1) + γ.
    assert average_cuts(256) == pytest.approx(2 * (np.log(255) + 0.5772156649) - 2 * 255 / 256)


def test_contracts(fitted, tmp_path):
    model, x = fitted
    contracts.check_independence(lambda x: model(x), x)
    contracts.check_inference_mode(model, x)
    contracts.check_predict_is_call(model, x)
    contracts.check_save_and_load(model, x, tmp_path / "m.keras")
    contracts.check_scaling(model, x)
    with pytest.raises(InputError, match="has no reconstructions"):
        model.explain(x)


@pytest.mark.parametrize("form", ["savedmodel", "float32", "onnx"])
def test_exports_score_like_the_model(fitted, form, tmp_path):
    model, x = fitted
    if form == "savedmodel":
        path = export_saved_model(model, tmp_path / "it")
    elif form == "onnx":
        pytest.importorskip("tf2onnx")
        path = export_onnx(model, tmp_path / "it.onnx")
    else:
        path = export_tflite(model, tmp_path / "it.tflite", form)
    scores = EdgeModel(path).score(x) if form == "float32" else open_detector(path).scores(x)
    assert agreement(model.predict(x, verbose=0), scores, rounded_size(model)) <= FLOAT32


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_thresholds_are_not_rounded(fitted, precision, tmp_path):
    model, x = fitted
    with pytest.raises(InputError, match=f"precision {precision} expects .* take float32$"):
        export_tflite(model, tmp_path / "it.tflite", precision, representative=x)


def test_a_second_fit_forgets_the_first(fitted):
    model, x = fitted
    name = _name(model)
    train, labels = rows()
    again = make(name)
    again.fit(train, labels, verbose=0)
    again.fit(train[::-1].copy() * 0.5 + 1, labels[::-1].copy(), verbose=0)
    assert np.abs(again.predict(x, verbose=0) - model.predict(x, verbose=0)).max() > 1e-3
    again.fit(train, labels, verbose=0)
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)


def test_of_images_there_are_scores_and_no_maps():
    model = make("isolation_forest", GREY)
    model.fit(samples(GREY, 20), verbose=0)
    contracts.check_scores(lambda x: model.predict(x, verbose=0), samples(GREY, 5, 3))
    with pytest.raises(InputError, match="has no reconstructions"):
        model.anomaly_map(samples(GREY, 2))


def test_weights_fill_a_new_detector(fitted, tmp_path):
    model, x = fitted
    model.save_weights(tmp_path / "it.weights.h5")
    for other in (BASELINES[_name(model)]((6,)), again_fitted(_name(model))):
        other.load_weights(tmp_path / "it.weights.h5")
        np.testing.assert_array_equal(other.predict(x, verbose=0), model.predict(x, verbose=0))
        assert other.get_config()["sizes"] == model.get_config()["sizes"]  # the depth too


@pytest.mark.parametrize("name", TREES)
def test_before_fit_there_is_nothing_to_export_or_to_load(name, tmp_path):
    new = BASELINES[name]((6,))
    new.compile()
    for export in (export_saved_model, export_tflite, export_onnx):
        with pytest.raises(InputError, match=r"expects fit before predict, evaluate and export") as told:
            export(new, tmp_path / export.__name__)
        assert "\n" not in str(told.value)
        assert not list((tmp_path / export.__name__).glob("*"))
    new.save_weights(tmp_path / "new.weights.h5")
    fitted = again_fitted(name)
    with pytest.raises(InputError, match=r"weights.h5: expected weights of a fitted .*: save them") as told:
        fitted.load_weights(tmp_path / "new.weights.h5")
    assert "\n" not in str(told.value)


def again_fitted(name):
    model = BASELINES[name]((6,))
    model.compile(**({"n_estimators": 3} if name == "isolation_forest" else {"max_iter": 2}))
    model.fit(*rows(seed=7, normals=30), verbose=0)
    return model


def _name(model):
    return next(name for name in TREES if type(model) is BASELINES[name])


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("isolation_forest", "n_estimators"),
        ("isolation_forest", "max_samples"),
        ("gradient_boosting", "max_iter"),
    ],
)
def test_numbers_of_things_are_whole(name, setting):
    for wrong in (True, 0, 2.0):
        with pytest.raises(InputError, match=f"{setting} expects a whole number above 0, received {wrong}"):
            make(name, **{setting: wrong})
    model = make(name, **{setting: np.int64(10)})
    assert type(model.settings[setting]) is int


def test_what_cannot_be_is_one_line(tmp_path):
    x, y = rows()
    with pytest.raises(InputError, match="GradientBoosting expects arrays x and y, received a dataset"):
        make("gradient_boosting").fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(8), verbose=0)
    for name in TREES:
        with pytest.raises(InputError, match=r"^[A-Za-z]+ expects fit before predict, .*: call fit$"):
            make(name).predict(x, verbose=0)
    given = ["train", "--data", "digits", "--normal-class", "8", "--detector", "isolation_forest"]
    result = CliRunner().invoke(main, [*given, "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "expects a table, received images" in result.output


@pytest.mark.parametrize("name", ["isolation_forest", "stacked"])
def test_from_the_command_line(name, tmp_path):
    x, y = rows()
    np.savez(tmp_path / "rows.npz", X=x, y=y)
    run, exported = str(tmp_path / "run"), str(tmp_path / "saved")
    given = ["train", "--detector", name, "--data", str(tmp_path / "rows.npz"), "--quiet", "--out", run]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "run/metrics.json").read_text())["auroc"] > 0.7
    result = CliRunner().invoke(main, ["export", run, "--to", exported])
    assert result.exit_code == 0, result.output
    model = keras.saving.load_model(tmp_path / "run/model.keras")
    difference = open_detector(tmp_path / "saved/1").scores(x[:9]) - model.predict(x[:9], verbose=0)
    assert np.abs(difference).max() < 1e-4
