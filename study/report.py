"""The report: pages, plots and the comparison at a glance, from the committed results files alone."""

from pathlib import Path

from agad_tf.errors import InputError
from agad_tf.files import write_atomically
from study.grid import Job
from study.grid_costs import Costs
from study.grid_policies import POLICIES
from study.jobs import (
    NOT_MADE,
    OWN,
    bn_strategies,
    fashion_pairs,
    image_baselines,
    jobs_of_cell,
    naive_agad,
    paper_jobs,
    paper_seeds,
    pneumonia,
)
from study.paper_tables import load, names
from study.report_lines import Results, all_runs, hours_in
from study.report_plots import CURVES, SIX_TABLES, curves, six_tables
from study.report_tables import (
    MISSING,
    difference,
    figure,
    header,
    hours,
    length_of,
    own_section,
    own_table,
    paper_section,
    row,
)
from study.results import read_lines
from study.tables import DATASETS

BEGIN, END = "<!-- reproduce: begin -->", "<!-- reproduce: end -->"
PAGES = {"agad": "agad_tables.md", "aa_bigan": "aa_bigan_tables.md"}
OWN_PAGE, README = "own_grids.md", "README.md"

ABOUT = """Made by `agad-tf reproduce report` from the results files in this folder; nothing between here and
the end of the page was typed in. AUROC in per cent, in inference mode, on the test part; means over runs,
with the 95 % interval of the mean (Student's t) in brackets. Policies, and what they select by:

"""


def pages(results: Path) -> dict[str, bytes]:
    """Every file of the report by name, but for the part in `README.md`.

    Args:
        results: the grid's results file; the other results files stand beside it.
    """
    runs, costs = Results(all_runs(results)), costs_of(results)
    about = ABOUT + "".join(f"- **{name}**: {meaning}\n" for name, meaning in POLICIES.items())
    about += "\nWhere the last column has no hash, a line is the mean of so many configurations.\n"
    made = {}
    for paper, title in (("agad", "AGAD's tables"), ("aa_bigan", "AA-BiGAN's tables")):
        sections = [paper_section(load(name), runs, costs) for name in names() if load(name).paper == paper]
        made[PAGES[paper]] = "\n".join([f"# {title}, reproduced\n\n{about}", *sections]).encode()
    sections = [own_section(name, grid, runs, costs) for name, grid in OWN.items()]
    made[OWN_PAGE] = "\n".join([f"# Runs that are no table of a paper\n\n{about}", *sections]).encode()
    made[SIX_TABLES] = six_tables(runs)
    made[CURVES] = curves(runs)
    return {name: content for name, content in made.items() if content}


def costs_of(results: Path) -> Costs:
    """What runs cost, from every line that says so."""
    calibrations = [line for line in read_lines(results) if "calibration" in line]
    return Costs([*all_runs(results), *calibrations])


COMMITTED, DOCS = (Path(__file__).resolve().parents[1] / name for name in ("study/results", "docs/results"))
"""Results that are in the repository, and where their pages are."""


def write(results: Path) -> list[Path]:
    """Writes the pages, and the comparison into the `README.md` beside them.

    Those of the repository's results go to `docs/results`, those of another file beside that.

    Raises:
        InputError: no such results file.
    """
    if not results.is_file():
        raise InputError(f"expected a results file, found none at {results}: run a table first")
    folder = DOCS if results.resolve().parent == COMMITTED else results.parent
    made = pages(results)
    readme = folder / README
    text = readme.read_text("utf-8") if readme.exists() else "# Results\n"
    made[README] = with_part(text, at_a_glance(results)).encode()
    for name, content in made.items():
        write_atomically(folder / name, content)
    return [folder / name for name in made]


def with_part(text: str, part: str) -> str:
    """A page with its generated part replaced, or added at the end."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and not end:
        raise InputError(f"expected {END} after {BEGIN}, found none: put it where the generated part ends")
    if not begin:
        before, after = text.rstrip("\n") + "\n\n", "\n"
    return f"{before}{BEGIN}\n{part.strip()}\n{END}{after}"


def at_a_glance(results: Path) -> str:
    """The generated part of the results folder's `README.md`."""
    runs, costs = Results(all_runs(results)), costs_of(results)
    parts = ["## The papers' tables: the comparison at a glance", ""]
    parts += [
        "Made by `agad-tf reproduce report`. AUROC in per cent, inference mode, test part. In full:",
        f"[AGAD's tables]({PAGES['agad']}), [AA-BiGAN's tables]({PAGES['aa_bigan']}), "
        f"[grids of ours]({OWN_PAGE}).",
        "[How to reproduce a table](../reproduce.md) says what each policy uses.",
        "",
        "### The six tables",
        "",
        "The last epoch, reconstruction error or the method's own score, mean over seeds; in brackets what",
        "the paper prints, which selects with every label of its validation part.",
        "",
        *six_tables_matrix(runs, "last"),
        "",
        "The same runs by the paper's own policy, `all_labels`:",
        "",
        *six_tables_matrix(runs, "all_labels", only_ours=True),
        "",
    ]
    parts += [f"![Six tables, every method]({SIX_TABLES})", ""] if six_tables(runs) else []
    for title, jobs in (
        ("AGAD, naive net", naive_agad(3)),
        ("AGAD's batch-norm strategies, as its Table 5 compares them", bn_strategies(3)),
        ("The alternatives on the same classes and splits", image_baselines(3)),
        ("AA-BiGAN on pairs of Fashion-MNIST", fashion_pairs(3)),
        ("PneumoniaMNIST, a row of its own", pneumonia(3)),
    ):
        parts += [f"### {title}", "", *own_table(jobs, runs), ""]
    parts += [f"![AUROC by epoch]({CURVES})", ""] if curves(runs) else []
    parts += ["### Under the paper's figure", "", *under_the_paper(runs), ""]
    parts += ["### What is missing, and what it would cost", "", *missing(runs, costs), ""]
    parts += ["### Computing so far", "", *computing(results.parent), ""]
    return "\n".join(parts)


def six_tables_matrix(runs: Results, policy: str, only_ours: bool = False) -> list[str]:
    """Methods by data: ours, and the paper's in brackets."""
    table = load("aa_bigan_8")
    methods = {cell.method for cell in table.cells}
    lines, seen = [], []
    printed = {cell.method: cell for cell in table.cells}
    of_methods: dict[str, list[list[Job]]] = {}
    for name in [*printed, "OCSVM", "Isolation forest"]:
        of_methods[name] = [_six_jobs(table, name, dataset) for dataset in DATASETS]
    for name, by_dataset in of_methods.items():
        if only_ours and not any(runs.runs(job) for jobs in by_dataset for job in jobs):
            continue
        cells = []
        for dataset, jobs in zip(DATASETS, by_dataset, strict=True):
            paper = f" [{table.cell(dataset, method=name).value}]" if name in methods else ""
            ours = runs.figure([job for job in jobs if runs.runs(job)], policy)
            seen += [ours.count] if ours else []
            cells.append(f"{figure(ours, False)}{paper}")
        lines.append(row(name, *cells))
    seeds = " to ".join(map(str, sorted({min(seen), max(seen)}))) + " seeds" if seen else "no run yet"
    return [*header(f"method ({seeds})", *DATASETS), *lines]


def _six_jobs(table, method: str, dataset: str) -> list[Job]:
    own = {"OCSVM": "oc_svm", "Isolation forest": "isolation_forest"}
    if method in own:
        return [Job(dataset, own[method], gamma=0.01, seed=seed) for seed in range(10)]
    return jobs_of_cell(table, table.cell(dataset, method=method), 10)


def under_the_paper(runs: Results) -> list[str]:
    """Cells of which every class was run, where the paper's figure is over our interval by its own policy."""
    lines = []
    for name in names():
        table = load(name)
        if name == "aa_bigan_2" or not table.metric.startswith("AUROC"):
            continue  # all of its cells are in Table 8
        for cell in table.cells:
            jobs = [job for job in jobs_of_cell(table, cell, 10) if runs.runs(job)]
            if not jobs or cell.value is None or {j.cell for j in jobs} != _cells(table, cell):
                continue
            for epochs in runs.epochs(jobs):
                last, best = (runs.figure(jobs, policy, epochs) for policy in ("last", "all_labels"))
                if best is not None and best.high is not None and best.high < cell.value:
                    where = f"{cell.dataset} {cell.column}" if cell.column != cell.dataset else cell.dataset
                    method = cell.method + (f", {cell.row['backbone']}" if "backbone" in cell.row else "")
                    lines.append(
                        row(
                            table.title,
                            where,
                            method,
                            cell.text(),
                            length_of(jobs[0], epochs),
                            best.count,
                            figure(last),
                            figure(best),
                            difference(best, cell.value),
                        )
                    )
    if not lines:
        return ["No cell whose whole interval lies under the paper's figure, of those with several runs."]
    names_ = ("table", "cell", "method", "paper", "epochs", "runs", "last", "all_labels", "difference")
    return [*header(*names_), *lines]


def _cells(table, cell) -> set[str]:
    return {job.cell for job in jobs_of_cell(table, cell, 1)}


def missing(runs: Results, costs: Costs) -> list[str]:
    """Every table: its runs, those that are there, and hours for the others."""
    lines = header("table", "command", "runs", "there", "missing, hours on one core", "not measured")
    grids = [
        (load(name).title, name.replace("_", "-"), paper_jobs(name, paper_seeds(name))) for name in names()
    ]
    grids += [(grid.title, name, grid.jobs(grid.seeds)) for name, grid in OWN.items()]
    for title, name, jobs in grids:
        if name in NOT_MADE:
            lines.append(row(title, MISSING, MISSING, MISSING, NOT_MADE[name], MISSING))
            continue
        left = runs.missing(jobs)
        unknown = [job for job in left if costs.seconds(job) is None]
        known = [job for job in left if costs.seconds(job) is not None]
        there = len(jobs) - len(left)
        lines.append(
            row(
                title,
                f"`agad-tf reproduce {name}`",
                len(jobs),
                there,
                hours(known, costs),
                f"{len(unknown)} runs",
            )
        )
    about = (
        "Tables share runs. Hours are those of one core of the machine that the runs here were made on, from"
    )
    return [*lines, "", f"{about} the seconds of runs and calibrations of the same method and backbone."]


def computing(folder: Path) -> list[str]:
    """Hours behind the results files that the report stands on."""
    found = hours_in(folder)
    lines = header("file", "hours of one core")
    lines += [row(f"[{name}](../../study/results/{name})", f"{value:.2f}") for name, value in found.items()]
    lines.append(row("both", f"{sum(found.values()):.2f}"))
    about = [
        "The machine has two cores, and most runs were made two at a time. The other results files belong",
        "to the pages of their own experiments.",
    ]
    return [*lines, "", *about]
