"""The one runner: which jobs a results file lacks, and running those."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agad_tf.errors import InputError
from study.job import Job, unique
from study.lines import append_lines, commit, runs_in

BACKENDS = ("loky", "ray")
ENVIRONMENT = ("AGAD_TF_DATA", "TF_CPP_MIN_LOG_LEVEL")
"""Variables that workers get from here: those of a cluster have their own."""

Make = Callable[[Job, Path], dict | list[dict]]
"""Runs a job: from it and a folder for unfinished work to its results line, or lines."""


@dataclass(frozen=True)
class Experiment:
    """Runs that belong together under a name.

    Attributes:
        title: what it is, in a line.
        jobs: its jobs; keywords with defaults are its settings, `seeds` (their number) among them.
        make: runs one of them.
        results: name of the results file.
        lines: the lines of runs that count, from the path of the results file.
        report: writes its pages, from the folder of results and that of pages; returns what it wrote.
    """

    title: str
    jobs: Callable[..., list[Job]]
    make: Make
    results: str
    lines: Callable[[Path], list[dict]] = runs_in
    report: Callable[[Path, Path], list[Path]] | None = None


@dataclass
class Outcome:
    """What became of the jobs: numbers of runs."""

    done: int = 0
    failed: int = 0
    left: int = 0
    """Not begun: the budget was spent, or the workers died."""


def remaining(jobs: list[Job], lines: list[dict]) -> list[Job]:
    """The jobs of which no line has all settings, and none besides."""
    names = {name for job in jobs for name in job}
    done = {
        # Lines of before a job stood in a field of its own have its settings among their results.
        Job((name, of[name]) for name in (of if "job" in line else names) if name in of).key
        for line in lines
        for of in (line.get("job", line),)
    }
    return [job for job in unique(jobs) if job.key not in done]


def run(
    jobs: list[Job],
    results: Path,
    make: Make,
    work: Path,
    workers: int = 1,
    backend: str = "loky",
    budget: float | None = None,
    tell: Callable[[str], None] = print,
) -> Outcome:
    """Runs jobs and appends their lines as they come, each with its job, configuration hash and commit.

    A job that fails leaves one line with its error, and the others go on; it is tried again next time.

    Args:
        jobs: to be run; see `remaining`.
        results: the results file.
        make: runs a job; must be picklable.
        work: folder for unfinished work.
        workers: runs side by side, one thread each.
        backend: "loky" for processes on this machine, "ray" for a Ray cluster.
        budget: minutes after which no further run is begun; None for no limit.
        tell: shows a line of progress.
    """
    _start(backend)
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    # The commit is asked for now: a long study would see later ones.
    attempt = partial(_attempt, make, work=work, environment=environment, code=commit())
    deadline = None if budget is None else time.monotonic() + 60 * budget
    begun = 0

    def waiting():
        nonlocal begun
        for job in jobs:
            if deadline is not None and time.monotonic() >= deadline:
                return
            begun += 1
            yield job

    outcome = Outcome()
    try:
        for lines in _as_they_come(waiting(), attempt, workers, backend):
            append_lines(results, lines)
            outcome.failed += "error" in lines[0]
            outcome.done += "error" not in lines[0]
            tell(f"{outcome.done + outcome.failed} of {len(jobs)}: {_told(lines)}")
    except BrokenProcessPool as error:
        tell(f"a worker died ({_one_line(error)}); the same command goes on with what is left")
        outcome.failed += begun - outcome.done - outcome.failed
    outcome.left = len(jobs) - outcome.done - outcome.failed
    return outcome


def stamped(job: Job, made: dict | list[dict], code: str) -> list[dict]:
    """Results lines of a job: what was made, with what it is of and the commit that made it."""
    about = {"job": dict(job), "config_sha256": job.sha256}
    return [about | line | {"commit": code} for line in ([made] if isinstance(made, dict) else made)]


def _attempt(make: Make, job: Job, work: Path, environment: dict, code: str) -> list[dict]:
    os.environ.update(environment)
    try:
        one_thread()
        return stamped(job, make(job, work), code)
    except Exception as error:  # whatever one run dies of, the study goes on and the line tells
        return stamped(job, {"error": _one_line(error)}, code)


def one_thread() -> None:
    """Keeps TensorFlow to one core, and to the GPU memory it needs, so that runs side by side do not wait."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError:  # TensorFlow already computes: the choice was made when it began
        return


def _as_they_come(jobs: Iterator[Job], attempt, workers: int, backend: str) -> Iterator[list[dict]]:
    import joblib

    # Batches of one and nothing drawn ahead: the budget is looked at when a worker is free.
    options = {"n_jobs": workers, "batch_size": 1, "pre_dispatch": workers}
    attempts = (joblib.delayed(attempt)(job) for job in jobs)
    if backend == "loky":
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield from joblib.Parallel(return_as="generator_unordered", **options)(attempts)
        return
    # Ray's backend gives results back all at once: waves, so that a killed study loses one at most.
    with joblib.parallel_config(backend):
        while wave := list(itertools.islice(attempts, workers)):
            yield from joblib.Parallel(**options)(wave)


def _one_line(error: BaseException) -> str:
    """Kind and message of an error in at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


def _told(lines: list[dict]) -> str:
    """One line about a finished run, for people."""
    job, first = Job(lines[0]["job"]), lines[0]
    if "error" in first:
        return f"{job} failed: {first['error']}"
    aurocs = [(line["policy"], line["auroc"]) for line in lines if line.get("chosen")]
    parts = [f"{policy} {'n/a' if auroc is None else format(auroc, '.4f')}" for policy, auroc in aurocs]
    parts += [f"{first['seconds']:.0f} s"] if "seconds" in first else []
    return f"{job}: {', '.join(parts) or 'done'}"


def _start(backend: str) -> None:
    """Makes a backend known to joblib.

    Raises:
        InputError: an unknown backend, or Ray where it is not installed.
    """
    if backend not in BACKENDS:
        raise InputError(f"--backend expects one of {', '.join(BACKENDS)}, received '{backend}'")
    if backend != "ray":
        return
    try:
        from ray.util.joblib import register_ray
    except ImportError:
        raise InputError(
            "--backend ray expects Ray, found none: pip install 'agad-tf[ray]', or take --backend loky"
        ) from None
    register_ray()
