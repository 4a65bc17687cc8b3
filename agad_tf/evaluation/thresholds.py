"""From scores to decisions: conformal p-values, thresholds with a guarantee, the calibration of a model.

The rule is the same everywhere: a sample is called an anomaly when **score > threshold**, strictly. A
threshold for a wanted false-alarm rate is one of the calibration scores itself, so with the strict rule a tie
with it is no alarm and the guarantee holds for tied scores too.

    from agad_tf.evaluation.thresholds import calibrate
    calibration = calibrate(scores_of_held_out_normals, rate=.05)
    calibration.is_anomaly(new_scores), calibration.p_values(new_scores)
    calibration.save("calibration.json")

The normals must be held out: scores of training images are too low, and so would the threshold be.
NumPy, SciPy and scikit-learn only.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from agad_tf.errors import InputError
from agad_tf.evaluation.decisions import Decision
from agad_tf.evaluation.metrics import ROUNDING, best_f1, check_scores, check_share, threshold_below
from agad_tf.files import write_atomically

POLICIES = ("false_alarm_rate", "quantile", "best_f1", "wanted_recall")
FORMAT = "agad_tf.calibration/1"
_CHECKSUM = "sha256"
_PRICE = "observed_false_alarm_rate"


def p_values(calibration_scores: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Conformal p-value of each score: (1 + #{calibration scores >= score}) / (n + 1).

    For a fresh normal P(p <= a) <= a for every a, whatever the distribution of the scores, as long as it is
    exchangeable with the calibration normals (Vovk, Gammerman & Shafer, "Algorithmic learning in a random
    world", 2005, chapter 2).

    Args:
        calibration_scores: (n,) scores of held-out normals.
        scores: (m,) scores to judge.

    Returns:
        float64 (m,), from 1 / (n + 1) to 1; small means unlike the normals. NaN for a score that is NaN or
        infinite.

    Raises:
        InputError: calibration scores that are not finite, not 1-D or empty.
    """
    return Decision(check_scores(calibration_scores, "calibration scores"), math.nan).p_values(scores)


def normals_needed(rate: float, confidence: float | None = None) -> int:
    """Fewest calibration normals with which a threshold can promise ``rate``.

    Args:
        rate: wanted false-alarm rate, above 0 and below 1.
        confidence: None for the marginal guarantee, otherwise above 0 and below 1.

    Returns:
        ceil(1 / rate) - 1, or with confidence the least n for which 1 - (1 - rate)^n >= confidence.

    Raises:
        InputError: an argument out of range.
    """
    rate = check_share(rate, "false-alarm rate")
    if confidence is None:
        return max(1, math.ceil(1 / rate - ROUNDING) - 1)
    confidence = check_share(confidence, "confidence")
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-rate) - ROUNDING))


def threshold_for_false_alarm_rate(
    normal_scores: ArrayLike, rate: float, confidence: float | None = None
) -> float:
    """Smallest calibration score that keeps false alarms at or under ``rate``, guaranteed for finite samples.

    Without ``confidence``, split conformal: the k-th smallest of n scores, k = n + 1 - floor(rate (n + 1)).
    P(fresh normal > threshold) <= rate, on average over calibration sets as well as fresh normals (marginal);
    the decision is that of `p_values` <= rate. Lei et al., "Distribution-free predictive inference for
    regression", JASA 2018.

    With ``confidence``, for this one calibration set: the false-alarm rate of the k-th smallest score is
    Beta(n + 1 - k, k) distributed over calibration sets (stochastically less with ties), and k is the
    smallest with P(Beta <= rate) >= confidence. Vovk, "Conditional validity of inductive conformal
    predictors", ACML 2012.

    Args:
        normal_scores: (n,) scores of held-out normals, in any order.
        rate: wanted false-alarm rate, above 0 and below 1.
        confidence: None, or above 0 and below 1 (.95, say).

    Returns:
        The threshold; a sample is called an anomaly when its score > threshold.

    Raises:
        InputError: too few normals (says how many are needed and how many more); scores that are not finite;
            an argument out of range.
    """
    ascending = np.sort(check_scores(normal_scores, "normal scores"))
    n, needed = ascending.size, normals_needed(rate, confidence)
    if n < needed:
        reachable = 1 / (n + 1) if confidence is None else -math.expm1(math.log1p(-confidence) / n)
        at = "" if confidence is None else f" with confidence {confidence:g}"
        raise InputError(
            f"A false-alarm rate of {rate:g}{at} needs {needed} held-out normals, received {n}: "
            f"add {needed - n} more, or ask for a rate of {_rounded_up(reachable)} or more."
        )
    if confidence is None:
        above = min(n, math.floor(rate * (n + 1) + ROUNDING))
    else:
        j = np.arange(1, n + 1)  # j = n + 1 - k; P(Beta(j, n + 1 - j) <= rate) falls with j
        above = np.count_nonzero(special.betainc(j, n + 1 - j, rate) >= confidence - ROUNDING)
    return float(ascending[n - above])


def _rounded_up(rate: float) -> str:
    return f"{math.ceil(rate * 1e4 - ROUNDING) / 1e4:g}"


@dataclass(frozen=True, eq=False)
class Calibration:
    """A threshold, how it was chosen, and the normal scores it rests on. Made by `calibrate`.

    Args:
        normal_scores: (n,) scores of held-out normals; kept ascending, float64 and read-only.
        threshold: a sample is called an anomaly when its score > threshold.
        policy: one of `POLICIES`.
        score: name of the score ("reconstruction", "fused", ...).
        split: which data the scores come from ("validation normals of split 3fa9", say).
        false_alarm_rate: wanted rate (policy "false_alarm_rate").
        confidence: of the wanted rate for this calibration set; None means the marginal guarantee.
        quantile: share of calibration normals at or under the threshold (policy "quantile").
        wanted_recall: share of labelled anomalies to find (policy "wanted_recall").
        n_anomaly: number of labelled anomalies, where there are any.
        observed_recall: share of those that the threshold finds.
        observed_f1: F1 of the threshold on the calibration normals and those anomalies.

    Raises:
        InputError: a value of the wrong kind or out of range, settings of another policy, or a threshold that
            does not follow from the normal scores under its policy.
    """

    normal_scores: np.ndarray
    threshold: float
    policy: str
    score: str = "unspecified"
    split: str = "unspecified"
    false_alarm_rate: float | None = None
    confidence: float | None = None
    quantile: float | None = None
    wanted_recall: float | None = None
    n_anomaly: int | None = None
    observed_recall: float | None = None
    observed_f1: float | None = None

    def __post_init__(self) -> None:
        scores = np.sort(check_scores(self.normal_scores, "normal_scores"))
        scores.flags.writeable = False
        object.__setattr__(self, "normal_scores", scores)
        object.__setattr__(self, "threshold", float(check_scores([self.threshold], "threshold")[0]))
        for name in ("score", "split"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"Expected {name} to be text, received {getattr(self, name)!r}: name it.")
        _check_settings(
            self.policy,
            false_alarm_rate=self.false_alarm_rate,
            confidence=self.confidence,
            quantile=self.quantile,
            wanted_recall=self.wanted_recall,
        )
        _check_anomaly_numbers(self)
        expected = _threshold_from_normals(
            scores, self.policy, self.false_alarm_rate, self.confidence, self.quantile
        )
        if expected is not None and expected != self.threshold:
            raise InputError(
                f"Expected threshold {expected!r} under policy {self.policy}, received "
                f"{self.threshold!r}: calibrate again instead of editing the threshold."
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Calibration) and self.to_dict() == other.to_dict()

    __hash__ = None

    @property
    def decision(self) -> Decision:
        """What it decides by."""
        return Decision(self.normal_scores, self.threshold)

    @property
    def n_normal(self) -> int:
        """Number of calibration normals."""
        return self.normal_scores.size

    @property
    def observed_false_alarm_rate(self) -> float:
        """Share of the calibration normals above the threshold."""
        return float(np.mean(self.normal_scores > self.threshold))

    def p_values(self, scores: ArrayLike) -> np.ndarray:
        """Conformal p-value of each score, see `p_values`; float64 (m,), NaN for what could not be scored."""
        return self.decision.p_values(scores)

    def is_anomaly(self, scores: ArrayLike) -> np.ndarray:
        """bool (m,): score > threshold, compared in float64; True for what could not be scored."""
        return self.decision.is_anomaly(scores)

    def to_dict(self) -> dict:
        """The content of calibration.json: all fields as plain values, with ``format`` and ``n_normal``.

        ``observed_false_alarm_rate`` is the price of the threshold on the normals it was chosen from.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            "format": FORMAT,
            "n_normal": self.n_normal,
            "observed_false_alarm_rate": self.observed_false_alarm_rate,
            **values,
            "normal_scores": self.normal_scores.tolist(),
        }

    @classmethod
    def from_dict(cls, content: dict) -> Calibration:
        """The calibration that `to_dict` described.

        Raises:
            InputError: a missing, unknown or invalid entry, or another format.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else type(content).__name__
            raise InputError(
                f"Expected a calibration of format {FORMAT!r}, received {found!r}: calibrate again."
            )
        names = {field.name for field in fields(cls)} | {"format", "n_normal"}
        wrong = sorted(names ^ (set(content) - {_PRICE}))  # files of version 0.1 do not say it
        if wrong:
            kind = "is missing" if wrong[0] in names else "is unknown"
            raise InputError(
                f"Expected the entries that calibrate writes, but {wrong[0]!r} {kind}: calibrate again."
            )
        scores, number = content["normal_scores"], content["n_normal"]
        plain = isinstance(scores, list) and all(type(value) in (int, float) for value in scores)
        if not plain or not _is_number(content["threshold"]):
            raise InputError(
                "Expected normal_scores as a list of numbers and threshold as a number, "
                "received something else: calibrate again."
            )
        if type(number) is not int or number != len(scores):
            raise InputError(
                f"Expected n_normal to be the {len(scores)} normal scores listed, received "
                f"{number!r}: the file was cut or edited, calibrate again."
            )
        derived = ("format", "n_normal", _PRICE)
        return cls(**{name: value for name, value in content.items() if name not in derived})

    def save(self, path: str | Path) -> None:
        """Writes calibration.json with a checksum, whole or not at all.

        Raises:
            InputError: the folder is missing.
        """
        content = self.to_dict()
        content[_CHECKSUM] = _checksum(content)
        write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Reads and checks what `save` wrote.

        Raises:
            InputError: no such file, not JSON, not a valid calibration, or not as it was written; names the
                file. Files of before have no checksum.
        """
        try:
            if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
                raise InputError("expected a calibration file, received a folder, pipe or device: remove it")
            content = json.loads(Path(path).read_bytes())
            if isinstance(content, dict) and _CHECKSUM in content:
                written = content.pop(_CHECKSUM)
                if written != _checksum(content):
                    raise InputError(
                        "expected the calibration as it was written, received other content (its checksum "
                        "differs): calibrate again with `agad-tf recalibrate`"
                    )
            return cls.from_dict(content)
        except OSError as error:
            raise InputError(
                f"Expected a calibration file, could not read {path} ({error.strerror}): "
                "give the path of a calibration.json."
            ) from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            raise InputError(
                f"{path}: expected JSON, received something else ({error}): calibrate again."
            ) from None


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_settings(policy: str, **settings: float | None) -> None:
    """The settings of the policy are there and in range, and no setting of another policy is."""
    if policy not in POLICIES:
        raise InputError(
            f"Expected one of the policies {', '.join(POLICIES)}, received {policy!r}: choose one."
        )
    for name, value in settings.items():
        argument = {"false_alarm_rate": "rate", "wanted_recall": "recall"}.get(name, name)
        if value is None:
            if name == policy:  # the setting that a policy needs bears its name
                raise InputError(f"Policy {policy} expects {argument}, received none: give a share.")
        elif name != policy and (policy, name) != ("false_alarm_rate", "confidence"):
            raise InputError(
                f"Policy {policy} takes no {argument}, received {value!r}: leave it out or "
                "choose another policy."
            )
        else:
            check_share(value, argument, upper_included=name in ("quantile", "wanted_recall"))


def _check_anomaly_numbers(calibration: Calibration) -> None:
    numbers = calibration.n_anomaly, calibration.observed_recall, calibration.observed_f1
    if numbers == (None, None, None) and calibration.policy in ("false_alarm_rate", "quantile"):
        return
    count, *shares = numbers
    if type(count) is not int or count < 1 or any(not _is_number(x) or not 0 <= x <= 1 for x in shares):
        raise InputError(
            "Expected n_anomaly >= 1 with observed_recall and observed_f1 from 0 to 1, received "
            f"{numbers!r}: calibrate again with labelled anomalies."
        )


def _threshold_from_normals(
    normal_scores: np.ndarray,
    policy: str,
    rate: float | None,
    confidence: float | None,
    quantile: float | None,
) -> float | None:
    """Threshold of the policies that need no anomalies; None for the others."""
    if policy == "false_alarm_rate":
        return threshold_for_false_alarm_rate(normal_scores, rate, confidence)
    if policy == "quantile":
        return float(np.quantile(normal_scores, quantile, method="inverted_cdf"))
    return None


def calibrate(
    normal_scores: ArrayLike,
    anomaly_scores: ArrayLike | None = None,
    policy: str = "false_alarm_rate",
    rate: float = 0.05,
    confidence: float | None = None,
    recall: float | None = None,
    quantile: float | None = None,
    *,
    score: str = "unspecified",
    split: str = "unspecified",
) -> Calibration:
    """Chooses the threshold and keeps what it rests on.

    Policies:
        false_alarm_rate: `threshold_for_false_alarm_rate(normal_scores, rate, confidence)`; a guarantee.
        quantile: smallest calibration score with at least ``quantile`` of the normals at or under it;
            no guarantee.
        best_f1: highest F1 on the given normals and anomalies; depends on their proportion.
        wanted_recall: highest threshold that finds at least ``recall`` of the given anomalies; says nothing
            about anomalies of other kinds.

    Args:
        normal_scores: (n,) scores of held-out normals.
        anomaly_scores: (m,) scores of labelled held-out anomalies, or None; an empty array counts as None.
            With a policy that does not need them they serve to report recall and F1 at the threshold.
        policy: one of `POLICIES`.
        rate: wanted false-alarm rate; read by policy "false_alarm_rate" only.
        confidence: see `threshold_for_false_alarm_rate`.
        recall: share of anomalies to find, above 0 and up to 1; policy "wanted_recall" only.
        quantile: above 0 and up to 1; policy "quantile" only.
        score: name of the score.
        split: which data the scores come from.

    Returns:
        The calibration.

    Raises:
        InputError: scores not finite or not 1-D, arguments missing, out of range or of another policy, too
            few normals, no anomalies where the policy needs them.
    """
    normals = check_scores(normal_scores, "normal scores")
    no_anomalies = anomaly_scores is None or np.size(anomaly_scores) == 0
    settings = {
        "false_alarm_rate": rate if policy == "false_alarm_rate" else None,
        "confidence": confidence,
        "quantile": quantile,
        "wanted_recall": recall,
    }
    _check_settings(policy, **settings)
    if no_anomalies and policy in ("best_f1", "wanted_recall"):
        raise InputError(
            f"Policy {policy} expects scores of labelled anomalies, received none: use policy "
            "false_alarm_rate, which needs normals only."
        )
    threshold = _threshold_from_normals(normals, policy, rate, confidence, quantile)
    observed = {}
    if not no_anomalies:
        anomalies = check_scores(anomaly_scores, "anomaly scores")
        together = np.concatenate([normals, anomalies])
        if policy == "best_f1":
            threshold = best_f1(np.arange(together.size) >= normals.size, together)[1]
        elif policy == "wanted_recall":
            wanted = max(1, math.ceil(recall * anomalies.size - ROUNDING))
            threshold = threshold_below(np.sort(anomalies)[anomalies.size - wanted], together)
        found, alarms = int(np.sum(anomalies > threshold)), int(np.sum(normals > threshold))
        observed = {
            "n_anomaly": anomalies.size,
            "observed_recall": found / anomalies.size,
            "observed_f1": 2 * found / (found + alarms + anomalies.size),
        }
    return Calibration(normals, threshold, policy, score, split, **settings, **observed)
