"""Where does AA-BiGAN put its mass? Two dimensions, four objectives, many seeds.

    python -m study.toy run
    python -m study.toy report

Normals are eight Gaussians on a ring with one of them missing; the collected anomalies lie in the gap, where
a generator that joins neighbouring modes spills mass. Measured is the share of G(z) near the anomalies.
"""

import itertools
import time
from pathlib import Path

import click
import numpy as np

from study.machine import one_thread
from study.results import append_lines, commit, read_lines

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
RESULTS, PAGES = Path("study/results/toy.jsonl"), Path("docs/results")


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


@click.group()
def main():
    """Mass of the generator near collected anomalies, by objective."""


@main.command()
@click.option("--seeds", default=10, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--steps", default=STEPS, show_default=True)
def run(seeds, out, steps):
    """Every objective and seed that is not in the results file yet."""
    one_thread()
    code = commit()  # now: that which was loaded
    for seed, objective in itertools.product(range(seeds), OBJECTIVES):
        job = {"objective": objective, "seed": seed, "steps": steps}
        if any(job.items() <= record.items() for record in read_lines(out)):
            continue
        started = time.process_time()
        made = train(objective, seed, steps)
        record = job | measure(made) | {"seconds": round(time.process_time() - started, 1)}
        # A few samples for the picture.
        record |= {"samples": np.round(made[:400], 3).tolist() if seed < 3 else [], "commit": code}
        append_lines(out, [record])
        click.echo({name: value for name, value in record.items() if name != "samples"})


@main.command()
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--pages", type=click.Path(path_type=Path), default=PAGES, show_default=True)
def report(results, pages):
    """Draws the picture and writes the page."""
    from study import toy_page

    records = read_lines(results)
    toy_page.picture(records, pages / "toy.png")
    (pages / "toy.md").write_text(toy_page.page(records))


if __name__ == "__main__":
    main()
