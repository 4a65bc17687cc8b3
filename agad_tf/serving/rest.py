"""TensorFlow Serving's REST API. No TensorFlow needed."""

import base64
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable

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

BASE_BYTES = 1024**2
"""An answer without samples, metadata for instance, is never as large."""

SAMPLE_BYTES = 1024
"""Nor are the few numbers of one sample, as JSON with all its blanks."""


class RestTransport:
    """One model behind the REST port of a server.

    Args:
        url: http://host:8501 or https://..., with a path where a proxy asks for one.
        model: its name on the server.
        version: None for the newest that is served.
        timeout: seconds for a whole answer, from connecting to its last byte.
    """

    def __init__(self, url: str, model: str, version: int | None, timeout: float):
        import requests
        from requests.utils import quote

        self._requests, self._timeout = requests, timeout
        self._session = requests.Session()
        # What is packed could unpack to anything: the limit counts the bytes that come.
        self._session.headers["Accept-Encoding"] = "identity"
        self._url = f"{url.rstrip('/')}/v1/models/{quote(model, safe='')}"
        self._url += "" if version is None else f"/versions/{version}"
        self._what = f"{url} model {model}" + ("" if version is None else f" version {version}")

    def predict(
        self,
        signature: str,
        inputs: dict[str, np.ndarray | list[bytes]],
        wanted: Iterable[str],
        shape: tuple[int, ...] | None = None,
    ) -> dict[str, np.ndarray]:
        """Those outputs of a signature that are wanted, by name, each of `shape`: None for one a sample."""
        body = {"signature_name": signature, "inputs": {name: _plain(x) for name, x in inputs.items()}}
        count = max(map(len, inputs.values())) if shape is None else math.prod(shape)
        answer = self._answer("POST", ":predict", json.dumps(body), BASE_BYTES + count * SAMPLE_BYTES)
        outputs = answer.get("outputs")
        wanted = tuple(wanted)
        if not isinstance(outputs, dict):  # of the only output of a signature
            outputs = {wanted[0] if len(wanted) == 1 else "score": outputs}
        try:
            return {name: np.array(outputs[name]) for name in wanted if name in outputs}
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

    def _answer(self, method: str, suffix: str, body: str | None = None, most: int = BASE_BYTES) -> dict:
        errors = self._requests.exceptions
        try:
            response, content = within(
                self._timeout, lambda deadline: self._exchange(method, suffix, body, most, deadline)
            )
        except ServingError:
            raise
        except (errors.Timeout, TimeoutError) as error:
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
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if response.is_redirect or 300 <= response.status_code < 400:
            # Following it would post the samples to whatever host is named there.
            where = one_line(response.headers.get("Location", "nowhere"))
            raise ServingError(
                f"{self._what}: expected an answer, received a redirect to {where}: give the server's own URL"
            )
        if response.status_code != 200:
            raise self._error(response.status_code, answer, response.reason)
        if not isinstance(answer, dict):
            raise self._strange("JSON", response.headers.get("Content-Type", "something else"))
        return answer

    def _exchange(self, method: str, suffix: str, body: str | None, most: int, deadline: float):
        """A response and its bytes, at most `most` of them and none after the deadline."""
        with self._session.request(
            method, self._url + suffix, data=body, timeout=self._timeout, allow_redirects=False, stream=True
        ) as response:
            packed = response.headers.get("Content-Encoding", "identity")
            if packed != "identity":
                raise self._strange("an answer as it is", f"one packed by {one_line(packed)}")
            content = bytearray()
            for block in response.iter_content(1 << 16):
                content += block
                if len(content) > most:
                    raise self._strange(f"an answer of at most {most} bytes", "a larger one")
                if time.monotonic() > deadline:
                    raise TimeoutError
            return response, bytes(content)

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


def within(seconds: float, exchange: Callable[[float], object]):
    """What `exchange`, told the deadline, returns or raises, or TimeoutError after so many seconds.

    In a thread of its own: a socket knows how long to wait for the next byte, not for the last, and a server
    that sends one byte a second would hold us for ever.
    """
    outcome: queue.SimpleQueue = queue.SimpleQueue()
    deadline = time.monotonic() + seconds

    def run() -> None:
        try:
            outcome.put((exchange(deadline), None))
        except BaseException as error:  # for the caller to raise
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return answer


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
