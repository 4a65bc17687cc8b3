"""`agad-tf export`: whole versions, the report of how they score, and what is refused."""

import importlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from contracts import check_agreement
from run_cases import untrained_run

from agad_tf.cli import main
from agad_tf.edge import EdgeModel
from agad_tf.edge_metadata import read_metadata
from agad_tf.errors import InputError
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.export import from_run, parity
from agad_tf.export.from_run import export_run
from agad_tf.scoring.detectors import open_detector
from agad_tf.training.open import evaluation_data

ROOT = Path(__file__).parents[2]

REPORT = {
    "part", "samples", "difference_max", "difference_median", "agreement", "spearman", "auroc_before",
    "auroc_after", "auroc_drop", "threshold_before", "threshold_after", "decisions_changed", "latency",
    "format", "precision", "size_bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of digit 8 with a calibration from its held-out normals."""
    path = tmp_path_factory.mktemp("runs") / "eight"
    run = untrained_run(path, normal_classes="8", gamma=0.1, validation=0.3)
    samples, split = evaluation_data(run, None)
    held_out = run.model.predict(samples.x[split.validation_normal], verbose=0)
    calibrate(held_out, rate=0.2, score=run.model.score).save(path / "calibration.json")
    return replace(run, calibration=calibrate(held_out, rate=0.2, score=run.model.score))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(parity, "_LATENCY_SECONDS", 0.05)


def check_report(report, folder, run):
    assert set(report) == REPORT
    assert json.loads((folder / "parity.json").read_text()) == report
    _, split = evaluation_data(run, None)
    assert report["samples"] == len(split.test_normal) + len(split.test_anomaly)
    assert report["threshold_before"] == run.calibration.threshold
    assert 0 < report["latency"]["minimum_ms"] <= report["latency"]["median_ms"]
    assert report["auroc_drop"] == pytest.approx(report["auroc_before"] - report["auroc_after"])


def test_a_saved_model_with_its_card_and_report(run, tmp_path):
    path, report = export_run(run, tmp_path / "parts", licence="CC BY 4.0")
    assert path == tmp_path / "parts" / "1"
    check_report(report, path / "assets.extra", run)
    assert report["agreement"] <= 1e-5
    assert report["decisions_changed"] == 0
    assert report["size_bytes"] > sum(f.stat().st_size for f in (path / "variables").iterdir())
    card = json.loads((path / "assets.extra" / "model_card.json").read_bytes())
    assert card["name"] == "parts"
    assert card["configuration"] == run.configuration
    assert card["split"]["sha256"] == run.split.sha256
    assert card["licence"] == {"software": "Apache-2.0", "weights": "CC BY 4.0"}
    assert card["calibration"]["threshold"] == run.calibration.threshold
    assert set(card["versions"]) == {"agad_tf", "tensorflow", "keras", "numpy"}
    text = (path / "assets.extra" / "model_card.md").read_text()
    assert "CC BY 4.0" in text
    assert f"{run.calibration.threshold:.9g}" in text


def test_onnx_scores_like_the_run(run, tmp_path):
    import onnx

    path, report = export_run(run, tmp_path / "parts", "onnx")
    check_report(report, path, run)
    assert report["agreement"] <= 1e-5
    assert report["spearman"] > 0.99999
    score = open_detector(path / "model.onnx").scores
    images = np.random.default_rng(0).integers(0, 256, (3, 13, 5, 1), np.uint8)
    check_agreement(score(images), run.model.predict(images, verbose=0))
    about, _checksum = onnx.load(path / "model.onnx").metadata_props
    assert about.key == "agad_tf"
    about = json.loads(about.value)
    assert about["calibration"]["threshold"] == run.calibration.threshold
    assert about["card"]["name"] == "parts"
    assert (path / "model_card.md").is_file()


def test_int8_has_a_threshold_of_its_own(run, tmp_path):
    path, report = export_run(run, tmp_path / "parts", "tflite", "int8", force=True)
    check_report(report, path, run)
    model = EdgeModel(path / "model.tflite")
    samples, split = evaluation_data(run, None)
    held_out = model.score(samples.x[split.validation_normal])
    # As many held-out normals are false alarms as of the run: the rule was applied to the export's scores.
    assert model.threshold == report["threshold_after"] != report["threshold_before"]
    alarms = model.is_anomaly(held_out).sum()
    assert alarms == run.calibration.is_anomaly(run.calibration.normal_scores).sum()
    np.testing.assert_array_equal(np.sort(held_out), model.metadata["calibration"]["normal_scores"])
    card = json.loads((path / "model_card.json").read_text())
    assert card["agreement"] == {name: report[name] for name in from_run.AGREEMENT}
    assert f"- spearman: {report['spearman']}" in (path / "model_card.md").read_text()
    assert card["calibration"]["threshold"] == model.threshold
    assert "normal_scores" not in card["calibration"]
    x, labels = from_run.parity_samples(samples, split)
    alarms = model.is_anomaly(model.score(x))
    assert card["metrics"]["threshold"] == model.threshold
    assert card["metrics"]["false_alarm_rate"] == alarms[labels == 0].mean()
    assert card["metrics"]["recall"] == alarms[labels == 1].mean()
    with zipfile.ZipFile(path / "model.tflite") as archive:
        assert json.loads(archive.read("model_card.json")) == card


@pytest.mark.parametrize("format", ["savedmodel", "onnx"])
def test_after_a_recalibration_the_card_states_the_exported_threshold(run, tmp_path, format):
    """For a wanted recall: the threshold is low, and its price is said."""
    samples, split = evaluation_data(run, None)
    parts = split.validation_normal, split.test_anomaly
    normals, anomalies = (run.model.predict(samples.x[rows], verbose=0) for rows in parts)
    x, labels = from_run.parity_samples(samples, split)
    chosen = calibrate(normals, anomalies[:20], "wanted_recall", recall=1.0)
    old = {"threshold": 1e9, "false_alarm_rate": 0.0, "recall": 0.0, "auroc": 0.5}
    path, _ = export_run(replace(run, calibration=chosen, metrics=old), tmp_path / "parts", format)
    folder = path / "assets.extra" if format == "savedmodel" else path
    card = json.loads((folder / "model_card.json").read_text())
    scores = run.model.predict(x, verbose=0)
    assert card["metrics"]["threshold"] == chosen.threshold
    assert card["metrics"]["false_alarm_rate"] == np.mean(scores[labels == 0] > chosen.threshold)
    assert card["metrics"]["recall"] == np.mean(scores[labels == 1] > chosen.threshold)
    assert card["metrics"]["auroc"] == 0.5
    assert card["calibration"]["observed_false_alarm_rate"] == np.mean(normals > chosen.threshold)
    price = f"{np.mean(normals > chosen.threshold):.1%} score above it"
    assert price in (folder / "model_card.md").read_text()
    assert card["identity"] == run.model.identity.to_dict()
    assert open_detector(path).identity == run.model.identity


def test_int8_that_ranks_worse_is_refused_unless_forced(run, tmp_path, monkeypatch):
    samples, split = evaluation_data(run, None)
    anomalies = {samples.x[row].tobytes() for row in split.test_anomaly}

    class Worse(EdgeModel):
        """Gives every other anomaly the lowest score."""

        def score(self, images, batch_size=32):
            scores = super().score(images, batch_size)
            worse = [image.tobytes() in anomalies and index % 2 == 0 for index, image in enumerate(images)]
            return np.where(worse, scores.min() - 1, scores).astype(np.float32)

    monkeypatch.setattr("agad_tf.edge.EdgeModel", Worse)
    folder = tmp_path / "parts"
    with pytest.raises(InputError, match=r"AUROC within 0.005, received a drop of .* --force"):
        export_run(run, folder, "tflite", "int8")
    assert list(folder.iterdir()) == []
    path, report = export_run(run, folder, "tflite", "int8", force=True)
    assert report["auroc_drop"] > 0.005
    assert path == folder / "1"


def test_a_ranking_that_hardly_changes_is_taken():
    report = {"auroc_before": 0.9, "auroc_after": 0.8951, "auroc_drop": 0.0049}
    parity.check_ranking(report, "int8")
    parity.check_ranking({}, "int8")  # a test part of one kind says nothing
    with pytest.raises(InputError, match=r"0.9000 to 0.8940"):
        parity.check_ranking({"auroc_before": 0.9, "auroc_after": 0.894, "auroc_drop": 0.006}, "int8")


def test_the_comparison_by_hand():
    before, after = np.array([0.1, 0.2, 4.0, 8.0]), np.array([0.1, 0.3, 4.4, 3.9])
    report = parity.compare(before, after, np.array([0, 0, 1, 1]))
    assert report["difference_max"] == pytest.approx(4.1)
    assert report["difference_median"] == pytest.approx(0.25)
    assert report["agreement"] == pytest.approx(4.1 / 8)
    assert report["spearman"] == pytest.approx(0.8)
    assert (report["auroc_before"], report["auroc_after"], report["auroc_drop"]) == (1, 1, 0)
    assert "auroc_before" not in parity.compare(before, after, np.zeros(4))
    assert parity.compare(np.ones(4), after)["spearman"] is None


def test_without_its_data_a_run_is_exported_and_not_compared(run, tmp_path, monkeypatch):
    def gone(*_):
        raise InputError("digits: no such data")

    monkeypatch.setattr(from_run, "evaluation_data", gone)
    path, report = export_run(run, tmp_path / "parts", "tflite")
    assert report is None
    assert sorted(file.name for file in path.iterdir()) == [
        "model.tflite", "model_card.json", "model_card.md",
    ]  # fmt: skip
    assert read_metadata(path / "model.tflite")["calibration"]["threshold"] == run.calibration.threshold
    with pytest.raises(InputError, match=r"int8 expects the data of the run.*no such data"):
        export_run(run, tmp_path / "parts", "tflite", "int8")
    assert [entry.name for entry in (tmp_path / "parts").glob("[!.]*")] == ["1"]


def test_what_cannot_be_exported_is_told(run, tmp_path):
    with pytest.raises(InputError, match="format expects one of savedmodel, tflite, onnx, received 'coreml'"):
        export_run(run, tmp_path / "parts", "coreml")
    with pytest.raises(InputError, match="onnx expects precision float32, received 'int8': export tflite"):
        export_run(run, tmp_path / "parts", "onnx", "int8")
    (tmp_path / "parts" / "1").mkdir(parents=True)
    (tmp_path / "parts" / "1" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(InputError, match=r"expected versions with model.tflite, found 1 without it"):
        export_run(run, tmp_path / "parts", "tflite")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder for versions, found a file"):
        export_run(run, tmp_path / "file")
    assert not list((tmp_path / "parts").glob(".partial*"))


@pytest.mark.slow
def test_the_command_says_what_it_found(run, tmp_path):
    def invoke(*arguments, code=0):
        result = CliRunner().invoke(main, ["export", str(run.path), *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    folder = tmp_path / "parts"
    path, *lines = invoke("--to", folder, "--format", "tflite", "--precision", "float16").stdout.splitlines()
    assert path == str(folder / "1")
    said = "\n".join(lines)
    for words in (
        "Spearman",
        "AUROC",
        "threshold",
        "of the decisions change",
        "MB; one sample on one thread",
    ):
        assert words in said
    result = json.loads(invoke("--to", folder, "--format", "tflite", "--json").stdout)
    assert result["export"] == str(folder / "2")
    assert set(result["parity"]) == REPORT
    refused = invoke("--to", folder, "--format", "onnx", code=2)
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["export_parity", "latency"])
def test_the_page_shows_the_results_as_they_are_stored(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark, pages = importlib.import_module(name), importlib.import_module("pages")
    records = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["records"]
    page = (ROOT / "docs" / "results" / "exports.md").read_text()
    mark = {"export_parity": "parity", "latency": "latency"}[name]
    assert pages.with_table(page, mark, benchmark.table(records)) == page
