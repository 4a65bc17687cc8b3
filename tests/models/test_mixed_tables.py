"""Detectors of mixed tables: frames, files and every export give one score; gaps and new texts count."""

import contextlib
import csv
import io

import keras
import numpy as np
import pytest
import tensorflow as tf

from agad_tf import AGAD, AABiGAN
from agad_tf import edge as edge_runner
from agad_tf.baselines import Neighbours, Stacked
from agad_tf.edge import EdgeModel
from agad_tf.encoding import TableEncoding
from agad_tf.errors import InputError
from agad_tf.export.onnx import export_onnx
from agad_tf.export.saved_model import export_saved_model
from agad_tf.export.tflite import export_tflite
from agad_tf.frames import table_encoding
from agad_tf.layers import TableScaling
from agad_tf.scoring.detectors import open_detector
from agad_tf.scoring.tables import table_samples

pandas = pytest.importorskip("pandas", reason="pandas is an optional extra")


def made_frame(rows=96):
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "northing": 5_400_123 + rng.normal(0, 0.04, rows),
            "colour": rng.choice(["red", "blue"], rows),
            "v": rng.normal(size=rows),
        }
    )
    frame.loc[::7, "v"] = np.nan
    return frame


@pytest.fixture(scope="module")
def trained():
    """A detector, the frame it was trained on, and another one with a gap, a new text and turned columns."""
    frame = made_frame()
    encoding = table_encoding(frame, "indicator")
    keras.utils.set_random_seed(0)
    model = AABiGAN((3,), encoding=encoding)
    model.fit(frame, batch_size=32, epochs=1, verbose=0)
    odd = frame[["v", "colour", "northing"]].iloc[:6].copy()
    odd.loc[1, "colour"], odd.loc[2, "colour"], odd.loc[3, "northing"] = "violet", None, np.nan
    return model, frame, odd


def test_the_layer_is_the_encoding_then_the_range(trained):
    model, frame, _ = trained
    rows = model.check_samples(frame, "x")
    layer = model.preprocess
    expanded = model.encoding.expanded(rows, layer.fill.numpy())
    low, high = expanded.min(axis=0), expanded.max(axis=0)
    scaled = (expanded - low) / np.where(high > low, high - low, 1)
    np.testing.assert_allclose(layer(tf.constant(rows)).numpy(), scaled, rtol=1e-5, atol=1e-6)
    assert layer.fill.numpy()[2] == np.nanmedian(frame["v"])
    copy = TableScaling.from_config(layer.get_config())
    assert copy.encoding == model.encoding


def test_gaps_and_new_texts_have_their_entries(trained):
    model, _frame, odd = trained
    assert model.sample_shape == (3,)
    assert model.network_shape == (6,)
    seen = model.preprocess(tf.constant(model.check_samples(odd, "x"))).numpy()
    names = model.encoding.entry_names(model.identity.columns)
    assert names == ["northing", "colour=blue", "colour=red", "colour=other", "v", "v missing"]
    assert seen[:, 3].tolist() == [0, 1, 0, 0, 0, 0]
    assert seen[:, 5].tolist() == [1, 0, 0, 0, 0, 0]
    assert np.isfinite(model.predict(odd, verbose=0)).all()
    reconstruction, error = model.explain(model.check_samples(odd, "x"))
    assert reconstruction.shape == error.shape == (6, 6)


def test_every_door_gives_one_score(trained, tmp_path):
    model, frame, odd = trained
    both = pandas.concat([frame, odd])
    expected, rows = model.predict(both, verbose=0), model.check_samples(both, "x")
    np.testing.assert_allclose(model(both).numpy(), expected, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(both, verbose=0), expected)
    assert loaded.identity == model.identity
    export_tflite(model, tmp_path / "model.tflite")
    paths = [
        tmp_path / "model.keras",
        tmp_path / "model.tflite",
        export_saved_model(model, tmp_path / "saved"),
    ]
    with contextlib.suppress(InputError):  # onnx is an optional extra
        paths.append(export_onnx(model, tmp_path / "model.onnx"))
    odd.to_csv(tmp_path / "odd.csv", index=False)
    for path in paths:
        detector = open_detector(path)
        np.testing.assert_allclose(detector.scores(rows), expected, rtol=1e-4, atol=1e-5)
        samples = list(table_samples(str(tmp_path / "odd.csv"), 3, None, detector.identity))
        from_file = detector.score([sample.value for sample in samples])["score"]
        np.testing.assert_allclose(from_file, expected[-6:], rtol=1e-4, atol=1e-5)
    edge = EdgeModel(tmp_path / "model.tflite")
    np.testing.assert_allclose(edge.score(both), expected, rtol=1e-4, atol=1e-5)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert edge_runner.main([str(tmp_path / "model.tflite"), str(tmp_path / "odd.csv")]) == 0
    printed = [float(row["score"]) for row in csv.DictReader(io.StringIO(said.getvalue()))]
    np.testing.assert_allclose(printed, expected[-6:], rtol=1e-4, atol=1e-5)


def test_what_is_no_row_of_the_table(trained, tmp_path):
    model, *_ = trained
    rows = np.array([[5_400_123, 0, 0.0], [5_400_123, 3, 0.0], [5_400_123, 0.5, 0.0], [np.inf, 0, 0.0]])
    for row in rows[1:]:
        with pytest.raises(InputError, match="in column"):
            model.predict(row[None], verbose=0)
    saved = open_detector(export_saved_model(model, tmp_path / "saved")).scores(rows)
    assert np.isfinite(saved).tolist() == [True, False, False, False]
    export_tflite(model, tmp_path / "model.tflite")
    with pytest.raises(InputError, match="codes of the categories of training"):
        EdgeModel(tmp_path / "model.tflite").score(rows)


def test_gaps_that_training_refused_stay_refused():
    frame = made_frame().dropna()
    model = AABiGAN((3,), encoding=table_encoding(frame))
    model.fit(frame, batch_size=32, epochs=1, verbose=0)
    with pytest.raises(InputError, match="missing values in column 'v'"):
        model.predict(made_frame(), verbose=0)
    with pytest.raises(InputError, match=r"missing values \(NaN\) in column 2"):
        model.predict(np.array([[5_400_123, 0, np.nan]]), verbose=0)


def test_encodings_that_do_not_fit():
    with pytest.raises(InputError, match=r"shape \(2,\), received one of 1 columns"):
        AABiGAN((2,), encoding=TableEncoding((("a",),)))
    with pytest.raises(InputError, match="encoding expects that of a table"):
        AGAD((32, 32, 1), backbone="encoder_decoder", encoding=TableEncoding((("a",),)))
    assert AABiGAN((2,), encoding=TableEncoding.of_numbers(2)).encoding is None
    with pytest.raises(InputError, match="expected numbers, received"):
        AABiGAN((3,)).fit(made_frame().dropna(), verbose=0)


@pytest.mark.parametrize("detector", [Neighbours, Stacked])
def test_classical_detectors_take_them(detector):
    frame = made_frame()
    odd = frame.copy()
    odd["colour"] = "violet"
    model = detector((3,), encoding=table_encoding(frame, "median"))
    model.fit(pandas.concat([frame, odd.iloc[:12]]), np.repeat([0, 1], [96, 12]), verbose=0)
    assert model.predict(odd.iloc[12:]).min() > model.predict(frame).mean()
