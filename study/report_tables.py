"""Sections of the report: a table of a paper beside ours, and the grids that are ours alone."""

from collections import defaultdict

from study.grid import Job, unique
from study.grid_costs import Costs
from study.grid_policies import POLICIES
from study.jobs import (
    FASHION_PAIRS,
    NOT_MADE,
    WITHOUT_CONTEXTUAL,
    Grid,
    jobs_of_cell,
    more_jobs,
    paper_jobs,
    paper_seeds,
)
from study.paper_tables import Cell, PaperTable, load
from study.report_lines import Figure, Results, paired
from study.tables import DATASETS, EVALUATIONS, STEPS

MISSING = "–"
COLUMN_NAMES = {
    "normal_class": "normal class",
    "gamma": "γ",
    "pollution": "γ_p",
    "anomaly_class_count": "k_l",
    "generator_target": "c",
    "dataset": "data",
    "epoch": "epoch",
}


def row(*cells) -> str:
    return "| " + " | ".join(MISSING if cell is None else str(cell) for cell in cells) + " |"


def header(*names) -> list[str]:
    return [row(*names), "|" + "---|" * len(names)]


def figure(value: Figure | None, interval: bool = True) -> str:
    return MISSING if value is None else value.text(interval)


def difference(ours: Figure | None, paper: float | None) -> str:
    return MISSING if ours is None or paper is None else f"{ours.mean - paper:+.1f}"


def settings_of(job: Job) -> str:
    """What a method is run with, in a word or two."""
    said = [job.backbone] if job.backbone else []
    said += ["without L_adcon"] if job.compile == WITHOUT_CONTEXTUAL else []
    said += [f"{k} {v:g}" for k, v in job.compile.items() if k != "contextual_adversarial_weight"]
    said += [str(value) for value in job.model.values()]
    return ", ".join(said)


def length_of(job: Job, epochs: int) -> str:
    """How long a run trained; AA-BiGAN's on tables are counted in steps."""
    if job.method == "aa_bigan" and job.dataset in DATASETS:
        return f"{epochs * (STEPS // EVALUATIONS)} steps"
    return str(epochs)


def method_of(job: Job) -> str:
    settings = settings_of(job)
    return f"{job.method} ({settings})" if settings else job.method


# -- the papers' tables --------------------------------------------------------------------------------------


def paper_section(table: PaperTable, results: Results, costs: Costs) -> str:
    """One table of a paper: ours beside it, what is missing, and the paper's own figures."""
    parts = [f"## {table.title}: {table.caption}", "", f"{table.metric}."]
    parts += [f"- {name}: {value}" for name, value in table.protocol.items()]
    parts += [f"- note: {' '.join(note.split())}" for note in table.notes]
    ours = epoch_times(table, results) if table.name == "aa_bigan_time" else beside(table, results)
    parts += ["", "### Ours beside the paper's", ""]
    name = table.name.replace("_", "-")
    if ours:
        parts += ours
    elif name in NOT_MADE:
        parts.append(f"No run: {NOT_MADE[name]}.")
    else:
        parts.append("No run yet.")
    if name not in NOT_MADE:
        parts += [
            "",
            "### Missing",
            "",
            *missing_table(paper_jobs(table.name, paper_seeds(table.name)), results, costs),
        ]
    if table.cells:
        parts += ["", "### The paper's figures", "", *paper_matrix(table)]
    return "\n".join(parts) + "\n"


def beside(table: PaperTable, results: Results) -> list[str]:
    """One line for every cell that something was run of, and for runs that have no cell."""
    lines, seeds = [], paper_seeds(table.name)
    for cell in table.cells:
        jobs = jobs_of_cell(table, cell, seeds)
        lines += _beside(table, cell, jobs, results)
    by_cell = defaultdict(list)
    of_cells = {job.cell for c in table.cells for job in jobs_of_cell(table, c, 1)}
    for job in more_jobs(table.name, seeds):
        if job.cell not in of_cells:
            by_cell[job.cell].append(job)
    for jobs in by_cell.values():
        column = getattr(jobs[0], table.columns, MISSING)  # of a plot there is none
        lines += _lines(
            jobs[0].dataset, column, jobs, results, None, with_class=table.columns != "normal_class"
        )
    if not lines:
        return []
    policies = tuple(POLICIES)
    column = () if table.columns == "dataset" else (COLUMN_NAMES[table.columns],)
    names = ("data", *column, "method", "paper", "epochs", "runs", *policies)
    return [*header(*names, "last − paper", "all_labels − paper", "configuration"), *lines]


def epoch_times(table: PaperTable, results: Results) -> list[str]:
    """Processor seconds of the last of two epochs, beside the seconds of the paper's machine."""
    seconds: dict[tuple, float] = {}
    for job in more_jobs(table.name, 1):
        runs = results.lines_of([job], "last", job.epochs)
        if runs and runs[0].get("epoch_cpu_seconds") is not None:
            seconds[job.dataset, job.method] = runs[0]["epoch_cpu_seconds"]
    lines = []
    for dataset in dict.fromkeys(dataset for dataset, _ in seconds):
        pair = [seconds.get((dataset, method)) for method in ("aa_bigan", "alad")]
        papers = [table.cell(dataset, method=method).value for method in ("AA-BiGAN", "ALAD")]
        for kind, (ours, alads) in (("here, one core of a CPU", pair), ("the paper, its GPU", papers)):
            ratio = None if None in (ours, alads) else f"{ours / alads:.2f}"
            lines.append(
                row(dataset, kind, *(None if s is None else f"{s:.3f}" for s in (ours, alads)), ratio)
            )
    if not lines:
        return []
    return [*header("data", "where", "AA-BiGAN, seconds", "ALAD, seconds", "ratio"), *lines]


def _beside(table: PaperTable, cell: Cell, jobs: list[Job], results: Results) -> list[str]:
    # More seeds than the paper's count too.
    seeds = {seed for job in jobs for seed in results.seeds_of(job)}
    if table.columns != "anomaly_class_count" and seeds:
        jobs = unique([*jobs, *jobs_of_cell(table, cell, max(seeds) + 1)])
    return _lines(cell.dataset, cell.column, jobs, results, cell)


def _lines(
    dataset, column, jobs: list[Job], results: Results, cell: Cell | None, with_class=False
) -> list[str]:
    found = []
    cells = {job.cell for job in jobs}
    for epochs in results.epochs(jobs):
        run = [job for job in jobs if epochs in results.runs(job)]
        whole = {job.cell for job in run} == cells
        expected = len(jobs)
        for score in (None, "fused"):
            figures = results.figures(run, epochs, score)
            if score is not None and figures["last"] is None:
                continue
            method = method_of(jobs[0]) + ("" if score is None else ", fused score")
            if with_class and jobs[0].normal_class is not None:
                method += f", normal {jobs[0].normal_class}"
            paper = MISSING if cell is None else cell.text()
            value = cell.value if cell is not None and whole else None
            found.append(
                row(
                    dataset,
                    *(() if column == dataset else (column,)),
                    method,
                    paper,
                    length_of(jobs[0], epochs),
                    f"{len(run)} of {expected}" if len(run) < expected else len(run),
                    *(figure(figures[policy], policy in ("last", "all_labels")) for policy in POLICIES),
                    difference(figures["last"], value),
                    difference(figures["all_labels"], value),
                    f"`{_line(results, run[0], epochs)['config_sha256'][:8]}`"
                    if len(cells) == 1
                    else f"{len(cells)}",
                )
            )
    return found


def _line(results: Results, job: Job, epochs: int) -> dict:
    return next(iter(results.runs(job)[epochs].values()))


def missing_table(jobs: list[Job], results: Results, costs: Costs) -> list[str]:
    """What was not run, by data and method, and its hours on one core."""
    groups = defaultdict(list)
    for job in jobs:
        groups[job.dataset, method_of(job)].append(job)
    lines = header("data", "method", "runs missing", "of", "hours on one core")
    for (dataset, method), of_group in groups.items():
        left = results.missing(of_group)
        if left:
            lines.append(row(dataset, method, len(left), len(of_group), hours(left, costs)))
    return lines if len(lines) > 2 else ["Nothing."]


def hours(jobs: list[Job], costs: Costs) -> str:
    """Hours of jobs, from measured seconds."""
    seconds = [costs.seconds(job) for job in jobs]
    if None in seconds:
        return "not measured"
    total = sum(seconds) / 3600
    if total >= 100:
        return f"{total:.0f}"
    return f"{total:.1f}" if total >= 0.05 else f"{total:.3f}"


def paper_matrix(table: PaperTable) -> list[str]:
    """The paper's figures as it prints them, borrowed ones marked, with the reasons of empty cells."""
    rows: dict[tuple, list[Cell]] = defaultdict(list)
    for cell in table.cells:
        names = tuple(f"{value}" for name, value in cell.row.items() if name not in ("dataset", "method"))
        rows[cell.row.get("dataset", ""), cell.method, *names].append(cell)
    lines = []
    blocks: dict[tuple, list[tuple]] = defaultdict(list)
    for key, cells in rows.items():
        blocks[tuple(cell.column for cell in cells)].append((key, cells))
    marks = {"own": "", "borrowed": " (b)", "unclear": " (?)"}
    reasons = []
    for columns, of_block in blocks.items():
        lines += ["", *header("data", "method", *columns)] if lines else header("data", "method", *columns)
        for (dataset, method, *names), cells in of_block:
            named = f"{method}, {', '.join(names)}" if names else method
            lines.append(row(dataset, named + marks[cells[0].origin], *(cell.text() for cell in cells)))
            reasons += [cell.reason for cell in cells if cell.reason is not None]
    about = "(b) borrowed from another paper, (?) not said whose"
    about += f"; {MISSING}: {'; '.join(dict.fromkeys(reasons))}." if reasons else "."
    return [*lines, "", about]


# -- ours alone ----------------------------------------------------------------------------------------------


def own_section(name: str, grid: Grid, results: Results, costs: Costs) -> str:
    """A grid that is no table of a paper."""
    jobs = grid.jobs(grid.seeds)
    parts = [
        f"## {name}: {grid.title}",
        "",
        f"`agad-tf reproduce {name} --data DIR`",
        "",
        *own_table(jobs, results),
    ]
    contrasts = CONTRASTS.get(name)
    if contrasts is not None:
        made = contrasts(results, jobs)
        parts += ["", *made] if made else []
    parts += ["", "### Missing", "", *missing_table(jobs, results, costs)]
    return "\n".join(parts) + "\n"


def own_table(jobs: list[Job], results: Results) -> list[str]:
    """One line a cell and number of epochs."""
    by_cell = defaultdict(list)
    for job in jobs:
        by_cell[job.cell].append(job)
    names = ("data", "normal", "collected", "γ", "method", "paper", "epochs", "runs", *POLICIES)
    lines = []
    for of_cell in by_cell.values():
        job = of_cell[0]
        for epochs in results.epochs(of_cell):
            run = [job for job in of_cell if epochs in results.runs(job)]
            for score in (None, "fused"):
                figures = results.figures(run, epochs, score)
                if score is not None and figures["last"] is None:
                    continue
                known, unseen = (
                    figure(results.figure(run, "last", epochs, score, part), False)
                    for part in ("auroc_known", "auroc_unseen")
                )
                lines.append(
                    row(
                        job.dataset,
                        job.normal_class,
                        MISSING
                        if not job.gamma
                        else "all"
                        if job.anomaly_classes is None
                        else job.anomaly_classes[0],
                        f"{job.gamma:g}",
                        method_of(job) + ("" if score is None else ", fused score"),
                        paper_of(job),
                        epochs,
                        len(run),
                        *(figure(figures[policy], policy in ("last", "all_labels")) for policy in POLICIES),
                        known,
                        unseen,
                        f"`{_line(results, run[0], epochs)['config_sha256'][:8]}`",
                    )
                )
    if not lines:
        return ["No run yet."]
    return [*header(*names, "known, last", "unseen, last", "configuration"), *lines]


def paper_of(job: Job) -> str:
    """What AGAD's paper prints for a run without anomalies, by class."""
    if job.method != "agad" or job.gamma or job.compile or job.model or job.dataset not in PRINTED_BY_CLASS:
        return MISSING
    return load("agad_9").cell(job.normal_class, dataset=job.dataset, backbone=job.backbone).text()


PRINTED_BY_CLASS = ("mnist", "fashion_mnist", "cifar10", "cifar100")


def contrast_contextual(results: Results, jobs: list[Job]) -> list[str]:
    """With minus without equation (8), over classes and seeds that have both."""
    pairs = defaultdict(list)
    for job in jobs:
        if not job.compile:
            other = Job(**job.to_dict() | {"compile": WITHOUT_CONTEXTUAL})
            pairs[f"γ {job.gamma:g}"].append((job, other))
    return _contrast("With minus without the contextual adversarial loss", pairs, results)


def contrast_strategies(results: Results, jobs: list[Job]) -> list[str]:
    """Each strategy minus shared batch norm."""
    pairs = defaultdict(list)
    for job in jobs:
        if job.model:
            pairs[job.model["bn_strategy"]].append((job, Job(**job.to_dict() | {"model": {}})))
    return _contrast("Strategy minus shared batch norm", pairs, results)


def contrast_collected(results: Results, jobs: list[Job]) -> list[str]:
    """With minus without collected anomalies."""
    pairs = defaultdict(list)
    for job in jobs:
        if job.gamma:
            other = Job(**job.to_dict() | {"gamma": 0.0, "anomaly_classes": None})
            pairs[f"{job.normal_class}, collected {job.anomaly_classes[0]}"].append((job, other))
            pairs["all pairs"].append((job, other))
    order = [f"{normal}, collected {collected}" for normal, collected in FASHION_PAIRS]
    return _contrast(
        "With minus without collected anomalies", {k: pairs[k] for k in [*order, "all pairs"]}, results
    )


def _contrast(title: str, pairs: dict[str, list[tuple[Job, Job]]], results: Results) -> list[str]:
    policies = ("last", "normal_only", "all_labels")
    lines = []
    for name, of_name in pairs.items():
        for epochs in results.epochs([job for pair in of_name for job in pair]):
            made = [paired(results, of_name, policy, epochs) for policy in policies]
            if made[0] is not None:
                lines.append(row(name, epochs, made[0].count, *map(figure, made)))
    if not lines:
        return []
    about = f"{title}, in points of AUROC, mean of paired differences with its 95 % interval:"
    return [about, "", *header("", "epochs", "pairs of runs", *policies), *lines]


CONTRASTS = {
    "naive-agad": contrast_contextual,
    "bn-strategies": contrast_strategies,
    "fashion-pairs": contrast_collected,
}
