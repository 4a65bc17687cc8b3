"""The grid: which runs there are, which are done, and running the others.

A run is a `Job`: data set, normal class, collected and polluting anomalies, method, settings and seed. What
came of it stands in a results file, one JSON line for each selection policy and score; a job whose lines are
in the file is not run again. Runs go side by side through joblib, one thread each, on one machine or on a Ray
cluster.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from agad_tf.errors import InputError
from study.results import append_lines, read_lines

BACKENDS = ("loky", "ray")


@dataclass(frozen=True)
class Job:
    """One training and its evaluation.

    Attributes:
        dataset: name of the data, see `study.grid_training.SOURCES`.
        method: "agad", "aa_bigan" or a name in `agad_tf.baselines.BASELINES`.
        normal_class: index of the normal class; None for data that say it themselves, such as tables.
        anomaly_classes: classes that the collected anomalies come from; None pools all others.
        anomaly_class_count: k_l, instead: that many classes drawn from the seed.
        gamma: collected anomalies, a / (n + a), or a / n with ratio "to_normals".
        pollution: unlabelled anomalies among the normals, likewise.
        ratio: "of_total" or "to_normals".
        backbone: of agad and aa_bigan; None takes the detector's default.
        model, compile: arguments that differ from the defaults.
        epochs: None takes the paper's, see `study.grid_training.epochs_of`.
        image_size: side that images are resized to; without effect on tables.
        seed: of the split, the weights and the order of samples.
    """

    dataset: str
    method: str
    normal_class: int | None = None
    anomaly_classes: tuple[int, ...] | None = None
    anomaly_class_count: int | None = None
    gamma: float = 0.0
    pollution: float = 0.0
    ratio: str = "of_total"
    backbone: str | None = None
    model: dict = field(default_factory=dict)
    compile: dict = field(default_factory=dict)
    epochs: int | None = None
    image_size: int = 32
    seed: int = 0

    def __post_init__(self):
        if self.anomaly_classes is not None:
            object.__setattr__(self, "anomaly_classes", tuple(self.anomaly_classes))

    def to_dict(self) -> dict:
        """JSON-able; `Job(**job.to_dict())` is the job again."""
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the configuration: everything but the seed. The first 16 hexadecimal digits."""
        return _digest({name: value for name, value in self.to_dict().items() if name != "seed"})

    @functools.cached_property
    def cell(self) -> str:
        """Hash of everything but seed and epochs: runs of one cell of a table, however long they trained."""
        left_out = ("seed", "epochs")
        return _digest({name: value for name, value in self.to_dict().items() if name not in left_out})

    @property
    def key(self) -> tuple[str, int]:
        """What tells one run from all others."""
        return self.sha256, self.seed

    def __str__(self):
        parts = [self.dataset, self.method]
        parts += [f"normal {self.normal_class}"] if self.normal_class is not None else []
        if self.anomaly_classes is not None:
            parts.append(f"collected {','.join(map(str, self.anomaly_classes))}")
        parts += [f"k_l {self.anomaly_class_count}"] if self.anomaly_class_count is not None else []
        parts.append(f"γ {self.gamma:g}")
        parts += [f"γ_p {self.pollution:g}"] if self.pollution else []
        parts += [self.backbone] if self.backbone else []
        parts += [f"{name}={value}" for name, value in {**self.model, **self.compile}.items()]
        parts += [f"{self.epochs} epochs"] if self.epochs else []
        return " ".join([*parts, f"seed {self.seed}"])


def _digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def unique(jobs: Iterable[Job]) -> list[Job]:
    """The jobs without repeats, in order."""
    return list({job.key: job for job in jobs}.values())


def line_key(line: dict) -> tuple[str, int]:
    """`Job.key` of a results line."""
    return line["config_sha256"], line["job"]["seed"]


def runs_in(path: str | Path) -> list[dict]:
    """The lines of runs in a results file, without those of failures and calibrations."""
    return [line for line in read_lines(path) if "policy" in line]


def selected(jobs: list[Job], only: str | None) -> list[Job]:
    """The jobs that a filter such as "method=agad,normal_class=0|1|8" lets through.

    Raises:
        InputError: a filter of another form, an unknown name, or one that lets nothing through.
    """
    names = [entry.name for entry in dataclasses.fields(Job)]
    for part in only.split(",") if only else []:
        name, _, values = part.partition("=")
        if name.strip() not in names or not values:
            raise InputError(
                f"--only expects NAME=VALUE[|VALUE...], separated by commas, with NAME one of "
                f"{', '.join(names)}; received '{part}'"
            )
        wanted = {value.strip() for value in values.split("|")}
        found = {_text(getattr(job, name.strip())) for job in jobs}
        jobs = [job for job in jobs if _text(getattr(job, name.strip())) in wanted]
        if not jobs:
            raise InputError(
                f"--only {part} leaves no run: expected {name.strip()} among {', '.join(sorted(found))}"
            )
    return jobs


def _text(value) -> str:
    """A field as one writes it in a filter: none, 0.05, 1+6+9, bn_strategy:freeze."""
    if value is None or value in ({}, ()):
        return "none"
    if isinstance(value, dict):
        return "+".join(f"{name}:{value[name]}" for name in sorted(value))
    if isinstance(value, tuple | list):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass
class Outcome:
    """What became of the jobs of a grid: numbers of runs."""

    done: int = 0
    failed: int = 0
    left: int = 0
    """Not begun: the budget was spent, or the workers died."""


def run_grid(
    jobs: list[Job],
    results: Path,
    train: Callable[[Job], list[dict]],
    workers: int = 1,
    backend: str = "loky",
    budget: float | None = None,
    tell: Callable[[str], None] = print,
) -> Outcome:
    """Runs jobs and writes their lines as they come.

    A job that fails leaves one line with its error, and the others go on; it is tried again next time.

    Args:
        jobs: to be run; those in the results file are left out by the caller, see `remaining`.
        results: the results file.
        train: turns a job into its lines; must be picklable.
        workers: runs side by side.
        backend: "loky" for processes on this machine, "ray" for a Ray cluster.
        budget: minutes after which no further run is begun; None for no limit.
        tell: shows a line of progress.
    """
    start_backend(backend)
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
        for lines in _lines_as_they_come(waiting(), train, workers, backend):
            append_lines(results, lines)
            outcome.failed += "error" in lines[0]
            outcome.done += "error" not in lines[0]
            tell(f"{outcome.done + outcome.failed} of {len(jobs)}: {told(lines)}")
    except BrokenProcessPool as error:
        tell(f"a worker died ({one_line(error)}); the same command goes on with what is left")
        outcome.failed += begun - outcome.done - outcome.failed
    outcome.left = len(jobs) - outcome.done - outcome.failed
    return outcome


def _lines_as_they_come(
    jobs: Iterator[Job], train: Callable[[Job], list[dict]], workers: int, backend: str
) -> Iterator[list[dict]]:
    import joblib

    # Batches of one and nothing drawn ahead: the budget is looked at when a worker is free.
    options = {"n_jobs": workers, "batch_size": 1, "pre_dispatch": workers}
    attempts = (joblib.delayed(attempt)(train, job) for job in jobs)
    if backend == "loky":
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield from joblib.Parallel(return_as="generator_unordered", **options)(attempts)
        return
    # Ray's backend gives results back all at once: waves, so that a killed grid loses one at most.
    with joblib.parallel_config(backend):
        while wave := list(itertools.islice(attempts, workers)):
            yield from joblib.Parallel(**options)(wave)


def attempt(train: Callable[[Job], list[dict]], job: Job) -> list[dict]:
    """The lines of a job, or the one line of what went wrong."""
    try:
        return train(job)
    except Exception as error:  # whatever one run dies of, the grid goes on and the line tells
        return [{"job": job.to_dict(), "config_sha256": job.sha256, "error": one_line(error)}]


def one_line(error: BaseException) -> str:
    """Kind and message of an error in at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


def told(lines: list[dict]) -> str:
    """One line about a finished run, for people."""
    job = Job(**lines[0]["job"])
    if "error" in lines[0]:
        return f"{job} failed: {lines[0]['error']}"
    chosen = [line for line in lines if line["chosen"]]
    scores = ", ".join(
        f"{line['policy']} {'n/a' if line['auroc'] is None else format(line['auroc'], '.4f')}"
        for line in chosen
    )
    return f"{job}: {scores}; {lines[0]['seconds']:.0f} s"


def start_backend(backend: str) -> None:
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


def remaining(jobs: list[Job], lines: list[dict]) -> list[Job]:
    """The jobs that have no line yet."""
    done = {line_key(line) for line in lines}
    return [job for job in unique(jobs) if job.key not in done]
