"""TensorFlow Serving's gRPC API, through the protos of `tensorflow-serving-api`, which load TensorFlow."""

from collections.abc import Iterable

import numpy as np

from agad_tf.errors import InputError
from agad_tf.serving.errors import (
    ModelNotFoundError,
    ServingError,
    TooLargeError,
    UnavailableError,
    one_line,
    refused,
)

_NO_LIMIT = -1

LARGEST_ANSWER = 64 * 1024**2
"""Bytes: more than the four numbers of every sample that goes into one request."""


class GrpcTransport:
    """One model behind the gRPC port of a server.

    Args:
        address: host:port.
        secure: by TLS, with the certificates that gRPC trusts (or GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names).
        model: its name on the server.
        version: None for the newest that is served.
        timeout: seconds for each answer.

    Raises:
        InputError: `tensorflow-serving-api` is not installed.
    """

    def __init__(self, address: str, model: str, version: int | None, timeout: float, secure: bool = False):
        url = f"{'grpcs' if secure else 'grpc'}://{address}"
        try:
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ImportError as error:
            raise InputError(
                f"{url}: expected the package tensorflow-serving-api, which is not installed: "
                "pip install 'agad-tf[serving]', or use the REST port (http://host:8501)"
            ) from error
        self._rpc_error = grpc.RpcError
        self._model, self._version, self._timeout = model, version, timeout
        self._what = f"{url} model {model}" + ("" if version is None else f" version {version}")
        options = [
            ("grpc.max_send_message_length", _NO_LIMIT),
            ("grpc.max_receive_message_length", LARGEST_ANSWER),
            # A server that comes back is found by the next try, not a minute later.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if secure:
            self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self,
        signature: str,
        inputs: dict[str, np.ndarray | list[bytes]],
        wanted: Iterable[str],
        shape: tuple[int, ...] | None = None,
    ) -> dict[str, np.ndarray]:
        """Those outputs of a signature that are wanted, by name, each of `shape`: None for one a sample."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(model_spec=self._spec(signature))
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        outputs = self._call(self._prediction.Predict, request).outputs
        expected = [max(map(len, inputs.values()))] if shape is None else list(shape)
        try:
            found = {name: outputs[name] for name in wanted if name in outputs}
            for name, tensor in found.items():
                # A tensor of one number may claim any shape, and would be given the memory.
                received = [dim.size for dim in tensor.tensor_shape.dim]
                if received != expected:
                    raise ValueError(f"{name} of shape {received} where {expected} is expected")
            return {name: tf.make_ndarray(tensor) for name, tensor in found.items()}
        except (TypeError, ValueError) as error:
            raise ServingError(f"{self._what}: expected tensors, received: {one_line(str(error))}") from error

    def status(self) -> dict:
        """Answer to a model status request."""
        from google.protobuf import json_format
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        return json_format.MessageToDict(
            self._call(self._models.GetModelStatus, request), preserving_proto_field_name=True
        )

    def metadata(self) -> dict:
        """`model_spec` and `signature_def` of the model."""
        from google.protobuf import json_format
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        answer = self._call(self._prediction.GetModelMetadata, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(definitions)
        as_dict = json_format.MessageToDict(definitions, preserving_proto_field_name=True)
        spec = json_format.MessageToDict(answer.model_spec, preserving_proto_field_name=True)
        return {"model_spec": spec, "signature_def": as_dict.get("signature_def", {})}

    def close(self) -> None:
        """Closes the connections."""
        self._channel.close()

    def _spec(self, signature: str = ""):
        from tensorflow_serving.apis import model_pb2

        spec = model_pb2.ModelSpec(name=self._model, signature_name=signature)
        if self._version is not None:
            spec.version.value = self._version
        return spec

    def _call(self, method, request):
        try:
            return method(request, timeout=self._timeout)
        except self._rpc_error as error:
            raise self._error(error.code().name, error.details() or "") from error

    def _error(self, code: str, details: str) -> ServingError:
        said = one_line(details) or code
        if code == "DEADLINE_EXCEEDED":
            return UnavailableError(
                f"{self._what}: expected an answer within {self._timeout:g} s, received none: allow more "
                "time, send fewer samples a request, or look at the server"
            )
        if code == "UNAVAILABLE":
            return UnavailableError(
                f"{self._what}: expected a server, received: {said}; check host and port (gRPC is on 8500, "
                "REST on 8501) and that the server runs"
            )
        if code == "NOT_FOUND":
            return ModelNotFoundError(
                f"{self._what}: expected it on the server, received: {said}; check name and version"
            )
        if code == "RESOURCE_EXHAUSTED":
            if "larger than max" in details:
                return TooLargeError(f"{self._what}: the server takes no request of this size: {said}")
            return UnavailableError(f"{self._what}: expected scores, the server is busy: {said}; try later")
        if code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"):
            return refused(self._what, details)
        return ServingError(f"{self._what}: expected scores, received {code}: {said}")
