"""Results in plain words, the same in the report and on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from scipy import stats


class PerThousand(NamedTuple):
    """A count of errors and what it lets one expect of 1000 more samples of the same kind."""

    count: int
    total: int
    expected: float
    low: float
    high: float


def per_thousand(count: int, total: int) -> PerThousand:
    """Errors expected in 1000 samples, with the exact (Clopper-Pearson) 95 % interval.

    Args:
        count: errors seen.
        total: samples of that kind, at least 1.
    """
    interval = stats.binomtest(count, total).proportion_ci(0.95, "exact")
    return PerThousand(count, total, 1000 * count / total, 1000 * interval.low, 1000 * interval.high)


def percent(share: float) -> str:
    """0.05 as "5 %", 0.001 as "0.1 %"."""
    return f"{100 * share:.4g} %"


def beside_line(found: Mapping) -> str:
    """How the cheapest baseline did beside a detector, in one line.

    Args:
        found: what `agad_tf.training.beside.beside` gives.
    """
    low, high = (abs(100 * bound) for bound in found["difference_interval"])
    own, other = in_percent(found["auroc_of_detector"]), in_percent(found["auroc"])
    start = f"The simple baseline {found['detector']} reaches an AUROC of {other} on this test"
    if found["ahead"]:
        return (
            f"{start} and is AHEAD: this detector reaches {own} (95 % interval of the lead {low:.1f} to "
            f"{high:.1f}). Take the baseline, or see what suits the data: agad-tf compare"
        )
    if found["behind"]:
        return f"{start}; this detector is ahead with {own}."
    return f"{start}, this detector {own}: on so few samples the two cannot be told apart."


def kinds_line(metrics: Mapping) -> str:
    """What labels do for a kind of defects that none of them shows, in one line.

    Args:
        metrics: with what `agad_tf.training.kinds.leave_one_kind_out` gives.
    """
    found = metrics["leave_one_kind_out"]
    each = ", ".join(
        f"{kind} {in_percent(one['auroc'])} ({one['anomalies']} labelled)" for kind, one in found.items()
    )
    labels, none = (metrics[f"mean_kind_left_out_auroc{end}"] for end in ("", "_without_labels"))
    line = f"Trained without one kind and asked for it, AUROC on held-out images: {each}; "
    line += f"{in_percent(labels)} on average, {in_percent(none)} without labels"
    # By more than chance: a dozen held-out anomalies move an AUROC by several points.
    lost = [kind for kind, one in found.items() if one.get("difference", (0, 0, 0))[2] < 0]
    if lost:
        line += (
            f". Labels of other kinds LOSE for {', '.join(lost)}: where new kinds count most, compare with a "
            "run without labels, --gamma 0"
        )
    return line


def masks_line(learnt: Mapping) -> str:
    """From how many masks a training learnt where defects are, in one line.

    Args:
        learnt: `masks_learnt` of the metrics of a run.
    """
    return f"masks of {learnt['masks']} of {learnt['labelled_anomalies']} labelled anomalies were learnt from"


def promise(calibration: dict) -> str:
    """What a threshold was chosen for, in half a sentence.

    Args:
        calibration: what `Calibration.to_dict` gives.
    """
    policy = calibration["policy"]
    if policy == "false_alarm_rate":
        rate = percent(calibration["false_alarm_rate"])
        if calibration["confidence"] is None:
            return f"chosen so that on average at most {rate} of new normal samples raise a false alarm"
        return (
            f"chosen so that at most {rate} of new normal samples raise a false alarm, "
            f"with {percent(calibration['confidence'])} confidence"
        )
    if policy == "quantile":
        return f"chosen so that {percent(calibration['quantile'])} of the held-out normals lie at or under it"
    found = (
        f"finds {percent(calibration['observed_recall'])} of {calibration['n_anomaly']} labelled anomalies"
    )
    if policy == "wanted_recall":
        wanted = percent(calibration["wanted_recall"])
        return f"chosen to find at least {wanted} of the labelled anomalies ({found})"
    return f"chosen for the best balance of finds and false alarms on labelled samples ({found})"


def price(calibration: Mapping) -> str:
    """What a threshold costs on the normals it was chosen from, and what it finds, as a sentence.

    Args:
        calibration: as `Calibration.to_dict` gives it.
    """
    rate, normals = calibration.get("observed_false_alarm_rate"), calibration["n_normal"]
    if rate is None:  # chosen by a version that did not say
        return "Its price on held-out normals is not recorded: calibrate again to know it."
    words = f"Its price: {percent(rate)} of the {normals} held-out normals lie above it"
    if calibration.get("n_anomaly"):
        found = percent(calibration["observed_recall"])
        words += f", for {found} of {calibration['n_anomaly']} labelled anomalies found"
    return f"{words}."


# From each AUROC up: how well normal and anomalous samples are told apart.
_GRADES = (
    (0.99, "almost without error"),
    (0.95, "very well"),
    (0.9, "well"),
    (0.8, "fairly well"),
    (0.7, "only roughly"),
    (0.0, "barely"),
)


def auroc_verdict(auroc: float, interval: tuple[float, float]) -> str:
    """An AUROC with its 95 % interval in a sentence that needs no knowledge of the word.

    Args:
        auroc: in [0, 1].
        interval: (low, high).
    """
    low, high = interval
    if auroc == 1:
        return "In this test every anomaly scores higher than every normal sample."
    if high < 0.5:
        return "This detector does worse than guessing: it scores normal samples above anomalies."
    if low <= 0.5:
        return "In this test the detector cannot be told from guessing."
    grade = next(words for least, words in _GRADES if auroc >= least)
    return f"The detector tells anomalies from normal samples {grade}."


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun: "two anomalies", "34 samples"."""
    noun = one if count == 1 else many or f"{one}s"
    return f"{_NUMBERS[count] if count < len(_NUMBERS) else count} {noun}"


def in_percent(share: float) -> str:
    """A share as the report writes it: .9374 as "93.7"; never rounded up to 100."""
    text = f"{100 * share:.1f}"
    return "99.9" if text == "100.0" and share < 1 else "100" if share == 1 else text
