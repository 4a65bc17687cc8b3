"""Client of TensorFlow Serving: scores arrays and image files on a server, over REST or gRPC.

from agad_tf.serving import Client

with Client("http://localhost:8501", "screws") as client:
    answers = client.score(["a.png", "b.jpg"])
"""

from agad_tf.serving.client import Client
from agad_tf.serving.errors import (
    ModelNotFoundError,
    RefusedError,
    ServingError,
    TooLargeError,
    UnavailableError,
)

__all__ = [
    "Client",
    "ModelNotFoundError",
    "RefusedError",
    "ServingError",
    "TooLargeError",
    "UnavailableError",
]
