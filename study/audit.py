"""The measured example of the audit: the naive net on MNIST 8 and Fashion-MNIST 8, a few seeds."""

import time
from pathlib import Path

from agad_tf.evaluation.intervals import mean_interval
from study.job import Job
from study.lines import runs_in
from study.markdown import table, write_parts
from study.paper_tables import load
from study.runner import Experiment

PROBLEMS = (("mnist", 8), ("fashion_mnist", 8))
ALGORITHMS = {"literal": {"literal": True}, "default": {}}

COLUMNS = (
    ("inference mode, last epoch", "last", "inference"),
    ("training-mode batch norm, shuffled, last epoch", "last", "batch_shuffled"),
    ("training-mode batch norm, class order, last epoch", "last", "batch_ordered"),
    ("inference mode, best test epoch", "best", "inference"),
    ("training-mode batch norm, class order, best test epoch", "best", "batch_ordered"),
)


def jobs(
    seeds: int = 3, algorithm: str = "literal", epochs: int = 15, image_size: int = 32, batch_size: int = 256
) -> list[Job]:
    """The runs, one seed of everything before the next seed.

    Args:
        seeds: number of seeds.
        algorithm: of `ALGORITHMS`.
        epochs, image_size, batch_size (of training-mode batch norm): the same for all.
    """
    sizes = {"epochs": epochs, "image_size": image_size, "batch_size": batch_size}
    return [
        Job(source=source, normal_class=digit, algorithm=algorithm, seed=seed, **sizes)
        for seed in range(seeds)
        for source, digit in PROBLEMS
    ]


def make(job: Job, work: Path) -> dict:
    """Trains one run and returns its record."""
    from agad_tf.training.audit import observe_training
    from agad_tf.training.configuration import configure

    settings = {
        "source": job.source,
        "normal_classes": str(job.normal_class),
        "gamma": 0.0,
        "backbone": "encoder_decoder",
        "data.image_size": job.image_size,
        "epochs": job.epochs,
        "seed": job.seed,
        **ALGORITHMS[job.algorithm],
    }
    started = time.perf_counter()
    curve, _, split = observe_training(configure("agad", settings=settings.items()), job.batch_size)
    return {
        "n_train": len(split.train_normal),
        "n_normal": len(split.test_normal),
        "n_anomaly": len(split.test_anomaly),
        "split_sha256": split.sha256,
        "seconds": round(time.perf_counter() - started, 1),
        "curve": curve,
    }


def part(records: list[dict]) -> str:
    """The results as Markdown, in per cent with the 95 % interval over seeds; what to run where none are."""
    if not records:
        return "Not measured yet. To measure: `agad-tf reproduce audit --data DIR`"
    from agad_tf.training.audit import summary

    groups: dict[tuple, list[dict]] = {}
    for record in records:
        names = ("source", "normal_class", "algorithm", "epochs", "image_size", "batch_size")
        groups.setdefault(tuple(record[name] for name in names), []).append(record)
    rows = []
    for (source, digit, algorithm, epochs, *_), members in sorted(groups.items(), reverse=True):
        summaries = [summary(record["curve"]) for record in members]
        cells = []
        for _, epoch, mode in COLUMNS:
            found = [of_run[epoch][mode] for of_run in summaries]
            values = [value["auroc"] if epoch == "best" else value for value in found if value is not None]
            cells.append(_cell(values, len(members)))
        paper = load("agad_9").cell(digit, dataset=source, backbone="encoder_decoder").text()
        rows.append([f"{source} {digit}", algorithm, epochs, len(members), *cells, paper])
    head = ["normal class", "algorithm", "epochs", "runs", *(name for name, _, _ in COLUMNS)]
    sizes = sorted({(record["image_size"], record["batch_size"]) for record in records})
    images = ", ".join(f"{side}×{side} with training-mode batches of {batch}" for side, batch in sizes)
    about = f"AUROC in per cent, mean ± half of the 95 % interval over seeds. Naive net, γ 0, {images}. "
    about += (
        "*literal* is the paper's algorithm and nothing else, *default* this library's with its stabilisers."
    )
    return "\n".join([*table([*head, "paper (borrowed)"], rows), "", about])


def _cell(values: list[float], runs: int) -> str:
    if not values:
        return "n/a"
    mean, low, _, n = mean_interval([100 * value for value in values])
    text = f"{mean:.1f}" if low is None else f"{mean:.1f} ± {mean - low:.1f}"
    return text if n == runs else f"{text} ({n} of {runs} finite)"


def write(results: Path, pages: Path) -> list[Path]:
    """Writes the table into docs/results/audit.md."""
    return [write_parts(pages / "audit.md", {"audit table": part(runs_in(results / "audit.jsonl"))})]


EXPERIMENT = Experiment(
    "What an audit shows: the naive net on MNIST 8 and Fashion-MNIST 8",
    jobs,
    make,
    "audit.jsonl",
    report=write,
)
