"""Our own studies: what they measure, skip and write; on made-up data and on the committed lines."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agad_tf.cli import main
from study import bigan_page, bigan_runs, bigan_tables, collected, six_tables, stacking, toy
from study.job import Job
from study.lines import PAGES, RESULTS, append_lines, read_lines, runs_in
from study.reproduce import STUDIES, jobs_of
from study.runner import remaining
from study.training import STEPS, TABLES, samples_of

CURVE = [
    {"step": 1, "normal_error": 3.0, "validation_reconstruction": 0.9, "validation_latent": 0.7},
    {"step": 2, "normal_error": 1.0, "validation_reconstruction": 0.6, "validation_latent": 0.95},
    {"step": 3, "normal_error": 2.0, "validation_reconstruction": 0.8, "validation_latent": 0.5},
]


def test_results_lines_survive_a_cut(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    append_lines(path, [{"a": 1}])
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    append_lines(path, [{"a": 3}, {"a": 4}])
    assert read_lines(path) == [{"a": 1}, {"a": 3}, {"a": 4}]
    assert read_lines(tmp_path / "none.jsonl") == []
    append_lines(path, [{"job": {"seed": 5}, "error": "ValueError: no"}, {"job": {"seed": 6}, "a": 5}])
    assert runs_in(path)[-2:] == [{"a": 4}, {"job": {"seed": 6}, "seed": 6, "a": 5}]


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        ("stability", {"seeds": 4, "plan": "forty"}),
        ("stability", {"seeds": 3, "plan": "ledger", "gamma": 0.05}),
        ("collapse", {}),
        ("table-targets", {}),
        ("table-variants", {"seeds": 3}),
        ("table-references", {}),
        ("toy", {}),
        ("collected", {}),
        ("audit", {"epochs": 4}),
        ("features", {"seeds": 1, "problem": "elpv_poly"}),
        ("local", {"seeds": 1, "problem": "fashion_mnist"}),
        ("unseen", {"seeds": 1}),
        ("table-runs", {"seeds": 1, "runs": 1}),
        ("table-stacks", {"seeds": 1, "dataset": "arrhythmia"}),
        ("six-tables", {"seeds": 1}),
    ],
)
def test_what_the_committed_lines_hold_is_not_run_again(table, settings):
    study = STUDIES[table]
    jobs = jobs_of(table, **settings)
    assert jobs
    assert not remaining(jobs, study.lines(RESULTS / study.results))
    assert remaining([job.but(seed=99) for job in jobs], study.lines(RESULTS / study.results))


@pytest.mark.parametrize("table", STUDIES)
def test_the_committed_pages_are_what_the_committed_lines_give(table, tmp_path):
    study = STUDIES[table]
    if study.report is None:
        # On the pages of table-variants and six-tables.
        assert table in ("table-targets", "table-references", "table-runs", "table-stacks")
        return
    pages = tmp_path / "results"
    pages.mkdir()
    for path in PAGES.glob("*.md"):
        marks = r"(<!-- (?!reproduce).*: begin -->\n).*?(<!-- .*: end -->)"
        (pages / path.name).write_text(re.sub(marks, r"\1old\n\2", path.read_text(), flags=re.DOTALL))
    for path in study.report(RESULTS, pages):
        committed = PAGES.parent / Path(path).relative_to(tmp_path)
        if path.suffix == ".md":
            assert path.read_text() == committed.read_text(), "run agad-tf reproduce report"
        else:
            assert committed.stat().st_size > 5000
            assert path.stat().st_size > 5000


def test_a_setting_that_a_study_does_not_have_is_one_line():
    result = CliRunner().invoke(main, ["reproduce", "toy", "--set", "step=3"])
    assert (result.exit_code, result.output) == (
        2,
        "agad-tf: toy has no setting step: expected one of seeds, steps\n",
    )


def test_a_dry_run_of_a_study_lists_its_runs(tmp_path):
    arguments = ["reproduce", "toy", "--dry-run", "--seeds", "1", "--results", str(tmp_path / "none.jsonl")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "objective=(7), (8) seed=0 steps=4000"
    assert result.stdout.splitlines()[-1] == "4 runs to go"
    refused = CliRunner().invoke(main, [*arguments, "--calibrate"])
    assert (refused.exit_code, "--calibrate expects a table" in refused.stderr) == (2, True)


# -- AA-BiGAN on tables --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tables in the layout of the real ones: a Gaussian, and anomalies beside it."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    for number, name in enumerate(TABLES[:2]):
        x = rng.normal(size=(420, 4)).astype(np.float32)
        y = np.int8(np.arange(420) % 7 == 0)
        x[y == 1] += 3 + number
        np.savez(folder / f"{name}.npz", X=x, y=y)
    return folder


@pytest.mark.slow
def test_runs_on_one_split_are_mixed(folder, monkeypatch):
    monkeypatch.setenv("AGAD_TF_DATA", str(folder))
    monkeypatch.setattr(bigan_runs, "STEPS", 24)
    samples_of.cache_clear()
    (job,) = bigan_runs.run_jobs(1, runs=2, dataset="cardio")
    record = bigan_runs.measure(job, folder)
    samples_of.cache_clear()
    assert len(record["runs"]) == len(record["cpu_seconds"]) == 2
    figures = [*record["mixed"].values(), record["neighbours"], record["runs"][0]["last"]]
    assert all(0 <= figure <= 100 for figure in figures)
    page = bigan_page.parts([], [], [record | dict(job)])["runs"]
    assert "of 2 runs are more than 5 points under" in page


@pytest.mark.slow
def test_every_method_of_the_six_tables_is_measured(folder, monkeypatch):
    monkeypatch.setenv("AGAD_TF_DATA", str(folder))
    monkeypatch.setattr(six_tables, "STEPS", 24)
    samples_of.cache_clear()
    jobs = [job for job in six_tables.jobs(1) if job.dataset == "cardio"]
    lines = [six_tables.measure(job, folder) | dict(job) for job in jobs]
    samples_of.cache_clear()
    assert len({line["method"] for line in lines}) == len(lines) == 5
    assert len({line["split_sha256"] for line in lines}) == 1  # all of them judged on the same rows
    assert all(60 < line["figures"].get("fused", line["figures"].get("score")) <= 100 for line in lines)


@pytest.mark.slow
def test_columns_of_a_stack(folder, monkeypatch):
    monkeypatch.setenv("AGAD_TF_DATA", str(folder))
    samples_of.cache_clear()
    (job,) = stacking.jobs(1, dataset="cardio")
    figures = stacking.measure(job.but(stack_steps=8), folder)["figures"]
    samples_of.cache_clear()
    assert figures.keys() == stacking.STACK_COLUMNS.keys()
    assert all(60 < figure <= 100 for figure in figures.values())


def test_mixed_scores_are_standardised_on_normals():
    normals, rows = np.array([1.0, 3.0]), np.array([2.0, 4.0])
    np.testing.assert_allclose(bigan_runs.standardised((normals, rows), None), [0, 2])
    np.testing.assert_allclose(bigan_runs.standardised((normals[None], rows[None]), 0), [0, 2])
    train = np.linspace(0, 1, 11)[:, None]
    near, far = bigan_runs.neighbours(train, train[:1], np.array([[9.0]]))
    np.testing.assert_allclose([near[0], far[0]], [0.5, 0.9], atol=1e-9)


@pytest.mark.slow
def test_development_never_opens_the_test_part(folder, monkeypatch):
    monkeypatch.setenv("AGAD_TF_DATA", str(folder))
    samples_of.cache_clear()
    (job,) = bigan_tables.variant_jobs(1, dataset="cardio", steps=24)
    record = bigan_tables.develop(job, folder)
    samples_of.cache_clear()
    assert job.seed >= 100
    assert len(record["curve"]) == 12
    assert 0 <= record["curve"][-1]["validation_fused"] <= 1
    assert not any(name.startswith("test") for look in record["curve"] for name in look)


def joined(lines, development):
    return "\n".join(bigan_page.parts(lines, development).values())


def test_page_says_what_was_not_run():
    page = joined([], [])
    assert page.count("not run") == 4 * len(TABLES)
    assert "87.4 ± 2.3" in page


def test_page_tells_references_development_and_targets():
    scores = {"mean": 0.8, "random normal": 0.7, "fifth neighbour": 0.9}
    reference = {"dataset": "cardio", "seed": 100, "reference": True}
    reference |= {"scaled": scores | {"constant_share": 0.34}, "clipped": scores | {"constant_share": 0.02}}
    tried = {"dataset": "cardio", "seed": 100, "variant": "clip=None", "steps": 600, "curve": CURVE}
    line = {"dataset": "cardio", "seed": 0, "policy": "last", "score": "reconstruction", "auroc": 0.9}
    lines = [line | {"policy": policy, "seconds": 1.0, "commit": "abc"} for policy in bigan_page.POLICIES]
    usual = [line | {"config": {}} for line in lines]
    others = [line | {"config": {"generator_target": 0.4}, "auroc": 0.8} for line in lines]
    page = joined(usual + others, [reference, tried])
    assert "| cardio | 1 | 80.0 | 80.0 | 70.0 | 70.0 | 90.0 | 90.0 | 34 % and 2 % |" in page
    assert "| cardio | clip=None | 600 | 1 | 80.0 | 76.7 | – | 95.0 |" in page
    assert "| cardio | 0.4 | 1 | 80.0 | 80.0 | 80.0 |\n| cardio | 0.75 | 1 | 90.0 | 90.0 | 90.0 |" in page


def test_page_has_a_mean_of_settings_that_were_tried_on_every_table():
    tried = [
        {"dataset": name, "seed": 100, "variant": "default", "steps": 5, "curve": CURVE} for name in TABLES
    ]
    assert "| mean of the six | default | 5 |  | 80.0 | 76.7 | – | 95.0 |" in joined([], tried)
    assert "mean of the six" not in joined([], tried[:5])


def test_page_keeps_runs_of_another_number_of_steps_apart():
    line = {"dataset": "cardio", "seed": 0, "score": "reconstruction", "seconds": 1.0, "commit": "abc"}
    lines = [
        line | {"policy": policy, "auroc": auroc, "config": {"steps": steps}}
        for steps, auroc in ((STEPS, 0.9), (7, 0.6))
        for policy in bigan_page.POLICIES
    ]
    parts = bigan_page.parts(lines, [])
    now, before = parts["table 2"], parts["7 steps"]
    assert "| cardio | 1 | 90.0 | 90.0 | 90.0 |" in now
    assert "60.0" not in now
    assert "| cardio | 1 | 60.0 | 60.0 | 60.0 |" in before


def test_references_of_rows_beside_a_constant_column(folder, monkeypatch):
    monkeypatch.setenv("AGAD_TF_DATA", str(folder))
    with np.load(folder / "cardio.npz") as data:
        x, y = data["X"], data["y"]
    rng = np.random.default_rng(1)
    flag = np.where((rng.random(len(x)) < 0.004) & (y == 0), 500.0, 0.0)[:, None]
    np.savez(folder / "thyroid.npz", X=np.hstack([x, flag]).astype(np.float32), y=y)
    shares = []
    for seed in range(100, 130):
        found = bigan_tables.reference_scores(Job(dataset="thyroid", seed=seed), folder)
        assert found["clipped"]["mean"] > 0.9
        assert found["clipped"]["constant_share"] < 0.7
        shares.append(found["scaled"]["constant_share"])
    # Where the rare flag is in no training row but in a held-out one, it is all of the error.
    assert max(shares) > 0.99
    assert min(shares) == 0


# -- two dimensions ------------------------------------------------------------------------------------------


def test_mass_near_the_anomalies():
    rng = np.random.default_rng(0)
    found = toy.measure(toy.sample_anomalies(rng, 2000))
    assert found["near_anomalies"] > 0.95
    assert found["modes"] == 0
    found = toy.measure(toy.sample_normals(rng, 5000))
    assert found["near_normals"] > 0.95
    assert found["modes"] == 7
    assert found["near_anomalies"] < 0.05


def test_objectives_are_those_of_the_paper():
    from agad_tf.losses.aa_bigan import Targets

    def targets(name):
        how = toy.OBJECTIVES[name]
        of = Targets(generator=how["generator"], anomaly=how.get("anomaly"))
        return of.normal, of.anomaly, of.generated, of.generator

    assert targets("(9), (10)") == (1, 0, 0, 0.5)
    assert targets("(15), (16), c = .75") == (1, 0.5, 0, 0.75)
    assert not toy.OBJECTIVES["(7), (8)"]["anomalies"]


@pytest.mark.slow
def test_a_study_is_run_once(tmp_path):
    out = tmp_path / "toy.jsonl"
    arguments = ["reproduce", "toy", "--results", str(out), "--seeds", "1", "--set", "steps=3"]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    records = runs_in(out)
    assert [record["objective"] for record in records] == list(toy.OBJECTIVES)
    assert {"commit", "config_sha256", "job"} <= records[0].keys()
    again = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert "4 runs, 4 of them" in again.output
    assert runs_in(out) == records
    made = toy.write(tmp_path, tmp_path)
    assert made[0].stat().st_size > 5000
    assert all(f"| {name} | 1 |" in made[1].read_text() for name in toy.OBJECTIVES)


def test_paired_counts_compare_seed_by_seed():
    records = [
        {"objective": name, "seed": seed, "near_anomalies": mass}
        for name, masses in (("(7), (8)", (0.3, 0.2)), ("(9), (10)", (0.1, 0.2)))
        for seed, mass in enumerate(masses)
    ]
    assert toy.paired_counts(records, "(9), (10)", "(7), (8)") == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 9])
def test_called_generated_anomalies_are_kept_clear_of(seed):
    # The one direction of all ten seeds; (15), (16), c = .75 puts a quarter of its mass there with seed 9.
    assert toy.measure(toy.train("(9), (10)", seed))["near_anomalies"] < 0.005


# -- collected anomalies -------------------------------------------------------------------------------------


def test_known_and_unseen_classes_apart():
    classes = np.array([0, 0, 1, 9, 2, 3])
    scores = np.array([0.1, 0.2, 0.9, 0.8, 0.15, 0.05])
    found = collected.known_unseen(classes, scores)
    assert found == {"known": 1.0, "unseen": 0.25, "all": 0.625}


def collected_page(records):
    return collected.last_epoch(records) + "\n" + collected.every_epoch(records)


def test_page_of_collected_anomalies(tmp_path):
    look = {"epoch": 1, "raw": dict.fromkeys(("known", "unseen", "all"), 0.5)}
    look["averaged"] = {"known": 0.9, "unseen": 0.8, "all": 0.85}
    facts = {"epochs": 1, "train_anomaly": 3, "seconds": 1.0, "commit": "abc", "curve": [look]}
    records = [{"gamma": gamma, "final": look["averaged"], **facts} for gamma in (0.0, 0.05)]
    page = collected_page(json.loads(json.dumps(records)))
    assert "| 0.05 | 3 | 1 | 0.900 | 0.800 | 0.850 | 0.850 at epoch 1 | 1 |" in page
    assert "| 1 | 0.900, 0.800, 0.850 | 0.500, 0.500, 0.500 | 0.900, 0.800, 0.850 |" in page
    stopped = [records[0], records[1] | {"final": None, "seconds": None}]
    assert "| 0.05 | 3 | 1 | stopped |  |  | 0.850 at epoch 1 |  |" in collected_page(stopped)
    collected.curves(records, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
