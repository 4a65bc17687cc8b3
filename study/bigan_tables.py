"""AA-BiGAN on the six tables of its paper: what was tried, for which settings, and the page of it all.

The runs of Table 2 are those of `aa-bigan-2`, the c of several more here. Settings were chosen on seeds from
100 on, whose test part is not scored: by the validation part alone.
"""

import itertools
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from agad_tf.data.splits.protocols import one_class_split
from agad_tf.evaluation.metrics import auroc
from study.bigan_page import parts
from study.figures import of_earlier_form
from study.job import Job
from study.lines import read_lines, runs_in
from study.markdown import write_parts
from study.runner import Experiment
from study.training import (
    EVALUATIONS,
    FIRST_DEVELOPMENT_SEED,
    PROTOCOL,
    STEPS,
    TABLES,
    Parts,
    facts_of,
    looker,
    samples_of,
    train,
    training,
)

EARLIER_TARGETS, TRIED = "aa_bigan_targets.jsonl", "aa_bigan_development.jsonl"
MIXED = "aa_bigan_runs.jsonl"

VARIANTS: dict[str, dict] = {
    "default": {},
    "clip=None": {"model": {"clip": None}},
    "clip=None, average_epochs=10": {"model": {"clip": None}, "compile": {"average_epochs": 10.0}},
    "linear output": {"generator": {"activation": None}},
    "no batch norm": {"generator": {"batch_norm": False}, "encoder": {"batch_norm": False}},
    "learning_rate=3e-4": {"compile": {"learning_rate": 3e-4}},
    "learning_rate=1e-3": {"compile": {"learning_rate": 1e-3}},
    "learning_rate=1e-2": {"compile": {"learning_rate": 1e-2}},
    "equal learning rates": {"compile": {"discriminator_learning_rate": 3e-3}},
    "discriminator first": {"compile": {"update_order": "discriminator_first"}},
    "literal": {"compile": {"literal": True}},
    "latent_dim=4": {"model": {"latent_dim": 4}},
    "latent_dim=8": {"model": {"latent_dim": 8}},
    "latent_dim=32": {"model": {"latent_dim": 32}},
    "clip=0": {"model": {"clip": 0.0}},
    "average_epochs=0": {"compile": {"average_epochs": 0.0}},
    "average_epochs=10": {"compile": {"average_epochs": 10.0}},
    "min_anomalies=66": {"fit": {"min_anomalies": 66}},
    "latent_dim=4, min_anomalies=66": {"model": {"latent_dim": 4}, "fit": {"min_anomalies": 66}},
    "standardised, linear output": {
        "standardise": True,
        "generator": {"activation": None},
        "model": {"clip": 5.0},
    },
    "gamma=0": {"split": {"gamma": 0.0}},
    "gamma=0.005": {"split": {"gamma": 0.005}},  # on arrhythmia one collected anomaly instead of two
    "gamma=0.013": {"split": {"gamma": 0.013}},  # and three
    "ratio=to_normals": {"split": {"ratio": "to_normals"}},
}
"""Name to what differs from the defaults, by section."""


def development_seeds(count: int) -> range:
    return range(FIRST_DEVELOPMENT_SEED, FIRST_DEVELOPMENT_SEED + count)


def variant_jobs(
    seeds: int = 2, variant: str = "default", dataset: str | None = None, steps: int = STEPS
) -> list:
    """A variant on development seeds."""
    given = itertools.product(TABLES if dataset is None else (dataset,), development_seeds(seeds))
    return [Job(dataset=name, seed=seed, variant=variant, steps=steps) for name, seed in given]


def develop(job: Job, work: Path) -> dict:
    """Trains a variant and looks `EVALUATIONS` times at its scores on validation, never on the test."""
    import keras
    import tensorflow as tf

    from agad_tf import AABiGAN
    from study.watch import Watch, fit

    variant, samples = VARIANTS[job.variant], samples_of(job.dataset)
    split = one_class_split(samples, **PROTOCOL | variant.get("split", {}), seed=job.seed)
    keras.utils.set_random_seed(job.seed)
    rows, labels = split.labelled("train")
    how = {"epochs": EVALUATIONS, "steps_per_epoch": job.steps // EVALUATIONS, "seed": job.seed}
    with networks_of(variant):
        model = AABiGAN(samples.x.shape[1:], seed=job.seed, score="fused", **variant.get("model", {}))
        model.compile(**variant.get("compile", {}))
        _, look = looker(model, Parts(samples, split, ("validation",)))
        watch = Watch(model, look)
        times = fit(model, samples.x[rows], labels, watch, **how | variant.get("fit", {}))
    tf.keras.backend.clear_session()
    return times | facts_of(split) | {"curve": watch.curve}


@contextmanager
def networks_of(variant: dict):
    """Networks and scaling of tables with what a variant changes, which the detector offers no switch for."""
    from agad_tf.layers import TableScaling
    from agad_tf.networks import BIGAN_BACKBONES

    adapt = TableScaling.adapt

    def standardise(layer, rows):
        constant = adapt(layer, rows)
        deviation = rows.std(axis=0)
        layer.minimum.assign(rows.mean(axis=0))
        layer.range.assign(np.where(deviation > 0, deviation, 1.0))
        return constant

    usual = BIGAN_BACKBONES["mlp"]
    BIGAN_BACKBONES["mlp"] = usual._replace(
        encoder=partial(usual.encoder, **variant.get("encoder", {})),
        generator=partial(usual.generator, **variant.get("generator", {})),
    )
    if variant.get("standardise"):
        TableScaling.adapt = standardise
    try:
        yield
    finally:
        BIGAN_BACKBONES["mlp"], TableScaling.adapt = usual, adapt


def reference_jobs(seeds: int = 10) -> list[Job]:
    """Every table and development seed."""
    given = itertools.product(TABLES, development_seeds(seeds))
    return [Job(dataset=dataset, seed=seed, reference=True) for dataset, seed in given]


def reference_scores(job: Job, work: Path) -> dict:
    """AUROC on the validation part of distances to the training normals, of rows scaled as the model does.

    Returns:
        By "scaled" (no limit) and "clipped" (to [-0.5, 1.5]): of the distance to the normals' mean, to a
        normal drawn at random, as if a generator made good normals that have nothing to do with the row,
        and to the fifth nearest; and the share of the validation normals' squared distance to the mean that
        lies in columns constant in training.
    """
    from sklearn.neighbors import NearestNeighbors

    samples = samples_of(job.dataset)
    split = one_class_split(samples, **PROTOCOL, seed=job.seed)
    fitted = samples.x[split.train_normal].astype(np.float64)
    held_out, labels = split.labelled("selection")
    low, high = fitted.min(axis=0), fitted.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    normals, rows = (fitted - low) / width, (samples.x[held_out] - low) / width
    drawn = normals[np.random.default_rng(job.seed).integers(0, len(normals), len(rows))]
    neighbours = NearestNeighbors(n_neighbors=5).fit(normals)
    found = {}
    for name, x in (("scaled", rows), ("clipped", np.clip(rows, -0.5, 1.5))):
        from_mean = np.square(x - normals.mean(axis=0))
        constant = from_mean[labels == 0][:, high == low].sum() / from_mean[labels == 0].sum()
        found[name] = {
            "mean": round(auroc(labels, from_mean.sum(axis=1)), 5),
            "random normal": round(auroc(labels, np.square(x - drawn).sum(axis=1)), 5),
            "fifth neighbour": round(auroc(labels, neighbours.kneighbors(x)[0][:, -1]), 5),
            "constant_share": round(float(constant), 5),
        }
    return found


def target_jobs(seeds: int = 3) -> list[Job]:
    """Several c, the target of G and E, beside the ¾ of Table 2, on two tables."""
    return [
        training(dataset, "aa_bigan", gamma=PROTOCOL["gamma"], compile={"generator_target": c}, seed=seed)
        for seed in range(seeds)
        for dataset in ("cardio", "thyroid")
        for c in (0.25, 0.4, 0.6)
    ]


def target_runs(results: Path) -> list[dict]:
    """Lines of the grids' results file, and of earlier runs beside it."""
    earlier = map(of_earlier_form, read_lines(results.with_name(EARLIER_TARGETS)))
    return runs_in(results) + [line for line in earlier if line is not None]


def write(results: Path, pages: Path) -> list[Path]:
    """Writes the tables of the page on all of these."""
    lines = [line for line in runs_in(results / "runs.jsonl") if _of_this_page(line)]
    lines = [_flat(line) for line in lines]
    lines += [
        line for name in ("aa_bigan_table2.jsonl", EARLIER_TARGETS) for line in read_lines(results / name)
    ]
    return [
        write_parts(
            pages / "aa_bigan_table2.md", parts(lines, runs_in(results / TRIED), runs_in(results / MIXED))
        )
    ]


def _of_this_page(line: dict) -> bool:
    job = Job(line["job"])
    plain = training(job.dataset, "aa_bigan", gamma=PROTOCOL["gamma"])
    changed = job.compile if set(job.compile) <= {"generator_target"} else {}
    return line["chosen"] and job.dataset in TABLES and job.cell == plain.but(compile=changed).cell


def _flat(line: dict) -> dict:
    """A line of the grids in the form that the page reads."""
    return line | {"config": {"steps": STEPS, **line["job"]["compile"]}}


TARGETS = Experiment(
    "AA-BiGAN on cardio and thyroid for several c", target_jobs, train, "runs.jsonl", target_runs
)
VARIANTS_TRIED = Experiment(
    "AA-BiGAN on tables, settings tried on development seeds", variant_jobs, develop, TRIED, report=write
)
REFERENCES = Experiment(
    "Scores without training on tables, development seeds", reference_jobs, reference_scores, TRIED
)
