"""Evaluations to report on, and a reader of the page that comes out."""

import base64
import io
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
from PIL import Image

from agad_tf.data.splits.split import Split
from agad_tf.evaluation.evaluation import Evaluation
from agad_tf.evaluation.report import render_report
from agad_tf.evaluation.summary import summarise
from agad_tf.evaluation.thresholds import calibrate

VOID = {"meta", "img", "source", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Reads a page; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text, self.source = [], [], [], text
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
NAMES = ("good", "scratch", "dent", "stain")


class Redraws:
    """Redraws images at half their brightness; counts what it was asked for."""

    def __init__(self):
        self.asked, self.preprocess, self.value_range, self.crop = [], self, (0.0, 255.0), "stretch"

    def __call__(self, x):
        return x.astype(np.float32)

    def reconstruct(self, x):
        self.asked.append(x)
        return x.astype(np.float32) / 2

    def explain(self, x):
        return x.astype(np.float32) / 2, x.astype(np.float32).mean(-1) / 2


class Glows(Redraws):
    """Its maps are bright where an image has a white corner."""

    score_names = ("reconstruction", "local")

    def anomaly_map(self, x):
        return x[..., 0].astype(np.float32) * (x[:, :1, :1, 0] == 255)


def make(
    normals=60, anomalies=40, shift=2.0, channels=1, calibrated=True, seed=0, table=False, held_out=0,
    classes=None, class_names=NAMES, names=None, masks=None, model=None, images=None, **changes,
):  # fmt: skip
    """An evaluation with overlapping scores of two kinds and pictures of noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [normals, anomalies])
    scores = rng.normal(labels * shift, 1)
    if classes is None:
        classes = np.where(labels, rng.integers(1, 4, labels.size), 0)
    both = 0 < anomalies < labels.size
    metrics = summarise(labels, scores, classes, [1], draws=100) if both else {}
    nothing, rows = np.zeros(0, np.int64), np.arange(labels.size)
    # Behind the tested samples come the held-out ones: 20 normals, then anomalies.
    more = labels.size + np.arange(20 + held_out)
    split = Split(nothing, nothing, more[:20], more[20:], rows[:normals], rows[normals:], known_classes=(1,))
    if images is None:
        images = rng.integers(0, 250, (labels.size, 12, 10, channels), np.uint8)
    images = np.concatenate([images, images[:1].repeat(len(more), 0) // 2])
    classes = np.append(classes, np.repeat([0, 1], [20, held_out]))
    names, masks = (None if v is None else (*v, *[None] * len(more)) for v in (names, masks))
    values = {
        "model": model or Redraws(),
        "samples": SimpleNamespace(
            name="screws", x=np.zeros((len(images), 2)) if table else images, classes=classes,
            class_names=class_names, paths=names, masks=masks,
        ),
        "split": split,
        "scores": scores,
        "metrics": metrics,
        "calibration": calibrate(rng.normal(size=99), rate=0.05) if calibrated else None,
    }  # fmt: skip
    return Evaluation(**values | changes)


def check(data, title="screws", configuration=CONFIGURATION):
    """Renders, checks what must hold for every report, returns the page."""
    text = render_report(data, title, configuration)
    text.encode()
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html")[0]["lang"] == "en"
    assert not page.all("script")
    assert not page.all("link")
    assert any(a.get("name") == "viewport" and "width=device-width" in a["content"] for a in page.all("meta"))
    assert len(page.all("h1")) == 1
    for image in page.all("img"):
        assert image["src"].startswith(("data:image/jpeg;base64,", "data:image/svg+xml;base64,"))
        assert len(image["alt"]) > 10
    outside = re.sub(r'(src|srcset)="data:[^"]*"', "", text)
    assert not re.search(r"(https?:|//[a-z]|@import|url\(|href=|\bsrc=|\bnan\b|>None<)", outside)
    return page


def rows_of(page):
    """The cells of the table by kind."""
    text = re.search(r"<tbody>(.*?)</tbody>", page.source, re.S)[1]
    return [
        [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
        for row in re.findall(r"<tr.*?</tr>", text, re.S)
    ]


def picture(image):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))))
