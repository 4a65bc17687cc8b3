"""The cheapest baseline beside a detector: which one, what is said, and that it is computed once."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from agad_tf.baselines import BASELINES
from agad_tf.cli import main
from agad_tf.data.sources.load import load_samples
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.intervals import auroc_difference
from agad_tf.evaluation.metrics import auroc
from agad_tf.evaluation.wording import beside_line
from agad_tf.training import beside as module
from agad_tf.training.beside import beside


def table(tmp_path, anomalies=30):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(200, 4)), rng.normal(size=(anomalies, 4)) * 4 + 2])
    np.savez(tmp_path / "rows.npz", X=x, y=np.repeat([0, 1], [200, anomalies]))
    return tmp_path / "rows.npz"


def evaluation(source, scores, **settings):
    samples = load_samples(source)
    split = one_class_split(samples, **settings)
    labels = split.labelled("test")[1]
    return Evaluation(None, samples, split, scores(labels), {})


@pytest.mark.parametrize(("settings", "expected"), [({}, "stacked"), ({"gamma": 0.0}, "neighbours")])
def test_a_table_gets_the_one_that_its_labels_allow(tmp_path, settings, expected):
    chance = np.random.default_rng(1).normal
    found = beside(evaluation(table(tmp_path), lambda labels: chance(size=len(labels)), **settings))
    assert found["detector"] == expected
    assert found["auroc"] > 0.75
    assert found["ahead"]
    assert "AHEAD" in beside_line(found)
    json.dumps(found)


def test_a_good_detector_is_ahead_and_equal_ones_cannot_be_told_apart(tmp_path, monkeypatch):
    given = evaluation("digits", lambda labels: labels + 0.0, normal_classes="8", gamma=0.0)
    found = beside(given)
    assert found["detector"] == "pca"
    assert found["behind"]
    assert "this detector is ahead with 100" in beside_line(found)
    monkeypatch.setattr(module, "_scores", lambda *args: given.scores)
    same = beside(given)
    assert not same["ahead"]
    assert not same["behind"]
    assert "cannot be told apart" in beside_line(same)


def test_nothing_is_said_of_itself_of_one_kind_and_where_it_is_off():
    given = evaluation("digits", lambda labels: labels + 0.0, normal_classes="8", gamma=0.0)
    assert beside(given, baseline=False) is None
    one_kind = SimpleNamespace(samples=given.samples, split=given.split, labels=np.zeros(4), model=None)
    assert beside(one_kind) is None
    itself = BASELINES["pca"]((8, 8, 1))
    assert beside(Evaluation(itself, given.samples, given.split, given.scores, {})) is None


def test_photographs_are_looked_at_through_features_where_they_can_be(monkeypatch):
    samples = SimpleNamespace(x=np.zeros((3, 100, 80, 3), np.uint8))
    assert module.cheapest(samples, None) in ("mahalanobis", "pca")
    monkeypatch.setattr(module, "weights_file", lambda: "weights")
    assert module.cheapest(samples, None) == "mahalanobis"


def test_a_drawn_test_has_both_kinds():
    labels = np.repeat([0, 1], [1000, 40])
    picked = module._picked(labels, 300)
    assert len(picked) == 300
    assert labels[picked].sum() == 40
    picked = module._picked(labels[::-1], 20)
    assert labels[::-1][picked].sum() == 10


def test_the_interval_of_the_difference_is_the_paired_one():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    truth = labels + rng.normal(size=200)
    a, b = truth + 0.1 * rng.normal(size=200), truth + 0.1 * rng.normal(size=200)
    difference, low, high = auroc_difference(labels, a, b)
    assert difference == pytest.approx(auroc(labels, a) - auroc(labels, b))
    drawn = []
    for _ in range(300):
        rows = np.concatenate([rng.integers(0, 100, 100), rng.integers(100, 200, 100)])
        drawn.append(auroc(labels, a[rows]) - auroc(labels, b[rows]))
    np.testing.assert_allclose((high - low) / 2, 1.96 * np.std(drawn), rtol=0.2)
    assert high - low < 0.05  # unpaired it would be about .16


def test_a_run_keeps_it_and_does_not_compute_it_again(tmp_path, monkeypatch):
    def run(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    path = tmp_path / "run"
    common = ("--data", table(tmp_path), "--detector", "neighbours", "--quiet", "--out")
    assert "The simple baseline stacked" in run("train", *common, path)
    assert json.loads((path / "baseline.json").read_text())["detector"] == "stacked"
    assert "The simple baseline" in (path / "report.html").read_text("utf-8")
    assert "simple baseline" not in run("train", *common, tmp_path / "off", "--set", "baseline=false")
    monkeypatch.setattr(module, "_scores", lambda *args: pytest.fail("computed again"))
    assert "The simple baseline stacked" in run("evaluate", path)
    assert "simple baseline" not in run("evaluate", path, "--no-baseline")
    monkeypatch.undo()
    (path / "baseline.json").unlink()  # a run of before
    assert "The simple baseline stacked" in run("evaluate", path)
    assert (path / "baseline.json").is_file()
