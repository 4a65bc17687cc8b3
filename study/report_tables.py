"""Sections of the report: a table of a paper beside ours, and the grids that are ours alone."""

from collections import defaultdict
from collections.abc import Iterator

from study.costs import Costs
from study.figures import Figure, Results, paired
from study.grids import (
    FASHION_PAIRS,
    NOT_MADE,
    WITHOUT_CONTEXTUAL,
    jobs_of_cell,
    more_jobs,
    paper_jobs,
    paper_seeds,
)
from study.job import Job, unique
from study.markdown import MISSING, table
from study.paper_tables import Cell, PaperTable, load
from study.policies import POLICIES
from study.runner import Experiment
from study.training import EVALUATIONS, STEPS, TABLES

COLUMN_NAMES = {
    "normal_class": "normal class",
    "gamma": "γ",
    "pollution": "γ_p",
    "anomaly_class_count": "k_l",
    "generator_target": "c",
    "dataset": "data",
    "epoch": "epoch",
}


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
    if job.method == "aa_bigan" and job.dataset in TABLES:
        return f"{epochs * (STEPS // EVALUATIONS)} steps"
    return str(epochs)


def method_of(job: Job) -> str:
    settings = settings_of(job)
    return f"{job.method} ({settings})" if settings else job.method


# -- the papers' tables --------------------------------------------------------------------------------------


def paper_section(paper: PaperTable, results: Results, costs: Costs) -> str:
    """One table of a paper: ours beside it, what is missing, and the paper's own figures."""
    parts = [f"## {paper.title}: {paper.caption}", "", f"{paper.metric}."]
    parts += [f"- {name}: {value}" for name, value in paper.protocol.items()]
    parts += [f"- note: {' '.join(note.split())}" for note in paper.notes]
    ours = epoch_times(paper, results) if paper.name == "aa_bigan_time" else beside(paper, results)
    reason = NOT_MADE.get(paper.name.replace("_", "-"))
    none = "No run yet." if reason is None else f"No run: {reason}."
    parts += ["", "### Ours beside the paper's", "", *(ours or [none])]
    if reason is None:
        parts += ["", "### Missing", "", *missing_table(paper_jobs(paper.name), results, costs)]
    if paper.cells:
        parts += ["", "### The paper's figures", "", *paper_matrix(paper)]
    return "\n".join(parts) + "\n"


def beside(paper: PaperTable, results: Results) -> list[str]:
    """One line for every cell that something was run of, and for runs that have no cell."""
    rows, seeds = [], paper_seeds(paper.name)
    for cell in paper.cells:
        jobs = jobs_of_cell(paper, cell, seeds)
        # More seeds than the paper's count too.
        run = {seed for job in jobs for seed in results.seeds_of(job)}
        if paper.columns != "anomaly_class_count" and run:
            jobs = unique([*jobs, *jobs_of_cell(paper, cell, max(run) + 1)])
        rows += _rows(cell.dataset, cell.column, jobs, results, cell)
    of_cells = {job.cell for cell in paper.cells for job in jobs_of_cell(paper, cell, 1)}
    for jobs in _by_cell(more_jobs(paper.name, seeds)):
        if jobs[0].cell not in of_cells:
            column = jobs[0].get(paper.columns, MISSING)  # of a plot there is none
            named = paper.columns != "normal_class"
            rows += _rows(jobs[0].dataset, column, jobs, results, None, with_class=named)
    column = () if paper.columns == "dataset" else (COLUMN_NAMES[paper.columns],)
    head = ("data", *column, "method", "paper", "epochs", "runs", *POLICIES)
    return table([*head, "last − paper", "all_labels − paper", "configuration"], rows) if rows else []


def _by_cell(jobs: list[Job]) -> list[list[Job]]:
    """The jobs of each cell, whose runs make one mean."""
    found = defaultdict(list)
    for job in jobs:
        found[job.cell].append(job)
    return list(found.values())


def _trained(jobs: list[Job], results: Results) -> Iterator[tuple]:
    """By length of training and score: (epochs, the jobs that were run, score, words for it, figures)."""
    for epochs in results.epochs(jobs):
        run = [job for job in jobs if epochs in results.runs(job)]
        for score, words in ((None, ""), ("fused", ", fused score")):
            figures = results.figures(run, epochs, score)
            if score is None or figures["last"] is not None:
                yield epochs, run, score, words, figures


def _policies(figures: dict[str, Figure | None]) -> list[str]:
    return [figure(figures[policy], policy in ("last", "all_labels")) for policy in POLICIES]


def _configuration(results: Results, job: Job, epochs: int) -> str:
    return f"`{Job(next(iter(results.runs(job)[epochs].values()))['job']).sha256[:8]}`"


def _rows(dataset, column, jobs: list[Job], results: Results, cell: Cell | None, with_class=False) -> list:
    found = []
    cells = {job.cell for job in jobs}
    for epochs, run, _, words, figures in _trained(jobs, results):
        method = method_of(jobs[0]) + words
        if with_class and jobs[0].normal_class is not None:
            method += f", normal {jobs[0].normal_class}"
        whole = {job.cell for job in run} == cells
        value = cell.value if cell is not None and whole else None
        found.append(
            [
                dataset,
                *(() if column == dataset else (column,)),
                method,
                None if cell is None else cell.text(),
                length_of(jobs[0], epochs),
                f"{len(run)} of {len(jobs)}" if len(run) < len(jobs) else len(run),
                *_policies(figures),
                difference(figures["last"], value),
                difference(figures["all_labels"], value),
                _configuration(results, run[0], epochs) if len(cells) == 1 else len(cells),
            ]
        )
    return found


def epoch_times(paper: PaperTable, results: Results) -> list[str]:
    """Processor seconds of the last of two epochs, beside the seconds of the paper's machine."""
    seconds: dict[tuple, float] = {}
    for job in more_jobs(paper.name, 1):
        runs = results.lines_of([job], "last", job.epochs)
        if runs and runs[0].get("epoch_cpu_seconds") is not None:
            seconds[job.dataset, job.method] = runs[0]["epoch_cpu_seconds"]
    rows = []
    for dataset in dict.fromkeys(dataset for dataset, _ in seconds):
        here = [seconds.get((dataset, method)) for method in ("aa_bigan", "alad")]
        papers = [paper.cell(dataset, method=method).value for method in ("AA-BiGAN", "ALAD")]
        for kind, pair in (("here, one core of a CPU", here), ("the paper, its GPU", papers)):
            ratio = None if None in pair else f"{pair[0] / pair[1]:.2f}"
            rows.append([dataset, kind, *(None if s is None else f"{s:.3f}" for s in pair), ratio])
    return table(("data", "where", "AA-BiGAN, seconds", "ALAD, seconds", "ratio"), rows) if rows else []


def missing_table(jobs: list[Job], results: Results, costs: Costs) -> list[str]:
    """What was not run, by data and method, and its hours on one core."""
    groups = defaultdict(list)
    for job in jobs:
        groups[job.dataset, method_of(job)].append(job)
    left = {names: results.missing(of_group) for names, of_group in groups.items()}
    rows = [
        [*names, len(of), len(groups[names]), hours(of, costs)] for names, of in left.items() if len(of) > 0
    ]
    return (
        table(("data", "method", "runs missing", "of", "hours on one core"), rows) if rows else ["Nothing."]
    )


def hours(jobs: list[Job], costs: Costs) -> str:
    """Hours of jobs, from measured seconds."""
    seconds = [costs.seconds(job) for job in jobs]
    if None in seconds:
        return "not measured"
    total = sum(seconds) / 3600
    if total >= 100:
        return f"{total:.0f}"
    return f"{total:.1f}" if total >= 0.05 else f"{total:.3f}"


def paper_matrix(paper: PaperTable) -> list[str]:
    """The paper's figures as it prints them, borrowed ones marked, with the reasons of empty cells."""
    rows: dict[tuple, list[Cell]] = defaultdict(list)
    for cell in paper.cells:
        names = tuple(f"{value}" for name, value in cell.row.items() if name not in ("dataset", "method"))
        rows[cell.row.get("dataset", ""), ", ".join((cell.method, *names))].append(cell)
    marks = {"own": "", "borrowed": " (b)", "unclear": " (?)"}
    blocks: dict[tuple, list] = defaultdict(list)
    for (dataset, named), cells in rows.items():
        line = [dataset, named + marks[cells[0].origin], *(cell.text() for cell in cells)]
        blocks[tuple(cell.column for cell in cells)].append(line)
    lines = []
    for columns, of_block in blocks.items():
        lines += [*table(("data", "method", *columns), of_block), ""]
    reasons = dict.fromkeys(c.reason for cells in rows.values() for c in cells if c.reason is not None)
    about = "(b) borrowed from another paper, (?) not said whose"
    return [*lines, about + (f"; {MISSING}: {'; '.join(reasons)}." if reasons else ".")]


# -- ours alone ----------------------------------------------------------------------------------------------


def own_section(name: str, grid: Experiment, results: Results, costs: Costs) -> str:
    """A grid that is no table of a paper."""
    jobs = grid.jobs()
    parts = [f"## {name}: {grid.title}", "", f"`agad-tf reproduce {name} --data DIR`", ""]
    parts += own_table(jobs, results)
    if name in CONTRASTS and (made := CONTRASTS[name](results, jobs)):
        parts += ["", *made]
    parts += ["", "### Missing", "", *missing_table(jobs, results, costs)]
    return "\n".join(parts) + "\n"


def own_table(jobs: list[Job], results: Results) -> list[str]:
    """One line a cell and number of epochs."""
    rows = []
    for of_cell in _by_cell(jobs):
        job = of_cell[0]
        collected = "all" if job.anomaly_classes is None else job.anomaly_classes[0]
        for epochs, run, score, words, figures in _trained(of_cell, results):
            known, unseen = (
                figure(results.figure(run, "last", epochs, score, part), False)
                for part in ("auroc_known", "auroc_unseen")
            )
            about = [job.dataset, job.normal_class, collected if job.gamma else None, f"{job.gamma:g}"]
            about += [method_of(job) + words, paper_of(job), epochs, len(run), *_policies(figures)]
            rows.append([*about, known, unseen, _configuration(results, run[0], epochs)])
    head = ("data", "normal", "collected", "γ", "method", "paper", "epochs", "runs", *POLICIES)
    return table([*head, "known, last", "unseen, last", "configuration"], rows) if rows else ["No run yet."]


def paper_of(job: Job) -> str | None:
    """What AGAD's paper prints for a run without anomalies, by class."""
    if job.method != "agad" or job.gamma or job.compile or job.model or job.dataset not in PRINTED_BY_CLASS:
        return None
    return load("agad_9").cell(job.normal_class, dataset=job.dataset, backbone=job.backbone).text()


PRINTED_BY_CLASS = ("mnist", "fashion_mnist", "cifar10", "cifar100")


def contrast_contextual(results: Results, jobs: list[Job]) -> list[str]:
    """With minus without equation (8), over classes and seeds that have both."""
    pairs = defaultdict(list)
    for job in jobs:
        if not job.compile:
            pairs[f"γ {job.gamma:g}"].append((job, job.but(compile=WITHOUT_CONTEXTUAL)))
    return _contrast("With minus without the contextual adversarial loss", pairs, results)


def contrast_strategies(results: Results, jobs: list[Job]) -> list[str]:
    """Each strategy minus shared batch norm."""
    pairs = defaultdict(list)
    for job in jobs:
        if job.model:
            pairs[job.model["bn_strategy"]].append((job, job.but(model={})))
    return _contrast("Strategy minus shared batch norm", pairs, results)


def contrast_collected(results: Results, jobs: list[Job]) -> list[str]:
    """With minus without collected anomalies."""
    pairs = {f"{normal}, collected {collected}": [] for normal, collected in FASHION_PAIRS} | {
        "all pairs": []
    }
    for job in jobs:
        if job.gamma:
            for name in (f"{job.normal_class}, collected {job.anomaly_classes[0]}", "all pairs"):
                pairs[name].append((job, job.but(gamma=0.0, anomaly_classes=None)))
    return _contrast("With minus without collected anomalies", pairs, results)


def _contrast(title: str, pairs: dict[str, list[tuple[Job, Job]]], results: Results) -> list[str]:
    policies = ("last", "normal_only", "all_labels")
    rows = []
    for name, of_name in pairs.items():
        for epochs in results.epochs([job for pair in of_name for job in pair]):
            made = [paired(results, of_name, policy, epochs) for policy in policies]
            if made[0] is not None:
                rows.append([name, epochs, made[0].count, *map(figure, made)])
    about = f"{title}, in points of AUROC, mean of paired differences with its 95 % interval:"
    return [about, "", *table(("", "epochs", "pairs of runs", *policies), rows)] if rows else []


CONTRASTS = {
    "naive-agad": contrast_contextual,
    "bn-strategies": contrast_strategies,
    "fashion-pairs": contrast_collected,
}
