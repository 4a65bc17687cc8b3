"""AA-BiGAN on the six tables of its paper's Table 2, and on two of them for several c (its Table 5).

    python -m study.tables develop --data DIR --variant clip=0
    python -m study.tables run --data DIR
    python -m study.tables targets --data DIR
    python -m study.tables report

`develop` trains on seeds from 100 on and looks at their validation parts alone: there every setting was
chosen. `run` makes ten seeds of each table and judges their test parts; it can be stopped and started again.
"""

import itertools
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import numpy as np

from study import grid_policies
from study.machine import one_thread
from study.results import append_lines, commit, read_lines

DATASETS = ("arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", "thyroid")
POLICIES = ("last", "normal_only", "all_labels")
PROTOCOL = {"gamma": 0.01, "test": 0.4, "validation": 0.0, "test_validation": 0.2}
"""60 % for training; of the other 40 % a fifth is validation and the rest the test."""

FIRST_DEVELOPMENT_SEED = 100
STEPS, EVALUATIONS = 1500, 12
"""Training steps of every table, whatever its size, and how often validation looks at the scores. What lies
between two looks is an "epoch" of `fit`, the same for all tables: an epoch of the rows is two steps of
arrhythmia and 137 of shuttle, and the averaged weights, whose horizon is told in epochs, would follow."""

RESULTS, TARGETS, DEVELOPMENT = (
    Path(f"study/results/aa_bigan_{name}.jsonl") for name in ("table2", "targets", "development")
)

VARIANTS: dict[str, dict] = {
    "default": {},
    "clip=None": {"model": {"clip": None}},
    "clip=None, average_epochs=10": {"model": {"clip": None}, "compile": {"average_epochs": 10.0}},
    "linear output": {"generator": {"activation": None}},
    "no batch norm": {"generator": {"batch_norm": False}, "encoder": {"batch_norm": False}},
    "learning_rate=3e-4": {"compile": {"learning_rate": 3e-4}},
    "learning_rate=1e-3": {"compile": {"learning_rate": 1e-3}},
    "learning_rate=1e-2": {"compile": {"learning_rate": 1e-2}},
    "equal learning rates": {"compile": {"discriminator_learning_rate": 3e-3}},
    "discriminator first": {"compile": {"update_order": "discriminator_first"}},
    "literal": {"compile": {"literal": True}},
    "latent_dim=4": {"model": {"latent_dim": 4}},
    "latent_dim=8": {"model": {"latent_dim": 8}},
    "latent_dim=32": {"model": {"latent_dim": 32}},
    "clip=0": {"model": {"clip": 0.0}},
    "average_epochs=0": {"compile": {"average_epochs": 0.0}},
    "average_epochs=10": {"compile": {"average_epochs": 10.0}},
    "min_anomalies=66": {"fit": {"min_anomalies": 66}},
    "latent_dim=4, min_anomalies=66": {"model": {"latent_dim": 4}, "fit": {"min_anomalies": 66}},
    "standardised, linear output": {
        "standardise": True,
        "generator": {"activation": None},
        "model": {"clip": 5.0},
    },
    "gamma=0": {"split": {"gamma": 0.0}},
    "gamma=0.005": {"split": {"gamma": 0.005}},  # on arrhythmia one collected anomaly instead of two
    "gamma=0.013": {"split": {"gamma": 0.013}},  # and three
    "ratio=to_normals": {"split": {"ratio": "to_normals"}},
}
"""Name to what differs from the defaults, by section."""


def train_and_watch(data: Path, dataset: str, seed: int, variant: dict, steps: int) -> dict:
    """Trains one detector and looks at its scores `EVALUATIONS` times.

    Seeds from 100 on are for development: their test part is not scored.

    Returns:
        `curve`: of each look the step, the AUROC of both scores on validation and, of report seeds, on
        test, and the mean reconstruction error of the validation normals; `steps`, `seconds` (of the CPU),
        the numbers of rows and the hash of the split.
    """
    import keras
    import tensorflow as tf

    from agad_tf import AABiGAN
    from agad_tf.data.sources.load import load_samples
    from agad_tf.data.splits.protocols import one_class_split

    samples = load_samples(data / f"{dataset}.npz")
    split = one_class_split(samples, **PROTOCOL | variant.get("split", {}), seed=seed)
    parts = {"validation": (split.selection_normal, split.selection_anomaly)}
    if seed < FIRST_DEVELOPMENT_SEED:
        parts["test"] = (split.test_normal, split.test_anomaly)
    keras.utils.set_random_seed(seed)
    rows = np.concatenate([split.train_normal, split.train_anomaly])
    labels = np.repeat([0, 1], [len(split.train_normal), len(split.train_anomaly)])
    between = steps // EVALUATIONS
    curve = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            model.prepare_scoring()
            curve.append({"step": (epoch + 1) * between} | judge(model, samples.x, parts))

    started = time.process_time()
    with networks_of(variant):
        model = AABiGAN(samples.x.shape[1:], seed=seed, score="fused", **variant.get("model", {}))
        model.compile(**variant.get("compile", {}))
        model.fit(
            samples.x[rows],
            labels,
            epochs=EVALUATIONS,
            steps_per_epoch=between,
            seed=seed,
            callbacks=[Watch()],
            verbose=0,
            **variant.get("fit", {}),
        )
    seconds = time.process_time() - started
    tf.keras.backend.clear_session()
    return {
        "curve": curve,
        "steps": steps,
        "seconds": round(seconds, 1),
        "train_normal": len(split.train_normal),
        "train_anomaly": len(split.train_anomaly),
        "split_sha256": split.sha256,
    }


@contextmanager
def networks_of(variant: dict):
    """Networks and scaling of tables with what a variant changes, which the detector offers no switch for."""
    from agad_tf.layers import TableScaling
    from agad_tf.networks import BIGAN_BACKBONES

    adapt = TableScaling.adapt

    def standardise(layer, rows):
        constant = adapt(layer, rows)
        deviation = rows.std(axis=0)
        layer.minimum.assign(rows.mean(axis=0))
        layer.range.assign(np.where(deviation > 0, deviation, 1.0))
        return constant

    usual = encoder, generator, *rest = BIGAN_BACKBONES["mlp"]
    changed = (
        partial(encoder, **variant.get("encoder", {})),
        partial(generator, **variant.get("generator", {})),
    )
    BIGAN_BACKBONES["mlp"] = (*changed, *rest)
    if variant.get("standardise"):
        TableScaling.adapt = standardise
    try:
        yield
    finally:
        BIGAN_BACKBONES["mlp"], TableScaling.adapt = usual, adapt


def judge(model, x: np.ndarray, parts: dict) -> dict:
    """AUROC of each score on each part; of the validation also of their sum, each standardised on training
    normals, and the mean reconstruction error of its normals.
    """
    import tensorflow as tf

    from agad_tf.evaluation.metrics import auroc

    found = {}
    for part, kinds in parts.items():
        labels = np.repeat([0, 1], [len(kind) for kind in kinds])
        scaled = model.preprocess(tf.constant(x[np.concatenate(kinds)]))
        scores = {name: model.raw_score(name, scaled).numpy() for name in model.score_names}
        if part == "validation":
            found["normal_error"] = float(scores["reconstruction"][labels == 0].mean())
            scores["fused"] = model.fuse(list(scores.values())).numpy()
        found |= {f"{part}_{name}": round(auroc(labels, values), 5) for name, values in scores.items()}
    return found


def select(curve: list[dict], policy: str) -> tuple[dict, str]:
    """The look at the scores that a policy takes, and the score it reports.

    "last" takes the last, "normal_only" the one with the lowest error on held-out normals, both with the
    reconstruction error; "all_labels" the best validation AUROC over looks and scores, the papers' way.
    """
    return grid_policies.select(curve, policy, ("reconstruction", "latent"))


def lines_of(record: dict, dataset: str, seed: int, config: dict, code: str) -> list[dict]:
    """One results line a policy, of a report seed; `code` is the commit that was run."""
    lines = []
    for policy in POLICIES:
        look, score = select(record["curve"], policy)
        lines.append(
            {
                "dataset": dataset,
                "seed": seed,
                "policy": policy,
                "score": score,
                "auroc": look[f"test_{score}"],
                "validation_auroc": look[f"validation_{score}"],
                "step": look["step"],
                "config": config,
                **{name: value for name, value in record.items() if name != "curve"},
                "commit": code,
            }
        )
    return lines


def share_of(jobs: list, share: str) -> list:
    """Every n-th job from the i-th, for "i/n"."""
    index, count = map(int, share.split("/"))
    return jobs[index::count]


share_option = click.option("--share", default="0/1", show_default=True, help="i/n: every n-th run.")
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Folder of the six .npz files.",
)


@click.group()
def main():
    """AA-BiGAN on tables: development, Table 2, several c, and their pages."""


@main.command()
@data_option
@share_option
@click.option("--out", type=click.Path(path_type=Path), default=DEVELOPMENT, show_default=True)
@click.option("--variant", "variants", multiple=True, type=click.Choice(list(VARIANTS)), required=True)
@click.option("--dataset", "datasets", multiple=True, type=click.Choice(DATASETS), default=DATASETS)
@click.option("--seeds", default=2, show_default=True, help="Seeds from 100 on.")
@click.option("--steps", default=STEPS, show_default=True)
def develop(data, share, out, variants, datasets, seeds, steps):
    """Trains variants on development seeds and records their validation AUROC."""
    one_thread()
    code = commit()  # now: that which was loaded
    seeds = range(FIRST_DEVELOPMENT_SEED, FIRST_DEVELOPMENT_SEED + seeds)
    for dataset, seed, variant in share_of(list(itertools.product(datasets, seeds, variants)), share):
        job = {"dataset": dataset, "seed": seed, "variant": variant, "steps": steps}
        if any(job.items() <= record.items() for record in read_lines(out)):
            continue
        record = train_and_watch(data, dataset, seed, VARIANTS[variant], steps)
        append_lines(out, [job | record | {"commit": code}])
        last, best = record["curve"][-1], select(record["curve"], "all_labels")
        click.echo(
            f"{variant} {dataset} {seed}: last {last['validation_reconstruction']:.3f} "
            f"latent {last['validation_latent']:.3f}, best {best[0][f'validation_{best[1]}']:.3f} "
            f"({best[1]}, step {best[0]['step']} of {record['steps']}), {record['seconds']} s"
        )


@main.command()
@data_option
@click.option("--out", type=click.Path(path_type=Path), default=DEVELOPMENT, show_default=True)
@click.option("--seeds", default=10, show_default=True, help="Seeds from 100 on.")
def references(data, out, seeds):
    """What scores without any training reach on the validation parts of development seeds."""
    code = commit()
    for dataset, index in itertools.product(DATASETS, range(seeds)):
        job = {"dataset": dataset, "seed": FIRST_DEVELOPMENT_SEED + index, "reference": True}
        if any(job.items() <= record.items() for record in read_lines(out)):
            continue
        append_lines(out, [job | reference_scores(data, dataset, job["seed"]) | {"commit": code}])


def reference_scores(data: Path, dataset: str, seed: int) -> dict:
    """AUROC on the validation part of distances to the training normals, of rows scaled as the model does.

    Returns:
        By "scaled" (no limit) and "clipped" (to [-0.5, 1.5]): of the distance to the normals' mean, to a
        normal drawn at random, as if a generator made good normals that have nothing to do with the row,
        and to the fifth nearest; and the share of the validation normals' squared distance to the mean that
        lies in columns constant in training.
    """
    from sklearn.neighbors import NearestNeighbors

    from agad_tf.data.sources.load import load_samples
    from agad_tf.data.splits.protocols import one_class_split
    from agad_tf.evaluation.metrics import auroc

    samples = load_samples(data / f"{dataset}.npz")
    split = one_class_split(samples, **PROTOCOL, seed=seed)
    train = samples.x[split.train_normal].astype(np.float64)
    kinds = (split.selection_normal, split.selection_anomaly)
    labels = np.repeat([0, 1], [len(kind) for kind in kinds])
    low, high = train.min(axis=0), train.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    normals, rows = (train - low) / width, (samples.x[np.concatenate(kinds)] - low) / width
    drawn = normals[np.random.default_rng(seed).integers(0, len(normals), len(rows))]
    neighbours = NearestNeighbors(n_neighbors=5).fit(normals)
    found = {}
    for name, x in (("scaled", rows), ("clipped", np.clip(rows, -0.5, 1.5))):
        from_mean = np.square(x - normals.mean(axis=0))
        constant = from_mean[labels == 0][:, high == low].sum() / from_mean[labels == 0].sum()
        found[name] = {
            "mean": round(auroc(labels, from_mean.sum(axis=1)), 5),
            "random normal": round(auroc(labels, np.square(x - drawn).sum(axis=1)), 5),
            "fifth neighbour": round(auroc(labels, neighbours.kneighbors(x)[0][:, -1]), 5),
            "constant_share": round(float(constant), 5),
        }
    return found


@main.command()
@data_option
@share_option
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--seeds", type=click.IntRange(1, FIRST_DEVELOPMENT_SEED), default=10, show_default=True)
def run(data, share, out, seeds):
    """Table 2: every table and seed that is not in the results file yet."""
    one_thread()
    code = commit()  # now: that which was loaded
    config = PROTOCOL | {"steps": STEPS}
    for seed, dataset in share_of(list(itertools.product(range(seeds), DATASETS)), share):
        if any((r["dataset"], r["seed"], r["config"]) == (dataset, seed, config) for r in read_lines(out)):
            continue
        record = train_and_watch(data, dataset, seed, {}, STEPS)
        lines = lines_of(record, dataset, seed, config, code)
        append_lines(out, lines)
        scores = ", ".join(f"{line['policy']} {line['auroc']:.3f}" for line in lines)
        click.echo(f"{dataset} {seed}: {scores}; {record['seconds']} s")


@main.command()
@data_option
@share_option
@click.option("--out", type=click.Path(path_type=Path), default=TARGETS, show_default=True)
@click.option("--dataset", "datasets", multiple=True, default=("cardio", "thyroid"), show_default=True)
@click.option("--seeds", default=3, show_default=True)
def targets(data, share, out, datasets, seeds):
    """Several c, the target of G and E, beside the ¾ of `run`."""
    one_thread()
    code = commit()  # now: that which was loaded
    for seed, dataset, c in share_of(
        list(itertools.product(range(seeds), datasets, (0.25, 0.4, 0.6))), share
    ):
        config = PROTOCOL | {"steps": STEPS, "generator_target": c}
        if any((r["dataset"], r["seed"], r["config"]) == (dataset, seed, config) for r in read_lines(out)):
            continue
        record = train_and_watch(data, dataset, seed, {"compile": {"generator_target": c}}, STEPS)
        lines = lines_of(record, dataset, seed, config, code)
        append_lines(out, lines)
        click.echo(f"c {c} {dataset} {seed}: {[line['auroc'] for line in lines]}; {record['seconds']} s")


@main.command()
@click.option("--folder", type=click.Path(path_type=Path, exists=True), default=Path("study/results"))
@click.option("--pages", type=click.Path(path_type=Path), default=Path("docs/results"), show_default=True)
def report(folder, pages):
    """Writes the page of both results files."""
    from study.tables_page import page

    text = page(*(read_lines(folder / path.name) for path in (RESULTS, TARGETS, DEVELOPMENT)))
    (pages / "aa_bigan_table2.md").write_text(text)


if __name__ == "__main__":
    main()
