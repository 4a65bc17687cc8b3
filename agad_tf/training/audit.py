"""What an evaluation would claim with batch norm in training mode, or with the best test epoch.

A detector scored with batch norm in training mode normalises every image with its batch. Served in class
order, most batches hold one class only, and the batch tells what the image does not. Keeping the epoch with
the best test AUROC chooses with the labels of the test. Both happen in public code of this family of methods;
this module measures what they are worth on one's own data. See docs/results/audit.md.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from agad_tf.data.sources.load import Samples
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import auroc
from agad_tf.files import write_atomically
from agad_tf.models import AnomalyDetector
from agad_tf.training.open import Run, evaluation_data, load_split
from agad_tf.training.train import build, fit, learnt_masks

MODES = {
    "inference": "inference mode",
    "batch_shuffled": "training-mode batch norm, shuffled",
    "batch_ordered": "training-mode batch norm, class order",
}
"""How a test part is scored, and what to call it. The first is the honest one."""


def batch_mode_scores(model: AnomalyDetector, x, batch_size: int = 256) -> np.ndarray:
    """Scores with batch norm in training mode: every batch is normalised with its own moments.

    The model is left as it was, moving statistics included.

    Args:
        model: a detector with prepared scoring networks.
        x: samples in the order in which they are batched; the last batch may be smaller.
        batch_size: samples a batch.

    Returns:
        float32 (n,).
    """
    with _statistics_restored(model) as norms:
        scores = []
        for start in range(0, len(x), batch_size):
            batch = model.preprocess(tf.convert_to_tensor(np.asarray(x[start : start + batch_size])))
            for norm in norms:
                norm.trainable = True  # a frozen batch norm would not look at the batch
            scores.append(np.asarray(model.chosen_score(batch, training=True)))
    return np.concatenate(scores)


@contextmanager
def _statistics_restored(model: AnomalyDetector) -> Iterator[list]:
    norms = [norm for network in model.scoring_networks().values() for norm in network.batch_norms()]
    before = [(norm.trainable, norm.get_weights()) for norm in norms]
    try:
        yield norms
    finally:
        for norm, (trainable, weights) in zip(norms, before, strict=True):
            norm.trainable = trainable
            norm.set_weights(weights)


def audit_scores(
    model: AnomalyDetector, samples: Samples, split: Split, batch_size: int = 256, seed: int = 0
) -> dict[str, float | None]:
    """AUROC of the test part in every one of `MODES`; None where a score is not finite.

    Args:
        model: a detector with prepared scoring networks.
        samples, split: whose test part is scored. Class order means normals first, then class by class.
        batch_size: of training-mode batch norm.
        seed: of the shuffled order.
    """
    rows, labels = split.labelled("test")
    x = samples.x[rows]
    orders = {
        "batch_shuffled": np.random.default_rng(seed).permutation(len(rows)),
        "batch_ordered": np.lexsort((samples.classes[rows], labels)),
    }
    scored = {"inference": (labels, model.predict(x, verbose=0))}
    for mode, order in orders.items():
        scored[mode] = labels[order], batch_mode_scores(model, x[order], batch_size)
    return {
        mode: auroc(y, scores) if np.isfinite(scores).all() else None for mode, (y, scores) in scored.items()
    }


class AuditObserver(keras.callbacks.Callback):
    """Scores the test part in every mode after each epoch, without touching what is trained.

    Attributes:
        records: one dict an epoch: `epoch` from 1 and the AUROC of every mode.
    """

    def __init__(self, samples: Samples, split: Split, batch_size: int = 256, seed: int = 0):
        super().__init__()
        self.arguments = samples, split, batch_size, seed
        self.records: list[dict[str, float | None]] = []

    def on_epoch_end(self, epoch, logs=None):
        self.model.prepare_scoring()
        self.records.append({"epoch": epoch + 1} | audit_scores(self.model, *self.arguments))


def observe_training(configuration: dict, batch_size: int = 256, progress: bool = False):
    """Trains from a run's configuration and audits after each epoch.

    Args:
        configuration: of a run.
        batch_size: of training-mode batch norm.
        progress: show a progress bar.

    Returns:
        (records, samples, split), the records as of `AuditObserver`.
    """
    samples, split = load_split(configuration)
    keras.utils.set_random_seed(configuration["fit"]["seed"])
    model = build(configuration, samples)
    observer = AuditObserver(samples, split, batch_size, configuration["fit"]["seed"])
    masks = learnt_masks(configuration, samples, split)
    fit(model, configuration, samples, split, None, progress, [observer], masks)
    return observer.records, samples, split


def audit_run(
    run: Run, retrain: bool = False, batch_size: int = 256, seed: int = 0, progress: bool = False
) -> dict:
    """Audits a finished run.

    Args:
        run: from `load_run`.
        retrain: also train again from the run's configuration, with the same data, split and seed, to know
            every epoch; the record is kept as the run's `audit.json` and used from then on.
        batch_size: of training-mode batch norm.
        seed: of the shuffled order.
        progress: show a progress bar.

    Returns:
        saved: AUROC by mode of the run's model. curve: records of the epochs, None without retraining; last
        and best: the last epoch's record, and by mode the best epoch and its AUROC. batch_size, n_normal,
        n_anomaly, score.

    Raises:
        InputError: the run's data are gone or have changed, or a batch size under 2.
    """
    if batch_size < 2:
        raise InputError(f"batch_size expects 2 or more, received {batch_size}: take 256")
    samples, split = evaluation_data(run, None)
    kept = run.path / "audit.json"
    if retrain:
        curve, _, _ = observe_training(run.configuration, batch_size, progress)
        content = {"batch_size": batch_size, "curve": curve}
        write_atomically(kept, (json.dumps(content, indent=1) + "\n").encode())
    content = json.loads(kept.read_text()) if kept.is_file() else {}
    curve = content["curve"] if content.get("batch_size") == batch_size else None
    return {
        "saved": audit_scores(run.model, samples, split, batch_size, seed),
        **({"curve": None, "last": None, "best": None} if curve is None else summary(curve)),
        "batch_size": batch_size,
        "n_normal": len(split.test_normal),
        "n_anomaly": len(split.test_anomaly),
        "score": run.model.score,
    }


def summary(curve: list[dict]) -> dict:
    """The last epoch and, for each mode, the best one, of the records of `AuditObserver`."""
    best = {}
    for mode in MODES:
        known = [record for record in curve if record[mode] is not None]
        top = max(known, key=lambda record: record[mode], default=None)
        best[mode] = None if top is None else {"epoch": top["epoch"], "auroc": top[mode]}
    return {"curve": curve, "last": curve[-1], "best": best}


def audit_text(result: dict) -> str:
    """The audit as a table for people."""
    width = max(map(len, MODES.values()))
    header = f"{'AUROC on the test part':<{width}}  saved model"
    if result["curve"] is not None:
        header += "  last epoch  best test epoch"
    lines = [header]
    for mode, name in MODES.items():
        line = f"{name:<{width}}  {_figure(result['saved'][mode]):>11}"
        if result["curve"] is not None:
            best = result["best"][mode]
            top = "n/a" if best is None else f"{best['auroc']:.4f} (epoch {best['epoch']})"
            line += f"  {_figure(result['last'][mode]):>10}  {top}"
        lines.append(line)
    lines.append(
        f"{result['n_normal']} normals, {result['n_anomaly']} anomalies, score {result['score']}, "
        f"batches of {result['batch_size']}"
    )
    if result["curve"] is None:
        lines.append(
            "best test epoch: not known; --retrain trains again from the run's configuration and watches"
        )
    lines.append("The first line is what holds for new samples; the others use the test to judge the test.")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
