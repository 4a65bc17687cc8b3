"""Boosted trees on the labels of a table: what unsupervised scores, and AA-BiGAN's, add to its columns.

Development seeds alone, and of them the validation part: the test part is not scored.
"""

import itertools
from pathlib import Path

import numpy as np

from agad_tf.data.splits.protocols import one_class_split
from agad_tf.evaluation.metrics import auroc
from study.bigan_tables import TRIED, development_seeds
from study.job import Job
from study.runner import Experiment
from study.training import PROTOCOL, TABLES, facts_of, samples_of

FOLDS = 3
"""Parts of the training rows, normals and labelled anomalies alike, for scores out of fold."""
STEPS = 500
"""Of AA-BiGAN in each fold and on all rows: together a third more than one detector's 1500."""

STACK_COLUMNS = {
    "own columns": [],
    "and forest, neighbours": [0, 1],
    "and AA-BiGAN": [2, 3, 4],
    "and all of these": [0, 1, 2, 3, 4],
}
"""What the trees see besides a row's own columns: positions among the five scores of `_scores`."""


def jobs(seeds: int = 2, dataset: str | None = None) -> list[Job]:
    """Every table and development seed."""
    given = itertools.product(development_seeds(seeds), TABLES if dataset is None else (dataset,))
    return [Job(dataset=name, seed=seed, stack=FOLDS, stack_steps=STEPS) for seed, name in given]


def measure(job: Job, work: Path) -> dict:
    """AUROCs on the validation part, in per cent, by the columns that the trees saw."""
    import time

    samples = samples_of(job.dataset)
    split = one_class_split(samples, **PROTOCOL, seed=job.seed)
    rows, labels = split.labelled("train")
    held_out, wanted = split.labelled("selection")
    begun = time.process_time()
    train, x = samples.x[rows].astype(np.float64), samples.x[held_out].astype(np.float64)
    fold = np.random.default_rng(job.seed).permutation(len(train)) % job.stack
    for label in (0, 1):  # each fold has its share of the labelled anomalies
        fold[labels == label] = (
            np.random.default_rng(job.seed).permutation((labels == label).sum()) % job.stack
        )
    held = np.empty((len(train), 5))
    for part in range(job.stack):
        scores = _scores(train[fold != part], labels[fold != part], train[fold == part], job)
        held[fold == part] = scores
    new = _scores(train, labels, x, job)
    found = {
        name: _boosted(train, held[:, of], labels, x, new[:, of], job.seed)
        for name, of in STACK_COLUMNS.items()
    }
    figures = {name: round(100 * auroc(wanted, scores), 2) for name, scores in found.items()}
    return {"figures": figures, "cpu_seconds": round(time.process_time() - begun, 1)} | facts_of(split)


def _scores(train: np.ndarray, labels: np.ndarray, x: np.ndarray, job: Job) -> np.ndarray:
    """Scores (n, 5) of rows: isolation forest, neighbours, AA-BiGAN's two and their standardised sum."""
    import keras

    from agad_tf import AABiGAN
    from agad_tf.baselines import BASELINES

    found = []
    for name in ("isolation_forest", "neighbours"):
        detector = BASELINES[name](train.shape[1:], seed=job.seed)
        detector.fit(train, labels, verbose=0)
        found.append(detector.predict(x, verbose=0))
    keras.utils.set_random_seed(job.seed)
    model = AABiGAN(train.shape[1:], seed=job.seed, score="fused")
    model.compile()
    model.fit(train, labels, epochs=4, steps_per_epoch=job.stack_steps // 4, seed=job.seed, verbose=0)
    for name in (*model.score_names, "fused"):
        model.score = name
        found.append(model.predict(x, verbose=0))
    keras.backend.clear_session()
    return np.stack(found, axis=1)


def _boosted(train, more, labels, x, new, seed) -> np.ndarray:
    """Log-odds of rows by trees on their columns and further ones, with the settings of the baseline."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(class_weight="balanced", early_stopping=False, random_state=seed)
    trees.fit(np.concatenate([train, more], axis=1), labels)
    return trees.decision_function(np.concatenate([x, new], axis=1))


STACKS = Experiment(
    "Boosted trees on tables, with scores of other detectors among the columns, development seeds",
    jobs,
    measure,
    TRIED,
)
