"""Kinds that were labelled and kinds that were not: the alternatives on the digits of `features` and `local`.

One class is normal, one other is labelled, eight are unseen. The three studies draw the same splits, so their
runs of one seed stand in one table.
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
WITHOUT, WITH = ("oc_svm", "isolation_forest"), ("classifier",)
"""Baselines that leave labels out, and that need them."""
DATA = {"mnist": "MNIST 8", "fashion_mnist": "Fashion-MNIST 8"}


def jobs(seeds: int = 1, problem: str | None = None) -> list[Job]:
    """Every baseline on the splits of `seeds` seeds, of one problem or of both."""
    return [
        Job(problem=name, seed=seed, detector=detector)
        for seed in range(seeds)
        for name in (DATA if problem is None else (problem,))
        for detector in (*WITHOUT, *WITH)
    ]


def make(job: Job, work: Path) -> dict:
    """Trains a baseline as long as its paper does; AUROC of its last epoch."""
    from agad_tf.baselines import BASELINES
    from agad_tf.evaluation.metrics import auroc

    if "AGAD_TF_DATA" not in os.environ:
        raise InputError("the study of unseen kinds expects a folder of data, received none: give --data")
    problem = features.digits(Path(os.environ["AGAD_TF_DATA"]) / "images", job.seed, job.problem)
    rows = np.concatenate([problem.train, problem.labelled]) if job.detector in WITH else problem.train
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
    """Writes the table of the page: the seeds of this study, in all three."""
    runs = runs_in(results / RESULTS)
    of_agad, of_features = runs_in(results / local.RESULTS), runs_in(results / features.RESULTS)
    rows = []
    for name, title in DATA.items():
        seeds = {run["seed"] for run in runs if run["problem"] == name}
        for labels, baselines in ((False, WITHOUT), (True, WITH)):
            score = "fused" if labels else "reconstruction"  # as `auto` chooses at 32 pixels

            def is_of(run, name=name, labels=labels, seeds=seeds):
                return run["problem"] == name and run["seed"] in seeds and bool(run["labels"]) == labels

            agad = [run["figures"] for run in of_agad if is_of(run)]
            frozen = [run["auroc"] for run in of_features if is_of(run)]
            for kind in ("known", "unseen"):
                own = {
                    of: [r["auroc"][kind] for r in runs if (r["problem"], r["detector"]) == (name, of)]
                    for of in baselines
                }
                cells = [mean_and_deviation(own[of]) if own.get(of) else None for of in (*WITHOUT, *WITH)]
                cells.append(mean_and_deviation([figures[f"{score}_{kind}"] for figures in agad]))
                cells.append(mean_and_deviation([figures[f"fused_{kind}"] for figures in frozen]))
                rows.append([title, "yes" if labels else "no", kind, len(seeds), *cells])
    head = ("normal", "labels", "kinds", "seeds", *WITHOUT, *WITH, "agad", "features, pretrained")
    return [write_parts(pages / "unseen.md", {"unseen": "\n".join(table(head, rows))})]


EXPERIMENT = Experiment("known and unseen kinds by the alternatives", jobs, make, RESULTS, report=write)
