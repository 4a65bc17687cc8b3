"""The command that runs the papers' tables: reproduce."""

import dataclasses
import functools
import os
import sys
from pathlib import Path

import click

from agad_tf.errors import InputError

RESULTS = Path("study/results/runs.jsonl")


@click.command()
@click.argument("table", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the data sets.  [$AGAD_TF_DATA]")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True,
              help="File with a line a run.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, 100), help="Number of seeds of every cell.  [by table]")
@click.option("--only", metavar="FILTER", help="method=agad,normal_class=0|8 and the like.")
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
def reproduce(table, data, results, seeds, only, epochs, workers, backend, budget, work, dry_run, calibrate):
    """Run a TABLE of the papers, beside its baselines; or write the report.

    Without a TABLE the names are listed. Runs whose lines are in the results file are left out, so that the
    command can be stopped and started again. Exit status 3: a run failed, its error is in the results file.

    \b
    Example: agad-tf reproduce aa-bigan-8 --data DIR --dry-run
             agad-tf reproduce aa-bigan-8 --data DIR --jobs 2 --budget 30
             agad-tf reproduce agad-9 --data DIR --only method=agad,normal_class=0 --epochs 5
             agad-tf reproduce report
    """
    from study import jobs as known
    from study.grid import remaining, run_grid, selected
    from study.report_lines import all_runs
    from study.results import commit

    if table is None:
        for name, grid in known.grids().items():
            click.echo(f"{name:<16} {grid.title}")
        click.echo(f"{'report':<16} writes the pages from the results files")
        return
    if table == "report":
        from study.report import write

        for path in write(results):
            click.echo(path)
        return
    jobs = selected(known.jobs_of(table, seeds), only)
    if epochs is not None:
        jobs = [dataclasses.replace(job, epochs=epochs) for job in jobs]
    left = remaining(jobs, all_runs(results))
    click.echo(f"{table}: {len(jobs)} runs, {len(jobs) - len(left)} of them in {results}", err=True)
    if dry_run:
        _dry_run(left, results, data, calibrate, workers)
        return
    if not left:
        return
    environment = _use(data)
    _check_data(left)
    train = functools.partial(_train, work=work.absolute(), environment=environment, code=commit())
    outcome = run_grid(
        left, results, train, workers, backend, budget, functools.partial(click.echo, err=True)
    )
    click.echo(f"{outcome.done} runs done, {outcome.failed} failed, {outcome.left} left", err=True)
    if outcome.failed:
        raise SystemExit(3)


def _train(job, work: Path, environment: dict, code: str | None = None) -> list[dict]:
    os.environ.update(environment)  # a worker of a cluster does not have ours
    from study.grid_training import train

    return train(job, work, code)


def _use(data: Path | None) -> dict:
    """Makes a folder the one that data are looked for in; the environment of the workers."""
    if data is not None:
        if not data.is_dir():
            raise InputError(
                f"--data expects a folder, received {data}; give the one that holds the data sets"
            )
        os.environ["AGAD_TF_DATA"] = str(data.absolute())
    names = ("AGAD_TF_DATA", "TF_CPP_MIN_LOG_LEVEL")
    return {name: os.environ[name] for name in names if name in os.environ}


def _check_data(jobs) -> None:
    """Says before the first run which data are not there."""
    from study.grid_training import source_of

    for dataset in dict.fromkeys(job.dataset for job in jobs):
        source_of(dataset)


def _dry_run(jobs, results: Path, data: Path | None, calibrate: bool, workers: int) -> None:
    from study.grid_costs import calibrate as measure
    from study.grid_costs import estimate
    from study.report import costs_of
    from study.results import append_lines

    costs = costs_of(results)
    if calibrate:
        _use(data)
        for job in jobs:
            if costs.seconds(job) is None:
                append_lines(results, [measure(job)])
                costs = costs_of(results)
    for job in jobs:
        seconds = costs.seconds(job)
        click.echo(f"{'unknown' if seconds is None else _duration(seconds):>9}  {job}")
    seconds, unknown = estimate(jobs, costs)
    text = f"{len(jobs)} runs to go, about {_duration(seconds)} on one core"
    if workers > 1:
        text += f", {_duration(seconds / workers)} with {workers} side by side"
    if unknown:
        kinds = sorted({" ".join(filter(None, (job.method, job.backbone, job.dataset))) for job in unknown})
        text += f"; without {len(unknown)} runs of which none was measured ({', '.join(kinds)}): --calibrate"
    click.echo(text, file=sys.stdout)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
