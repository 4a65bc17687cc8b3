"""Kills commands at random moments, gives them again, and looks at what is there.

    python benchmarks/kills.py --kills 30 --out benchmarks/results/kills.json

Each command of `JOBS` (train twice, prepare, export, recalibrate, evaluate, score) is first left alone. Then
the jobs take turns: one is killed with SIGKILL at a moment drawn uniformly over the duration of the one left
alone (half of the moments after the libraries are loaded, where there is something to lose), and the same
command is given again. Asked of every kill:

- lost: what was there before is there, with the same bytes, after the kill; under the name of the result is
  nothing, or a whole result.
- litter: after the second command nothing lies there that the undisturbed one did not leave too.
- equal: the result is that of the undisturbed command, bit for bit. Of a training: every array of
  `model.keras` (weights, batch-norm statistics, averages, both optimizers), the logs of every epoch, metrics
  and threshold. Of an export: what it holds but the times in its cards, and its scores.

Exits with status 1 when one of them is not so.
"""

import argparse
import datetime
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from input_pipeline import machine

from agad_tf.export.versions import RECORD

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
CLOCKS = ("seconds_training",)
LITTER = re.compile(r"partial|\.tmp|^\.(?!versions$)|checkpoints")
IMAGES = "--data digits --normal-class 8 --gamma 0.05 --backbone encoder_decoder --image-size 8"
BATCHES = "--batch-size 32 --min-anomalies 8 --set checkpoints.every=5 --set validation=0.2 --quiet"


@dataclass(frozen=True)
class Job:
    """A command and what is promised of it.

    Attributes:
        arguments: of `agad-tf`, given in a folder of its own.
        needs: what of the base folder the command reads or changes; it is copied first.
        changes: the part of these that the command may replace.
        results: the names that it writes.
        content: the folder to what must be equal to the undisturbed command's.
    """

    arguments: str
    needs: tuple[str, ...]
    changes: tuple[str, ...]
    results: tuple[str, ...]
    content: Callable[[Path], dict]


def trained(folder: Path) -> dict:
    """What a run ended with: arrays of the model by name, and results that no clock has touched."""
    held, run = {}, folder / "run"
    with zipfile.ZipFile(run / "model.keras") as archive, archive.open("model.weights.h5") as stream:
        h5py.File(stream).visititems(
            lambda name, item: held.update({name: item[()].tobytes()} if hasattr(item, "dtype") else {})
        )
    for name in ("metrics.json", "history.json", "calibration.json"):
        values = json.loads((run / name).read_text())
        held[name] = {key: value for key, value in values.items() if key not in CLOCKS}
        for value in held[name].values():  # how long a baseline took beside the run
            if isinstance(value, dict):
                value.pop("seconds", None)
    return held


def files(*names: str) -> Callable[[Path], dict]:
    """The bytes of these files, or of all files in these folders."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes()
        for name in names
        for path in ([folder / name] if (folder / name).is_file() else sorted((folder / name).rglob("*")))
        if path.is_file()
    }


def exported(folder: Path) -> dict:
    """Names of the files of the newest version, and the scores that it gives."""
    from agad_tf.scoring.detectors import open_detector

    newest = max((folder / "exports").glob("[0-9]*"), key=lambda version: int(version.name))
    rows = np.load(folder / "table.npz")["x"][:20]
    return {
        "files": sorted(str(path.relative_to(newest)) for path in newest.rglob("*") if path.is_file()),
        "scores": open_detector(folder / "exports", threads=1).scores(rows).tobytes(),
    }


JOBS = {
    "train, AGAD": Job(f"train {IMAGES} {BATCHES} --epochs 6 --resume run", (), (), ("run",), trained),
    "train, AA-BiGAN": Job(
        f"train --detector aa_bigan --data table.npz --gamma 0.05 {BATCHES} --epochs 12 --resume run",
        ("table.npz",), (), ("run",), trained,
    ),
    "prepare": Job(
        "prepare images shards --quiet --image-size 24", ("images",), (), ("shards",), files("shards"),
    ),
    "export": Job(
        "export base --to exports --format savedmodel", ("base", "table.npz", "exports"), (), ("exports",),
        exported,
    ),
    "recalibrate": Job(
        "recalibrate base --rate 0.2", ("base",), ("base/calibration.json",), ("base",),
        files("base/calibration.json"),
    ),
    "evaluate": Job(
        "evaluate base --report report.html", ("base", "table.npz"), (), ("report.html",),
        files("report.html"),
    ),
    "score": Job(
        "score base rows.csv --out scores.csv --batch-size 8", ("base", "rows.csv"), (), ("scores.csv",),
        files("scores.csv"),
    ),
}  # fmt: skip


def command(job: Job) -> list[str]:
    return [sys.executable, "-m", "agad_tf.cli", *job.arguments.split()]


def finish(job: Job, folder: Path) -> None:
    """Runs to the end."""
    done = subprocess.run(command(job), capture_output=True, text=True, cwd=folder, env=ENVIRONMENT)
    if done.returncode:
        raise RuntimeError(f"{job.arguments} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def killed(job: Job, folder: Path, seconds: float) -> bool:
    """Starts the command and kills it after so many seconds; False if it was done by then."""
    process = subprocess.Popen(
        command(job),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=folder,
        env=ENVIRONMENT,
    )
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def make_base(folder: Path) -> None:
    """What the commands start from: a table and a run on it with an export, images, rows to score."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [240, 60])
    x = rng.normal(size=(300, 6)) + 2 * y[:, None]
    np.savez(folder / "table.npz", x=x.astype("float32"), y=y)
    np.savetxt(folder / "rows.csv", np.tile(x, (40, 1)), delimiter=",")
    from PIL import Image

    for kind, count in (("normal", 400), ("anomaly", 60)):
        (folder / "images" / kind).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (48, 48), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / kind / f"{number:03d}.png")
    train = f"train --detector aa_bigan --data table.npz --gamma 0.05 {BATCHES} --epochs 3 --out base"
    finish(Job(train, (), (), (), files()), folder)
    finish(JOBS["export"], folder)


def prepared(job: Job, base: Path, folder: Path) -> dict:
    """Copies what the job needs into a new folder; the bytes that must stay as they are."""
    folder.mkdir()
    for name in job.needs:
        copy = shutil.copytree if (base / name).is_dir() else shutil.copy2
        copy(base / name, folder / name)
    held = files(*job.needs)(folder)
    return {name: content for name, content in held.items() if name not in job.changes}


def damage(job: Job, folder: Path, before: dict, whole: dict) -> list[str]:
    """What a kill has lost, or left half-written under the name of a result."""
    now = files(*job.needs)(folder)
    wrong = [f"lost or changed: {name}" for name, content in before.items() if not kept(name, content, now)]
    if job.changes or "exports" in job.needs:
        there = True  # these are looked at as they are, and must be whole
    else:
        there = all((folder / name).exists() for name in job.results)
    if there and not job.changes:
        try:
            if differing(whole, job.content(folder)):
                wrong.append("half-written under its own name")
        except Exception as error:
            wrong.append(f"half-written under its own name: {type(error).__name__}: {error}"[:200])
    for name in job.changes:
        json.loads((folder / name).read_bytes())
    return wrong


def kept(name: str, content: bytes, now: dict) -> bool:
    """Whether a file is as it was; the record of versions may gain numbers, and lose none."""
    if Path(name).name != RECORD or name not in now:
        return now.get(name) == content
    return set(content.split()) <= set(now[name].split())


def differing(wanted: dict, found: dict) -> list[str]:
    """Names of what is not the same."""
    return [
        name
        for name in sorted(wanted.keys() | found.keys())
        if name not in wanted or name not in found or wanted[name] != found[name]
    ]


def litter(folder: Path, job: Job) -> list[str]:
    """What a command should have taken away."""
    names = (path.relative_to(folder) for path in folder.rglob("*"))
    left = [str(name) for name in names if LITTER.search(name.name) and "assets" not in name.parts]
    known = {*job.needs, *job.results}
    return left + [path.name for path in folder.iterdir() if path.name not in known]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=list(JOBS), help="one job alone")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    draw, kills, alone = random.Random(arguments.seed), [], {}
    jobs = [arguments.only] if arguments.only else list(JOBS)
    results = {"date": str(datetime.date.today()), "machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        base, here = folder / "base", folder / "here"  # always there: some results name their folder
        base.mkdir()
        make_base(base)
        while len(kills) < arguments.kills:
            name = jobs[len(kills) % len(jobs)]
            job = JOBS[name]
            if name not in alone:
                prepared(job, base, here)
                started = time.perf_counter()
                finish(job, here)
                alone[name] = time.perf_counter() - started, job.content(here)
                shutil.rmtree(here)
            duration, whole = alone[name]
            moment = draw.uniform(duration * draw.choice((0, 0.5)), duration)
            before = prepared(job, base, here)
            if killed(job, here, moment):
                wrong = damage(job, here, before, whole)
                left = sum(1 for path in here.rglob("*") if LITTER.search(path.name))
                finish(job, here)
                differs = differing(whole, job.content(here))
                kills.append(
                    {
                        "job": name,
                        "after_seconds": round(moment, 2),
                        "left_by_the_kill": left,
                        "lost": wrong,
                        "litter": litter(here, job),
                        "differs": differs[:5],
                    }
                )
                print(json.dumps(kills[-1]), flush=True)
            shutil.rmtree(here)
    bad = {name: sum(bool(one[name]) for one in kills) for name in ("lost", "litter", "differs")}
    results |= {
        "seconds_undisturbed": {name: round(duration, 1) for name, (duration, _) in alone.items()},
        "kills": kills,
        "count": len(kills),
        **bad,
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"{len(kills)} kills: " + ", ".join(f"{count} with {name}" for name, count in bad.items()))
    raise SystemExit(any(bad.values()))


if __name__ == "__main__":
    main()
