"""Kinds that were labelled and kinds that were not: AGAD and frozen features beside the alternatives.

One class is normal, one other is labelled, eight are unseen. AGAD and features are run as their own studies
run them, on the same splits.
"""

import os
import time
from pathlib import Path

import numpy as np

from agad_tf.errors import InputError
from study import features, local
from study.job import Job
from study.lines import runs_in
from study.markdown import mean_and_deviation, table, write_parts
from study.runner import Experiment
from study.training import paper_epochs

RESULTS = "unseen.jsonl"
WITHOUT, WITH = ("oc_svm", "isolation_forest"), ("classifier", "agad", "features")
"""Detectors that leave labels out, and those that are given them."""
STEPS = 400
"""Of AGAD."""
DATA = {"mnist": "MNIST 8", "fashion_mnist": "Fashion-MNIST 8"}


def jobs(seeds: int = 1, problem: str | None = None) -> list[Job]:
    """Every detector on the splits of `seeds` seeds, of one problem or of both."""
    return [
        Job(problem=name, seed=seed, detector=detector, labels=detector in WITH)
        for seed in range(seeds)
        for name in (DATA if problem is None else (problem,))
        for detector in (*WITHOUT, *WITH)
    ]


def make(job: Job, work: Path) -> dict:
    """Trains a detector; AUROC after the last epoch of the score that it has by default."""
    if job.detector == "agad":
        made = local.make(Job(problem=job.problem, seed=job.seed, labels=True, steps=STEPS), work)
        figures = {kind: made["figures"][f"fused_{kind}"] for kind in ("known", "unseen")}
        return {"auroc": figures, "seconds": made["seconds"]}
    if job.detector == "features":
        made = features.make(Job(problem=job.problem, seed=job.seed, labels=features.MANY), work)
        figures = {kind: made["auroc"][f"fused_{kind}"] for kind in ("known", "unseen")}
        return {"auroc": figures, "seconds": made["seconds"]}
    return _baseline(job)


def _baseline(job: Job) -> dict:
    """Trains as long as the baseline's paper does."""
    from agad_tf.baselines import BASELINES
    from agad_tf.evaluation.metrics import auroc

    if "AGAD_TF_DATA" not in os.environ:
        raise InputError("the study of unseen kinds expects a folder of data, received none: give --data")
    problem = features.digits(Path(os.environ["AGAD_TF_DATA"]) / "images", job.seed, job.problem)
    rows = np.concatenate([problem.train, problem.labelled]) if job.labels else problem.train
    y = (np.arange(len(rows)) >= len(problem.train)).astype(np.int32)
    began = time.perf_counter()
    model = BASELINES[job.detector]((32, 32, 1), seed=job.seed)
    model.compile()
    model.fit(problem.images[rows], y, epochs=paper_epochs(model), seed=job.seed, verbose=0)
    seconds = time.perf_counter() - began
    scores = model.predict(problem.images[problem.test], verbose=0)
    figures = {}
    for kind in ("known", "unseen"):
        kept = np.isin(problem.kind, ("normal", kind))
        figures[kind] = round(100 * auroc(problem.kind[kept] != "normal", scores[kept]), 2)
    return {"auroc": figures, "seconds": round(seconds, 1)}


def write(results: Path, pages: Path) -> list[Path]:
    """Writes the table of the page."""
    runs = runs_in(results / RESULTS)
    columns, rows = (*WITHOUT, *WITH), []
    for name, title in DATA.items():
        of = {column: [] for column in columns}
        for run in (run for run in runs if run["problem"] == name):
            of[run["detector"]].append(run["auroc"])
        for kind in ("known", "unseen"):
            cells = [mean_and_deviation([r[kind] for r in of[c]]) if of[c] else None for c in columns]
            rows.append([title, kind, max(map(len, of.values())), *cells])
    named = (f"{column}, {'labels' if column in WITH else 'no labels'}" for column in columns[:-1])
    head = ("normal", "kinds", "seeds", *named, "features, pretrained, labels")
    return [write_parts(pages / "unseen.md", {"unseen": "\n".join(table(head, rows))})]


EXPERIMENT = Experiment(
    "known and unseen kinds, by AGAD, frozen features and the alternatives", jobs, make, RESULTS, report=write
)
