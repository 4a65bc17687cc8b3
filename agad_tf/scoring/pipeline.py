"""From files to rows in order: other threads read ahead while the model works, within bounds."""

import math
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np

from agad_tf.errors import InputError
from agad_tf.evaluation.decisions import above
from agad_tf.scoring.files import Sample
from agad_tf.scoring.results import Row

AHEAD_BYTES = 128 * 1024**2
"""Decoded images that may wait for the model; one image that is larger alone is let through."""

BATCH_BYTES = 64 * 1024**2
"""A batch that has grown so large is scored, however few images it holds."""

STALLED_SECONDS = 0.5
"""When nothing more comes for so long, what is there is scored: standard input may be a slow trickle."""

Score = Callable[[list], dict[str, np.ndarray]]


def score_samples(
    samples: Iterable[Sample],
    read: Callable[[str], np.ndarray | bytes] | None,
    score: Score,
    batch_size: int = 256,
    threshold: float | None = None,
    seen: Callable[[list[Sample], list[Row]], object] | None = None,
) -> Iterator[list[Row]]:
    """Yields rows in the order of the samples, a batch at a time.

    At any time there are at most two batches of samples read ahead and one being scored, and at most
    `AHEAD_BYTES` and `BATCH_BYTES` of them, plus the image that each reading thread is decoding.

    Args:
        samples: with a value or an error, or with neither: then `read` is called for the path.
        read: path to value, from several threads; what it raises becomes the error of that sample. None
            where every sample has its value.
        score: values of one shape, or encoded images, to arrays of the same length: `score`, and where there
            are any `p_value`, `is_anomaly` and `error` (text for a sample that could not be scored).
        batch_size: samples a call of `score`.
        threshold: decide by it, not by the detector's own: score > threshold is an anomaly.
        seen: given the samples of each batch, with their values, and their rows.
    """
    with closing(_ReadAhead(samples, read, 2 * batch_size)) as ahead:
        for batch in _batches(ahead, batch_size):
            rows = _rows(batch, score, threshold)
            if seen is not None:
                seen(batch, rows)
            yield rows


def _batches(samples: Iterable[Sample | None], batch_size: int) -> Iterator[list[Sample]]:
    """Cuts where the batch is full, where another shape begins, and where the samples stall (None)."""
    batch: list[Sample] = []
    shape, size = None, 0
    for sample in samples:
        if batch and (
            sample is None
            or len(batch) == batch_size
            or size > BATCH_BYTES
            or (size and sample.error is None and _shape(sample.value) != shape)
        ):
            yield batch
            batch, size = [], 0
        if sample is None:
            continue
        batch.append(sample)
        if sample.error is None:
            shape, size = _shape(sample.value), size + _size(sample.value)
    if batch:
        yield batch


def _rows(batch: list[Sample], score: Score, threshold: float | None) -> list[Row]:
    values = [sample.value for sample in batch if sample.error is None]
    results = iter(_results(score(values), threshold) if values else ())
    return [
        Row(sample.path, sample.row, **(next(results) if sample.error is None else {"error": sample.error}))
        for sample in batch
    ]


def _results(outputs: dict[str, np.ndarray], threshold: float | None) -> Iterator[dict]:
    scores = outputs["score"].tolist()
    nothing = [None] * len(scores)
    p_values, decisions, errors = (
        outputs[name].tolist() if name in outputs else nothing for name in ("p_value", "is_anomaly", "error")
    )
    for score, p_value, decision, error in zip(scores, p_values, decisions, errors, strict=True):
        if error is None and not math.isfinite(score):
            error = f"expected a finite score, received {score} from the model"
        if error is not None:
            yield {"error": error}
        else:
            decision = decision if threshold is None else bool(above(score, threshold))
            yield {"score": score, "p_value": p_value, "is_anomaly": decision}


def _shape(value: np.ndarray | bytes) -> tuple[int, ...] | None:
    return None if isinstance(value, bytes) else value.shape


def _size(value: np.ndarray | bytes) -> int:
    return len(value) if isinstance(value, bytes) else value.nbytes


class _ReadAhead:
    """Iterates over samples that threads have read, in order; None where the next is long in coming."""

    def __init__(self, samples: Iterable[Sample], read: Callable | None, count: int):
        self._samples, self._read, self._count = samples, read, count
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._change = threading.Condition()
        self._taken = 0  # samples that the consumer has
        self._held = 0  # bytes that wait for it
        self._closed = False
        # A daemon: it may be waiting for standard input when the program ends.
        threading.Thread(target=self._feed, daemon=True).start()

    def __iter__(self) -> Iterator[Sample | None]:
        while True:
            try:
                entry = self._queue.get(timeout=STALLED_SECONDS)
            except queue.Empty:
                yield None
                continue
            if entry is None:
                return
            if isinstance(entry, BaseException):
                raise entry
            sample = entry.result() if isinstance(entry, Future) else entry
            with self._change:
                self._taken += 1
                self._held -= _size(sample.value) if isinstance(entry, Future) and sample.error is None else 0
                self._change.notify_all()
            yield sample

    def close(self) -> None:
        """Lets the threads end; samples that were not taken are lost."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _feed(self) -> None:
        try:
            for index, sample in enumerate(self._samples):
                if not self._wait(lambda index=index: index < self._taken + self._count):
                    return
                unread = sample.value is None and sample.error is None
                self._queue.put(self._pool.submit(self._fill, index, sample) if unread else sample)
            self._queue.put(None)
        except BaseException as error:  # for the consumer to raise
            self._queue.put(error)

    def _fill(self, index: int, sample: Sample) -> Sample:
        # The next sample wanted goes ahead whatever waits, or all would wait for each other.
        self._wait(lambda: self._held <= AHEAD_BYTES or index == self._taken)
        try:
            sample.value = self._read(sample.path)
        except InputError as error:
            sample.error = str(error)
        except Exception as error:  # a decoder stumbling over a damaged file must not end the job
            reason = " ".join(str(error).split()) or type(error).__name__
            sample.error = f"{sample.path}: expected a readable file, received: {reason}; replace it"
        if sample.error is None:
            with self._change:
                self._held += _size(sample.value)
        return sample

    def _wait(self, ready: Callable[[], bool]) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._closed or ready())
            return not self._closed
