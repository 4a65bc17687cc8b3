"""What is said about the data before training."""

import json

import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.data.splits.inspection import table, validate
from agad_tf.data.splits.protocols import one_class_split

RNG = np.random.default_rng(0)


def images(count, least=0, greatest=255):
    return RNG.integers(least, greatest + 1, (count, 5, 4, 1), dtype=np.uint8)


def samples(x, classes, names, part=None):
    return Samples("set", x, np.asarray(classes), names, part=part, normal_classes=(0,))


def test_counts_range_duplicates_and_empty_classes():
    x = images(60)
    x[0], x[59] = 0, 255
    x[7] = x[45]  # training and test
    x[8] = x[9]
    classes = np.arange(60) % 3
    data = samples(x, classes, ("good", "crack", "stain", "rust"), np.repeat(["train", "test"], [40, 20]))
    split = one_class_split(data, gamma=0.3, anomaly_classes="crack", validation=0.25)
    report = validate(data, split)
    assert json.loads(json.dumps(report)) == report
    assert (report["rows"], report["shape"], report["dtype"]) == (60, [5, 4, 1], "uint8")
    assert report["parts"]["training"] == {
        "normal": len(split.train_normal),
        "anomaly": len(split.train_anomaly),
    }
    assert report["parts"]["test"] == {"normal": len(split.test_normal), "anomaly": len(split.test_anomaly)}
    assert report["classes"]["good"]["role"] == "normal"
    assert report["classes"]["crack"] | {"role": ""} == {
        "role": "", "rows": 20, "training": len(split.train_anomaly), "validation": 0, "test": 7,
    }  # fmt: skip
    assert [report["classes"][name]["role"] for name in ("crack", "stain", "rust")] == [
        "known anomaly", "anomaly", "anomaly",
    ]  # fmt: skip
    assert (report["values"]["least"], report["values"]["greatest"], report["values"]["rows"]) == (0, 255, 60)
    assert abs(report["values"]["mean"] - x.mean()) < 1e-3
    assert report["duplicates"] == {"rows": 2, "across": 1, "left_out": split.dropped_duplicates}
    assert report["constant"] == 2
    text = "\n".join(report["warnings"])
    for words in ("class 'rust' has no samples", "1 rows given for training", "2 of 60 rows hold one value"):
        assert words in text
    shown = table(report)
    assert len(shown.splitlines()) <= 15
    assert "set: 60 rows of 5 x 4 x 1, values 0 to 255; 2 copies of other rows" in shown
    assert "normal: good\nknown anomaly: crack\nanomaly: stain, rust\n" in shown


def test_odd_pixels_and_missing_anomalies_are_noted():
    classes = np.arange(40) % 2
    for greatest, words in ((1, "were they stored as 0..1"), (20, "hardly any contrast")):
        data = samples(images(40, 0, greatest), classes, ("normal", "anomaly"))
        notes = " ".join(validate(data, one_class_split(data, gamma=0))["warnings"])
        assert words in notes
        assert "no labelled anomalies" in notes
    data = samples(images(40), classes, ("normal", "anomaly"))
    assert validate(data, one_class_split(data))["warnings"] == []


def test_tables_are_reported_too():
    data = Samples("t", RNG.normal(size=(30, 3)).astype(np.float32), np.arange(30) % 2, ("normal", "anomaly"),
                   normal_classes=(0,))  # fmt: skip
    report = validate(data, one_class_split(data))
    assert (report["shape"], report["warnings"]) == ([3], [])
    assert report["values"]["least"] == data.x.min()


def test_shards_report_what_their_source_reports(tmp_path):
    np.savez(tmp_path / "set.npz", x=images(50), y=np.arange(50) % 2, class_names=["normal", "anomaly"])
    prepare(tmp_path / "set.npz", tmp_path / "set", progress=False)
    reports = []
    for source in (tmp_path / "set.npz", tmp_path / "set"):
        data = load_samples(source)
        reports.append(validate(data, one_class_split(data)))
    assert reports[0] == reports[1]
