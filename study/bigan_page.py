"""The page of AA-BiGAN's results on tables, from the committed results lines."""

import math
import statistics
from collections import defaultdict

from agad_tf.evaluation.intervals import mean_interval
from study.markdown import mean_and_deviation, table
from study.paper_tables import load
from study.policies import select
from study.training import EVALUATIONS, STEPS, TABLES

POLICIES = ("last", "normal_only", "all_labels")

HEAD = """# AA-BiGAN on tables

Made by `agad-tf reproduce report` from `aa_bigan_table2.jsonl` and `aa_bigan_targets.jsonl`, one line a run
and selection policy, and `aa_bigan_development.jsonl`; no figure in a table was typed in.

AUROC in per cent, mean ± standard deviation over seeds, in inference mode, on the test part: 32 % of the
rows, of which the detector saw nothing. 60 % trained it, with labelled anomalies that make up 1 % of the
training rows; 8 % are the validation part. Copies of a row never stand on two sides.

- **last**: after the last step, reconstruction error. Uses no label beyond the collected anomalies.
- **normal_only**: the look with the lowest error on held-out normals, reconstruction error. No label either.
- **all_labels**: the look and the score with the best AUROC on the validation part, which holds the labels
  of 20 % of the held-out rows. This is how the paper's numbers were made.

{steps} steps of 200 normals and 22 anomalies for every table, scores looked at {looks} times. The paper's
columns are borrowed: its splits and its networks' details are not public.
"""


SHORT = """### Where it falls short, and why

By `all_labels` shuttle and thyroid are at or above the paper's mean, as was the aim for all six; cardio is
0.4 points below, satimage-2 0.6, satellite 2.6, arrhythmia 2.8. Cardio and arrhythmia are within the
paper's own standard deviation. Without labels the aim was one such deviation: `last` meets it on cardio,
`normal_only` on arrhythmia; most is missing on satellite (5.8 points by `last`). The stretch, 91.5 on
satellite, is far.

- **Training length**, tested on development seeds over all six tables, three seeds each (below): after 1500
  steps the last look's mean over the tables is 93.1, after 600 it is 91.4, after 3000 92.0. So 1500 was
  taken, and 600, the setting before, was left. With 600 a learning rate of 1e-3 or a latent of 8 does not
  help.
- **Arrhythmia**: some 40 of its 274 columns are constant among the 232 training normals and kept
  their unit; they made up a third of the error of held-out normals (see below). Limited to [−0.5, 1.5] they
  make up 2 %, and one development seed gained 2.6 points on the mean of the looks at its first 600 steps.
  What is left: the distance to a *random* normal is 7 points worse than that to their mean. A
  reconstruction that is a good normal but not the row's own adds noise to the score, and with 232 rows to
  learn from this one is not the row's own. Longer training does not change that.
- **Satellite**: distances to the mean or to random normals reach 65 to 68 there, to neighbours 88: here a
  reconstruction has to follow the row, and learns to as training goes on.
- **Satimage-2**: selection in part: the validation part has about seven anomalies to choose by.
- **Without labels**: the score swings from look to look, and the last look is not better than another.
- **The fused score** (both scores together) was tried on development seeds: over the six tables it is .1
  above the reconstruction error after 1500 steps and .3 below after 600. It is not the default.

The first setting had 1500 steps too, 13 runs with report seeds were made with it, and it was cut to 600 for
what it costs. Since then scaled values are limited, and looks come after equal numbers of steps, so that the
weights are averaged over as many steps on every table. The limit and the return to 1500 were chosen by
development seeds; the others were not chosen by any result.
"""

BEFORE = """### The setting before: {steps} steps

The same seeds, rows and networks. Neither setting was chosen by these tables, and no seed was left out.
"""

REFERENCES = """## What scores without training reach

On the validation parts of development seeds (from 100 on), rows scaled as the model scales them: the squared
distance to the mean of the training normals, to a training normal drawn at random, and to the fifth nearest;
"limited" is with scaled values limited to [−0.5, 1.5]. The last column is the part of the held-out normals'
distance to the mean that lies in columns that are constant among the training normals.
"""

DEVELOPMENT = """## What was tried

On the validation parts of development seeds alone; no test part was looked at. AUROC of the reconstruction
error after the last step, its mean over all looks, the fused score after the last step where it was looked at
(both scores, each standardised on training normals), and the best look of the better one. "default" is
`compile()` with scaled values limited to [−0.5, 1.5]; the other rows say what they change. A row is made by
`agad-tf reproduce table-variants --data DIR --seeds SEEDS --set variant=SETTING --set steps=STEPS`.
"""


def page(lines: list[dict], development: list[dict]) -> str:
    """Markdown of the results.

    Args:
        lines: one a run and policy, `config` with the steps and, where it is not the paper's ¾, c.
        development: of variants and references, on development seeds.
    """
    by_steps = defaultdict(list)
    for line in lines:
        target = "target" if "generator_target" in line["config"] else "table"
        by_steps[target, line["config"].get("steps", STEPS)].append(line)
    now, targets = by_steps.pop(("table", STEPS), []), by_steps.get(("target", STEPS), [])
    runs = [line for line in development if "variant" in line]
    references = [line for line in development if "reference" in line]
    parts = [HEAD.format(steps=STEPS, looks=EVALUATIONS), "## Table 2 of the paper\n", _table2(now)]
    parts += [SHORT] if now else []
    for (kind, steps), before in by_steps.items():
        if kind == "table":
            parts += [BEFORE.format(steps=steps), _table2(before)]
    parts += [REFERENCES, _references(references)] if references else []
    parts += [DEVELOPMENT, _development(runs)] if runs else []
    if targets:
        title = "## The target c of G and E (the paper's Table 5, here on tables)\n"
        parts += [title, _targets(targets, now)]
    return "\n".join(parts).rstrip() + "\n"


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
    return "\n".join([*table([*head, "paper's Deep SAD"], rows), "", about, ""])


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
    return "\n".join([*table(("table", "c", "seeds", *POLICIES), rows), "", about, ""])


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
    return "\n".join([*table([*head, "share of constant columns, also limited"], rows), ""])


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
    return "\n".join([*table([*head, "best look, better score"], rows), ""])


def _hours(lines: list[dict]) -> str:
    seconds = sum(line["seconds"] for line in lines if line["policy"] == "last")
    return f"{seconds / 3600:.1f} hours"
