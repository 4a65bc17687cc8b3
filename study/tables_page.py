"""The page of AA-BiGAN's results on tables, from the committed results lines."""

import math
import statistics
from collections import defaultdict

from agad_tf.evaluation.intervals import mean_interval
from study.tables import DATASETS, EVALUATIONS, POLICIES, STEPS, select

# AUROC % and deviation of the papers' Table 2; borrowed.
PAPER = {
    "arrhythmia": ((80.7, 3.2), (75.9, 8.7)),
    "cardio": ((98.0, 1.2), (95.0, 1.6)),
    "satellite": ((87.4, 2.3), (91.5, 1.1)),
    "satimage-2": ((99.9, 0.1), (99.9, 0.1)),
    "shuttle": ((99.1, 0.1), (98.4, 0.9)),
    "thyroid": ((98.9, 0.1), (98.6, 0.9)),
}
"""Table to (AA-BiGAN, Deep SAD) as Tian et al. print them, Table 2, γ_l .01."""

HEAD = """# AA-BiGAN on tables

Made by `python -m study.tables report` from `aa_bigan_table2.jsonl` and
`aa_bigan_targets.jsonl`, one line a run and selection policy, and `aa_bigan_development.jsonl`; no figure in
a table was typed in.

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
`python -m study.tables develop --data DIR --variant SETTING --steps STEPS --seeds SEEDS`.
"""


def page(table: list[dict], targets: list[dict], development: list[dict]) -> str:
    """Markdown of the three results files."""
    table, before = _by_setting(table)
    targets, _ = _by_setting(targets)
    runs = [line for line in development if "variant" in line]
    references = [line for line in development if "reference" in line]
    parts = [HEAD.format(steps=STEPS, looks=EVALUATIONS), "## Table 2 of the paper\n", _table2(table)]
    if table:
        parts.append(SHORT)
    for steps, lines in before.items():
        parts += [BEFORE.format(steps=steps), _table2(lines)]
    if references:
        parts += [REFERENCES, _references(references)]
    if runs:
        parts += [DEVELOPMENT, _development(runs)]
    if targets:
        parts += [
            "## The target c of G and E (the paper's Table 5, here on tables)\n",
            _targets(targets, table),
        ]
    return "\n".join(parts).rstrip() + "\n"


def _by_setting(lines: list[dict]) -> tuple[list[dict], dict[int, list[dict]]]:
    """Lines of the number of steps that is the setting now, and those of others by their number."""
    by_steps = defaultdict(list)
    for line in lines:
        by_steps[line["config"].get("steps", STEPS)].append(line)
    return by_steps.pop(STEPS, []), dict(by_steps)


def _table2(lines: list[dict]) -> str:
    by_cell = defaultdict(list)
    for line in lines:
        by_cell[line["dataset"], line["policy"]].append(line)
    rows = [
        f"| table | seeds | {' | '.join(POLICIES)} | 95 % interval of all_labels | paper's AA-BiGAN "
        "| difference | paper's Deep SAD |",
        "|---|---|" + "---|" * (len(POLICIES) + 4),
    ]
    for dataset in DATASETS:
        values = {p: [100 * line["auroc"] for line in by_cell[dataset, p]] for p in POLICIES}
        (ours, ours_sd), (sad, sad_sd) = PAPER[dataset]
        borrowed = f"{ours} ± {ours_sd}", f"{sad} ± {sad_sd}"
        if not values["all_labels"]:
            rows.append(f"| {dataset} | 0 |{' not run |' * 4} {borrowed[0]} | | {borrowed[1]} |")
            continue
        mean, low, high, count = mean_interval(values["all_labels"])
        interval = "n/a" if low is None else f"{low:.1f} to {high:.1f}"
        cells = " | ".join(_cell(values[policy]) for policy in POLICIES)
        rows.append(
            f"| {dataset} | {count} | {cells} | {interval} | {borrowed[0]} | {mean - ours:+.1f} | "
            f"{borrowed[1]} |"
        )
    facts = {name: sorted({line[name] for line in lines}) for name in ("commit",)}
    chosen = [line["score"] for line in lines if line["policy"] == "all_labels"]
    latent = sum(score == "latent" for score in chosen)
    return "\n".join(
        [
            *rows,
            "",
            f"Commit {', '.join(facts['commit'])}. The `all_labels` policy took ‖E(x)‖² in {latent} of "
            f"{len(chosen)} runs and the reconstruction error in the others. "
            f"{_hours(lines)} of computing on one core.",
            "",
        ]
    )


def _targets(lines: list[dict], table: list[dict]) -> str:
    """The runs at several c, and those of Table 2, c = .75, with the same tables and seeds."""
    same = {(line["dataset"], line["seed"]) for line in lines}
    usual = [line for line in table if (line["dataset"], line["seed"]) in same]
    by_cell = defaultdict(list)
    for line in [*lines, *usual]:
        c = line["config"].get("generator_target", 0.75)
        by_cell[line["dataset"], c, line["policy"]].append(100 * line["auroc"])
    rows = [f"| table | c | seeds | {' | '.join(POLICIES)} |", "|---|---|---|" + "---|" * len(POLICIES)]
    for dataset, c in sorted({key[:2] for key in by_cell}):
        cells = [by_cell[dataset, c, policy] for policy in POLICIES]
        rows.append(f"| {dataset} | {c:g} | {len(cells[0])} | {' | '.join(map(_cell, cells))} |")
    return "\n".join([*rows, "", f"{_hours(lines)} of computing on one core.", ""])


def _references(lines: list[dict]) -> str:
    kinds = ("mean", "random normal", "fifth neighbour")
    titles = [f"{kind}{words}" for kind in kinds for words in ("", ", limited")]
    rows = [
        f"| table | seeds | {' | '.join(titles)} | share of constant columns, also limited |",
        "|---|---|" + "---|" * (len(titles) + 1),
    ]
    for dataset in DATASETS:
        of = [line for line in lines if line["dataset"] == dataset]
        if not of:
            continue
        cells = [
            _cell([100 * line[how][kind] for line in of]) for kind in kinds for how in ("scaled", "clipped")
        ]
        shares = [
            statistics.mean(100 * line[how]["constant_share"] for line in of) for how in ("scaled", "clipped")
        ]
        share = " % and ".join(f"{value:.0f}" for value in shares) + " %"
        rows.append(f"| {dataset} | {len(of)} | {' | '.join(cells)} | {share} |")
    return "\n".join([*rows, ""])


def _development(lines: list[dict]) -> str:
    by_cell = defaultdict(list)
    for line in lines:
        by_cell[line["dataset"], line["variant"], line["steps"]].append(line["curve"])
    rows = [
        "| table | setting | steps | seeds | last | mean of all looks | fused, last "
        "| best look, better score |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = sorted(by_cell, key=lambda key: (DATASETS.index(key[0]), key[2], key[1]))
    by_setting = defaultdict(list)
    for dataset, variant, steps in order:
        curves = by_cell[dataset, variant, steps]
        errors = [[100 * look["validation_reconstruction"] for look in curve] for curve in curves]
        bests = []
        for curve in curves:
            look, score = select(curve, "all_labels")
            bests.append(100 * look[f"validation_{score}"])
        fused = [100 * curve[-1].get("validation_fused", math.nan) for curve in curves]
        means = [statistics.mean(error) for error in errors]
        cells = [error[-1] for error in errors], means, fused, bests
        by_setting[steps, variant].append(cells)
        rows.append(f"| {dataset} | {variant} | {steps} | {len(curves)} | {' | '.join(map(_cell, cells))} |")
    for (steps, variant), tables in sorted(by_setting.items()):
        if len(tables) == len(DATASETS):
            means = [
                _cell([statistics.mean(map(statistics.mean, column))]) for column in zip(*tables, strict=True)
            ]
            rows.append(f"| mean of the six | {variant} | {steps} | | {' | '.join(means)} |")
    return "\n".join([*rows, ""])


def _cell(values: list[float]) -> str:
    mean = statistics.mean(values)
    if math.isnan(mean):
        return "–"
    return f"{mean:.1f}" if len(values) < 2 else f"{mean:.1f} ± {statistics.stdev(values):.1f}"


def _hours(lines: list[dict]) -> str:
    seconds = sum(line["seconds"] for line in lines if line["policy"] == "last")
    return f"{seconds / 3600:.1f} hours"
