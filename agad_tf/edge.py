"""Runs a TFLite export with NumPy and ai-edge-litert alone: preprocessing, score, p-value, decision.

    python -m agad_tf.edge model.tflite photos/*.png > scores.csv

No TensorFlow and no Keras; Pillow only where files are read. On a board:
`pip install --no-deps agad_tf-*.whl` (made by `make dist`) and `pip install ai-edge-litert numpy pillow`.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from agad_tf.csv_rows import numeric_rows, plain_cell, position_or_name
from agad_tf.edge_metadata import check_graph, read_metadata
from agad_tf.errors import InputError
from agad_tf.evaluation.decisions import Decision
from agad_tf.formulas import combine, ready
from agad_tf.frames import frame_rows, is_frame
from agad_tf.identity import Identity, warn_of_images
from agad_tf.pixels import preprocess, read_image

_BLOCK_ROWS = 256  # of a table, read and scored at once

COLUMNS = ("path", "score", "p_value", "is_anomaly", "error")

SOME_FAILED = 3
"""Exit status when some samples could not be scored, or the reader of the output went away; as `agad-tf`."""


class EdgeModel:
    """A detector from one .tflite file.

    ```python
    model = EdgeModel("model.tflite")
    scores = model.score(images)  # uint8 images of any size, or rows of a table
    alarms = model.is_anomaly(scores)
    ```

    Several threads may share one: they take turns. For more than one at a time give each its own.

    Args:
        path: a TFLite export of this library.
        threads: CPU threads.

    Attributes:
        metadata: what the file says about itself: `name`, `detector`, `precision`, `input`, `score`,
            `calibration` (None where there is none), `versions`, `licence`.
        decision: threshold and normal scores, an `agad_tf.evaluation.decisions.Decision`; None without a
            calibration.
        threshold: a score above it is an anomaly; None without a calibration.
        identity: what the detector knows of its input; nothing in exports of before.

    Raises:
        InputError: no such file, not a TFLite export of this library, damaged, ai-edge-litert is missing.
    """

    def __init__(self, path: str | Path, threads: int = 1):
        if threads < 1:
            raise InputError(f"threads expects 1 or more, received {threads}")
        self.path = Path(path)
        self.metadata = read_metadata(self.path)
        check_graph(self.path, self.metadata)
        self.identity = Identity.from_dict(self.metadata.get("identity"))
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise InputError(
                "expected the package ai-edge-litert, found none: pip install ai-edge-litert"
            ) from None
        try:
            self._interpreter = Interpreter(model_path=str(self.path), num_threads=threads)
            runner = self._interpreter.get_signature_runner()
            self._outputs = {name: about["index"] for name, about in runner.get_output_details().items()}
            (self._input,) = (about["index"] for about in runner.get_input_details().values())
            missing = {part["output"] for part in self.metadata["score"]["parts"]} - self._outputs.keys()
            if missing:
                raise ValueError(f"no output {min(missing)}")
        except (ValueError, RuntimeError, TypeError, KeyError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{self.path}: expected a whole graph, received: {reason}; export again"
            ) from None
        shape = self.metadata["input"]["shape"]
        self._parts = [ready(part, shape) for part in self.metadata["score"]["parts"]]
        self._turn = threading.Lock()  # an interpreter holds the tensors of one call
        self._count = None  # samples the interpreter has room for
        calibration = self.metadata["calibration"]
        self.decision = None
        if calibration is not None:
            self.decision = Decision(calibration["normal_scores"], calibration["threshold"])
        self.threshold = None if self.decision is None else self.decision.threshold

    @property
    def is_table(self) -> bool:
        """Whether samples are rows of a table and not images."""
        return self.metadata["input"]["kind"] == "table"

    def preprocess(self, samples: np.ndarray) -> np.ndarray:
        """uint8 images of any size, or raw rows, to float32 as the networks take them.

        A data frame's columns are matched by name.

        Raises:
            InputError: another shape or type, NaN, other columns.
        """
        about = self.metadata["input"]
        shape = tuple(about["shape"])
        if self.is_table and is_frame(samples):
            samples = frame_rows(samples, self.identity, shape[0], "samples")
        samples = np.asarray(samples)
        if self.is_table:
            if samples.ndim != 2 or samples.shape[1:] != shape or samples.dtype.kind not in "fiu":
                raise InputError(
                    f"expected rows of numbers (n, {shape[0]}), received {samples.dtype} {samples.shape}: "
                    "give the columns of training, in their order"
                )
            encoding = self.identity.encoding
            if not (np.isfinite(samples) if encoding is None else encoding.usable(samples)).all():
                raise InputError(
                    "expected finite numbers, received NaN or infinity: clean the rows"
                    if encoding is None
                    else "expected numbers and codes of the categories of training, received others, or a "
                    "missing value: clean the rows"
                )
            if encoding is not None:
                samples = encoding.expanded(samples.astype(np.float64), np.array(about["fill"]))
            # Exports of before were made with rows that had been rounded to float32.
            exact = np.float64 if about.get("rows") == "float64" else np.float32
            scaled = samples.astype(exact) - np.array(about["minimum"], exact)
            scaled = (scaled / np.array(about["range"], exact)).astype(np.float32)
            clip = about["clip"]
            return scaled if clip is None else np.clip(scaled, -np.float32(clip), np.float32(1 + clip))
        if samples.ndim == 3 and shape[2] == 1:
            samples = samples[..., None]
        wrong = samples.ndim != 4 or samples.shape[3] != shape[2] or 0 in samples.shape[1:]
        if wrong or samples.dtype != np.uint8:
            raise InputError(
                f"expected uint8 images (n, height, width, {shape[2]}), received {samples.dtype} "
                f"{samples.shape}: convert them"
            )
        version = about.get("preprocessing", 1)
        return preprocess(samples, shape[:2], tuple(about["value_range"]), about["crop"], version)

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Output name to float32 (n, ...) of the graph for preprocessed samples, all at once."""
        with self._turn:
            if len(x) != self._count:
                self._count = None
                self._interpreter.resize_tensor_input(self._input, [len(x), *x.shape[1:]])
                self._interpreter.allocate_tensors()
                self._count = len(x)
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(x, np.float32))
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}

    def score(self, samples: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Anomaly scores, float32 (n,), higher is more anomalous.

        Args:
            samples: see `preprocess`.
            batch_size: samples that are computed, and in memory, at once.

        Raises:
            InputError: see `preprocess`.
        """
        self._warn_of_kind(samples)
        return self.score_preprocessed(self.preprocess(samples), batch_size, check=False)

    def score_preprocessed(self, x: np.ndarray, batch_size: int = 32, check: bool = True) -> np.ndarray:
        """As `score`, of samples that `preprocess` made.

        Args:
            x: images float (n, *shape) in the model's range, or scaled rows.
            batch_size: as in `score`.
            check: False for what `preprocess` has made just now.

        Raises:
            InputError: images of another shape, type or range, x / 255 for instance.
        """
        if check and not self.is_table:
            about = self.metadata["input"]
            x = self.identity.prepared_images(np.asarray(x), "x", about["shape"], about["value_range"])
        batches = (x[start : start + batch_size] for start in range(0, len(x), batch_size))
        scores = [combine(batch, self.run(batch), self._parts) for batch in batches]
        return np.concatenate([np.empty(0, np.float32), *scores])

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Share of the calibration's normals that score at least as high, each score counted among them.

        NaN where the score is NaN or infinite.

        Raises:
            InputError: the export has no calibration.
        """
        return self._calibrated().p_values(scores)

    def is_anomaly(self, scores: np.ndarray) -> np.ndarray:
        """bool (n,): score > threshold; also where the score is no number: what failed is not called normal.

        Raises:
            InputError: the export has no calibration.
        """
        return self._calibrated().is_anomaly(scores)

    def explain(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reconstruction and error map |x − reconstruction|, of images averaged over channels.

        Raises:
            InputError: the score of this export reads no reconstruction; see also `preprocess`.
        """
        if "reconstruction" not in self._outputs:
            raise InputError(
                f"{self.path}: expected an export whose score reads a reconstruction, found none"
            )
        self._warn_of_kind(samples)
        x = self.preprocess(samples)
        reconstruction = self.run(x)["reconstruction"]
        error = np.abs(x - reconstruction)
        return reconstruction, error if self.is_table else error.mean(axis=-1)

    def _warn_of_kind(self, samples) -> None:
        if not self.is_table and getattr(samples, "dtype", None) == np.uint8:
            warn_of_images(self.identity, samples, tuple(self.metadata["input"]["value_range"]))

    def _calibrated(self) -> Decision:
        if self.decision is None:
            raise InputError(
                f"{self.path}: expected an export with a calibration, found none: "
                "recalibrate the run and export again"
            )
        return self.decision


def score_files(
    model: EdgeModel, paths: Sequence[str], label_column: str | int | None = None
) -> Iterator[tuple]:
    """A row of `COLUMNS` for each image file, or for each row of each .csv file; None where there is nothing.

    An unreadable file, and a row that cannot be scored, give one row with the reason. Columns are matched by
    name where the header and the export have names; `label_column` (name or position) is left out.
    """
    for path in paths:
        if model.is_table:
            yield from _score_table(model, path, label_column)
            continue
        try:
            scores = model.score(_read_image(model, path))
        except InputError as error:
            yield path, None, None, None, str(error)
            continue
        yield from _verdicts(model, path, scores)


def _score_table(model: EdgeModel, path: str, label_column: str | int | None) -> Iterator[tuple]:
    """A row for every row of the file, read and scored a few hundred at a time."""
    (features,) = model.metadata["input"]["shape"]
    try:
        rows = numeric_rows(path, features, model.identity, label_column)
        while block := [value for _, value in itertools.islice(rows, _BLOCK_ROWS)]:
            good = [value for value in block if not isinstance(value, str)]
            scored = _verdicts(model, path, model.score(np.stack(good))) if good else iter(())
            for value in block:
                yield (path, None, None, None, value) if isinstance(value, str) else next(scored)
    except InputError as error:
        yield path, None, None, None, str(error)


def _verdicts(model: EdgeModel, path: str, scores: np.ndarray) -> Iterator[tuple]:
    p_values = alarms = [None] * len(scores)
    if model.threshold is not None:
        p_values, alarms = model.p_values(scores), model.is_anomaly(scores)
    for score, p_value, alarm in zip(scores, p_values, alarms, strict=True):
        if np.isfinite(score):
            yield path, score, p_value, alarm, None
        else:
            yield path, None, None, None, f"expected a finite score, received {score} from the model"


def _read_image(model: EdgeModel, path: str) -> np.ndarray:
    return read_image(path, model.metadata["input"]["shape"][2])[None]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status.

    0 all scored, 3 some have an error or the reader of the output has gone, 2 the model cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m agad_tf.edge",
        description="Scores image files (or CSV files of rows) with a TFLite export; writes CSV.",
        epilog="Exit status: 0 all scored, 3 some have an error, 2 the job could not be done. "
        "Example: python -m agad_tf.edge model.tflite photos/*.png > scores.csv",
    )
    parser.add_argument("model", help="made with agad-tf export --format tflite")
    parser.add_argument("files", nargs="+", help="JPEG, PNG or BMP; for a table .csv")
    parser.add_argument("--label-column", help="name or position (from 0) of the column that is no feature")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    given = parser.parse_args(arguments)
    try:
        model = EdgeModel(given.model, given.threads)
    except InputError as error:
        print(f"agad_tf.edge: {error}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be Unicode
    writer = csv.writer(sys.stdout, lineterminator="\n")
    failed = False
    try:
        writer.writerow(COLUMNS)
        rows = score_files(model, given.files, position_or_name(given.label_column))
        for path, score, p_value, alarm, error in rows:
            numbers = ["" if value is None else f"{value:.9g}" for value in (score, p_value)]
            alarm = "" if alarm is None else bool(alarm)
            writer.writerow([plain_cell(path), *numbers, alarm, plain_cell(error or "")])
            failed = failed or error is not None
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the process ends
        return SOME_FAILED
    except OSError as error:  # a full disk
        print(f"agad_tf.edge: {error.strerror or error}", file=sys.stderr)
        return 2
    return SOME_FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
