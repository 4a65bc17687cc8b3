"""How often `agad-tf compare` recommends the detector that is best on the test, and what another pick costs.

    python benchmarks/recommendation.py --data FOLDER --out benchmarks/results/recommendation.json

Up to 30 splits of cheap development problems, in turns: digits (normal 2, 5, 7 or 8, which come with
scikit-learn), tables (development seeds, inside of their training part alone) and rendered photographs of a
plate. On each split `agad_tf.compare` makes its recommendation from labelled anomalies of the training part;
here the test labels say what would have been best. FOLDER holds tabular/NAME.npz with X and y. Splits whose
results are in the file are not run again.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import chain, repeat, zip_longest
from pathlib import Path

import numpy as np

from agad_tf.comparison.compare import compare
from agad_tf.data.rendered.photos import OBJECTS, render
from agad_tf.data.sources.load import load_samples
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.evaluation.intervals import auroc_difference, mean_interval

DIGITS = ("pca", "neighbours", "oc_svm", "gradient_boosting")
TABLES = ("neighbours", "isolation_forest", "gradient_boosting")
PHOTOS = ("mahalanobis", "nearest_patches", "pca")
DEVELOPMENT_SEEDS = (100, 101, 102)
"""Of tables; reported figures are of seeds under 100."""

Problem = tuple[str, str | Path, tuple[str, ...], list]
"""Name, source, detectors and settings of `compare`."""


def digits(scratch: Path, folder: Path) -> Iterator[Problem]:
    """Digits of 8×8 pixels, a tenth as many labelled anomalies as normals."""
    for seed in range(3):
        for digit in ("2", "5", "7", "8"):
            settings = [("normal_classes", [digit]), ("gamma", 0.1), ("seed", seed)]
            yield f"digits {digit}, seed {seed}", "digits", DIGITS, settings


def tables(scratch: Path, folder: Path) -> Iterator[Problem]:
    """The training part of a table's development seed, split again."""
    for seed in DEVELOPMENT_SEEDS:
        for table in ("cardio", "thyroid", "satimage-2"):
            samples = load_samples(folder / "tabular" / f"{table}.npz")
            rows, labels = one_class_split(samples, seed=seed).labelled("train")
            path = scratch / f"{table}-{seed}.npz"
            np.savez(path, X=np.asarray(samples.x[rows]), y=labels)
            yield f"{table}, seed {seed}", path, TABLES, [("seed", seed)]


def photographs(scratch: Path, folder: Path) -> Iterator[Problem]:
    """168 photographs of a plate, four kinds of defect, each photograph of a part of its own."""
    for seed in range(9):
        photos = render("plate", 120, dict.fromkeys(OBJECTS["plate"], 12), seed, (96, 96), photos_per_part=1)
        kinds, classes = np.unique(photos.kinds, return_inverse=True)
        path = scratch / f"plate-{seed}.npz"
        np.savez(path, X=photos.images, y=classes)
        normal = str(kinds.tolist().index("normal"))
        settings = [("normal_classes", [normal]), ("gamma", 0.1), ("seed", seed)]
        yield f"plate, seed {seed}", path, PHOTOS, settings


KINDS = {"digits": digits, "tables": tables, "plate": photographs}


def judged(made) -> dict:
    """What was recommended, what was best on the test, and by how much."""
    scores, labels = {}, None
    for row in made.rows:
        if "error" not in row:
            with np.load(made.path / row["detector"] / "scores.npz") as held:
                scores[row["detector"]], labels = held["test"], held["labels"]
    aurocs = {row["detector"]: row["auroc"] for row in made.rows if "error" not in row}
    best, taken = max(aurocs, key=aurocs.get), made.recommendation.detector
    difference, low, _ = auroc_difference(labels, scores[best], scores[taken])
    seconds = {row["detector"]: row["seconds_training"] for row in made.rows if "error" not in row}
    fastest = min(made.recommendation.tied, key=seconds.get)
    return {
        "auroc": aurocs,
        "best": best,
        "recommended": taken,
        "cost": difference,
        "told_apart": bool(low > 0),
        "left_out": made.recommendation.figures,
        "seconds": seconds,
        "cost_of_fastest": aurocs[best] - aurocs[fastest],
        "labelled": len(made.split.train_anomaly),
        "tied": list(made.recommendation.tied),
        "failed": [row["detector"] for row in made.rows if "error" in row],
    }


def summary(splits: list[dict]) -> dict:
    """Figures over splits: picks of the rule, beside always the same detector and beside the worst one."""
    costs = np.array([split["cost"] for split in splits])
    mean = mean_interval(costs)
    named = set.intersection(*(set(split["auroc"]) for split in splits))
    always = {
        name: float(np.mean([max(split["auroc"].values()) - split["auroc"][name] for split in splits]))
        for name in sorted(named)
    }
    return {
        "splits": len(splits),
        "best_picked": int((costs <= 0).sum()),
        "worse_and_told_apart": int(sum(split["told_apart"] for split in splits)),
        "mean_cost": mean.mean,
        "mean_cost_interval": [mean.low, mean.high],
        "largest_cost": float(costs.max()),
        "mean_cost_of_fastest": float(np.mean([split["cost_of_fastest"] for split in splits])),
        "mean_cost_of_always": always,
        "mean_cost_of_chance": float(
            np.mean([max(s["auroc"].values()) - np.mean(list(s["auroc"].values())) for s in splits])
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, help="Only these.")
    parser.add_argument("--merge", nargs="*", type=Path, help="Put these results together and run nothing.")
    given = parser.parse_args()
    if given.merge:
        parts = [json.loads(path.read_text()) for path in given.merge]
        runs = [run for part in parts for run in part["runs"]]
        write(given.out, runs, sum(part["cpu_seconds"] for part in parts))
        return
    before = json.loads(given.out.read_text()) if given.out.is_file() else {"runs": [], "cpu_seconds": 0}
    splits, begun = before["runs"], time.process_time() - before["cpu_seconds"]
    done = {split["name"] for split in splits}
    with tempfile.TemporaryDirectory() as folder:
        streams = [zip(repeat(kind), KINDS[kind](Path(folder), given.data)) for kind in given.kinds or KINDS]
        # In turns, so that one that is stopped early is balanced too.
        for kind, (name, source, detectors, settings) in filter(None, chain(*zip_longest(*streams))):
            if name in done:
                continue
            out = Path(folder, "comparison")
            made = compare(source, detectors, out=out, minutes=None, settings=settings, progress=False)
            splits.append({"name": name, "kind": kind, **judged(made)})
            shutil.rmtree(out)
            print(name, splits[-1]["recommended"], splits[-1]["best"], splits[-1]["cost"], flush=True)
            write(given.out, splits, time.process_time() - begun)


def write(path: Path, splits: list[dict], seconds: float) -> None:
    """The result of the splits so far."""
    kinds = [kind for kind in KINDS if any(split["kind"] == kind for split in splits)]
    result = {"all": summary(splits)}
    result |= {kind: summary([split for split in splits if split["kind"] == kind]) for kind in kinds}
    result |= {"cpu_seconds": round(seconds), "runs": splits}
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
