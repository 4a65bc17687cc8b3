"""Selection policies: which look at a training a result is taken from, and with which score.

A look is what was measured after an epoch: a dict with `epoch`, `normal_error` (mean of the first score over
held-out normals) and, for every part and score, `<part>_<score>`, an AUROC or None where it cannot be said.
Parts: `validation` (every label of the validation part), `known` (of its anomalies only the collected
classes), `test`.
"""

POLICIES = {
    "last": "the last epoch; no label beyond the collected anomalies",
    "normal_only": "the epoch with the lowest error on held-out normals; no label either",
    "known_anomalies": "the best AUROC on validation samples with anomalies of the collected classes alone",
    "all_labels": "the best AUROC on validation samples with anomalies of every class, as in the papers",
}
"""Name to what is selected by, and from which labels."""

READS = {"known_anomalies": "known", "all_labels": "validation"}
"""The part whose AUROC a policy goes by."""


def possible(curve: list[dict], policy: str, scores: tuple[str, ...]) -> bool:
    """Whether a policy can choose: its labels exist, and something was finite."""
    part = READS.get(policy)
    if part is not None:
        return any(_value(look, part, score) is not None for look in curve for score in scores)
    return policy == "last" or any(look["normal_error"] is not None for look in curve)


def select(curve: list[dict], policy: str, scores: tuple[str, ...]) -> tuple[dict, str]:
    """The look that a policy takes, and the score it reports.

    Args:
        curve: looks in the order of epochs, at least one.
        policy: a name in `POLICIES`, one that is `possible`.
        scores: names; without labels the first is taken.
    """
    if policy == "last":
        return curve[-1], scores[0]
    if policy == "normal_only":
        finite = [look for look in curve if look["normal_error"] is not None]
        return min(finite, key=lambda look: look["normal_error"]), scores[0]
    choices = [
        (look, score) for look in curve for score in scores if _value(look, READS[policy], score) is not None
    ]
    return max(choices, key=lambda choice: _value(choice[0], READS[policy], choice[1]))


def _value(look: dict, part: str, score: str) -> float | None:
    return look.get(f"{part}_{score}")
