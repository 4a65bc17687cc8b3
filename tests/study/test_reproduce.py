"""The grid: jobs, policies, resuming, failures, budget, costs."""

import dataclasses
import json
import time

import numpy as np
import pytest
from click.testing import CliRunner

from agad_tf.cli import main
from agad_tf.errors import InputError
from study.costs import NORMALS, Costs, estimate
from study.grids import NOT_MADE, UNLABELLED, grids, jobs_of_cell
from study.job import Job, selected, unique
from study.lines import read_lines, runs_in
from study.paper_tables import load
from study.policies import POLICIES, possible, select
from study.reproduce import jobs_of
from study.runner import Outcome, remaining, run
from study.training import (
    STEPS,
    Parts,
    epochs_of,
    fit_arguments,
    lines_of,
    samples_of,
    split_of,
    training,
)


def pretend(job, work):
    """Lines of a run that never was; of normal class 7 an error."""
    if job.normal_class == 7:
        raise ValueError("no\nsuch thing")
    look = {"epoch": 1, "normal_error": 1.0, "test_score": 0.5 + job.seed / 100, "validation_score": 0.5}
    return lines_of([look], ("score",), {"seconds": 2.0, "train_normal": 10})


def test_a_job_survives_json_and_its_hashes_say_what_they_should():
    job = training("mnist", "aa_bigan", 3, (1, 2), gamma=0.05, compile={"generator_target": 0.4}, seed=2)
    again = Job(json.loads(json.dumps(job)))
    assert again == job
    assert again.key == job.key
    other_seed = job.but(seed=3)
    other_epochs = job.but(epochs=3)
    assert other_seed.sha256 == job.sha256
    assert other_seed.key != job.key
    assert other_epochs.sha256 != job.sha256
    assert other_epochs.cell == job.cell
    assert job.but(gamma=0.1).cell != job.cell
    assert len(unique([job, again, other_seed])) == 2


def test_filters():
    jobs = jobs_of("naive-agad", 2)
    kept = selected(jobs, "dataset=mnist,normal_class=0|8,gamma=0.05,compile=none")
    assert {(job.normal_class, job.seed) for job in kept} == {(0, 0), (0, 1), (8, 0), (8, 1)}
    without = selected(jobs, "compile=contextual_adversarial_weight:0.0")
    assert len(without) == len(jobs) / 2
    with pytest.raises(InputError, match="expects NAME=VALUE"):
        selected(jobs, "digit=3")
    with pytest.raises(InputError, match=r"leaves no run.*0, 1, 3, 8, 9"):
        selected(jobs, "normal_class=5")


def test_the_baselines_of_images_stand_beside_agad_on_the_same_splits():
    def problems(name):
        return {(job.dataset, job.normal_class, job.gamma, job.seed) for job in jobs_of(name, 2)}

    assert problems("image-baselines") == problems("naive-agad")
    assert {job.method for job in jobs_of("image-baselines") if job.gamma} == {"classifier", "deep_sad"}


def test_shared_batch_norm_among_the_strategies_is_the_default_run():
    shared = [job for job in jobs_of("bn-strategies", 3) if not job.model]
    assert len(shared) == 3
    assert {job.key for job in shared} <= {job.key for job in jobs_of("naive-agad", 3)}


def at(epoch, normal_error, validation, known):
    """A look with the scores a and b."""
    look = {"epoch": epoch, "normal_error": normal_error}
    for part, values in (("validation", validation), ("known", known)):
        look |= {f"{part}_a": values[0], f"{part}_b": values[1]}
    return look


CURVE = [
    at(1, 3.0, (0.9, 0.2), (0.1, 0.5)),
    at(2, 1.0, (0.6, None), (0.4, 0.3)),
    at(3, 2.0, (0.7, 0.8), (0.2, 0.2)),
]


@pytest.mark.parametrize(
    ("policy", "epoch", "score"),
    [("last", 3, "a"), ("normal_only", 2, "a"), ("known_anomalies", 1, "b"), ("all_labels", 1, "a")],
)
def test_each_policy_takes_its_look(policy, epoch, score):
    look, name = select(CURVE, policy, ("a", "b"))
    assert (look["epoch"], name) == (epoch, score)


def test_a_policy_without_its_labels_is_not_possible():
    curve = [{"epoch": 1, "normal_error": None, "validation_a": 0.9}]
    assert [policy for policy in POLICIES if possible(curve, policy, ("a",))] == ["last", "all_labels"]


def test_lines_hold_every_score_and_mark_what_a_policy_reports():
    curve = [look | {"test_a": 0.3, "test_b": 0.4, "test_known_b": 0.45} for look in CURVE]
    lines = lines_of(curve, ("a", "b"), {"seconds": 1.0})
    assert len(lines) == 8
    reported = {line["policy"]: line for line in lines if line["chosen"]}
    assert reported["known_anomalies"]["auroc"] == 0.4
    assert reported["known_anomalies"]["auroc_known"] == 0.45
    assert reported["last"]["curve"] == [[1, 0.3], [2, 0.3], [3, 0.3]]
    own = next(line for line in lines if line["policy"] == "all_labels" and line["score"] == "b")
    assert (own["epoch"], own["chosen"]) == (3, False)


def test_a_grid_resumes_and_tells_failures_in_one_line(tmp_path):
    results = tmp_path / "runs.jsonl"
    jobs = [training("mnist", "x", normal, seed=seed) for seed in range(2) for normal in (1, 7)]
    told = []
    assert run(jobs, results, pretend, tmp_path, tell=told.append) == Outcome(done=2, failed=2)
    errors = [line for line in read_lines(results) if "error" in line]
    assert {line["error"] for line in errors} == {"ValueError: no such thing"}
    assert len(told) == 4
    # Failures are tried again, runs are not.
    assert {job.normal_class for job in remaining(jobs, runs_in(results))} == {7}
    with results.open("a") as file:
        file.write('{"policy": "last", "config_s')  # killed while it wrote
    assert len(remaining(jobs, runs_in(results))) == 2


def test_a_line_with_a_further_setting_is_another_run():
    job = Job(problem="plate", seed=0)
    assert remaining([job], [{"job": {**job, "defect_scale": 3}}]) == [job]
    assert remaining([job], [{"job": dict(job)}]) == []


def test_no_run_begins_after_the_budget(tmp_path):
    def slow(job, work):
        time.sleep(0.05)
        return pretend(job, work)

    jobs = [training("mnist", "x", seed=seed) for seed in range(50)]
    outcome = run(jobs, tmp_path / "runs.jsonl", slow, tmp_path, budget=0.2 / 60, tell=lambda line: None)
    assert 1 <= outcome.done < 20
    assert outcome.left == 50 - outcome.done
    assert run(jobs, tmp_path / "none.jsonl", slow, tmp_path, budget=0, tell=lambda line: None).done == 0


def test_costs_come_from_measured_runs_alone():
    done = training("mnist", "agad", 1, backbone="unet", epochs=10)
    lines = [{"policy": "last", "job": done, "seconds": 600.0, "cpu_seconds": 300.0}] * 2
    costs = Costs(lines)
    assert costs.seconds(done.but(seed=5)) == pytest.approx(300)
    assert costs.seconds(done.but(epochs=1, dataset="fashion_mnist")) == pytest.approx(30)
    assert costs.seconds(done.but(gamma=0.5)) == pytest.approx(600)
    other = done.but(backbone="unet_plus_plus")
    assert costs.seconds(other) is None
    calibration = {"job": other, "calibration": {"seconds_per_sample": 0.01, "paper_epochs": None}}
    assert Costs([*lines, calibration]).seconds(other) == pytest.approx(6000 * 10 * 0.01)
    assert estimate([done, other], costs) == (pytest.approx(300), [other])


def test_the_papers_batches_and_epochs():
    assert fit_arguments(training("mnist", "aa_bigan", 0, (1,), gamma=0.05)) == {
        "batch_size": 210,
        "min_anomalies": 10,
    }
    assert fit_arguments(training("cifar10", "aa_bigan", 0, (1,), gamma=0.01))["min_anomalies"] == 50
    assert fit_arguments(training("mnist", "agad", 0))["batch_size"] == 256
    assert (
        fit_arguments(training("cardio", "aa_bigan"))["steps_per_epoch"]
        * epochs_of(training("cardio", "aa_bigan"))
        == STEPS
    )
    assert epochs_of(training("cifar10", "aa_bigan")) == 1000
    assert epochs_of(training("mnist", "deep_svdd")) is None


def test_parts_tell_known_from_unseen_and_hold_no_training_row():
    samples = samples_of("digits")
    job = training("digits", "agad", 3, (8,), gamma=0.1)
    split = split_of(job, samples)
    parts = Parts(samples, split)
    assert parts.some_unseen
    assert not Parts(samples, split_of(training("digits", "agad", 3, gamma=0.5), samples)).some_unseen
    perfect = {
        part: {"a": np.where(parts.classes[part] == 8, 2.0, parts.labels[part] - 1.0)} for part in parts.x
    }
    look = parts.look(perfect)
    assert look["test_a"] == look["known_a"] == look["test_known_a"] == look["test_unseen_a"] == 1
    assert look["normal_error"] == -1
    worst = {part: {"a": -1.0 * (parts.classes[part] == 8)} for part in parts.x}
    assert parts.look(worst)["known_a"] == 0
    assert parts.look(worst)["test_unseen_a"] == 0.5
    assert (
        parts.look({part: {"a": np.full(len(parts.x[part]), np.nan)} for part in parts.x})["test_a"] is None
    )


def test_every_grid_makes_jobs_without_repeats():
    for name in grids():
        if name in NOT_MADE:
            with pytest.raises(InputError, match="figures alone"):
                jobs_of(name, 1)
            continue
        jobs = jobs_of(name, 1)
        assert jobs, name
        assert len({job.key for job in jobs}) == len(jobs)
        assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)


@pytest.mark.parametrize(
    ("table", "count", "only"),
    [
        ("agad-1", 3 * 50, None),  # four data sets, 10, 10, 10 and 20 classes
        ("agad-9", 3 * 150, None),
        ("agad-4", 3 * 40 * 2 * 5, None),
        ("aa-bigan-1", 3 * (4 * 90 + 10), "method=aa_bigan"),  # 90 pairs a cell, 10 runs without anomalies
        ("aa-bigan-1", 3 * 4 * 90, "method=deep_sad"),
        ("aa-bigan-6", 3 * 5 * 90, "method=aa_bigan"),
        ("aa-bigan-6", 3 * 5 * 10, "method=oc_svm"),
        ("aa-bigan-7", 3 * (4 * 90 + 10), "method=aa_bigan"),
        ("aa-bigan-5", 2 * 4 * 90, None),
        ("aa-bigan-8", 10 * 6, "method=deep_svdd"),
        ("agad-figure-6", 3 * 40, None),
    ],
)
def test_as_many_runs_as_the_papers_have(table, count, only):
    assert len(selected(jobs_of(table), only)) == count


def test_cells_become_the_jobs_they_mean():
    ablation = load("agad_4")
    jobs = jobs_of_cell(ablation, ablation.cell(0.05, dataset="cifar10", contextual=False), 1)
    assert {job.normal_class for job in jobs} == set(range(10))
    assert {(job.gamma, job.backbone) for job in jobs} == {(0.05, "unet")}
    assert jobs[0].compile == {"contextual_adversarial_weight": 0.0}
    first = load("agad_1")
    (job,) = jobs_of_cell(first, first.cell(8, dataset="mnist", method="AGAD"), 1)
    assert (job.backbone, job.gamma, job.normal_class, job.anomaly_classes) == ("encoder_decoder", 0, 8, None)
    polluted = load("aa_bigan_7")
    jobs = jobs_of_cell(polluted, polluted.cell(3, dataset="mnist", method="AA-BiGAN"), 1)
    assert len({(job.normal_class, job.seed) for job in jobs}) == 90
    assert {(job.gamma, job.pollution, job.anomaly_class_count) for job in jobs} == {(0.05, 0.1, 3)}
    targets = load("aa_bigan_5")
    jobs = jobs_of_cell(targets, targets.cell(0.4, pollution=0.1), 1)
    assert jobs[0].compile == {"generator_target": 0.4}
    assert jobs[0].pollution == 0.1
    # The paper's c is the default: its runs are those of Table 1.
    default = {job.key for job in jobs_of_cell(targets, targets.cell(0.75, pollution=0), 1)}
    table = load("aa_bigan_1")
    cell = table.cell(0.05, dataset="fashion_mnist", method="AA-BiGAN")
    assert default == {job.key for job in jobs_of_cell(table, cell, 1)}


def test_baselines_without_labels_are_those_that_say_so():
    baselines = pytest.importorskip("agad_tf.baselines").BASELINES
    # Detectors beside the papers' tables may be more.
    assert set(UNLABELLED) <= {name for name, kind in baselines.items() if not kind.uses_anomalies}
    assert not {name for name, kind in baselines.items() if kind.uses_anomalies} & set(UNLABELLED)
    with pytest.raises(InputError, match="one of the tables"):
        jobs_of("agad-99")


def test_the_command_line(tmp_path, monkeypatch):
    invoke = CliRunner().invoke
    assert "naive-agad" in invoke(main, ["reproduce"]).output
    results = ["--results", str(tmp_path / "runs.jsonl")]
    dry = invoke(main, ["reproduce", "naive-agad", "--dry-run", "--only", "normal_class=0", *results])
    assert dry.exit_code == 0
    assert "none was measured" in dry.output
    monkeypatch.delenv("AGAD_TF_DATA", raising=False)
    missing = invoke(main, ["reproduce", "naive-agad", "--data", str(tmp_path), *results])
    assert missing.exit_code == 2
    assert "mnist" in missing.output
    assert not (tmp_path / "runs.jsonl").exists()
    unknown = invoke(main, ["reproduce", "agad-99", *results])
    assert (unknown.exit_code, unknown.output.count("\n")) == (2, 1)


def test_a_failed_run_ends_with_status_3(tmp_path, monkeypatch):
    from study import reproduce as command

    naive = dataclasses.replace(grids()["naive-agad"], make=pretend)
    monkeypatch.setattr(command, "source_of", lambda dataset: dataset)
    monkeypatch.setattr(command, "named", lambda table: naive)
    results = tmp_path / "runs.jsonl"
    arguments = [
        "reproduce",
        "naive-agad",
        "--seeds",
        "1",
        "--work",
        str(tmp_path),
        "--results",
        str(results),
    ]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    failing = [training("mnist", "agad", 7)]
    monkeypatch.setattr(command, "jobs_of", lambda name, seeds: failing)
    assert CliRunner().invoke(main, arguments).exit_code == 3


def test_a_calibration_is_measured_on_the_data():
    from study.costs import calibrate

    job = training("digits", "isolation_forest", 3, image_size=8)
    line = {"job": job} | calibrate(job)
    found = line["calibration"]
    assert found["samples"] == len(split_of(job, samples_of("digits")).train_normal)
    assert found["paper_epochs"] == 1
    assert 0 < found["seconds_per_sample"] < 1
    assert Costs([line]).seconds(job) == pytest.approx(found["seconds_per_sample"] * NORMALS["digits"])
