"""The report: whole in one file, true to the metrics, and alive with whatever a test set lacks."""

import base64
import dataclasses
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from report_cases import NAMES, Glows, Page, Redraws, check, make, picture, rows_of

from agad_tf.errors import InputError
from agad_tf.evaluation.regions import RegionRule
from agad_tf.evaluation.report import render_report, write_report
from agad_tf.evaluation.report.findings import Findings
from agad_tf.evaluation.report.maps import measure
from agad_tf.evaluation.summary import summarise
from agad_tf.evaluation.thresholds import calibrate
from agad_tf.evaluation.wording import auroc_verdict, counted, in_percent, per_thousand


def test_verdict_equals_the_metrics():
    data = make()
    page = check(data)
    alarm = data.scores > data.calibration.threshold
    assert page.value("auroc") == data.metrics["auroc"]
    assert page.value("threshold") == data.calibration.threshold
    assert page.value("false_alarms") == pytest.approx(alarm[:60].mean())
    assert page.value("found") == pytest.approx(alarm[60:].mean())
    low, high = data.metrics["auroc_interval"]
    assert f"95 % interval: {100 * low:.1f} to {100 * high:.1f}" in page.words
    assert f"{100 * data.metrics['average_precision']:.1f}" in page.words
    for heading in ("By kind", "Worst misses", "Worst false alarms", "Pictures", "Data and configuration"):
        assert heading in page.words


def test_the_threshold_is_told_with_its_price():
    rng = np.random.default_rng(0)
    calibration = calibrate(rng.normal(size=99), rng.normal(size=20), policy="wanted_recall", recall=0.9)
    data = make(calibration=calibration)
    above = round(99 * calibration.observed_false_alarm_rate)
    assert above > 40
    assert f"Its price: {above} of the 99 held-out normal samples lie above it" in check(data).words


def test_table_by_kind():
    data = make()
    rows = rows_of(check(data))
    assert rows[0][0] == "good"
    assert rows[0][2:5] == ["60", "–", f"{(data.scores[:60] > data.calibration.threshold).sum()} of 60"]
    assert {row[0] for row in rows[1:]} == {"scratch", "dent", "stain"}
    for name, training, count, auroc, alarms, _ in rows[1:]:
        of_kind = data.classes == NAMES.index(name)
        assert training == ("labelled examples" if name == "scratch" else "never shown")
        assert int(count) == of_kind.sum()
        assert alarms == f"{(data.scores[of_kind] > data.calibration.threshold).sum()} of {count}"
        pairs = data.scores[of_kind][:, None] > data.scores[None, :60]
        assert float(auroc) == pytest.approx(100 * pairs.mean(), abs=0.051)
    middles = [np.median(data.scores[data.classes == NAMES.index(row[0])]) for row in rows[1:]]
    assert middles == sorted(middles)


def test_pictures_are_the_worst_errors_first():
    data = make(names=tuple(f"part/{i:03d}.png" for i in range(100)))
    page = check(data)
    missed = np.flatnonzero((data.labels == 1) & (data.scores <= data.calibration.threshold))
    worst = missed[np.argsort(data.scores[missed])][:6]
    false = np.flatnonzero((data.labels == 0) & (data.scores > data.calibration.threshold))
    assert len(data.model.asked) == 1  # one pass of the model over the few samples shown
    np.testing.assert_array_equal(data.model.asked[0][: worst.size], data.samples.x[worst])
    assert page.words.count("MISSED") == min(6, missed.size)
    assert page.words.count("FALSE ALARM") == min(6, false.size)
    assert f"part/{worst[0]:03d}.png" in page.words


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_large_and_show_photograph_redrawing_and_map(channels):
    page = check(make(channels=channels))
    shown = [image for image in page.all("img") if "jpeg" in image["src"]]
    assert len(shown) % 3 == 0
    for image in shown:
        assert (picture(image).shape[0], picture(image).shape[1]) == (360, 300)
        assert (image["width"], image["height"]) == ("300", "360")
    assert ["redrawn by" in image["alt"] for image in shown[:3]] == [False, True, False]
    assert "has learned to redraw" in page.words
    colour = [np.ptp(picture(image)[:, :, :].astype(int), axis=-1).mean() for image in shown[1::3]]
    assert (max(colour) < 3) == (channels == 1)


def test_a_detector_that_redraws_nothing_shows_photograph_and_map():
    class Maps:
        preprocess = Redraws()

        @staticmethod
        def anomaly_map(x):
            return x[..., 0].astype(np.float32)

    page = check(make(model=Maps()))
    shown = [image["alt"] for image in page.all("img") if "jpeg" in image["src"]]
    assert len(shown) % 2 == 0
    assert not any("redrawn by" in alt for alt in shown)
    assert "has learned to redraw" not in page.words


def test_photographs_are_shown_as_they_are_on_disk_with_masks_and_regions(tmp_path):
    rng = np.random.default_rng(0)
    photo = np.full((240, 320, 3), 90, np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    mask = np.zeros((240, 320), bool)
    mask[100:140, 200:260] = True
    images = rng.integers(0, 100, (100, 24, 32, 3), np.uint8)
    images[60:, 0, 0] = 255  # the map glows
    page = check(
        make(
            names=(str(tmp_path / "photo.png"),) * 100,
            masks=(None,) * 60 + (mask,) * 40,
            images=images,
            model=Glows(),
            regions=RegionRule(10.0, 0.05, 20),
        )
    )
    shown = [image for image in page.all("img") if "jpeg" in image["src"]]
    assert {picture(image).shape for image in shown} == {(270, 360, 3)}
    first = picture(shown[0]).astype(int)
    green = (first[..., 1] > 150) & (first[..., 2] < 80)
    assert green[112, 226:290].mean() > 0.9  # the upper edge of the mask, at the size shown
    assert not green[120:150, 235:285].any()
    assert "the defect's mask outlined" in shown[0]["alt"]
    assert "marked region" in page.words


def test_survives_no_calibration():
    page = check(make(calibrated=False))
    assert page.value("threshold") is None
    assert page.value("false_alarms") is None
    assert "agad-tf recalibrate" in page.words


@pytest.mark.parametrize(("normals", "anomalies", "only"), [(50, 0, "normal samples"), (0, 50, "anomalies")])
def test_survives_one_class_only(normals, anomalies, only):
    page = check(make(normals, anomalies))
    assert f"This test holds {only} only" in page.words
    assert page.value("auroc") is None
    known, unknown = ("false_alarms", "found")[:: 1 if normals else -1]
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
    assert page.value("found") == 1
    assert "every anomaly scores higher" in page.words
    assert "None: no anomalies were missed" in page.words


HOSTILE = (
    r"$\frac{1}{$", "$", "a$b$c", r"\alpha^{", "{{ 7 * 7 }}", "{% raw %}", "<!--", "--><script>", "</style>",
    "\x1b[31m", "\x00", "\udcff", os.fsdecode(b"gr\xf6\xdfe"), "\u202e", "", " ", "x" * 300, "&amp;",
)  # fmt: skip


def test_no_name_breaks_a_report(tmp_path):
    classes = np.r_[np.zeros(60, int), np.resize(np.arange(1, 1 + len(HOSTILE)), 40)]
    data = make(
        class_names=("good", *HOSTILE), classes=classes, names=tuple(np.resize(HOSTILE, 100).tolist())
    )
    settings = {name: {name: name} for name in HOSTILE} | {"other " + name: name for name in HOSTILE}
    page = check(data, "".join(HOSTILE), settings)
    assert len(rows_of(page)) == 1 + len(HOSTILE)
    assert r"$\frac{1}{$" in page.words
    assert "{{ 7 * 7 }}" in page.words
    write_report(tmp_path / "report.html", data, HOSTILE[0], settings)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", text)


def test_survives_names_that_are_no_unicode(tmp_path):
    data = make(names=(os.fsdecode(b"gr\xf6\xdfe.png"),) * 100)
    write_report(tmp_path / "report.html", data, "screws")
    assert "gr\\udcf6\\udcdfe.png" in (tmp_path / "report.html").read_text("utf-8")


def test_survives_tables_and_equal_scores():
    assert "rows of a table" in check(make(table=True)).words
    equal = np.ones(100)
    check(make(scores=equal, metrics=summarise(make().labels, equal, draws=100)))


def test_ten_thousand_samples_and_a_hundred_kinds_stay_small(tmp_path):
    rng = np.random.default_rng(1)
    classes = np.r_[np.zeros(1000, int), rng.integers(1, 100, 9000)]
    names = tuple(f"kind number {i} of a hundred" for i in range(100))
    path = tmp_path / "report.html"
    data = make(1000, 9000, classes=classes, class_names=names, metrics=make().metrics)
    write_report(path, data, "screws")
    assert path.stat().st_size < 2_500_000
    page = Page(path.read_text())
    assert "60 easier kinds are not listed" in page.words
    assert "9000 anomalies" in page.words


def warned(**changes):
    return " ".join(Findings(make(**changes)).warnings)


def test_small_numbers_are_said():
    words = warned(anomalies=4, normals=15, held_out=2)
    assert "The test holds four anomalies" in words
    assert "The test holds 15 normal samples" in words
    assert "Held out for validation are two labelled anomalies" in words
    few = warned(classes=np.r_[np.zeros(60, int), np.ones(37, int), [2, 2, 3]])
    assert "Few samples of some kinds: " in few
    assert "dent (2)" in few
    one = warned(calibration=calibrate([0.0, 1.0, 0.5], rate=0.3), held_out=1)
    assert "The threshold rests on three held-out normal samples" in one
    assert "Held out for validation is one labelled anomaly" in one
    plenty = {"held_out": 20, "classes": np.r_[np.zeros(60, int), np.ones(40, int)]}
    assert warned(**plenty) == ""
    assert "Mind" in check(make(anomalies=4)).words


def steps(**changes):
    data = make(**changes)
    return " ".join(Findings(data, lambda: measure(data)).steps)


def test_maps_that_see_more_than_the_score_are_a_next_step():
    images = np.random.default_rng(0).integers(0, 250, (100, 12, 10, 1), np.uint8)
    images[60:, 0, 0] = 255
    words = steps(model=Glows(), shift=0.1, images=images)
    assert "The heat maps see more than the score: by the brightest spot" in words
    assert "AUROC of 100, by the score with" in words
    assert re.search(r"Of \d+ missed anomalies (\d+) have a marked region; of 60 normal images 0\.", words)
    assert "--set score=local" in words
    assert words in check(make(model=Glows(), shift=0.1, images=images)).words
    without, already = Glows(), Glows()
    without.score_names, already.parts_of_score = ("reconstruction",), ("local",)
    assert "maps: --detector agad --set score=local" in steps(model=without, shift=0.1, images=images)
    assert "--set score=local" not in steps(model=already, shift=0.1, images=images)
    # Neither where the maps are blind too, nor where the score sees as much.
    assert "heat maps see more" not in steps(shift=0.1)
    assert "heat maps see more" not in steps(model=Glows(), shift=9.0, images=images)


def test_labels_that_spoil_the_redrawing_are_told():
    def told(model, **changes):
        data = make(model=model, **changes)
        split = dataclasses.replace(data.split, train_anomaly=np.arange(1000, 1003))
        with_labels = dataclasses.replace(data, split=split)
        return [" ".join(Findings(d, lambda: None).steps) for d in (with_labels, data)]

    class Noise(Redraws):
        def reconstruct(self, x):
            return 255 - 4.0 * x

    spoilt, without = told(Noise())
    assert re.search(r"Good images are redrawn \d\.\d times as badly as by their average", spoilt)
    assert "--gamma 0" in spoilt
    assert "redrawn" not in without
    assert "redrawn" not in "".join(told(Redraws()))
    assert "redrawn" not in "".join(told(Noise(), table=True))


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


def test_light_and_dark():
    text = render_report(make(), "screws")
    assert "prefers-color-scheme: dark" in text
    page = Page(text)
    charts = [image["src"] for image in page.all("img") if "svg+xml" in image["src"]]
    dark = [source["srcset"] for source in page.all("source")]
    assert len(charts) == len(dark) == 3
    assert not set(charts) & set(dark)
    for colours, uris in (("#0b5fa5", charts), ("#6cb6ff", dark)):
        for uri in uris:
            assert colours in base64.b64decode(uri.split(",")[1]).decode()


def test_words():
    assert "worse than guessing" in auroc_verdict(0.2, (0.1, 0.3))
    assert auroc_verdict(0.97, (0.95, 0.98)).endswith("very well.")
    none_of_twelve = per_thousand(0, 12)
    assert none_of_twelve.expected == 0
    assert none_of_twelve.high == pytest.approx(1000 * (1 - 0.025 ** (1 / 12)))  # exact bound for 0 of n
    assert [in_percent(share) for share in (0.9374, 0.99999, 1.0, 0.0)] == ["93.7", "99.9", "100", "0.0"]
    assert counted(1, "anomaly", "anomalies") == "one anomaly"
    assert counted(0, "region") == "no regions"
    assert counted(34, "sample") == "34 samples"


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
    assert np.ptp(pixels[:, -8:]) == 0
    assert pixels[:, 16:-16].min() < 64
