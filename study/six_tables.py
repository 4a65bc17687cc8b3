"""The six tables, all methods under one protocol: the paper's, what needs no network, and both together.

The settings were chosen on development seeds; report seeds are run once. AA-BiGAN, the isolation forest and
the one-class SVM were run on the same splits before (`aa-bigan-2`, `aa-bigan-8`): their lines are read, not
made again.
"""

import itertools
import time
from pathlib import Path

import numpy as np

from agad_tf.data.splits.protocols import one_class_split
from agad_tf.evaluation.metrics import auroc
from study.bigan_runs import WAYS
from study.bigan_tables import MIXED, TRIED
from study.figures import RUNS, Figure, Results, all_runs
from study.job import Job
from study.lines import runs_in
from study.markdown import table, write_parts
from study.runner import Experiment
from study.stacking import STACK_COLUMNS
from study.training import EVALUATIONS, PROTOCOL, STEPS, TABLES, facts_of, samples_of, training

RESULTS, PAGE = "six_tables.jsonl", "six_tables.md"
CLASSIFIER = {"learning_rate": 3e-3}
"""AA-BiGAN's on tables, for as many steps: with its paper's 1e-4 they are too few
(docs/results/README.md, "Why figures here are under the papers'")."""

ROWS = (
    ("AA-BiGAN, last step", "aa_bigan_neighbours", True, "reconstruction"),
    ("AA-BiGAN, the paper's policy (every label of a validation part)", "aa_bigan", "all_labels", None),
    ("AA-BiGAN with neighbours (ours)", "aa_bigan_neighbours", True, "fused"),
    ("neighbours, no labels", "neighbours", False, "score"),
    ("isolation forest, no labels", "isolation_forest", "last", None),
    ("one-class SVM, no labels", "oc_svm", "last", None),
    ("gradient boosting on the labels", "gradient_boosting", True, "score"),
    ("stacked: gradient boosting with forest and neighbours", "stacked", True, "score"),
    ("supervised classifier, 1500 steps", "classifier", True, "score"),
)
"""Name in the page, method, whether it has the labels, and which score; of lines of the grids their policy.

The first and the third are of the same trainings."""


def jobs(seeds: int = 3, first_seed: int = 0) -> list[Job]:
    """Seed by seed."""
    own = dict.fromkeys((method, labels) for _, method, labels, score in ROWS if score)
    given = itertools.product(range(first_seed, first_seed + seeds), own, TABLES)
    return [Job(dataset=d, method=method, labels=labels, seed=seed) for seed, (method, labels), d in given]


def measure(job: Job, work: Path) -> dict:
    """AUROC on the test part after the last step, in per cent, by score."""
    split, scores, seconds = _trained(job)
    _, labels = split.labelled("test")
    figures = {name: round(100 * auroc(labels, values), 3) for name, values in scores.items()}
    return {"figures": figures, "cpu_seconds": seconds} | facts_of(split)


def _trained(job: Job):
    """The split of a job, scores of its test part by name, and seconds of the processor."""
    import keras

    from agad_tf.baselines import BASELINES
    from agad_tf.models import AABiGANNeighbours

    samples = samples_of(job.dataset)
    split = one_class_split(samples, **PROTOCOL, seed=job.seed)
    rows, labels = split.labelled("train")
    if not job.labels:
        rows, labels = rows[labels == 0], labels[labels == 0]
    x = samples.x[split.labelled("test")[0]]
    keras.utils.set_random_seed(job.seed)
    begun = time.process_time()
    in_steps = {"epochs": EVALUATIONS, "steps_per_epoch": STEPS // EVALUATIONS, "seed": job.seed}
    fused = job.method == "aa_bigan_neighbours"
    kind = AABiGANNeighbours if fused else BASELINES[job.method]
    model = kind(samples.x.shape[1:], seed=job.seed)
    model.compile(**(CLASSIFIER if job.method == "classifier" else {}))
    how = in_steps if fused or job.method == "classifier" else {}
    model.fit(samples.x[rows], labels, verbose=0, **how)
    scores = {}
    for name in ("fused", *model.score_names) if fused else ("score",):
        if fused:
            model.score = name
        scores[name] = np.asarray(model.predict(x, verbose=0), np.float64)
    keras.backend.clear_session()
    return split, scores, round(time.process_time() - begun, 2)


def write(results: Path, pages: Path) -> list[Path]:
    """Writes the tables of the page."""
    lines = runs_in(results / RESULTS)
    parts = {"all methods": _all_methods(lines, Results(all_runs(results / RUNS)))} if lines else {}
    tried = runs_in(results / TRIED)
    stacks = [line for line in tried if "stack" in line]
    parts |= {"stacks": _stacks(stacks)} if stacks else {}
    mixed = [line for line in runs_in(results / MIXED) if "with twice neighbours" in line["runs"][0]]
    parts |= {"mixed": _mixed(mixed)} if mixed else {}
    return [write_parts(pages / PAGE, parts)]


def _all_methods(lines: list[dict], grids: Results) -> str:
    seeds = sorted({line["seed"] for line in lines})
    rows = []
    for name, method, how, score in ROWS:
        cells = []
        for dataset in TABLES:
            if score:
                of = [
                    line
                    for line in lines
                    if (line["dataset"], line["method"], line["labels"]) == (dataset, method, how)
                ]
                found = Figure.of([line["figures"][score] / 100 for line in of])
            else:
                found = grids.figure([training(dataset, method, gamma=0.01, seed=s) for s in seeds], how)
            cells.append(found)
        rows.append([name, *(_cell(found, len(seeds)) for found in cells)])
    minutes = sum(line["cpu_seconds"] for line in lines) / 60
    commits = sorted({line["commit"] for line in lines})
    about = (
        f"Seeds {seeds[0]} to {seeds[-1]}. Commit {', '.join(commits)}; {minutes:.0f} minutes of processor "
    )
    about += "time for the rows that are not of the earlier grids."
    return "\n".join([*table(("method", *TABLES), rows), "", about])


def _cell(found: Figure | None, seeds: int) -> str | None:
    """Mean and half of the 95 % interval; with the number of seeds where it is another."""
    if found is None:
        return None
    text = f"{found.mean:.1f}" + ("" if found.low is None else f" ± {found.mean - found.low:.1f}")
    return text if found.count == seeds else f"{text} ({found.count})"


def _stacks(lines: list[dict]) -> str:
    rows = []
    for dataset in TABLES:
        of = [line["figures"] for line in lines if line["dataset"] == dataset]
        if of:
            rows.append([dataset, len(of), *(np.mean([one[name] for one in of]) for name in STACK_COLUMNS)])
    return _with_mean(("table", "seeds", *STACK_COLUMNS), rows)


def _mixed(lines: list[dict]) -> str:
    """What the reconstruction error and the distance to neighbours give together, by how they are added."""
    ways = [f"with {times}neighbours{way}" for times in ("", "twice ") for way in WAYS]
    rows = []
    for dataset in TABLES:
        of = [line for line in lines if line["dataset"] == dataset]
        if of:
            runs = [line["runs"][0] for line in of]
            figures = [np.mean([run[name] for run in runs]) for name in ("last", *ways)]
            rows.append([dataset, len(of), *figures, np.mean([line["neighbours"] for line in of])])
    names = (f"{'twice' if 'twice' in way else 'once'}, {way.split()[-1]}" for way in ways)
    names = (name.replace("neighbours", "squared error") for name in names)
    return _with_mean(("table", "seeds", "AA-BiGAN", *names, "neighbours alone"), rows)


def _with_mean(head: tuple, rows: list[list]) -> str:
    """A table of figures, with their mean over the tables where all six are there."""
    if len(rows) == len(TABLES):
        rows = [*rows, ["mean of the six", "", *map(np.mean, list(zip(*rows, strict=True))[2:])]]
    shown = [[*row[:2], *(f"{value:.1f}" for value in row[2:])] for row in rows]
    return "\n".join(table(head, shown))


SIX_TABLES = Experiment("The six tables, all methods (ours)", jobs, measure, RESULTS, report=write)
