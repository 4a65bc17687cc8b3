"""The report of a run: what `agad_tf.evaluation.report` needs, gathered from a run directory's content."""

from pathlib import Path

import numpy as np

from agad_tf.data.sources.load import Samples
from agad_tf.data.splits.split import Split
from agad_tf.evaluation.report import ReportData, write_report
from agad_tf.evaluation.thresholds import Calibration
from agad_tf.models import AnomalyDetector


def report_run(
    path: str | Path,
    title: str,
    model: AnomalyDetector,
    samples: Samples,
    split: Split,
    scores: np.ndarray,
    metrics: dict,
    calibration: Calibration | None,
    configuration: dict,
) -> None:
    """Writes the HTML report of one evaluation.

    Args:
        path: file to write.
        title: name of the run.
        model: the detector.
        samples, split: its test part is what was scored: normals first, then anomalies.
        scores: (n,) in that order.
        metrics: of those scores.
        calibration: the threshold, or None.
        configuration: of the run.

    Raises:
        InputError: the folder of `path` is missing.
    """
    rows, labels = split.labelled("test")

    def explain(picked: np.ndarray):
        x = np.asarray(samples.x[rows[picked]])
        return tuple(np.asarray(part) for part in model.pictured(x))

    images = samples.x.ndim == 4
    write_report(
        path,
        ReportData(
            title,
            labels,
            scores,
            metrics,
            samples.classes[rows],
            samples.class_names,
            calibration,
            explain if images else None,
            model.preprocess.value_range,
            None if samples.paths is None else tuple(samples.paths[row] for row in rows),
            _data_facts(samples, split, rows),
            configuration,
        ),
    )


def _data_facts(samples: Samples, split: Split, rows: np.ndarray) -> dict[str, object]:
    normal = {samples.class_names[c] for c in np.unique(samples.classes[split.test_normal])}
    anomalous = {samples.class_names[c] for c in np.unique(samples.classes[split.test_anomaly])}
    counts = {name: value for name, value in split.summary().items() if isinstance(value, int)}
    known = [samples.class_names[index] for index in split.known_classes]
    facts = {
        "data": samples.name,
        "samples": f"{len(rows)} in this test, {len(samples.x)} in all, each {_shape(samples.x)}",
        "normal classes": ", ".join(sorted(normal)) or "none",
        "anomalous classes": ", ".join(sorted(anomalous)) or "none",
        "labelled anomalies in training came from": ", ".join(known) or "nowhere: none were used",
    }
    words = {
        "train_normal": "normal samples trained on",
        "train_anomaly": "labelled anomalies trained on",
        "validation_normal": "normal samples held out",
        "validation_anomaly": "labelled anomalies held out",
        "polluted": "unlabelled anomalies among the normal ones",
    }
    facts |= {text: counts[name] for name, text in words.items() if counts[name]}
    return facts | {"hash of the split": split.sha256[:16]}


def _shape(x: np.ndarray) -> str:
    if x.ndim == 2:
        return f"{x.shape[1]} numbers"
    height, width, channels = x.shape[1:]
    return f"{height} × {width} pixels, {'grey' if channels == 1 else 'colour'}"
