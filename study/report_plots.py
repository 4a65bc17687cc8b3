"""The report's plots, as SVG that is the same bytes whenever the results are the same."""

import io
from collections import defaultdict

from study.figures import Results
from study.grids import METHODS, MORE_ON_TABLES
from study.job import Job
from study.paper_tables import load
from study.training import TABLES, training

SIX_TABLES, CURVES = "six_tables.svg", "curves.svg"
STYLE = {"svg.hashsalt": "agad_tf", "svg.fonttype": "none", "font.size": 8, "axes.spines.top": False}
STYLE |= {"axes.spines.right": False}


def _svg(draw, width: float, height: float, rows: int, columns: int) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure((width, height), layout="constrained")
        draw(figure, figure.subplots(rows, columns, squeeze=False))
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def six_tables(results: Results) -> bytes:
    """Every method on the six tables: ours with its interval, the paper's figure; nothing without runs."""
    methods = list(dict.fromkeys([*METHODS.values(), *MORE_ON_TABLES]))
    jobs = {(m, d): [training(d, m, gamma=0.01, seed=s) for s in range(10)] for m in methods for d in TABLES}
    methods = [m for m in methods if any(results.figure(jobs[m, d], "last") for d in TABLES)]
    if not methods:
        return b""
    table = load("aa_bigan_8")
    printed = {METHODS.get(cell.method): cell.method for cell in table.cells}

    def draw(figure, axes):
        for dataset, ax in zip(TABLES, axes.flat, strict=True):
            for at, method in enumerate(reversed(methods)):
                ours = results.figure(jobs[method, dataset], "last")
                if ours is not None:
                    half = 0 if ours.low is None else ours.high - ours.mean
                    ax.errorbar(ours.mean, at, xerr=half, fmt="o", ms=4, color="#1f5fa8", elinewidth=1)
                if method in printed:
                    value = table.cell(dataset, method=printed[method]).value
                    ax.plot(value, at, marker="D", ms=4, mfc="none", mec="#b3401f", ls="none")
            ax.set_title(dataset)
            ax.set_ylim(-0.6, len(methods) - 0.4)
            ax.set_xlim(right=min(ax.get_xlim()[1], 101))  # an interval of few seeds may go beyond
            ax.set_yticks(range(len(methods)), [name.replace("_", " ") for name in reversed(methods)])
            ax.grid(axis="x", alpha=0.3)
        figure.supxlabel("AUROC, %   ● ours, last epoch, 95 % interval over seeds   ◇ the paper's")

    return _svg(draw, 9, 5.2, 2, 3)


def curves(results: Results) -> bytes:
    """Test AUROC by epoch of AGAD and AA-BiGAN on images; nothing without runs of several epochs."""
    panels = defaultdict(lambda: defaultdict(list))
    for line in results.lines:
        job = Job(line["job"])
        images = job.method in ("agad", "aa_bigan") and job.dataset not in TABLES
        if images and line["policy"] == "last" and line["chosen"] and len(line.get("curve", [])) > 1:
            if job.compile or job.model:
                continue
            name = f"{job.dataset} {job.normal_class}, {job.method}"
            panels[name][job.gamma, *(job.anomaly_classes or [])].append(line["curve"])
    if not panels:
        return b""
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)

    def draw(figure, axes):
        for ax in list(axes.flat)[len(panels) :]:
            ax.remove()
        for (name, by_gamma), ax in zip(sorted(panels.items()), axes.flat, strict=False):
            for (gamma, *classes), found in sorted(by_gamma.items(), key=str):
                for number, curve in enumerate(found):
                    label = f"γ {gamma:g}" + ("" if not classes else f", collected {classes[0]}")
                    color = "#1f5fa8" if not gamma else "#b3401f"
                    epochs, values = zip(*[(e, 100 * v) for e, v in curve if v is not None], strict=True)
                    ax.plot(epochs, values, color=color, lw=1, label=None if number else label)
            ax.set_title(name)
            ax.legend(frameon=False)
            ax.grid(alpha=0.3)
        figure.supxlabel("epoch")
        figure.supylabel("test AUROC, %, reconstruction error")

    return _svg(draw, 2.6 * columns, 2.2 * rows + 0.3, rows, columns)
