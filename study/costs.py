"""What runs cost: from the seconds of recorded runs and calibrations, never from a guess."""

import statistics
import time
from collections import defaultdict

from study.job import Job
from study.training import (
    EVALUATIONS,
    STEPS,
    TABLES,
    epochs_of,
    fit_arguments,
    make_model,
    paper_epochs,
    samples_of,
    split_of,
)

NORMALS = {
    "mnist": 6000,
    "fashion_mnist": 6000,
    "cifar10": 5000,
    "cifar100": 2500,
    "pneumoniamnist": 1214,
    "digits": 125,
    "arrhythmia": 232,
    "cardio": 993,
    "satellite": 2639,
    "satimage-2": 3439,
    "shuttle": 27352,
    "thyroid": 2207,
}
"""Training normals of one normal class, about; of tables 60 % of the rows that are normal."""

CALIBRATION_NORMALS = {"image": 256, "table": 4096}
"""Training normals that a calibration times an epoch of."""


def work_of(job: Job) -> float:
    """Samples that a job's training sees in all; for a baseline with its own epochs, in one epoch."""
    if job.method == "aa_bigan" and job.dataset in TABLES:
        return epochs_of(job) * (STEPS // EVALUATIONS) * 256  # a batch, whatever the table
    normals = NORMALS[job.dataset]
    share = job.gamma + job.pollution
    seen = normals * (1 + share) if job.ratio == "to_normals" else normals / (1 - share)
    return seen * (epochs_of(job) or 1)


def _kind(job: Job) -> tuple:
    """Jobs whose seconds for a sample are alike; of baselines with their own epochs apart from the others."""
    table = job.dataset in TABLES
    size = None if table else (job.image_size, job.dataset.startswith("cifar"))
    return job.method, job.backbone, table, size, epochs_of(job) is None


def busy_seconds(line: dict) -> float:
    """What a run takes with a core to itself: its seconds, or its processor time where it had to share."""
    cpu_seconds = line.get("cpu_seconds")
    return line["seconds"] if cpu_seconds is None else min(line["seconds"], cpu_seconds)


class Costs:
    """Seconds of runs, learnt from results lines.

    Args:
        lines: of a results file, calibrations included.
    """

    def __init__(self, lines: list[dict]):
        measured, calibrated = defaultdict(dict), defaultdict(list)
        for line in lines:
            if "calibration" in line:
                job = Job(line["job"])
                found = line["calibration"]
                calibrated[_kind(job)].append(found["seconds_per_sample"] * (found["paper_epochs"] or 1))
            elif "policy" in line:
                job = Job(line["job"])
                measured[_kind(job)][job.key] = job, busy_seconds(line)
        self._measured, self._calibrated, self._rates = measured, calibrated, {}

    def seconds(self, job: Job) -> float | None:
        """Seconds that a job takes on one core; None where nothing like it was measured.

        Runs of the same data set count before those of others; both before calibrations, which know nothing
        of looking at the scores.
        """
        kind = _kind(job), job.dataset
        if kind not in self._rates:
            self._rates[kind] = self._rate(*kind)
        rate = self._rates[kind]
        return None if rate is None else rate * work_of(job)

    def _rate(self, kind: tuple, dataset: str) -> float | None:
        """Median seconds a sample."""
        runs = self._measured.get(kind, {}).values()
        same = [(run, seconds) for run, seconds in runs if run.dataset == dataset]
        rates = [seconds / work_of(run) for run, seconds in same or runs] or self._calibrated.get(kind)
        return statistics.median(rates) if rates else None


def estimate(jobs: list[Job], costs: Costs) -> tuple[float, list[Job]]:
    """Seconds of the jobs that can be told, and the jobs that cannot."""
    known = [(job, costs.seconds(job)) for job in jobs]
    return sum(s for _, s in known if s is not None), [job for job, s in known if s is None]


def calibrate(job: Job) -> dict:
    """Times a few training steps of a job's method on its data; a results line.

    The first pass builds the graph and is not counted, nor is any scoring. A method without epochs is fitted
    once, to all of its data: its seconds do not grow in step with the samples.
    """
    import numpy as np

    from agad_tf.models import AnomalyDetector

    samples = samples_of(job.dataset)
    split = split_of(job, samples)
    model = make_model(job, samples)
    by_steps = isinstance(model, AnomalyDetector)
    count = CALIBRATION_NORMALS["table" if samples.x.ndim == 2 else "image"] if by_steps else None
    kept = np.random.default_rng(0).permutation(split.train_normal)[:count]
    rows = np.concatenate([kept, split.train_anomaly[: max(1, len(kept) // 10)]])
    labels = np.repeat([0, 1], [len(kept), len(rows) - len(kept)])
    seconds = []
    for _ in range(2 if by_steps else 1):
        started, cpu_started = time.perf_counter(), time.process_time()
        model.fit(samples.x[rows], labels, epochs=1, seed=job.seed, verbose=0, **fit_arguments(job))
        seconds.append(min(time.perf_counter() - started, time.process_time() - cpu_started))
    seen = fit_arguments(job).get("steps_per_epoch", 0) * 256 or len(rows)
    found = {"seconds_per_sample": round(seconds[-1] / seen, 7), "samples": seen}
    found["paper_epochs"] = None if epochs_of(job) else paper_epochs(model)
    return {"calibration": found}
