"""TFLite exports and the edge runner: the model's scores without TensorFlow, a file that says what it is."""

import csv
import io
import json
import subprocess
import sys
import zipfile

import bigan_cases
import contracts
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import batch, make, photographs, train_once
from PIL import Image
from scipy import stats

from agad_tf import edge, edge_metadata
from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.export.tflite import PRECISIONS, export_tflite


def agad():
    model = make(score="fused", number=3)
    train_once(model, *batch([0] * 6 + [1] * 2))
    model.prepare_scoring(photographs(24))
    return model, photographs


def bigan(backbone, score):
    shape = bigan_cases.SHAPES[backbone]

    def samples(count, size=None, seed=0):
        if len(shape) == 1:
            return bigan_cases.rows(count, *shape, seed)
        return photographs(count, size or shape, seed)

    model = bigan_cases.make(shape, {"run_eagerly": True}, score=score)  # quicker than to trace it
    x = np.concatenate([samples(16), samples(4, seed=9)])
    model.fit(x, np.repeat([0, 1], [16, 4]), batch_size=10, min_anomalies=2, verbose=0)
    return model, samples


MODELS = {
    "agad": agad,
    "aa-bigan, colour images": lambda: bigan("lenet", "fused"),
    "aa-bigan, rows": lambda: bigan("mlp", "reconstruction"),
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """A model, its samples, their calibration, and a file of each precision."""
    model, samples = MODELS[request.param]()
    calibration = calibrate(model.predict(samples(40, seed=1), verbose=0), rate=0.2)
    folder = tmp_path_factory.mktemp("tflite")
    files = {
        precision: export_tflite(model, folder / f"{precision}.tflite", precision, samples(64), calibration)
        for precision in PRECISIONS
    }
    return model, samples, calibration, files


def test_float32_scores_like_the_model(exported):
    model, samples, calibration, files = exported
    runner = EdgeModel(files["float32"])
    x = samples(9, seed=4)
    contracts.check_agreement(runner.score(x), model.predict(x, verbose=0))
    contracts.check_independence(runner.score, x)
    scores = runner.score(samples(40, seed=1))
    np.testing.assert_array_equal(runner.is_anomaly(scores), calibration.is_anomaly(scores))
    np.testing.assert_allclose(runner.p_values(scores), calibration.p_values(scores))
    for received, expected in zip(runner.explain(x), model.explain(x), strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-5)


def test_images_of_any_size_are_resized_as_by_the_model(exported):
    model, samples, _, files = exported
    if model.is_table:
        return
    runner, channels = EdgeModel(files["float32"]), model.sample_shape[-1]
    for size in ((5, 31), (40, 9), (1, 1)):
        images = samples(3, (*size, channels), seed=2)
        contracts.check_agreement(runner.score(images), model.predict(images, verbose=0))


def test_smaller_files_rank_alike(exported):
    model, samples, _, files = exported
    x = samples(120, seed=6)
    expected = model.predict(x, verbose=0)
    assert stats.spearmanr(EdgeModel(files["float16"]).score(x), expected)[0] > 0.9999
    int8 = EdgeModel(files["int8"]).score(x)
    assert stats.spearmanr(int8, expected)[0] > 0.99
    assert len(np.unique(int8)) > 100  # the score is no number of the int8 graph
    sizes = [len(zipfile_free(files[precision])) for precision in PRECISIONS]
    if not model.is_table:  # of which the graph is larger than its weights
        assert sizes[0] > 1.7 * sizes[1] > 1.7 * sizes[2]


def zipfile_free(path):
    """The graph alone, without the archive behind it."""
    with zipfile.ZipFile(path) as archive:
        start = min(entry.header_offset for entry in archive.infolist())
    return path.read_bytes()[:start]


def test_an_int8_export_warns_of_nothing_that_the_user_could_change(tmp_path, recwarn):
    model, samples = bigan("mlp", "reconstruction")
    export_tflite(model, tmp_path / "quiet.tflite", "int8", representative=samples(16))
    assert not [warning for warning in recwarn if "Interpreter" in str(warning.message)]


def test_an_int8_graph_computes_in_integers(exported):
    model, _, _, files = exported
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(files["int8"]))
    interpreter.allocate_tensors()
    floats = [d for d in interpreter.get_tensor_details() if d["dtype"] == np.float32]
    ends = {d["index"] for d in interpreter.get_input_details() + interpreter.get_output_details()}
    # What else is float32 is a name for the input or an output.
    assert {d["name"].split(":")[0].split(";")[0] for d in floats if d["index"] not in ends} <= {
        "serving_default_x"
    }
    wide = {d["dtype"] for d in interpreter.get_tensor_details()} - {np.float32, np.int32, np.int64}
    assert wide == ({np.int8, np.int16} if model.is_table else {np.int8})


def test_the_file_says_what_it_is(exported):
    model, _, calibration, files = exported
    for precision, path in files.items():
        about = edge_metadata.read_metadata(path)
        assert (about["format"], about["precision"]) == (edge_metadata.FORMAT, precision)
        assert about["detector"] == type(model).__name__
        assert about["input"]["shape"] == list(model.sample_shape)
        assert about["input"]["kind"] == ("table" if model.is_table else "image")
        assert about["score"]["name"] == model.score
        assert [part["name"] for part in about["score"]["parts"]] == list(model.parts_of_score)
        assert about["calibration"]["threshold"] == calibration.threshold
        assert about["versions"]["tensorflow"] == tf.__version__
        assert about["licence"]["software"] == "Apache-2.0"


def test_what_the_runner_does_not_take_is_told(exported, tmp_path):
    model, samples, _, files = exported
    runner = EdgeModel(files["float32"])
    x = samples(2)
    wrong = [x[:, :-1], x[:1] * np.nan] if model.is_table else [x.astype(np.float32), x[..., :0], x[0, 0]]
    for bad in wrong:
        with pytest.raises(InputError, match="expected"):
            runner.score(bad)
    assert runner.score(x[:0]).shape == (0,)
    with pytest.raises(InputError, match="int8 expects representative"):
        export_tflite(model, tmp_path / "new.tflite", "int8")
    with pytest.raises(InputError, match="precision expects one of float32, float16, int8"):
        export_tflite(model, tmp_path / "new.tflite", "int4", x)
    with pytest.raises(InputError, match="expected a new file name"):
        export_tflite(model, files["int8"])
    bare = EdgeModel(export_tflite(model, tmp_path / "new.tflite"))
    with pytest.raises(InputError, match="expected an export with a calibration"):
        bare.is_anomaly(runner.score(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.tflite"]


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_other_files_are_no_exports(tmp_path, content):
    path = tmp_path / "model.tflite"
    if content is None:  # a zip archive without our metadata
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("labels.txt", "dog")
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="expected a TFLite export"):
        EdgeModel(path)
    with pytest.raises(InputError, match="could not read it"):
        EdgeModel(tmp_path / "missing.tflite")


EDGE = """
import sys
for name in ("tensorflow", "keras", "scipy", "sklearn", "click", "requests"):
    sys.modules[name] = None  # importing it is an error
from agad_tf import edge, edge_metadata
sys.argv = ["edge", *sys.argv[1:]]
sys.exit(edge.main())
"""


def test_a_board_without_tensorflow_gives_the_same_rows(exported, tmp_path):
    model, samples, calibration, files = exported
    if model.is_table:
        x = samples(5, seed=7)
        (tmp_path / "rows.csv").write_text(
            "a,b,c,d,e\n" + "\n".join(",".join(map(repr, row)) for row in x.tolist())
        )
        paths = [tmp_path / "rows.csv"]
    else:
        x = samples(5, (11, 7, model.sample_shape[-1]), seed=7)
        paths = [tmp_path / f"{index}.png" for index in range(5)]
        for path, pixels in zip(paths, x, strict=True):
            Image.fromarray(np.squeeze(pixels)).save(path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    command = [sys.executable, "-c", EDGE, files["float32"], *paths, tmp_path / "broken.png"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == edge.SOME_FAILED, done.stderr
    assert "Traceback" not in done.stderr
    *rows, broken = csv.DictReader(io.StringIO(done.stdout))
    scores = np.array([row["score"] for row in rows], np.float32)
    contracts.check_agreement(scores, model.predict(x, verbose=0))
    assert [row["is_anomaly"] for row in rows] == [str(bool(a)) for a in calibration.is_anomaly(scores)]
    p_values = np.array([row["p_value"] for row in rows], float)
    np.testing.assert_allclose(p_values, calibration.p_values(scores), rtol=1e-5)
    assert (broken["score"], broken["is_anomaly"]) == ("", "")
    assert broken["path"].endswith("broken.png")
    assert "expected" in broken["error"]


def test_a_score_that_is_no_number_is_not_called_normal(exported):
    runner = EdgeModel(exported[3]["float32"])
    scores = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert runner.is_anomaly(scores).all()
    assert np.isnan(runner.p_values(scores)).all()


def test_the_edge_command_tells_a_wrong_model_in_one_line(tmp_path, capsys):
    (tmp_path / "model.tflite").write_bytes(b"no model")
    assert edge.main([str(tmp_path / "model.tflite"), "x.png"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("agad_tf.edge: ")
    assert said.err.count("\n") == 1


def test_a_recipe_that_is_wrong_stops_the_export(monkeypatch):
    from agad_tf.export import recipe, tflite

    model, samples = agad()
    wrong = recipe.score_parts(model)
    wrong[0] = wrong[0] | {"mean": wrong[0]["mean"] + 1}
    monkeypatch.setattr(recipe, "score_parts", lambda model: json.loads(json.dumps(wrong)))
    with pytest.raises(RuntimeError, match="outside score of AGAD differs"):
        tflite.tflite_bytes(model, "float32", samples(8))
