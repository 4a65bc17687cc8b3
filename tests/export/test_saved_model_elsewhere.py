"""The SavedModel without this library and without Python: TensorFlow's C API, saved_model_cli, OpenVINO."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import bigan_cases
import numpy as np
import pytest
import tensorflow as tf
from agad_cases import photographs
from contracts import check_agreement
from serving_cases import detector, exports
from tensorflow.core.protobuf import saved_model_pb2

from agad_tf.evaluation.thresholds import calibrate
from agad_tf.export.saved_model import export_saved_model

PROGRAM = Path(__file__).with_name("saved_model_in_c.c")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A detector of rows, its export, and rows."""
    model = bigan_cases.make()
    model.fit(bigan_cases.rows(20), np.repeat([0, 1], 10), batch_size=10, min_anomalies=2, verbose=0)
    rows = bigan_cases.rows(30, seed=3)
    calibration = calibrate(model.predict(rows, verbose=0), rate=0.2)
    folder = tmp_path_factory.mktemp("exports") / "rows"
    path = export_saved_model(model, folder, calibration)
    return model.predict(rows, verbose=0), calibration, path, rows.astype(np.float64)


@pytest.fixture(params=["images", "rows"])
def case(request):
    """Expected scores, the calibration, the path of the export, and samples as they come."""
    if request.param == "rows":
        return request.getfixturevalue("table")
    model, calibration = detector()
    images = photographs(12, (13, 21, 1), seed=5)
    return model.predict(images, verbose=0), calibration, exports()["parts"] / "1", images


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The C program, compiled with what comes with the tensorflow package."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on the path: the export was not run through TensorFlow's C API")
    libraries = tf.sysconfig.get_lib()
    names = [path.name for path in Path(libraries).glob("libtensorflow_*.so.2")]
    if "libtensorflow_cc.so.2" not in names:
        pytest.skip(f"{libraries} has no libtensorflow_cc.so.2: the export was not run through the C API")
    binary = tmp_path_factory.mktemp("c") / "saved_model_in_c"
    command = [compiler, "-Wall", "-Werror", "-I", tf.sysconfig.get_include(), "-o", binary, PROGRAM]
    command += ["-L", libraries, *(f"-l:{name}" for name in sorted(names)), f"-Wl,-rpath,{libraries}"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return binary


def signature(path):
    """Names of the operations that `serving_default` reads and gives: input, and (output, index) by name."""
    content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    served = content.meta_graphs[0].signature_def["serving_default"]
    ((_, given),) = served.inputs.items()
    return given.name.split(":")[0], {k: v.name.split(":") for k, v in served.outputs.items()}


@pytest.mark.slow
def test_in_c(program, case):
    expected, calibration, path, samples = case
    given, outputs = signature(path)
    received = {}
    for name in ("score", "p_value"):
        operation, index = outputs[name]
        kind = tf.as_dtype(samples.dtype).as_datatype_enum
        arguments = [path, given, operation, index, kind, samples.ndim, *samples.shape]
        done = subprocess.run(
            [program, *map(str, arguments)],
            input=samples.tobytes(),
            capture_output=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        assert done.returncode == 0, done.stderr.decode()
        received[name] = np.frombuffer(done.stdout, np.float32)
    check_agreement(received["score"], expected)
    check_agreement(received["p_value"], calibration.p_values(received["score"]))


def test_the_c_program_holds_no_python(program):
    if shutil.which("ldd") is None:
        pytest.skip("no ldd: what the program loads was not looked at")
    loaded = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    assert "libtensorflow_cc" in loaded
    assert "python" not in loaded.replace(tf.sysconfig.get_lib(), "").lower()


@pytest.mark.parametrize("case", ["images"], indirect=True)  # a slow start, the same graph loader as in C
def test_saved_model_cli(case, tmp_path):
    expected, calibration, path, samples = case
    np.save(tmp_path / "samples.npy", samples)
    name = "images" if samples.ndim == 4 else "rows"
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", path]
    command += ["--tag_set", "serve", "--signature_def", "serving_default", "--outdir", tmp_path]
    command += ["--inputs", f"{name}={tmp_path / 'samples.npy'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    received = {file.stem: np.load(file) for file in tmp_path.glob("*.npy")}
    assert set(received) == {"samples", "score", "p_value", "is_anomaly", "threshold"}
    check_agreement(received["score"], expected)
    np.testing.assert_array_equal(received["is_anomaly"], calibration.is_anomaly(received["score"]))


def test_openvino(case):
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed (extra dev)")
    expected, calibration, path, samples = case
    core = openvino.Core()
    # In bfloat16, which it takes by itself where the processor has it, scores differ in the third digit.
    model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    received = model({"images" if samples.ndim == 4 else "rows": samples})
    check_agreement(received["score"], expected)
    check_agreement(received["p_value"], calibration.p_values(received["score"]))
    np.testing.assert_array_equal(received["is_anomaly"], calibration.is_anomaly(received["score"]))
