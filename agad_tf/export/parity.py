"""How an export's scores compare with the model's: the report that goes beside every export."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from agad_tf.errors import InputError
from agad_tf.evaluation import metrics
from agad_tf.evaluation.calibration import Calibration
from agad_tf.export.agreement import agreement

LARGEST_AUROC_DROP = 0.005
"""An int8 export that loses more is refused."""

_LATENCY_SECONDS = 2.0
_LATENCY_RUNS = 200


def compare(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray | None = None, size: float = 1.0
) -> dict:
    """Scores of an export beside those of the model for the same samples.

    Args:
        before: (n,) of the model.
        after: (n,) of the export.
        labels: (n,) 0 normal, 1 anomaly, or None where they are not known.
        size: see `agad_tf.export.agreement`.

    Returns:
        `samples`; `difference_max` and `difference_median` of |Δ|; `agreement`, see
        `agad_tf.export.agreement`; `spearman` (None where all scores are alike); with both labels
        `auroc_before`, `auroc_after` and `auroc_drop` (before − after).
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    difference = np.abs(after - before)
    ranked = len(before) > 1 and np.ptp(before) > 0 and np.ptp(after) > 0
    report = {
        "samples": len(before),
        "difference_max": float(difference.max()),
        "difference_median": float(np.median(difference)),
        "agreement": agreement(before, after, size),
        "spearman": float(stats.spearmanr(before, after)[0]) if ranked else None,
    }
    if labels is not None and 0 < np.sum(labels) < len(labels):
        report["auroc_before"] = metrics.auroc(labels, before)
        report["auroc_after"] = metrics.auroc(labels, after)
        report["auroc_drop"] = report["auroc_before"] - report["auroc_after"]
    return report


def compare_decisions(
    before: np.ndarray, after: np.ndarray, old: Calibration, new: Calibration | None = None
) -> dict:
    """Thresholds of model and export, and the share of samples that are decided differently.

    Args:
        before, after: see `compare`.
        old: calibration of the model.
        new: of the export; None where it carries the model's.
    """
    new = new or old
    changed = old.is_anomaly(before) != new.is_anomaly(after)
    return {
        "threshold_before": old.threshold,
        "threshold_after": new.threshold,
        "decisions_changed": float(changed.mean()),
    }


def latency(score: Callable[[], object], threads: int | None = 1) -> dict:
    """Milliseconds of one call: median and minimum over up to 200 calls in about 2 seconds.

    On a shared machine the minimum is the steadier figure; `load` says how busy it was.

    Args:
        score: the call.
        threads: that it computes on; None where the runtime decides.
    """
    for _ in range(3):
        score()
    times, until = [], time.perf_counter() + _LATENCY_SECONDS
    while len(times) < _LATENCY_RUNS and (time.perf_counter() < until or len(times) < 5):
        started = time.perf_counter()
        score()
        times.append(1000 * (time.perf_counter() - started))
    return {
        "median_ms": float(np.median(times)),
        "minimum_ms": float(np.min(times)),
        "threads": threads,
        "processor": processor_name(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def processor_name() -> str:
    """The processor as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def check_ranking(report: dict, precision: str) -> None:
    """Refuses an export that ranks worse than the model.

    Raises:
        InputError: the AUROC drops by more than `LARGEST_AUROC_DROP`.
    """
    drop = report.get("auroc_drop")
    if drop is not None and drop > LARGEST_AUROC_DROP:
        raise InputError(
            f"expected {precision} to keep the AUROC within {LARGEST_AUROC_DROP}, received a drop of "
            f"{drop:.4f} ({report['auroc_before']:.4f} to {report['auroc_after']:.4f}): export float16, or "
            "write it all the same with --force"
        )


def parity_text(report: dict) -> str:
    """The report for people."""
    spearman = "not defined" if report["spearman"] is None else f"{report['spearman']:.5f}"
    lines = [
        f"{report['samples']} samples of {report['part']}: Spearman {spearman}; scores differ by "
        f"{report['difference_max']:.3g} at most, {report['difference_median']:.3g} in the median"
    ]
    if "auroc_before" in report:
        lines.append(f"AUROC {report['auroc_before']:.4f} before, {report['auroc_after']:.4f} after")
    if "threshold_before" in report:
        lines.append(
            f"threshold {report['threshold_before']:.6g} before, {report['threshold_after']:.6g} after; "
            f"{report['decisions_changed']:.2%} of the decisions change"
        )
    timing = report["latency"]
    threads = " on one thread" if timing["threads"] == 1 else ""
    lines.append(
        f"{report['size_bytes'] / 1e6:.2f} MB; one sample{threads}: "
        f"median {timing['median_ms']:.2f} ms, minimum {timing['minimum_ms']:.2f} ms"
    )
    return "\n".join(lines)
