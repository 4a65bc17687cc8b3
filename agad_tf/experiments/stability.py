"""How training behaves, epoch by epoch, on the development problems, with one switch turned at a time.

    python -m agad_tf.experiments.stability --plan ledger --data DIR --out docs/results/stability.jsonl

Every run is one JSON line with its settings and, for each epoch, the AUROC of each score, what can be known
without anomalies, and the losses. A run whose line is in the file is not repeated. Short runs: 16×16 images,
1500 normals, so that a whole ledger fits on two cores; results on 32×32 are elsewhere.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

from agad_tf.experiments.development import PROBLEMS, load_problem

SWITCHES: dict[str, dict] = {
    "default": {},
    "literal": {"literal": True},
    "reciprocal_epsilon=1e-6": {"reciprocal_epsilon": 1e-6},
    "reciprocal_epsilon=0.01": {"reciprocal_epsilon": 1e-2},
    "reciprocal_epsilon=0.1": {"reciprocal_epsilon": 0.1},
    "reciprocal_epsilon=1": {"reciprocal_epsilon": 1.0},
    "clip_norm=None": {"clip_norm": None},
    "clip_norm=1": {"clip_norm": 1.0},
    "clip_norm=20": {"clip_norm": 20.0},
    "no epsilon, no clipping": {"reciprocal_epsilon": 1e-6, "clip_norm": None},
    "D sees x̂ of anomalies": {"discriminator_sees_anomaly_reconstructions": True},
    "latent_distance=sum_squared": {"latent_distance": "sum_squared"},
    "latent_distance=norm": {"latent_distance": "norm"},
    "anomaly_contextual_pair=input": {"anomaly_contextual_pair": "input"},
    "group_weighting=share": {"group_weighting": "share"},
    "update_order=discriminator_first": {"update_order": "discriminator_first"},
    "bn_strategy=adv_prop": {"bn_strategy": "adv_prop"},
    "bn_strategy=freeze": {"bn_strategy": "freeze"},
    "average_epochs=0": {"average_epochs": 0.0},
    "average_epochs=1": {"average_epochs": 1.0},
    "average_epochs=4": {"average_epochs": 4.0},
    "reestimate_batch_norm=False": {"reestimate_batch_norm": False},
    "learning_rate=1e-4": {"learning_rate": 1e-4},
    "learning_rate=5e-4": {"learning_rate": 5e-4},
    "beta_1=0.9": {"beta_1": 0.9},
    "contextual_adversarial_weight=0": {"contextual_adversarial_weight": 0.0},
    "discriminator_reset_threshold=0": {"discriminator_reset_threshold": 0.0},
}
"""Name to the settings that differ from the defaults."""


def plan_jobs(plan: str, switches=(), seeds: int = 3) -> list[dict]:
    """The runs of a plan: "pilot", "ledger" (switches one at a time) or "forty" (default and literal)."""
    if plan == "forty":
        # 5 problems × 2 γ × 4 seeds = 40 in each mode
        grid = [(name, problem, gamma, seed) for name in ("default", "literal") for problem in PROBLEMS
                for gamma in (0.0, 0.05) for seed in range(4)]  # fmt: skip
    else:
        names = switches or SWITCHES
        grid = [(name, problem, gamma, seed) for seed in range(seeds) for name in names
                for problem in (("mnist", 5), ("fashion_mnist", 4)) for gamma in (0.05, 0.0)]  # fmt: skip
        if plan == "pilot":
            grid = [job for job in grid if job[2] > 0]
    return [
        {"switch": name, "source": source, "normal_class": digit, "gamma": gamma, "seed": seed}
        for name, (source, digit), gamma, seed in grid
    ]


def run_job(job: dict, data: str, epochs: int, image_size: int) -> dict:
    """Trains one run and returns its record."""
    import keras
    import tensorflow as tf

    from agad_tf import AGAD
    from agad_tf.experiments.observation import Observer

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(job["seed"])
    problem = load_problem(
        os.path.join(data, f"{job['source']}.npz"), job["normal_class"], job["gamma"], job["seed"]
    )
    settings = dict(SWITCHES[job["switch"]])
    constructor = {name: settings.pop(name) for name in ("bn_strategy",) if name in settings}
    # Fused, so that both parts are prepared and every score can be recorded.
    model = AGAD(
        (image_size, image_size, 1), "encoder_decoder", score="fused", seed=job["seed"], **constructor
    )
    model.compile(**settings)
    observer = Observer(problem)
    x = np.concatenate([problem.normal, problem.anomaly])
    y = np.repeat([0, 1], [len(problem.normal), len(problem.anomaly)])
    started = time.perf_counter()
    model.fit(x, y, epochs=epochs, seed=job["seed"], callbacks=[observer], verbose=0)
    return job | {
        "epochs": epochs,
        "image_size": image_size,
        "normals": len(problem.normal),
        "anomalies": len(problem.anomaly),
        "seconds": round(time.perf_counter() - started, 1),
        "settings": json.loads(json.dumps(dict(model.settings), default=str)),
        "curve": observer.records,
    }


def read_lines(path: Path) -> list[dict]:
    """The records of a results file; an unfinished last line is left out."""
    records = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return records


def key(job: dict) -> tuple:
    """What makes two runs the same."""
    return tuple(job[name] for name in ("switch", "source", "normal_class", "gamma", "seed"))


@click.command()
@click.option("--plan", type=click.Choice(["pilot", "ledger", "forty"]), required=True)
@click.option("--data", required=True, help="Folder with mnist.npz and fashion_mnist.npz.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON lines, appended.")
@click.option("--switch", "switches", multiple=True, type=click.Choice(list(SWITCHES)), help="Only these.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--image-size", default=16, show_default=True)
@click.option("--share", default="0/1", show_default=True, help="i/n: every n-th run, from the i-th.")
@click.option("--minutes", default=240.0, show_default=True, help="Start no run after this long.")
def main(plan, data, out, switches, seeds, epochs, image_size, share, minutes):
    """Runs a plan, one run at a time in this process; start as many processes as there are cores."""
    index, count = map(int, share.split("/"))
    deadline = time.monotonic() + 60 * minutes
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    jobs = plan_jobs(plan, switches, seeds)
    for job in jobs[index::count]:
        if key(job) in {key(record) for record in read_lines(out)}:
            continue
        if time.monotonic() > deadline:
            print("time is up; run the same command again to go on", file=sys.stderr)
            break
        record = run_job(job, data, epochs, image_size) | {"commit": commit.stdout.strip()}
        with out.open("a") as file:
            file.write(json.dumps(record) + "\n")
        last = record["curve"][-1]
        final = {name: round(last[name], 3) for name in ("reconstruction", "discriminator", "fused")}
        print(*key(job), final, record["seconds"], flush=True)


if __name__ == "__main__":
    main()
