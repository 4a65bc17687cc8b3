"""How training behaves, epoch by epoch, on the development problems, with one switch turned at a time.

Every run is one line with its settings and, for each epoch, the AUROC of each score, what can be known
without anomalies, and the losses. Short runs: small images, few normals and small batches, so that many fit
on two cores; an eighth of a batch are anomalies, as in the paper's 32 of 256.
"""

import json
from pathlib import Path

from agad_tf.errors import InputError
from study import readings
from study.development import PROBLEMS, load_problem
from study.job import Job
from study.runner import Experiment
from study.switches import SWITCHES


def jobs(
    seeds: int = 3,
    plan: str = "ledger",
    switch: str | None = None,
    gamma: float | None = None,
    epochs: int = 5,
    image_size: int = 16,
    normals: int = 672,
    batch_size: int = 32,
    test_normals: int = 200,
) -> list[Job]:
    """The runs of a plan, one seed of everything before the next seed.

    Args:
        seeds: number of seeds; 4 make "forty" 5 problems × 2 γ × 4 seeds = 40 runs a switch.
        plan: "forty" takes all development problems, "ledger" and "provoked" one of each data set.
        switch: a name in `SWITCHES`; without one, "forty" is default and literal, "provoked" those of ten
            times the learning rate, "ledger" all others.
        gamma: share of labelled anomalies; without one, .05 and 0.
        epochs, image_size, normals, batch_size, test_normals: the size of every run; the test has twice as
            many anomalies as normals.
    """
    provoked = [name for name in SWITCHES if "learning_rate=2e-3" in name]
    ledger = [name for name in SWITCHES if name not in provoked]
    plans = {"forty": ("default", "literal"), "ledger": ledger, "provoked": provoked}
    if plan not in plans:
        raise InputError(f"plan expects one of {', '.join(plans)}, received '{plan}'")
    if switch is not None and switch not in SWITCHES:
        raise InputError(f"switch expects one of {', '.join(SWITCHES)}, received '{switch}'")
    sizes = {"epochs": epochs, "image_size": image_size, "normals": normals, "batch_size": batch_size}
    return [
        Job(
            switch=name,
            source=source,
            normal_class=digit,
            gamma=share,
            seed=seed,
            **sizes,
            test_normals=test_normals,
        )
        for seed in range(seeds)
        for source, digit in (PROBLEMS if plan == "forty" else (("mnist", 5), ("fashion_mnist", 4)))
        for share in ((0.05, 0.0) if gamma is None else (float(gamma),))
        for name in (plans[plan] if switch is None else (switch,))
    ]


_MODELS: dict = {}
"""Models of earlier runs by switch and size: one is made new instead of built, which saves tracing it."""


def make(job: Job, work: Path) -> dict:
    """Trains one run and returns its record."""
    from study.observation import observer
    from study.watch import Watch, fit

    sizes = {"test_normals": job.test_normals, "test_anomalies": 2 * job.test_normals}
    problem = load_problem(job.source, job.normal_class, job.gamma, job.seed, job.normals, **sizes)
    kind = job.switch, job.image_size
    model = _MODELS[kind] = new_model(job, _MODELS.get(kind))
    watch = Watch(model, observer(model, problem))
    how = {"batch_size": job.batch_size, "min_anomalies": job.batch_size // 8}
    times = fit(model, *problem.train, watch, epochs=job.epochs, seed=job.seed, **how)
    return times | {
        "normals": len(problem.normal),
        "anomalies": len(problem.anomaly),
        "split_sha256": problem.split_sha256,
        "settings": json.loads(json.dumps(dict(model.settings), default=str)),
        "curve": watch.curve,
    }


def new_model(job: Job, used=None):
    """The compiled model of a run; `used`, a model of the same switch, is made new and returned.

    Either gets its first weights from the run's seed, drawn as Keras draws them (Glorot uniform).
    """
    import keras
    import tensorflow as tf

    from agad_tf import AGAD
    from agad_tf.models.updates import assign_all, fresh_values, optimizer_moments

    keras.utils.set_random_seed(job.seed)
    model = used
    if model is None:
        settings = dict(SWITCHES[job.switch])
        constructor = {name: settings.pop(name) for name in ("bn_strategy",) if name in settings}
        side = job.image_size
        # Fused, so that both parts are prepared and every score can be recorded; no part that came later.
        constructor |= {"score": "fused", "score_share": None}
        model = AGAD((side, side, 1), "encoder_decoder", seed=job.seed, **constructor)
        model.compile(**settings)
    assign_all(model.variables, fresh_values(model.variables, tf.constant([job.seed, 0])))
    for raw, scoring in (("generator", "scoring_generator"), ("discriminator", "scoring_discriminator")):
        getattr(model, scoring).set_weights(getattr(model, raw).get_weights())
    for optimizer in (model.optimizer, model.discriminator_optimizer):
        moments = [optimizer.iterations, *optimizer_moments(optimizer)]
        assign_all(moments, [keras.ops.zeros_like(moment) for moment in moments])
    return model


EXPERIMENT = Experiment(
    "AGAD epoch by epoch on development problems, one switch at a time",
    jobs,
    make,
    "stability.jsonl",
    report=readings.write,
)
