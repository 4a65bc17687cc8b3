"""Boosted trees on the labels, alone and with unsupervised scores among the columns."""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.ensemble import IsolationForest as SklearnIsolationForest
from sklearn.neighbors import NearestNeighbors

from agad_tf.baselines.forest import TreeDetector, forest_of, isolation
from agad_tf.baselines.trees import average_cuts, of_boosting, of_forest
from agad_tf.errors import InputError
from agad_tf.models.inputs import whole_number
from agad_tf.models.kept_normals import LARGEST, KeptNormals, drawn

FOLDS = 5
"""Parts of the training normals; the unsupervised scores of each come from a fit to the others."""
NEIGHBOUR = 5
"""Whose distance is a column."""
FOREST = {"n_estimators": 100, "max_samples": "auto"}


@keras.saving.register_keras_serializable("agad_tf")
class GradientBoosting(TreeDetector):
    """Boosted trees on the labels, both classes of equal weight: knows only kinds like those it was shown.

    The score is the log-odds of an anomaly. `fit` needs labelled anomalies, and arrays.

    Args:
        input_shape, seed, crop, clip, encoding: as in `agad_tf.baselines.forest.TreeDetector`.

    Source: Friedman, Greedy function approximation: a gradient boosting machine, Annals of Statistics 29,
    2001, algorithm 5 (logistic loss); scikit-learn's `HistGradientBoostingClassifier`.
    """

    uses_anomalies = needs_anomalies = True
    score_names = ("log_odds",)

    def compile(
        self,
        max_iter: int = 100,
        learning_rate: float = 0.1,
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
    ):
        """scikit-learn's defaults.

        Args:
            max_iter: number of trees.
            learning_rate: share of each tree's answer that counts, above 0.
            jit_compile, run_eagerly: as in `FittedOnce.compile`.
        """
        if not learning_rate > 0:
            raise InputError(f"learning_rate expects a number above 0, received {learning_rate}")
        settings = {"max_iter": whole_number(max_iter, "max_iter"), "learning_rate": learning_rate}
        self.compile_once(settings | {"jit_compile": jit_compile, "run_eagerly": run_eagerly})

    def fit_to(self, normals):
        anomalies = self._training_anomalies
        if anomalies is None or not len(anomalies):
            raise InputError(
                f"{type(self).__name__} expects labelled anomalies (label 1), received none: label some, or "
                "take neighbours or isolation_forest"
            )
        of_normals, of_anomalies = self.training_columns(self.flat(normals), self.flat(anomalies))
        # No early stopping: with a handful of anomalies its held-out part may hold none.
        boosting = HistGradientBoostingClassifier(
            max_iter=self.settings["max_iter"],
            learning_rate=self.settings["learning_rate"],
            class_weight="balanced",
            early_stopping=False,
            random_state=self.seed,
        )
        labels = np.repeat([0, 1], [len(of_normals), len(of_anomalies)])
        self.trees.take(of_boosting(boosting.fit(np.concatenate([of_normals, of_anomalies]), labels)))

    def training_columns(self, normals: np.ndarray, anomalies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the trees are made of, from rows (n, values) of both kinds, float64."""
        return normals.astype(np.float64), anomalies.astype(np.float64)

    def raw_score(self, name, x, training=False):
        return tf.reduce_sum(self.leaves(x), axis=-1)


class _Unsupervised(NamedTuple):
    """What is fitted to normals for the columns of a stack."""

    forest: SklearnIsolationForest
    neighbours: NearestNeighbors

    @classmethod
    def of(cls, normals: np.ndarray, seed: int) -> _Unsupervised:
        """Fitted to rows (n, values)."""
        return cls(forest_of(normals, FOREST, seed), NearestNeighbors().fit(normals.astype(np.float64)))

    def with_scores(self, x: np.ndarray) -> np.ndarray:
        """Rows with the score of the forest and the distance to the fifth nearest normal."""
        count = min(NEIGHBOUR, self.neighbours.n_samples_fit_)
        distances, _ = self.neighbours.kneighbors(x.astype(np.float64), count)
        return np.column_stack([x, -self.forest.score_samples(x), distances[:, -1]])


@keras.saving.register_keras_serializable("agad_tf")
class Stacked(KeptNormals, GradientBoosting):
    """Boosted trees on the labels that also see what is unusual: the scores of a forest and of neighbours.

    The columns are the sample's own, its isolation-forest score and its distance to the fifth nearest normal.
    For training normals both come out of fold: from a fit to four fifths of the normals that it is not in.
    Normals are kept, as in `agad_tf.baselines.Neighbours`.

    Source: Zhao and Hryniewicki, XGBOD: Improving Supervised Outlier Detection with Unsupervised
    Representation Learning, IJCNN 2018; two unsupervised detectors instead of its many.
    """

    k = NEIGHBOUR
    trees_of_score = ("trees", "forest")

    def __init__(
        self, input_shape, seed: int = 0, crop: str = "stretch", clip: float | None = None, **kwargs
    ):
        super().__init__(input_shape, seed, crop, clip, **kwargs)
        self.usual_cuts = self._state("usual_cuts", (), "ones")  # c(n) of the forest
        self._of_normals = None  # normals, and what was fitted to them without a label

    def fit_to(self, normals):
        normals = drawn(normals, max(1, LARGEST // self.values), self.seed)
        self.keep(normals)
        super().fit_to(normals)

    def training_columns(self, normals, anomalies):
        # Fitted again with other labels alone, as where detectors are compared, most of the work is done.
        if self._of_normals is None or not np.array_equal(self._of_normals[0], normals):
            whole = _Unsupervised.of(normals, self.seed)
            self._of_normals = normals, whole, out_of_fold(normals, self.seed)
        _, whole, rows = self._of_normals
        self.forest.take(of_forest(whole.forest))
        self.usual_cuts.assign(average_cuts(whole.forest.max_samples_))
        return rows, whole.with_scores(anomalies)

    def columns(self, x):
        flat = super().columns(x)
        cuts = isolation(self.forest(flat), self.usual_cuts)
        return tf.concat([flat, cuts[:, None], tf.norm(self.away(x), axis=-1)[:, None]], axis=1)

    @property
    def scoring_state(self):
        return (*super().scoring_state, "usual_cuts", "normals")


def out_of_fold(normals: np.ndarray, seed: int) -> np.ndarray:
    """Rows of training normals with scores from fits that they are not in, (n, values + 2)."""
    fold = np.random.default_rng(seed).permutation(len(normals)) % min(FOLDS, len(normals))
    rows = np.empty((len(normals), normals.shape[1] + 2))
    for part in np.unique(fold):
        others = normals[fold != part] if (fold != part).any() else normals
        rows[fold == part] = _Unsupervised.of(others, seed).with_scores(normals[fold == part])
    return rows
