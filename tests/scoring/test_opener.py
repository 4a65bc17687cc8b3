"""One opener of whatever scores: what is damaged is one line, and our own ONNX export is scored."""

import shutil

import numpy as np
import pytest
from agad_cases import photographs
from click.testing import CliRunner
from contracts import check_agreement
from PIL import Image
from serving_cases import detector, exports, tflite

from agad_tf import checksums
from agad_tf.cli import main
from agad_tf.errors import InputError
from agad_tf.export.onnx import export_onnx
from agad_tf.scoring.detectors import find_detector, numbered_folders, open_detector


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Format to a file or folder of the detector."""
    pytest.importorskip("tf2onnx", reason="ONNX exports need it")
    folder = tmp_path_factory.mktemp("formats")
    model, calibration = detector()
    model.save(folder / "parts.keras")
    return {
        "keras": folder / "parts.keras",
        "savedmodel": exports()["parts"] / "1",
        "tflite": tflite(),
        "onnx": export_onnx(model, folder / "parts.onnx", calibration),
    }


FORMS = ("keras", "savedmodel", "tflite", "onnx")


@pytest.mark.parametrize("form", FORMS)
def test_every_format_scores_and_decides_alike(files, form):
    model, calibration = detector()
    images = photographs(9, (13, 5, 1), seed=3)
    expected = model.predict(images, verbose=0)
    opened = open_detector(files[form], form)
    answers = opened.score(list(images))
    check_agreement(answers["score"], expected)
    check_agreement(opened.scores(images, batch_size=4), expected)
    if form != "keras":  # which carries no calibration
        np.testing.assert_array_equal(answers["is_anomaly"], calibration.is_anomaly(answers["score"]))
        np.testing.assert_allclose(answers["p_value"], calibration.p_values(answers["score"]), rtol=1e-6)


def test_an_onnx_export_is_scored_from_the_command_line(files, tmp_path):
    Image.fromarray(photographs(1)[0, ..., 0]).save(tmp_path / "a.png")
    result = CliRunner().invoke(main, ["score", str(files["onnx"]), str(tmp_path / "a.png")])
    assert result.exit_code == 0, result.output
    score = float(result.stdout.splitlines()[1].split(",")[1])
    assert score == pytest.approx(detector()[0].predict(photographs(1), verbose=0)[0], rel=1e-4)


def damaged_copies(path, folder):
    """Copies of a file or a SavedModel with bytes flipped, cut off or emptied."""
    rng = np.random.default_rng(0)
    parts = [path] if path.is_file() else [path / "saved_model.pb", *(path / "variables").iterdir()]
    for part in parts:
        content = part.read_bytes()
        for number in range(12):
            flipped = bytearray(content)
            flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
            broken = {9: content[: len(content) // 2], 10: b"", 11: content[:-1]}.get(number, flipped)
            copy = folder / f"{part.name}-{number}" / path.name
            copy.parent.mkdir()
            shutil.copy(path, copy) if path.is_file() else shutil.copytree(path, copy)
            (copy if path.is_file() else copy / part.relative_to(path)).write_bytes(broken)
            yield copy


@pytest.mark.parametrize("form", FORMS)
def test_what_is_damaged_is_refused_or_scores_alike(files, form, tmp_path):
    images = photographs(4)
    expected, refused = detector()[0].predict(images, verbose=0), []
    for copy in damaged_copies(files[form], tmp_path):
        try:
            check_agreement(open_detector(copy).scores(images), expected)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) >= 3
    assert all("expected" in line and "\n" not in line for line in refused)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", bytes(500), b"no model at all"])
@pytest.mark.parametrize("name", ["a.keras", "a.tflite", "a.onnx", "a/saved_model.pb"])
def test_another_file_of_that_name_is_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected") as error:
        open_detector(path.parent if name.endswith(".pb") else path)
    assert "\n" not in str(error.value)


def test_exports_without_checksums_are_taken(files, tmp_path):
    images = photographs(4)
    folder = shutil.copytree(files["savedmodel"], tmp_path / "1")
    (folder / checksums.MANIFEST).unlink()
    older = tmp_path / "older.onnx"
    older.write_bytes(files["onnx"].read_bytes()[: -len(checksums.seal_onnx(b""))])
    for path in (folder, older):
        check_agreement(open_detector(path).scores(images), detector()[0].predict(images, verbose=0))


def test_a_folder_named_by_a_digit_that_no_server_reads_is_no_version(files, tmp_path):
    folder = tmp_path / "parts"
    for name in ("2", "10", "²", "٣", ".versions-1"):
        (folder / name).mkdir(parents=True)
        shutil.copy(files["tflite"], folder / name / "model.tflite")
    assert [number for number, _ in numbered_folders(folder)] == [2, 10]
    assert find_detector(folder) == ("tflite", folder / "10" / "model.tflite")
