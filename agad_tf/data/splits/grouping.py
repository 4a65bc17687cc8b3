"""Drawing rows so that equal rows stay together, each decision from its own random stream."""

from __future__ import annotations

import zlib

import numpy as np

from agad_tf.data.samples import Samples


def stream(seed: int, decision: str, index: int = 0) -> np.random.Generator:
    """The random generator of one decision; what another decision draws does not touch it."""
    return np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=(zlib.crc32(decision.encode()), index))
    )


def sides_of(samples: Samples, content: np.ndarray) -> np.ndarray:
    """Numbers the rows that must stay on one side of a split: equal content, or the same group, int64 (n,).

    Rows that are tied through others are tied too: a copy of a photo of part 7 under another part's name ties
    the two parts.

    Args:
        samples: whose `group` counts, if it has one.
        content: numbers by content, as `numbered` gives them.
    """
    if samples.group is None:
        return content
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    named = np.flatnonzero(samples.group != "")
    names, group = np.unique(samples.group[named], return_inverse=True)
    n = len(content)
    ties = coo_array((np.ones(len(named), bool), (content[named], n + group)), shape=(n + len(names),) * 2)
    return connected_components(ties, directed=False)[1][content].astype(np.int64)


def is_in(groups: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `rows` have a copy in `others`: bool, one a row."""
    return np.isin(groups[rows], groups[others])


def by_group(rows: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`rows` in random order of their groups, equal rows one after the other."""
    values, position = np.unique(groups[rows], return_inverse=True)
    return rows[np.lexsort((rows, rng.permutation(len(values))[position]))]


def stratified_share(
    rows: np.ndarray, classes: np.ndarray, groups: np.ndarray, share: float, seed: int, decision: str
) -> np.ndarray:
    """Draws `share` of the rows of each class, as near as whole groups allow.

    A group with rows of several classes counts, whole, for the class of its first row. Classes so small that
    their share is nearer to nothing are drawn from together: of ten kinds with one row each, three rows.

    Returns:
        The drawn rows, sorted.
    """
    rows = np.sort(rows)
    _, first, position = np.unique(groups[rows], return_index=True, return_inverse=True)
    owner = classes[rows[first]][position]
    drawn, small = [rows[:0]], [rows[:0]]
    for index in np.unique(owner):
        of_class = rows[owner == index]
        some = _share(of_class, groups, share, stream(seed, decision, int(index)))
        drawn.append(some)
        if not len(some):
            small.append(of_class)
    if len(small) > 2:
        drawn.append(
            _share(np.concatenate(small), groups, share, stream(seed, f"{decision} of small classes"))
        )
    return np.sort(np.concatenate(drawn))


def _share(rows: np.ndarray, groups: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Random whole groups, together as near to `share` of the rows as they come."""
    order = by_group(rows, groups, rng)
    ends = np.flatnonzero(np.diff(groups[order], append=-1)) + 1
    cuts = np.concatenate([[0], ends])
    return order[: cuts[np.argmin(np.abs(cuts - round(share * len(order))))]]
