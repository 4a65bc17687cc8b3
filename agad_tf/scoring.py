"""Scores image files with a detector, a batch at a time."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agad_tf.data.sources import list_images, read_image
from agad_tf.errors import InputError

COLUMNS = ("path", "score", "p_value", "is_anomaly", "error")


@dataclass(frozen=True)
class Row:
    """Result of one file: a score, or the reason why there is none."""

    path: str
    score: float | None = None
    p_value: float | None = None
    is_anomaly: bool | None = None
    error: str | None = None

    def cells(self) -> list[str]:
        """The row as text, empty where there is no value."""
        values = (self.path, self.score, self.p_value, self.is_anomaly, self.error)
        return [
            "" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
            for value in values
        ]


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Image files named or found in the folders named, in order.

    Raises:
        InputError: a path that does not exist, a folder without images.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            found.extend(list_images(path))
        elif path.exists():
            found.append(path)
        else:
            raise InputError(
                f"{path}: expected an image or a folder of images, found nothing: check the path"
            )
    return found


def score_files(
    predict: Callable[[np.ndarray], np.ndarray],
    paths: Iterable[Path],
    channels: int,
    calibration=None,
    batch_size: int = 256,
    on_error: str = "stop",
) -> Iterator[Row]:
    """Yields one row a file, in order, with at most a batch of images in memory.

    Args:
        predict: uint8 (n, height, width, channels) to scores (n,).
        paths: image files of any size; images of one size share a batch.
        channels: 1 or 3, what the detector takes.
        calibration: for p-values and decisions, or None.
        batch_size: images a call of `predict`.
        on_error: "stop" raises at an unreadable file, "skip" yields its row with the reason.

    Raises:
        InputError: an unreadable file under "stop".
    """
    pending: list[Row | Path] = []
    images: list[np.ndarray] = []

    def flush() -> Iterator[Row]:
        scores = iter(predict(np.stack(images))) if images else iter(())
        for entry in pending:
            yield entry if isinstance(entry, Row) else _row(entry, float(next(scores)), calibration)
        pending.clear()
        images.clear()

    for path in paths:
        try:
            image = read_image(path, channels)
        except InputError as error:
            if on_error == "stop":
                raise
            pending.append(Row(str(path), error=str(error)))
            continue
        if images and (image.shape != images[0].shape or len(images) == batch_size):
            yield from flush()
        pending.append(path)
        images.append(image)
    yield from flush()


def write_csv(rows: Iterable[Row], stream: io.TextIOBase) -> int:
    """Writes a header and the rows; returns how many rows have an error."""
    writer = csv.writer(stream, lineterminator=os.linesep)
    writer.writerow(COLUMNS)
    errors = 0
    for row in rows:
        writer.writerow(row.cells())
        errors += row.error is not None
    return errors


def _row(path: Path, score: float, calibration) -> Row:
    if calibration is None:
        return Row(str(path), score)
    one = np.array([score])
    p_value = float(calibration.p_values(one)[0])
    return Row(str(path), score, p_value, bool(calibration.is_anomaly(one)[0]))
