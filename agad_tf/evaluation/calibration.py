"""The calibration of a model: a threshold, the normal scores it rests on, and the file that keeps both."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from agad_tf.errors import InputError
from agad_tf.evaluation.conformal import threshold_for_false_alarm_rate
from agad_tf.evaluation.decisions import Decision
from agad_tf.evaluation.metrics import check_scores, check_share
from agad_tf.files import write_atomically

POLICIES = ("false_alarm_rate", "quantile", "best_f1", "wanted_recall")
FORMAT = "agad_tf.calibration/1"
_CHECKSUM = "sha256"
_PRICE = "observed_false_alarm_rate"


@dataclass(frozen=True, eq=False)
class Calibration:
    """A threshold, how it was chosen, and the normal scores it rests on. Made by `agad_tf.calibrate`.

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
        check_settings(
            self.policy,
            false_alarm_rate=self.false_alarm_rate,
            confidence=self.confidence,
            quantile=self.quantile,
            wanted_recall=self.wanted_recall,
        )
        _check_anomaly_numbers(self)
        expected = threshold_from_normals(
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


def check_settings(policy: str, **settings: float | None) -> None:
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


def threshold_from_normals(
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
