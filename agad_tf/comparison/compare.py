"""Trains several detectors on one split and compares them; `agad-tf compare`.

Every detector has a folder in the comparison's: `row.json` with what is shown of it and `scores.npz`. What is
there is not trained again, so an interrupted comparison goes on where it stopped; a detector that fails is a
row with its error, and is tried again the next time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import operator
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agad_tf.baselines import BASELINES, FITTED_ONCE
from agad_tf.comparison.candidates import Candidate
from agad_tf.comparison.recommendation import ENOUGH, FoldScores, Recommendation, figure, folds_of, recommend
from agad_tf.data.samples import Samples
from agad_tf.data.sources.load import is_table
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation import thresholds
from agad_tf.evaluation.evaluation import heat_maps
from agad_tf.evaluation.summary import summarise
from agad_tf.files import write_atomically, written_whole
from agad_tf.models.feature_scorer import FeatureScorer
from agad_tf.models.scorer import AnomalyScorer
from agad_tf.training.configuration import DETECTORS, configure
from agad_tf.training.open import load_split

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
SAME_TRAINING = {"aa_bigan": ("aa_bigan_neighbours", "reconstruction")}
"""Detectors that are a score of another one's training: that one and the score, which ranks as theirs."""
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
    left = len(waiting)
    for together in _by_training(waiting):
        if progress:
            logger.warning("comparing: %s", ", ".join(together))
        share = len(together) / left
        seconds = None if over is None else max(1.0, share * (over - time.monotonic()))
        _compare_together(together, path, samples, split, folds, seconds, settings)
        left -= len(together)
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


def _by_training(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The names, those of one training together; the first of each is the one that is trained."""
    together = {}
    for name in names:
        base = SAME_TRAINING.get(name, (name,))[0]
        together.setdefault(base if base in names else name, []).append(name)
    return [(base, *(name for name in of if name != base)) for base, of in together.items()]


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


def _compare_together(
    names: Sequence[str],
    path: Path,
    samples: Samples,
    split: Split,
    folds: np.ndarray,
    seconds: float | None,
    settings,
) -> None:
    """Trains what these detectors share, and writes a row for each of them; see `SAME_TRAINING`."""
    for name in names:
        (path / name).mkdir(parents=True, exist_ok=True)
    try:
        found = _train_and_judge(names, samples, split, folds, seconds, settings)
    except (InputError, MemoryError, ArithmeticError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        found = {name: ({"detector": name, "error": reason}, None) for name in names}
    for name, (row, scores) in found.items():
        if scores is not None:
            with written_whole(path / name / "scores.npz") as file:
                np.savez(file, **scores)
        write_atomically(path / name / "row.json", json.dumps(row, indent=1).encode())


def _train_and_judge(names, samples, split, folds, seconds, settings) -> dict[str, tuple[dict, dict]]:
    """Row and scores of each of the detectors."""
    started = time.monotonic()
    over, anomalies = None if seconds is None else started + seconds, split.train_anomaly
    candidate = Candidate(names[0], samples, split, settings)
    left_out = np.unique(folds) if candidate.uses_labels else []
    stopped = candidate.train(anomalies, over, 1 + len(left_out))
    detector = candidate.detector
    row = {"seconds_training": round(time.monotonic() - started, 2), "stopped_early": stopped}
    found = {}
    for name in _as_each(detector, names):
        judged, scores = _judged(detector, samples, split)
        found[name] = {"detector": name} | row | judged, scores
    if not len(folds):
        return found
    fold_normals = {name: [] for name in names}
    fold_anomalies = {name: np.zeros(len(anomalies)) for name in names}
    for place, fold in enumerate(np.unique(folds)):
        if candidate.uses_labels:
            candidate.train(anomalies[folds != fold], over, len(left_out) - place)
        normals = split.validation_normal
        for name in _as_each(candidate.detector, names):
            scores = _scores(candidate.detector, samples, np.append(normals, anomalies[folds == fold]), True)
            fold_normals[name].append(scores[: len(normals)])
            fold_anomalies[name][folds == fold] = scores[len(normals) :]
    for name, (row, scores) in found.items():
        scores |= {"fold_normals": np.stack(fold_normals[name]), "fold_anomalies": fold_anomalies[name]}
        row["auroc_left_out"] = figure(FoldScores(scores["fold_normals"], scores["fold_anomalies"]), folds)
    return found


def _as_each(detector, names: Sequence[str]) -> Iterator[str]:
    """The names in turn, the detector scoring as each of them; then as `fit` finds it."""
    yield names[0]
    for name in names[1:]:
        detector.score = SAME_TRAINING[name][1]
        yield name
    if len(names) > 1:
        detector.score = "auto"


def _judged(detector, samples: Samples, split: Split) -> tuple[dict, dict]:
    """What is shown of a trained detector, and its scores."""
    rows, labels = split.labelled("test")
    test = _scores(detector, samples, rows)
    some = samples.x[rows[:TIMED]]
    detector.predict(some, verbose=0)  # the first call also builds the graph
    started = time.monotonic()
    detector.predict(some, verbose=0)
    milliseconds = 1000 * (time.monotonic() - started) / len(some)
    held_out = _scores(detector, samples, split.validation_normal)
    row = {"milliseconds": round(milliseconds, 3)}
    figures = summarise(labels, test, samples.classes[rows], split.known_classes)
    for shown in ("auroc", "auroc_known", "auroc_unseen"):
        row |= {shown: figures[shown], f"{shown}_interval": figures[f"{shown}_interval"]}
    row |= _found(held_out, test, labels)
    row |= {"weights": _weights(detector), "score": getattr(detector, "score", None)}
    return row, {"test": test, "labels": labels, "held_out": held_out, **_maps(detector, samples, split)}


def _scores(detector, samples: Samples, rows: np.ndarray, once: bool = False) -> np.ndarray:
    """Scores of rows, float64; a detector that gives one that is no number cannot be compared.

    With `once` rows of a table are scored without a graph: to trace one takes longer than they do.
    """
    x = samples.x[rows]
    if isinstance(detector, FeatureScorer):
        x = detector.rows_of(detector.check_samples(x, "x"))
    if once and isinstance(detector, AnomalyScorer) and detector.is_table:
        size = detector.scoring_batch
        batches = [x[start : start + size] for start in range(0, len(x), size)]
        scores = np.concatenate([np.asarray(detector(batch), np.float64) for batch in batches])
    else:
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
