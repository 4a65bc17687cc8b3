"""Detectors compared on one split: the table, going on, failures as rows, and the command."""

import functools
import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_digits

from agad_tf.cli import main
from agad_tf.comparison import compare as module
from agad_tf.comparison.candidates import Candidate
from agad_tf.comparison.compare import compare
from agad_tf.comparison.page import write_page
from agad_tf.errors import InputError
from agad_tf.training.configuration import EPOCHS, configure
from agad_tf.training.open import load_split


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rows of a table, 6 % anomalies; an .npz file."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(300, 4)), rng.normal(size=(30, 4)) * 4 + 2])
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(path, X=x, y=np.repeat([0, 1], [300, 30]))
    return path


def test_one_table_and_a_recommendation_without_the_test(table, tmp_path):
    made = compare(table, ["isolation_forest", "oc_svm"], out=tmp_path / "c", progress=False)
    assert [row["detector"] for row in made.rows] == ["isolation_forest", "oc_svm"]
    for row in made.rows:
        assert 0.9 < row["auroc"] <= 1
        assert row["auroc_interval"][0] < row["auroc"]
        assert 0 < row["auroc_left_out"] <= 1
        assert row["found"] > 0.5
        assert row["false_alarms"] < 0.2
        assert row["seconds_training"] >= 0
    assert made.recommendation.detector in ("isolation_forest", "oc_svm")
    # The same whatever the labels of the test are.
    with np.load(tmp_path / "c" / "oc_svm" / "scores.npz") as held:
        assert held["fold_normals"].shape == (3, len(made.split.validation_normal))
        assert held["fold_anomalies"].shape == (len(made.split.train_anomaly),)
    page = write_page(made).read_text()
    assert "isolation_forest" in page
    assert made.recommendation.reason in page


def test_a_failure_is_a_row_and_the_rest_goes_on(table, tmp_path, monkeypatch):
    @functools.wraps(module.BASELINES["oc_svm"].fit)
    def fails(self, *args, **kwargs):
        raise InputError("expected better data")

    monkeypatch.setattr(module.BASELINES["oc_svm"], "fit", fails)
    made = compare(table, ["oc_svm", "isolation_forest"], out=tmp_path / "c", progress=False)
    assert made.rows[0] == {"detector": "oc_svm", "error": "expected better data"}
    assert made.recommendation.detector == "isolation_forest"
    assert "failed: expected better data" in write_page(made).read_text()


def test_what_is_there_is_not_trained_again(table, tmp_path, monkeypatch):
    first = compare(table, ["isolation_forest"], out=tmp_path / "c", progress=False)
    monkeypatch.setattr(module, "Candidate", lambda *args: pytest.fail("trained again"))
    again = compare(table, ["isolation_forest"], out=tmp_path / "c", progress=False)
    assert again.rows == first.rows


def test_a_folder_of_other_data_is_refused(table, tmp_path):
    compare(table, ["isolation_forest"], out=tmp_path / "c", progress=False)
    with pytest.raises(InputError, match="one of other data"):
        compare("digits", ["isolation_forest"], out=tmp_path / "c", settings=[("normal_classes", "8")])
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="received other files"):
        compare(table, ["isolation_forest"], out=tmp_path / "d")
    with pytest.raises(InputError, match="received 'isolation'"):
        compare(table, ["isolation"], out=tmp_path / "e")


def test_the_clock_stops_a_training_and_says_so(tmp_path):
    x = load_digits().images.astype(np.uint8)[..., None] * 15
    np.savez(tmp_path / "x.npz", X=x, y=load_digits().target)
    made = compare(
        tmp_path / "x.npz",
        ["autoencoder"],
        out=tmp_path / "c",
        minutes=0.02,
        settings=[("normal_classes", "8"), ("gamma", 0.02)],
        progress=False,
    )
    assert made.rows[0]["stopped_early"]
    # Six anomalies of different digits and two normals, each with the heat map of the autoencoder.
    rows = module.shown_rows(made.samples, made.split)
    assert len(set(made.samples.classes[rows[:6]])) == 6
    with np.load(tmp_path / "c" / "autoencoder" / "scores.npz") as held:
        assert held["maps"].shape[0] == 8
        assert held["maps"].min() >= 0
    assert write_page(made).read_text().count("heat map of autoencoder") == 8


def test_what_is_fitted_in_one_pass_is_never_stopped(table, tmp_path):
    made = compare(table, ["neighbours"], out=tmp_path / "c", minutes=1e-6, progress=False)
    assert made.rows[0]["stopped_early"] is False


def test_closed_forms_come_first_and_leave_their_time_to_the_others(table, tmp_path, monkeypatch):
    asked = []

    def note(names, path, samples, split, folds, seconds, settings):
        asked.append((names, seconds))
        for name in names:
            (path / name).mkdir()
            (path / name / "row.json").write_text(json.dumps({"detector": name, "error": "none"}))

    monkeypatch.setattr(module, "_compare_together", note)
    given = ["aa_bigan", "neighbours", "aa_bigan_neighbours"]
    made = compare(table, given, out=tmp_path / "c", minutes=3, progress=False)
    assert [row["detector"] for row in made.rows] == given
    (first, share), (second, rest) = asked
    assert (first, second) == (("neighbours",), ("aa_bigan_neighbours", "aa_bigan"))
    assert share == pytest.approx(60, abs=1)
    assert rest == pytest.approx(180, abs=2)


@pytest.fixture
def short(monkeypatch):
    """AA-BiGAN for a few steps."""
    monkeypatch.setattr("agad_tf.training.small_sets.LEAST_STEPS", 4)
    for name in ("aa_bigan", "aa_bigan_neighbours"):
        monkeypatch.setitem(EPOCHS, name, 2)


def test_aa_bigan_is_a_score_of_the_training_with_neighbours(table, short, tmp_path):
    both = compare(table, ["aa_bigan_neighbours", "aa_bigan"], out=tmp_path / "both", minutes=None)
    alone = compare(table, ["aa_bigan"], out=tmp_path / "alone", minutes=None)
    fused, shared = both.rows
    assert (fused["score"], shared["score"]) == ("fused", "reconstruction")
    for name in ("auroc", "auroc_left_out", "found", "false_alarms", "weights", "stopped_early", "score"):
        assert shared[name] == pytest.approx(alone.rows[0][name]), name
    with (
        np.load(tmp_path / "both/aa_bigan/scores.npz") as one,
        np.load(tmp_path / "alone/aa_bigan/scores.npz") as other,
    ):
        for name in ("test", "held_out", "fold_normals", "fold_anomalies"):
            np.testing.assert_allclose(one[name] ** 2, other[name], rtol=1e-3)
        with np.load(tmp_path / "both/aa_bigan_neighbours/scores.npz") as of_fused:
            assert not np.allclose(of_fused["fold_anomalies"], one["fold_anomalies"])


@pytest.mark.parametrize("name", ["aa_bigan_neighbours", "deep_svdd", "gradient_boosting", "stacked"])
def test_a_candidate_that_trains_again_is_a_fresh_one(name, table, short, monkeypatch):
    monkeypatch.setattr("agad_tf.comparison.candidates.STEPS", 8)
    samples, split = load_split(configure("aa_bigan", settings=[("source", str(table))]))
    again, fresh = (Candidate(name, samples, split, [("seed", 3)]) for _ in range(2))
    x, labelled = samples.x[split.labelled("test")[0]], split.train_anomaly
    again.train(labelled, None)
    first = again.detector.predict(x, verbose=0)
    again.train(labelled[::2], None)
    fresh.train(labelled[::2], None)
    found = again.detector.predict(x, verbose=0)
    np.testing.assert_allclose(found, fresh.detector.predict(x, verbose=0), rtol=1e-5)
    assert again.uses_labels == (not np.allclose(first, found))


def test_a_baseline_has_a_budget_of_steps_however_many_samples_there_are(table, monkeypatch):
    monkeypatch.setattr("agad_tf.comparison.candidates.STEPS", 8)
    samples, split = load_split(configure("aa_bigan", settings=[("source", str(table))]))
    assert 128 < len(split.train_normal) < 256  # two batches of 128 an epoch
    candidate = Candidate("classifier", samples, split, [])
    assert candidate.detector.settings["learning_rate"] == 3e-3
    candidate.train(split.train_anomaly, None)
    assert int(candidate.detector.optimizer.iterations) == 8


def test_one_that_cannot_be_trained_is_an_error_for_all_of_its_training(table, tmp_path, monkeypatch):
    def fails(self, *args, **kwargs):
        raise InputError("expected better data")

    monkeypatch.setattr("agad_tf.models.AABiGANNeighbours.fit", fails)
    made = compare(table, ["aa_bigan_neighbours", "aa_bigan"], out=tmp_path / "c", progress=False)
    assert made.rows == [
        {"detector": name, "error": "expected better data"} for name in ("aa_bigan_neighbours", "aa_bigan")
    ]
    assert made.recommendation is None


def test_of_one_that_cannot_be_saved_the_best_that_can_is_named(table, tmp_path, monkeypatch):
    def take(scores, folds, cost, order, seed=0):
        return module.Recommendation([name for name in order if name in cost][-1], "the last", {})

    monkeypatch.setattr(module, "recommend", take)
    made = compare(table, ["neighbours", "isolation_forest", "oc_svm"], out=tmp_path / "c", progress=False)
    assert (made.recommendation.detector, made.recommendation.kept) == ("oc_svm", "isolation_forest")
    assert "<strong>isolation_forest</strong>" in write_page(made).read_text()
    made = compare(table, ["neighbours"], out=tmp_path / "c", progress=False)
    assert made.recommendation.kept is None


def test_a_detector_without_heat_maps_is_compared_on_images(tmp_path):
    digits = load_digits()
    x = (digits.images * (255 / 16)).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", X=x, y=(digits.target != 8).astype(int))
    of = {"out": tmp_path / "c", "progress": False, "settings": [("normal_classes", "0")]}
    made = compare(tmp_path / "digits.npz", ["isolation_forest"], **of)
    (row,) = made.rows
    assert 0.5 < row["auroc"] <= 1
    assert "error" not in row


def test_features_of_a_sample_are_computed_once_for_all(tmp_path, monkeypatch):
    import feature_cases

    from agad_tf.features.store import FeatureStore

    x = feature_cases.parts(60, range(40, 60))
    np.savez(tmp_path / "x.npz", X=x, y=np.repeat([0, 1], [40, 20]))
    monkeypatch.setattr(
        "agad_tf.features.layer.open_network",
        lambda *args: (feature_cases.small_network(), "small", "signed"),
    )
    added, asked = [], []
    add, rows = FeatureStore._add, FeatureStore.rows

    def count(self, names, grids):
        added.extend(names)
        add(self, names, grids)

    def ask(self, digests, compute):
        asked.append(len(digests))
        return rows(self, digests, compute)

    monkeypatch.setattr(FeatureStore, "_add", count)
    monkeypatch.setattr(FeatureStore, "rows", ask)
    made = compare(
        tmp_path / "x.npz",
        ["mahalanobis", "nearest_patches"],
        out=tmp_path / "c",
        settings=[("normal_classes", ["0"])],
        progress=False,
    )
    assert all("error" not in row for row in made.rows), made.rows
    assert len(added) == len(set(added)) <= 60
    for part in (made.split.train_normal, made.split.labelled("test")[0], made.split.validation_normal):
        assert asked.count(len(part)) >= 2
    maps = np.load(tmp_path / "c" / "nearest_patches" / "scores.npz")["maps"]
    assert maps.shape[0] == 8


def test_the_command(table, tmp_path):
    arguments = [
        "compare",
        "--data",
        str(table),
        "--detectors",
        "isolation_forest",
        "--out",
        str(tmp_path / "c"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "isolation_forest" in result.stdout
    assert "take isolation_forest" in result.stdout
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(result.stdout)["recommended"] == "isolation_forest"


@pytest.mark.parametrize(
    ("source", "detectors", "expected"),
    [
        ("digits", None, "features"),
        ("digits", ["agad"], "agad"),
        ("digits", ["pca", "mahalanobis"], "features"),
        ("table", None, "agad"),
    ],
)
def test_photographs_are_held_at_the_size_that_features_need(source, detectors, expected, table, monkeypatch):
    class Asked(Exception):  # noqa: N818 - no error, it carries what was asked for
        pass

    def ask(configuration):
        raise Asked(configuration["detector"])

    monkeypatch.setattr(module, "load_split", ask)
    with pytest.raises(Asked, match=expected):
        compare(table if source == "table" else source, detectors)
