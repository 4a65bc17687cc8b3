"""How training behaves, epoch by epoch, on the development problems, with one switch turned at a time.

    python -m study.stability --plan ledger --data DIR --out study/results/stability.jsonl

Every run is one JSON line with its settings and, for each epoch, the AUROC of each score, what can be known
without anomalies, and the losses. A run whose line is in the file is not repeated. Short runs: small images,
few normals and small batches, so that many fit on two cores; an eighth of a batch are anomalies, as in the
paper's 32 of 256.
"""

import json
import os
import sys
import time
from pathlib import Path

import click
import numpy as np

from study.development import PROBLEMS, load_problem
from study.machine import one_thread
from study.results import append_lines, commit, read_lines

UNSTEADY = {
    "learning_rate": 2e-3,
    "discriminator_sees_anomaly_reconstructions": True,
    "reciprocal_epsilon": 0.0,
    "clip_norm": None,
    "average_epochs": 0.0,
    "reestimate_batch_norm": False,
    "guard": False,
}

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
    # Provoked: ten times the learning rate, and D taught what the paper leaves out, without stabilisers.
    "learning_rate=2e-3": {"learning_rate": 2e-3},
    "literal, learning_rate=2e-3": {"literal": True, "learning_rate": 2e-3},
    "D sees x̂, no stabiliser, learning_rate=2e-3": UNSTEADY,
    "D sees x̂, ε 0.1, learning_rate=2e-3": UNSTEADY | {"reciprocal_epsilon": 0.1},
    "D sees x̂, clipped at 5, learning_rate=2e-3": UNSTEADY | {"clip_norm": 5.0},
    "D sees x̂, ε 0.1, clipped at 5, learning_rate=2e-3": UNSTEADY
    | {"reciprocal_epsilon": 0.1, "clip_norm": 5.0},
}
"""Name to the settings that differ from the defaults."""


def plan_jobs(plan: str, switches=(), seeds: int = 3, gammas=(0.05, 0.0)) -> list[dict]:
    """The runs of a plan, one seed of everything before the next seed.

    Args:
        plan: "forty" takes all development problems, "ledger" and "provoked" one of each data set.
        switches: names in `SWITCHES`; without any, "forty" is default and literal, "provoked" those of ten
            times the learning rate, "ledger" all others.
        seeds: number of seeds; 4 make "forty" 5 problems × 2 γ × 4 seeds = 40 runs a switch.
        gammas: shares of labelled anomalies.
    """
    provoked = [name for name in SWITCHES if "learning_rate=2e-3" in name]
    ledger = [name for name in SWITCHES if name not in provoked]
    names = switches or {"forty": ("default", "literal"), "ledger": ledger, "provoked": provoked}[plan]
    problems = PROBLEMS if plan == "forty" else (("mnist", 5), ("fashion_mnist", 4))
    return [
        {"switch": name, "source": source, "normal_class": digit, "gamma": gamma, "seed": seed}
        for seed in range(seeds)
        for source, digit in problems
        for gamma in gammas
        for name in names
    ]


def run_job(job: dict, data: str, models: dict | None = None) -> dict:
    """Trains one run and returns its record.

    Args:
        job: of `plan_jobs`, with epochs, image_size, normals, batch_size and test_normals.
        data: folder of the data sets.
        models: models of runs before by switch; one that is there is made new instead of built, which saves
            tracing its training step again.
    """
    from study.observation import Observer

    one_thread()
    problem = load_problem(
        os.path.join(data, f"{job['source']}.npz"),
        job["normal_class"],
        job["gamma"],
        job["seed"],
        job["normals"],
        test_normals=job["test_normals"],
        test_anomalies=2 * job["test_normals"],
    )
    models = {} if models is None else models
    model = models[job["switch"]] = new_model(job, models.get(job["switch"]))
    batch_size = job["batch_size"]
    observer = Observer(problem)
    x = np.concatenate([problem.normal, problem.anomaly])
    y = np.repeat([0, 1], [len(problem.normal), len(problem.anomaly)])
    started, computed = time.perf_counter(), time.process_time()
    model.fit(
        x,
        y,
        batch_size,
        job["epochs"],
        seed=job["seed"],
        min_anomalies=batch_size // 8,
        callbacks=[observer],
        verbose=0,
    )
    return job | {
        "normals": len(problem.normal),
        "anomalies": len(problem.anomaly),
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - computed, 1),
        "settings": json.loads(json.dumps(dict(model.settings), default=str)),
        "curve": observer.records,
    }


def new_model(job: dict, used=None):
    """The compiled model of a run; `used`, a model of the same switch, is made new and returned.

    Either gets its first weights from the run's seed, drawn as Keras draws them (Glorot uniform).
    """
    import keras
    import tensorflow as tf

    from agad_tf import AGAD
    from agad_tf.models.updates import assign_all, fresh_values, optimizer_moments

    keras.utils.set_random_seed(job["seed"])
    model = used
    if model is None:
        settings = dict(SWITCHES[job["switch"]])
        constructor = {name: settings.pop(name) for name in ("bn_strategy",) if name in settings}
        side = job["image_size"]
        # Fused, so that both parts are prepared and every score can be recorded.
        model = AGAD((side, side, 1), "encoder_decoder", score="fused", seed=job["seed"], **constructor)
        model.compile(**settings)
    assign_all(model.variables, fresh_values(model.variables, tf.constant([job["seed"], 0])))
    for raw, scoring in (("generator", "scoring_generator"), ("discriminator", "scoring_discriminator")):
        getattr(model, scoring).set_weights(getattr(model, raw).get_weights())
    for optimizer in (model.optimizer, model.discriminator_optimizer):
        moments = [optimizer.iterations, *optimizer_moments(optimizer)]
        assign_all(moments, [keras.ops.zeros_like(moment) for moment in moments])
    return model


def key(job: dict) -> tuple:
    """What makes two runs the same."""
    names = ("switch", "source", "normal_class", "gamma", "seed", "epochs", "image_size", "normals")
    return tuple(job[name] for name in (*names, "batch_size"))


@click.command()
@click.option("--plan", type=click.Choice(["ledger", "forty", "provoked"]), required=True)
@click.option("--data", required=True, help="Folder with mnist.npz and fashion_mnist.npz.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON lines, appended.")
@click.option("--switch", "switches", multiple=True, type=click.Choice(list(SWITCHES)), help="Only these.")
@click.option("--gamma", "gammas", multiple=True, type=float, default=(0.05, 0.0), show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--image-size", default=16, show_default=True)
@click.option("--normals", default=1500, show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--test-normals", default=400, show_default=True, help="Beside twice as many anomalies.")
@click.option("--share", default="0/1", show_default=True, help="i/n: every n-th run, from the i-th.")
@click.option("--minutes", default=240.0, show_default=True, help="Start no run after this long.")
def main(plan, data, out, switches, gammas, seeds, share, minutes, **how):
    """Runs a plan, one run at a time in this process; start as many processes as there are cores."""
    index, count = map(int, share.split("/"))
    deadline = time.monotonic() + 60 * minutes
    models: dict = {}
    jobs = [job | how for job in plan_jobs(plan, switches, seeds, gammas)]
    for job in jobs[index::count]:
        if key(job) in {key(record) for record in read_lines(out)}:
            continue
        if time.monotonic() > deadline:
            print("time is up; run the same command again to go on", file=sys.stderr)
            break
        record = run_job(job, data, models) | {"commit": commit()}
        append_lines(out, [record])
        last = record["curve"][-1]
        final = {name: round(last[name], 3) for name in ("reconstruction", "discriminator", "fused")}
        print(*key(job), final, record["seconds"], flush=True)


if __name__ == "__main__":
    main()
