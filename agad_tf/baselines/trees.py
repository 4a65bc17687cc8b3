"""Decision trees as arrays among a detector's weights: saved without pickle, exported as gathers."""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from agad_tf.keras_private import forget_weight

_KINDS = {"roots": "int32", "feature": "int32", "threshold": "float32"}
_KINDS |= {"left": "int32", "right": "int32", "value": "float32"}


class TreeArrays(NamedTuple):
    """Trees, their nodes one after another; a sample that is at most the threshold goes left.

    Attributes:
        roots: (trees,) first node of each.
        feature, threshold, left, right, value: (nodes,); a leaf is its own left and right.
        depth: steps from a root to the deepest leaf.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    depth: int


def of_forest(forest) -> TreeArrays:
    """The trees of a fitted `sklearn.ensemble.IsolationForest`.

    The value of a leaf is h, its depth and the cuts that the samples in it would take on average.
    """
    trees = []
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        left, right = tree.children_left, tree.children_right
        depth = _depths(left, right)
        value = depth + average_cuts(tree.n_node_samples)
        trees.append((tree.feature, tree.threshold, left, right, value, depth.max()))
    return _joined(trees)


def of_boosting(boosting) -> TreeArrays:
    """The trees of a fitted `sklearn.ensemble.HistGradientBoostingClassifier` of two classes.

    The value of a leaf is its share of the log-odds; the constant that they begin with is in the first tree.
    """
    trees = []
    # scikit-learn gives no public way to its nodes.
    for (predictor,) in boosting._predictors:
        nodes = predictor.nodes
        leaf = nodes["is_leaf"].astype(bool)
        left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
        value = nodes["value"] + (float(boosting._baseline_prediction.item()) if not trees else 0.0)
        depth = _depths(left, right)
        trees.append((nodes["feature_idx"], nodes["num_threshold"], left, right, value, depth.max()))
    return _joined(trees)


def average_cuts(count: np.ndarray) -> np.ndarray:
    """c(n), the mean depth of a sample among n that are parted at random; 0 of one.

    Source: Liu, Ting and Zhou, Isolation Forest, ICDM 2008, equation (1).
    """
    count = np.asarray(count, np.float64)
    more = np.maximum(count, 3)
    found = 2 * (np.log(more - 1) + np.euler_gamma) - 2 * (more - 1) / more
    return np.where(count > 2, found, np.where(count > 1, 1.0, 0.0))


def _depths(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Depth of each node; children stand after their parent or before, a leaf has child −1."""
    depth, level, below = np.zeros(len(left), np.int64), np.array([0]), 0
    while len(level):
        depth[level] = below
        level, below = np.concatenate([left[level], right[level]]), below + 1
        level = level[level >= 0]
    return depth


def _steps(roots: np.ndarray, left: np.ndarray, right: np.ndarray) -> int:
    """From a root to the deepest leaf, which is its own left and right."""
    level, below = roots, 0
    while below < len(left) and len(level := level[left[level] != level]):
        level, below = np.concatenate([left[level], right[level]]), below + 1
    return below


def _joined(trees: list[tuple]) -> TreeArrays:
    sizes = [len(tree[0]) for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    columns = []
    for root, (feature, threshold, left, right, value, _) in zip(roots, trees, strict=True):
        leaf, own = left < 0, root + np.arange(len(left))
        # Of a number in float32 this asks the same as of the threshold in float64.
        rounded = np.where(leaf, 0.0, threshold).astype(np.float32)
        above = rounded > np.where(leaf, 0.0, threshold)
        rounded = np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        sides = (np.where(leaf, own, root + side) for side in (left, right))
        columns.append((np.where(leaf, 0, feature), rounded, *sides, value))
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    return TreeArrays(roots, *joined, int(max(tree[-1] for tree in trees)))


class Trees(keras.layers.Layer):
    """Trees, their nodes as weights: (batch, values) to the values of their leaves, (batch, trees)."""

    def __init__(self, **kwargs):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.sizes: tuple[int, int, int] | None = None
        self.built = True

    def hold(self, trees: int, nodes: int, depth: int) -> None:
        """Makes room for trees with so many nodes in all, and so deep."""
        for name, kind in _KINDS.items():
            if self.sizes is not None:
                forget_weight(self, getattr(self, name))
            shape = (trees if name == "roots" else nodes,)
            made = self.add_weight(name=name, shape=shape, initializer="zeros", dtype=kind, trainable=False)
            setattr(self, name, made)
        self.sizes = (trees, nodes, depth)

    def take(self, arrays: TreeArrays) -> None:
        """Takes the nodes of trees in place of those before."""
        self.hold(len(arrays.roots), len(arrays.feature), arrays.depth)
        for name, kind in _KINDS.items():
            getattr(self, name).assign(np.asarray(getattr(arrays, name), kind))

    def load_own_variables(self, store):
        # The weights are in the order of `_KINDS`; a file of a detector before `fit` has none.
        held = [np.asarray(store[str(index)]) for index in range(len(store.keys()))]
        if held:
            roots, _, _, left, right, _ = held
            self.hold(len(roots), len(left), _steps(roots, left, right))
        super().load_own_variables(store)

    def call(self, x):
        """Values of the leaves that samples come to."""
        feature, threshold, left, right, value = (
            tf.convert_to_tensor(getattr(self, name)) for name in list(_KINDS)[1:]
        )
        at = tf.zeros_like(tf.cast(x[:, :1], tf.int32)) + tf.convert_to_tensor(self.roots)
        for _ in range(self.sizes[2]):
            seen = tf.gather(x, tf.gather(feature, at), axis=1, batch_dims=1)
            at = tf.where(seen <= tf.gather(threshold, at), tf.gather(left, at), tf.gather(right, at))
        return tf.gather(value, at)
