"""The readings ledger: what each switch did on the development problems, from the stability study's lines."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from agad_tf.files import write_atomically
from study.lines import runs_in
from study.markdown import table
from study.switches import SWITCHES

SHORT, LONG, PAGE = "stability.jsonl", "stability_twenty.jsonl", "readings.md"

FLOOR, FALL = 0.6, 0.15
"""A run collapsed if a score or loss is not finite, or if its last AUROC is under `FLOOR` or more than `FALL`
under the run's best epoch. It swung if it fell by more than `FALL` from one epoch to the next, whatever came
after."""

STOPPING = {
    "last": lambda curve: len(curve) - 1,
    "lowest held-out error": lambda curve: int(np.argmin([epoch["held_out_error"] for epoch in curve])),
    "highest contrast": lambda curve: int(np.argmax([epoch["contrast"] for epoch in curve])),
}
"""Stopping rules that read nothing but normals: curve to the index of the chosen epoch."""


def collapsed(curve: list[dict], score: str) -> bool:
    """Whether a run ended collapsed; see `FLOOR`."""
    values = np.array([epoch[score] for epoch in curve])
    finite = all(np.isfinite(value) for epoch in curve for value in epoch.values())
    return bool(not finite or values[-1] < FLOOR or values[-1] < values.max() - FALL)


def swung(curve: list[dict], score: str) -> bool:
    """Whether AUROC fell by more than `FALL` between two epochs that follow each other."""
    return bool(np.min(np.diff([epoch[score] for epoch in curve]), initial=0.0) < -FALL)


def guard_fired(curve: list[dict]) -> bool:
    """Whether an epoch's losses were what `DivergenceGuard` goes back for."""
    from agad_tf.models.guard import DivergenceGuard

    lowest, factor = np.inf, DivergenceGuard().factor
    for epoch in curve:
        error = epoch["normal_contextual"]
        if not np.isfinite(error) or error > factor * lowest:
            return True
        lowest = min(lowest, error)
    return False


def chosen(record: dict) -> str:
    """The score that `score="auto"` becomes in a run."""
    return "fused" if record["gamma"] else "reconstruction"


def forty_table(records: list[dict]) -> list[str]:
    """Collapses and swings of the plan of forty: default and literal.

    "raw" is the reconstruction score of the default's raw generator with the moving statistics of training.
    """
    rows = []
    for mode in ("default", "literal"):
        for gamma in (0.0, 0.05):
            # The literal mode scores with its raw weights.
            scores = ["reconstruction", *["fused"] * bool(gamma), *["raw"] * (mode == "default")]
            for score in scores:
                curves = [r["curve"] for r in records if r["switch"] == mode and r["gamma"] == gamma]
                if not curves:
                    continue
                last = np.array([curve[-1][score] for curve in curves])
                counts = (sum(test(curve, score) for curve in curves) for test in (collapsed, swung))
                guard = sum(map(guard_fired, curves)) if mode == "default" else "off"
                about = [mode, gamma, score, len(curves), *counts, guard]
                rows.append([*about, _f(last.mean()), _f(last.min())])
    head = ("mode", "γ", "score", "runs", "collapsed", "swung", "guard went back", "mean AUROC", "worst run")
    return table(head, rows)


def switch_table(records: list[dict], gamma: float) -> list[str]:
    """One line a switch: AUROC of the last epoch, and the paired difference to the default."""
    rows = []
    here = [record for record in records if record["gamma"] == gamma]
    default = {_cell(record): record for record in here if record["switch"] == "default"}
    for switch in SWITCHES:
        runs = {_cell(r): r for r in here if r["switch"] == switch and _cell(r) in default}
        if not runs:
            continue
        problems = sorted({cell[:2] for cell in runs})
        seeds = sorted({cell[2] for cell in runs})
        cells = []
        for score in ("reconstruction", "fused"):
            last = {cell: run["curve"][-1][score] for cell, run in runs.items()}
            difference = [last[cell] - default[cell]["curve"][-1][score] for cell in runs]
            spreads = [
                np.std([last[cell] for cell in last if cell[:2] == problem], ddof=1)
                for problem in problems
                if sum(cell[:2] == problem for cell in last) > 1
            ]
            cells += [_f(np.mean(list(last.values())))]
            if score == "reconstruction":
                cells += [_f(np.mean(spreads)) if spreads else "n/a"]
            cells += ["" if switch == "default" else _difference(difference)]
        curves = [run["curve"] for run in runs.values()]
        counts = (sum(test(c, "reconstruction") for c in curves) for test in (collapsed, swung))
        rows.append([f"`{switch}`", len(runs), f"{len(problems)} × {len(seeds)}", *cells, *counts])
    head = ("switch", "runs", "problems × seeds", "AUROC", "spread over seeds", "difference", "fused")
    return table([*head, "difference", "collapsed", "swung"], rows)


def stopping_table(records: list[dict], switch: str = "default") -> list[str]:
    """What each stopping rule gives: mean AUROC of the auto score, and what is lost to the best epoch."""
    rows = []
    for gamma in (0.0, 0.05):
        runs = [r for r in records if r["switch"] == switch and r["gamma"] == gamma]
        if not runs:
            continue
        rules = {name: [rule(run["curve"]) for run in runs] for name, rule in STOPPING.items()}
        if len({_cell(run)[:2] for run in runs}) > 1:
            rules["fixed budget, from the other problems"] = [fixed_budget(runs, run) for run in runs]
        rules["best test epoch (not a rule)"] = [int(np.argmax(_curve(run))) for run in runs]
        for name, epochs in rules.items():
            got = np.array([_curve(run)[epoch] for run, epoch in zip(runs, epochs, strict=True)])
            lost = np.array([_curve(run).max() for run in runs]) - got
            figures = map(_f, (got.mean(), lost.mean(), lost.max()))
            rows.append([gamma, name, len(runs), *figures, f"{np.mean(epochs) + 1:.1f}"])
    head = ("γ", "rule", "runs", "mean AUROC", "mean loss to best epoch", "largest loss", "mean epoch")
    return table(head, rows)


def tracking_table(records: list[dict], switch: str) -> list[str]:
    """How well what normals show follows AUROC from epoch to epoch: rank correlation, mean over runs."""
    rows = []
    for gamma in (0.0, 0.05):
        runs = [r for r in records if r["switch"] == switch and r["gamma"] == gamma]
        for part, first in (("all", 0), ("second half", 0.5)):
            curves = [run["curve"][int(first * len(run["curve"])) :] for run in runs]
            if not curves:
                continue
            means = (
                np.mean([_rank_correlation(curve, quantity) for curve in curves])
                for quantity in ("held_out_error", "contrast")
            )
            rows.append([gamma, len(runs), "reconstruction", part, *(f"{mean:+.2f}" for mean in means)])
    return table(("γ", "runs", "score", "epochs", "held-out error", "contrast"), rows)


def _rank_correlation(curve: list[dict], quantity: str) -> float:
    columns = [[epoch[name] for epoch in curve] for name in (quantity, "reconstruction")]
    if any(len(set(column)) == 1 for column in columns):
        return float("nan")  # what does not move has no ranks
    return spearmanr(*columns).statistic


def fixed_budget(runs: list[dict], run: dict) -> int:
    """The epoch that is best on average over the runs of the other problems."""
    others = [_curve(other) for other in runs if _cell(other)[:2] != _cell(run)[:2]]
    return int(np.argmax(np.mean(others, axis=0)))


def score_table(records: list[dict], switch: str = "default") -> list[str]:
    """AUROC of each score after the last epoch, by problem, and what fusing changed."""
    rows = []
    for gamma in (0.0, 0.05):
        runs = [r for r in records if r["switch"] == switch and r["gamma"] == gamma]
        for problem in [*sorted({_cell(run)[:2] for run in runs}), "all"]:
            curves = [run["curve"] for run in runs if problem in ("all", _cell(run)[:2])]
            if not curves:
                continue
            last = {
                score: np.array([curve[-1][score] for curve in curves])
                for score in ("reconstruction", "discriminator", "fused")
            }
            means = (_f(values.mean()) for values in last.values())
            name = problem if problem == "all" else f"{problem[0]} {problem[1]}"
            gained = _difference(last["fused"] - last["reconstruction"])
            rows.append([gamma, name, len(curves), *means, gained])
    head = ("γ", "problem", "runs", "reconstruction", "discriminator", "fused", "fused − reconstruction")
    return table(head, rows)


def ledger(records: list[dict], longer: list[dict] = ()) -> str:
    """The whole page.

    Args:
        records: of the short runs, the forty of each mode and those of single switches.
        longer: of fewer and longer runs, where stopping matters.
    """
    lines = [
        "# Readings ledger",
        "",
        f"Written by `agad-tf reproduce report` from {_about(records, SHORT)}. Development "
        "problems, naive net, AUROC on a held-out fifth of the training part, last epoch.",
        "",
        "raw: the reconstruction score of the raw generator, as if nothing were averaged or re-estimated.",
        "",
        f"Collapsed: a score or loss that is not finite, or a last AUROC under {FLOOR} or more than {FALL} "
        f"under the run's best epoch. Swung: fell by more than {FALL} from one epoch to the next.",
        "",
        "## Collapses, default and literal",
        "",
        *forty_table(records),
        "",
        f"D was re-initialised {_resets(records)} times in all these runs.",
        *_sections(records, "##"),
    ]
    if longer:
        about = f"From {_about(longer, LONG)}. D was re-initialised {_resets(longer)} times."
        lines += ["", "## Longer runs", "", about, "", *forty_table(longer), *_sections(longer, "###")]
    return "\n".join(lines) + "\n"


def _sections(records: list[dict], level: str) -> list[str]:
    stopping = [line for switch in ("default", "literal") for line in _stopping(records, switch, level)]
    scores = ["", f"{level} Scores, default", "", *score_table(records)]
    return [*_switches(records, level), *stopping, *scores]


def _switches(records: list[dict], level: str) -> list[str]:
    lines = []
    for gamma in (0.05, 0.0):
        if any(record["gamma"] == gamma for record in records):
            lines += ["", f"{level} One switch at a time, γ {gamma}", "", *switch_table(records, gamma)]
    return lines


def _stopping(records: list[dict], switch: str, level: str) -> list[str]:
    if not any(record["switch"] == switch for record in records):
        return []
    return [
        "",
        f"{level} Stopping rules without anomaly labels, {switch}",
        "",
        *stopping_table(records, switch),
        "",
        "Rank correlation with the AUROC of the reconstruction score, epoch by epoch within a run:",
        "",
        *tracking_table(records, switch),
    ]


def _about(records: list[dict], results: str) -> str:
    sizes = sorted({(r["image_size"], r["batch_size"], r["epochs"]) for r in records})
    normals = sorted({record["normals"] for record in records})
    return f"{len(records)} runs in `{results}`: " + "; ".join(
        f"{side}×{side} images, {' or '.join(map(str, normals))} normals, batches of {batch}, {epochs} epochs"
        for side, batch, epochs in sizes
    )


def _resets(records: list[dict]) -> int:
    return round(sum(epoch.get("discriminator_resets", 0) for run in records for epoch in run["curve"]))


def _curve(run: dict) -> np.ndarray:
    return np.array([epoch[chosen(run)] for epoch in run["curve"]])


def _cell(record: dict) -> tuple:
    return record["source"], record["normal_class"], record["seed"]


def _f(value: float) -> str:
    return f"{value:.3f}"


def _difference(values: Iterable[float]) -> str:
    """Mean of paired differences, ± its standard error where there are several."""
    values = np.asarray(values)
    if len(values) < 2:
        return f"{values.mean():+.3f}"
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


def write(results: Path, pages: Path) -> list[Path]:
    """Writes the ledger from the results lines."""
    text = ledger(runs_in(results / SHORT), runs_in(results / LONG))
    write_atomically(pages / PAGE, text.encode())
    return [pages / PAGE]
