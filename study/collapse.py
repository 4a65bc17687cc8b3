"""Every loss term of AGAD's generator, and its gradient's norm, step by step through a training.

    python -m study.collapse trace --data DIR --source fashion_mnist --normal-class 4 --literal
    python -m study.collapse plot study/results/collapse_literal.json ... --out FILE.png

On development problems only. The traced training takes the same steps as an untraced one; it costs one more
backward pass a term.
"""

import json
import os
from pathlib import Path

import click
import numpy as np

from study.development import load_problem
from study.machine import one_thread
from study.results import commit

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


def trace(
    problem, image_size: int, epochs: int, batch_size: int, seed: int, every: int, settings: dict, save=None
) -> dict:
    """Trains once and returns the record of every step.

    Args:
        problem: `DevelopmentData`.
        image_size: side of the images.
        epochs, batch_size, seed: of training; an eighth of a batch are anomalies, where there are any.
        every: AUROC is measured after every so many steps.
        settings: of `AGAD.compile`.
        save: called with the record so far after each epoch.

    Returns:
        `steps`: one dict a step. `term/...`: summands of the generator's loss L; `norm/...`: the norms of
        their gradients over all parameters of G, and of the whole, before clipping; `at_d/...`: norms at
        D's logits or features of x̂; `at_image/...`: norms at x̂; `moved`: norm of G's step; `mean/...`: the
        means the terms are made of. `auroc`: step, AUROC of the reconstruction score of the raw generator
        and of the scoring networks.
    """
    import keras

    from study.observation import Observer

    one_thread()
    keras.utils.set_random_seed(seed)
    model = traced_model(
        (image_size, image_size, 1), "encoder_decoder", "shared", True, "fused", seed, **settings
    )
    observer = Observer(problem)
    observer.set_model(model)
    steps, aurocs = [], []
    record = {
        "settings": json.loads(json.dumps(model.settings, default=str)),
        "steps": steps,
        "auroc": aurocs,
    }

    class Recorder(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append({name[5:]: float(v) for name, v in logs.items() if name.startswith("step/")})
            if len(steps) % every == 0:
                observer.on_epoch_end(len(steps) - 1)
                seen = observer.records[-1]
                aurocs.append(
                    {"step": len(steps), **{n: seen[n] for n in ("raw", "reconstruction", "fused")}}
                )

        def on_epoch_end(self, epoch, logs=None):
            if save is not None:
                save(record)

    x = np.concatenate([problem.normal, problem.anomaly])
    y = np.repeat([0, 1], [len(problem.normal), len(problem.anomaly)])
    model.fit(
        x, y, batch_size, epochs, seed=seed, min_anomalies=batch_size // 8, callbacks=[Recorder()], verbose=0
    )
    return record


@click.group()
def main():
    """Traces a training, and draws traces."""


@main.command("trace")
@click.option("--data", required=True, help="Folder with mnist.npz and fashion_mnist.npz.")
@click.option("--source", default="fashion_mnist", show_default=True)
@click.option("--normal-class", default=4, show_default=True)
@click.option("--gamma", default=0.05, show_default=True)
@click.option("--literal/--default", default=False, show_default=True)
@click.option("--normals", default=1500, show_default=True)
@click.option("--image-size", default=16, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--every", default=3, show_default=True, help="Steps between two measurements of AUROC.")
@click.option("--seed", default=0, show_default=True)
@click.option("--set", "extra", multiple=True, help="Other settings of compile, NAME=JSON.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON.")
def trace_command(data, source, normal_class, gamma, literal, normals, extra, out, **how):
    """Trains one development problem and writes what happened in each step."""
    problem = load_problem(os.path.join(data, f"{source}.npz"), normal_class, gamma, how["seed"], normals)
    settings = {name: json.loads(value) for name, _, value in (pair.partition("=") for pair in extra)}
    record = {"source": source, "normal_class": normal_class, "gamma": gamma, "normals": normals, **how}
    record |= {"commit": commit()}
    settings |= {"literal": True} if literal else {}

    def save(traced):
        out.write_text(json.dumps(record | traced | {"steps": list(map(_rounded, traced["steps"]))}) + "\n")

    traced = trace(problem, **how, settings=settings, save=save)
    print(f"{out}: {len(traced['steps'])} steps, AUROC {traced['auroc'][-1]}")


def _rounded(step: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in step.items()}


@main.command("plot")
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="PNG.")
@click.option("--first", default=1, show_default=True, help="First step to draw.")
def plot_command(traces, out, first):
    """Draws traces beside each other: AUROC, gradient norms, D's logits, means under the reciprocals."""
    draw([json.loads(path.read_text()) for path in traces], out, first)
    print(out)


def draw(records: list[dict], out: Path, first: int = 1) -> None:
    """One column a trace; see `trace` for what is drawn."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        4, len(records), figsize=(6.5 * len(records), 12), squeeze=False, sharex=True, sharey="row"
    )
    for column, record in zip(axes.T, records, strict=True):
        steps = np.arange(1, len(record["steps"]) + 1)
        kept = steps >= first
        series = {name: np.array([step[name] for step in record["steps"]]) for name in record["steps"][0]}
        measured = [point for point in record["auroc"] if point["step"] >= first]
        at = [point["step"] for point in measured]
        column[0].plot(at, [point["raw"] for point in measured], label="raw weights")
        column[0].plot(at, [point["reconstruction"] for point in measured], "k--", label="scoring networks")
        for index, name in enumerate(TERMS):
            style = "-" if name.startswith("anomaly") else ":"
            column[1].semilogy(
                steps[kept],
                series[f"norm/{name}"][kept],
                style,
                color=f"C{index}",
                label=name.replace("_", " "),
            )
        column[1].semilogy(steps[kept], series["norm/total"][kept], "k-", linewidth=0.8, label="whole")
        column[2].plot(steps[kept], series["logit_hat_anomaly"][kept], "C4", label="x̂ of anomalies, mean")
        column[2].plot(steps[kept], series["logit_hat_anomaly_lowest"][kept], "C4:", label="and lowest")
        column[2].plot(steps[kept], series["logit_hat_normal"][kept], "C0", label="x̂ of normals, mean")
        for name, colour in zip(ANOMALY_MEANS, ("C4", "C5", "C6"), strict=True):
            values = np.abs(series[f"mean/anomaly_{name}"][kept])
            column[3].semilogy(steps[kept], values, colour, label=name.replace("_", " "))
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
    pyplot.close(figure)


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


if __name__ == "__main__":
    main()
