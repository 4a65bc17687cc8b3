"""The client against servers that drip, redirect, send without end, or claim what they do not have."""

import gzip
import shutil
import subprocess
import time
from concurrent import futures

import numpy as np
import pytest
from agad_cases import photographs
from hostile_server import metadata, serving, whole

from agad_tf.errors import InputError
from agad_tf.serving import Client, ServingError, UnavailableError
from agad_tf.serving.rest import BASE_BYTES, SAMPLE_BYTES


def connect(url, **settings):
    return Client(url, "parts", **({"timeout": 1.0, "retries": 0} | settings))


def drip(content):
    def predict(connection, stop):
        for byte in content:
            connection.sendall(bytes([byte]))
            if stop.wait(0.05):
                return

    return predict


@pytest.mark.parametrize(
    "content",
    [b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000, whole(b" " * 10_000), b"HTTP/1.1 100 Continue\r\n\r\n" * 999],
    ids=["head", "body", "continue"],
)
def test_a_server_that_drips_is_given_up_at_the_deadline(content):
    with serving(drip(content)) as (url, _), connect(url) as client:
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="expected an answer within 1 s"):
            client.score(photographs(2))
        assert time.monotonic() - started < 4


def test_a_redirect_is_not_followed():
    def elsewhere(connection, stop):
        connection.sendall(whole(b'{"outputs": {"score": [1.0, 2.0]}}'))

    with serving(elsewhere) as (other, seen_there):

        def redirect(connection, stop):
            target = f"{other}/v1/models/parts:predict".encode()
            head = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: " + target
            connection.sendall(head + b"\r\nContent-Length: 0\r\n\r\n")

        told = pytest.raises(ServingError, match="received a redirect to")
        with serving(redirect) as (url, _), connect(url) as client, told:
            client.score(photographs(2))
    assert seen_there == []


def test_an_answer_without_end_is_cut_off():
    sent = []

    def endless(connection, stop):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not stop.is_set():
            connection.sendall(b" " * (1 << 16))
            sent.append(1 << 16)

    told = pytest.raises(ServingError, match=r"expected an answer of at most \d+ bytes")
    with serving(endless) as (url, _), connect(url, timeout=20) as client, told:
        client.score(photographs(2))
    assert sum(sent) < 20 * (BASE_BYTES + 2 * SAMPLE_BYTES)  # what the buffers of sockets hold


def test_a_packed_answer_is_not_unpacked():
    bomb = gzip.compress(bytes(50_000_000))

    def packed(connection, stop):
        connection.sendall(whole(bomb, b"Content-Encoding: gzip\r\n"))

    told = pytest.raises(ServingError, match="packed by gzip")
    with serving(packed) as (url, seen), connect(url) as client, told:
        client.score(photographs(2))
    assert b"Accept-Encoding: identity" in seen[0]


def test_a_file_that_failed_is_never_normal(tmp_path):
    """Where all of them failed, and where the server answers with no number."""
    (tmp_path / "broken.png").write_bytes(b"no image")
    body = b'{"outputs": {"score": [NaN, -Infinity], "is_anomaly": [false, false]}}'
    with serving(lambda connection, _: connection.sendall(whole(body))) as (url, _), connect(url) as client:
        answers = client.score([tmp_path / "broken.png", tmp_path / "missing.png"])
        assert answers["is_anomaly"].all()
        assert all(answers["error"])
        assert client.score(tmp_path / "broken.png", threshold=9.0)["is_anomaly"].all()
        assert client.score(photographs(2))["is_anomaly"].all()


@pytest.mark.parametrize("shape", [None, (), (-1,), (-1, -1, -1, -1), (-1, 8, 8, 0)])
@pytest.mark.parametrize(
    "ask", [lambda c: c.score(photographs(2)), lambda c: c.sample_shape, lambda c: c.is_table]
)
def test_metadata_without_a_usable_shape_are_one_line(shape, ask):
    with serving(None, metadata(shape)) as (url, _), connect(url) as client:
        with pytest.raises(ServingError, match="expected serving_default to take") as error:
            ask(client)
        assert "\n" not in str(error.value)


def test_columns_without_number_are_refused():
    about = metadata((-1, 10**12), "DT_FLOAT")
    told = pytest.raises(ServingError, match="expected serving_default to take")
    with serving(None, about) as (url, _), connect(url) as client, told:
        client.score(np.zeros((1, 3), np.float32))


def test_a_batch_of_none_is_refused():
    with connect("http://localhost:1") as client, pytest.raises(InputError, match="batch_size expects 1"):
        client.score(photographs(2), batch_size=0)


def test_tensors_that_claim_more_than_they_hold_are_refused(monkeypatch):
    pytest.importorskip("tensorflow_serving", reason="gRPC needs tensorflow-serving-api")
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
    from tensorflow_serving.apis import predict_pb2

    from agad_tf.serving.grpc_transport import GrpcTransport

    transport = GrpcTransport("localhost:1", "parts", None, 1.0)
    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=10**12)])
    claim = tensor_pb2.TensorProto(dtype=1, tensor_shape=shape, float_val=[1.0])
    answer = predict_pb2.PredictResponse(outputs={"score": claim, "other": claim})
    monkeypatch.setattr(transport, "_call", lambda *_: answer)
    with pytest.raises(ServingError, match=r"score of shape \[1000000000000\] where \[2\] is expected"):
        transport.predict("serving_default", {"images": photographs(2)}, ["score"])
    assert transport.predict("serving_default", {"images": photographs(2)}, ["p_value"]) == {}
    transport.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_grpc_over_tls(tmp_path, monkeypatch):
    """A server with a certificate that is trusted answers; in plain text it does not."""
    pytest.importorskip("tensorflow_serving", reason="gRPC needs tensorflow-serving-api")
    import grpc
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)

    class Status(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):  # noqa: N802
            state = get_model_status_pb2.ModelVersionStatus(version=3, state=30)
            return get_model_status_pb2.GetModelStatusResponse(model_version_status=[state])

    server = grpc.server(futures.ThreadPoolExecutor(2))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(), server)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    monkeypatch.setattr(grpc, "ssl_channel_credentials", lambda: trusted)
    try:
        with connect(f"grpcs://localhost:{port}", timeout=10) as client:
            assert client.status() == {3: "AVAILABLE"}
        with connect(f"grpc://localhost:{port}", timeout=10) as client, pytest.raises(UnavailableError):
            client.status()
    finally:
        server.stop(None)
