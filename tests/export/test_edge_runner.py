"""The edge runner where things go wrong: threads, damaged files, files that cannot be scored."""

import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from agad_cases import photographs
from PIL import Image
from serving_cases import tflite

from agad_tf import edge, edge_metadata
from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.export.tflite import write_tflite


def graph_of(path):
    """The graph alone, and what the file says of itself."""
    about = edge_metadata.read_metadata(path)
    return path.read_bytes()[: about["graph"]["bytes"]], about


def test_eight_threads_share_one_model():
    model = EdgeModel(tflite())
    rng = np.random.default_rng(0)
    requests = [photographs(int(rng.integers(1, 9)), seed=seed) for seed in range(2000)]
    expected = [model.score(request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        received = list(pool.map(model.score, requests))
    wrong = sum(not np.array_equal(a, b) for a, b in zip(received, expected, strict=True))
    assert wrong == 0


def test_a_flipped_bit_is_refused_or_changes_no_score(tmp_path):
    content, images = bytearray(tflite().read_bytes()), photographs(5)
    expected, path = EdgeModel(tflite()).score(images), tmp_path / "flipped.tflite"
    size = edge_metadata.read_metadata(tflite())["graph"]["bytes"]
    rng = np.random.default_rng(0)
    places = [*rng.integers(0, size, 40), *rng.integers(size, len(content), 80), 0, len(content) - 1]
    refused = []
    for place in places:
        flipped = content.copy()
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            np.testing.assert_array_equal(EdgeModel(path).score(images), expected)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) >= 41  # every flip in the graph
    assert all(line.startswith(f"{path}: expected") and "\n" not in line for line in refused)


def test_a_file_without_a_checksum_is_not_checked(tmp_path):
    graph, about = graph_of(tflite())
    del about["graph"]
    path = tmp_path / "older.tflite"
    path.write_bytes(graph)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(edge_metadata.METADATA_NAME, json.dumps(about))
    images = photographs(5)
    np.testing.assert_array_equal(EdgeModel(path).score(images), EdgeModel(tflite()).score(images))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input": None}, "expected the metadata of a TFLite export"),
        ({"input": {"kind": "image", "shape": [8, 8, 1]}}, "no 'value_range'"),
        ({"score": {"parts": []}}, "a score of no parts"),
        ({"score": {"parts": [{"formula": "magic", "output": "x"}]}}, "formula 'magic'"),
        ({"calibration": {"threshold": "high", "normal_scores": [1.0]}}, "'high' in threshold"),
        ({"calibration": {"threshold": 1.0, "normal_scores": [None]}}, "None in normal_scores"),
        ({"calibration": {}}, "no 'threshold'"),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path, change, words):
    graph, about = graph_of(tflite())
    path = tmp_path / "m.tflite"
    write_tflite(path, graph, about | change)
    with pytest.raises(InputError, match=words):
        EdgeModel(path)


def test_a_graph_that_is_none_is_one_line(tmp_path):
    _, about = graph_of(tflite())
    for content in (b"", b"no graph", bytes(1000)):
        path = tmp_path / "m.tflite"
        write_tflite(path, content, about)
        with pytest.raises(InputError, match="expected a whole graph, received"):
            EdgeModel(path)


def test_the_exit_status_tells_of_files_that_failed(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(photographs(1)[0, ..., 0]).save(good)
    bad.write_bytes(b"no image")
    command = [sys.executable, "-m", "agad_tf.edge", str(tflite())]
    results = [
        subprocess.run([*command, *files], capture_output=True, text=True)
        for files in ([good], [good, bad], [good] * 2 + [tmp_path / "missing.png"])
    ]
    assert [result.returncode for result in results] == [0, 3, 3]
    assert [len(result.stdout.splitlines()) for result in results] == [2, 3, 4]


def test_a_reader_that_goes_is_no_success(tmp_path):
    good = tmp_path / "good.png"
    Image.fromarray(photographs(1)[0, ..., 0]).save(good)
    command = [sys.executable, "-m", "agad_tf.edge", str(tflite()), *[str(good)] * 3000]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == edge.SOME_FAILED
    assert process.stderr.read().count(b"Traceback") == 0
