"""The detector on frozen features on its problems.

Each seed is a pair: the same split with labels and without. Choices are made on the development problems
alone; the report problems are for running once, after a choice is committed.
"""

import functools
import hashlib
import io
import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from scipy import stats

from agad_tf.data.rendered.photos import NORMAL, OBJECTS, render
from agad_tf.errors import InputError
from agad_tf.training.loading import default_image_size
from study.job import Job
from study.lines import runs_in
from study.markdown import table, write_parts
from study.runner import Experiment

RESULTS = "features.jsonl"
PAIRS = ("problem", "pairs", "known: mean", "unseen: mean", "unseen: lower 95 % bound")
LABELLED, MANY = 10, 158
OF_REPORT = {"mnist": (0, 3, 9), "fashion_mnist": (0, 2, 5)}
"""Normal classes that nothing is chosen on."""
COUNTS = {"mnist": MANY, "fashion_mnist": MANY, **dict.fromkeys(OBJECTS, 12)}
"""Labelled anomalies of a problem, where they are not `LABELLED`."""


@dataclass(frozen=True)
class Problem:
    """One split: rows of the images, which of them the labelled run may see, and what each test row is."""

    images: np.ndarray
    train: np.ndarray
    labelled: np.ndarray
    test: np.ndarray
    kind: np.ndarray  # of each test row: "normal", "known" or "unseen"
    masks: np.ndarray | None = None
    defect: np.ndarray | None = None  # of each test row with masks: its kind by name


FLOORS = {
    "elpv": {"normals": {"all": 89}, "labels": {"all": 90}},
    "elpv_mono": {"labels": {"unseen": 91}},
    "elpv_poly": {"labels": {"unseen": 83}},
    "tiles": {"normals": {"all": 81, "pixel": 85}, "labels": {"known": 88, "unseen": 77}},
    "mnist": {"normals": {"all": 98}, "labels": {"unseen": 98.5}},
    "fashion_mnist": {"normals": {"all": 95}, "labels": {"unseen": 95.5}},
    "pneumonia": {"normals": {"all": 75}, "labels": {"all": 95}},
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
    images, defect, cells = _decoded(file, "image", 300), file["defect_probability"], file["cell"]
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
    test = np.concatenate([normal, rest])
    return Problem(
        images,
        np.flatnonzero((kind == "good") & inside),
        np.concatenate(labelled),
        test,
        np.concatenate([np.full(len(normal), "normal"), kinds]),
        _decoded(file, "mask", 256)[..., 0] >= 128,
        kind[test],
    )


def digits(folder: Path, seed: int, name: str, normal: int = 8) -> Problem:
    """3000 of one class train, 158 labelled of another one (γ .05), all the others are tested."""
    file = np.load(folder / f"{name}.npz")
    rng = np.random.default_rng(seed)
    known = int(rng.permutation([label for label in range(10) if label != normal])[0])
    draw = {label: rng.permutation(np.flatnonzero(file["y_train"] == label)) for label in (normal, known)}
    train, labelled = draw[normal][:3000], draw[known][:MANY]
    test = np.arange(0, len(file["y_test"]), 4)
    names = np.select(
        [file["y_test"][test] == label for label in (normal, known)], ["normal", "known"], "unseen"
    )
    images = np.concatenate([file["x_train"][train], file["x_train"][labelled], file["x_test"][test]])[
        ..., None
    ]
    rows = np.split(np.arange(len(images)), [len(train), len(train) + len(labelled)])
    return Problem(images, *rows, names)


def pneumonia(folder: Path, seed: int) -> Problem:
    """Chest X-rays of 28 pixels in their own parts: γ .05 of the training anomalies are labelled."""
    file = np.load(folder / "pneumoniamnist.npz")
    trained, tested = file["train_labels"][:, 0], file["test_labels"][:, 0]
    normal, anomaly = np.flatnonzero(trained == 0), np.flatnonzero(trained == 1)
    labelled = np.random.default_rng(seed).permutation(anomaly)[: round(len(normal) * 0.05 / 0.95)]
    images = np.concatenate([file["train_images"], file["test_images"]])[..., None]
    return Problem(
        images,
        normal,
        labelled,
        len(trained) + np.arange(len(tested)),
        np.where(tested == 1, "known", "normal"),
    )


@functools.lru_cache(maxsize=1)
def _rendered(name: str):
    return render(name, 240, dict.fromkeys(OBJECTS[name], 20), seed=7)


def photos(folder: Path, seed: int, name: str) -> Problem:
    """Rendered photographs, no part on two sides: six labelled of each of two kinds drawn by the seed."""
    photos = _rendered(name)
    kind, part, rng = photos.kinds, photos.groups, np.random.default_rng(seed)

    def drawn(rows, share):
        """Rows of a share of the parts, and the others."""
        parts = rng.permutation(np.unique(part[rows]))
        inside = np.isin(part[rows], parts[: round(share * len(parts))])
        return rows[inside], rows[~inside]

    train, normal = drawn(np.flatnonzero(kind == NORMAL), 0.6)
    known = rng.permutation(OBJECTS[name])[:2]
    cuts = [drawn(np.flatnonzero(kind == one), 0.5) for one in known]
    rest = np.flatnonzero(~np.isin(kind, [NORMAL, *known]))
    rest = np.concatenate([*(others for _, others in cuts), rest])
    size = default_image_size(photos.images.shape[1:3], "features")
    masks = keras.ops.image.resize(photos.masks[..., None].astype("float32"), size, antialias=True)
    unseen = np.where(np.isin(kind[rest], known), "known", "unseen")
    test = np.concatenate([normal, rest])
    return Problem(
        photos.images,
        train,
        np.concatenate([inside[:6] for inside, _ in cuts]),
        test,
        np.concatenate([np.full(len(normal), "normal"), unseen]),
        np.asarray(masks)[..., 0] >= 0.3,
        kind[test],
    )


DEVELOPMENT = {
    "elpv": elpv,
    "elpv_mono": lambda folder, seed: elpv(folder, seed, "mono"),
    "elpv_poly": lambda folder, seed: elpv(folder, seed, "poly"),
    "tiles": tiles,
    **{name: functools.partial(photos, name=name) for name in OBJECTS},
    "mnist": lambda folder, seed: digits(folder, seed, "mnist"),
    "fashion_mnist": lambda folder, seed: digits(folder, seed, "fashion_mnist"),
}
REPORT = {
    "pneumonia": pneumonia,
    **{
        f"{name}_{normal}": functools.partial(digits, name=name, normal=normal)
        for name, classes in OF_REPORT.items()
        for normal in classes
    },
}
PROBLEMS = DEVELOPMENT | REPORT
COUNTS |= {"pneumonia": 64, **dict.fromkeys(set(REPORT) - {"pneumonia"}, MANY)}


def jobs(seeds: int = 3, problem: str | None = None) -> list[Job]:
    """Pairs of runs, without labels and with them, on the same split; of one problem or of development."""
    names = DEVELOPMENT if problem is None else (problem,)
    return [
        Job(problem=name, seed=seed, labels=labels)
        for seed in range(seeds)
        for name in names
        for labels in (0, COUNTS.get(name, LABELLED))
    ]


@functools.lru_cache(maxsize=1)
def _drawn(name: str, seed: int) -> Problem:
    if "AGAD_TF_DATA" not in os.environ:
        raise InputError("the study of features expects a folder of data, received none: give --data")
    return PROBLEMS[name](Path(os.environ["AGAD_TF_DATA"]) / "images", seed)


def make(job: Job, work: Path) -> dict:
    """Trains once; features are kept in the work folder."""
    from agad_tf import FeatureDiscriminator
    from agad_tf.evaluation.metrics import auroc
    from agad_tf.evaluation.pixel_metrics import pixel_auroc
    from agad_tf.training.configuration import EPOCHS

    problem, keep = _drawn(job.problem, job.seed), work / "features"
    size = default_image_size(problem.images.shape[1:3], "features")
    began = time.perf_counter()
    model = FeatureDiscriminator((*size, problem.images.shape[-1]), seed=job.seed)
    rows = np.concatenate([problem.train, problem.labelled]) if job.labels else problem.train
    y = (np.arange(len(rows)) >= len(problem.train)).astype(np.int32)
    model.fit(
        problem.images[rows], y, epochs=EPOCHS["features"], seed=job.seed, features_folder=keep, verbose=0
    )
    seconds = time.perf_counter() - began
    features = model.rows_of(problem.images[problem.test], keep)
    figures = {}
    for score in ("global", "local", *(["labels"] if job.labels else []), "fused"):
        model.score = score
        scores = model.predict(features)
        for kind in ("all", "known", "unseen"):
            kept = np.ones(len(scores), bool) if kind == "all" else np.isin(problem.kind, ("normal", kind))
            y = problem.kind[kept] != "normal"
            if y.any():
                figures[f"{score}_{kind}"] = round(100 * auroc(y, scores[kept]), 2)
    pixels = {}
    if problem.masks is not None:
        maps, masks = model.predict_map(problem.images[problem.test]), problem.masks[problem.test]
        figures["pixel"] = round(100 * pixel_auroc(masks, maps), 2)
        for kind in np.unique(problem.defect[problem.kind != "normal"]):
            of_kind = problem.defect == kind
            share = masks[of_kind].mean()
            pixels[str(kind)] = [
                round(100 * pixel_auroc(masks[of_kind], maps[of_kind]), 2),
                round(100 * share, 2),
            ]
    kept = (problem.train, problem.labelled if job.labels else problem.labelled[:0], problem.test)
    digest = hashlib.sha256(b"".join(f"{len(r)}:".encode() + r.astype("<i8").tobytes() for r in kept))
    line = {"auroc": figures, "seconds": round(seconds, 1), "split_sha256": digest.hexdigest()}
    return line | ({"pixels": pixels} if pixels else {})


def write(results: Path, pages: Path) -> list[Path]:
    """Writes the tables of the page."""
    lines = runs_in(results / RESULTS)
    done = {(r["problem"], bool(r["labels"]), r["seed"]): r["auroc"] for r in lines}
    cases = [
        (name, labels, runs)
        for name in PROBLEMS
        for labels in (False, True)
        if (runs := [figures for key, figures in done.items() if key[:2] == (name, labels)])
    ]
    scores, second, third = {"scores": [], "report problems": []}, [], []
    for name, labels, runs in cases:
        asked = FLOORS.get(name, {}).get("labels" if labels else "normals", {})
        wanted = ", ".join(f"{kind} {value}" for kind, value in asked.items()) or "–"
        begin = [name, str(len(runs)), "yes" if labels else "no"]
        kind_of_problem = "report problems" if name in REPORT else "scores"
        scores[kind_of_problem].append([*begin, *(_cell(runs, f"fused_{kind}") for kind in KINDS), wanted])
        second.append([*begin, *(_cell(runs, key) for key in PARTS)])
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
    heads = [*case, "all", "known kinds", "unseen kinds", "asked for, at least"]
    parts = {
        **{name: table(heads, rows) for name, rows in scores.items()},
        "parts of the score": table([*case, *PARTS.values()], second),
        "pairs": table([*PAIRS], third),
        "pixels": table([*PIXELS], _pixels([r for r in lines if not r["labels"]])),
    }
    return [write_parts(pages / "features.md", {name: "\n".join(lines) for name, lines in parts.items()})]


def _pixels(lines: list[dict]) -> list[list[str]]:
    """Rows of the table of pixels: each kind of defect of each problem, by its own images alone."""
    rows = []
    for name in PROBLEMS:
        found = [line["pixels"] for line in lines if line["problem"] == name and "pixels" in line]
        for kind in found[0] if found else ():
            areas = [pixels[kind][1] for pixels in found]
            auroc = _cell([{kind: pixels[kind][0]} for pixels in found], kind)
            rows.append([name, kind, str(len(found)), f"{np.mean(areas):.2g}", auroc])
    return rows


KINDS = ("all", "known", "unseen")
PIXELS = ("problem", "kind", "runs", "% of the pixels", "pixel AUROC")
PARTS = {
    "global_all": "global, all",
    "local_all": "local, all",
    "labels_all": "labels, all",
    "pixel": "pixels, by the masks",
}


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


EXPERIMENT = Experiment(
    "The detector on frozen features, with labels and without", jobs, make, RESULTS, report=write
)
