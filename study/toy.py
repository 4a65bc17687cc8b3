"""Where does AA-BiGAN put its mass? Two dimensions, four objectives, many seeds.

Normals are eight Gaussians on a ring with one of them missing; the collected anomalies lie in the gap, where
a generator that joins neighbouring modes spills mass. Measured is the share of G(z) near the anomalies.
"""

import statistics
import time
from pathlib import Path

import numpy as np

from study.job import Job
from study.lines import runs_in
from study.markdown import table, write_parts
from study.runner import Experiment

OBJECTIVES = {
    "(7), (8)": {"anomalies": False, "generator": 0.5},
    "(9), (10)": {"anomalies": True, "generator": 0.5, "anomaly": 0.0},
    "(15), (16), c = .5": {"anomalies": True, "generator": 0.5},
    "(15), (16), c = .75": {"anomalies": True, "generator": 0.75},
}
"""Name to whether anomalies are used, c, and D's target for anomalies where it is not (a + b) / 2."""

MODES, SPREAD, LATENT = 8, 0.12, 2
GAP = np.array([1.0, 0.0])  # where the missing mode would be, and the anomalies are
NEAR = 3 * SPREAD
STEPS, BATCH, DRAWN = 4000, 256, 20_000


def sample_normals(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 2) from seven Gaussians at 45° to 315° on the unit circle."""
    angles = 2 * np.pi * rng.integers(1, MODES, count) / MODES
    centres = np.stack([np.cos(angles), np.sin(angles)], 1)
    return (centres + SPREAD * rng.normal(size=(count, 2))).astype(np.float32)


def sample_anomalies(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 2) from the Gaussian that the ring lacks."""
    return (GAP + SPREAD * rng.normal(size=(count, 2))).astype(np.float32)


def train(objective: str, seed: int, steps: int = STEPS) -> np.ndarray:
    """Trains E, G and D with equations (15) and (16), without D'; returns `DRAWN` samples G(z), (n, 2)."""
    import keras
    import tensorflow as tf

    from agad_tf.losses.aa_bigan import Targets, discriminator_loss, generator_loss
    from agad_tf.networks.mlp import MLPEncoder, MLPGenerator, MLPPairDiscriminator

    how = OBJECTIVES[objective]
    targets = Targets(generator=how["generator"], anomaly=how.get("anomaly"))
    keras.utils.set_random_seed(seed)
    units = {"units": (64, 64), "batch_norm": False}
    encoder = MLPEncoder((2,), LATENT, **units)
    generator = MLPGenerator((2,), LATENT, activation=None, **units)
    discriminator = MLPPairDiscriminator(2, LATENT, units=(64, 64))
    optimizers = [keras.optimizers.Adam(1e-3, 0.5, 0.9), keras.optimizers.Adam(1e-3, 0.5, 0.9)]
    making = encoder.trainable_variables + generator.trainable_variables
    judging = discriminator.trainable_variables
    optimizers[0].build(making)
    optimizers[1].build(judging)
    normal = np.float32(np.arange(BATCH) < (BATCH // 2 if how["anomalies"] else BATCH))

    def step(x, z):
        with tf.GradientTape(persistent=True) as tape:
            code, made = encoder(x), generator(z)
            judged = discriminator((tf.concat([x, made], 0), tf.concat([code, z], 0)))
            real, generated = tf.split(judged, 2)
            loss_d, _ = discriminator_loss(real, generated, normal, 1 - normal, targets)
            loss_g, _ = generator_loss(real, generated, normal, 1 - normal, targets)
        optimizers[1].apply(tape.gradient(loss_d, judging), judging)
        optimizers[0].apply(tape.gradient(loss_g, making), making)

    @tf.function  # all steps in one graph: calling it for each would take longer than the steps
    def train_on(batches, noise):
        for index in tf.range(len(batches)):
            step(batches[index], noise[index])

    rng = np.random.default_rng(seed)
    normals = int(normal.sum())
    parts = (sample_normals(rng, steps * normals), sample_anomalies(rng, steps * (BATCH - normals)))
    batches = np.concatenate([part.reshape(steps, -1, 2) for part in parts], axis=1)
    noise = rng.normal(size=(steps, BATCH, LATENT)).astype(np.float32)
    train_on(tf.constant(batches), tf.constant(noise))
    z = np.random.default_rng(seed + 1).normal(size=(DRAWN, LATENT)).astype(np.float32)
    return generator(z).numpy()


def measure(made: np.ndarray) -> dict:
    """Share of samples near the anomalies, and near any mode of the normals; number of modes met."""
    angles = 2 * np.pi * np.arange(1, MODES) / MODES
    centres = np.stack([np.cos(angles), np.sin(angles)], 1)
    near = np.linalg.norm(made[:, None] - centres, axis=-1) < NEAR  # (n, modes)
    return {
        "near_anomalies": float((np.linalg.norm(made - GAP, axis=1) < NEAR).mean()),
        "near_normals": float(near.any(1).mean()),
        "modes": int((near.mean(0) > 0.02).sum()),
    }


def jobs(seeds: int = 10, steps: int = STEPS) -> list[Job]:
    """Every objective, seed by seed."""
    return [Job(objective=name, seed=seed, steps=steps) for seed in range(seeds) for name in OBJECTIVES]


def make(job: Job, work: Path) -> dict:
    """Trains and measures; a few samples are kept for the picture."""
    started = time.process_time()
    made = train(job.objective, job.seed, job.steps)
    seconds = {"seconds": round(time.process_time() - started, 1)}
    return measure(made) | seconds | {"samples": np.round(made[:400], 3).tolist() if job.seed < 3 else []}


# -- the picture and the page --------------------------------------------------------------------------------


def by_objective(records: list[dict]) -> dict[str, list[dict]]:
    """The records of each objective, by seed."""
    return {
        name: sorted((r for r in records if r["objective"] == name), key=lambda r: r["seed"])
        for name in OBJECTIVES
    }


def paired_counts(records: list[dict], first: str, second: str) -> tuple[int, int]:
    """In how many seeds the first objective has less mass near the anomalies than the second; of how many."""
    groups = by_objective(records)
    mass = {name: {r["seed"]: r["near_anomalies"] for r in groups[name]} for name in (first, second)}
    seeds = mass[first].keys() & mass[second].keys()
    return sum(mass[first][seed] < mass[second][seed] for seed in seeds), len(seeds)


def picture(records: list[dict], path: Path) -> None:
    """Above, G(z) of one seed for each objective; below, the mass near the anomalies of every seed."""
    groups = by_objective(records)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(OBJECTIVES), 6.4), dpi=110, layout="constrained")
    axes = figure.subplots(2, len(OBJECTIVES), sharey="row", height_ratios=(1, 0.8))
    rng = np.random.default_rng(0)
    normals, anomalies = sample_normals(rng, 700), sample_anomalies(rng, 100)
    for above, below, (name, runs) in zip(*axes, groups.items(), strict=True):
        above.scatter(*normals.T, s=4, color="#c8d3dd", label="normals")
        above.scatter(*anomalies.T, s=4, color="#e4a6a6", label="collected anomalies")
        shown = next((run for run in runs if run["samples"]), None)
        if shown:
            above.scatter(*np.array(shown["samples"]).T, s=3, color="#1f5f8b", label="G(z)")
        circle = np.linspace(0, 2 * np.pi, 100)
        above.plot(GAP[0] + NEAR * np.cos(circle), GAP[1] + NEAR * np.sin(circle), color="#a03030", lw=0.8)
        above.set(title=name, xlim=(-1.8, 1.8), ylim=(-1.8, 1.8), aspect="equal", xticks=[], yticks=[])
        mass = [100 * run["near_anomalies"] for run in runs]
        below.bar([run["seed"] for run in runs], mass, color="#1f5f8b")
        below.set(xlabel="seed", xticks=[run["seed"] for run in runs])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3, loc="outside upper center", markerscale=2)
    axes[1, 0].set_ylabel("% of G(z) near the anomalies")
    figure.savefig(path)


def part(records: list[dict]) -> str:
    """The table of the page."""
    groups = by_objective(records)
    rows = []
    for name, runs in groups.items():
        if not runs:
            continue
        mass = [100 * run["near_anomalies"] for run in runs]
        near = f"{statistics.mean(mass):.2f} ({min(mass):.2f} to {max(mass):.2f})"
        normal = statistics.mean(100 * run["near_normals"] for run in runs)
        modes = statistics.mean(run["modes"] for run in runs)
        less = "" if name == "(7), (8)" else "{} of {}".format(*paired_counts(records, name, "(7), (8)"))
        rows.append([name, len(runs), near, f"{normal:.1f}", f"{modes:.1f}", less])
    head = ("objective", "seeds", "% of G(z) near the anomalies: mean (least to most)")
    head += ("% near a mode of the normals", "modes met of 7", "seeds with less mass there than (7), (8)")
    return "\n".join(table(head, rows))


def write(results: Path, pages: Path) -> list[Path]:
    """Draws the picture and writes the page."""
    records = runs_in(results / "toy.jsonl")
    picture(records, pages / "toy.png")
    return [pages / "toy.png", write_parts(pages / "toy.md", {"toy": part(records)})]


EXPERIMENT = Experiment(
    "Where AA-BiGAN puts its mass, in two dimensions", jobs, make, "toy.jsonl", report=write
)
