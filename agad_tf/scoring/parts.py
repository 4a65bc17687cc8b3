"""A long job in parts: each is written whole, once, under its number; all are joined in order at the end."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from agad_tf.errors import InputError
from agad_tf.files import write_atomically, written_whole
from agad_tf.scoring import detectors, pipeline, results
from agad_tf.scoring.files import Sample
from agad_tf.scoring.samples import with_rows

MOST_PARTS = 1000
"""So many parts, more only of tables: a folder that every file system lists at once."""

MODEL_FILES = ("model.keras", "calibration.json")
"""What scores of a run depend on."""


def plan(samples: list[Sample], table: bool, batch_size: int) -> list[list[Sample]]:
    """Cuts a job into parts: of images batches or more, of tables one file each.

    Args:
        samples: files, not read yet; in order.
        table: whether they are tables, whose rows are read by whoever scores the part.
        batch_size: images that are scored at once.
    """
    size = 1 if table else max(batch_size, -(-len(samples) // MOST_PARTS))
    return [samples[start : start + size] for start in range(0, len(samples), size)]


class PartFolder:
    """The parts of one job that are done, in `OUT.parts`, beside the file that they become.

    A part is there whole or not at all, so that a job which was stopped goes on with those that are missing.

    Args:
        out: the file that the parts are joined into.
        job: what the job is, JSON-able: parts of another job are not joined with these.

    Attributes:
        path: of the folder.
        batch_size: what the job was planned with, at first.

    Raises:
        InputError: the folder holds parts of another job, or something else.
    """

    def __init__(self, out: Path, job: dict, batch_size: int):
        self.path = out.with_name(out.name + ".parts")
        description = self.path / "job.json"
        try:
            self.path.mkdir(exist_ok=True)
            if not description.is_file() and any(self.path.iterdir()):
                raise ValueError("something else")
            if not description.is_file():
                write_atomically(description, json.dumps(job | {"batch_size": batch_size}).encode())
            before = json.loads(description.read_text())
            self.batch_size = before.pop("batch_size")
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise InputError(
                f"{self.path}: expected the parts of this job or no such folder, received: {error}; remove it"
            ) from None
        different = sorted(name for name in job.keys() | before.keys() if job.get(name) != before.get(name))
        if different:
            raise InputError(
                f"{self.path}: expected the parts of this job, received those of another (other "
                f"{', '.join(different)}): finish that one, or remove the folder, or take another --out"
            )

    def missing(self, count: int) -> list[int]:
        """Which of so many parts are not there."""
        return [number for number in range(count) if self._counts(number) is None]

    def write(self, number: int, text: bytes, scored: int, failed: int) -> None:
        """Keeps one part; a second time, it takes the place of the first."""
        # In its first line how many rows there are.
        head = json.dumps({"scored": scored, "failed": failed}).encode() + b"\n"
        write_atomically(self._place(number), head + text)

    def counts(self, count: int) -> tuple[int, int]:
        """How many rows of so many parts have a score, and how many an error."""
        found = [self._counts(number) or {"scored": 0, "failed": 0} for number in range(count)]
        return sum(one["scored"] for one in found), sum(one["failed"] for one in found)

    def join(self, count: int, out: Path, head: bytes) -> None:
        """Writes so many parts after `head`, in order, as one file, and removes the folder."""
        with written_whole(out) as stream:
            stream.write(head)
            for number in range(count):
                with open(self._place(number), "rb") as part:
                    part.readline()
                    shutil.copyfileobj(part, stream)
        shutil.rmtree(self.path)

    def _place(self, number: int) -> Path:
        return self.path / f"part-{number:06d}"

    def _counts(self, number: int) -> dict | None:
        """The first line of a part; None where there is none."""
        try:
            with open(self._place(number), "rb") as part:
                counts = json.loads(part.readline())
                return {name: int(counts[name]) for name in ("scored", "failed")}
        except (OSError, ValueError, KeyError, TypeError):
            return None


class PartScorer:
    """Scores one part after another with one model; an actor of a cluster holds one, its node's own.

    What is wrong with the model or its place is no exception here but the `problem` of every answer: it has
    to reach the user in one line through whatever carries the answers.

    Args:
        model, form: of `detectors.open_detector`.
        digest: what `model_digest` says of the model that is wanted; another one is a problem.
        folder: that relative paths are relative to.
        output_format: "csv" or "jsonl".
        batch_size, threshold: of `pipeline.score_samples`.
        label_column: of `tables.table_samples`.
        threads: for TensorFlow's operations, in a process that has not loaded it yet; None for as many as
            there are cores.
    """

    def __init__(
        self,
        model: str,
        form: str,
        digest: str,
        folder: str,
        output_format: str,
        batch_size: int,
        threshold: float | None,
        label_column: str | int | None,
        threads: int | None = None,
    ):
        self.output_format, self.batch_size = output_format, batch_size
        self.threshold, self.label_column = threshold, label_column
        self.problem = None
        if threads is not None:
            os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            os.chdir(folder)
            if model_digest(model) != digest:
                raise InputError(f"{model}: expected the model that the job began with, received another")
            self.detector = detectors.open_detector(model, form)
        except (InputError, OSError) as error:
            self.problem = str(error)

    def __call__(self, part: dict) -> dict:
        """`part`: {"number": int, "samples": from `packed`}; the answer has its rows as bytes in `text`."""
        answer = {"number": part["number"], "text": b"", "scored": 0, "failed": 0, "problem": self.problem}
        if self.problem is not None:
            return answer
        detector, text = self.detector, io.StringIO()
        files, features = unpacked(part["samples"]), detector.features
        samples = with_rows(files, features, self.label_column, detector.identity)
        rows = pipeline.score_samples(samples, detector.read, detector.score, self.batch_size, self.threshold)
        table = detector.features is not None
        scored, failed = results.write_rows(rows, text, self.output_format, table, header=False)
        text = text.getvalue().encode("utf-8", "surrogateescape")
        return answer | {"text": text, "scored": scored, "failed": failed}


def packed(samples: list[Sample]) -> str:
    """Unread samples as text, in ASCII: names of files need not be Unicode."""
    return json.dumps([[sample.path, sample.error] for sample in samples])


def unpacked(text: str) -> list[Sample]:
    """The samples that `packed` was given."""
    return [Sample(path, error=error) for path, error in json.loads(text)]


def job_of(samples: list[Sample], digest: str, **settings) -> dict:
    """What tells a job from another: the files, the model, and the settings that change rows."""
    files = hashlib.sha256(packed(samples).encode()).hexdigest()
    return {"files": files, "model": digest} | settings


def model_digest(model: str | Path) -> str:
    """Hash of the files that a model's scores depend on.

    Raises:
        InputError: none that `detectors.open_detector` would open.
    """
    form, place = detectors.find_detector(model)
    if form == "run":
        files = [place / name for name in MODEL_FILES if (place / name).is_file()]
    else:
        files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(place)} {file.stat().st_size}\n".encode("utf-8", "surrogateescape"))
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


def header(output_format: str, table: bool) -> bytes:
    """What comes before the first row."""
    stream: IO[str] = io.StringIO()
    results.write_rows([], stream, output_format, table)
    return stream.getvalue().encode()


def _blocks(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            yield block
