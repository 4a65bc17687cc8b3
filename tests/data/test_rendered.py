"""Rendered photographs: the same every time, defects where the masks say, parts that no split cuts."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from agad_tf.data.rendered import OBJECTS, as_samples, load, photos, render, write_folder
from agad_tf.data.rendered.scene import Flaw, Frame, photograph
from agad_tf.data.sources.load import load_samples
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.errors import InputError
from agad_tf.evaluation.metrics import auroc

KINDS = [(name, kind) for name, kinds in OBJECTS.items() for kind in kinds]
DIGESTS = {"fabric": "d4aa546169864d63", "gear": "0cbdb282ecf5ef1f", "plate": "3eaa81758dc22828"}


def small(name: str, n_normal: int = 4, per_kind: int = 2, seed: int = 1, size=(120, 160)):
    return render(name, n_normal, dict.fromkeys(OBJECTS[name], per_kind), seed, size)


@pytest.mark.parametrize("name", OBJECTS)
def test_same_arguments_same_pixels(name):
    first = small(name)
    digest = hashlib.sha256(first.images.tobytes() + first.masks.tobytes()).hexdigest()[:16]
    assert digest == DIGESTS[name]
    assert not np.array_equal(small(name, seed=2).images, first.images)


@pytest.mark.parametrize("name", OBJECTS)
def test_content(name):
    rendered = small(name, n_normal=5, per_kind=4)
    assert rendered.images.shape == (21, 120, 160, 3)
    assert rendered.images.dtype == np.uint8
    assert rendered.kinds.tolist() == ["normal"] * 5 + [k for k in OBJECTS[name] for _ in range(4)]
    assert len(OBJECTS[name]) == 4
    marked = rendered.masks.any((1, 2))
    assert marked.tolist() == [kind != "normal" for kind in rendered.kinds]
    # Two photographs a part; the fifth good one is of a part of its own.
    _, counts = np.unique(rendered.groups, return_counts=True)
    assert sorted(counts.tolist()) == [1] + [2] * 10
    for group in np.unique(rendered.groups):
        assert len(set(rendered.kinds[rendered.groups == group].tolist())) == 1
    assert len(np.unique(rendered.images.reshape(21, -1), axis=0)) == 21


def test_part_numbers_say_nothing_of_the_kind():
    rendered = render("plate", 60, {"dent": 60}, seed=3, size=(32, 32))
    numbers = np.array(rendered.groups.tolist(), int)
    assert auroc(rendered.kinds == "dent", numbers) == pytest.approx(0.5, abs=0.2)
    # Neither by the first digit: the largest difference that chance gives 30 parts of each.
    first = numbers // 1000
    shares = [np.bincount(first[rendered.kinds == kind], minlength=10) / 60 for kind in ("normal", "dent")]
    assert np.abs(shares[0] - shares[1]).max() < 0.3


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_a_defect_changes_what_its_mask_covers_and_nothing_else(name, kind):
    module = photos._MODULES[name]
    picture = Frame(480, 640, 1.0)
    drawn = Frame(round(480 * module.MARGIN), round(640 * module.MARGIN), 1.0)
    ground = module.background(picture, np.random.default_rng(5))
    for number in range(3):

        def shoot(flaw, number=number):
            streams = [np.random.default_rng([number, purpose]) for purpose in range(4)]
            part = module.part(drawn, number, flaw, streams[0], Flaw([number, 1]))
            return photograph(part, module.pose(streams[2]), ground, picture, streams[3])

        (flawed, mask), (clean, empty) = shoot(kind), shoot(None)
        assert not empty.any()
        changed = np.abs(flawed.astype(int) - clean).max(-1)
        assert changed[mask].max() >= 12
        # Focus blurs across the mask's border, and another outline throws another shadow.
        limit = 25 if kind in ("burr", "broken_tooth") else 8
        assert changed[~ndimage.binary_dilation(mask, iterations=4)].max() <= limit
        down, across = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        longest = max(np.ptp(down), np.ptp(across)) + 1
        assert 4 <= longest <= 200
        assert mask.sum() < 0.06 * mask.size


def test_defects_scale_with_the_size():
    large, half = (small("plate", 1, 2, size=size) for size in ((480, 640), (240, 320)))
    ratio = large.masks.sum((1, 2))[1:] / half.masks.sum((1, 2))[1:]
    assert (ratio > 2.5).all()
    assert (ratio < 6).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "bolt"}, "expected an object of fabric, gear, plate, received 'bolt'"),
        ({"defects": {"rust": 1}}, "burr, dent, scratch, stain, received 'rust'"),
        ({"n_normal": -1}, "expected n_normal as a whole number of 0 or more, received -1"),
        ({"n_normal": 1.5}, "received 1.5"),
        ({"defects": {"dent": -2}}, "photographs of dent"),
        ({"seed": -1}, "expected seed"),
        ({"photos_per_part": 0}, "expected photos_per_part"),
        ({"defect_scale": 4}, "expected defect_scale from 1 to 3, received 4"),
        ({"size": 64}, "expected size as \\(height, width\\)"),
        ({"size": (64, 16)}, "at least 32"),
        ({"n_normal": 0}, "at least one photograph"),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        render(**({"name": "plate", "n_normal": 1} | arguments))


def test_folder_of_classes_loads_with_groups(tmp_path):
    rendered = small("gear")
    path = write_folder(rendered, tmp_path / "parts")
    samples = load_samples(path)
    assert samples.x.shape == (12, 120, 160, 3)
    assert sorted(samples.class_names) == sorted(["normal", *OBJECTS["gear"]])
    assert samples.normal_classes == (samples.class_names.index("normal"),)
    kinds = [samples.class_names[index] for index in samples.classes]
    assert kinds == rendered.kinds.tolist()
    assert samples.group.tolist() == rendered.groups.tolist()
    assert [mask is not None for mask in samples.masks] == [kind != "normal" for kind in kinds]
    folder = load_samples(path.parent)  # the folder itself: the same masks, no groups
    by_path = dict(zip(samples.paths, samples.masks, strict=True))
    assert folder.masks is not None
    for image, mask in zip(folder.paths, folder.masks, strict=True):
        expected = by_path[image]
        assert (mask and Path(mask).resolve()) == (expected and Path(expected).resolve())
    # JPEG loses a little, no more.
    assert np.abs(samples.x.astype(int) - rendered.images).mean() < 4


def test_folder_like_mvtec_keeps_parts_together(tmp_path):
    rendered = small("plate", n_normal=8)
    path = write_folder(rendered, tmp_path, "mvtec")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    train = {row["group"] for row in rows if row["split"] == "train"}
    test = {row["group"] for row in rows if row["split"] == "test"}
    assert not train & test
    assert len(train) == 3
    samples = load_samples(tmp_path)
    assert set(samples.class_names) == {"good", *OBJECTS["plate"]}
    assert sum(mask is not None for mask in samples.masks) == 8
    assert (samples.part == "train").sum() == 6


def test_folder_refused(tmp_path):
    rendered = small("plate", 1, 0)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="a new or an empty folder"):
        write_folder(rendered, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="classes, mvtec"):
        write_folder(rendered, tmp_path / "new", "coco")
    with pytest.raises(InputError, match="share"):
        write_folder(rendered, tmp_path / "new", "mvtec", test=1.0)


def test_as_a_source(monkeypatch):
    monkeypatch.setitem(load.STANDARD, "n_normal", 20)
    monkeypatch.setitem(load.STANDARD, "size", (80, 80))
    monkeypatch.setattr(load, "PER_KIND", 4)
    samples = load_samples("photos:fabric", image_size=32, channels=1)
    assert samples.x.shape == (36, 32, 32, 1)
    assert samples.class_names == ("normal", *OBJECTS["fabric"])
    split = one_class_split(samples, anomaly_classes=["hole"])
    sides = [
        set(samples.group[rows].tolist())
        for rows in (
            np.concatenate([split.train_normal, split.train_anomaly]),
            np.concatenate([split.test_normal, split.test_anomaly]),
        )
    ]
    assert all(sides)
    assert not sides[0] & sides[1]
    with pytest.raises(InputError, match="photos:plate, received 'photos:bolt'"):
        load_samples("photos:bolt")


def test_masks_reach_pixel_metrics():
    from agad_tf.training.localisation import _mask

    rendered = small("plate", 2, 2)
    samples = as_samples(rendered, (60, 80))
    row = int(np.flatnonzero(samples.classes)[0])
    mask = _mask(samples, row, "stretch")
    assert mask.shape == (60, 80, 1)
    share = rendered.masks[row].mean()
    assert mask.mean() / 255 == pytest.approx(share, rel=0.35)


@pytest.mark.parametrize("name", OBJECTS)
def test_defects_can_be_larger_on_the_same_parts(name):
    counts = dict.fromkeys(OBJECTS[name], 3)
    plain, larger = (render(name, 2, counts, 6, (120, 160), defect_scale=scale) for scale in (1, 3))
    np.testing.assert_array_equal(plain.images[:2], larger.images[:2])
    for kind in OBJECTS[name]:
        rows = plain.kinds == kind
        assert larger.masks[rows].sum() > 2 * plain.masks[rows].sum()
