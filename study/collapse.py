"""Every loss term of AGAD's generator, and its gradient's norm, step by step through a training.

On development problems only. The traced training takes the same steps as an untraced one; it costs one more
backward pass a term.
"""

import json
from pathlib import Path

import numpy as np

from study.development import load_problem
from study.job import Job
from study.lines import runs_in
from study.runner import Experiment

ANOMALY_MEANS = ("adversarial", "contextual_adversarial", "latent")
"""The means under the reciprocals of equation (10)."""

TERMS = (
    "normal_adversarial",
    "normal_contextual",
    "normal_contextual_adversarial",
    "normal_latent",
    *(f"anomaly_{name}" for name in ANOMALY_MEANS),
)
"""The summands of the generator's loss."""

DISCRIMINATOR_TERMS = ("normal_adversarial", "normal_latent", "anomaly_adversarial", "anomaly_latent")
"""The generator's terms whose gradient passes through D."""


def traced_model(*arguments, **settings):
    """An AGAD whose training logs carry `step/...`: what `trace` records of each step, not its epoch mean."""
    import tensorflow as tf

    from agad_tf import AGAD
    from agad_tf.losses import agad as losses

    class TracedAGAD(AGAD):
        def train_step(self, data):
            logs = super().train_step(data)
            return logs | {f"step/{name}": value for name, value in self._of_step.items()}

        def _generator_loss(self, passed):
            loss, logs = super()._generator_loss(passed)
            weights = self.loss_weights
            means = {
                name: logs[f"anomaly_{name}"] for name in ("adversarial", "contextual_adversarial", "latent")
            }
            anomaly = losses.anomaly_terms(
                **means, weights=weights, epsilon=self.settings["reciprocal_epsilon"]
            )
            # Named as in the logs; the values are the summands of L, weight and reciprocal applied.
            self._terms = {
                "normal_adversarial": weights.adversarial * logs["normal_adversarial"],
                "normal_contextual": weights.contextual * logs["normal_contextual"],
                "normal_contextual_adversarial": weights.contextual_adversarial
                * logs["normal_contextual_adversarial"],
                "normal_latent": weights.latent * logs["normal_latent"],
            } | {f"anomaly_{name}": term for name, term in anomaly.items()}
            self._passed = passed
            logit, is_anomaly, is_normal = passed["logit_hat"], passed["anomaly"], passed["normal"]
            self._of_step = {f"mean/{name}": value for name, value in logs.items()}
            self._of_step |= {
                "logit_hat_normal": tf.reduce_sum(logit * is_normal) / tf.reduce_sum(is_normal),
                "logit_hat_anomaly": tf.reduce_sum(logit * is_anomaly)
                / tf.maximum(tf.reduce_sum(is_anomaly), 1),
                "logit_hat_anomaly_lowest": tf.reduce_min(tf.where(is_anomaly > 0, logit, np.inf)),
                "logit_hat_normal_lowest": tf.reduce_min(tf.where(is_normal > 0, logit, np.inf)),
            }
            return loss, logs

        def step(self, tape, scaled_loss, variables, optimizer):
            if optimizer is self.optimizer:
                parts = {name: tape.gradient(term, variables) for name, term in self._terms.items()}
                for name, gradients in parts.items():
                    self._of_step[f"term/{name}"] = self._terms[name]
                    self._of_step[f"norm/{name}"] = tf.linalg.global_norm(gradients)
                for name in DISCRIMINATOR_TERMS:
                    at = self._passed["logit_hat" if name.endswith("adversarial") else "features_hat"]
                    at_d = tape.gradient(self._terms[name], at)
                    at_image = tape.gradient(self._terms[name], self._passed["reconstruction"])
                    self._of_step[f"at_d/{name}"] = tf.norm(at_d)
                    self._of_step[f"at_image/{name}"] = tf.norm(at_image)
                self._of_step["norm/total"] = tf.linalg.global_norm(tape.gradient(scaled_loss, variables))
                before = [tf.identity(variable) for variable in variables]
                result = super().step(tape, scaled_loss, variables, optimizer)
                moved = [tf.identity(v) - b for v, b in zip(variables, before, strict=True)]
                self._of_step["moved"] = tf.linalg.global_norm(moved)
                return result
            return super().step(tape, scaled_loss, variables, optimizer)

    model = TracedAGAD(*arguments)
    model.compile(**settings)
    return model


def trace(model, problem, epochs: int, batch_size: int, seed: int, every: int) -> dict:
    """Trains once and returns the record of every step.

    Args:
        model: of `traced_model`.
        problem: `DevelopmentData`.
        epochs, batch_size, seed: of training; an eighth of a batch are anomalies, where there are any.
        every: AUROC is measured after every so many steps.

    Returns:
        `steps`: one dict a step. `term/...`: summands of the generator's loss L; `norm/...`: the norms of
        their gradients over all parameters of G, and of the whole, before clipping; `at_d/...`: norms at
        D's logits or features of x̂; `at_image/...`: norms at x̂; `moved`: norm of G's step; `mean/...`: the
        means the terms are made of. `auroc`: step, AUROC of the reconstruction score of the raw generator
        and of the scoring networks.
    """
    import keras

    from study.observation import observer
    from study.watch import Watch, fit

    steps, aurocs = [], []
    by_step = Watch(model, observer(model, problem))

    def after_step(batch, logs):
        steps.append({name[5:]: float(v) for name, v in logs.items() if name.startswith("step/")})
        if len(steps) % every == 0:
            seen = by_step.see(len(steps))
            aurocs.append({"step": len(steps)} | {n: seen[n] for n in ("raw", "reconstruction", "fused")})

    recorder = keras.callbacks.LambdaCallback(on_train_batch_end=after_step)
    how = {"batch_size": batch_size, "epochs": epochs, "min_anomalies": batch_size // 8}
    # No looks at epochs: those are at steps.
    times = fit(model, *problem.train, Watch(model, None, looks=0), [recorder], seed=seed, **how)
    settings = json.loads(json.dumps(dict(model.settings), default=str))
    return times | {"settings": settings, "steps": steps, "auroc": aurocs}


UNSTEADY = {
    "reciprocal_epsilon": 0.0,
    "clip_norm": None,
    "average_epochs": 0.0,
    "reestimate_batch_norm": False,
    "guard": False,
    "discriminator_sees_anomaly_reconstructions": True,
}
TRACES = {"literal": {"literal": True}, "seen": UNSTEADY}
"""Name to settings: the paper's algorithm, and D taught what the paper leaves out, without stabilisers."""


def jobs(
    source: str = "fashion_mnist",
    normal_class: int = 4,
    gamma: float = 0.05,
    normals: int = 672,
    image_size: int = 16,
    epochs: int = 5,
    batch_size: int = 32,
    every: int = 12,
    seeds: int = 1,
    learning_rate: float = 0.002,
) -> list[Job]:
    """Both traces of a development problem; see `trace`."""
    sizes = {"normals": normals, "image_size": image_size, "epochs": epochs, "batch_size": batch_size}
    about = {"source": source, "normal_class": normal_class, "gamma": gamma, **sizes, "every": every}
    return [
        Job(about, trace=name, learning_rate=learning_rate, seed=seed)
        for seed in range(seeds)
        for name in TRACES
    ]


def make(job: Job, work: Path) -> dict:
    """Traces one training."""
    import keras

    problem = load_problem(job.source, job.normal_class, job.gamma, job.seed, job.normals)
    keras.utils.set_random_seed(job.seed)
    shape = (job.image_size, job.image_size, 1)
    settings = TRACES[job.trace] | {"learning_rate": job.learning_rate}
    model = traced_model(shape, "encoder_decoder", "shared", True, "fused", job.seed, **settings)
    traced = trace(model, problem, job.epochs, job.batch_size, job.seed, job.every)
    steps = [{name: float(f"{value:.4g}") for name, value in step.items()} for step in traced["steps"]]
    return traced | {"steps": steps, "split_sha256": problem.split_sha256}


def write(results: Path, pages: Path) -> list[Path]:
    """Draws the traces beside each other."""
    draw(runs_in(results / "collapse.jsonl"), pages / "collapse.png")
    return [pages / "collapse.png"]


def draw(records: list[dict], out: Path) -> None:
    """One column a trace: AUROC, gradient norms, D's logits, means under the reciprocals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5 * len(records), 12))
    axes = figure.subplots(4, len(records), squeeze=False, sharex=True, sharey="row")
    for column, record in zip(axes.T, records, strict=True):
        steps = np.arange(1, len(record["steps"]) + 1)
        series = {name: np.array([step[name] for step in record["steps"]]) for name in record["steps"][0]}
        measured = record["auroc"]
        at = [point["step"] for point in measured]
        column[0].plot(at, [point["raw"] for point in measured], label="raw weights")
        column[0].plot(at, [point["reconstruction"] for point in measured], "k--", label="scoring networks")
        for index, name in enumerate(TERMS):
            style = "-" if name.startswith("anomaly") else ":"
            column[1].semilogy(
                steps,
                series[f"norm/{name}"],
                style,
                color=f"C{index}",
                label=name.replace("_", " "),
            )
        column[1].semilogy(steps, series["norm/total"], "k-", linewidth=0.8, label="whole")
        column[2].plot(steps, series["logit_hat_anomaly"], "C4", label="x̂ of anomalies, mean")
        column[2].plot(steps, series["logit_hat_anomaly_lowest"], "C4:", label="and lowest")
        column[2].plot(steps, series["logit_hat_normal"], "C0", label="x̂ of normals, mean")
        for name, colour in zip(ANOMALY_MEANS, ("C4", "C5", "C6"), strict=True):
            values = np.abs(series[f"mean/anomaly_{name}"])
            column[3].semilogy(steps, values, colour, label=name.replace("_", " "))
        column[0].set_title(_title(record), fontsize=10)
        column[-1].set_xlabel("step")
    names = ("AUROC", "gradient norm over G's parameters", "D's logit", "means under the reciprocals")
    for row, name in zip(axes, names, strict=True):
        row[0].set_ylabel(name)
        row[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        for axis in row:
            axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out, dpi=80)


def _title(record: dict) -> str:
    settings = record["settings"]
    parts = [
        f"{record['source']} {record['normal_class']}, γ {record['gamma']}",
        f"learning rate {settings['learning_rate']:g}",
    ]
    if settings["literal"]:
        return ", ".join(parts) + "\nliteral"
    clip = "not clipped" if settings["clip_norm"] is None else f"clipped at {settings['clip_norm']:g}"
    changed = [f"ε {settings['reciprocal_epsilon']:g}", clip]
    if settings["discriminator_sees_anomaly_reconstructions"]:
        changed.append("D sees x̂ of anomalies")
    return ", ".join(parts) + "\n" + ", ".join(changed)


EXPERIMENT = Experiment(
    "Every loss term of AGAD step by step, in two trainings that lose",
    jobs,
    make,
    "collapse.jsonl",
    report=write,
)
