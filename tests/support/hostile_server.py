"""A server that answers as it is told to, byte for byte."""

import json
import socket
import threading
from contextlib import contextmanager


def metadata(shape=(-1, -1, -1, 1), dtype="DT_UINT8"):
    """An answer to a metadata request; shape None leaves it out."""
    form = {"dtype": dtype}
    if shape is not None:
        form["tensor_shape"] = {"dim": [{"size": str(size)} for size in shape]}
    files = {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}
    outputs = {"score": {"dtype": "DT_FLOAT"}, "is_anomaly": {"dtype": "DT_BOOL"}}
    signatures = {
        "serving_default": {"inputs": {"images": form}, "outputs": outputs},
        "score_encoded": {"inputs": {"image_bytes": files}, "outputs": outputs},
    }
    answer = {
        "model_spec": {"name": "parts", "version": "1"},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
    return json.dumps(answer).encode()


def whole(body, head=b""):
    return b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@contextmanager
def serving(predict, about=None):
    """A server that answers metadata, and predictions as `predict(connection)` does; (URL, requests seen)."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen, stop = [], threading.Event()

    def handle(connection):
        with connection:
            request = connection.recv(1 << 20)
            seen.append(request)
            try:
                if b"/metadata" in request.split(b"\r\n")[0]:
                    connection.sendall(whole(metadata() if about is None else about))
                else:
                    predict(connection, stop)
            except OSError:
                return  # the client has had enough

    def accept():
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        stop.set()
        listener.close()
