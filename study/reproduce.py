"""The study's one command: `agad-tf reproduce` in a checkout, or `python -m study`."""

import inspect
import json
import os
import sys
from functools import partial
from pathlib import Path

import click

from agad_tf.errors import InputError
from study import (
    audit,
    bigan_runs,
    bigan_tables,
    collapse,
    collected,
    features,
    local,
    report,
    six_tables,
    stability,
    stacking,
    toy,
    unseen,
)
from study.costs import calibrate as measure
from study.costs import estimate
from study.grids import NOT_MADE, grids
from study.job import Job, selected, unique
from study.lines import PAGES, RESULTS, append_lines, commit
from study.runner import Experiment, remaining, run, stamped
from study.training import source_of

STUDIES = {
    "stability": stability.EXPERIMENT,
    "collapse": collapse.EXPERIMENT,
    "table-targets": bigan_tables.TARGETS,
    "table-variants": bigan_tables.VARIANTS_TRIED,
    "table-references": bigan_tables.REFERENCES,
    "table-runs": bigan_runs.RUNS_COMPARED,
    "table-stacks": stacking.STACKS,
    "six-tables": six_tables.SIX_TABLES,
    "toy": toy.EXPERIMENT,
    "collected": collected.EXPERIMENT,
    "audit": audit.EXPERIMENT,
    "features": features.EXPERIMENT,
    "local": local.EXPERIMENT,
    "unseen": unseen.EXPERIMENT,
}


@click.command()
@click.argument("table", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the data sets.  [$AGAD_TF_DATA]")
@click.option(
    "--results", type=click.Path(path_type=Path), help="File with a line a run.  [study/results/...]"
)
@click.option("--seeds", type=click.IntRange(1, 100), help="Number of seeds of every cell.  [by table]")
@click.option("--only", metavar="FILTER", help="method=agad,normal_class=0|8 and the like.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Other settings, of our studies."
)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the methods' own.")
@click.option("--jobs", "workers", type=click.IntRange(1), default=1, show_default=True, help="Side by side.")
@click.option("--backend", default="loky", show_default=True, help="loky: this machine; ray: a cluster.")
@click.option("--budget", type=click.FloatRange(0), metavar="MINUTES", help="Begin no run after that time.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("runs/reproduce"),
    show_default=True,
    help="Folder for checkpoints of unfinished runs.",
)
@click.option("--dry-run", is_flag=True, help="List what would run and what it costs.")
@click.option("--calibrate", is_flag=True, help="With --dry-run: measure what was never run.")
def reproduce(
    table, data, results, seeds, only, settings, epochs, workers, backend, budget, work, dry_run, calibrate
):
    """Run a TABLE of the papers, beside its baselines, or a study of ours; or write the report.

    Without a TABLE the names are listed. Runs whose lines are in the results file are left out, so that the
    command can be stopped and started again. Exit status 3: a run failed, its error is in the results file.

    \b
    Example: agad-tf reproduce aa-bigan-8 --data DIR --dry-run
             agad-tf reproduce aa-bigan-8 --data DIR --jobs 2 --budget 30
             agad-tf reproduce agad-9 --data DIR --only method=agad,normal_class=0 --epochs 5
             agad-tf reproduce toy --seeds 3 --set steps=400
             agad-tf reproduce report
    """
    if table is None:
        for name, known in (grids() | STUDIES).items():
            click.echo(f"{name:<16} {known.title}")
        click.echo(f"{'report':<16} writes the pages from the results files")
        return
    if table == "report":
        for path in write_pages(results):
            click.echo(path)
        return
    experiment = named(table)
    results = RESULTS / experiment.results if results is None else results
    jobs = selected(jobs_of(table, seeds, **dict(map(_setting, settings))), only)
    if epochs is not None:
        jobs = [job.but(epochs=epochs) for job in jobs]
    left = remaining(jobs, experiment.lines(results))
    where = results.relative_to(Path.cwd()) if results.is_relative_to(Path.cwd()) else results
    click.echo(f"{table}: {len(jobs)} runs, {len(jobs) - len(left)} of them in {where}", err=True)
    if dry_run:
        _dry_run(left, results, data, calibrate, workers)
        return
    if not left:
        return
    _use(data)
    for dataset in dict.fromkeys(job.dataset for job in left if "dataset" in job):
        source_of(dataset)  # says before the first run which data are not there
    tell = partial(click.echo, err=True)
    outcome = run(left, results, experiment.make, work.absolute(), workers, backend, budget, tell)
    click.echo(f"{outcome.done} runs done, {outcome.failed} failed, {outcome.left} left", err=True)
    if outcome.failed:
        raise SystemExit(3)


def named(table: str) -> Experiment:
    """The experiment of a name.

    Raises:
        InputError: an unknown name.
    """
    known = grids() | STUDIES
    if table not in known:
        raise InputError(f"expected one of the tables {', '.join(known)}, or report; received '{table}'")
    return known[table]


def jobs_of(table: str, seeds: int | None = None, **settings) -> list[Job]:
    """The runs of an experiment, seed by seed.

    Raises:
        InputError: an unknown name or setting, or a table that nothing here can make.
    """
    make = named(table).jobs
    if table in NOT_MADE:
        raise InputError(f"{table} stands as the paper's figures alone: {NOT_MADE[table]}")
    settings |= {} if seeds is None else {"seeds": seeds}
    known = inspect.signature(make).parameters
    for name in settings:
        if name not in known:
            raise InputError(f"{table} has no setting {name}: expected one of {', '.join(known)}")
    return unique(make(**settings))


def write_pages(results: Path | None) -> list[Path]:
    """Writes the pages: of another results file than ours those of the grids, beside it; else all of them."""
    if results is not None:
        return report.write(results, results.parent)
    written = report.write(RESULTS / "runs.jsonl", PAGES)
    reports = dict.fromkeys(study.report for study in STUDIES.values() if study.report is not None)
    return [*written, *(path for write in reports for path in write(RESULTS, PAGES))]


def _setting(text: str) -> tuple:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _use(data: Path | None) -> None:
    """Makes a folder the one that data are looked for in."""
    if data is not None:
        if not data.is_dir():
            raise InputError(
                f"--data expects a folder, received {data}; give the one that holds the data sets"
            )
        os.environ["AGAD_TF_DATA"] = str(data.absolute())


def _dry_run(jobs: list[Job], results: Path, data: Path | None, calibrate: bool, workers: int) -> None:
    if any("method" not in job for job in jobs):  # no trainings of the grids: their cost is not known
        if calibrate:
            raise InputError("--calibrate expects a table or grid, received a study of its own: leave it out")
        for job in jobs:
            click.echo(job)
        click.echo(f"{len(jobs)} runs to go")
        return
    costs = report.costs_of(results)
    if calibrate:
        _use(data)
        for job in jobs:
            if costs.seconds(job) is None:
                append_lines(results, stamped(job, measure(job), commit()))
                costs = report.costs_of(results)
    for job in jobs:
        seconds = costs.seconds(job)
        click.echo(f"{'unknown' if seconds is None else _duration(seconds):>9}  {job}")
    seconds, unknown = estimate(jobs, costs)
    text = f"{len(jobs)} runs to go, about {_duration(seconds)} on one core"
    if workers > 1:
        text += f", {_duration(seconds / workers)} with {workers} side by side"
    if unknown:
        names = ("method", "backbone", "dataset")
        kinds = sorted({" ".join(job[name] for name in names if job.get(name)) for job in unknown})
        text += f"; without {len(unknown)} runs of which none was measured ({', '.join(kinds)}): --calibrate"
    click.echo(text, file=sys.stdout)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
