"""Scores files on a Ray cluster: parts of the job in Ray Data, one model an actor, rows back to one file."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import agad_tf
from agad_tf.errors import InputError
from agad_tf.scoring import detectors, files, parts

PARTS_AHEAD = 2
"""Parts that an actor is handed at once: while it scores one, the next is on its way."""

TRIES = 3
"""Failures of the cluster in a row, no part done between them, after which the job ends."""

SECONDS_BETWEEN_TRIES = 5
SECONDS_TO_CONNECT = 10

_log = logging.getLogger(__name__)


def score_files(
    model: str,
    paths: Sequence[str],
    out: Path,
    *,
    stdin: IO[bytes],
    form: str = "auto",
    output_format: str = "csv",
    threshold: float | None = None,
    batch_size: int = 256,
    label_column: str | int | None = None,
    actors: int | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[int, int]:
    """Scores files with the processes of the cluster that RAY_ADDRESS names, else of this machine.

    Every node must find the model, the files and agad_tf where this process finds them. Only this process
    writes: each part of the job once, into `OUT.parts`, and at the end all of them, in order, into `out`. The
    same call goes on with the parts that are missing.

    Args:
        model, form: of `detectors.open_detector`.
        paths, stdin: of `files.find_files`.
        out: the file for the rows.
        output_format: "csv" or "jsonl".
        threshold, batch_size: of `pipeline.score_samples`.
        label_column: of `tables.table_samples`.
        actors: processes with a model each; None for one a GPU, or one a node where there is no GPU.
        progress: told how many samples have been scored more.

    Returns:
        How many rows have a score, and how many an error.

    Raises:
        InputError: Ray or the model is missing, the cluster cannot be reached or is too small, the parts are
            those of another job, or the cluster broke down.
    """
    ray = _import_ray()
    detector = _opened_without_gpu(model, form)
    table = detector.features is not None
    # All of them: the parts of a job are numbered before the first one is scored.
    samples = list(files.find_files(paths, stdin, table))
    digest = parts.model_digest(model)
    job = parts.job_of(
        samples,
        digest,
        output_format=output_format,
        threshold=threshold,
        label_column=label_column,
        version=agad_tf.__version__,
    )
    folder = parts.PartFolder(out, job, batch_size)
    planned = parts.plan(samples, table, folder.batch_size)
    progress(sum(folder.counts(len(planned))))
    if folder.missing(len(planned)):
        scorer = {
            "model": model,
            "form": form,
            "digest": digest,
            "folder": os.getcwd(),
            "output_format": output_format,
            "batch_size": batch_size,
            "threshold": threshold,
            "label_column": label_column,
        }
        with _cluster(ray):
            _score_missing(ray, folder, planned, scorer, actors, progress)
    counts = folder.counts(len(planned))
    folder.join(len(planned), out, parts.header(output_format, table))
    return counts


def _score_missing(ray, folder: parts.PartFolder, planned: list, scorer: dict, actors, progress) -> None:
    """Has the parts scored that are not there, until all are, or the cluster fails again and again."""
    failures = 0
    while missing := folder.missing(len(planned)):
        todo = [{"number": number, "samples": parts.packed(planned[number])} for number in missing]
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            for answer in _answers(todo, scorer, *share(nodes, actors)):
                if answer["problem"] is not None:
                    raise InputError(answer["problem"])
                folder.write(*(answer[name] for name in ("number", "text", "scored", "failed")))
                progress(answer["scored"] + answer["failed"])
                failures = 0
        except ray.exceptions.RayError as error:
            failures += 1
            if failures == TRIES:
                raise InputError(
                    f"the Ray cluster gave up: {_first_line(error)}; the parts that were done are in "
                    f"{folder.path}, the same command goes on with the others"
                ) from error
            _log.warning("the Ray cluster failed: %s; trying the missing parts again", _first_line(error))
            time.sleep(SECONDS_BETWEEN_TRIES)


def share(nodes: Iterable[dict[str, float]], actors: int | None = None) -> tuple[int, int, int]:
    """How a cluster is shared among actors: (their number, CPU cores of each, GPUs of each).

    Args:
        nodes: the resources of each node, as Ray names them: "CPU" and "GPU".
        actors: how many are wanted; None for one a GPU, or one a node where there is no GPU.

    Raises:
        InputError: more are wanted than there are GPUs, or cores where there is no GPU.
    """
    cores_and_gpus = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    with_gpu = [(cores, gpus) for cores, gpus in cores_and_gpus if gpus and cores]
    most = sum(gpus for _, gpus in with_gpu) or sum(cores for cores, _ in cores_and_gpus)
    if not most or (actors or 0) > most:
        what = "GPUs" if with_gpu else "CPU cores"
        raise InputError(
            f"--actors expects at most {most}, the {what} of the cluster, received {actors or 1}"
        )
    if with_gpu:
        return actors or most, max(1, min(cores // gpus for cores, gpus in with_gpu)), 1
    actors = actors or sum(cores > 0 for cores, _ in cores_and_gpus)
    cores_each = max(
        each for each in range(1, most + 1) if sum(cores // each for cores, _ in cores_and_gpus) >= actors
    )
    return actors, cores_each, 0


def _answers(todo: list[dict], scorer: dict, actors: int, cores: int, gpus: int) -> Iterator[dict]:
    """What the actors say of each part, in the order in which they are done."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False  # the command has its own
    actors = min(actors, len(todo))
    scored = ray.data.from_items(todo, override_num_blocks=len(todo)).map(
        parts.PartScorer,
        fn_constructor_kwargs=scorer | {"threads": cores},
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=PARTS_AHEAD),
        num_cpus=cores,
        num_gpus=gpus,
    )
    yield from scored.iter_rows()


def _opened_without_gpu(model: str, form: str) -> detectors.Detector:
    """The detector in this process, which scores nothing: what it is, and whether it can be opened."""
    import tensorflow as tf

    try:
        tf.config.set_visible_devices([], "GPU")  # the memory is the actors'
    except RuntimeError:
        _log.warning("this process holds a GPU already: an actor may lack its memory")
    return detectors.open_detector(model, form)


def _import_ray():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of our own reports to nobody
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError(
            "--engine ray expects the package ray, found none: pip install 'agad-tf[ray]'"
        ) from None
    return ray


@contextmanager
def _cluster(ray) -> Iterator[None]:
    """The cluster that RAY_ADDRESS names or that runs on this machine, else one that ends with the block."""
    mine = not ray.is_initialized()
    try:
        if mine:
            _knock(os.environ.get("RAY_ADDRESS", ""))
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        address = os.environ.get("RAY_ADDRESS", "this machine")
        raise InputError(
            f"--engine ray expects a cluster at RAY_ADDRESS ({address}), received: "
            f"{_first_line(error)}; start one with `ray start`, or unset RAY_ADDRESS"
        ) from None
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at host:port; Ray itself tries for several minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_CONNECT).close()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
