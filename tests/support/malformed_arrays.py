"""The doors of `malformed_matrix` by which arrays and answers come in: Keras, the edge runner, the client."""

import atexit
import contextlib
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from hostile_server import metadata, serving, whole
from loopback_server import loopback
from malformed_cases import bad_images, bad_rows
from malformed_matrix import Case, change_leaf
from malformed_saved import PIXELS
from serving_cases import FEATURES, detector, served, tflite

from agad_tf.edge import EdgeModel
from agad_tf.errors import InputError
from agad_tf.serving import Client

SERVERS = contextlib.ExitStack()  # they run until the process ends
atexit.register(SERVERS.close)

ARRAY_KINDS = {
    "huge": ("huge",),
    "empty": ("none", "no height", "no width", "no columns"),
    "wrong type": ("wrong channels", "two channels", "flat", "a number", "five axes", "truths", "complex",
                   "text", "objects", "dates", "a column more", "a column less", "one row", "images"),
    "wrong range": ("floats", "whole numbers", "negative", "beyond float32"),
    "NaN and infinity": ("NaN", "infinity"),
}  # fmt: skip
"""Kind to the names that `bad_images` and `bad_rows` give."""
HARMLESS = {"none", "huge"}
"""No samples have no scores, and an image of any size is resized where it lies."""


def of_arrays(makers: dict, bad: dict) -> dict:
    """The kinds of arrays for functions that score one; name to function, name to (what is wrong, array)."""

    def kind(names):
        def make(rng):
            door = list(makers)[rng.integers(len(makers))]
            while True:
                name, array = bad[door](rng)
                if name in names:
                    break
            if name == "huge":
                array = np.zeros((1, 3000, 3000, 1), np.uint8)
            takes, wanted = makers[door], None
            if name in HARMLESS:
                wanted = np.zeros(len(array))
            return Case(f"{door}: {name}", lambda: takes(array), wanted, free=True)

        return make

    drawn = (maker(np.random.default_rng(seed)) for maker in bad.values() for seed in range(300))
    known = {name for name, _ in drawn}
    return {one: kind(names) for one, names in ARRAY_KINDS.items() if known & set(names)}


def arrays(rng, folder: Path) -> dict:
    """`predict`, `model(x)`, `anomaly_map` and the edge runner."""
    model, edge = detector()[0], EdgeModel(tflite())
    makers = {
        "predict": lambda x: model.predict(x, verbose=0),
        "edge": edge.score,
        "maps": lambda x: np.asarray(model.anomaly_map(x)).sum((1, 2)),
    }
    return of_arrays(makers, dict.fromkeys(makers, bad_images))


def tensors(rng, folder: Path) -> dict:
    """Tensors and datasets to `predict`, `evaluate` and `fit`."""
    model = detector()[0]

    def tensor(x):
        try:
            return tf.constant(x)
        except (TypeError, ValueError) as error:  # TensorFlow has no such tensors
            raise InputError("expected what a tensor can hold") from error

    def dataset(x):
        return tf.data.Dataset.from_tensor_slices(tensor(x)).batch(2)

    makers = {
        "tensor": lambda x: model.predict(tensor(x), verbose=0),
        "dataset": lambda x: model.predict(dataset(np.atleast_1d(x)), verbose=0),
        "called": lambda x: np.asarray(model(tensor(x))),
    }
    made = of_arrays(makers, dict.fromkeys(makers, bad_images))
    del made["empty"]  # a dataset without batches is as good as no call
    return made


# -- a server and its client -------------------------------------------------------------------------------


def requests_to_a_client(rng, folder: Path) -> dict:
    """Arrays to the client of a server that answers properly."""
    running = SERVERS.enter_context(loopback(served()))

    def scoring(scheme, model):
        client = Client(running.url(scheme), model)
        return lambda x: client.score(x)["score"]

    names = [(scheme, model) for scheme in ("http", "grpc") for model in ("parts", "rows")]
    makers = {f"{scheme} {model}": scoring(scheme, model) for scheme, model in names}
    bad = {name: bad_images if "parts" in name else lambda rng: bad_rows(rng, FEATURES) for name in makers}
    bomb = np.broadcast_to(np.uint8(0), (1, 50_000, 50_000, 1))
    return of_arrays(makers, bad) | {
        "huge": lambda rng: Case("huge", lambda: makers["http parts"](bomb), None),
        "empty": lambda rng: Case("none", lambda: makers["http rows"](np.zeros((0, FEATURES))), None),
    }


OTHER_ANSWERS = (
    b"null", b"[]", b"3", b'"text"', b"{}", b"<html></html>", b"\xff\xfe", b'{"outputs": null}',
    b'{"outputs": [[1]]}', b'{"outputs": {"score": [1, 2, 3]}}', b'{"outputs": {"score": ["a", "b"]}}',
    b'{"outputs": {"score": {"a": 1}}}', b'{"metadata": {"signature_def": 3}}',
)  # fmt: skip


def answers_of_servers(rng, folder: Path) -> dict:
    """What a server answers to two images, over REST: metadata and predictions."""
    good = json.dumps({"outputs": {"score": [0.5, 1.5], "is_anomaly": [False, True]}}).encode()

    def ask(body, about):
        predict = lambda connection, _: connection.sendall(whole(body))  # noqa: E731
        with serving(predict, about) as (url, _), Client(url, "parts", timeout=3.0, retries=0) as client:
            answers = client.score(PIXELS[:2])
            sound = np.isfinite(answers["score"]) | answers["is_anomaly"]
            if not sound.all():
                raise AssertionError("no score, and called normal")
            return answers["score"]

    def both(what, change, free=False):
        """Damage to the one or the other answer."""

        def make(rng):
            predicted = bool(rng.integers(2))
            body, about = (change(rng, good), metadata()) if predicted else (good, change(rng, metadata()))
            name = f"{'prediction' if predicted else 'metadata'} {what}"
            return Case(name, lambda: ask(body, about), [0.5, 1.5], free)

        return make

    def leaf(values):
        def change(rng, data):
            content = json.loads(data)
            change_leaf(rng, content, values)
            return json.dumps(content).encode()

        return both("value", change, free=True)

    def sized(rng, data):
        content = json.loads(data)
        text = data.replace(b'"-1"', b'"99999999999999999999"').replace(b"0.5", b"9" * 5000)
        return text if rng.integers(2) else b"[" * 100_000 + json.dumps(content).encode()

    def other(rng, data):
        return OTHER_ANSWERS[rng.integers(len(OTHER_ANSWERS))]

    return {
        "truncated": both("cut", lambda rng, data: data[: int(rng.integers(len(data)))]),
        "bit-flipped": both("flipped above 127", lambda rng, data: _high(rng, data), free=True),
        "huge": both("huge", sized, free=True),
        "empty": both("empty", lambda rng, data: b""),
        "wrong type": both("other", other),
        "wrong range": leaf((-1, 10**30, "text", None, [], {}, 1e300, True)),
        "NaN and infinity": leaf((float("nan"), float("inf"), float("-inf"))),
    }


def _high(rng, data: bytes) -> bytes:
    data = bytearray(data)
    data[rng.integers(len(data))] |= 128
    return bytes(data)


HANDED_OVER = {
    "arrays": arrays,
    "tensors and datasets": tensors,
    "requests to the client": requests_to_a_client,
    "answers of servers": answers_of_servers,
}
