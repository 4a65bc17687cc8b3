"""What a handful of collected anomalies does to AA-BiGAN: curves, and Figures 4 and 5 of its paper.

Fashion-MNIST, T-shirts (class 0) normal; trousers, shirts and boots (1, 6, 9) collected, γ_l 0 and .05.
After every epoch the AUROC of collected ("known") classes, of the others ("unseen") and of all, by raw and by
averaged weights, on a fixed part of the official test images; at the end on all of them.
"""

from pathlib import Path

import numpy as np

from study.job import Job
from study.lines import runs_in
from study.markdown import table, write_parts
from study.runner import Experiment
from study.training import facts_of, samples_of

NORMAL, COLLECTED = 0, (1, 6, 9)
WATCHED = 2000
GROUPS = {"normal": "normal", "known": "collected classes", "unseen": "unseen classes"}
COLOURS = {"known": "#b5651d", "unseen": "#1f5f8b", "all": "#555555"}
MODELS = Path("runs/reproduce/collected")
"""Where `--work` puts the trained models by default; the pictures of them are drawn while they are there."""


def jobs(seeds: int = 1, epochs: int = 40) -> list[Job]:
    """With and without collected anomalies."""
    return [Job(gamma=gamma, seed=seed, epochs=epochs) for seed in range(seeds) for gamma in (0.0, 0.05)]


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


def make(job: Job, work: Path) -> dict:
    """Trains one detector, or goes on where a checkpoint ends, and keeps it in the work folder."""
    import keras
    import tensorflow as tf

    from agad_tf import AABiGAN
    from agad_tf.training.checkpoints import Checkpoints
    from study.watch import Watch, fit

    samples = samples_of("fashion_mnist")
    split = split_of(samples, job.gamma, job.seed)
    keras.utils.set_random_seed(job.seed)
    model = AABiGAN((32, 32, 1), seed=job.seed)
    model.compile()
    tests, _ = split.labelled("test")
    watched = np.random.default_rng(0).permutation(tests)[:WATCHED]
    shown, classes = model.preprocess(tf.constant(samples.x[watched])), samples.classes[watched]
    networks = {
        "raw": (model.encoder, model.generator),
        "averaged": (model.scoring_encoder, model.scoring_generator),
    }

    def look(logs):
        found = {name: known_unseen(classes, squared_error(*of, shown)) for name, of in networks.items()}
        return {"normal_reconstruction": float(logs["normal_reconstruction"])} | found

    rows, labels = split.labelled("train")
    watch, saver = Watch(model, look), Checkpoints(work / "collected" / f"checkpoints_{job.gamma:g}")
    fit(model, samples.x[rows], labels, watch, [saver], epochs=job.epochs, seed=job.seed)
    final = known_unseen(samples.classes[tests], model.predict(samples.x[tests], verbose=0))
    model.save(work / "collected" / f"gamma_{job.gamma:g}.keras")
    return facts_of(split) | {"final": final, "curve": watch.curve, "seconds": round(saver.seconds, 1)}


# -- pictures and page ---------------------------------------------------------------------------------------


def write(results: Path, pages: Path) -> list[Path]:
    """Writes the page and its curves, and the pictures of the trained models where those are there."""
    records = sorted(runs_in(results / "collected_anomalies.jsonl"), key=lambda record: record["gamma"])
    parts = {"last epoch": last_epoch(records), "every epoch": every_epoch(records)}
    made = [pages / "collected_anomalies_curves.png", write_parts(pages / "collected_anomalies.md", parts)]
    curves(records, made[0])
    # A training that was stopped left its curve, but no model.
    ended = [record for record in records if record["final"]]
    if all((MODELS / f"gamma_{record['gamma']:g}.keras").is_file() for record in ended):
        made += boxes_and_grid(ended, pages)
    return made


def curves(records: list[dict], path: Path) -> None:
    """AUROC of known, unseen and all classes over epochs; raw weights dotted, averaged ones solid."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5 * len(records), 3.6), dpi=110, layout="constrained")
    for axes, record in zip(
        figure.subplots(1, len(records), sharex=True, sharey=True, squeeze=False)[0], records, strict=True
    ):
        epochs = [look["epoch"] for look in record["curve"]]
        for group, colour in COLOURS.items():
            for weights, style in (("averaged", "-"), ("raw", ":")):
                values = [look[weights][group] for look in record["curve"]]
                axes.plot(epochs, values, style, color=colour, label=f"{group}, {weights}")
        axes.set(title=f"γ = {record['gamma']:g}", xlabel="epoch", ylabel="AUROC")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)


def boxes_and_grid(records: list[dict], folder: Path) -> list[Path]:
    """The reconstruction errors of the test images (Figure 4), and a few reconstructions (Figure 5)."""
    import keras
    from matplotlib.figure import Figure

    import agad_tf.models  # noqa: F401, Keras finds the detector's class once it is imported

    samples = samples_of("fashion_mnist")
    figure = Figure(figsize=(4 * len(records), 3.6), dpi=110, layout="constrained")
    columns = []
    for axes, record in zip(
        figure.subplots(1, len(records), sharey=True, squeeze=False)[0], records, strict=True
    ):
        model = keras.saving.load_model(MODELS / f"gamma_{record['gamma']:g}.keras")
        split = split_of(samples, record["gamma"], record["seed"])
        rows, _ = split.labelled("test")
        classes, scores = samples.classes[rows], model.predict(samples.x[rows], verbose=0)
        groups = [_rows_of(name, classes) for name in GROUPS]
        axes.boxplot([scores[group] for group in groups], showfliers=False, tick_labels=list(GROUPS.values()))
        axes.set(title=f"γ = {record['gamma']:g}", ylabel="||x − G(E(x))||²")
        axes.tick_params(axis="x", labelsize=8)
        rng = np.random.default_rng(0)
        picked = np.concatenate([rng.permutation(rows[group])[:6] for group in groups])
        columns.append(np.asarray(model.reconstruct(samples.x[picked])))
        originals = np.asarray(model.preprocess(samples.x[picked]))
    figure.savefig(folder / "collected_anomalies_boxes.png")
    _grid([originals, *columns], ["input", *(f"γ = {r['gamma']:g}" for r in records)], folder)
    return [folder / f"collected_anomalies_{name}.png" for name in ("boxes", "grid")]


def _rows_of(name: str, classes: np.ndarray) -> np.ndarray:
    known = np.isin(classes, COLLECTED)
    return {"normal": classes == NORMAL, "known": known, "unseen": ~known & (classes != NORMAL)}[name]


def _grid(rows: list[np.ndarray], titles: list[str], folder: Path) -> None:
    """One row of images a source; normals, collected and unseen classes from left to right."""
    from matplotlib.figure import Figure

    from agad_tf.evaluation.heatmaps import as_pictures

    count = len(rows[0])
    figure = Figure(figsize=(0.55 * count + 1, 0.62 * len(rows) + 0.5), dpi=130)
    for line, (images, title) in enumerate(zip(rows, titles, strict=True)):
        bottom = 0.02 + 0.78 * (len(rows) - 1 - line) / len(rows)
        axes = figure.add_axes((0.09, bottom, 0.9, 0.78 / len(rows)))
        strip = np.concatenate(list(as_pictures(images, (0.0, 1.0))), axis=1)
        axes.imshow(strip, interpolation="nearest", aspect="equal")
        axes.set_axis_off()
        figure.text(0.01, bottom + 0.39 / len(rows), title, fontsize=8, va="center")
    for part, words in enumerate(GROUPS.values()):
        figure.text(0.09 + 0.9 * (part + 0.5) / 3, 0.88, words, fontsize=8, ha="center")
    figure.savefig(folder / "collected_anomalies_grid.png")


def last_epoch(records: list[dict]) -> str:
    """AUROC of all test images after the last epoch, and of the watched ones after the best."""
    rows = []
    for record in records:
        best = max(record["curve"], key=lambda look: look["averaged"]["all"])
        final = record["final"]
        cells = [f"{final[name]:.3f}" for name in COLOURS] if final else ["stopped", "", ""]
        cells.append(f"{best['averaged']['all']:.3f} at epoch {best['epoch']}")
        cells.append(f"{record['seconds']:.0f}" if final else "")
        rows.append([f"{record['gamma']:g}", record["train_anomaly"], record["epochs"], *cells])
    head = (
        "γ",
        "collected anomalies",
        "epochs",
        "known",
        "unseen",
        "all",
        "best epoch (averaged)",
        "seconds",
    )
    return "\n".join(table(head, rows))


def every_epoch(records: list[dict]) -> str:
    """AUROC by averaged and raw weights at the epochs that all curves have."""
    columns = [(record, weights) for record in records for weights in ("averaged", "raw")]
    titles = [f"γ = {record['gamma']:g}, {weights}: known, unseen, all" for record, weights in columns]
    rows = []
    for index in range(min(len(record["curve"]) for record in records)):
        looks = [record["curve"][index][weights] for record, weights in columns]
        rows.append([index + 1, *(", ".join(f"{look[name]:.3f}" for name in COLOURS) for look in looks)])
    return "\n".join(table(["epoch", *titles], rows))


EXPERIMENT = Experiment(
    "AA-BiGAN with and without collected anomalies, epoch by epoch",
    jobs,
    make,
    "collected_anomalies.jsonl",
    report=write,
)
