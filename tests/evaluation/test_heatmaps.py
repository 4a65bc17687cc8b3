"""Pictures: pixels where they can be known, sizes and words where not, one clear line for each error."""

import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits

from agad_tf.errors import InputError
from agad_tf.evaluation import heatmaps
from agad_tf.evaluation.heatmaps import as_pictures, overlay, reconstruction_grid, score_histogram


def _samples(n=6, shape=(8, 8, 1), seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-1, 1, (n, *shape)).astype(np.float32)
    reconstructions = np.clip(inputs + rng.normal(0, 0.2, inputs.shape), -1, 1)
    return inputs, reconstructions, np.abs(inputs - reconstructions).mean(-1), np.arange(n) % 2


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is saved, so that a test can look at what was drawn."""
    saved = []
    plain = Figure.savefig

    def keep(self, *args, **kwargs):
        saved.append(self)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def _words(figure):
    inside = [text for axes in figure.axes for text in (axes.xaxis.label, axes.yaxis.label, axes.title)]
    inside += [axes.get_title(loc="left") for axes in figure.axes]
    return "\n".join(text if isinstance(text, str) else text.get_text() for text in [*figure.texts, *inside])


def _one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# --- pictures -----------------------------------------------------------------------------------------------


def test_pictures_from_bytes_and_floats_agree():
    grey = np.array([[[0, 51], [204, 255]]], np.uint8)
    assert as_pictures(grey)[0, ..., 2] == pytest.approx(np.array([[0, 0.2], [0.8, 1]]), abs=1e-6)
    assert as_pictures(grey / 127.5 - 1) == pytest.approx(as_pictures(grey), abs=1e-6)
    assert as_pictures(grey / 255, value_range=(0, 1)) == pytest.approx(as_pictures(grey), abs=1e-6)
    colour = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    assert as_pictures(colour) == pytest.approx(colour / 255, abs=1e-6)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 3)), "images of shape (n, height, width, 1 or 3), received (2, 3)"),
        (np.zeros((1, 4, 4, 2)), "received (1, 4, 4, 2)"),
        (np.zeros((0, 4, 4, 1)), "received (0, 4, 4, 1)"),
        (np.full((1, 2, 2), 200.0), "floats from -1 to 1, received values from 200 to 200"),
        (np.full((1, 2, 2), np.nan), "received values from nan to nan"),
    ],
)
def test_bad_pictures(images, words):
    with pytest.raises(InputError) as error:
        as_pictures(images)
    assert words in _one_line(error)


# --- grid ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8), (30, 60, 3), (100, 20, 1), (1, 1, 3)])
@pytest.mark.parametrize("scored", [True, False])
def test_grid_is_a_png_for_any_size(tmp_path, shape, scored):
    full = shape if len(shape) == 3 else (*shape, 1)
    inputs, reconstructions, errors, labels = _samples(shape=full)
    reconstruction_grid(
        inputs.reshape(6, *shape),
        reconstructions.reshape(6, *shape),
        errors,
        labels,
        np.arange(6.0) if scored else None,
        path=tmp_path / "grid.png",
    )
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.format == "PNG"
        assert picture.width >= 800
        assert picture.height >= 300
        assert np.asarray(picture.convert("L")).std() > 10
    assert os.listdir(tmp_path) == ["grid.png"]


def test_grid_of_digits_puts_normals_above_and_shares_one_scale(tmp_path, figures):
    digits = np.uint8(load_digits().images[:12] * 15)
    labels = np.array([1, 0] * 6)
    reconstructions = np.roll(digits, 1, axis=0)
    errors = np.abs(digits / 255 - reconstructions / 255)
    reconstruction_grid(
        digits,
        reconstructions,
        errors,
        labels,
        np.arange(12.0),
        path=tmp_path / "g.png",
        columns=4,
        threshold=3.5,
    )
    *cells, bar = figures[0].axes
    assert len(cells) == 2 * 3 * 4
    tops = [axes.get_position().y0 for axes in cells]
    assert min(tops[:12]) > max(tops[12:])
    shown = [axes.images[0].get_array() for axes in cells]
    for block, rows in ((0, (1, 3, 5, 7)), (12, (0, 2, 4, 6))):  # normals, anomalies, in the given order
        for column, row in enumerate(rows):
            np.testing.assert_allclose(shown[block + column][..., 0], digits[row] / 255, atol=1e-6)
            redrawn = shown[block + 4 + column][..., 0]
            np.testing.assert_allclose(redrawn, reconstructions[row] / 255, atol=1e-6)
            np.testing.assert_allclose(shown[block + 8 + column], errors[row])
    limits = {axes.images[0].get_clim() for i, axes in enumerate(cells) if i % 12 >= 8}
    assert len(limits) == 1
    assert min(limits)[0] == 0
    assert bar.get_ylim() == min(limits)
    captions = [axes.get_xlabel() for axes in cells if axes.get_xlabel()]
    assert captions == [
        "score 1\npassed",
        "score 3\npassed",
        "score 5\nFALSE ALARM",
        "score 7\nFALSE ALARM",
        "score 0\nMISSED",
        "score 2\nMISSED",
        "score 4\nalarm",
        "score 6\nalarm",
    ]
    for words in (
        "NORMAL samples",
        "ANOMALIES",
        "Input",
        "Reconstruction",
        "Error",
        "error per pixel",
        "Alarm above 3.5",
    ):
        assert words in _words(figures[0])


def test_grid_words_stay_inside_the_picture_and_apart(tmp_path, figures):
    for columns in (1, 3, 8):
        inputs, reconstructions, errors, labels = _samples(16)
        reconstruction_grid(
            inputs,
            reconstructions,
            errors,
            labels,
            np.full(16, -123456.0),
            path=tmp_path / "g.png",
            columns=columns,
            threshold=0.0,
        )
        figure = figures[-1]
        renderer = figure.canvas.get_renderer()
        texts = [
            *figure.texts,
            *(axes.xaxis.label for axes in figure.axes if axes.get_xlabel()),
            figure.axes[-1].yaxis.label,
        ]
        boxes = [text.get_window_extent(renderer) for text in texts]
        for box in boxes:
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y0 >= 0
            assert box.y1 <= figure.bbox.y1
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[i + 1 :]), texts[i].get_text()


def test_grid_of_one_kind_and_of_no_error(tmp_path, figures):
    inputs, _, _, _ = _samples()
    reconstruction_grid(inputs, inputs, np.zeros((6, 8, 8)), [0] * 6, path=tmp_path / "g.png")
    assert "NORMAL" in _words(figures[0])
    assert "ANOMALIES" not in _words(figures[0])
    assert len(figures[0].axes) == 3 * 6 + 1


def test_one_hot_pixel_does_not_hide_the_other_errors(tmp_path, figures):
    inputs, reconstructions, errors, labels = _samples(8, (16, 16, 1))
    errors[0, 0, 0] = 100.0
    reconstruction_grid(inputs, reconstructions, errors, labels, path=tmp_path / "g.png")
    assert figures[0].axes[-1].get_ylim()[1] < 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": [0, 1, 2, 0, 1, 0]}, "6 labels of 0 (normal) or 1 (anomaly)"),
        ({"labels": [0, 1]}, "received shape (2,)"),
        ({"scores": [1.0, 2.0]}, "of one length, received 6, 6, 6, 2"),
        ({"scores": [np.nan] * 6}, "finite scores"),
        ({"error_maps": np.zeros((5, 8, 8))}, "of one length, received 6, 6, 5"),
        ({"error_maps": np.zeros((6, 8))}, "error_maps of shape (n, height, width), received (6, 8)"),
        ({"error_maps": np.full((6, 8, 8), -1.0)}, "finite error_maps of 0 or more"),
        ({"reconstructions": np.full((6, 8, 8), 9.0)}, "reconstructions as uint8 or as floats from -1 to 1"),
        ({"columns": 0}, "at least 1 column, received 0"),
        ({"path": "missing/grid.png"}, "create it first"),
    ],
)
def test_bad_grid_writes_nothing(tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    names = ("inputs", "reconstructions", "error_maps", "labels")
    arguments = dict(zip(names, _samples(), strict=True)) | {"path": "grid.png"} | change
    with pytest.raises(InputError) as error:
        reconstruction_grid(**arguments)
    assert words in _one_line(error)
    assert os.listdir(tmp_path) == []


# --- overlay ------------------------------------------------------------------------------------------------


def test_overlay_leaves_error_free_pixels_and_colours_the_largest():
    image = np.array([[[255, 0, 0], [10, 20, 30]], [[0, 0, 0], [200, 200, 200]]], np.uint8)
    errors = np.array([[0, 0], [0.5, 1]])
    found = overlay(image, errors, strength=1)
    assert found.dtype == np.uint8
    assert found.shape == (2, 2, 3)
    assert found[0, 0].tolist() == [76] * 3  # .299 * 255: the grey of red
    assert found[1, 1].tolist() == [round(255 * value) for value in colormaps["autumn"](1.0)[:3]]
    assert found[1, 0, 0] == 128  # half opaque red over black
    weaker = overlay(image, errors, maximum=2.0, strength=1)
    assert weaker[1, 1].tolist() != found[1, 1].tolist()
    assert np.array_equal(overlay(image, np.zeros((2, 2)))[..., 0], overlay(image, np.zeros((2, 2)))[..., 2])


@pytest.mark.parametrize(
    ("errors", "options", "words"),
    [
        (np.zeros((3, 2)), {}, "one size, received (2, 2) and (3, 2)"),
        (np.zeros((2, 2)), {"maximum": 0}, "maximum above 0, received 0"),
        (np.zeros((2, 2)), {"strength": 2}, "strength above 0 and up to 1, received 2"),
        (np.full((2, 2), np.nan), {}, "finite error_map of 0 or more"),
    ],
)
def test_bad_overlay(errors, options, words):
    with pytest.raises(InputError) as error:
        overlay(np.zeros((2, 2)), errors, **options)
    assert words in _one_line(error)


# --- histogram ----------------------------------------------------------------------------------------------


def _heights(axes):
    return [np.array([bar.get_height() for bar in bars]) for bars in axes.containers]


def test_histogram_counts_every_sample_once_and_names_the_errors(tmp_path, figures):
    labels = np.repeat([0, 1], [40, 10])
    scores = np.r_[np.arange(40), np.arange(30, 40)].astype(float)
    score_histogram(labels, scores, 35.0, tmp_path / "h.png", bins=13)
    axes = figures[0].axes[0]
    assert [heights.sum() for heights in _heights(axes)] == [pytest.approx(100), pytest.approx(100)]
    assert "False alarms: 4 of 40 normal samples (10.0 %)\nMissed: 6 of 10 anomalies (60.0 %)" in _words(
        figures[0]
    )
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "normal samples (40)",
        "anomalies (10)",
        "threshold 35",
    ]
    with Image.open(tmp_path / "h.png") as picture:
        assert picture.format == "PNG"


def test_histogram_shows_no_share_above_the_whole(tmp_path, figures):
    score_histogram([0, 0, 1], [1.0, 1.0, 2.0], 1.5, tmp_path / "h.png")
    axes = figures[0].axes[0]
    assert axes.get_ylim()[1] > 100  # the legend has its room
    assert max(axes.get_yticks()) == 100


def test_histogram_keeps_far_scores_in_the_last_bar_and_the_threshold_in_sight(tmp_path, figures):
    labels, scores = np.repeat([0, 1], [100, 2]), np.r_[np.linspace(0, 1, 100), 1e6, 2e6]
    score_histogram(labels, scores, 50.0, tmp_path / "h.png")
    axes = figures[0].axes[0]
    normal, anomaly = _heights(axes)
    assert normal.sum() == pytest.approx(100)
    assert anomaly[-1] == pytest.approx(100)
    assert "are counted in the last bar" in axes.get_xlabel()
    assert axes.get_xlim()[1] > 50
    assert axes.get_xlim()[1] < 1000


@pytest.mark.parametrize(
    ("labels", "scores", "threshold"),
    [([0, 0, 0], [1.0, 2.0, 3.0], None), ([1, 1], [5.0, 5.0], 5.0), ([0, 1], [2.0, 2.0], None)],
)
def test_histogram_of_little_data(tmp_path, figures, labels, scores, threshold):
    score_histogram(labels, scores, threshold, tmp_path / "h.png")
    assert all(heights.sum() == pytest.approx(100) for heights in _heights(figures[0].axes[0]))
    words = figures[0].axes[0].get_title(loc="left")
    if threshold is None:
        assert words == ""
    else:
        assert words == "Missed: 2 of 2 anomalies (100.0 %)"  # a tie with the threshold is no alarm


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0, 1], [1.0, np.inf], None), "finite scores"),
        (([0], [1.0, 2.0], None), "2 labels of 0 (normal) or 1 (anomaly)"),
        (([0, 1], [1.0, 2.0], np.nan), "finite threshold"),
    ],
)
def test_bad_histogram_writes_nothing(tmp_path, arguments, words):
    with pytest.raises(InputError) as error:
        score_histogram(*arguments, tmp_path / "h.png")
    assert words in _one_line(error)
    with pytest.raises(InputError, match="at least 2 bins, received 1"):
        score_histogram([0, 1], [1.0, 2.0], None, tmp_path / "h.png", bins=1)
    assert os.listdir(tmp_path) == []


def test_same_input_same_bytes_and_no_pyplot(tmp_path):
    code = (
        "import sys\nimport numpy as np\nfrom agad_tf.evaluation import heatmaps\n"
        "x = np.linspace(-1, 1, 128).reshape(2, 8, 8)\n"
        "for name in 'ab':\n    heatmaps.reconstruction_grid(x, x, abs(x), [0, 1], path=f'{name}.png')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(heatmaps.__file__))))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.stdout.strip() == "False"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
