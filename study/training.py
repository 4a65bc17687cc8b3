"""A training of the papers' methods: its job, its data and split, and its results lines by every policy."""

import functools
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np

from agad_tf.data.sources.load import Samples, find, load_samples
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import auroc, known_unseen_auroc
from study.job import Job
from study.policies import POLICIES, possible, select

TABLES = ("arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", "thyroid")

SOURCES = {
    **{name: (name,) for name in ("mnist", "fashion_mnist", "pneumoniamnist", "digits", *TABLES)},
    "cifar10": ("cifar10", "cifar10_jpeg"),
    "cifar100": ("cifar100", "cifar100_jpeg"),
}
"""Data set to the names it is looked for under; results say which was found."""

PROTOCOL = {"gamma": 0.01, "test": 0.4, "validation": 0.0, "test_validation": 0.2}
"""Of tables: 60 % for training; of the other 40 % a fifth is validation and the rest the test."""

FIRST_DEVELOPMENT_SEED = 100

STEPS, EVALUATIONS = 1500, 12
"""Training steps of AA-BiGAN on every table, whatever its size, and how often its scores are looked at. What
lies between two looks is an "epoch" of `fit`, the same for all tables: an epoch of the rows is two steps of
arrhythmia and 137 of shuttle, and the averaged weights, whose horizon is counted in epochs, would follow."""

IMAGE_PROTOCOL = {"validation": 0.0, "test": 0.3, "test_validation": 0.2}
"""Every training normal trains; a fifth of the official test part is the validation part. The share of the
test is for data that come without a split of their own."""

LOOKS = 20
"""How often the scores are looked at, evenly over the epochs."""

AGAD_EPOCHS = 15
"""The paper does not say; the number that GANomaly, which it extends, trains."""

AA_BIGAN_EPOCHS = {"cifar10": 1000, "cifar100": 1000}
"""Of the public code; 200 for the others."""

AA_BIGAN_ANOMALIES = {0.2: 50, 0.1: 22, 0.05: 10, 0.01: 22}
"""γ_l to anomalies beside 200 normals in a batch, of the public code; 50 on CIFAR-10 at .01."""

CHECKPOINT_EVERY = "2 minutes"

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn")


def training(
    dataset: str,
    method: str,
    normal_class: int | None = None,
    anomaly_classes: tuple[int, ...] | None = None,
    anomaly_class_count: int | None = None,
    gamma: float = 0.0,
    pollution: float = 0.0,
    ratio: str = "of_total",
    backbone: str | None = None,
    model: dict | None = None,
    compile: dict | None = None,
    epochs: int | None = None,
    image_size: int = 32,
    seed: int = 0,
) -> Job:
    """The job of one training and its evaluation.

    Args:
        dataset: a name in `SOURCES`.
        method: "agad", "aa_bigan" or a name in `agad_tf.baselines.BASELINES`.
        normal_class: index of the normal class; None for data that say it themselves, such as tables.
        anomaly_classes: classes that the collected anomalies come from; None pools all others.
        anomaly_class_count: k_l, instead: that many classes drawn from the seed.
        gamma: collected anomalies, a / (n + a), or a / n with ratio "to_normals".
        pollution: unlabelled anomalies among the normals, likewise.
        ratio: "of_total" or "to_normals".
        backbone: of agad and aa_bigan; None takes the detector's default.
        model, compile: arguments that differ from the defaults.
        epochs: None takes the paper's, see `epochs_of`.
        image_size: side that images are resized to; without effect on tables.
        seed: of the split, the weights and the order of samples.
    """
    return Job(locals() | {"model": model or {}, "compile": compile or {}})


def epochs_of(job: Job) -> int | None:
    """Epochs of a job; None for those of a baseline's paper, its `paper_epochs`.

    AA-BiGAN trains tables a number of steps, whatever their size: an "epoch" is what lies between two looks.
    """
    if job.epochs is not None:
        return job.epochs
    if job.method == "agad":
        return AGAD_EPOCHS
    if job.method == "aa_bigan":
        if job.dataset in TABLES:
            return EVALUATIONS
        return AA_BIGAN_EPOCHS.get(job.dataset, 200)
    return None


def paper_epochs(model) -> int:
    """Epochs that a baseline's paper trains for; one where it knows no epochs."""
    return getattr(getattr(model, "autoencoder", model), "paper_epochs", 1)


def fit_arguments(job: Job) -> dict:
    """Batch size and anomalies a batch of the papers; those of a baseline are its own."""
    if job.method == "agad":
        return {"batch_size": 256, "min_anomalies": 32}
    if job.method == "aa_bigan":
        if job.dataset in TABLES:
            return {"steps_per_epoch": STEPS // EVALUATIONS}
        if not job.gamma:
            return {"batch_size": 200}
        few = 50 if job.dataset.startswith("cifar") and job.gamma == 0.01 else 22
        anomalies = few if job.gamma == 0.01 else AA_BIGAN_ANOMALIES.get(job.gamma, 22)
        return {"batch_size": 200 + anomalies, "min_anomalies": anomalies}
    return {}


@functools.lru_cache(maxsize=2)
def samples_of(dataset: str) -> Samples:
    """The samples of a data set by its name here.

    Raises:
        InputError: none of the names it goes by is found.
    """
    return load_samples(source_of(dataset))


def source_of(dataset: str) -> str:
    """The first of `SOURCES` that is there."""
    if dataset not in SOURCES:
        raise InputError(f"expected one of the data sets {', '.join(SOURCES)}, received '{dataset}'")
    for name in SOURCES[dataset][:-1]:
        try:
            find(name)
            return name
        except InputError:
            continue
    name = SOURCES[dataset][-1]
    if name != "digits":
        find(name)
    return name


def split_of(job: Job, samples: Samples) -> Split:
    """The split of a job: the papers' protocol, of `PROTOCOL` for tables and `IMAGE_PROTOCOL` for images."""
    protocol = PROTOCOL if samples.x.ndim == 2 else IMAGE_PROTOCOL
    if samples.part is not None and (samples.part == "validation").any():
        protocol = protocol | {"test_validation": 0.0}  # the source's own validation part takes its place
    return one_class_split(
        samples,
        job.normal_class,
        job.gamma,
        anomaly_classes=job.anomaly_classes,
        anomaly_class_count=job.anomaly_class_count,
        pollution=job.pollution,
        ratio=job.ratio,
        seed=job.seed,
        **{name: value for name, value in protocol.items() if name != "gamma"},
    )


class Parts:
    """The rows that looks score, with labels, classes and collected classes.

    Args:
        samples, split: whose rows.
        names: "validation" (the share of the test part that the papers select on, where there is one) and
            "test".
    """

    def __init__(self, samples: Samples, split: Split, names=("validation", "test")):
        self.known_classes = split.known_classes
        self.x, self.labels, self.classes = {}, {}, {}
        for name in names:
            held_out = name == "validation" and len(split.selection_normal)
            rows, self.labels[name] = split.labelled("selection" if held_out else name)
            self.x[name], self.classes[name] = samples.x[rows], samples.classes[rows]
        last = names[-1]
        anomalous = set(np.unique(self.classes[last][self.labels[last] == 1]).tolist())
        # Where every class was collected, or there is one alone, "known" would say the same as all.
        self.some_unseen = bool(self.known_classes) and bool(anomalous - set(self.known_classes))

    def look(self, scores: dict[str, dict[str, np.ndarray]]) -> dict:
        """AUROCs from part to score name to scores, and the error of the held-out normals."""
        found = {}
        for part, by_name in scores.items():
            labels, classes = self.labels[part], self.classes[part]
            for name, values in by_name.items():
                good = len(values) > 0 and np.isfinite(values).all() and 0 < labels.sum() < len(labels)
                found[f"{part}_{name}"] = round(auroc(labels, values), 5) if good else None
                if not self.some_unseen:
                    continue
                both = (
                    known_unseen_auroc(labels, values, classes, self.known_classes) if good else (None,) * 2
                )
                known, unseen = (None if value is None else round(value, 5) for value in both)
                if part == "test":
                    found |= {f"test_known_{name}": known, f"test_unseen_{name}": unseen}
                else:
                    found[f"known_{name}"] = known
        first = next(iter(scores["validation"].values()))[self.labels["validation"] == 0]
        error = float(first.mean()) if len(first) else None
        found["normal_error"] = error if error is not None and np.isfinite(error) else None
        return found


def make_model(job: Job, samples: Samples):
    """The compiled detector of a job.

    Raises:
        InputError: an unknown method, or one that does not take such data.
    """
    import agad_tf

    table = samples.x.ndim == 2
    shape = samples.x.shape[1:] if table else (job.image_size, job.image_size, samples.x.shape[-1])
    detectors = {"agad": agad_tf.AGAD, "aa_bigan": agad_tf.AABiGAN}
    if job.method in detectors:
        chosen = {} if job.backbone is None else {"backbone": job.backbone}
        if job.method == "agad":
            chosen["score_share"] = None  # the scores that the tables are made of
        model = detectors[job.method](shape, seed=job.seed, **chosen, **job.model)
    else:
        model = _baseline(job.method, table)(shape, seed=job.seed, **job.model)
    model.compile(**job.compile)
    return model


def _baseline(name: str, table: bool) -> type:
    from agad_tf.baselines import BASELINES

    if name not in BASELINES:
        raise InputError(f"expected a method among agad, aa_bigan, {', '.join(BASELINES)}, received '{name}'")
    kind = BASELINES[name]
    if not (kind.takes_tables if table else kind.takes_images):
        raise InputError(f"{name} takes no {'tables' if table else 'images'}; choose another method")
    return kind


def looker(model, parts: Parts):
    """(names of the scores, the headline first; a `look` of `study.watch` at these parts)."""
    import tensorflow as tf

    from agad_tf.models.scorer import AnomalyScorer

    if not isinstance(model, AnomalyScorer):

        def score(x):
            return {"score": np.asarray(model.predict(x), np.float64).reshape(len(x))}

        return ("score",), lambda logs: parts.look({part: score(x) for part, x in parts.x.items()})

    @tf.function(reduce_retracing=True)
    def raw(x):
        return tf.stack([model.raw_score(name, x) for name in model.score_names])

    def scores(x):
        starts = range(0, len(x), 256)
        batches = [raw(model.preprocess(tf.constant(x[at : at + 256]))).numpy() for at in starts]
        found = dict(zip(model.score_names, np.concatenate(batches, axis=1), strict=True)) if batches else {}
        if model.score == "fused" and found:
            found["fused"] = model.fuse(list(found.values())).numpy()
        return found

    look = lambda logs: parts.look({part: scores(x) for part, x in parts.x.items()})  # noqa: E731
    return tuple(model.score_names), look


def train(job: Job, work: Path) -> list[dict]:
    """Runs a job and returns its results lines, one a policy and score.

    Args:
        job: what to run, of `training`.
        work: folder for checkpoints; a run that was killed goes on from there.

    Raises:
        InputError: data that are not there, or that the protocol or the method cannot take.
    """
    import keras
    import tensorflow as tf

    from agad_tf.models import AnomalyDetector
    from agad_tf.training.checkpoints import Checkpoints
    from study.watch import Watch, fit

    samples = samples_of(job.dataset)
    split = split_of(job, samples)
    keras.utils.set_random_seed(job.seed)
    model = make_model(job, samples)
    parts = Parts(samples, split)
    names, look = looker(model, parts)
    watch = Watch(model, look, LOOKS)
    rows, labels = split.labelled("train")
    epochs = epochs_of(job) or paper_epochs(model)
    callbacks, folder = [], Path(work) / f"{job.sha256}-{job.seed}"
    if isinstance(model, AnomalyDetector):
        callbacks.append(Checkpoints(folder, every=CHECKPOINT_EVERY))
    times = fit(
        model, samples.x[rows], labels, watch, callbacks, epochs=epochs, seed=job.seed, **fit_arguments(job)
    )
    if callbacks and callbacks[-1].seconds > times["seconds"]:  # a process before this one did a part
        times |= {"seconds": round(callbacks[-1].seconds, 2), "cpu_seconds": None}
    if not watch.curve:  # a method without epochs
        watch.see(1)
    facts = {
        "source": samples.name,
        **facts_of(split),
        "polluted": len(split.polluted),
        "known_classes": list(split.known_classes),
        "test_normal": len(split.test_normal),
        "test_anomaly": len(split.test_anomaly),
        **times,
        "seconds_looking": round(watch.seconds, 2),
        "epoch_cpu_seconds": round(watch.epoch_cpu_seconds, 3),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }
    lines = lines_of(watch.curve, names, facts)
    tf.keras.backend.clear_session()
    shutil.rmtree(folder, ignore_errors=True)
    return lines


def facts_of(split: Split) -> dict:
    """What every results line says of a split."""
    counts = {name: len(getattr(split, name)) for name in ("train_normal", "train_anomaly")}
    return {"split_sha256": split.sha256, **counts}


def lines_of(curve: list[dict], names: tuple[str, ...], facts: dict) -> list[dict]:
    """The results lines of one training, one a policy and score; those a policy would report are `chosen`.

    The whole curve of test AUROCs stands in the line of the last epoch.
    """
    names = (*names, *(["fused"] if "test_fused" in curve[-1] else []))
    lines = []
    for policy in POLICIES:
        if not possible(curve, policy, names):
            continue
        look, reported = select(curve, policy, names)
        for name in names:
            own = look if name == reported else None
            if own is None and possible(curve, policy, (name,)):
                own, _ = select(curve, policy, (name,))
            if own is None:
                continue
            line = {"policy": policy, "score": name, "chosen": name == reported, "epoch": own["epoch"]}
            line |= {"epochs": curve[-1]["epoch"]} | {
                field: own.get(f"{part}_{name}")
                for field, part in (
                    ("auroc", "test"),
                    ("auroc_known", "test_known"),
                    ("auroc_unseen", "test_unseen"),
                    ("validation_auroc", "validation"),
                )
            }
            if policy == "last":
                line["curve"] = [[at["epoch"], at[f"test_{name}"]] for at in curve]
            lines.append(line | facts)
    return lines
