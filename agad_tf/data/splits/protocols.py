"""One-class protocols: which rows train, which are held out, which test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from agad_tf.data.content import numbered
from agad_tf.data.samples import Samples
from agad_tf.data.splits.grouping import by_group, is_in, sides_of, stratified_share, stream
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError

__all__ = ["Split", "one_class_split"]

# Fewer collected anomalies than this all train: a tenth of them could neither select nor calibrate anything.
_MIN_TO_HOLD_OUT = 20


def one_class_split(
    samples: Samples,
    normal_classes: int | str | Sequence[int | str] | None = None,
    gamma: float | None = None,
    *,
    anomaly_classes: int | str | Sequence[int | str] | None = None,
    anomaly_class_count: int | None = None,
    pollution: float = 0.0,
    ratio: str = "of_total",
    validation: float = 0.1,
    test: float = 0.3,
    test_validation: float = 0.0,
    seed: int = 0,
) -> Split:
    """Draws a split in which some classes are normal and all others anomalous.

    A split that the source gives is kept: its training part is the pool that training and hold-out are drawn
    from, its validation part, if any, is the held-out part (of its anomalies only the collected classes), its
    test part is the test. Otherwise `test` of each class goes to the test, and so do all anomalies that are
    not collected.

    Rows with the same content are never on two sides (train, validation, selection, test): with a given split
    the copies outside of the test part are dropped, without one they stay together. Of equal training rows
    labelled normal and anomalous the anomalous are dropped, and so are the copies of a collected or polluting
    anomaly that were not drawn with it.

    Where the samples have a `group`, no group is on two sides either: whole groups are drawn, and rows that
    would cut one are left out (`dropped_groups`).

    Every decision has its own random stream derived from `seed`: a larger gamma adds anomalies to the same
    ones and changes no held-out normal.

    Args:
        samples: what `load_samples` returns.
        normal_classes: class names, or positions among the classes. Where classes are called by numbers, a
            number is a name: 1 is the class "1", whatever its position. None takes those the source names.
        gamma: amount of collected anomalies a for the n normals of the training part, held-out ones included,
            in [0, 1). None takes all anomalies of the training part that are of the `anomaly_classes`.
        anomaly_classes: classes the collected anomalies come from; None takes all others, pooled.
        anomaly_class_count: instead, that many classes drawn from the seed.
        pollution: amount of unlabelled anomalies among the training normals, in [0, 1), drawn from all other
            classes; no copy of a collected one is among them.
        ratio: "of_total": gamma = a / (n + a); "to_normals": gamma = a / n. The same for the pollution.
        validation: share of the training normals that is held out, in [0, 1); also of the collected anomalies
            where at least 20 were collected. Without effect where the source gives a validation part.
        test: share of each class that goes to the test, in (0, 1); without effect where the source gives a
            split.
        test_validation: share of the test part, both labels, that is split off as `selection_*`, in [0, 1).
        seed: a number of at least 0.

    Returns:
        The split.

    Raises:
        InputError: unknown classes, numbers out of range, fewer anomalies than asked for, or a part that
            would be left without normals or a test without anomalies, although there are some. Data of
            normals alone give a test of normals alone.

    Source: AGAD, gamma = a / (n + a); AA-BiGAN, gamma_l, gamma_p and k_l, the first two as ratios to the
        normals in its text and as shares of the total in its public code and that of Deep SAD.
    """
    _check_ranges(gamma, pollution, ratio, validation, test, test_validation, seed)
    classes = samples.classes
    normals = normal_class_indices(samples, normal_classes)
    others = tuple(index for index in range(len(samples.class_names)) if index not in normals)
    normal = np.isin(classes, normals)
    sources = _anomaly_sources(samples, normals, others, anomaly_classes, anomaly_class_count, seed)

    content = numbered(samples.digests)
    groups = sides_of(samples, content)
    train, held_out, tested, dropped = _sides(samples, groups, test, seed)
    # Equal rows with both labels in training teach nothing, and could end on two sides.
    contradictory = train[~normal[train] & is_in(content, train, train[normal[train]])]
    train = np.setdiff1d(train, contradictory)
    left_out = [dropped, contradictory]

    train_normal, pool = train[normal[train]], train[~normal[train]]
    if not len(train_normal):
        raise InputError(
            f"{samples.name}: expected normals in the training part, received none of class "
            f"{_names(samples, normals)}; name another normal class or add normal samples"
        )
    n = len(train_normal)
    order = by_group(pool, groups, stream(seed, "anomalies"))
    candidates = order[np.isin(classes[order], sources)]
    limited = gamma is not None
    collected = (
        candidates[: _count(gamma, n, ratio, len(candidates), "gamma", samples)] if limited else candidates
    )

    validation_normal = train_normal[:0]
    if held_out is None:
        validation_normal = stratified_share(train_normal, classes, groups, validation, seed, "validation")
    order = by_group(pool, groups, stream(seed, "pollution"))
    # What is held out is held out with its whole group, and what pollutes trains.
    candidates = order[~is_in(content, order, collected) & ~is_in(groups, order, validation_normal)]
    polluted = candidates[: _count(pollution, n, ratio, len(candidates), "pollution", samples)]
    taken = np.concatenate([collected, polluted])
    rest = np.setdiff1d(pool, taken)
    copies = is_in(groups, rest, np.concatenate([taken, train_normal]))
    left_out.append(rest[copies])
    if samples.part is None:
        tested = np.concatenate([tested, rest[~copies]])

    known = tuple(int(index) for index in np.unique(classes[collected]))
    if held_out is None:
        trains = np.concatenate([np.setdiff1d(train_normal, validation_normal), polluted])
        tied = is_in(groups, collected, validation_normal)
        free = collected[~tied & ~is_in(groups, collected, trains)]
        share = validation if len(collected) >= _MIN_TO_HOLD_OUT else 0.0
        drawn = stratified_share(free, classes, groups, share, seed, "validation anomalies")
        validation_anomaly = np.concatenate([drawn, collected[tied]])
    else:
        validation_normal = held_out[normal[held_out]]
        validation_anomaly = held_out[np.isin(classes[held_out], known) & ~normal[held_out]]
    selection = stratified_share(tested, classes, groups, test_validation, seed, "selection")
    tested = np.setdiff1d(tested, selection)
    train_normal = np.setdiff1d(train_normal, validation_normal)
    _check_sides(samples, normals, train_normal, normal[tested], normal.all())
    left_out = np.concatenate(left_out)
    used = np.setdiff1d(np.arange(len(classes)), left_out)
    copies = np.isin(left_out, contradictory) | is_in(content, left_out, used)
    split = Split(
        train_normal=np.concatenate([train_normal, polluted]),
        train_anomaly=np.setdiff1d(collected, validation_anomaly),
        validation_normal=validation_normal,
        validation_anomaly=validation_anomaly,
        test_normal=tested[normal[tested]],
        test_anomaly=tested[~normal[tested]],
        selection_normal=selection[normal[selection]],
        selection_anomaly=selection[~normal[selection]],
        polluted=polluted,
        known_classes=known,
        dropped_duplicates=int(copies.sum()),
        dropped_groups=int((~copies).sum()),
        settings={
            "source": samples.name,
            "rows": len(classes),
            "class_names": list(samples.class_names),
            "normal_classes": list(normals),
            "anomaly_classes": list(sources),
            "gamma": gamma,
            "pollution": pollution,
            "ratio": ratio,
            "validation": validation,
            "test": test,
            "test_validation": test_validation,
            "official_split": samples.part is not None,
            "grouped": samples.group is not None,
            "seed": int(seed),
        },
    )
    split.check_sides(groups)
    return split


def whole_as_test(samples: Samples, normal_classes: int | str | Sequence[int | str] | None = None) -> Split:
    """Every row as test part, be it of one kind alone: for evaluating a trained detector on other data.

    Args:
        samples: what `load_samples` returns.
        normal_classes: names or positions as in `one_class_split`; None takes those the source names.

    Raises:
        InputError: unknown classes.
    """
    normal = np.isin(samples.classes, normal_class_indices(samples, normal_classes))
    nothing = np.zeros(0, np.int64)
    return Split(
        *[nothing] * 4,
        test_normal=np.flatnonzero(normal),
        test_anomaly=np.flatnonzero(~normal),
        settings={"rows": len(normal)},
    )


def _check_ranges(
    gamma: float | None,
    pollution: float,
    ratio: str,
    validation: float,
    test: float,
    test_validation: float,
    seed: int,
) -> None:
    shares = {
        "gamma": gamma,
        "pollution": pollution,
        "validation": validation,
        "test_validation": test_validation,
    }
    for name, value in shares.items():
        if value is not None and not 0 <= value < 1:
            raise InputError(f"expected {name} in [0, 1), received {value}; give it as a share, 0.05 for 5 %")
    if not 0 < test < 1:
        raise InputError(f"expected test between 0 and 1, received {test}; give it as a share, 0.3 for 30 %")
    if ratio not in ("of_total", "to_normals"):
        raise InputError(f"expected ratio 'of_total' or 'to_normals', received '{ratio}'; choose one of them")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(
            f"expected a whole number of at least 0 as seed, received {seed}; choose another seed"
        )


def _indices(samples: Samples, wanted: int | str | Sequence[int | str], what: str) -> tuple[int, ...]:
    """Class indices of names, or of positions; a number that is a class's name means that class."""
    found = []
    for item in [wanted] if isinstance(wanted, int | str | np.integer) else wanted:
        if str(item) in samples.class_names:
            found.append(samples.class_names.index(str(item)))
            continue
        try:
            index = int(item)
        except ValueError:
            index = -1
        if not 0 <= index < len(samples.class_names):
            raise InputError(
                f"{samples.name}: expected {what} among the classes {_names(samples)}, received '{item}'; "
                f"give a name, or a position from 0 to {len(samples.class_names) - 1}"
            )
        found.append(index)
    return tuple(sorted(set(found)))


def _names(samples: Samples, indices: Sequence[int] | None = None) -> str:
    return ", ".join(
        samples.class_names if indices is None else (samples.class_names[index] for index in indices)
    )


def normal_class_indices(samples: Samples, wanted: int | str | Sequence[int | str] | None) -> tuple[int, ...]:
    """Indices of the classes named as normal; None takes those that the source names.

    Raises:
        InputError: an unknown class, or none named by anyone.
    """
    if wanted is None:
        if samples.normal_classes is None:
            raise InputError(
                f"{samples.name}: expected to be told which class is normal, received none; name it with "
                f"--normal-class (normal_classes in Python): {_names(samples)}"
            )
        return tuple(samples.normal_classes)
    normals = _indices(samples, wanted, "a normal class")
    if not normals:
        raise InputError(
            f"{samples.name}: expected at least one normal class, received none; name one of "
            f"{_names(samples)}"
        )
    return normals


def _anomaly_sources(
    samples: Samples,
    normals: tuple[int, ...],
    others: tuple[int, ...],
    wanted: int | str | Sequence[int | str] | None,
    count: int | None,
    seed: int,
) -> tuple[int, ...]:
    """The classes that collected anomalies come from."""
    if wanted is not None and count is not None:
        raise InputError("expected anomaly_classes or anomaly_class_count, received both; drop one of them")
    if wanted is not None:
        sources = _indices(samples, wanted, "an anomaly class")
        if not sources or set(sources) & set(normals):
            raise InputError(
                f"{samples.name}: expected anomaly classes other than the normal {_names(samples, normals)}, "
                f"received {_names(samples, sources) or 'none'}; choose among {_names(samples, others)}"
            )
        return sources
    if count is None:
        return others
    rows = samples.classes if samples.part is None else samples.classes[samples.part == "train"]
    present = np.intersect1d(others, rows)
    if not 0 < count <= len(present):
        raise InputError(
            f"{samples.name}: expected an anomaly_class_count from 1 to {len(present)}, the anomalous "
            f"classes with training rows, received {count}; choose a number in that range"
        )
    return tuple(sorted(int(index) for index in stream(seed, "anomaly classes").permutation(present)[:count]))


def _sides(
    samples: Samples, groups: np.ndarray, test: float, seed: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """(training pool, validation part or None, test part, copies dropped); no content on two sides."""
    if samples.part is None:
        rows = np.arange(len(samples.classes))
        tested = stratified_share(rows, samples.classes, groups, test, seed, "test")
        return np.setdiff1d(rows, tested), None, tested, rows[:0]
    train, held_out, tested = (
        np.flatnonzero(samples.part == part) for part in ("train", "validation", "test")
    )
    if not len(train) or not len(tested):
        raise InputError(
            f"{samples.name}: expected rows in the parts train and test, received {len(train)} and "
            f"{len(tested)}; fill both, or give the data without a split"
        )
    if not len(held_out):
        copies = is_in(groups, train, tested)
        return train[~copies], None, tested, train[copies]
    held_copies = is_in(groups, held_out, tested)
    kept = held_out[~held_copies]
    copies = is_in(groups, train, np.concatenate([tested, kept]))
    return train[~copies], kept, tested, np.concatenate([train[copies], held_out[held_copies]])


def _count(share: float, n: int, ratio: str, available: int, what: str, samples: Samples) -> int:
    """Number of anomalies that `share` stands for beside n normals."""
    if not share:
        return 0
    of_total = ratio == "of_total"
    count = round(share * n / (1 - share) if of_total else share * n)
    if count > available:
        largest = available / (n + available if of_total else n)
        advice = (
            f"the largest possible {what} is {_floor(min(largest, 0.999))}"
            if available
            else f"set {what} to 0"
        )
        raise InputError(
            f"{samples.name}: expected {count} anomalies for {what} {share:g} beside {n} normals, received "
            f"{available} that exist in the training part for it; {advice}"
        )
    if not count:
        raise InputError(
            f"{samples.name}: expected {what} to stand for at least one anomaly, received {share:g} of {n} "
            f"normals, which rounds to none; set {what} to 0 or to at least {1 / (n + of_total):.3g}"
        )
    return count


def _floor(share: float) -> float:
    """`share` to three significant digits, never more than it is."""
    scale = 10 ** (2 - math.floor(math.log10(share)))
    return math.floor(share * scale) / scale


def _check_sides(
    samples: Samples,
    normals: tuple[int, ...],
    train_normal: np.ndarray,
    test_normal: np.ndarray,
    only_normals: bool,
) -> None:
    """Refuses a split without training normals or one-sided in the test; `test_normal` marks its normals.

    Where the data hold `only_normals` so does the test: it tells how many false alarms there are.
    """
    if not len(train_normal):
        raise InputError(
            f"{samples.name}: expected normals left for training, received none of class "
            f"{_names(samples, normals)}; lower the validation or test share, or add normal samples"
        )
    counts = {"normals": int(test_normal.sum()), "anomalies": int((~test_normal).sum())}
    for kind, count in counts.items():
        if not count and not (kind == "anomalies" and only_normals):
            raise InputError(
                f"{samples.name}: expected normals and anomalies in the test part, received no {kind} with "
                f"normal class {_names(samples, normals)}; name another normal class, add samples, or raise "
                "the test share"
            )
