"""Exports a finished run in any format, with the parity report beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation import thresholds
from agad_tf.evaluation.calibration import Calibration
from agad_tf.export import parity, tflite
from agad_tf.export.agreement import rounded_size
from agad_tf.export.model_card import calibration_summary, figures_at_threshold, run_card, write_model_card
from agad_tf.export.onnx import export_onnx
from agad_tf.export.saved_model import write_saved_model
from agad_tf.export.versions import check_one_kind, new_version
from agad_tf.files import write_atomically
from agad_tf.models.feature_scorer import FeatureScorer
from agad_tf.scoring.detectors import EXPORTS, open_detector
from agad_tf.training.open import Run, evaluation_data

PARITY_SAMPLES = 2000
"""Test samples at most that a parity report compares."""

REPORT_NAME = "parity.json"

AGREEMENT = ("samples", "spearman", "auroc_before", "auroc_after")
"""What the card of a float16 or int8 export says of its scores beside the model's, from the parity report."""

Score = Callable[[np.ndarray], np.ndarray]


def export_run(
    run: Run,
    folder: str | Path,
    format: str = "savedmodel",
    precision: str = "float32",
    force: bool = False,
    licence: str | None = None,
) -> tuple[Path, dict | None]:
    """Writes the next version under `folder` and compares it with the run's model on the run's test part.

    A SavedModel is the version itself, with its card and `parity.json` in `assets.extra`; for the other
    formats the version holds `model.tflite` or `model.onnx`, `model_card.json`, `model_card.md` and
    `parity.json`.

    The scores of a float16 or int8 export are not quite the model's. Its threshold is therefore chosen again
    by the run's own policy, from the run's held-out samples as the export scores them, wherever the run's
    calibration came from those. The card says what the exported threshold does on the test part.

    Args:
        run: from `load_run`.
        folder: `saved_models/<name>`.
        format: savedmodel, tflite or onnx.
        precision: one of `agad_tf.export.tflite.PRECISIONS`; float32 alone for the other formats.
        force: write an int8 export even if it ranks worse.
        licence: terms of the weights, for the model card.

    Returns:
        Path of the version, and the parity report; None where the data of the run are gone.

    Raises:
        InputError: an unknown format or precision, int8 without the data of the run, an int8 export whose
            AUROC drops by more than .005 (nothing is written then).
    """
    if format not in EXPORTS:
        raise InputError(f"format expects one of {', '.join(EXPORTS)}, received {format!r}")
    if precision != "float32" and format != "tflite":
        raise InputError(f"format {format} expects precision float32, received {precision!r}: export tflite")
    check_one_kind(folder, EXPORTS[format])
    data = _run_data(run, needed=precision == "int8")
    tested = None if data is None else _tested(run, data)
    card = run_card(run, Path(folder).name, licence)
    if tested is not None and "threshold" not in card["metrics"]:
        _state_threshold(card, tested.before, tested, run.calibration)
    with new_version(folder) as version:
        if format == "savedmodel":
            write_saved_model(run.model, version.partial, run.calibration, card)
            score, calibration = open_detector(version.partial).scores, run.calibration
            extra = version.partial / "assets.extra"
        else:
            write = _write_tflite if format == "tflite" else _write_onnx
            score, calibration = write(run, version.partial / EXPORTS[format], precision, data, card, tested)
            extra = version.partial
            write_model_card(extra, run.model, calibration, card)
        report = None
        if data is not None:
            report = _report(run, tested, score, calibration, 1 if format != "savedmodel" else None)
            report |= {
                "format": format,
                "precision": precision,
                "size_bytes": parity.size_of(version.partial),
            }
            if precision == "int8" and not force:
                parity.check_ranking(report, precision)
            write_atomically(extra / REPORT_NAME, (json.dumps(report, indent=2) + "\n").encode())
    return version.path, report


def calibrate_export(run: Run, data: tuple[Samples, Split], score: Score) -> Calibration | None:
    """The run's calibration chosen again from the export's scores; as it is where that cannot be done."""
    old, (samples, split) = run.calibration, data
    if old is None or not len(split.validation_normal):
        return old
    own = run.model.predict(samples.x[split.validation_normal], verbose=0)
    same = len(own) == old.n_normal and np.allclose(np.sort(own), old.normal_scores, rtol=1e-4, atol=1e-4)
    anomalies = split.validation_anomaly
    if not same or (old.n_anomaly or 0) not in (0, len(anomalies)):
        return old  # from other samples than the run's own
    return thresholds.calibrate(
        score(_rows(samples, split.validation_normal)),
        score(_rows(samples, anomalies)) if old.n_anomaly else None,
        old.policy,
        rate=old.false_alarm_rate or 0.05,
        confidence=old.confidence,
        recall=old.wanted_recall,
        quantile=old.quantile,
        score=old.score,
        split=old.split,
    )


def _run_data(run: Run, needed: bool) -> tuple[Samples, Split] | None:
    try:
        return evaluation_data(run, None)
    except InputError as error:
        if needed:
            raise InputError(f"int8 expects the data of the run, to take its ranges from: {error}") from None
        return None


class _Tested(NamedTuple):
    """Test samples that the export is compared on, their labels, and the model's scores."""

    x: np.ndarray
    labels: np.ndarray
    before: np.ndarray


def _tested(run: Run, data: tuple[Samples, Split]) -> _Tested:
    x, labels = parity_samples(*data)
    return _Tested(x, labels, run.model.predict(x, verbose=0))


def _state_threshold(
    card: dict, scores: np.ndarray, tested: _Tested, calibration: Calibration | None
) -> None:
    """Puts into a card what the exported threshold does, and on how many test samples that was seen."""
    figures = figures_at_threshold(scores, tested.labels, calibration)
    card["metrics"] |= figures | ({"threshold_samples": len(scores)} if figures else {})


def _write_tflite(run, path, precision, data, card, tested) -> tuple[Score, Calibration | None]:
    representative = None
    if data is not None:
        samples, split = data
        rng = np.random.default_rng(0)
        drawn = [
            rng.permutation(part)[: tflite.REPRESENTATIVE]
            for part in (split.train_normal, split.train_anomaly)
        ]
        representative = _rows(samples, np.concatenate(drawn))
    content = tflite.tflite_bytes(run.model, precision, representative)
    about = tflite.metadata(run.model, precision, run.calibration, card)
    tflite.write_tflite(path, content, about, card)
    calibration = run.calibration
    if precision != "float32" and data is not None:
        score = open_detector(path, threads=1).scores
        calibration = calibrate_export(run, data, score)
        if precision == "int8" and isinstance(run.model, FeatureScorer) and calibration is run.calibration:
            _check_no_threshold(calibration)
        after = score(tested.x)
        compared = parity.compare(tested.before, after, tested.labels, rounded_size(run.model))
        card["agreement"] = {name: compared[name] for name in AGREEMENT if name in compared}
        about["calibration"] = None if calibration is None else calibration.to_dict()
        card["calibration"] = calibration_summary(calibration)
        _state_threshold(card, after, tested, calibration)
        tflite.write_tflite(path, content, about, card)
    return open_detector(path, threads=1).scores, calibration


def _check_no_threshold(calibration: Calibration | None) -> None:
    """Refuses a threshold of the model for scores that lie elsewhere than the model's."""
    if calibration is not None:
        raise InputError(
            "int8 of a detector on frozen features expects a threshold that was chosen from the run's own "
            "held-out normals, to choose it again from the export's scores, received one from other samples "
            f"({calibration.split}): export float16, or recalibrate the run without --normals and --anomalies"
        )


def _write_onnx(run, path, precision, data, card, tested) -> tuple[Score, Calibration | None]:
    export_onnx(run.model, path, run.calibration, card)
    return open_detector(path, threads=1).scores, run.calibration


def parity_samples(samples: Samples, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """What a parity report compares: test samples and their labels, at most `PARITY_SAMPLES` drawn."""
    rows, labels = split.labelled("test")
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:PARITY_SAMPLES])
    return _rows(samples, rows[drawn]), labels[drawn]


def _report(
    run: Run, tested: _Tested, score: Score, calibration: Calibration | None, threads: int | None
) -> dict:
    x, labels, before = tested
    after = score(x)
    report = {"part": "the test part", **parity.compare(before, after, labels, rounded_size(run.model))}
    if calibration is not None:
        report |= parity.compare_decisions(before, after, run.calibration, calibration)
    return report | {"latency": parity.latency(lambda: score(x[:1]), threads)}


def _rows(samples: Samples, rows: np.ndarray) -> np.ndarray:
    return np.asarray(samples.x[rows])
