"""AGAD's scores from the same weights: the whole error, its largest places, the discriminator, their sums.

Short runs with narrow networks, about a minute each on one core at 64 pixels. Development problems only: the
default of `score` was chosen on them.
"""

import os
import time
from pathlib import Path
from unittest import mock

import numpy as np

from agad_tf.errors import InputError
from study.features import Problem, digits
from study.job import Job
from study.lines import runs_in
from study.markdown import mean_and_deviation, table, write_parts
from study.runner import Experiment

RESULTS = "local.jsonl"
DIGITS = ("mnist", "fashion_mnist")
PHOTOS = ("plate", "fabric", "gear")

SUMS = {
    "reconstruction": ("reconstruction",),
    "discriminator": ("discriminator",),
    "local": ("local",),
    "without local": ("reconstruction", "discriminator"),
    "fused": ("reconstruction", "discriminator", "local"),
}
"""Name of a score to its parts, each standardised on training normals and summed."""


def photos(name: str, side: int, seed: int, defect_scale: float = 1.0) -> tuple[Problem, np.ndarray]:
    """220 photographs of good parts train, eleven labelled of each of two kinds; other parts are tested.

    Returns:
        The problem, its masks of 256 x 256, and the kind of defect of each row that is tested.
    """
    from agad_tf.data.rendered import OBJECTS, as_samples, render

    kinds = sorted(OBJECTS[name])
    known = sorted(np.random.default_rng(seed).permutation(kinds)[:2])
    counts = {kind: 36 if kind in known else 24 for kind in kinds}
    drawn = render(name, 320, counts, seed, (256, 256), defect_scale=defect_scale)
    rows = {kind: np.flatnonzero(drawn.kinds == kind) for kind in ("normal", *kinds)}
    labelled = np.concatenate([rows[kind][:11] for kind in known])
    # Two photographs of a part stand side by side: the twelfth shows a part that was trained on.
    tested = [rows["normal"][220:], *(rows[kind][12 if kind in known else 0 :] for kind in kinds)]
    test = np.concatenate(tested)
    names = np.where(np.isin(drawn.kinds[test], known), "known", "unseen")
    names[: len(tested[0])] = "normal"
    images = as_samples(drawn, (side, side)).x
    return Problem(images, rows["normal"][:220], labelled, test, names, drawn.masks), drawn.kinds[test]


def jobs(
    seeds: int = 2, problem: str | None = None, steps: int = 400, side: int = 64, defect_scale: float = 1
) -> list[Job]:
    """Pairs of runs, without labels and with them, on the same split.

    Args:
        seeds: how many splits of each problem.
        problem: one of them; None is all.
        steps: of training.
        side: of photographs, in pixels.
        defect_scale: factor of the sizes of their defects, from 1 to 3.
    """
    names = (*DIGITS, *PHOTOS) if problem is None else (problem,)
    of_photos = {"side": side} | ({} if defect_scale == 1 else {"defect_scale": defect_scale})
    return [
        Job(problem=name, seed=seed, labels=labels, steps=steps, **(of_photos if name in PHOTOS else {}))
        for seed in range(seeds)
        for name in names
        for labels in (False, True)
    ]


def _drawn(job: Job) -> tuple[Problem, np.ndarray]:
    if job.problem in PHOTOS:
        return photos(job.problem, job.side, job.seed, job.get("defect_scale", 1))
    if "AGAD_TF_DATA" not in os.environ:
        raise InputError("the study of scores expects a folder of data, received none: give --data")
    problem = digits(Path(os.environ["AGAD_TF_DATA"]) / "images", job.seed, job.problem)
    return problem, problem.kind


def make(job: Job, work: Path) -> dict:
    """Trains once and judges every score of `SUMS`."""
    import keras
    import tensorflow as tf

    from agad_tf import AGAD
    from agad_tf.evaluation.metrics import auroc, tpr_at_fpr
    from agad_tf.models.local_errors import error_maps
    from agad_tf.networks import EncoderDecoder, PatchDiscriminator

    problem, kinds = _drawn(job)
    side = job.get("side", 32)
    keras.utils.set_random_seed(job.seed)
    narrow = (mock.patch.object(EncoderDecoder, "first_filters", 16),
              mock.patch.object(PatchDiscriminator, "filters", (32, 64)))  # fmt: skip
    with narrow[0], narrow[1]:
        shape = (side, side, problem.images.shape[-1])
        model = AGAD(shape, "encoder_decoder", score="fused", seed=job.seed)
    model.compile()
    rows = np.concatenate([problem.train, problem.labelled]) if job.labels else problem.train
    y = (np.arange(len(rows)) >= len(problem.train)).astype(np.int32)
    size = {"batch_size": 32, "min_anomalies": 4} if side == 32 else {"batch_size": 16, "min_anomalies": 3}
    _forget_peak()
    began = time.perf_counter()
    model.fit(problem.images[rows], y, steps_per_epoch=job.steps, seed=job.seed, verbose=0, **size)
    seconds = time.perf_counter() - began
    parts, maps = [], {name: [] for name in MAPS}
    for start in range(0, len(problem.test), 128):
        x = model.preprocess(tf.constant(problem.images[problem.test[start : start + 128]]))
        parts.append(np.asarray(model.raw_scores(model.score_names, x)))
        if problem.masks is not None:
            errors = error_maps(x, model.scoring_generator(x, training=False))[..., None]
            maps[MAPS[0]].append(np.asarray(errors))
            maps[MAPS[1]].append(np.asarray(model.local_score.standardised(errors)))
    mean, deviation = np.asarray(model.score_means), np.asarray(model.score_deviations)
    standard = dict(
        zip(model.score_names, (np.concatenate(parts, axis=1).T - mean).T / deviation[:, None], strict=True)
    )
    figures, by_kind, anomaly = {}, {}, problem.kind != "normal"
    for name, summed in SUMS.items():
        scores = sum(standard[part] for part in summed)
        figures[f"{name}_found"] = round(100 * tpr_at_fpr(anomaly, scores, 0.05), 2)
        for kind in ("all", "known", "unseen"):
            kept = np.ones(len(scores), bool) if kind == "all" else np.isin(problem.kind, ("normal", kind))
            figures[f"{name}_{kind}"] = round(100 * auroc(anomaly[kept], scores[kept]), 2)
        by_kind[name] = {}
        for kind in np.unique(kinds[anomaly]) if job.problem in PHOTOS else ():
            kept = ~anomaly | (kinds == kind)
            known = str(problem.kind[kinds == kind][0])
            by_kind[name][str(kind)] = [known, round(100 * auroc(anomaly[kept], scores[kept]), 2)]
    line = {"figures": figures, "seconds": round(seconds, 1), "peak_mib": _peak()}
    if problem.masks is None:
        return line
    masks = problem.masks[problem.test]
    pixels = {name: _at_pixels(masks, np.concatenate(blocks)) for name, blocks in maps.items()}
    return {**line, "by_kind": by_kind, "pixels": pixels}


def _at_pixels(masks: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    """Pixel AUROC and PRO in per cent of maps (n, height, width, 1), enlarged to the masks."""
    import tensorflow as tf

    from agad_tf.evaluation.pixel_metrics import pixel_auroc, pro

    maps = np.asarray(tf.image.resize(maps, masks.shape[1:]))[..., 0]
    return {"auroc": round(100 * pixel_auroc(masks, maps), 2), "pro": round(100 * pro(masks, maps), 2)}


MAPS = ("error map", "what local reads")
"""|x − x̂|, and the same smoothed and standardised per pixel."""
PROCESS = Path("/proc/self")


def _forget_peak() -> None:
    """Lets `_peak` count from here: a worker makes several runs."""
    if (PROCESS / "clear_refs").exists():
        (PROCESS / "clear_refs").write_text("5")


def _peak() -> int | None:
    """Largest memory of this process since `_forget_peak`, in MiB; None where Linux does not say."""
    if not (PROCESS / "status").exists():
        return None
    lines = (PROCESS / "status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024)


def _case(run: dict) -> str:
    """Problem of a run, with side and size of defects where it has such."""
    words = [run["problem"]]
    if "side" in run:
        words.append(f"{run['side']} px")
    if "defect_scale" in run:
        words.append(f"defects × {run['defect_scale']:g}")
    return ", ".join(words)


def write(results: Path, pages: Path) -> list[Path]:
    """Writes the tables of the page."""
    lines = runs_in(results / RESULTS)
    order = [*DIGITS, *PHOTOS]
    ordered = sorted(
        lines, key=lambda run: (order.index(run["problem"]), run.get("side", 0), run.get("defect_scale", 1))
    )
    cases = list(dict.fromkeys(map(_case, ordered)))
    kinds, pixels, parts = [], [], {}
    for labels in (False, True):
        rows = []
        for case in cases:
            runs = [r["figures"] for r in lines if _case(r) == case and r["labels"] == labels]
            for name in SUMS if runs else ():
                cells = [
                    mean_and_deviation([figures[f"{name}_{kind}"] for figures in runs])
                    for kind in ("all", "known", "unseen", "found")
                ]
                rows.append([case, len(runs), name, *cells])
        head = ("problem", "runs", "score", "all", "known kinds", "unseen kinds", "found at 5 % false alarms")
        parts["with labels" if labels else "without labels"] = "\n".join(table(head, rows))
    for run in sorted(ordered, key=lambda r: cases.index(_case(r))):
        if "pixels" not in run:
            continue
        begin = [_case(run), "yes" if run["labels"] else "no"]
        for name in ("reconstruction", "local", "fused"):
            told = (
                f"{kind} {auroc:.1f}" + (" (labelled)" if run["labels"] and known == "known" else "")
                for kind, (known, auroc) in run["by_kind"][name].items()
            )
            kinds.append([*begin, name, ", ".join(told)])
        maps = [run["pixels"][name][what] for name in MAPS for what in ("auroc", "pro")]
        pixels.append([*begin, *(f"{value:.1f}" for value in maps), f"{run['seconds']:.0f}", run["peak_mib"]])
    parts["kinds"] = "\n".join(table(("problem", "labels", "score", "AUROC by kind"), kinds))
    columns = [f"{name}: {what}" for name in MAPS for what in ("pixel AUROC", "PRO")]
    parts["pixels"] = "\n".join(table(("problem", "labels", *columns, "seconds", "peak MiB"), pixels))
    return [write_parts(pages / "local.md", parts)]


EXPERIMENT = Experiment("AGAD's scores from the same weights", jobs, make, RESULTS, report=write)
