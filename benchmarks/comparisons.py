"""What `agad_tf.compare` says of five problems, and how long it takes.

    python benchmarks/comparisons.py --data FOLDER --out benchmarks/results/comparisons.json \\
        --page docs/results/comparisons.md

Development problems: digits (8 is normal), a table, rendered photographs of a plate, magnetic tiles and solar
cells. FOLDER holds tabular/cardio.npz, images/magnetic_tile.npz and images/elpv.npz; what it lacks is left
out. Of the last two at most `--images` photographs are drawn; no tile is on two sides of the split. Problems
whose results are in the file are not run again. `--pages` keeps the page that each comparison writes.
"""

import argparse
import io
import json
import os
import platform
import re
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from pages import with_table
from PIL import Image

from agad_tf.baselines import FITTED_ONCE
from agad_tf.comparison.compare import compare
from agad_tf.comparison.page import write_page

SEED = 100
"""Of development; reported figures are of seeds under 100."""
SHOWN = ("detector", "auroc", "auroc_interval", "auroc_known", "auroc_unseen", "found", "false_alarms")
SHOWN += ("seconds_training", "milliseconds", "weights", "stopped_early", "error")


def folder_of(path, images, kinds, groups):
    """Writes coded images into a folder with a folder for each kind; names begin with the group."""
    for index, (content, kind, group) in enumerate(zip(images, kinds, groups, strict=True)):
        place = path / ("normal" if kind == "normal" else f"anomaly/{kind}")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{group}_{index}.jpg").write_bytes(content)
    return path


def coded(file, rows):
    """The bytes of some images of an archive."""
    content, offsets = file["image_bytes"], file["image_offsets"]
    return [content[offsets[row] : offsets[row + 1]].tobytes() for row in rows]


def squared(content):
    """A coded image of any size as a JPEG of 256 x 256: images of one source are of one size."""
    made = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("L").resize((256, 256), Image.BILINEAR).save(
        made, "JPEG", quality=95
    )
    return made.getvalue()


def tiles(data, scratch, images):
    file = np.load(data / "images/magnetic_tile.npz")
    rows = np.random.default_rng(SEED).permutation(len(file["kind"]))[:images]
    kinds = np.where(file["kind"][rows] == "good", "normal", file["kind"][rows])
    groups = [f"part{tile}" for tile in file["tile"][rows]]
    images = [squared(content) for content in coded(file, rows)]
    return folder_of(scratch, images, kinds, groups), [("group", r"part([^_]+)_")]


def cells(data, scratch, images):
    file = np.load(data / "images/elpv.npz")
    sure = np.flatnonzero(np.isin(file["defect_probability"], (0, 1)))
    rows = np.random.default_rng(SEED).permutation(sure)[:images]
    kinds = np.where(file["defect_probability"][rows] == 0, "normal", file["cell"][rows])
    return folder_of(scratch, coded(file, rows), kinds, ["cell"] * len(rows)), []


PROBLEMS = {
    "digits, 8 is normal": lambda *_: ("digits", [("normal_classes", ["8"]), ("gamma", 0.1)]),
    "table cardio": lambda data, *_: (data / "tabular/cardio.npz", [("gamma", 0.01)]),
    "rendered plate": lambda *_: ("photos:plate", []),
    "magnetic tiles": tiles,
    "solar cells (ELPV)": cells,
}
"""Name to a function of FOLDER, a scratch folder and the number of images: source and settings."""


def measured(source, settings, minutes, scratch, page=None):
    """What was found, and seconds of the clock and of the processors; the page is copied to `page`."""
    begun, worked = time.monotonic(), time.process_time()
    made = compare(source, out=scratch / "out", minutes=minutes, settings=[("seed", SEED), *settings])
    written = write_page(made)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(written, page)
    split = made.split
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
        "minutes": minutes,
        "normals": len(split.train_normal),
        "labelled": len(split.train_anomaly),
        "tested": len(split.test_normal) + len(split.test_anomaly),
        "rows": [{name: row[name] for name in SHOWN if name in row} for row in made.rows],
        "recommended": made.recommendation.detector,
        "reason": made.recommendation.reason,
    }


def stopped(row):
    """Whether the clock cut a training short; results of before say it of a single pass too."""
    return row["stopped_early"] and row["detector"] not in FITTED_ONCE


def table(problems):
    """Markdown: a row a problem."""
    lines = ["| problem | trained on | test AUROC, in per cent | recommended | seconds, of the processors |"]
    lines.append("|" + "---|" * 5)
    for name, found in problems.items():
        figures = [
            f"{row['detector']} failed"
            if "error" in row
            else f"{row['detector']} {100 * row['auroc']:.1f}{'*' if stopped(row) else ''}"
            for row in found["rows"]
        ]
        trained = f"{found['normals']} normals, {found['labelled']} labelled"
        times = f"{found['seconds']:.0f}, {found['processor_seconds']:.0f}"
        lines.append(f"| {name} | {trained} | {', '.join(figures)} | {found['recommended']} | {times} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="page whose table is written anew")
    parser.add_argument("--pages", type=Path, help="folder that keeps the page of each comparison")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--images", type=int, default=400)
    given = parser.parse_args()
    problems = json.loads(given.out.read_text())["problems"] if given.out.is_file() else {}
    for name, source_of in PROBLEMS.items():
        if name in problems:
            continue
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder, "data")
            try:
                source, settings = source_of(given.data, scratch, given.images)
            except FileNotFoundError as error:
                print(f"{name}: left out, {error.filename} is not there", flush=True)
                continue
            page = given.pages and given.pages / f"{re.sub('[^a-z0-9]+', '_', name.lower()).strip('_')}.html"
            problems[name] = measured(source, settings, given.minutes, Path(folder), page)
        print(name, problems[name]["recommended"], problems[name]["seconds"], flush=True)
        problems = {known: problems[known] for known in PROBLEMS if known in problems}
        machine = f"{platform.machine()}, {os.cpu_count()} cores, shared with other work"
        given.out.write_text(json.dumps({"machine": machine, "problems": problems}, indent=1) + "\n")
    if given.page is not None:
        given.page.write_text(with_table(given.page.read_text(), "comparisons", table(problems)))


if __name__ == "__main__":
    main()
