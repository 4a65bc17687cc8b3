"""How much runs of AA-BiGAN on one split of a table differ, and what mixing their scores does.

Development seeds alone, and of them the validation part: the test part is not scored. Mixed are scores that
are standardised on training normals, as they are ("mean") or their logarithms ("log").
"""

import itertools
from pathlib import Path

import numpy as np

from agad_tf.data.splits.protocols import one_class_split
from agad_tf.evaluation.metrics import auroc
from study.bigan_tables import MIXED, development_seeds
from study.job import Job
from study.runner import Experiment
from study.training import EVALUATIONS, PROTOCOL, STEPS, TABLES, facts_of, samples_of

RUNS = 3
SHORT = EVALUATIONS // RUNS  # the look after which as many trainings cost one of `STEPS`
WAYS = {"": None, " root": np.sqrt, " log": np.log}
"""How the reconstruction error is changed before it is added to the distance to neighbours."""


def run_jobs(seeds: int = 2, runs: int = RUNS, dataset: str | None = None) -> list[Job]:
    """Every table and development seed; each trains `runs` times on its split."""
    given = itertools.product(development_seeds(seeds), TABLES if dataset is None else (dataset,))
    return [Job(dataset=name, seed=seed, trainings=runs) for seed, name in given]


def measure(job: Job, work: Path) -> dict:
    """AUROCs on the validation part, in per cent.

    Returns:
        `runs`: of each training the reconstruction error and the fused score after `STEPS`, and the mean of
        its last `SHORT` looks; `mixed`: of all trainings together, after `STEPS`, after as many steps in all
        as one takes, and each with the distance to the fifth nearest normal; `neighbours`: that alone.
    """
    import keras
    import tensorflow as tf

    from agad_tf import AABiGAN
    from study.watch import Watch, fit

    samples = samples_of(job.dataset)
    split = one_class_split(samples, **PROTOCOL, seed=job.seed)
    rows, labels = split.labelled("train")
    held_out, wanted = split.labelled("selection")
    normals, x = samples.x[split.train_normal][:1024], samples.x[held_out]

    def figure(scores):
        return round(100 * auroc(wanted, scores), 2)

    looks, times = [], []
    for number in range(job.trainings):
        keras.utils.set_random_seed(1000 * job.seed + number)
        model = AABiGAN(samples.x.shape[1:], seed=number, score="fused")
        model.compile()
        raw = tf.function(lambda rows, model=model: [model.raw_score(n, rows) for n in model.score_names])

        def scores(rows, raw=raw, model=model):
            parts = [
                raw(model.preprocess(tf.constant(rows[at : at + 1024]))) for at in range(0, len(rows), 1024)
            ]
            return np.concatenate(parts, axis=1).astype(np.float64)

        seen = []

        def look(logs, scores=scores, seen=seen):
            seen.append((scores(normals), scores(x)))
            return {}

        how = {"epochs": EVALUATIONS, "steps_per_epoch": STEPS // EVALUATIONS, "seed": number}
        times.append(fit(model, samples.x[rows], labels, Watch(model, look), **how)["cpu_seconds"])
        looks.append(seen)
        tf.keras.backend.clear_session()
    near = neighbours(samples.x[split.train_normal], normals, x)
    # A distance and the root of a squared error are lengths both.
    beside = {words: standardised(near, None, np.log if words == " log" else None) for words in WAYS}
    runs = [
        {
            "last": figure(seen[-1][1][0]),
            "fused": figure(sum(standardised(seen[-1], part) for part in (0, 1))),
            "fused log": figure(sum(standardised(seen[-1], part, np.log) for part in (0, 1))),
            "last looks": figure(sum(standardised(one, 0) for one in seen[-SHORT:])),
            "last looks log": figure(sum(standardised(one, 0, np.log) for one in seen[-SHORT:])),
            **{
                f"with {name}{words}": figure(standardised(seen[-1], 0, change) + weight * beside[words])
                for words, change in WAYS.items()
                for name, weight in (("neighbours", 1), ("twice neighbours", 2))
            },
            "held-out error": round(float(seen[-1][1][0][wanted == 0].mean()), 5),
        }
        for seen in looks
    ]
    mixed = {}
    for name, at in (("last", -1), ("short", SHORT - 1)):
        for way, change in (("mean", None), ("log", np.log)):
            together = sum(standardised(seen[at], 0, change) for seen in looks)
            mixed[f"{name} {way}"] = figure(together)
            if name == "last":
                also = len(looks) * standardised((near[0], near[1]), None, change)
                mixed[f"{name} {way} with neighbours"] = figure(together + also)
    return {"runs": runs, "mixed": mixed, "neighbours": figure(near[1]), "cpu_seconds": times} | facts_of(
        split
    )


def standardised(pair, part: int | None, change=None) -> np.ndarray:
    """Scores of held-out rows in deviations of those of training normals, both changed first."""
    normals, rows = (scores if part is None else scores[part] for scores in pair)
    if change is not None:
        normals, rows = change(normals + 1e-12), change(rows + 1e-12)
    return (rows - normals.mean()) / max(normals.std(), 1e-12)


def neighbours(train: np.ndarray, normals: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the fifth nearest other training normal, scaled and limited as the model does."""
    from sklearn.neighbors import NearestNeighbors

    low, high = train.min(axis=0), train.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    scaled = [np.clip((rows - low) / width, -0.5, 1.5) for rows in (train, normals, x)]
    fitted = NearestNeighbors(n_neighbors=6).fit(scaled[0])
    return fitted.kneighbors(scaled[1])[0][:, 5], fitted.kneighbors(scaled[2], 5)[0][:, 4]


RUNS_COMPARED = Experiment(
    "AA-BiGAN on tables: runs on one split, and their scores mixed, development seeds",
    run_jobs,
    measure,
    MIXED,
)
