"""A look at the data before training: what the labels were understood as, and what is odd about them."""

from __future__ import annotations

from typing import Any

import numpy as np

from agad_tf.data.content import numbered
from agad_tf.data.rows import LazyRows
from agad_tf.data.samples import Samples
from agad_tf.data.splits.grouping import is_in
from agad_tf.data.splits.lookalikes import look_alikes
from agad_tf.data.splits.split import Split

PIXEL_SAMPLE = 10_000
"""Images of shards whose pixels are looked at, evenly spread; of arrays all are."""

_PARTS = {
    "training": ("train_normal", "train_anomaly"),
    "validation": ("validation_normal", "validation_anomaly"),
    "selection": ("selection_normal", "selection_anomaly"),
    "test": ("test_normal", "test_anomaly"),
}


def validate(samples: Samples, split: Split) -> dict[str, Any]:
    """Counts and checks of a data set as a split uses it; reads pixels, changes nothing.

    Args:
        samples: what `load_samples` returns.
        split: what `one_class_split` drew from it.

    Returns:
        JSON-able: `name`, `shape` of a row, `dtype`; `parts` (normal and anomalous rows of each part);
        `classes` (rows, role and rows of each part); `values` (least, greatest, mean, rows looked at);
        `duplicates` (rows with the content of an earlier row; rows given for training or validation whose
        content is in the test; rows that the split left out as copies); `alike` (images on two sides);
        `groups` (their number, and rows left out for them; None without groups); `constant` (rows of one
        value alone); `warnings`, a sentence each.
    """
    x = samples.x
    groups = numbered(samples.digests)
    parts = {
        part: {
            kind: len(getattr(split, name)) for kind, name in zip(("normal", "anomaly"), names, strict=True)
        }
        for part, names in _PARTS.items()
    }
    duplicates = {"rows": len(x) - len(np.unique(groups)), "across": _across(samples, groups)}
    duplicates["left_out"] = split.dropped_duplicates
    alike = look_alikes(samples, split)
    values, constant = _values(x)
    report = {
        "name": samples.name,
        "rows": len(x),
        "shape": list(x.shape[1:]),
        "dtype": str(x.dtype),
        "parts": {
            part: counts for part, counts in parts.items() if any(counts.values()) or part != "selection"
        },
        "classes": _classes(samples, split),
        "values": values,
        "constant": constant,
        "duplicates": duplicates,
        "alike": None
        if alike is None
        else {"pairs": alike.pairs, "rows": list(alike.rows), "sides": list(alike.sides)},
        "groups": _groups(samples, split),
    }
    return report | {"warnings": _warnings(report, samples, split)}


def _classes(samples: Samples, split: Split) -> dict[str, dict[str, Any]]:
    rows = {part: np.concatenate([getattr(split, name) for name in names]) for part, names in _PARTS.items()}
    normal = split.settings.get("normal_classes", samples.normal_classes or ())
    classes = {}
    for index, name in enumerate(samples.class_names):
        of_class = samples.classes == index
        role = "normal" if index in normal else "known anomaly" if index in split.known_classes else "anomaly"
        classes[name] = {"role": role, "rows": int(of_class.sum())}
        classes[name] |= {part: int(of_class[some].sum()) for part, some in rows.items() if len(some)}
    return classes


def _groups(samples: Samples, split: Split) -> dict[str, int] | None:
    if samples.group is None:
        return None
    named = samples.group[samples.group != ""]
    alone = len(samples.group) - len(named)
    return {"groups": len(np.unique(named)) + alone, "left_out": split.dropped_groups}


def _unused(split: Split) -> str | None:
    """Why labelled anomalies of a training or validation part are not used; None where all are."""
    count = split.summary()["unused"]
    if not count:
        return None
    gamma = split.settings["gamma"]
    why = "they are of classes not asked for" if gamma is None else f"gamma is {gamma:g}"
    return f"{count} labelled anomalies of the training part are not used: {why}"


def _across(samples: Samples, groups: np.ndarray) -> int | None:
    """Rows that the source gives for training or validation although the test has their content."""
    if samples.part is None:
        return None
    test = samples.part == "test"
    return int(is_in(groups, np.flatnonzero(~test), np.flatnonzero(test)).sum())


def _values(x: np.ndarray | LazyRows) -> tuple[dict[str, Any], int]:
    if isinstance(x, LazyRows):
        some = np.unique(np.linspace(0, len(x) - 1, min(len(x), PIXEL_SAMPLE)).astype(np.int64))
        blocks = x[some].blocks()
    else:
        some, blocks = range(len(x)), (x[start : start + 1024] for start in range(0, len(x), 1024))
    least, greatest, total, constant = np.inf, -np.inf, 0.0, 0
    for block in blocks:
        flat = block.reshape(len(block), -1)
        low, high = flat.min(axis=1), flat.max(axis=1)
        least, greatest = min(least, float(low.min())), max(greatest, float(high.max()))
        total += float(flat.sum(dtype=np.float64))
        constant += int((low == high).sum())
    mean = total / (len(some) * int(np.prod(x.shape[1:])))
    return {"least": least, "greatest": greatest, "mean": round(mean, 6), "rows": len(some)}, constant


def _warnings(report: dict[str, Any], samples: Samples, split: Split) -> list[str]:
    found = [f"class '{name}' has no samples" for name, one in report["classes"].items() if not one["rows"]]
    images, values, duplicates = samples.x.ndim == 4, report["values"], report["duplicates"]
    if images and values["greatest"] <= 1:
        found.append(f"pixels reach from 0 to {values['greatest']:g} of 255: were they stored as 0..1?")
    elif images and values["greatest"] - values["least"] < 32:
        found.append(
            f"pixels reach from {values['least']:g} to {values['greatest']:g} of 255: hardly any contrast"
        )
    if report["constant"]:
        found.append(f"{report['constant']} of {values['rows']} rows hold one value alone")
    if duplicates["across"]:
        found.append(
            f"{duplicates['across']} rows given for training or validation are copies of test rows and were "
            "left out"
        )
    if report["groups"] and report["groups"]["left_out"]:
        found.append(
            f"{report['groups']['left_out']} rows were left out: others of their group are on another side"
        )
    if report["alike"]:
        found.append(_alike(report["alike"], samples))
    unused = _unused(split)
    if unused:
        found.append(unused)
    if not len(split.train_anomaly):
        found.append("no labelled anomalies: training sees normal samples alone")
    if not len(split.test_anomaly):
        found.append("no anomalies in the test: it tells the false alarms, not how many anomalies are found")
    return found


def _alike(alike: dict[str, Any], samples: Samples) -> str:
    names = [f"row {row}" if samples.paths is None else samples.paths[row] for row in alike["rows"]]
    more = f", and {alike['pairs'] - 1} pairs more" if alike["pairs"] > 1 else ""
    return (
        f"{names[0]} ({alike['sides'][0]}) and {names[1]} ({alike['sides'][1]}) look alike{more}: if they "
        "show the same thing, the test is too easy; name what belongs together with a group"
    )


def table(report: dict[str, Any]) -> str:
    """The report for people: a short table and the warnings, a line each."""
    shape = " x ".join(str(side) for side in report["shape"])
    values, duplicates = report["values"], report["duplicates"]
    lines = [
        f"{report['name']}: {report['rows']} rows of {shape}, values {values['least']:g} to "
        f"{values['greatest']:g}; {duplicates['rows']} copies of other rows, {duplicates['left_out']} left "
        "out",
        f"{'':12}{'normal':>10}{'anomalous':>12}",
    ]
    for part, counts in report["parts"].items():
        lines.append(f"{part:12}{counts['normal']:>10}{counts['anomaly']:>12}")
    roles: dict[str, list[str]] = {}
    for name, one in report["classes"].items():
        roles.setdefault(one["role"], []).append(name)
    for role, names in roles.items():
        more = f" and {len(names) - 12} more" if len(names) > 12 else ""
        lines.append(f"{role}: {', '.join(names[:12])}{more}")
    return "\n".join(lines + [f"note: {warning}" for warning in report["warnings"]])
