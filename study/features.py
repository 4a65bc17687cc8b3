"""The detector on frozen features on its problems: one line of JSON a run, and the page made of them.

    AGAD_TF_DATA=DATA python -m study.features elpv_mono --seeds 3
    python -m study.features --page

Each seed is a pair: the same split with labels and without. Development problems only: nothing is reported on
data that choices were made by.
"""

import argparse
import io
import itertools
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

from study.machine import one_thread
from study.results import append_lines, commit, read_lines

RESULTS = Path(__file__).parent / "results" / "features.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "results" / "features.md"
LABELLED = 10


@dataclass(frozen=True)
class Problem:
    """One split: rows of the images, which of them the labelled run may see, and what each test row is."""

    images: np.ndarray
    train: np.ndarray
    labelled: np.ndarray
    test: np.ndarray
    kind: np.ndarray  # of each test row: "normal", "known" or "unseen"
    masks: np.ndarray | None = None


FLOORS = {
    "elpv": {"normals": {"all": 89}, "labels": {"all": 90}},
    "elpv_mono": {"labels": {"unseen": 91}},
    "elpv_poly": {"labels": {"unseen": 83}},
    "tiles": {"normals": {"all": 81, "pixel": 85}, "labels": {"known": 88, "unseen": 77}},
    "mnist": {"normals": {"all": 98}, "labels": {"unseen": 98.5}},
    "fashion_mnist": {"normals": {"all": 95}, "labels": {"unseen": 95.5}},
}
"""The least AUROC that was asked for, in per cent."""


def _decoded(file, key: str, size: int) -> np.ndarray:
    """Grey images (n, size, size, 1), shrunk with antialiasing."""
    content, offsets = file[f"{key}_bytes"], file[f"{key}_offsets"]
    images = []
    for start, end in itertools.pairwise(offsets):
        image = Image.open(io.BytesIO(content[start:end].tobytes())).convert("L")
        images.append(np.asarray(image.resize((size, size), Image.BILINEAR))[..., None])
    return np.stack(images)


def elpv(folder: Path, seed: int, cell: str | None = None) -> Problem:
    """Solar cells: three quarters of the sound ones train; ten labelled of both types of cell, or of one."""
    file = np.load(folder / "elpv.npz")
    images, defect, cells = _decoded(file, "image", 256), file["defect_probability"], file["cell"]
    rng = np.random.default_rng(seed)
    normal, anomaly = (
        rng.permutation(np.flatnonzero(defect == 0)),
        rng.permutation(np.flatnonzero(defect == 1)),
    )
    cut = int(0.75 * len(normal))
    types = ("mono", "poly") if cell is None else (cell,)
    share = LABELLED // len(types)
    labelled = np.concatenate([anomaly[cells[anomaly] == name][:share] for name in types])
    rest = np.setdiff1d(anomaly, labelled)
    kind = np.where(np.isin(cells[rest], types), "known", "unseen")
    test = np.concatenate([normal[cut:], rest])
    kinds = np.concatenate([np.full(len(normal) - cut, "normal"), kind])
    return Problem(images, normal[:cut], labelled, test, kinds)


def tiles(folder: Path, seed: int) -> Problem:
    """Magnetic tiles, no tile on two sides: five labelled of each of two kinds drawn by the seed."""
    file = np.load(folder / "magnetic_tile.npz")
    images, kind, tile = _decoded(file, "image", 256), file["kind"], file["tile"]
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(tile))
    inside = np.isin(tile, order[: int(0.6 * len(order))])
    known = rng.permutation([name for name in np.unique(kind) if name != "good"])[:2]
    labelled = [rng.permutation(np.flatnonzero((kind == name) & inside))[: LABELLED // 2] for name in known]
    normal, rest = np.flatnonzero((kind == "good") & ~inside), np.flatnonzero((kind != "good") & ~inside)
    kinds = np.where(np.isin(kind[rest], known), "known", "unseen")
    return Problem(
        images,
        np.flatnonzero((kind == "good") & inside),
        np.concatenate(labelled),
        np.concatenate([normal, rest]),
        np.concatenate([np.full(len(normal), "normal"), kinds]),
        _decoded(file, "mask", 256)[..., 0] >= 128,
    )


def digits(folder: Path, seed: int, name: str, normal: int = 8) -> Problem:
    """3000 of one class train, 158 labelled of another one (γ .05), all the others are tested."""
    file = np.load(folder / f"{name}.npz")
    rng = np.random.default_rng(seed)
    known = int(rng.permutation([label for label in range(10) if label != normal])[0])
    draw = {label: rng.permutation(np.flatnonzero(file["y_train"] == label)) for label in (normal, known)}
    train, labelled = draw[normal][:3000], draw[known][:158]
    test = np.arange(0, len(file["y_test"]), 4)
    names = np.select(
        [file["y_test"][test] == label for label in (normal, known)], ["normal", "known"], "unseen"
    )
    images = np.concatenate([file["x_train"][train], file["x_train"][labelled], file["x_test"][test]])[
        ..., None
    ]
    rows = np.split(np.arange(len(images)), [len(train), len(train) + len(labelled)])
    return Problem(images, *rows, names)


PROBLEMS = {
    "elpv": elpv,
    "elpv_mono": lambda folder, seed: elpv(folder, seed, "mono"),
    "elpv_poly": lambda folder, seed: elpv(folder, seed, "poly"),
    "tiles": tiles,
    "mnist": lambda folder, seed: digits(folder, seed, "mnist"),
    "fashion_mnist": lambda folder, seed: digits(folder, seed, "fashion_mnist"),
}


def run(name: str, problem: Problem, seed: int, labels: bool, keep: Path) -> dict:
    """Trains once; the line of the results file."""
    from agad_tf import FeatureDiscriminator
    from agad_tf.evaluation.metrics import auroc
    from agad_tf.evaluation.pixel_metrics import pixel_auroc
    from agad_tf.training.configuration import EPOCHS

    side = 96 if problem.images.shape[1] < 64 else 256
    began = time.perf_counter()
    model = FeatureDiscriminator((side, side, 1), seed=seed)
    rows = np.concatenate([problem.train, problem.labelled]) if labels else problem.train
    y = (np.arange(len(rows)) >= len(problem.train)).astype(np.int32)
    model.fit(problem.images[rows], y, epochs=EPOCHS["features"], seed=seed, features_folder=keep, verbose=0)
    seconds = time.perf_counter() - began
    features = model.rows_of(problem.images[problem.test], keep)
    figures = {}
    for score in ("fused", "global", "local"):
        model.score = score
        scores = model.predict(features)
        for kind in ("all", "known", "unseen"):
            kept = np.ones(len(scores), bool) if kind == "all" else np.isin(problem.kind, ("normal", kind))
            y = problem.kind[kept] != "normal"
            if y.any():
                figures[f"{score}_{kind}"] = round(100 * auroc(y, scores[kept]), 2)
    if problem.masks is not None:
        maps = [
            model.anomaly_map(problem.images[problem.test[i : i + 32]]) for i in range(0, len(scores), 32)
        ]
        figures["pixel"] = round(100 * pixel_auroc(problem.masks[problem.test], np.concatenate(maps)), 2)
    about = {"problem": name, "seed": seed, "labels": int(labels) * len(problem.labelled)}
    return about | {"auroc": figures, "seconds": round(seconds, 1), "commit": commit()}


def page() -> str:
    """The page of the results file."""
    done = {(r["problem"], bool(r["labels"]), r["seed"]): r["auroc"] for r in read_lines(RESULTS)}
    cases = [
        (name, labels, runs)
        for name in PROBLEMS
        for labels in (False, True)
        if (runs := [figures for key, figures in done.items() if key[:2] == (name, labels)])
    ]
    first, second, third = [], [], []
    for name, labels, runs in cases:
        asked = FLOORS[name].get("labels" if labels else "normals", {})
        wanted = ", ".join(f"{kind} {value}" for kind, value in asked.items()) or "–"
        begin = [name, str(len(runs)), "yes" if labels else "no"]
        first.append([*begin, *(_cell(runs, f"fused_{kind}") for kind in KINDS), wanted])
        second.append([*begin, *(_cell(runs, key) for key in ("global_all", "local_all", "pixel"))])
    for name in PROBLEMS:
        seeds = [s for p, labels, s in done if p == name and labels and (p, False, s) in done]
        pairs = [(done[name, True, seed], done[name, False, seed]) for seed in seeds]
        gains = {}
        for kind in ("known", "unseen"):
            key = f"fused_{kind}"
            gains[kind] = np.array([after[key] - before[key] for after, before in pairs if key in after])
        if pairs:
            mean = [f"{gains[kind].mean():+.1f}" if len(gains[kind]) else "–" for kind in gains]
            third.append([name, str(len(pairs)), *mean, _bound(gains["unseen"])])
    case = ["problem", "runs", "labels"]
    tables = [
        _table([*case, "all", "known kinds", "unseen kinds", "asked for, at least"], first),
        _table([*case, "global, all", "local, all", "pixels, by the masks"], second),
        _table(["problem", "pairs", "known: mean", "unseen: mean", "unseen: lower 95 % bound"], third),
    ]
    return "\n".join(
        f"{text}\n\n{table}" for text, table in zip((HEAD.strip(), PARTS, PAIRS), tables, strict=True)
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, ["---"] * len(header), *rows])


KINDS = ("all", "known", "unseen")


def _cell(runs: list[dict], key: str) -> str:
    values = [figures[key] for figures in runs if key in figures]
    if not values:
        return "–"
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _bound(values) -> str:
    """Lower end of the two-sided 95 % interval of the mean, by Student's t."""
    if len(values) < 2:
        return "–"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean() - half:+.1f}"


HEAD = """# Detection on frozen features

AUROC in per cent of `agad_tf.FeatureDiscriminator` on EfficientNet-Lite0 with weights from ImageNet, mean and
standard deviation over seeds. These are **development problems**: choices were made on them. A network that
was pretrained on a million photographs has seen more than the detectors of the papers, which begin with
random weights: these figures do not stand beside theirs. Every run is a line of
`study/results/features.jsonl`, made by `python -m study.features PROBLEM --seeds N`.

`elpv` has ten labelled solar cells of both types, `elpv_mono` and `elpv_poly` ten of one type, and the other
type is unseen. `tiles` keeps all photographs of a magnetic tile on one side and has five labels of each of
two kinds. `mnist` and `fashion_mnist` take class 8 as normal and label one other class; a quarter of the test
part is scored.
"""
PARTS = "The two parts of the score, and where the defect is:"
PAIRS = """What labels change: the same split and seed with labels less without, in points of AUROC. Asked for
on unseen kinds, over ten pairs or more: a mean of at least −.5 and a lower bound of at least −2."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", choices=[*PROBLEMS, []])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="keeps features there")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if given.page:
        PAGE.write_text(page())
        return
    one_thread()
    folder = Path(os.environ["AGAD_TF_DATA"]) / "images"
    keep = given.keep or Path(tempfile.mkdtemp())
    for seed in range(given.first, given.first + given.seeds):
        for name in given.problems:
            done = {(line["problem"], line["seed"], bool(line["labels"])) for line in read_lines(RESULTS)}
            problem = PROBLEMS[name](folder, seed)
            for labels in (False, True):
                if (name, seed, labels) not in done:
                    append_lines(RESULTS, [run(name, problem, seed, labels, keep)])


if __name__ == "__main__":
    main()
