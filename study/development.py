"""Development problems: where every choice of this library is made, never where results are reported.

MNIST 2, 5, 7 and Fashion-MNIST 4, 7, from the official training part with a fifth held out; the official
test part is not opened.
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from agad_tf.data.sources.load import load_samples
from agad_tf.errors import InputError

PROBLEMS = (("mnist", 2), ("mnist", 5), ("mnist", 7), ("fashion_mnist", 4), ("fashion_mnist", 7))


@dataclass(frozen=True)
class DevelopmentData:
    """Images uint8 (n, height, width, channels) of one problem.

    Attributes:
        normal: training normals.
        anomaly: labelled anomalies for training, all other classes pooled; may be empty.
        held_out: normals that are not trained on, for rules that need no anomalies.
        test_x, test_y: normals and anomalies of the held-out fifth.
        split_sha256: hash of the rows of each.
    """

    normal: np.ndarray
    anomaly: np.ndarray
    held_out: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    split_sha256: str = ""

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, y): normals, 0, then anomalies, 1."""
        y = np.repeat([0, 1], [len(self.normal), len(self.anomaly)])
        return np.concatenate([self.normal, self.anomaly]), y


def load_problem(
    source: str,
    normal_class: int,
    gamma: float,
    seed: int,
    normals: int = 1500,
    held_out: int = 300,
    test_normals: int = 400,
    test_anomalies: int = 800,
) -> DevelopmentData:
    """Draws one development problem.

    Args:
        source: path of the data set, or its name under `AGAD_TF_DATA`.
        normal_class: the class that is normal; (name of the source, class) must be one of `PROBLEMS`.
        gamma: share of labelled anomalies among the training samples, a / (n + a).
        seed: of the draw of training samples; the held-out fifth is the same for every seed.
        normals: training normals, as many as there are if fewer.
        held_out: held-out normals.
        test_normals, test_anomalies: size of the test.

    Raises:
        InputError: not a development problem.
    """
    samples = _samples(source)
    if (samples.name, normal_class) not in PROBLEMS:
        known = ", ".join(f"{name} {digit}" for name, digit in PROBLEMS)
        raise InputError(f"expected a development problem ({known}), received {samples.name} {normal_class}")
    train = np.flatnonzero(samples.part == "train")
    order = np.random.default_rng(0).permutation(train)
    test, pool = order[: len(order) // 5], order[len(order) // 5 :]
    is_normal = samples.classes == normal_class
    rng = np.random.default_rng([seed, normal_class])
    pool_normal = rng.permutation(pool[is_normal[pool]])
    pool_anomaly = rng.permutation(pool[~is_normal[pool]])
    train_normal = pool_normal[held_out : held_out + normals]
    count = round(len(train_normal) * gamma / (1 - gamma))
    test_rows = np.concatenate(
        [test[is_normal[test]][:test_normals], test[~is_normal[test]][:test_anomalies]]
    )
    parts = train_normal, pool_anomaly[:count], pool_normal[:held_out], test_rows
    digest = hashlib.sha256(
        b"".join(f"{len(rows)}:".encode() + rows.astype("<i8").tobytes() for rows in parts)
    )
    images = (samples.x[rows] for rows in parts)
    return DevelopmentData(*images, (~is_normal[test_rows]).astype(np.int32), digest.hexdigest())


@functools.lru_cache(maxsize=2)
def _samples(source: str):
    """Read once for many runs: unpacking a file takes longer than drawing a problem from it."""
    return load_samples(source)
