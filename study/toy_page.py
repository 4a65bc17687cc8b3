"""The picture and the page of the two-dimensional experiment."""

import statistics
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from study.toy import GAP, NEAR, OBJECTIVES, sample_anomalies, sample_normals


def by_objective(records: list[dict]) -> dict[str, list[dict]]:
    """The records of each objective, by seed."""
    return {
        name: sorted((r for r in records if r["objective"] == name), key=lambda r: r["seed"])
        for name in OBJECTIVES
    }


def paired_counts(records: list[dict], first: str, second: str) -> tuple[int, int]:
    """In how many seeds the first objective has less mass near the anomalies than the second; of how many."""
    groups = by_objective(records)
    mass = {name: {r["seed"]: r["near_anomalies"] for r in groups[name]} for name in (first, second)}
    seeds = mass[first].keys() & mass[second].keys()
    return sum(mass[first][seed] < mass[second][seed] for seed in seeds), len(seeds)


def picture(records: list[dict], path: Path) -> None:
    """Above, G(z) of one seed for each objective; below, the mass near the anomalies of every seed."""
    groups = by_objective(records)
    figure = Figure(figsize=(3.1 * len(OBJECTIVES), 6.4), dpi=110, layout="constrained")
    axes = figure.subplots(2, len(OBJECTIVES), sharey="row", height_ratios=(1, 0.8))
    rng = np.random.default_rng(0)
    normals, anomalies = sample_normals(rng, 700), sample_anomalies(rng, 100)
    for above, below, (name, runs) in zip(*axes, groups.items(), strict=True):
        above.scatter(*normals.T, s=4, color="#c8d3dd", label="normals")
        above.scatter(*anomalies.T, s=4, color="#e4a6a6", label="collected anomalies")
        shown = next((run for run in runs if run["samples"]), None)
        if shown:
            above.scatter(*np.array(shown["samples"]).T, s=3, color="#1f5f8b", label="G(z)")
        circle = np.linspace(0, 2 * np.pi, 100)
        above.plot(GAP[0] + NEAR * np.cos(circle), GAP[1] + NEAR * np.sin(circle), color="#a03030", lw=0.8)
        above.set(title=name, xlim=(-1.8, 1.8), ylim=(-1.8, 1.8), aspect="equal", xticks=[], yticks=[])
        mass = [100 * run["near_anomalies"] for run in runs]
        below.bar([run["seed"] for run in runs], mass, color="#1f5f8b")
        below.set(xlabel="seed", xticks=[run["seed"] for run in runs])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3, loc="outside upper center", markerscale=2)
    axes[1, 0].set_ylabel("% of G(z) near the anomalies")
    figure.savefig(path)


def page(records: list[dict]) -> str:
    """Markdown of the results file."""
    groups = by_objective(records)
    rows = [
        "| objective | seeds | % of G(z) near the anomalies: mean (least to most) "
        "| % near a mode of the normals | modes met of 7 | seeds with less mass there than (7), (8) |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in groups.items():
        if not runs:
            continue
        mass = [100 * run["near_anomalies"] for run in runs]
        normal = statistics.mean(100 * run["near_normals"] for run in runs)
        modes = statistics.mean(run["modes"] for run in runs)
        less = "" if name == "(7), (8)" else "{} of {}".format(*paired_counts(records, name, "(7), (8)"))
        rows.append(
            f"| {name} | {len(runs)} | {statistics.mean(mass):.2f} ({min(mass):.2f} to {max(mass):.2f}) | "
            f"{normal:.1f} | {modes:.1f} | {less} |"
        )
    steps = sorted({record["steps"] for record in records})
    commits = sorted({record["commit"] for record in records})
    return f"""# Where AA-BiGAN puts its mass, in two dimensions

Made by `python -m study.toy report` from `toy.jsonl`, which
`python -m study.toy run` fills. {", ".join(map(str, steps))} steps of 256 samples; commit
{", ".join(commits)}.

Normals are seven Gaussians on a ring that has room for eight; the collected anomalies fill the gap. (7), (8)
is the bidirectional LSGAN without anomalies, (9), (10) the paper's first anomaly-aware objective, (15), (16)
the final one, at two values of c. D' is left out, as in these equations. "Near" is within three standard
deviations of a Gaussian's centre.

{chr(10).join(rows)}

## What was seen

Only with (9), (10), whose discriminator calls collected anomalies generated (target b), did every seed keep
clear of them. With (15), (16), target (a + b) / 2, most seeds have next to no mass there and single ones have
a lot, at either c, as without any anomalies: no direction holds for all seeds, and a difference of the means
is one or two seeds. That agrees with Theorem 3, which says that the optimum is p_G = p_E⁺ and nothing about
mass near anomalies on the way there; where anomalies dominate, the discriminator's ideal answer rises from b
to (a + b) / 2, which is nearer to c.

None of these generators is at the optimum: of seven modes they meet two to four, and up to two thirds of
their mass is near any. Learning rates of 2e-4 and 3e-3, batch norm, a wider discriminator and one that
learns five times as fast did not mend that for (7), (8), each tried on one seed that is not among these: 0 to
3 modes. The table is about what training does, not about what the objectives have as their solution.

![samples and mass by objective](toy.png)
"""
