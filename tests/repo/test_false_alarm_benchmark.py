"""The benchmark of false alarms: its figures, what it notices, bad input."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "false_alarms.py"
    spec = importlib.util.spec_from_file_location("false_alarms", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_benchmark_of_false_alarms(benchmark, tmp_path, capsys):
    rng = np.random.default_rng(3)
    np.savez(tmp_path / "run.npz", scores=rng.lognormal(size=1500), labels=np.arange(1500) % 10 == 0)
    out = tmp_path / "out.jsonl"
    status = benchmark.main(
        [
            "--scores",
            str(tmp_path / "run.npz"),
            "--splits",
            "200",
            "--calibration",
            "300",
            "--fresh",
            "500",
            "--out",
            str(out),
        ]
    )
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    failed = [line for line in lines if not all(line["checks"].values())]
    assert status == bool(failed)
    assert capsys.readouterr().out.count("FAILED") == len(failed)
    assert len(lines) == 4 * 3 * 2
    for line in lines:
        assert line["splits"] == 200
        # All lines at once, so four standard errors; at two a line in 44 fails by chance.
        assert line["mean_observed"] <= line["rate"] + 4 * line["standard_error"]
        if line["confidence"] is None and line["source"] != "coarse":
            assert line["mean_observed"] >= line["rate"] / 2
        if line["confidence"]:
            expected = line["held_expected"] or 0.95
            assert line["held"] >= expected - 4 * math.sqrt(expected * (1 - expected) / 200)
    assert {line["n_fresh"] for line in lines if line["source"] == "run.npz"} == {1350 - 300}


def test_benchmark_notices_a_threshold_that_is_too_low(benchmark, monkeypatch):
    monkeypatch.setattr(
        benchmark,
        "threshold_for_false_alarm_rate",
        lambda scores, rate, confidence: float(np.quantile(scores, 1 - 1.5 * rate)),
    )
    rng = np.random.default_rng(4)
    line = benchmark.measure(
        "plain",
        lambda: (rng.random(300), rng.random(500)),
        0.05,
        200,
        0.95,
        exact_rate=lambda threshold: 1 - threshold,
    )
    assert line["checks"] == {"mean": False, "held": False}


def test_benchmark_expects_what_finite_test_sets_do(benchmark):
    rng = np.random.default_rng(5)
    line = benchmark.measure("plain", lambda: (rng.random(300), rng.random(400)), 0.05, 2000, 0.95)
    assert line["held"] == pytest.approx(line["held_expected"], abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--splits", "50"], "at least 200 splits, received 50"),
        (["--scores", "none.npz", "--calibration", "300"], "could not read none.npz"),
        (["--calibration", "50"], "needs 99 held-out normals, received 50"),
    ],
)
def test_benchmark_with_bad_input(benchmark, arguments, words, capsys, tmp_path):
    out = tmp_path / "out.jsonl"
    assert benchmark.main(["--splits", "200", "--fresh", "100", "--out", str(out), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()
