"""TensorFlow Serving's two interfaces on this machine, for tests: SavedModels run by TensorFlow.

gRPC through the official protos and service definitions; REST in the documented JSON form. Status codes and
messages are those of the server. It can be told to fail, to be slow, and to take small messages only.
"""

import base64
import json
import re
import threading
import time
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

HTTP_STATUS = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503,
               "DEADLINE_EXCEEDED": 504, "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500}  # fmt: skip


class ServerError(Exception):
    """A status code by its name, and a message."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Models:
    """SavedModels by name and version, and the requests that both interfaces pass on.

    Attributes:
        trouble: errors that the next requests get instead of an answer, None for an answer.
        delay: seconds before each answer.
        max_batch: larger requests are refused as the batching server refuses them.
        requests: (signature, samples) of the predictions that were tried.
    """

    def __init__(self, folders):
        self.versions = {
            name: {
                int(version.name): tf.saved_model.load(str(version))
                for version in sorted(Path(folder).iterdir())
                if version.name.isdigit()
            }
            for name, folder in folders.items()
        }
        self.folders = folders
        self.trouble: list[ServerError | None] = []
        self.delay = 0.0
        self.max_batch = None
        self.requests = []

    def find(self, name, version=None):
        versions = self.versions.get(name, {})
        number = max(versions, default=None) if version is None else version
        if number not in versions:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ServerError("NOT_FOUND", f"Servable not found for request: {wanted}")
        return number, versions[number]

    def signature(self, name, version, signature):
        number, model = self.find(name, version)
        if signature not in model.signatures:
            raise ServerError("FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.')
        return number, model.signatures[signature]

    def predict(self, name, version, signature, make_inputs):
        """(version, outputs by name); `make_inputs` takes the specs of the inputs."""
        time.sleep(self.delay)
        trouble = self.trouble.pop(0) if self.trouble else None
        if trouble is not None:
            raise trouble
        number, function = self.signature(name, version, signature or "serving_default")
        specs = function.structured_input_signature[1]
        inputs = make_inputs(specs)
        if set(inputs) != set(specs):
            raise ServerError("INVALID_ARGUMENT", f"input keys {sorted(inputs)} expected {sorted(specs)}")
        count = next(iter(inputs.values())).shape[0]
        self.requests.append((signature, count))
        if self.max_batch is not None and count > self.max_batch:
            raise ServerError(
                "INVALID_ARGUMENT",
                f"Task size {count} is larger than maximum input batch size {self.max_batch}",
            )
        try:
            return number, {key: value.numpy() for key, value in function(**inputs).items()}
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise ServerError("INVALID_ARGUMENT", str(error)) from error

    def definitions(self, name, version):
        number, _ = self.find(name, version)
        stored = saved_model_pb2.SavedModel()
        stored.ParseFromString(Path(self.folders[name], str(number), "saved_model.pb").read_bytes())
        found = get_model_metadata_pb2.SignatureDefMap()
        for key, definition in stored.meta_graphs[0].signature_def.items():
            if not key.startswith("__"):
                found.signature_def[key].CopyFrom(definition)
        return number, found

    def status(self, name, version):
        if name not in self.versions:
            raise ServerError("NOT_FOUND", f"Could not find any versions of model {name}")
        numbers = self.versions[name] if version is None else [self.find(name, version)[0]]
        response = get_model_status_pb2.GetModelStatusResponse()
        for number in sorted(numbers, reverse=True):
            response.model_version_status.add(version=number, state="AVAILABLE").status.SetInParent()
        return response


class _Grpc(
    prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer
):
    def __init__(self, models):
        self.models = models

    def _answer(self, context, function):
        try:
            return function()
        except ServerError as error:
            context.abort(grpc.StatusCode[error.code], str(error))

    def Predict(self, request, context):  # noqa: N802
        spec = request.model_spec

        def inputs(specs):
            try:
                return {name: tf.constant(tf.make_ndarray(t)) for name, t in request.inputs.items()}
            except (TypeError, ValueError) as error:
                raise ServerError("INVALID_ARGUMENT", str(error)) from error

        def answer():
            version, outputs = self.models.predict(spec.name, _version(spec), spec.signature_name, inputs)
            response = predict_pb2.PredictResponse()
            response.model_spec.CopyFrom(spec)
            response.model_spec.version.value = version
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

        return self._answer(context, answer)

    def GetModelMetadata(self, request, context):  # noqa: N802
        def answer():
            version, definitions = self.models.definitions(
                request.model_spec.name, _version(request.model_spec)
            )
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version
            response.metadata["signature_def"].Pack(definitions)
            return response

        return self._answer(context, answer)

    def GetModelStatus(self, request, context):  # noqa: N802
        spec = request.model_spec
        return self._answer(context, lambda: self.models.status(spec.name, _version(spec)))


def _version(spec):
    return spec.version.value if spec.HasField("version") else None


_PATH = re.compile(r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+))?(?P<rest>:predict|/metadata|)")


def _handler(models, max_body):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if max_body is not None and length > max_body:
                self._send(413, {"error": "Request entity too large"})
            else:
                self._answer(lambda name, version, rest: self._predict(name, version, rest, body))

        def do_GET(self):
            self._answer(self._describe)

        def _answer(self, function):
            path = _PATH.fullmatch(self.path)
            if path is None:
                self._send(404, {"error": f"Malformed request: {self.command} {self.path}"})
                return
            version = path["version"] and int(path["version"])
            try:
                self._send(200, function(path["name"], version, path["rest"]))
            except ServerError as error:
                self._send(HTTP_STATUS[error.code], {"error": str(error)})

        def _predict(self, name, version, rest, body):
            if rest != ":predict":
                raise ServerError("INVALID_ARGUMENT", "Malformed request")
            try:
                request = json.loads(body)
                by_row = "instances" in request
                given = request["instances" if by_row else "inputs"]
            except (ValueError, KeyError, TypeError) as error:
                raise ServerError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error

            def inputs(specs):
                named = given
                if by_row and isinstance(given[0], dict) and "b64" not in given[0]:
                    named = {key: [row[key] for row in given] for key in given[0]}
                elif not isinstance(named, dict):
                    named = {next(iter(specs)): given}
                return {key: _tensor(value, specs[key]) for key, value in named.items() if key in specs}

            _, outputs = models.predict(name, version, request.get("signature_name"), inputs)
            lists = {key: _json(value) for key, value in outputs.items()}
            if by_row:
                rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
                return {"predictions": rows if len(lists) > 1 else next(iter(lists.values()))}
            return {"outputs": lists if len(lists) > 1 else next(iter(lists.values()))}

        def _describe(self, name, version, rest):
            options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
            if rest == "":
                return json_format.MessageToDict(models.status(name, version), **options)
            number, definitions = models.definitions(name, version)
            return {
                "model_spec": {"name": name, "signature_name": "", "version": str(number)},
                "metadata": {"signature_def": json_format.MessageToDict(definitions, **options)},
            }

        def _send(self, status, content):
            data = json.dumps(content, indent=1).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            """Nothing: requests are no news to a test."""

    return Handler


def _tensor(value, spec):
    """JSON to a tensor of the input's type, refusing what the server refuses."""

    def plain(x):
        if isinstance(x, list):
            return [plain(item) for item in x]
        if isinstance(x, dict):
            return base64.b64decode(x["b64"], validate=True)
        return x

    try:
        values = plain(value)
        if spec.dtype == tf.string:
            return tf.constant(values, tf.string)
        array = np.array(values)
        if spec.dtype.is_integer and (array.dtype.kind != "i" or array.min() < 0 or array.max() > 255):
            raise ValueError(f"JSON Value is not of expected type: {spec.dtype.name}")
        return tf.constant(array, spec.dtype)
    except (ValueError, TypeError, KeyError) as error:
        raise ServerError("INVALID_ARGUMENT", f"JSON Value: {error}") from error


def _json(value):
    """Values as the server writes them: of float32 six digits where these give them back, else nine."""
    if value.dtype == object:  # strings: as text, which names of columns are
        return np.vectorize(bytes.decode, otypes=[object])(value).tolist()
    if value.dtype != np.float32:
        return value.tolist()
    if value.ndim:
        return [_json(part) for part in value]
    short = float(f"{value:.6g}")
    return short if np.float32(short) == value else float(f"{value:.9g}")


class Server:
    """Where a server listens, and its handles for tests."""

    def __init__(self, rest, grpc_address, models=None):
        self.rest, self.grpc, self.models = rest, grpc_address, models

    def url(self, scheme):
        return self.rest if scheme == "http" else self.grpc


@contextmanager
def loopback(models, max_body=None, max_message=-1):
    """A running server on free ports of this machine.

    Args:
        models: what to serve.
        max_body: bytes of the largest REST request, as a proxy may limit them.
        max_message: bytes of the largest gRPC request; -1 for no limit.
    """
    rest = ThreadingHTTPServer(("127.0.0.1", 0), _handler(models, max_body))
    thread = threading.Thread(target=rest.serve_forever, daemon=True)
    thread.start()
    pool = futures.ThreadPoolExecutor(4)
    options = [("grpc.max_receive_message_length", max_message), ("grpc.max_send_message_length", -1)]
    server = grpc.server(pool, options=options)
    servicer = _Grpc(models)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Server(f"http://127.0.0.1:{rest.server_port}", f"grpc://127.0.0.1:{port}", models)
    finally:
        server.stop(None).wait()
        rest.shutdown()
        rest.server_close()
        pool.shutdown()
