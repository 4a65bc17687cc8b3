"""What the stability study counts and compares, and that tracing a training does not change it."""

import json
import math

import numpy as np
import pytest

from study import readings
from study.development import DevelopmentData
from study.job import Job


def curve(*values, **constant):
    epoch = {
        "held_out_error": 1.0,
        "contrast": 1.0,
        "normal_contextual": 0.5,
        "discriminator": 0.9,
    } | constant
    return [epoch | dict.fromkeys(("reconstruction", "fused", "raw"), value) for value in values]


def record(switch, values, problem=("mnist", 5), gamma=0.05, seed=0):
    sizes = {"epochs": len(values), "image_size": 16, "normals": 1000, "batch_size": 64}
    source, digit = problem
    return sizes | {
        "switch": switch,
        "source": source,
        "normal_class": digit,
        "gamma": gamma,
        "seed": seed,
        "curve": curve(*values),
    }


@pytest.mark.parametrize(
    ("values", "collapsed", "swung"),
    [
        ((0.7, 0.8, 0.9), False, False),
        ((0.5, 0.55, 0.9), False, False),  # a bad start is no collapse
        ((0.9, 0.6, 0.92), False, True),  # nor is a fall that is made good
        ((0.9, 0.8, 0.74), True, False),  # a slow fall is
        ((0.9, 0.7, 0.7), True, True),
        ((0.5, 0.55, 0.59), True, False),
        ((0.9, math.nan, 0.9), True, False),
    ],
)
def test_collapse_is_what_its_definition_says(values, collapsed, swung):
    assert readings.collapsed(curve(*values), "reconstruction") == collapsed
    assert readings.swung(curve(*values), "reconstruction") == swung


def test_a_loss_that_is_not_finite_is_a_collapse_whatever_the_score():
    assert readings.collapsed(curve(0.9, 0.9, normal_contextual=math.inf), "reconstruction")


def test_the_guard_is_told_from_the_losses():
    calm, jump = curve(0.9, 0.9), curve(0.9, 0.9)
    jump[1]["normal_contextual"] = 1.01
    assert not readings.guard_fired(calm)
    assert readings.guard_fired(jump)


def test_differences_are_paired_with_the_default_of_the_same_problem_and_seed():
    records = [
        record("default", [0.80], seed=0),
        record("default", [0.90], seed=1),
        record("clip_norm=1", [0.83], seed=0),
        record("clip_norm=1", [0.91], seed=1),
        record("clip_norm=1", [0.10], seed=2),  # no default to compare with
    ]
    lines = readings.switch_table(records, 0.05)
    (row,) = [line for line in lines if "clip_norm=1" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:6] == ["2", "1 × 2", "0.870", "0.057", "+0.020 ± 0.010"]


def test_a_fixed_budget_is_chosen_on_the_other_problems():
    early = record("default", [0.9, 0.8, 0.7])
    late = record("default", [0.7, 0.8, 0.9], problem=("fashion_mnist", 4))
    assert readings.fixed_budget([early, late], early) == 2
    assert readings.fixed_budget([early, late], late) == 0


def test_what_follows_auroc_is_told():
    run = record("default", [0.7, 0.9, 0.8, 0.6])
    for epoch, contrast in zip(run["curve"], (1.0, 4.0, 3.0, 0.5), strict=True):
        epoch |= {"contrast": contrast, "held_out_error": 5.0 - contrast}
    assert readings.tracking_table([run], "default")[2].endswith("| all | -1.00 | +1.00 |")


def test_the_ledger_counts_collapses_of_both_modes():
    records = [
        record("default", [0.8, 0.9]),
        record("literal", [0.9, 0.3]),
        record("literal", [0.9, 0.9], seed=1),
    ]
    text = readings.ledger(records)
    assert "| default | 0.05 | reconstruction | 1 | 0 | 0 | 0 | 0.900 | 0.900 |" in text
    assert "| literal | 0.05 | reconstruction | 2 | 1 | 1 | off | 0.600 | 0.300 |" in text


def test_raw_weights_that_collapse_under_a_steady_average_are_counted():
    run = record("default", [0.8, 0.9])
    run["curve"][-1]["raw"] = 0.2
    text = readings.ledger([run])
    assert "| default | 0.05 | reconstruction | 1 | 0 | 0 | 0 | 0.900 | 0.900 |" in text
    assert "| default | 0.05 | raw | 1 | 1 | 1 | 0 | 0.200 | 0.200 |" in text


def test_longer_runs_have_tables_of_their_own():
    long = [record("default", [0.7, 0.9, 0.8, 0.6]), record("default", [0.7, 0.9, 0.8, 0.8], seed=1)]
    text = readings.ledger([record("default", [0.8, 0.9])], long)
    short, _, longer = text.partition("## Longer runs")
    assert "| default | 0.05 | reconstruction | 1 | 0 | 0 | 0 | 0.900 | 0.900 |" in short
    assert "| default | 0.05 | reconstruction | 2 | 1 | 1 | 0 | 0.700 | 0.600 |" in longer
    assert "γ 0.0\n" not in text  # no runs, no table


def test_scores_are_compared_run_by_run():
    runs = [record("default", [0.8]), record("default", [0.6], seed=1)]
    for run, gained in zip(runs, (0.1, 0.2), strict=True):
        run["curve"][-1]["fused"] += gained
    assert readings.score_table(runs)[-1].endswith("| 0.700 | 0.900 | 0.850 | +0.150 ± 0.050 |")


@pytest.fixture(scope="module")
def small_problem():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (100, 8, 8, 1)).astype(np.uint8)
    return DevelopmentData(x[:40], x[40:50], x[50:60], x[60:], np.repeat([0, 1], 20).astype(np.int32))


@pytest.fixture(scope="module")
def traced(small_problem):
    import keras

    from study.collapse import trace, traced_model

    keras.utils.set_random_seed(3)
    model = traced_model((8, 8, 1), "encoder_decoder", "shared", True, "fused", 3, literal=True)
    return trace(model, small_problem, epochs=1, batch_size=32, seed=3, every=1)


def test_a_traced_step_is_the_untraced_one_and_its_parts_add_up(small_problem, traced):
    import keras

    from agad_tf import AGAD
    from study.collapse import TERMS

    keras.utils.set_random_seed(3)
    plain = AGAD((8, 8, 1), "encoder_decoder", score="fused", seed=3)
    plain.compile(literal=True)
    history = plain.fit(*small_problem.train, 32, 1, seed=3, min_anomalies=4, verbose=0).history
    steps = traced["steps"]
    # float32 sums in another order
    assert np.mean([step["norm/total"] for step in steps]) == pytest.approx(
        history["gradient_norm_generator"][0], rel=1e-3
    )
    for step in steps:
        loss = step["mean/loss_normal"] + step["mean/loss_anomaly"]
        assert sum(step[f"term/{name}"] for name in TERMS) == pytest.approx(loss, rel=1e-5)
        norms = [step[f"norm/{name}"] for name in TERMS]
        assert max(norms) - sum(sorted(norms)[:-1]) <= step["norm/total"] <= sum(norms)
    assert [point["step"] for point in traced["auroc"]] == list(range(1, len(steps) + 1))
    assert json.loads(json.dumps(traced))["settings"]["literal"] is True


def test_traces_are_drawn(traced, tmp_path):
    from study.collapse import draw

    record = traced | {"source": "mnist", "normal_class": 5, "gamma": 0.05}
    draw([record, record], tmp_path / "traces.png")
    assert (tmp_path / "traces.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_in_a_used_model_is_the_run_in_a_new_one(tmp_path, monkeypatch):
    from study import stability

    rng = np.random.default_rng(0)
    y = np.where(np.arange(600) % 4, 5, np.arange(600) % 10)
    np.savez(
        tmp_path / "mnist.npz",
        x_train=rng.integers(0, 255, (600, 8, 8), np.uint8) // (1 + y[:, None, None]).astype(np.uint8),
        y_train=y,
        x_test=np.zeros((10, 8, 8), np.uint8),
        y_test=np.arange(10),
    )
    how = {"epochs": 2, "image_size": 8, "normals": 12, "batch_size": 8, "test_normals": 5}
    monkeypatch.setenv("AGAD_TF_DATA", str(tmp_path))
    job = Job(switch="default", source="mnist", normal_class=5, gamma=0.05, seed=1, **how)
    fresh = stability.make(job, tmp_path)
    assert len(fresh["split_sha256"]) == 64
    stability.make(job.but(seed=2, gamma=0.0), tmp_path)
    again = stability.make(job, tmp_path)
    for epoch, same in zip(again["curve"], fresh["curve"], strict=True):
        assert epoch == pytest.approx(same, rel=1e-6)
