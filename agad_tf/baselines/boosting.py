"""Boosted trees on the labels, alone and with unsupervised scores among the columns."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import NearestNeighbors

from agad_tf.baselines.classical import ClassicalDetector, IsolationForest, positive
from agad_tf.errors import InputError

FOLDS = 5
"""Parts of the training normals; the unsupervised scores of each come from a fit to the others."""
NEIGHBOUR = 5
"""Whose distance is a column."""


class GradientBoosting(ClassicalDetector):
    """Boosted trees on the labels, both classes of equal weight: knows only kinds like those it was shown.

    The score is the log-odds of an anomaly. `fit` needs labelled anomalies.

    Source: Friedman, Greedy function approximation: a gradient boosting machine, Annals of Statistics 29,
    2001, algorithm 5 (logistic loss); scikit-learn's `HistGradientBoostingClassifier`.
    """

    uses_anomalies = True

    def compile(self, max_iter: int = 100, learning_rate: float = 0.1):
        """scikit-learn's defaults.

        Args:
            max_iter: number of trees.
            learning_rate: share of each tree's answer that counts, above 0.
        """
        if not learning_rate > 0:
            raise InputError(f"learning_rate expects a number above 0, received {learning_rate}")
        self.settings = {"max_iter": positive("max_iter", max_iter), "learning_rate": learning_rate}

    def _estimate(self, normals, *, anomalies, **how):
        if not len(anomalies):
            raise InputError(
                f"{type(self).__name__} expects labelled anomalies (label 1), received none: label some, or "
                "take neighbours or isolation_forest"
            )
        x = np.concatenate([self._columns(normals, held_out=True), self._columns(anomalies)])
        # No early stopping: with a handful of anomalies its held-out part may hold none.
        boosting = HistGradientBoostingClassifier(
            **self.settings, class_weight="balanced", early_stopping=False, random_state=self.seed
        )
        self.estimator = boosting.fit(x, np.repeat([0, 1], [len(normals), len(anomalies)]))

    def _columns(self, x: np.ndarray, held_out: bool = False) -> np.ndarray:
        """What the trees see of samples, (n, columns); `held_out` of the training normals themselves."""
        return self._flat(x)

    def _score(self, x):
        return self.estimator.decision_function(self._columns(x))


class Stacked(GradientBoosting):
    """Boosted trees on the labels that also see what is unusual: the scores of a forest and of neighbours.

    The columns are the sample's own, its isolation-forest score and its distance to the fifth nearest normal.
    For training normals both come out of fold: from a fit to four fifths of the normals that it is not in.

    Source: Zhao and Hryniewicki, XGBOD: Improving Supervised Outlier Detection with Unsupervised
    Representation Learning, IJCNN 2018; two unsupervised detectors instead of its many.
    """

    def _estimate(self, normals, *, anomalies, **how):
        self._unsupervised = self._fitted(normals)
        super()._estimate(normals, anomalies=anomalies, **how)

    def _fitted(self, normals: np.ndarray) -> tuple[IsolationForest, NearestNeighbors]:
        forest = IsolationForest(self.sample_shape, self.seed, self.crop, self.clip, self.encoding)
        forest.preprocess = self.preprocess
        forest.compile()
        forest._estimate(normals)
        return forest, NearestNeighbors().fit(self._flat(normals))

    def _columns(self, x, held_out=False):
        if not held_out:
            return self._with_scores(x, self._unsupervised)
        fold = np.random.default_rng(self.seed).permutation(len(x)) % min(FOLDS, len(x))
        blocks = []
        for part in np.unique(fold):
            others = x[fold != part] if (fold != part).any() else x
            blocks.append(self._with_scores(x[fold == part], self._fitted(others)))
        rows = np.empty((len(x), blocks[0].shape[1]))
        rows[np.argsort(fold, kind="stable")] = np.concatenate(blocks)
        return rows

    def _with_scores(self, x: np.ndarray, detectors) -> np.ndarray:
        (forest, neighbours), flat = detectors, self._flat(x)
        distances, _ = neighbours.kneighbors(flat, min(NEIGHBOUR, neighbours.n_samples_fit_))
        return np.column_stack([flat, forest._score(x), distances[:, -1]])
