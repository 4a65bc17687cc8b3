"""The report: pages, plots and the comparison at a glance, from the committed results files alone."""

from pathlib import Path

from agad_tf.errors import InputError
from agad_tf.files import write_atomically
from study.costs import Costs
from study.figures import Results, all_runs, hours_in
from study.grids import (
    NOT_MADE,
    OWN,
    bn_strategies,
    fashion_pairs,
    grids,
    image_baselines,
    jobs_of_cell,
    naive_agad,
    pneumonia,
)
from study.job import Job
from study.lines import read_lines
from study.markdown import table, write_parts
from study.paper_tables import PaperTable, load, names
from study.policies import POLICIES
from study.report_plots import CURVES, SIX_TABLES, curves, six_tables
from study.report_tables import (
    difference,
    figure,
    hours,
    length_of,
    own_section,
    own_table,
    paper_section,
)
from study.training import TABLES, training

PAPER_PAGES = {"agad": "agad_tables.md", "aa_bigan": "aa_bigan_tables.md"}
OWN_PAGE, README = "own_grids.md", "README.md"

ABOUT = """\
Made by `agad-tf reproduce report` from the results files in `study/results`; nothing between here and the
end of the page was typed in. AUROC in per cent, in inference mode, on the test part; means over runs, with
the 95 % interval of the mean (Student's t) in brackets. Policies, and what they select by:

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
        made[PAPER_PAGES[paper]] = "\n".join([f"# {title}, reproduced\n\n{about}", *sections]).encode()
    sections = [own_section(name, grid, runs, costs) for name, grid in OWN.items()]
    made[OWN_PAGE] = "\n".join([f"# Runs that are no table of a paper\n\n{about}", *sections]).encode()
    made[SIX_TABLES] = six_tables(runs)
    made[CURVES] = curves(runs)
    return {name: content for name, content in made.items() if content}


def costs_of(results: Path) -> Costs:
    """What runs cost, from every line that says so."""
    calibrations = [line for line in read_lines(results) if "calibration" in line]
    return Costs([*all_runs(results), *calibrations])


def write(results: Path, folder: Path) -> list[Path]:
    """Writes the pages into a folder, and the comparison into the `README.md` there.

    Raises:
        InputError: no such results file.
    """
    if not results.is_file():
        raise InputError(f"expected a results file, found none at {results}: run a table first")
    made = pages(results)
    for name, content in made.items():
        write_atomically(folder / name, content)
    written = [folder / name for name in made]
    return [*written, write_parts(folder / README, {"reproduce": at_a_glance(results, set(made))})]


def at_a_glance(results: Path, drawn: set[str]) -> str:
    """The generated part of the `README.md` beside the pages; `drawn` names the plots that there are."""
    runs, costs = Results(all_runs(results)), costs_of(results)
    parts = ["## The papers' tables: the comparison at a glance", ""]
    parts += [
        "Made by `agad-tf reproduce report`. AUROC in per cent, inference mode, test part. In full:",
        f"[AGAD's tables]({PAPER_PAGES['agad']}), [AA-BiGAN's tables]({PAPER_PAGES['aa_bigan']}), "
        f"[grids of ours]({OWN_PAGE}).",
        "[How to reproduce a table](reproduce.md) says what each policy uses.",
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
    parts += [f"![Six tables, every method]({SIX_TABLES})", ""] if SIX_TABLES in drawn else []
    for title, jobs in (
        ("AGAD, naive net", naive_agad()),
        ("AGAD's batch-norm strategies, as its Table 5 compares them", bn_strategies()),
        ("The alternatives on the same classes and splits", image_baselines()),
        ("AA-BiGAN on pairs of Fashion-MNIST", fashion_pairs()),
        ("PneumoniaMNIST, a row of its own", pneumonia()),
    ):
        parts += [f"### {title}", "", *own_table(jobs, runs), ""]
    parts += [f"![AUROC by epoch]({CURVES})", ""] if CURVES in drawn else []
    parts += ["### Under the paper's figure", "", *under_the_paper(runs), ""]
    parts += ["### What is missing, and what it would cost", "", *missing(runs, costs), ""]
    parts += ["### Computing so far", "", *computing(results.parent), ""]
    return "\n".join(parts)


def six_tables_matrix(runs: Results, policy: str, only_ours: bool = False) -> list[str]:
    """Methods by data: ours, and the paper's in brackets."""
    paper = load("aa_bigan_8")
    methods = {cell.method for cell in paper.cells}
    rows, seen = [], []
    for name in dict.fromkeys([*(cell.method for cell in paper.cells), "OCSVM", "Isolation forest"]):
        by_dataset = {dataset: _six_jobs(paper, name, dataset) for dataset in TABLES}
        if only_ours and not any(runs.runs(job) for jobs in by_dataset.values() for job in jobs):
            continue
        cells = []
        for dataset, jobs in by_dataset.items():
            printed = f" [{paper.cell(dataset, method=name).value}]" if name in methods else ""
            ours = runs.figure([job for job in jobs if runs.runs(job)], policy)
            seen += [ours.count] if ours else []
            cells.append(f"{figure(ours, False)}{printed}")
        rows.append([name, *cells])
    seeds = " to ".join(map(str, sorted({min(seen), max(seen)}))) + " seeds" if seen else "no run yet"
    return table([f"method ({seeds})", *TABLES], rows)


def _six_jobs(paper: PaperTable, method: str, dataset: str) -> list[Job]:
    own = {"OCSVM": "oc_svm", "Isolation forest": "isolation_forest"}
    if method in own:
        return [training(dataset, own[method], gamma=0.01, seed=seed) for seed in range(10)]
    return jobs_of_cell(paper, paper.cell(dataset, method=method), 10)


def under_the_paper(runs: Results) -> list[str]:
    """Cells of which every class was run, where the paper's figure is over our interval by its own policy."""
    rows = []
    for paper in map(load, names()):
        if paper.name == "aa_bigan_2" or not paper.metric.startswith("AUROC"):
            continue  # all of its cells are in Table 8
        for cell in paper.cells:
            of_one_seed = jobs_of_cell(paper, cell, 1)
            if cell.value is None or not all(map(runs.seeds_of, of_one_seed)):
                continue  # a class of the mean was not run
            jobs = [job for job in jobs_of_cell(paper, cell, 10) if runs.runs(job)]
            if not jobs or {job.cell for job in jobs} != {job.cell for job in of_one_seed}:
                continue
            where = f"{cell.dataset} {cell.column}" if cell.column != cell.dataset else cell.dataset
            method = cell.method + (f", {cell.row['backbone']}" if "backbone" in cell.row else "")
            for epochs in runs.epochs(jobs):
                last, best = (runs.figure(jobs, policy, epochs) for policy in ("last", "all_labels"))
                if best is not None and best.high is not None and best.high < cell.value:
                    about = [paper.title, where, method, cell.text(), length_of(jobs[0], epochs), best.count]
                    rows.append([*about, figure(last), figure(best), difference(best, cell.value)])
    if not rows:
        return ["No cell whose whole interval lies under the paper's figure, of those with several runs."]
    head = ("table", "cell", "method", "paper", "epochs", "runs", "last", "all_labels", "difference")
    return table(head, rows)


def missing(runs: Results, costs: Costs) -> list[str]:
    """Every table: its runs, those that are there, and hours for the others."""
    rows = []
    for name, grid in grids().items():
        title = grid.title if name in OWN else load(name.replace("-", "_")).title
        if name in NOT_MADE:
            rows.append([title, None, None, None, NOT_MADE[name], None])
            continue
        jobs = grid.jobs()
        left = runs.missing(jobs)
        known = [job for job in left if costs.seconds(job) is not None]
        there, unknown = len(jobs) - len(left), len(left) - len(known)
        command = f"`agad-tf reproduce {name}`"
        rows.append([title, command, len(jobs), there, hours(known, costs), f"{unknown} runs"])
    head = ("table", "command", "runs", "there", "missing, hours on one core", "not measured")
    about = "Tables share runs. Hours are those of one core of the machine that the runs here were made on, "
    about += "from the seconds of runs and calibrations of the same method and backbone."
    return [*table(head, rows), "", about]


def computing(folder: Path) -> list[str]:
    """Hours behind the results files that the report stands on."""
    found = hours_in(folder)
    rows = [[f"[{name}](../../study/results/{name})", f"{value:.2f}"] for name, value in found.items()]
    rows.append(["both", f"{sum(found.values()):.2f}"])
    return [
        *table(("file", "hours of one core"), rows),
        "",
        "The machine has two cores, and most runs were made two at a time. The other results files belong",
        "to the pages of their own experiments.",
    ]
