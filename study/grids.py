"""The papers' tables and grids of our own: the runs of each."""

from functools import cache, partial

from study.figures import all_runs
from study.job import Job, unique
from study.paper_tables import Cell, PaperTable, load, names
from study.runner import Experiment
from study.training import TABLES, train, training

UNLABELLED = (
    "oc_svm",
    "oc_svm_hybrid",
    "isolation_forest",
    "autoencoder",
    "deep_svdd",
    "ganomaly",
    "skip_ganomaly",
    "alad",
    "f_anogan",
)
"""Baselines that leave collected anomalies alone."""

METHODS = {
    "AGAD": "agad",
    "AA-BiGAN": "aa_bigan",
    "OCSVM": "oc_svm",
    "OCSVM Hybrid": "oc_svm_hybrid",
    "CAE": "autoencoder",
    "Deep SVDD": "deep_svdd",
    "Deep SAD": "deep_sad",
    "ALAD": "alad",
    "Supervised Classifier": "classifier",
}
"""The papers' names of the methods that run here; the others stand as the papers' figures alone."""

NAIVE, UNET, UNET_PP = "encoder_decoder", "unet", "unet_plus_plus"
WITHOUT_CONTEXTUAL = {"contextual_adversarial_weight": 0.0}
STRATEGY_SETTINGS = ({}, *({"bn_strategy": name} for name in ("adv_prop", "freeze", "adv_prop_freeze")))
"""Settings of the batch-norm strategies. Shared is the default: left out, its runs count everywhere."""

FASHION_PAIRS = ((0, 6), (9, 7), (1, 3), (8, 5))
"""(normal, collected) of the handful, taken by what the garments are: shirts beside T-shirts, sneakers beside
boots, dresses beside trousers, sandals beside bags. No class that choices were made on is normal in it."""

NAIVE_PROBLEMS = (*(("mnist", digit) for digit in (0, 1, 8, 3, 9)), ("fashion_mnist", 8))
"""(data set, normal class) of AGAD's runs with the naive net, and of the alternatives beside them."""

MORE_ON_TABLES = ("oc_svm", "isolation_forest", "alad")
"""Baselines of the six tables that the paper does not have."""


def jobs_of_cell(table: PaperTable, cell: Cell, seeds: int) -> list[Job]:
    """The runs that a cell of a paper's table stands for; none where nothing here can make it."""
    method = METHODS.get(cell.method)
    if method is None or cell.column == "sd" or table.name in ("agad_3", "aa_bigan_4", "aa_bigan_time"):
        return []
    if table.paper == "agad":
        return _agad_jobs(table, cell, seeds) if method == "agad" else []
    if table.name in ("aa_bigan_2", "aa_bigan_8"):
        # Also for methods without labels: every method is then judged on the same test rows.
        return [training(cell.column, method, gamma=0.01, seed=seed) for seed in range(seeds)]
    return _pair_jobs(table, cell, method, seeds)


def _agad_jobs(table: PaperTable, cell: Cell, seeds: int) -> list[Job]:
    strategy = cell.row.get("bn_strategy", "shared")
    if strategy.startswith("unreadable"):
        return []
    classes = range(20 if cell.dataset == "cifar100" else 10)
    return [
        training(
            cell.dataset,
            "agad",
            normal,
            gamma=float(cell.column) if table.columns == "gamma" else 0.0,
            backbone=cell.row["backbone"],
            model={} if strategy == "shared" else {"bn_strategy": strategy},
            compile={} if cell.row.get("contextual", True) else WITHOUT_CONTEXTUAL,
            seed=seed,
        )
        for seed in range(seeds)
        for normal in (classes if table.columns == "gamma" or cell.column == "avg" else [cell.column])
    ]


def _pair_jobs(table: PaperTable, cell: Cell, method: str, seeds: int) -> list[Job]:
    given = {"gamma": 0.05, "pollution": 0.1 if table.name == "aa_bigan_7" else 0.0, "anomaly_class_count": 1}
    given |= {name: cell.row[name] for name in ("pollution",) if name in cell.row}
    given[table.columns] = cell.column
    target = given.pop("generator_target", 0.75)
    count = given.pop("anomaly_class_count")
    changed = {} if target == 0.75 else {"generator_target": target}
    without = method in UNLABELLED or not count or not given["gamma"]
    if method in ("classifier", "deep_sad") and without:
        return []
    if without:
        given["gamma"] = 0.0
    jobs = []
    for seed in range(seeds):
        for normal in range(10):
            fixed = {"normal_class": normal, "compile": changed, "seed": seed}
            fixed |= {"gamma": float(given["gamma"]), "pollution": float(given["pollution"])}
            if without:
                jobs.append(training(cell.dataset, method, **fixed))
            elif count == 1:
                others = [other for other in range(10) if other != normal]
                jobs += [
                    training(cell.dataset, method, anomaly_classes=(other,), **fixed) for other in others
                ]
            else:  # nine draws of the classes, as many runs as there are pairs
                draws = [fixed | {"seed": 9 * seed + draw} for draw in range(9)]
                jobs += [training(cell.dataset, method, anomaly_class_count=count, **draw) for draw in draws]
    return jobs


def more_jobs(name: str, seeds: int) -> list[Job]:
    """Runs of a table beside those of its cells: what the paper left out, what cannot be read in it."""
    over_seeds = range(seeds)
    if name in ("aa_bigan_2", "aa_bigan_8"):
        methods = MORE_ON_TABLES
        return [training(d, m, gamma=0.01, seed=s) for s in over_seeds for d in TABLES for m in methods]
    if name == "agad_5":
        return [
            training(dataset, "agad", normal, None, None, gamma, backbone=UNET, model=model, seed=seed)
            for seed in over_seeds
            for model in STRATEGY_SETTINGS
            for dataset in ("fashion_mnist", "cifar10", "cifar100")
            for gamma in (0.01, 0.03, 0.05, 0.1)
            for normal in range(20 if dataset == "cifar100" else 10)
        ]
    if name == "agad_figure_6":
        nets = (UNET, UNET_PP)
        return [
            training("cifar100", "agad", c, backbone=n, seed=s)
            for s in over_seeds
            for n in nets
            for c in range(20)
        ]
    if name in ("aa_bigan_figure_2", "aa_bigan_figure_3"):
        table = load("aa_bigan_6" if name.endswith("2") else "aa_bigan_7")
        cells = [cell for cell in table.cells if cell.dataset != "mnist"]
        return [job for cell in cells for job in jobs_of_cell(table, cell, seeds)]
    if name == "aa_bigan_time":
        pairs = (("fashion_mnist", 0), ("cifar10", 0))
        return [
            training(d, m, c, epochs=2, seed=s)
            for s in over_seeds
            for d, c in pairs
            for m in ("aa_bigan", "alad")
        ]
    return []


@cache
def paper_jobs(name: str, seeds: int | None = None) -> list[Job]:
    """Every run of a paper's table, first seeds first; by default with the `paper_seeds`."""
    table, seeds = load(name), seeds or paper_seeds(name)
    jobs = [job for cell in table.cells for job in jobs_of_cell(table, cell, seeds)]
    return sorted(unique([*jobs, *more_jobs(name, seeds)]), key=lambda job: job.seed)


def paper_seeds(name: str) -> int:
    """Seeds of a cell where none is asked for: the paper's three, one of 90 pairs, ten of a table."""
    if name.startswith("agad"):
        return 3
    return 10 if name in ("aa_bigan_2", "aa_bigan_8") else 1


def naive_agad(seeds: int = 3) -> list[Job]:
    """AGAD with the naive net, γ 0 and .05, all other classes pooled, with and without equation (8)."""
    return [
        training(dataset, "agad", normal, gamma=gamma, backbone=NAIVE, compile=changed, seed=seed)
        for seed in range(seeds)
        for changed in ({}, WITHOUT_CONTEXTUAL)
        for gamma in (0.0, 0.05)
        for dataset, normal in NAIVE_PROBLEMS
    ]


def image_baselines(seeds: int = 3) -> list[Job]:
    """What else one would run on the problems of `naive_agad`: the same splits, all other classes pooled."""
    without = ("isolation_forest", "oc_svm", "autoencoder", "deep_svdd")
    methods = [(method, 0.0) for method in without] + [("classifier", 0.05), ("deep_sad", 0.05)]
    return [
        training(dataset, method, normal, gamma=gamma, seed=seed)
        for seed in range(seeds)
        for method, gamma in methods
        for dataset, normal in NAIVE_PROBLEMS
    ]


def bn_strategies(seeds: int = 3) -> list[Job]:
    """Every BN strategy with the naive net on one class."""
    return [
        training("mnist", "agad", 8, gamma=0.05, backbone=NAIVE, model=model, seed=seed)
        for seed in range(seeds)
        for model in STRATEGY_SETTINGS
    ]


def fashion_pairs(seeds: int = 3) -> list[Job]:
    """AA-BiGAN on the handful of pairs, γ_l .05, and without anomalies on the same normal classes."""
    jobs = []
    for seed in range(seeds):
        for normal, collected in FASHION_PAIRS:
            jobs.append(training("fashion_mnist", "aa_bigan", normal, (collected,), gamma=0.05, seed=seed))
            jobs.append(training("fashion_mnist", "aa_bigan", normal, seed=seed))
    return jobs


def pneumonia(seeds: int = 3) -> list[Job]:
    """PneumoniaMNIST, its own split, γ 0 and .05: another resolution and split than the paper's X-rays."""
    methods = [("agad", NAIVE), ("aa_bigan", None), ("classifier", None), ("deep_sad", None)]
    methods += [(method, None) for method in UNLABELLED]
    return [
        training("pneumoniamnist", method, gamma=gamma, backbone=backbone, seed=seed, normal_class=0)
        for seed in range(seeds)
        for method, backbone in methods
        for gamma in ((0.0,) if method in UNLABELLED else (0.0, 0.05))
        if gamma or method not in ("classifier", "deep_sad")
    ]


def _grid(title: str, jobs) -> Experiment:
    return Experiment(title, jobs, train, "runs.jsonl", all_runs)


OWN = {
    "naive-agad": _grid("AGAD, naive net, on MNIST 0, 1, 8, 3, 9 and Fashion-MNIST 8 (ours)", naive_agad),
    "image-baselines": _grid("Baselines on the classes of naive-agad (ours)", image_baselines),
    "bn-strategies": _grid("AGAD's BN strategies, naive net, MNIST 8, γ .05 (ours)", bn_strategies),
    "fashion-pairs": _grid("AA-BiGAN on a handful of Fashion-MNIST pairs (ours)", fashion_pairs),
    "pneumonia": _grid("PneumoniaMNIST at 28 pixels, its own split (ours)", pneumonia),
}

NOT_MADE = {
    "agad-3": "expected its four sets of medical images, which are not among the data; see pneumonia",
    "aa-bigan-4": "expected the weights of InceptionV3 for FID, which do not come with the library",
}
"""Tables without a run, and why."""


def grids() -> dict[str, Experiment]:
    """Every grid by name: `agad-1` for Table 1 of AGAD and so on, then our own."""
    tables = map(load, names())
    papers = {
        table.name.replace("_", "-"): _grid(
            f"{table.title}: {table.caption}", partial(paper_jobs, table.name)
        )
        for table in tables
    }
    return papers | OWN
