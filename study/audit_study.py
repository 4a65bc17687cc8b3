"""The measured example of docs/audit.md: the naive net on MNIST 8 and Fashion-MNIST 8, a few seeds.

    python -m study.audit_study measure --data DIR
    python -m study.audit_study table

The first appends one JSON line a run to study/results/audit.jsonl and leaves out runs whose line is there, so
it can be stopped and started again. The second writes the table into docs/audit.md from that file.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import click

from agad_tf.evaluation.intervals import mean_interval
from study.results import read_lines

PROBLEMS = (("mnist", 8), ("fashion_mnist", 8))
PAPER = {("mnist", 8): 95.8, ("fashion_mnist", 8): 99.1}
"""AUROC % that AGAD prints for its naive net without anomalies: arXiv 2304.04211, Table 9."""

ALGORITHMS = {"literal": {"literal": True}, "default": {}}
RESULTS, PAGE = Path("study/results/audit.jsonl"), Path("docs/audit.md")
BEGIN, END = "<!-- audit table: begin -->", "<!-- audit table: end -->"
COMMAND = "python -m study.audit_study measure --data DIR"

COLUMNS = (
    ("inference mode, last epoch", "last", "inference"),
    ("training-mode batch norm, shuffled, last epoch", "last", "batch_shuffled"),
    ("training-mode batch norm, class order, last epoch", "last", "batch_ordered"),
    ("inference mode, best test epoch", "best", "inference"),
    ("training-mode batch norm, class order, best test epoch", "best", "batch_ordered"),
)


def plan(algorithms=("literal",), seeds: int = 3, **settings) -> list[dict]:
    """The runs, one seed of everything before the next seed.

    Args:
        algorithms: of `ALGORITHMS`.
        seeds: number of seeds.
        settings: epochs, image_size and batch_size (of training-mode batch norm), the same for all.
    """
    return [
        {"source": source, "normal_class": digit, "algorithm": algorithm, "seed": seed, **settings}
        for seed in range(seeds)
        for algorithm in algorithms
        for source, digit in PROBLEMS
    ]


def measure_run(job: dict, data: Path) -> dict:
    """Trains one run and returns its record."""
    from agad_tf.training.audit import observe_training
    from agad_tf.training.configuration import configure

    settings = {
        "source": str(data / f"{job['source']}.npz"),
        "normal_classes": str(job["normal_class"]),
        "gamma": 0.0,
        "backbone": "encoder_decoder",
        "data.image_size": job["image_size"],
        "epochs": job["epochs"],
        "seed": job["seed"],
        **ALGORITHMS[job["algorithm"]],
    }
    started = time.perf_counter()
    curve, _, split = observe_training(
        configure("agad", settings=settings.items()), job["batch_size"], progress=True
    )
    return job | {
        "n_train": len(split.train_normal),
        "n_normal": len(split.test_normal),
        "n_anomaly": len(split.test_anomaly),
        "split_sha256": split.sha256,
        "seconds": round(time.perf_counter() - started, 1),
        "curve": curve,
    }


def key(record: dict) -> tuple:
    """What makes two runs the same."""
    names = ("source", "normal_class", "algorithm", "seed", "epochs", "image_size", "batch_size")
    return tuple(record[name] for name in names)


def append_line(path: Path, record: dict) -> None:
    """Adds a line, on a line of its own even where the one before was cut short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")


def table(records: list[dict]) -> str:
    """The results as Markdown, in per cent with the 95 % interval over seeds; what to run where none are."""
    if not records:
        return f"Not measured yet. To measure: `{COMMAND}`"
    from agad_tf.training.audit import summary

    names = [name for name, _, _ in COLUMNS]
    lines = [f"| normal class | algorithm | epochs | runs | {' | '.join(names)} | paper (borrowed) |"]
    lines.append("|" + "---|" * (len(names) + 5))
    groups: dict[tuple, list[dict]] = {}
    for record in records:
        groups.setdefault((*key(record)[:3], *key(record)[4:]), []).append(record)
    for (source, digit, algorithm, epochs, *_), members in sorted(groups.items(), reverse=True):
        summaries = [summary(record["curve"]) for record in members]
        cells = []
        for _, epoch, mode in COLUMNS:
            found = [of_run[epoch][mode] for of_run in summaries]
            values = [value["auroc"] if epoch == "best" else value for value in found if value is not None]
            cells.append(_cell(values, len(members)))
        lines.append(
            f"| {source} {digit} | {algorithm} | {epochs} | {len(members)} | {' | '.join(cells)} | "
            f"{PAPER.get((source, digit), 'n/a')} |"
        )
    sizes = sorted({(record["image_size"], record["batch_size"]) for record in records})
    images = ", ".join(f"{side}×{side} with training-mode batches of {batch}" for side, batch in sizes)
    lines += [
        "",
        f"AUROC in per cent, mean ± half of the 95 % interval over seeds. Naive net, γ 0, {images}. "
        "*literal* is the paper's algorithm and nothing else, *default* this library's with its stabilisers.",
    ]
    return "\n".join(lines)


def _cell(values: list[float], runs: int) -> str:
    if not values:
        return "n/a"
    mean, low, _, n = mean_interval([100 * value for value in values])
    text = f"{mean:.1f}" if low is None else f"{mean:.1f} ± {mean - low:.1f}"
    return text if n == runs else f"{text} ({n} of {runs} finite)"


def with_table(page: str, records: list[dict]) -> str:
    """The page with the table of these records between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table(records)}\n{END}{after}"


@click.group()
def main():
    """Measures the example of docs/audit.md and writes its table."""


@main.command("measure")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the two .npz files.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option(
    "--algorithm", "algorithms", multiple=True, type=click.Choice(list(ALGORITHMS)), default=["literal"]
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=15, show_default=True)
@click.option("--image-size", type=click.IntRange(8), default=32, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=256, show_default=True, help="At scoring.")
def measure(data, out, algorithms, seeds, epochs, image_size, batch_size):
    """Trains and audits what is not yet in the results file."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    for job in plan(algorithms, seeds, epochs=epochs, image_size=image_size, batch_size=batch_size):
        if key(job) in {key(record) for record in read_lines(out)}:
            continue
        record = measure_run(job, data)
        append_line(out, record | {"commit": commit.stdout.strip()})
        click.echo(f"{key(job)} {record['curve'][-1]} {record['seconds']} s")


@main.command("table")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--page", type=click.Path(path_type=Path, exists=True), default=PAGE, show_default=True)
def write_table(results, page):
    """Writes the table into the page."""
    page.write_text(with_table(page.read_text(), read_lines(results)))


if __name__ == "__main__":
    main()
