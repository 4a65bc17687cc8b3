"""TensorFlow Serving's REST API. No TensorFlow needed."""

import base64
import json

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

_BUSY = {408, 429, 502, 503, 504}


class RestTransport:
    """One model behind the REST port of a server.

    Args:
        url: http://host:8501 or https://..., with a path where a proxy asks for one.
        model: its name on the server.
        version: None for the newest that is served.
        timeout: seconds to connect, and again to wait for each answer.
    """

    def __init__(self, url: str, model: str, version: int | None, timeout: float):
        import requests
        from requests.utils import quote

        self._requests, self._timeout = requests, timeout
        self._session = requests.Session()
        self._url = f"{url.rstrip('/')}/v1/models/{quote(model, safe='')}"
        self._url += "" if version is None else f"/versions/{version}"
        self._what = f"{url} model {model}" + ("" if version is None else f" version {version}")

    def predict(self, signature: str, inputs: dict[str, np.ndarray | list[bytes]]) -> dict[str, np.ndarray]:
        """Outputs of a signature by name."""
        body = {"signature_name": signature, "inputs": {name: _plain(x) for name, x in inputs.items()}}
        answer = self._answer("POST", ":predict", json.dumps(body))
        outputs = answer.get("outputs")
        outputs = outputs if isinstance(outputs, dict) else {"score": outputs}
        try:
            return {name: np.array(values) for name, values in outputs.items()}
        except ValueError as error:
            raise self._strange("arrays", "lists of unequal length") from error

    def status(self) -> dict:
        """Answer to a model status request."""
        return self._answer("GET", "")

    def metadata(self) -> dict:
        """`model_spec` and `signature_def` of the model."""
        answer = self._answer("GET", "/metadata")
        try:
            definitions = answer["metadata"]["signature_def"]["signature_def"]
            return {"model_spec": answer["model_spec"], "signature_def": definitions}
        except (KeyError, TypeError) as error:
            raise self._strange("a model's metadata", "something else") from error

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def _answer(self, method: str, suffix: str, body: str | None = None) -> dict:
        errors = self._requests.exceptions
        try:
            response = self._session.request(method, self._url + suffix, data=body, timeout=self._timeout)
        except errors.Timeout as error:
            raise UnavailableError(
                f"{self._what}: expected an answer within {self._timeout:g} s, received none: allow more "
                "time, send fewer samples a request, or look at the server"
            ) from error
        except (errors.ConnectionError, errors.ChunkedEncodingError) as error:
            raise UnavailableError(
                f"{self._what}: expected a server, the connection failed ({_reason(error)}): check host and "
                "port (REST is on 8501, gRPC on 8500) and that the server runs"
            ) from error
        except (errors.RequestException, ValueError) as error:
            raise InputError(f"{self._what}: expected the URL of a server: {one_line(str(error))}") from error
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if response.status_code != 200:
            raise self._error(response.status_code, answer, response.reason)
        if not isinstance(answer, dict):
            raise self._strange("JSON", response.headers.get("Content-Type", "something else"))
        return answer

    def _error(self, status: int, answer, reason: str) -> ServingError:
        said = answer.get("error") if isinstance(answer, dict) else None
        said = one_line(str(said or reason or "no reason given"))
        if status == 404:
            return ModelNotFoundError(
                f"{self._what}: expected it on the server, received: {said}; check name and version"
            )
        if status == 413:
            return TooLargeError(f"{self._what}: the server takes no request of this size: {said}")
        if status in _BUSY:
            return UnavailableError(
                f"{self._what}: expected scores, received status {status}: {said}; try later"
            )
        if status == 400:
            return refused(self._what, said)
        return ServingError(f"{self._what}: expected scores, received status {status}: {said}")

    def _strange(self, expected: str, received: str) -> ServingError:
        return ServingError(
            f"{self._what}: expected {expected} from TensorFlow Serving, received {received}: check the port "
            "and the path"
        )


def _plain(values: np.ndarray | list[bytes]) -> list:
    """Values as JSON has them; bytes in base 64."""
    if isinstance(values, np.ndarray):
        return values.tolist()
    return [{"b64": base64.b64encode(value).decode()} for value in values]


def _reason(error: Exception) -> str:
    """The innermost cause: requests and urllib3 wrap it several times."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return one_line(str(error)) or type(error).__name__
