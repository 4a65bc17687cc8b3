"""Do thresholds keep the false-alarm rate they promise? Counted over many random splits of normal scores.

    python benchmarks/false_alarms.py                             # synthetic scores, 400 splits
    python benchmarks/false_alarms.py --scores scores.npz --out false_alarms.jsonl

Each split calibrates a threshold on some normals and counts alarms among fresh ones. Three checks a line:

* mean: the mean observed rate is at most the wanted one plus two standard errors of that mean;
* half: without ``confidence``, the mean observed rate is not under half of the wanted one (a threshold that
  never alarms proves nothing; the Beta bound stays below the wanted rate on purpose);
* held: with ``confidence``, the rate stayed at or under the wanted one in at least that share of the splits,
  less two standard errors. Synthetic scores have a known rate above any threshold; for scores from a file the
  rate among the fresh ones stands in, whose sampling noise the Beta bound does not cover: `held_expected` is
  what theory gives for that (beta-binomial), and the check asks for the lesser of that and the confidence.

The source "coarse" has so few distinct scores that a strict threshold must stay far under the wanted rate: no
half check there. Exit status 1 when a check fails. Where the mean is the wanted rate exactly, two standard
errors are passed in about one line of 44 by chance: try another --seed before believing such a line.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import stats

from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import check_scores
from agad_tf.evaluation.thresholds import threshold_for_false_alarm_rate
from agad_tf.files import write_atomically

RATES = (0.01, 0.05, 0.10)
STEP = 0.05  # grid of the tied scores


def _heavy(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.abs(rng.standard_t(1.5, n))


def _heavy_rate(threshold: float) -> float:
    return float(2 * stats.t.sf(threshold, 1.5))


def _tied(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.round(rng.exponential(size=n) / STEP)


def _tied_rate(threshold: float) -> float:
    return math.exp(-(math.floor(threshold) + 0.5) * STEP)


def _coarse(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.poisson(0.5, n).astype(float)


def _coarse_rate(threshold: float) -> float:
    return float(stats.poisson.sf(threshold, 0.5))


# name: (draw n scores, exact rate above a threshold)
SYNTHETIC = {
    "heavy-tailed": (_heavy, _heavy_rate),
    "tied": (_tied, _tied_rate),
    "coarse": (_coarse, _coarse_rate),
}


def _held_expected(scores: int, fresh: int, rate: float, confidence: float) -> float:
    """P(observed rate among ``fresh`` untied normals <= rate) for the threshold of this confidence."""
    # Calibrating on the ranks 0..n-1 shows how many calibration scores lie above the threshold.
    above = scores - 1 - threshold_for_false_alarm_rate(np.arange(scores), rate, confidence)
    return float(stats.betabinom.cdf(math.floor(rate * fresh + 1e-9), fresh, above + 1, scores - above))


def measure(
    name: str,
    draw_split: Callable[[], tuple[np.ndarray, np.ndarray]],
    rate: float,
    splits: int,
    confidence: float | None = None,
    exact_rate: Callable[[float], float] | None = None,
) -> dict:
    """One line of the result: ``splits`` calibrations at one rate.

    Args:
        name: of the source of scores.
        draw_split: gives (calibration scores, fresh scores), both (n,).
        rate: wanted false-alarm rate.
        splits: how many.
        confidence: of the training-conditional bound, or None for the marginal guarantee.
        exact_rate: true rate above a threshold, where it is known.

    Returns:
        What was measured and the checks, JSON-able.

    Raises:
        InputError: too few calibration scores for ``rate`` and ``confidence``.
    """
    observed, true = [], []
    for _ in range(splits):
        calibration, fresh = draw_split()
        threshold = threshold_for_false_alarm_rate(calibration, rate, confidence)
        observed.append(float(np.mean(fresh > threshold)))
        if exact_rate is not None:
            true.append(exact_rate(threshold))
    mean = float(np.mean(observed))
    error = float(np.std(observed, ddof=1) / math.sqrt(splits))
    line = {
        "source": name,
        "rate": rate,
        "confidence": confidence,
        "splits": splits,
        "n_calibration": int(calibration.size),
        "n_fresh": int(fresh.size),
        "mean_observed": mean,
        "standard_error": error,
        "held": None,
        "held_expected": None,
        "checks": {"mean": mean <= rate + 2 * error},
    }
    if confidence is None:
        if name != "coarse":
            line["checks"]["half"] = mean >= rate / 2
        return line
    line["held"] = float(np.mean(np.asarray(true or observed) <= rate))
    asked = confidence
    if not true:
        line["held_expected"] = _held_expected(calibration.size, fresh.size, rate, confidence)
        asked = min(confidence, line["held_expected"])
    line["checks"]["held"] = line["held"] >= asked - 2 * math.sqrt(asked * (1 - asked) / splits)
    return line


def _sources(args: argparse.Namespace, rng: np.random.Generator) -> Iterator[tuple]:
    for name, (draw, exact_rate) in SYNTHETIC.items():
        # Bound as a default, because a generator's loop variable has moved on when a closure reads it.
        yield name, lambda draw=draw: (draw(rng, args.calibration), draw(rng, args.fresh)), exact_rate
    if args.scores is not None:
        scores = _read_normals(args.scores)
        if scores.size <= args.calibration:
            raise InputError(
                f"Expected more than {args.calibration} normal scores in {args.scores}, "
                f"received {scores.size}: lower --calibration."
            )

        def split() -> tuple[np.ndarray, np.ndarray]:
            mixed = rng.permutation(scores)
            return mixed[: args.calibration], mixed[args.calibration :]

        yield args.scores.name, split, None


def _read_normals(path: Path) -> np.ndarray:
    try:
        with np.load(path) as content:
            scores, labels = content["scores"], content.get("labels")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"Expected an .npz with the array scores (and labels), could not read {path} "
            f"({error}): give such a file."
        ) from None
    return check_scores(scores if labels is None else scores[labels == 0], "normal scores")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, 1 when a check failed, 2 for bad input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scores", type=Path, help=".npz with scores (n,) and perhaps labels, 0 is normal")
    parser.add_argument("--splits", type=int, default=400, help="random splits a line, at least 200")
    parser.add_argument("--calibration", type=int, default=500, help="normals to calibrate on")
    parser.add_argument("--fresh", type=int, default=2000, help="fresh normals (synthetic scores)")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the result, one JSON object a line")
    args = parser.parse_args(arguments)
    lines = []
    try:
        if args.splits < 200:
            raise InputError(f"Expected at least 200 splits, received {args.splits}: fewer prove nothing.")
        for name, split, exact_rate in _sources(args, np.random.default_rng(args.seed)):
            for rate in RATES:
                for confidence in (None, args.confidence):
                    line = measure(name, split, rate, args.splits, confidence, exact_rate)
                    lines.append({**line, "seed": args.seed})
                    held = "" if line["held"] is None else f"  held {line['held']:.3f}"
                    failed = [check for check, passed in line["checks"].items() if not passed]
                    print(
                        f"{name:14} wanted {rate:.2f}  {confidence or 'marginal':>8}  observed "
                        f"{line['mean_observed']:.4f} ± {2 * line['standard_error']:.4f}{held}  "
                        f"{'FAILED: ' + ', '.join(failed) if failed else 'ok'}"
                    )
        if args.out is not None:
            write_atomically(args.out, "".join(json.dumps(line) + "\n" for line in lines).encode())
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return int(not all(all(line["checks"].values()) for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
