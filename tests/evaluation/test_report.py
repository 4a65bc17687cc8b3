"""The report: whole in one file, true to the metrics, and alive with whatever a test set lacks."""

import base64
import io
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.report import render_report, write_report
from agad_tf.evaluation.summary import summarise
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.evaluation.wording import auroc_verdict, per_thousand

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Reads a page; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def value(self, metric):
        (found,) = [a["value"] for a in self.all("data") if a["class"] == metric]
        return float(found) if found else None

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


CONFIGURATION = {"detector": "agad", "fit": {"epochs": 3, "none": None}}


class Redraws:
    """Explains samples, each of which is its own row number, with pictures of noise."""

    def __init__(self, channels):
        self.channels, self.seen, self.preprocess = channels, [], self
        self.value_range = (-1.0, 1.0)

    def __call__(self, x):
        noise = [
            np.random.default_rng(int(row)).uniform(-1, 1, (12, 10, self.channels)) for row in x[:, 0, 0, 0]
        ]
        return np.array(noise, np.float32).reshape(len(x), 12, 10, self.channels)

    def explain(self, x):
        self.seen.append(x[:, 0, 0, 0])
        inputs = self(x)
        return inputs * 0.5, np.abs(inputs * 0.5).mean(-1)


def make(
    normals=60, anomalies=40, shift=2.0, channels=1, calibrated=True, seed=0, table=False,
    classes=None, class_names=("good", "scratch", "dent", "stain"), names=None, **changes,
):  # fmt: skip
    """An evaluation with overlapping scores of two kinds and pictures of noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [normals, anomalies])
    scores = rng.normal(labels * shift, 1)
    if classes is None:
        classes = np.where(labels, rng.integers(1, 4, labels.size), 0)
    both = 0 < anomalies < labels.size
    metrics = summarise(labels, scores, classes, [1], draws=100) if both else {}
    nothing = np.zeros(0, np.int64)
    rows = np.arange(labels.size)
    split = Split(nothing, nothing, nothing, nothing, rows[:normals], rows[normals:])
    x = (
        np.zeros((labels.size, 2))
        if table
        else np.broadcast_to(rows[:, None, None, None], (labels.size, 12, 10, 1))
    )
    values = {
        "model": Redraws(channels),
        "samples": SimpleNamespace(name="screws", x=x, classes=classes, class_names=class_names, paths=names),
        "split": split,
        "scores": scores,
        "metrics": metrics,
        "calibration": calibrate(rng.normal(size=99), rate=0.05) if calibrated else None,
    }
    return Evaluation(**values | changes)


def check(data, title="screws", configuration=CONFIGURATION):
    """Renders, checks what must hold for every report, returns the page."""
    text = render_report(data, title, configuration)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html")[0]["lang"] == "en"
    assert not page.all("script")
    assert not page.all("link")
    assert any(a.get("name") == "viewport" and "width=device-width" in a["content"] for a in page.all("meta"))
    assert len(page.all("h1")) == 1
    for image in page.all("img"):
        assert image["src"].startswith(("data:image/png;base64,", "data:image/svg+xml;base64,"))
        assert len(image["alt"]) > 10
    outside = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"(https?:|//[a-z]|@import|url\(|href=|\bsrc=|nan\b|>None<)", outside)
    return page


def test_verdict_equals_the_metrics():
    data = make()
    page = check(data)
    alarm = data.scores > data.calibration.threshold
    assert page.value("auroc") == data.metrics["auroc"]
    assert page.value("threshold") == data.calibration.threshold
    assert page.value("false_alarms_per_1000") == pytest.approx(1000 * alarm[:60].mean())
    assert page.value("misses_per_1000") == pytest.approx(1000 * (~alarm[60:]).mean())
    low, high = data.metrics["auroc_interval"]
    assert f"Between {low:.4f} and {high:.4f} with 95 % confidence" in page.words
    assert f"{data.metrics['average_precision']:.4f}" in page.words
    for heading in ("Worst misses", "Worst false alarms", "What the detector sees", "Data and configuration"):
        assert heading in page.words


def test_pictures_are_the_worst_errors_first():
    data = make(names=tuple(f"part/{i:03d}.png" for i in range(100)))
    seen = data.model.seen
    page = check(data)
    missed = np.flatnonzero((data.labels == 1) & (data.scores <= data.calibration.threshold))
    worst = missed[np.argsort(data.scores[missed])][:8]
    false = np.flatnonzero((data.labels == 0) & (data.scores > data.calibration.threshold))
    assert len(seen) == 1  # one pass of the model over the few samples shown
    np.testing.assert_array_equal(seen[0][8 : 8 + worst.size], worst)
    alts = [image["alt"] for image in page.all("img")]
    assert sum("MISSED" in alt for alt in alts) >= min(8, missed.size)
    assert sum("FALSE ALARM" in alt for alt in alts) >= min(8, false.size)
    assert f"part/{worst[0]:03d}.png" in page.words


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_hold_input_reconstruction_and_error(channels):
    page = check(make(channels=channels))
    pictures = [i["src"] for i in page.all("img") if "redrawn" in i["alt"]]
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0].split(",")[1])))
    # 12 x 10 pixels ten times as large, three of them with gaps.
    assert image.size == (3 * 100 + 2 * 4, 120)
    grey = np.ptp(np.asarray(image)[:, :100].astype(int), axis=-1).max() == 0
    assert grey == (channels == 1)


def test_survives_no_calibration():
    page = check(make(calibrated=False))
    assert page.value("threshold") is None
    assert page.value("false_alarms_per_1000") is None
    assert "agad-tf recalibrate" in page.words


@pytest.mark.parametrize(("normals", "anomalies", "only"), [(50, 0, "normal samples"), (0, 50, "anomalies")])
def test_survives_one_class_only(normals, anomalies, only):
    page = check(make(normals, anomalies))
    assert f"This test holds {only} only" in page.words
    assert page.value("auroc") is None
    known, unknown = ("false_alarms_per_1000", "misses_per_1000")[:: 1 if normals else -1]
    assert page.value(known) is not None
    assert page.value(unknown) is None


def test_survives_nulls_in_metrics():
    metrics = dict.fromkeys(make().metrics) | {"auroc": 0.5, "auroc_interval": [0.4, 0.6]}
    page = check(make(metrics=metrics))
    assert "cannot be told from guessing" in page.words
    assert page.words.count("not known") >= 5


def test_survives_complete_separation():
    page = check(make(shift=50.0))
    assert page.value("auroc") == 1
    assert page.value("misses_per_1000") == 0
    assert "every anomaly scores higher" in page.words
    assert "None: no anomalies were missed" in page.words


def test_survives_names_that_are_no_unicode(tmp_path):
    data = make(names=(os.fsdecode(b"gr\xf6\xdfe.png"),) * 100)
    write_report(tmp_path / "report.html", data, "screws")
    assert "gr\\udcf6\\udcdfe.png" in (tmp_path / "report.html").read_text("utf-8")


def test_survives_tables_and_equal_scores():
    assert "no pictures" in check(make(table=True)).words
    equal = np.ones(100)
    check(make(scores=equal, metrics=summarise(make().labels, equal, draws=100)))


def test_ten_thousand_samples_and_a_hundred_classes_stay_small(tmp_path):
    rng = np.random.default_rng(1)
    classes = np.r_[np.zeros(1000, int), rng.integers(1, 100, 9000)]
    names = tuple(f"kind number {i} of a hundred" for i in range(100))
    path = tmp_path / "report.html"
    write_report(path, make(1000, 9000, classes=classes, class_names=names, metrics=make().metrics), "many")
    assert path.stat().st_size < 1_500_000
    page = Page(path.read_text())
    (alt,) = [i["alt"] for i in page.all("img") if i["alt"].startswith("Box plots")]
    assert "70 easier classes are not drawn" in alt
    assert "9000 anomalies" in page.words


def test_text_from_outside_is_escaped():
    names = ("good", '<script>alert("x")</script>', "a&b", "c")
    page = check(make(class_names=names, names=tuple('"><b>' for _ in range(100))), title="<i>run</i>")
    assert "<i>run</i>" in page.words
    assert not page.all("b")


def test_a_test_that_breaks_the_promise_is_told():
    rng = np.random.default_rng(0)
    data = make(calibration=calibrate(rng.normal(size=99) - 3, rate=0.05))
    assert "more false alarms than the 5 %" in check(data).words
    assert "more false alarms" not in check(make()).words


def test_mistakes_are_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match="100 tested samples, received 3 scores"):
        render_report(make(scores=np.zeros(3)), "screws")
    with pytest.raises(InputError, match="nowhere"):
        write_report(tmp_path / "nowhere" / "report.html", make(), "screws")


def test_words():
    assert "worse than guessing" in auroc_verdict(0.2, (0.1, 0.3))
    assert auroc_verdict(0.97, (0.95, 0.98)).endswith("very well.")
    none_of_twelve = per_thousand(0, 12)
    assert none_of_twelve.expected == 0
    assert none_of_twelve.high == pytest.approx(1000 * (1 - 0.025 ** (1 / 12)))  # exact bound for 0 of n


def test_the_report_needs_no_tensorflow():
    code = "import sys, agad_tf.evaluation.report; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_real_browser_shows_it_without_horizontal_scrolling(width, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium on this machine: the page was parsed but not drawn")
    names = ("good", "a_class_with_a_name_that_is_much_too_long_for_a_phone", "dent", "stain")
    configuration = {"fit": {"a_setting_with_a_name_that_is_much_too_long_for_any_phone": "x" * 200}}
    long = tuple("folder/" * 12 + f"{i}.png" for i in range(100))
    write_report(tmp_path / "r.html", make(class_names=names, names=long), "t" * 80, configuration)
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},7000",
        f"--screenshot={tmp_path / 'shot.png'}", (tmp_path / "r.html").as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pixels = np.asarray(Image.open(tmp_path / "shot.png").convert("L")).astype(int)
    assert pixels.shape[1] == width
    # What is too wide would run over the margin and off the right edge of the picture.
    assert pixels[:, -8:].min() == 255
    assert pixels[:, 16:-16].min() < 64
