"""One run of the grid: trains a detector, looks at its scores while it does, and judges by every policy."""

import functools
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from agad_tf.data.sources.load import Samples, find, load_samples
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import auroc, known_unseen_auroc
from study.grid import Job
from study.grid_policies import POLICIES, possible, select
from study.machine import one_thread
from study.results import commit
from study.tables import DATASETS as TABLES
from study.tables import EVALUATIONS, PROTOCOL, STEPS

SOURCES = {
    **{name: (name,) for name in ("mnist", "fashion_mnist", "pneumoniamnist", "digits", *TABLES)},
    "cifar10": ("cifar10", "cifar10_jpeg"),
    "cifar100": ("cifar100", "cifar100_jpeg"),
}
"""Data set to the names it is looked for under; results say which was found."""

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
    """The rows that looks score: validation and test, with labels, classes and collected classes."""

    def __init__(self, samples: Samples, split: Split):
        held_out = "selection" if len(split.selection_normal) else "validation"
        kinds = {
            "validation": (getattr(split, f"{held_out}_normal"), getattr(split, f"{held_out}_anomaly")),
            "test": (split.test_normal, split.test_anomaly),
        }
        self.known_classes = split.known_classes
        self.x, self.labels, self.classes = {}, {}, {}
        for part, (normal, anomaly) in kinds.items():
            rows = np.concatenate([normal, anomaly])
            self.x[part], self.classes[part] = samples.x[rows], samples.classes[rows]
            self.labels[part] = np.repeat([0, 1], [len(normal), len(anomaly)])
        anomalous = set(np.unique(self.classes["test"][self.labels["test"] == 1]).tolist())
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


def scorer_of(model):
    """(names, function from samples to the scores of each name); the names come with the headline first."""
    import tensorflow as tf

    from agad_tf.models.scorer import AnomalyScorer

    if not isinstance(model, AnomalyScorer):
        return ("score",), lambda x: {"score": np.asarray(model.predict(x), np.float64).reshape(len(x))}

    @tf.function(reduce_retracing=True)
    def raw(x):
        return tf.stack([model.raw_score(name, x) for name in model.score_names])

    def scores(x):
        batches = [
            raw(model.preprocess(tf.constant(x[start : start + 256]))).numpy()
            for start in range(0, len(x), 256)
        ]
        found = dict(zip(model.score_names, np.concatenate(batches, axis=1), strict=True)) if batches else {}
        if model.score == "fused" and found:
            found["fused"] = model.fuse(list(found.values())).numpy()
        return found

    return tuple(model.score_names), scores


def watcher(model, parts: Parts, looks: int):
    """A callback that looks at the scores `looks` times, evenly, and leaves the training alone.

    It has `curve`, `seconds` (spent looking), `epoch_cpu_seconds` (of the last epoch, without the look) and
    `look(epoch)`.
    """
    import keras

    names, score = scorer_of(model)

    class Watch(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.curve, self.seconds, self.epoch_cpu_seconds = [], 0.0, None

        def on_epoch_begin(self, epoch, logs=None):
            self._begun = time.process_time()

        def on_epoch_end(self, epoch, logs=None):
            self.epoch_cpu_seconds = time.process_time() - self._begun
            epochs = (self.params or {}).get("epochs") or epoch + 1
            count = min(looks, epochs)
            if (epoch + 1) * count // epochs != epoch * count // epochs:
                self.look(epoch + 1)

        def look(self, epoch):
            if getattr(model, "pretraining", False):
                return  # nothing has a centre yet, and so no score
            started = time.perf_counter()
            if hasattr(model, "prepare_scoring"):
                model.prepare_scoring()
            scores = {part: score(x) for part, x in parts.x.items()}
            self.curve.append({"epoch": epoch} | parts.look(scores))
            self.seconds += time.perf_counter() - started

        def get_state(self):
            return {
                "curve": self.curve,
                "seconds": self.seconds,
                "epoch_cpu_seconds": self.epoch_cpu_seconds,  # a run killed after its last epoch begins none
            }

        def set_state(self, state):
            self.curve[:], self.seconds = state["curve"], state["seconds"]
            self.epoch_cpu_seconds = state["epoch_cpu_seconds"]

    watch = Watch()
    watch.names = names
    return watch


def train(job: Job, work: Path | None = None, code: str | None = None) -> list[dict]:
    """Runs a job and returns its results lines, one a policy and score.

    Args:
        job: what to run.
        work: folder for checkpoints; a run that was killed goes on from there. None for none.
        code: commit of the code that runs, where it was asked for before; a long grid would see later ones.

    Raises:
        InputError: data that are not there, or that the protocol or the method cannot take.
    """
    one_thread()
    _share_gpu()
    import keras
    import tensorflow as tf

    from agad_tf.models import AnomalyDetector
    from agad_tf.training.checkpoints import Checkpoints

    samples = samples_of(job.dataset)
    split = split_of(job, samples)
    keras.utils.set_random_seed(job.seed)
    model = make_model(job, samples)
    parts = Parts(samples, split)
    watch = watcher(model, parts, LOOKS)
    rows = np.concatenate([split.train_normal, split.train_anomaly])
    labels = np.repeat([0, 1], [len(split.train_normal), len(split.train_anomaly)])
    epochs = epochs_of(job) or paper_epochs(model)
    callbacks, folder = [watch], None
    if work is not None and isinstance(model, AnomalyDetector):
        folder = Path(work) / f"{job.sha256}-{job.seed}"
        callbacks.append(Checkpoints(folder, every=CHECKPOINT_EVERY))
    started, cpu_started = time.perf_counter(), time.process_time()
    model.fit(
        samples.x[rows],
        labels,
        epochs=epochs,
        seed=job.seed,
        callbacks=callbacks,
        verbose=0,
        **fit_arguments(job),
    )
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    if folder is not None and callbacks[-1].seconds > seconds:
        seconds, cpu_seconds = callbacks[-1].seconds, None  # a process before this one did a part
    if not watch.curve:  # a method without epochs
        watch.look(1)
    facts = {
        "source": samples.name,
        "split_sha256": split.sha256,
        "train_normal": len(split.train_normal),
        "train_anomaly": len(split.train_anomaly),
        "polluted": len(split.polluted),
        "known_classes": list(split.known_classes),
        "test_normal": len(split.test_normal),
        "test_anomaly": len(split.test_anomaly),
        "seconds": round(seconds, 2),
        "cpu_seconds": None if cpu_seconds is None else round(cpu_seconds, 2),
        "seconds_looking": round(watch.seconds, 2),
        "epoch_cpu_seconds": round(watch.epoch_cpu_seconds, 3),
        "commit": commit() if code is None else code,
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }
    lines = lines_of(job, watch.curve, watch.names, facts)
    tf.keras.backend.clear_session()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return lines


def lines_of(job: Job, curve: list[dict], names: tuple[str, ...], facts: dict) -> list[dict]:
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
            line = {"job": job.to_dict(), "config_sha256": job.sha256, "policy": policy, "score": name}
            line |= {"chosen": name == reported, "epoch": own["epoch"], "epochs": curve[-1]["epoch"]}
            line |= {
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


def _share_gpu() -> None:
    """Lets several workers use one GPU: each takes the memory it needs, no more."""
    import tensorflow as tf

    for device in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError:  # TensorFlow already computes: the choice was made when it began
            return
