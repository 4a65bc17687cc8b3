"""What a handful of collected anomalies does to AA-BiGAN: curves, and Figures 4 and 5 of its paper.

    python -m study.collected_anomalies run --data fashion_mnist.npz --work runs/collected
    python -m study.collected_anomalies report --data fashion_mnist.npz --work runs/collected

Fashion-MNIST, T-shirts (class 0) normal; trousers, shirts and boots (1, 6, 9) collected, γ_l 0 and .05.
After every epoch the AUROC of collected ("known") classes, of the others ("unseen") and of all, by raw and by
averaged weights, on a fixed part of the official test images; at the end on all of them.
"""

from pathlib import Path

import click
import numpy as np

from study.machine import one_thread
from study.results import append_lines, commit, read_lines

NORMAL, COLLECTED, GAMMAS = 0, (1, 6, 9), (0.0, 0.05)
WATCHED = 2000
RESULTS = Path("study/results/collected_anomalies.jsonl")


def split_of(samples, gamma: float, seed: int):
    """All training T-shirts but none held out; anomalies of the collected classes, γ a share of the total."""
    from agad_tf.data.splits.protocols import one_class_split

    return one_class_split(samples, NORMAL, gamma, anomaly_classes=COLLECTED, validation=0.0, seed=seed)


def known_unseen(classes: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """AUROC of the normals against the collected classes, the other ones, and all."""
    from agad_tf.evaluation.metrics import auroc

    anomaly, known = classes != NORMAL, np.isin(classes, COLLECTED)
    groups = {"known": known | ~anomaly, "unseen": ~known, "all": np.ones(len(classes), bool)}
    return {name: round(auroc(anomaly[rows], scores[rows]), 5) for name, rows in groups.items()}


def squared_error(encoder, generator, x) -> np.ndarray:
    """||x − G(E(x))||² of preprocessed images by any pair of networks, in inference mode; (n,)."""
    import tensorflow as tf

    errors = []
    for start in range(0, len(x), 256):
        batch = x[start : start + 256]
        made = generator(encoder(batch, training=False), training=False)
        errors.append(tf.reduce_sum(tf.math.squared_difference(batch, made), axis=[1, 2, 3]).numpy())
    return np.concatenate(errors)


def train(samples, split, seed: int, epochs: int, checkpoints: Path):
    """Trains one detector, or goes on where a checkpoint ends; returns it, its curve and the seconds."""
    import keras
    import tensorflow as tf

    from agad_tf import AABiGAN
    from agad_tf.training.checkpoints import Checkpoints

    keras.utils.set_random_seed(seed)
    model = AABiGAN((32, 32, 1), seed=seed)
    model.compile()
    tests = np.concatenate([split.test_normal, split.test_anomaly])
    watched = np.random.default_rng(0).permutation(tests)[:WATCHED]
    shown, classes = model.preprocess(tf.constant(samples.x[watched])), samples.classes[watched]

    class Watch(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.curve = []

        def on_epoch_end(self, epoch, logs=None):
            self.model.prepare_scoring()
            look = {"epoch": epoch + 1, "normal_reconstruction": float(logs["normal_reconstruction"])}
            for name, networks in (
                ("raw", (model.encoder, model.generator)),
                ("averaged", (model.scoring_encoder, model.scoring_generator)),
            ):
                look[name] = known_unseen(classes, squared_error(*networks, shown))
            self.curve.append(look)
            click.echo(look)

        def get_state(self):
            return {"curve": self.curve}

        def set_state(self, state):
            self.curve[:] = state["curve"]

    watch, saver = Watch(), Checkpoints(checkpoints)
    rows = np.concatenate([split.train_normal, split.train_anomaly])
    labels = np.repeat([0, 1], [len(split.train_normal), len(split.train_anomaly)])
    model.fit(samples.x[rows], labels, epochs=epochs, seed=seed, callbacks=[watch, saver], verbose=0)
    return model, list(watch.curve), saver.seconds


@click.group()
def main():
    """The effect of collected anomalies on known and unseen classes."""


data_option = click.option("--data", required=True, help="Fashion-MNIST: an .npz or tfds:fashion_mnist.")
work_option = click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="Folder for the trained models."
)
out_option = click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)


@main.command()
@data_option
@work_option
@out_option
@click.option("--epochs", default=40, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--gamma", "gammas", multiple=True, type=float, default=GAMMAS, show_default=True)
def run(data, work, out, epochs, seed, gammas):
    """Trains with and without collected anomalies what is not in the results file yet."""
    from agad_tf.data.sources.load import load_samples

    one_thread()
    code = commit()  # now: that which was loaded
    samples = load_samples(data)
    for gamma in gammas:
        job = {"gamma": gamma, "seed": seed, "epochs": epochs}
        if any(job.items() <= record.items() for record in read_lines(out)):
            continue
        split = split_of(samples, gamma, seed)
        model, curve, seconds = train(samples, split, seed, epochs, work / f"checkpoints_{gamma:g}")
        tests = np.concatenate([split.test_normal, split.test_anomaly])
        final = known_unseen(samples.classes[tests], model.predict(samples.x[tests], verbose=0))
        work.mkdir(parents=True, exist_ok=True)
        model.save(work / f"gamma_{gamma:g}.keras")
        facts = {"train_normal": len(split.train_normal), "train_anomaly": len(split.train_anomaly)}
        facts |= {"split_sha256": split.sha256, "seconds": round(seconds, 1), "commit": code}
        append_lines(out, [job | {"final": final, "curve": curve} | facts])


@main.command()
@data_option
@work_option
@out_option
@click.option("--pages", type=click.Path(path_type=Path), default=Path("docs/results"), show_default=True)
def report(data, work, out, pages):
    """Draws the curves, boxes and reconstructions, and writes the page."""
    from study import collected_page

    collected_page.write(read_lines(out), data, work, pages)


if __name__ == "__main__":
    main()
