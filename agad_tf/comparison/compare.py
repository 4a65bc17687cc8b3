"""Trains several detectors on one split and compares them; `agad-tf compare`.

Every detector has a folder in the comparison's: `row.json` with what is shown of it and `scores.npz`. What is
there is not trained again, so an interrupted comparison goes on where it stopped; a detector that fails is a
row with its error, and is tried again the next time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from agad_tf.baselines import BASELINES, FITTED_ONCE
from agad_tf.comparison.recommendation import ENOUGH, FoldScores, Recommendation, figure, folds_of, recommend
from agad_tf.data.samples import Samples
from agad_tf.data.sources.load import is_table
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation import thresholds
from agad_tf.evaluation.evaluation import heat_maps
from agad_tf.evaluation.summary import summarise
from agad_tf.files import write_atomically, written_whole
from agad_tf.models import FeatureDiscriminator
from agad_tf.models.feature_scorer import FeatureScorer
from agad_tf.training.configuration import DETECTORS, configure
from agad_tf.training.open import load_split
from agad_tf.training.small_sets import CHOSEN, choose
from agad_tf.training.train import build, default_image_size, learnt_masks

logger = logging.getLogger("agad_tf")

ORDER_OF_IMAGES = ("features", "mahalanobis", "nearest_patches", "agad", "pca")
ORDER_OF_TABLES = (
    "aa_bigan_neighbours",
    "aa_bigan",
    "neighbours",
    "isolation_forest",
    "stacked",
    "gradient_boosting",
)
"""What is compared where no detectors are named, and what is taken first where there are too few labels to
choose on: those that need no labels before those that know only what they were shown."""
FEATURES = {"features", "mahalanobis", "nearest_patches"}
"""Those on the same pretrained network: its features of a sample are computed once for all."""
TIMED = 32
"""Samples that the time for one is measured on."""
STEPS = 1500
"""Of the baselines that train by steps; their papers' epochs take hours."""
RATE = 0.05
"""False-alarm rate that the thresholds of the table are set for, on the held-out normals."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        rows: one dict a detector, in the order they were asked for; `error` in those that failed.
        recommendation: which to take; None where none could be trained.
        samples, split: what all were trained and tested on.
        path: the folder.
    """

    rows: list[dict]
    recommendation: Recommendation | None
    samples: Samples
    split: Split
    path: Path


def compare(
    source: str | Path,
    detectors: Sequence[str] | None = None,
    *,
    out: str | Path = "comparison",
    minutes: float | None = 5.0,
    settings: Sequence[tuple[str, object]] = (),
    progress: bool = True,
) -> Comparison:
    """Trains each detector on the same split and says which to take.

    Args:
        source: data as `agad_tf.load_samples` takes them.
        detectors: names of detectors and baselines; None for those that suit images or tables.
        out: folder for results; an interrupted comparison goes on there.
        minutes: bound of all training together. Those fitted in one pass come first; what is left is shared
            equally by the others, counting the trainings that cross-fit them, and a training stops early when
            its time is over (said in its row). None trains each as long as its defaults say.
        settings: pairs (name, value) of sections data and split, and `seed`, as in a run's configuration.
        progress: tell each step in the log.

    Raises:
        InputError: data or settings that cannot be used, an unknown detector, or `out` holds a comparison of
            other data.
    """
    # The first detector decides the size at which many photographs are held: that of features is the largest.
    on_features = FEATURES.intersection(detectors or ORDER_OF_IMAGES)
    wanted = "features" if on_features and not is_table(source) else "agad"
    configuration = configure(wanted, settings=[("source", str(source)), *settings])
    samples, split = load_split(configuration)
    table = samples.x.ndim == 2
    names = _names(detectors, table, split)
    if minutes is not None and not minutes > 0:
        raise InputError(f"minutes expects a number above 0, received {minutes}")
    path = Path(out)
    _claim(path, samples, split)
    labels_kinds = samples.classes[split.train_anomaly]
    folds = folds_of(labels_kinds) if len(labels_kinds) >= ENOUGH else np.zeros(0, int)
    waiting = [name for name in names if not _is_done(path / name)]
    waiting.sort(key=lambda name: name not in FITTED_ONCE)  # what these do not use is left to the others
    over = None if minutes is None else time.monotonic() + 60 * minutes
    for place, name in enumerate(waiting):
        if progress:
            logger.warning("comparing: %s", name)
        left = len(waiting) - place
        seconds = None if over is None else max(1.0, (over - time.monotonic()) / left)
        _compare_one(name, path / name, samples, split, folds, seconds, settings)
    rows, fold_scores = [], {}
    for name in names:
        folder = path / name
        row = json.loads((folder / "row.json").read_text())
        rows.append(row)
        if "error" not in row and len(folds):
            with np.load(folder / "scores.npz") as held:
                fold_scores[name] = FoldScores(held["fold_normals"], held["fold_anomalies"])
    trained = {row["detector"]: row["seconds_training"] for row in rows if "error" not in row}
    order = [*(ORDER_OF_TABLES if table else ORDER_OF_IMAGES), *names]
    order = list(dict.fromkeys(order))
    made = recommend(fold_scores, folds, trained, order) if trained else None
    kept = [name for name in order if name in DETECTORS and name in trained]
    if made is not None and made.detector not in DETECTORS and kept:
        able = {name: held for name, held in fold_scores.items() if name in kept}
        made = replace(made, kept=recommend(able, folds, trained, kept).detector)
    return Comparison(rows, made, samples, split, path)


def _is_done(folder: Path) -> bool:
    """Whether a detector was compared before, and did not fail."""
    file = folder / "row.json"
    return file.is_file() and "error" not in json.loads(file.read_text())


def _names(detectors, table: bool, split: Split) -> list[str]:
    known = DETECTORS | BASELINES
    if detectors:
        for name in detectors:
            if name not in known:
                raise InputError(f"detectors expects names among {', '.join(known)}; received {name!r}")
        return list(dict.fromkeys(detectors))
    order = ORDER_OF_TABLES if table else ORDER_OF_IMAGES
    return [name for name in order if len(split.train_anomaly) or not known[name].needs_anomalies]


def _claim(path: Path, samples: Samples, split: Split) -> None:
    """Writes what is compared here; refuses a folder where something else was."""
    digest = hashlib.sha256(split.sha256.encode() + samples.digests.tobytes()).hexdigest()
    about, file = {"data": samples.name, "content": digest}, path / "comparison.json"
    if file.is_file():
        if json.loads(file.read_text()).get("content") != digest:
            raise InputError(
                f"{path}: expected a comparison on {samples.name}, received one of other data: "
                "name another --out"
            )
        return
    if path.exists() and any(path.iterdir()):
        raise InputError(
            f"{path}: expected a new folder or one of a comparison, received other files: name another --out"
        )
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(about).encode())


def _compare_one(
    name: str,
    folder: Path,
    samples: Samples,
    split: Split,
    folds: np.ndarray,
    seconds: float | None,
    settings,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        row, scores = _train_and_judge(name, samples, split, folds, seconds, settings)
    except (InputError, MemoryError, ArithmeticError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        row, scores = {"detector": name, "error": reason}, None
    if scores is not None:
        with written_whole(folder / "scores.npz") as file:
            np.savez(file, **scores)
    write_atomically(folder / "row.json", json.dumps(row, indent=1).encode())


def _train_and_judge(name, samples, split, folds, seconds, settings) -> tuple[dict, dict]:
    kind = (DETECTORS | BASELINES)[name]
    uses_labels, masks = kind.uses_anomalies, None
    if kind is FeatureDiscriminator:  # read once for all folds
        masks = learnt_masks(configure(name, settings=_settings_of(name, settings)), samples, split)
    trainings = 1 + (len(np.unique(folds)) if uses_labels else 0)
    share = None if seconds is None else seconds / trainings
    anomalies = split.train_anomaly
    started = time.monotonic()
    detector, stopped = _trained(name, samples, split, anomalies, share, settings, masks)
    took = time.monotonic() - started
    rows, labels = split.labelled("test")
    test = _scores(detector, samples, rows)
    some = samples.x[rows[:TIMED]]
    detector.predict(some, verbose=0)  # the first call also builds the graph
    started = time.monotonic()
    detector.predict(some, verbose=0)
    milliseconds = 1000 * (time.monotonic() - started) / len(some)
    held_out = _scores(detector, samples, split.validation_normal)
    row = {"detector": name, "seconds_training": round(took, 2), "milliseconds": round(milliseconds, 3)}
    figures = summarise(labels, test, samples.classes[rows], split.known_classes)
    for shown in ("auroc", "auroc_known", "auroc_unseen"):
        row |= {shown: figures[shown], f"{shown}_interval": figures[f"{shown}_interval"]}
    row |= _found(held_out, test, labels)
    row |= {
        "weights": _weights(detector),
        "stopped_early": stopped,
        "score": getattr(detector, "score", None),
    }
    scores = {"test": test, "labels": labels, "held_out": held_out, **_maps(detector, samples, split)}
    if len(folds):
        fold_normals, fold_anomalies = [], np.zeros(len(anomalies))
        for fold in np.unique(folds):
            judge = detector
            if uses_labels:
                judge, _ = _trained(name, samples, split, anomalies[folds != fold], share, settings, masks)
            fold_normals.append(_scores(judge, samples, split.validation_normal))
            fold_anomalies[folds == fold] = _scores(judge, samples, anomalies[folds == fold])
        scores |= {"fold_normals": np.stack(fold_normals), "fold_anomalies": fold_anomalies}
        left_out = FoldScores(scores["fold_normals"], scores["fold_anomalies"])
        row["auroc_left_out"] = figure(left_out, folds)
    return row, scores


def _trained(
    name: str, samples: Samples, split: Split, anomalies, seconds: float | None, settings, masks=None
):
    """A detector trained on normals and on some labelled anomalies, and whether the clock stopped it."""
    keras.utils.set_random_seed(dict(settings).get("seed", 0))
    epochs, fit, normals = {}, {}, split.train_normal
    if name in DETECTORS:
        configuration = configure(name, settings=_settings_of(name, settings))
        choose(configuration, CHOSEN.get(name, ()), split, images=samples.x.ndim == 4)  # as train does
        detector, fit = build(configuration, samples), dict(configuration["fit"])
    else:
        encoding = {} if samples.encoding is None else {"encoding": samples.encoding}
        detector = BASELINES[name](_input_shape(samples), **encoding)
        detector.compile()
        epochs = {"epochs": _epochs(len(normals))}
    rows = np.concatenate([normals, anomalies])
    labels = np.repeat([0, 1], [len(normals), len(anomalies)])
    clock = StopAfter(seconds)
    if masks is not None:
        fit = fit | {"masks": masks.of(rows)}
    detector.fit(samples.x[rows], labels, **(fit | epochs), verbose=0, callbacks=[clock])
    return detector, clock.stopped and name not in FITTED_ONCE  # one pass is whole, however long it took


def _settings_of(name: str, settings) -> list[tuple[str, object]]:
    """Those of the settings that this detector has: `seed`, and what says which rows are read and split."""
    sections = configure(name)
    shared = [
        pair for pair in settings if pair[0] == "seed" or pair[0].rpartition(".")[2] in sections["data"]
    ]
    return [pair for pair in shared if pair[0] != "source"]


def _input_shape(samples: Samples) -> tuple[int, ...]:
    if samples.x.ndim == 2:
        return samples.x.shape[1:]
    return (*default_image_size(samples.x.shape[1:3], "encoder_decoder"), samples.x.shape[-1])


def _epochs(normals: int, batch_size: int = 128) -> int:
    """Epochs of a baseline: `STEPS` steps, AA-BiGAN's on tables, whatever the number of samples."""
    return math.ceil(STEPS / max(1, normals // batch_size))


class StopAfter(keras.callbacks.Callback):
    """Ends a training when its time is over.

    Args:
        seconds: from the first step; None never ends it.
    """

    def __init__(self, seconds: float | None):
        super().__init__()
        self.seconds, self.stopped, self._begun = seconds, False, 0.0

    def on_train_begin(self, logs=None):
        self._begun = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self.seconds is not None and time.monotonic() - self._begun > self.seconds:
            self.stopped = self.model.stop_training = True


def _scores(detector, samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Scores of rows, float64; a detector that gives one that is no number cannot be compared."""
    x = samples.x[rows]
    if isinstance(detector, FeatureScorer):
        x = detector.rows_of(detector.check_samples(x, "x"))
    scores = np.asarray(detector.predict(x, verbose=0), np.float64)
    if not np.isfinite(scores).all():
        raise InputError("expected finite scores after training, received NaN: the training collapsed")
    return scores


def shown_rows(samples: Samples, split: Split, anomalies: int = 6, normals: int = 2) -> np.ndarray:
    """Test samples whose pictures stand on the page: anomalies of every kind in turn, then normals."""
    kinds = samples.classes[split.test_anomaly]
    turn = np.array([np.sum(kinds[:index] == kind) for index, kind in enumerate(kinds)], int)
    chosen = split.test_anomaly[np.lexsort((kinds, turn))[:anomalies]]
    return np.concatenate([chosen, split.test_normal[:normals]])


def _maps(detector, samples: Samples, split: Split) -> dict[str, np.ndarray]:
    """Heat maps of `shown_rows`, and what is usual and what is most on normals; nothing without maps."""
    if samples.x.ndim != 4 or not (hasattr(detector, "anomaly_map") or hasattr(detector, "explain")):
        return {}
    held_out = split.validation_normal[:50]
    try:
        maps = heat_maps(detector, samples, np.concatenate([shown_rows(samples, split), held_out]))
    except InputError:  # a detector that redraws nothing
        return {}
    shown, of_normals = maps[: len(maps) - len(held_out)], maps[len(maps) - len(held_out) :]
    floor, limit = np.quantile(of_normals if len(held_out) else shown, (0.9, 0.999))
    return {"maps": shown.astype(np.float32), "map_floor": floor, "map_limit": limit}


def _found(held_out: np.ndarray, test: np.ndarray, labels: np.ndarray) -> dict:
    """Recall and false alarms on the test at a threshold for `RATE`; None with too few held-out normals."""
    if len(held_out) < thresholds.normals_needed(RATE):
        return {"found": None, "false_alarms": None}
    alarms = test > thresholds.threshold_for_false_alarm_rate(held_out, RATE)
    return {
        "found": float(alarms[labels == 1].mean()) if labels.any() else None,
        "false_alarms": float(alarms[labels == 0].mean()) if not labels.all() else None,
    }


def _weights(detector) -> int | None:
    """Bytes of the float32 numbers that an export holds; None for a detector that cannot be exported."""
    networks = getattr(detector, "scoring_networks", None)
    if networks is None:
        return None
    held = [weight.shape for net in networks().values() for weight in net.weights]
    held += [operator.attrgetter(name)(detector).shape for name in detector.scoring_state]
    return 4 * int(sum(np.prod(shape) for shape in held))
