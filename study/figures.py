"""What the report stands on: results lines of one form, and means over runs."""

import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from agad_tf.evaluation.intervals import mean_interval
from study.job import Job
from study.lines import read_lines, runs_in
from study.policies import POLICIES
from study.training import EVALUATIONS, PROTOCOL, STEPS, training

RUNS, TABLE2 = "runs.jsonl", "aa_bigan_table2.jsonl"


def all_runs(results: Path) -> list[dict]:
    """Lines of the grids' results file and, beside it, of earlier runs of AA-BiGAN's Table 2.

    A run that is in both counts once, as the grids have it.
    """
    lines = runs_in(results)
    there = {Job(line["job"]).key for line in lines}
    adapted = map(of_earlier_form, read_lines(results.with_name(TABLE2)))
    return lines + [line for line in adapted if line is not None and Job(line["job"]).key not in there]


def of_earlier_form(line: dict) -> dict | None:
    """A line of AA-BiGAN on tables, of before the grids, in their form; None of other settings."""
    config = dict(line["config"])
    changed = {name: config.pop(name) for name in ("generator_target",) if name in config}
    if config != PROTOCOL | {"steps": STEPS} or "step" not in line:
        return None
    job = training(line["dataset"], "aa_bigan", gamma=PROTOCOL["gamma"], compile=changed, seed=line["seed"])
    own = {name: value for name, value in line.items() if name not in ("dataset", "seed", "config")}
    # An epoch of the grids is what lies between two looks.
    epochs = {"epochs": EVALUATIONS, "epoch": line["step"] * EVALUATIONS // STEPS}
    return own | epochs | {"job": job, "config_sha256": job.sha256, "chosen": True}


@dataclass(frozen=True)
class Figure:
    """Mean of some runs, in per cent.

    Attributes:
        mean, low, high: with the 95 % interval of the mean; None for a single run.
        count: runs.
        deviation: over the runs; None for a single one.
    """

    mean: float
    low: float | None
    high: float | None
    count: int
    deviation: float | None

    @classmethod
    def of(cls, values: list[float]) -> "Figure | None":
        """The figure of shares in [0, 1]; None of no values."""
        if not values:
            return None
        mean, low, high, count = mean_interval([100 * value for value in values])
        deviation = statistics.stdev(values) * 100 if count > 1 else None
        return cls(mean, low, high, count, deviation)

    def text(self, interval: bool = True) -> str:
        if not interval or self.low is None:
            return f"{self.mean:.1f}"
        return f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"


class Results:
    """Runs by what they are of.

    Args:
        lines: as `all_runs` gives them.
    """

    def __init__(self, lines: list[dict]):
        self.lines = lines
        self._by_cell: dict[str, dict[tuple, dict[tuple, dict]]] = defaultdict(lambda: defaultdict(dict))
        for line in lines:
            job = Job(line["job"])
            run = (line["epochs"], job.seed)
            self._by_cell[job.cell][run][line["policy"], line["score"]] = line

    def runs(self, job: Job) -> dict[int, dict]:
        """Of the cell and seed of a job: epochs to its lines, by (policy, score)."""
        runs = self._by_cell.get(job.cell, {})
        return {epochs: lines for (epochs, seed), lines in runs.items() if seed == job.seed}

    def epochs(self, jobs: list[Job]) -> list[int]:
        """The numbers of epochs that runs of these jobs' cells trained for."""
        return sorted({epochs for job in jobs for epochs in self.runs(job)})

    def seeds_of(self, job: Job) -> list[int]:
        """Every seed that was run of a job's cell."""
        return sorted({seed for _, seed in self._by_cell.get(job.cell, {})})

    def lines_of(self, jobs: list[Job], policy: str, epochs: int | None, score: str | None = None) -> list:
        """The lines of a policy, one a run: of a score, or of the one that the policy reports."""
        found = []
        for job in jobs:
            for run_epochs, lines in self.runs(job).items():
                if epochs not in (None, run_epochs):
                    continue
                of_policy = [line for (name, _), line in lines.items() if name == policy]
                found += [
                    line
                    for line in of_policy
                    if (line["chosen"] if score is None else line["score"] == score)
                ]
        return found

    def figure(self, jobs, policy, epochs=None, score=None, part="auroc") -> Figure | None:
        """The mean of `part` over the runs of jobs; None where there is none, or not of every run."""
        values = [line.get(part) for line in self.lines_of(jobs, policy, epochs, score)]
        return Figure.of(values) if values and None not in values else None

    def figures(self, jobs, epochs=None, score=None) -> dict[str, Figure | None]:
        """`figure` of every policy."""
        return {policy: self.figure(jobs, policy, epochs, score) for policy in POLICIES}

    def missing(self, jobs: list[Job]) -> list[Job]:
        """The jobs whose cell has no run with their seed, whatever its number of epochs."""
        return [job for job in jobs if not self.runs(job)]


def paired(results: Results, pairs: list[tuple[Job, Job]], policy: str, epochs: int) -> Figure | None:
    """Mean of the first's AUROC minus the second's, over pairs in which both were run."""
    differences = []
    for first, second in pairs:
        values = [results.lines_of([job], policy, epochs, None) for job in (first, second)]
        if all(len(lines) == 1 and lines[0]["auroc"] is not None for lines in values):
            differences.append(values[0][0]["auroc"] - values[1][0]["auroc"])
    return Figure.of(differences)


def hours_in(folder: Path) -> dict[str, float]:
    """Hours behind the files the report stands on: of processor time where it is known, else on the wall."""
    found = {}
    for path in (folder / RUNS, folder / TABLE2):
        runs: dict[str, float] = {}
        for line in read_lines(path):
            if "policy" not in line:
                continue
            # There is a line a policy, and each repeats the seconds of its run.
            of_run = line.get("job") or [line["dataset"], line["seed"], line["config"]]
            cpu = line.get("cpu_seconds")
            runs[str(of_run)] = line["seconds"] if cpu is None else cpu
        if runs:
            found[path.name] = sum(runs.values()) / 3600
    return found
