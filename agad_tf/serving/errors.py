"""Why a server gave no scores."""

from agad_tf.errors import InputError

_LONGEST = 300


class ServingError(InputError):
    """No usable answer; one line that says which server, what happened, what to do."""


class UnavailableError(ServingError):
    """Not reachable, busy, or too slow: worth another try."""


class ModelNotFoundError(ServingError):
    """The server runs, and has no such model, version or signature."""


class RefusedError(ServingError):
    """The server does not take this request, and will not take it the next time."""


class TooLargeError(RefusedError):
    """The request is larger than the server takes; with fewer samples it may pass."""


def refused(what: str, message: str) -> ServingError:
    """The error for a request that the server calls invalid."""
    said = one_line(message)
    if "from different tasks have different shapes" in message:
        # With batching the neighbours decide: the next time they will be others.
        return UnavailableError(
            f"{what}: expected scores, but the server batches images of one size, and others came at the "
            f"same time: send files (score_encoded), or one size, or switch batching off: {said}"
        )
    kind = TooLargeError if "larger than max" in message else RefusedError
    return kind(f"{what}: the server refused the request: {said}")


def one_line(message: str) -> str:
    """What a server said, without line breaks and not endless."""
    text = " ".join(message.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
