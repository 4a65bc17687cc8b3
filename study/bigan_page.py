"""The generated parts of the page on AA-BiGAN's tables, from the committed results lines."""

import math
import statistics
from collections import defaultdict

from agad_tf.evaluation.intervals import mean_interval
from study.markdown import mean_and_deviation, table
from study.paper_tables import load
from study.policies import select
from study.training import STEPS, TABLES

POLICIES = ("last", "normal_only", "all_labels")


def parts(lines: list[dict], development: list[dict], mixed: list[dict] = ()) -> dict[str, str]:
    """The generated parts of the page by name; those without lines are left out.

    Args:
        lines: one a run and policy, `config` with the steps and, where it is not the paper's ¾, c.
        development: of variants and references, on development seeds.
        mixed: of several runs on one split, see `study.bigan_runs`.
    """
    made = {"table 2": _table2([])}
    targets = [line for line in lines if "generator_target" in line["config"]]
    by_steps = defaultdict(list)
    for line in lines:
        if "generator_target" not in line["config"]:
            by_steps[line["config"].get("steps", STEPS)].append(line)
    for steps, of in by_steps.items():
        made["table 2" if steps == STEPS else f"{steps} steps"] = _table2(of)
    runs = [line for line in development if "variant" in line]
    references = [line for line in development if "reference" in line]
    targets = [line for line in targets if line["config"].get("steps", STEPS) == STEPS]
    made |= {"references": _references(references)} if references else {}
    made |= {"variants": _development(runs)} if runs else {}
    made |= {"runs": _runs(mixed)} if mixed else {}
    return made | ({"targets": _targets(targets, by_steps[STEPS])} if targets else {})


def _table2(lines: list[dict]) -> str:
    by_cell = defaultdict(list)
    for line in lines:
        by_cell[line["dataset"], line["policy"]].append(100 * line["auroc"])
    rows, paper = [], load("aa_bigan_2")
    for dataset in TABLES:
        printed, sad = (paper.cell(dataset, method=method) for method in ("AA-BiGAN", "Deep SAD"))
        values = [by_cell[dataset, policy] for policy in POLICIES]
        if not values[-1]:
            rows.append([dataset, 0, *["not run"] * 4, printed.text(), "", sad.text()])
            continue
        mean, low, high, count = mean_interval(values[-1])
        interval = "n/a" if low is None else f"{low:.1f} to {high:.1f}"
        cells = [*map(mean_and_deviation, values), interval, printed.text(), f"{mean - printed.value:+.1f}"]
        rows.append([dataset, count, *cells, sad.text()])
    head = ("table", "seeds", *POLICIES, "95 % interval of all_labels", "paper's AA-BiGAN", "difference")
    commits = sorted({line["commit"] for line in lines})
    chosen = [line["score"] for line in lines if line["policy"] == "all_labels"]
    about = (
        f"Commit {', '.join(commits)}. The `all_labels` policy took ‖E(x)‖² in {chosen.count('latent')} of "
        f"{len(chosen)} runs and the reconstruction error in the others. "
        f"{_hours(lines)} of computing on one core."
    )
    return "\n".join([*table([*head, "paper's Deep SAD"], rows), "", about])


def _targets(lines: list[dict], now: list[dict]) -> str:
    """The runs at several c, and those of Table 2, c = .75, with the same tables and seeds."""
    same = {(line["dataset"], line["seed"]) for line in lines}
    by_cell = defaultdict(list)
    for line in [*lines, *(line for line in now if (line["dataset"], line["seed"]) in same)]:
        c = line["config"].get("generator_target", 0.75)
        by_cell[line["dataset"], c, line["policy"]].append(100 * line["auroc"])
    rows = []
    for dataset, c in sorted({key[:2] for key in by_cell}):
        cells = [by_cell[dataset, c, policy] for policy in POLICIES]
        rows.append([dataset, f"{c:g}", len(cells[0]), *map(mean_and_deviation, cells)])
    about = f"{_hours(lines)} of computing on one core."
    return "\n".join([*table(("table", "c", "seeds", *POLICIES), rows), "", about])


def _references(lines: list[dict]) -> str:
    kinds, hows = ("mean", "random normal", "fifth neighbour"), ("scaled", "clipped")
    rows = []
    for dataset in TABLES:
        of = [line for line in lines if line["dataset"] == dataset]
        if of:
            values = [[100 * line[how][kind] for line in of] for kind in kinds for how in hows]
            shares = [statistics.mean(100 * line[how]["constant_share"] for line in of) for how in hows]
            share = " % and ".join(f"{value:.0f}" for value in shares) + " %"
            rows.append([dataset, len(of), *map(mean_and_deviation, values), share])
    head = ["table", "seeds", *(f"{kind}{words}" for kind in kinds for words in ("", ", limited"))]
    return "\n".join(table([*head, "share of constant columns, also limited"], rows))


def _development(lines: list[dict]) -> str:
    by_cell = defaultdict(list)
    for line in lines:
        by_cell[line["dataset"], line["variant"], line["steps"]].append(line["curve"])
    rows, by_setting = [], defaultdict(list)
    for dataset, variant, steps in sorted(by_cell, key=lambda key: (TABLES.index(key[0]), key[2], key[1])):
        curves = by_cell[dataset, variant, steps]
        errors = [[100 * look["validation_reconstruction"] for look in curve] for curve in curves]
        best = [select(curve, "all_labels", ("reconstruction", "latent")) for curve in curves]
        bests = [100 * look[f"validation_{score}"] for look, score in best]
        fused = [100 * curve[-1].get("validation_fused", math.nan) for curve in curves]
        cells = [error[-1] for error in errors], [statistics.mean(error) for error in errors], fused, bests
        by_setting[steps, variant].append(cells)
        rows.append([dataset, variant, steps, len(curves), *map(mean_and_deviation, cells)])
    for (steps, variant), of in sorted(by_setting.items()):
        if len(of) == len(TABLES):
            means = [[statistics.mean(map(statistics.mean, column))] for column in zip(*of, strict=True)]
            rows.append(["mean of the six", variant, steps, "", *map(mean_and_deviation, means)])
    head = ("table", "setting", "steps", "seeds", "last", "mean of all looks", "fused, last")
    return "\n".join(table([*head, "best look, better score"], rows))


def _runs(lines: list[dict]) -> str:
    """Several trainings on one split: each, what mixing gives, and how many fall far under the others."""
    rows, far, count = [], 0, 0
    lines = [line for line in lines if line["trainings"] > 1]
    for line in sorted(lines, key=lambda line: (TABLES.index(line["dataset"]), line["seed"])):
        of = {name: [run[name] for run in line["runs"]] for name in line["runs"][0]}
        median = statistics.median(of["last"])
        far, count = far + sum(value < median - 5 for value in of["last"]), count + len(of["last"])
        each = " ".join(f"{value:.1f}" for value in sorted(of["last"]))
        means = [statistics.mean(of[name]) for name in ("last", "fused", "last looks", "with neighbours log")]
        mixed = [line["mixed"][name] for name in ("short mean", "last mean", "last log with neighbours")]
        figures = [*means, *mixed, line["neighbours"]]
        rows.append([line["dataset"], line["seed"], each, *figures])
    if len({row[0] for row in rows}) == len(TABLES):
        columns = list(zip(*rows, strict=True))[3:]
        rows.append(["mean", "", "", *map(statistics.mean, columns)])
    rows = [[f"{cell:.1f}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    head = ("table", "seed", "each run", "mean of them", "fused", "mean of the last looks")
    head += ("each with neighbours", "mixed after a third of the steps", "mixed", "mixed, with neighbours")
    minutes = sum(sum(line["cpu_seconds"]) for line in lines) / 60
    about = (
        f"{far} of {count} runs are more than 5 points under the median of their split. "
        f"{minutes:.0f} minutes of processor time."
    )
    return "\n".join([*table([*head, "neighbours alone"], rows), "", about])


def _hours(lines: list[dict]) -> str:
    seconds = sum(line["seconds"] for line in lines if line["policy"] == "last")
    return f"{seconds / 3600:.1f} hours"
