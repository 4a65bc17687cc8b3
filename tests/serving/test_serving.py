"""The client against a server: the same scores over both interfaces, and one clear line for every trouble."""

import shutil
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pytest
from agad_cases import photographs
from contracts import check_agreement
from loopback_server import Server, ServerError, loopback
from serving_cases import (
    FEATURES,
    detector,
    encode,
    exports,
    image_files,
    scores_of_files,
    served,
    squared_length,
)

from agad_tf.errors import InputError
from agad_tf.serving import (
    Client,
    ModelNotFoundError,
    RefusedError,
    ServingError,
    TooLargeError,
    UnavailableError,
    payload,
)
from agad_tf.serving import client as client_module

SCHEMES = ["http", "grpc"]


@pytest.fixture(scope="module")
def server():
    with loopback(served()) as server:
        yield server


@pytest.fixture(autouse=True)
def _calm(server):
    yield
    server.models.trouble, server.models.delay, server.models.max_batch = [], 0.0, None
    server.models.requests.clear()


def connect(server, scheme, model="parts", **settings):
    return Client(server.url(scheme), model, **({"timeout": 20, "backoff": 0.001} | settings))


def check_server(server, scheme, tmp_path):
    """Everything a server must do; the loopback server and a real one pass the same."""
    model, calibration = detector()
    with connect(server, scheme) as client:
        assert client.status() == {1: "AVAILABLE", 2: "AVAILABLE"}
        about = client.metadata()
        assert (about["model"], about["version"]) == ("parts", 2)
        assert about["signatures"]["serving_default"]["inputs"] == {
            "images": {"dtype": "DT_UINT8", "shape": (None, None, None, 1)}
        }
        assert about["signatures"]["score_encoded"]["outputs"]["score"]["shape"] == (None,)
        images = photographs(20, (11, 7, 1), seed=3)
        answers = client.score(images, batch_size=8)
        assert set(answers) == {"score", "p_value", "is_anomaly", "threshold"}
        check_agreement(answers["score"], model.predict(images, verbose=0))
        check_decisions(answers, calibration)
        check_files(client, tmp_path)
    with connect(server, scheme, version=1) as client:
        assert client.metadata()["version"] == 1
        check_agreement(client.score(images)["score"], answers["score"])
    with connect(server, scheme, model="rows") as client:
        assert client.is_table
        rows = np.random.default_rng(0).normal(size=(9, FEATURES))
        np.testing.assert_allclose(client.score(rows)["score"], squared_length(rows), rtol=1e-6)
    with connect(server, scheme, model="nobody") as client, pytest.raises(ModelNotFoundError, match="nobody"):
        client.score(images)
    with connect(server, scheme, version=7) as client, pytest.raises(ModelNotFoundError, match="version 7"):
        client.score(images)


def check_decisions(answers, calibration):
    np.testing.assert_allclose(answers["p_value"], calibration.p_values(answers["score"]), rtol=1e-5)
    np.testing.assert_array_equal(answers["is_anomaly"], calibration.is_anomaly(answers["score"]))
    np.testing.assert_allclose(answers["threshold"], calibration.threshold, rtol=1e-6)


def check_files(client, tmp_path):
    """Good files have the scores of the model, bad ones the reason, each in its place."""
    files = image_files(12) | {"broken.png": b"no image", "cut.jpeg": encode(photographs(1), "JPEG")[:-30]}
    paths = []
    for name in sorted(files):
        (tmp_path / name).write_bytes(files[name])
        paths.append(tmp_path / name)
    answers = client.score([*paths, tmp_path / "missing.png"], batch_size=5)
    bad = [path.stem in ("broken", "cut") for path in paths]
    for index in np.flatnonzero(bad):
        assert paths[index].name in answers["error"][index]
        assert np.isnan(answers["score"][index])
        assert answers["is_anomaly"][index]  # what could not be judged does not pass
    good = [path.name for path, is_bad in zip(paths, bad, strict=True) if not is_bad]
    scored = [error is None for error in answers["error"]]
    assert scored == [not is_bad for is_bad in bad] + [False]
    check_agreement(answers["score"][scored], scores_of_files(files[name] for name in good))
    assert "no such file" in answers["error"][-1]
    check_decisions({name: values[scored] for name, values in answers.items()}, detector()[1])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_loopback_server(server, scheme, tmp_path):
    check_server(server, scheme, tmp_path)


def test_tensorflow_model_server(tmp_path):
    program = shutil.which("tensorflow_model_server")
    if program is None:
        pytest.skip("tensorflow_model_server is not on the path: only the loopback server was used")
    config = tmp_path / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{folder}" model_platform: "tensorflow" '
        "model_version_policy { all {} } }"
        for name, folder in exports().items()
    )
    config.write_text(f"model_config_list {{ {entries} }}")
    rest, grpc_port = _free_port(), _free_port()
    process = subprocess.Popen(
        [program, f"--port={grpc_port}", f"--rest_api_port={rest}", f"--model_config_file={config}"]
    )
    try:
        _wait_for(f"http://127.0.0.1:{rest}/v1/models/parts", process)
        real = Server(f"http://127.0.0.1:{rest}", f"grpc://127.0.0.1:{grpc_port}")
        for scheme in SCHEMES:
            (tmp_path / scheme).mkdir()
            check_server(real, scheme, tmp_path / scheme)
    finally:
        process.terminate()
        process.wait(30)


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_for(url, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(url) as response:
                if b"AVAILABLE" in response.read():
                    return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer within a minute")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_threshold_can_come_with_the_request(server, scheme):
    images = photographs(10)
    with connect(server, scheme) as client:
        scores = client.score(images)["score"]
        middle = float(np.sort(scores)[4])
        answers = client.score(images, threshold=middle)
    np.testing.assert_array_equal(answers["is_anomaly"], answers["score"] > middle)
    assert answers["is_anomaly"].sum() == 5
    np.testing.assert_allclose(answers["threshold"], middle)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_busy_servers_are_asked_again(server, scheme):
    with connect(server, scheme) as client:
        expected = client.score(photographs(3))["score"]
        server.models.trouble = [
            ServerError("UNAVAILABLE", "queue full"),
            ServerError("DEADLINE_EXCEEDED", "late"),
        ]
        np.testing.assert_array_equal(client.score(photographs(3))["score"], expected)
        assert server.models.trouble == []
        server.models.trouble = [ServerError("UNAVAILABLE", f"queue full {index}") for index in range(5)]
        with pytest.raises(UnavailableError, match="queue full 4"):
            client.score(photographs(3))
    assert server.models.trouble == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_images_of_another_size_in_the_batch_of_the_server_are_no_fault_of_the_request(server, scheme):
    said = "Tensors with name 'x' from different tasks have different shapes and padding is turned off."
    server.models.trouble = [ServerError("FAILED_PRECONDITION", said)]
    with connect(server, scheme) as client:
        assert np.isfinite(client.score(photographs(3))["score"]).all()
    assert server.models.trouble == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL"])
def test_wrong_requests_are_not_repeated(server, scheme, code):
    with connect(server, scheme) as client:
        client.score(photographs(3))
        server.models.trouble = [ServerError(code, "line one\nline two"), ServerError("UNAVAILABLE", "again")]
        with pytest.raises(ServingError, match="line one line two"):
            client.score(photographs(3))
    assert len(server.models.trouble) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_slow_server_is_given_up(server, scheme):
    with connect(server, scheme, timeout=0.3, retries=1) as client:
        assert client.status()
        server.models.delay = 1.0
        started = time.monotonic()
        with pytest.raises(UnavailableError, match=r"within 0\.3 s"):
            client.score(photographs(2))
        assert time.monotonic() - started < 5
    time.sleep(1.0)  # the requests that nobody waits for


def test_no_server_at_all():
    port = _free_port()
    for url in (f"http://127.0.0.1:{port}", f"grpc://127.0.0.1:{port}"):
        with Client(url, "parts", retries=2, backoff=0.001, timeout=5) as client:
            with pytest.raises(UnavailableError, match=str(port)) as caught:
                client.status()
            assert "check host and port" in str(caught.value)
            assert "\n" not in str(caught.value)


def test_the_wrong_port_is_told(server):
    rest, grpc_port = server.rest.removeprefix("http://"), server.grpc.removeprefix("grpc://")
    for url, words in ((f"http://{grpc_port}", r"REST is on 8501|check the port"), (f"grpc://{rest}", rest)):
        client = Client(url, "parts", retries=0, timeout=5)
        with client, pytest.raises(ServingError, match=words):
            client.score(photographs(1))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_requests_larger_than_the_server_takes_are_cut(server, scheme, tmp_path):
    server.models.max_batch = 3
    with connect(server, scheme) as client:
        images = photographs(8)
        check_agreement(client.score(images)["score"], detector()[0].predict(images, verbose=0))
        assert max(count for _, count in server.models.requests if count <= 3) == 2
        check_files(client, tmp_path)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_messages_larger_than_the_way_takes_are_cut(server, scheme):
    images = photographs(16, (20, 20, 1))
    with loopback(server.models, max_body=6000, max_message=3000) as small, connect(small, scheme) as client:
        check_agreement(client.score(images)["score"], detector()[0].predict(images, verbose=0))
        with pytest.raises(TooLargeError, match=r"size|larger"):
            client.score(photographs(2, (99, 99, 1)))
        noise = encode(photographs(1, (99, 99, 1)))
        answers = client.score([encode(images[0]), noise, encode(images[1])])
        assert [error is None for error in answers["error"]] == [True, False, True]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bytes_that_only_the_server_finds_bad_cost_no_other_image_its_score(server, scheme):
    images = photographs(9)
    sent = [encode(image) for image in images]
    sent[2], sent[7] = b"\x89PNG nothing more", b""
    with connect(server, scheme) as client:
        answers = client.score_encoded(sent)
    good = [index for index in range(9) if index not in (2, 7)]
    check_agreement(answers["score"][good], detector()[0].predict(images[good], verbose=0))
    assert np.isnan(answers["score"][[2, 7]]).all()
    assert [index for index, error in enumerate(answers["error"]) if error] == [2, 7]


def test_files_larger_than_is_sent_are_told(server, monkeypatch):
    monkeypatch.setattr(payload, "LARGEST_SAMPLE", 2000)
    small, large = encode(photographs(1)), encode(photographs(1, (60, 60, 1)))
    with connect(server, "http") as client:
        answers = client.score([large, small])
    assert "at most" in answers["error"][0]
    assert answers["error"][1] is None


def test_requests_are_bounded_in_bytes(server, monkeypatch):
    monkeypatch.setattr(client_module, "MESSAGE_BYTES", 300)
    with connect(server, "http") as client:
        client.score(photographs(10))  # 64 bytes each
        assert [count for _, count in server.models.requests] == [4, 4, 2]
        server.models.requests.clear()
        files = [encode(image) for image in photographs(5)]
        client.score(files)
        assert max(count for _, count in server.models.requests) <= 300 // min(map(len, files))


@pytest.mark.parametrize(
    ("model", "samples", "words"),
    [
        ("parts", np.zeros((2, 8, 8, 3), np.uint8), "1"),
        ("parts", np.zeros((2, 8), np.uint8), "height, width"),
        ("parts", np.zeros((2, 0, 8, 1), np.uint8), "height, width"),
        ("parts", np.zeros((2, 8, 8, 1), np.float32), "uint8"),
        ("parts", np.zeros((0, 8, 8, 1), np.uint8), "at least one"),
        ("parts", np.broadcast_to(np.uint8(0), (1, 60_000, 60_000, 1)), "at most 128 MiB"),
        ("parts", [], "at least one"),
        ("rows", np.zeros((2, 3)), "4 columns"),
        ("rows", np.array([[1, 2, 3, np.nan]]), "NaN"),
        ("rows", np.array([[1, 2, 3, 1e39]]), "infinite"),
        ("rows", np.array([["a", "b", "c", "d"]]), "numbers"),
        ("rows", ["a.png"], "score_encoded"),
    ],
)
def test_arrays_that_the_model_does_not_take_are_not_sent(server, model, samples, words):
    with connect(server, "http", model=model) as client, pytest.raises(InputError, match=words) as caught:
        client.score(samples)
    assert "\n" not in str(caught.value)
    assert server.models.requests == []


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "localhost:8501"},
        {"url": "grpc://localhost"},
        {"url": "ftp://localhost:21"},
        {"url": "http://"},
        {"url": "http://host:port"},
        {"model": ""},
        {"model": "a/b"},
        {"timeout": 0},
        {"retries": -1},
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_once(settings):
    with pytest.raises(InputError):
        Client(**({"url": "http://localhost:8501", "model": "parts"} | settings))


STRANGE = [
    b"",
    b"<html>hello</html>",
    b"[1, 2]",
    b'{"outputs": null}',
    b'{"outputs": {"score": "many"}}',
    b'{"outputs": {"score": [1.0]}}',
    b'{"outputs": {"score": [[1.0, 2.0], [3.0]]}}',
    b'{"outputs": {"score": [1.0, 2.0], "is_anomaly": [0.5, 1.5]}}',
    b'{"outputs": {"other": [1.0, 2.0]}}',
    b'{"outputs": {"score": [1.0, null]}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("answer", STRANGE, ids=range(len(STRANGE)))
def test_answers_that_make_no_sense_are_told(server, monkeypatch, answer):
    with connect(server, "http") as client:
        client.score(photographs(2))  # the metadata are known from here on
        exchange = client._transport._exchange
        monkeypatch.setattr(client._transport, "_exchange", lambda *a: (exchange(*a)[0], answer))
        for ask in (lambda: client.score(photographs(2)), client.status, client.metadata):
            with pytest.raises(ServingError, match="expected") as caught:
                ask()
            assert not isinstance(caught.value, RefusedError | UnavailableError)
            assert "\n" not in str(caught.value)


def test_rest_loads_no_tensorflow():
    import sys

    code = (
        "import sys\nfrom agad_tf.serving import Client\n"
        "client = Client('http://localhost:1', 'parts')\n"
        "sys.exit(any(name.split('.')[0] in ('tensorflow', 'keras', 'grpc') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
