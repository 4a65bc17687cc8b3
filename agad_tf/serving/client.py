"""Scores on a server: batches, retries, and what to do with a sample that the server does not take."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from agad_tf.encoding import TableEncoding
from agad_tf.errors import InputError
from agad_tf.evaluation.decisions import above
from agad_tf.frames import frame_rows, is_frame
from agad_tf.identity import Identity, warn_of_images
from agad_tf.pixels import decode_image
from agad_tf.serving.errors import RefusedError, ServingError, TooLargeError, UnavailableError
from agad_tf.serving.grpc_transport import GrpcTransport
from agad_tf.serving.payload import LARGEST_SAMPLE, ROW_TYPES, checked, encoded, png
from agad_tf.serving.rest import RestTransport

MESSAGE_BYTES = 16 * 1024**2
"""Samples are sent in requests of at most about this size."""

_LONGEST_PAUSE = 30.0
# As a SavedModel answers for a sample that it cannot judge: never normal.
_EMPTY = {"score": np.nan, "p_value": np.nan, "is_anomaly": True, "threshold": np.nan, "error": None}
_TYPES = {"score": "f4", "p_value": "f4", "is_anomaly": "?", "threshold": "f4", "error": "O"}
_OUTPUTS = [name for name in _TYPES if name != "error"]


class Client:
    """One model on a TensorFlow Serving server.

    A request is tried again, after pauses that double, where the server cannot be reached, is busy
    (UNAVAILABLE, status 503) or does not answer in time; never where it says that the request is wrong.

    Args:
        url: "http://host:8501" (REST; https too, and a path where a proxy asks for one) or
            "grpc://host:8500" ("grpcs" with TLS). REST needs no TensorFlow.
        model: its name on the server.
        version: None for the newest that is served, which may change between two requests.
        timeout: seconds for each whole answer, to its last byte.
        retries: further tries after the first, 0 or more.
        backoff: seconds of the first pause.

    Raises:
        InputError: a URL or a setting that cannot be used. Nothing is sent yet.
    """

    def __init__(
        self,
        url: str,
        model: str,
        version: int | None = None,
        timeout: float = 30.0,
        retries: int = 4,
        backoff: float = 0.25,
    ):
        if not model or "/" in model:
            raise InputError(f"model expects its name on the server, received {model!r}")
        if timeout <= 0 or retries < 0 or backoff < 0:
            raise InputError(
                "timeout expects seconds over 0, retries and backoff 0 or more; received "
                f"{timeout}, {retries} and {backoff}"
            )
        self.model, self.version = model, version
        self._retries, self._backoff = retries, backoff
        self._transport = _transport(url, model, version, timeout)
        self._signatures: dict | None = None
        self._identity: Identity | None = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def score(
        self,
        samples: np.ndarray | Sequence[str | Path | bytes] | str | Path | bytes,
        threshold: float | None = None,
        batch_size: int = 256,
    ) -> dict[str, np.ndarray]:
        """Scores samples, in requests of at most `batch_size` and about 16 MiB.

        Args:
            samples: uint8 images (n, any height, any width, channels), the last axis may be left out for one
                channel; or table rows (n, features), of a data frame by name; or paths of image files, or
                their bytes, of any sizes.
            threshold: decide by it, not by the export's own: score > threshold is an anomaly.
            batch_size: samples a request.

        Returns:
            Arrays (n,): `score` float32, higher is more anomalous; with a calibration in the export `p_value`
            float32, `is_anomaly` bool and `threshold` float32; with files `error`, None or the reason why
            that file has no score: then the numbers are NaN and `is_anomaly` is True, since what could not
            be judged must not pass as normal.

        Raises:
            InputError: an array that the model does not take.
            ServingError: no answer after all retries, no such model, or a request that the server refuses.
        """
        if isinstance(samples, str | Path | bytes):
            samples = [samples]
        if batch_size < 1:
            raise InputError(f"batch_size expects 1 or more, received {batch_size}")
        if threshold is not None and not math.isfinite(threshold):
            raise InputError(f"threshold expects a finite number, received {threshold}")
        if is_frame(samples) and self.is_table:
            samples = frame_rows(samples, self.identity, self.sample_shape[0], "samples")
        array = isinstance(samples, np.ndarray)
        if (array and not samples.ndim) or not len(samples):
            raise InputError("expected at least one sample, received none")
        if array:
            answers = self._score_array(samples, batch_size)
        else:
            answers = self._score_files(encoded(samples), batch_size)
        if threshold is not None:
            answers["is_anomaly"] = above(answers["score"], threshold)  # so too where there is no score
            answers["threshold"] = np.full(len(samples), threshold, np.float32)
        return answers

    def score_encoded(self, images: Sequence[bytes], batch_size: int = 256) -> dict[str, np.ndarray]:
        """As `score` for files, of bytes sent unseen: those of `agad_tf.serving.payload.encoded_image`."""
        return self._score_files(iter(images), batch_size)

    def status(self) -> dict[int, str]:
        """Version to state ("AVAILABLE", "LOADING", ...) of what the server knows of the model."""
        answer = self._patiently(self._transport.status)
        try:
            versions = answer["model_version_status"]
            return {int(entry["version"]): entry["state"] for entry in versions}
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(
                f"{self.model}: expected the status of versions, received something else"
            ) from error

    def metadata(self) -> dict:
        """What the server says of the model.

        Returns:
            `model`, `version`, and `signatures`: name to `inputs` and `outputs`, name to `dtype` ("DT_UINT8",
            "DT_FLOAT", ...) and `shape` (None for any size; None altogether where the server states none).
        """
        answer = self._patiently(self._transport.metadata)
        try:
            signatures = {
                name: {
                    side: {key: _tensor(value) for key, value in definition.get(side, {}).items()}
                    for side in ("inputs", "outputs")
                }
                for name, definition in answer["signature_def"].items()
            }
            spec = answer["model_spec"]
            return {"model": spec["name"], "version": int(spec["version"]), "signatures": signatures}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServingError(
                f"{self.model}: expected metadata of a model, received something else"
            ) from error

    @property
    def sample_shape(self) -> tuple[int | None, ...]:
        """(height, width, channels) or (features,) that the model takes; None for any size."""
        return self._input("serving_default")[1]["shape"][1:]

    @property
    def is_table(self) -> bool:
        """Whether the model takes rows of a table, and not images."""
        return self._input("serving_default")[1]["dtype"] in ROW_TYPES

    @property
    def identity(self) -> Identity:
        """What the server tells of the model's columns: names and encoding, where the export knew them."""
        if self._identity is None:
            columns = self._told("columns")
            encoding = self._told("encoding")
            if encoding is not None:
                encoding = TableEncoding.from_columns(encoding)
            self._identity = Identity("table" if self.is_table else None, columns, encoding=encoding)
        return self._identity

    def _told(self, signature: str) -> list[str] | None:
        """A text a column, from a signature that tells what the model knows; None where it has none."""
        if not self.is_table or signature not in self._signatures:
            return None
        name, form = self._input(signature)
        row = np.zeros((1, *form["shape"][1:]), ROW_TYPES[form["dtype"]])
        count = row.shape[1]
        answer = self._patiently(
            lambda: self._transport.predict(signature, {name: row}, (signature,), (1, count))
        )
        found = np.ravel(answer.get(signature, ()))  # of the one row
        try:
            texts = [text if isinstance(text, str) else text.decode() for text in found.tolist()]
        except (AttributeError, UnicodeDecodeError):
            texts = []
        if len(texts) != count:
            what = "names" if signature == "columns" else signature
            raise ServingError(
                f"{self.model}: expected the {what} of {count} columns, received something else: "
                "export it with `agad-tf export`"
            )
        return texts

    def _input(self, signature: str) -> tuple[str, dict]:
        """Name and form of the only input of a signature."""
        if self._signatures is None:
            self._signatures = self.metadata()["signatures"]
        inputs = self._signatures.get(signature, {}).get("inputs", {})
        if len(inputs) != 1:
            raise ServingError(
                f"{self.model}: expected a model with the signature {signature}, received "
                f"{', '.join(sorted(self._signatures)) or 'none'}: export it with `agad-tf export`"
            )
        ((name, form),) = inputs.items()
        ranks = {"DT_FLOAT": 2, "DT_DOUBLE": 2, "DT_UINT8": 4, "DT_STRING": 1}
        shape = form["shape"]
        usable = shape is not None and len(shape) == ranks.get(form["dtype"])
        if not usable or (len(shape) > 1 and not 0 < (shape[-1] or 0) <= LARGEST_SAMPLE):
            raise ServingError(
                f"{self.model}: expected {signature} to take images, image files or rows, received {name} of "
                f"{form['dtype']} and shape {shape}: export it with `agad-tf export`"
            )
        return name, form

    def _score_array(self, samples: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
        name, form = self._input("serving_default")
        encoding = self.identity.encoding if self.is_table else None
        samples = checked(samples, form, encoding)
        if not self.is_table:
            warn_of_images(Identity(), samples, (-1.0, 1.0))
        size = min(batch_size, max(1, MESSAGE_BYTES // samples[0].nbytes))

        def send(indices: range) -> dict[str, np.ndarray]:
            return self._predict("serving_default", name, samples[indices.start : indices.stop])

        def failed(indices: range, error: RefusedError):
            raise error

        parts = (range(start, min(start + size, len(samples))) for start in range(0, len(samples), size))
        answers = [answer for part in parts for answer in _in_halves(part, send, failed, TooLargeError)]
        return self._joined("serving_default", len(samples), answers)

    def _score_files(self, images: Iterator[bytes | InputError], batch_size: int) -> dict[str, np.ndarray]:
        name, _ = self._input("score_encoded")
        part: dict[int, bytes] = {}  # of one request, by position
        answers, count, size = [], 0, 0

        def send(indices: Sequence[int]) -> dict[str, np.ndarray]:
            return self._predict("score_encoded", name, [part[index] for index in indices])

        def failed(indices: Sequence[int], error: RefusedError) -> dict[str, np.ndarray]:
            # Decoders differ over files with a scratch; what this one could read is sent as it reads it.
            (sent,) = (part[index] for index in indices)
            try:
                again = png(decode_image(sent, "image"))
                return _as_answer(error) if again == sent else self._predict("score_encoded", name, [again])
            except RefusedError as second:
                return _as_answer(second)
            except InputError:
                return _as_answer(error)

        def send_all() -> None:
            # One file spoils its request: halves find it, and save the others.
            answers.extend(_in_halves(list(part), send, failed, RefusedError) if part else ())
            part.clear()

        for index, image in enumerate(images):
            count += 1
            if isinstance(image, InputError):
                answers.append(([index], _as_answer(image)))
                continue
            if len(part) == batch_size or size + len(image) > MESSAGE_BYTES:
                send_all()
                size = 0
            part[index] = image
            size += len(image)
        send_all()
        return {"error": np.full(count, None)} | self._joined("score_encoded", count, answers)

    def _joined(self, signature: str, count: int, answers: list[tuple[Sequence[int], dict]]) -> dict:
        """Answers at their positions; where there is none, what stands for it, and never a normal."""
        promised = self._signatures[signature]["outputs"]
        names = [
            name
            for name in _EMPTY
            if name in promised or name == "score" or any(name in answer for _, answer in answers)
        ]
        columns = {name: np.full(count, _EMPTY[name], _TYPES[name]) for name in names}
        for indices, answer in answers:
            for name, values in answer.items():
                columns[name][list(indices)] = values
        if "is_anomaly" in columns:
            columns["is_anomaly"] |= ~np.isfinite(columns["score"])
        return columns

    def _predict(self, signature: str, name: str, part) -> dict[str, np.ndarray]:
        outputs = self._patiently(lambda: self._transport.predict(signature, {name: part}, _OUTPUTS))
        for key, values in outputs.items():
            if values.shape != (len(part),) or values.dtype.kind not in (
                "b" if _TYPES[key] == "?" else "fiu"
            ):
                raise ServingError(
                    f"{self.model}: expected {len(part)} values of {key}, received {values.dtype} of shape "
                    f"{values.shape}: is it an export of agad-tf?"
                )
        if "score" not in outputs:
            raise ServingError(
                f"{self.model}: expected an output called score, received {', '.join(outputs) or 'none'}"
            )
        return outputs

    def _patiently(self, request: Callable[[], dict]) -> dict:
        attempt = 0
        while True:
            try:
                return request()
            except UnavailableError:
                if attempt == self._retries:
                    raise
            pause = min(self._backoff * 2**attempt, _LONGEST_PAUSE)
            time.sleep(pause * random.uniform(0.5, 1))  # clients that failed together come back apart
            attempt += 1


def _transport(url: str, model: str, version: int | None, timeout: float) -> RestTransport | GrpcTransport:
    try:
        parts = urlsplit(url)
        known = parts.hostname and (parts.port or parts.scheme in ("http", "https"))
    except ValueError:
        known = False
    if not known or parts.scheme not in ("http", "https", "grpc", "grpcs"):
        raise InputError(f"expected a URL like http://host:8501 or grpc://host:8500, received {url!r}")
    if parts.scheme in ("grpc", "grpcs"):
        return GrpcTransport(parts.netloc, model, version, timeout, secure=parts.scheme == "grpcs")
    return RestTransport(url, model, version, timeout)


def _tensor(value: dict) -> dict:
    """Type and shape of an input or output; the shape is None where the server states none."""
    shape = value.get("tensor_shape", {})
    if "dim" not in shape:
        return {"dtype": value["dtype"], "shape": None}
    sizes = (int(dim.get("size", 0)) for dim in shape["dim"])
    return {"dtype": value["dtype"], "shape": tuple(None if size < 0 else size for size in sizes)}


def _as_answer(error: InputError) -> dict[str, np.ndarray]:
    return {"error": np.array([str(error)], object)}


def _in_halves(
    indices: Sequence[int], send: Callable, failed: Callable, kind: type[RefusedError]
) -> list[tuple[Sequence[int], dict[str, np.ndarray]]]:
    """Answers to a request, cut in two where it is refused as a whole, down to single samples."""
    try:
        return [(indices, send(indices))]
    except kind as error:
        if len(indices) == 1:
            return [(indices, failed(indices, error))]
    middle = len(indices) // 2
    halves = (indices[:middle], indices[middle:])
    return [answer for half in halves for answer in _in_halves(half, send, failed, kind)]
