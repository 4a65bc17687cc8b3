"""Groups from paths, lists, archives and shards; images on two sides that look alike."""

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.samples import Samples
from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.data.splits.inspection import table, validate
from agad_tf.data.splits.lookalikes import look_alikes
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.data.splits.split import SIDES
from agad_tf.errors import InputError
from agad_tf.pixels import resize_bilinear
from agad_tf.training.configuration import configure
from agad_tf.training.loading import load
from agad_tf.training.open import load_split

RNG = np.random.default_rng(0)


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (6, 6), np.uint8)).save(path)


@pytest.fixture
def parts(tmp_path):
    """Four photographs of each of 20 good and 8 bad parts, the part in the name and in a folder."""
    for part in range(28):
        kind = "normal" if part < 20 else "anomaly"
        for view in range(4):
            write(tmp_path / "set" / kind / f"box {part % 5}" / f"part{part:02d}_view{view}.png")
    return tmp_path / "set"


def sides_of_groups(samples, split):
    found = {}
    for side in SIDES:
        for row in split.labelled(side)[0]:
            found.setdefault(samples.group[row], set()).add(side)
    return found


def test_groups_by_a_pattern_and_by_folder(parts):
    samples = load_samples(parts, group=r"part(\d+)")
    assert sorted(set(samples.group)) == [f"{part:02d}" for part in range(28)]
    sides = sides_of_groups(samples, one_class_split(samples, validation=0.2))
    assert all(len(one) == 1 for one in sides.values())
    assert set().union(*sides.values()) == {"train", "validation", "test"}
    assert len(set(load_samples(parts, group=r"part\d+").group)) == 28
    folders = load_samples(parts, group="parent")
    assert set(folders.group) >= {"normal/box 0", "anomaly/box 4"}


def test_groups_travel_in_shards(parts, tmp_path):
    prepare(parts, tmp_path / "shards", group=r"part(\d+)", progress=False)
    source, stored = load_samples(parts, group=r"part(\d+)"), load_samples(tmp_path / "shards")
    np.testing.assert_array_equal(stored.group, source.group)
    assert one_class_split(stored).sha256 == one_class_split(source).sha256
    other = load_samples(tmp_path / "shards", group="view.")
    assert set(other.group) == {"view0", "view1", "view2", "view3"}
    prepare(parts, tmp_path / "plain", progress=False)
    assert load_samples(tmp_path / "plain").group is None


def test_files_without_a_group_stand_alone(parts, caplog):
    write(parts / "normal" / "stray.png")
    samples = load_samples(parts, group=r"part(\d+)")
    assert (samples.group == "").sum() == 1
    assert "1 of 113 files are in no group" in caplog.text
    report = validate(samples, one_class_split(samples))
    assert report["groups"] == {"groups": 29, "left_out": 0}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("piece", "expected several groups by 'piece', received none, e.g. in"),
        ("part", "received one for all, 'part'"),
        ("part(", r"a regular expression, received 'part\('"),
    ],
)
def test_rules_that_make_no_groups(parts, rule, message):
    with pytest.raises(InputError, match=message) as error:
        load_samples(parts, group=rule)
    assert "\n" not in str(error.value)


def test_a_rule_needs_files(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((4, 2)), y=np.arange(4) % 2)
    for spec in ("digits", tmp_path / "a.npz"):
        with pytest.raises(InputError, match="expected image files for group='part'"):
            load_samples(spec, group="part")


def test_a_column_of_a_list(parts):
    rows = [
        f"normal/box {part % 5}/part{part:02d}_view{view}.png,0,p{part}"
        for part in range(20)
        for view in (0, 1)
    ]
    (parts / "list.csv").write_text("path,label,group\n" + "\n".join(rows) + "\n")
    samples = load_samples(parts / "list.csv")
    assert samples.group.tolist() == [f"p{part}" for part in range(20) for _ in (0, 1)]
    (parts / "masks.csv").write_text("path,label,mask\nnormal/box 0/part00_view0.png,1,masks/none.png\n")
    with pytest.raises(InputError, match="line 2: expected a mask, found none at"):
        load_samples(parts / "masks.csv")


def test_an_array_of_an_archive(tmp_path):
    images, labels = RNG.integers(0, 256, (30, 4, 4), np.uint8), np.arange(30) % 3 == 0
    arrays = {"x": images, "y": labels.astype(int), "group": np.arange(30) // 5}
    np.savez(tmp_path / "a.npz", **arrays)
    assert load_samples(tmp_path / "a.npz").group.tolist() == [str(row // 5) for row in range(30)]
    np.savez(tmp_path / "a.npz", **arrays | {"group": np.arange(29)})
    with pytest.raises(InputError, match="'group': expected one group for each of 30 rows"):
        load_samples(tmp_path / "a.npz")
    given = {"x_train": images, "y_train": labels, "x_test": images[::-1], "y_test": labels}
    names = np.array(["p1", "p2", "p3"])[np.arange(30) % 3]
    np.savez(tmp_path / "b.npz", **given, group_train=names, group_test=names)
    assert load_samples(tmp_path / "b.npz").group.tolist() == [*names, *names]
    np.savez(tmp_path / "b.npz", **given, group_train=names)
    with pytest.raises(InputError, match=r"'group_test': expected one group .* received no such array"):
        load_samples(tmp_path / "b.npz")


def test_a_run_takes_the_rule_from_its_configuration(parts):
    configuration = configure("agad", None, [("source", str(parts)), ("group", r"part(\d+)")])
    samples, split = load_split(configuration)
    assert all(len(one) == 1 for one in sides_of_groups(samples, split).values())
    assert load(parts).group is None


def test_what_a_given_split_cuts_is_told(tmp_path):
    part = np.repeat(["train", "test"], [40, 20])
    group = np.array([f"g{row % 50}" for row in range(60)])
    samples = Samples("set", RNG.integers(0, 256, (60, 6, 6, 1), np.uint8), np.arange(60) % 2,
                      ("normal", "anomaly"), part=part, normal_classes=(0,), group=group)  # fmt: skip
    report = validate(samples, one_class_split(samples))
    assert report["groups"]["left_out"] == 10
    assert "note: 10 rows were left out: others of their group are on another side" in table(report)


def test_unused_labels_are_told():
    part = np.repeat(["train", "test"], [60, 30])
    samples = Samples("set", RNG.integers(0, 256, (90, 6, 6, 1), np.uint8), np.arange(90) % 3,
                      ("normal", "dent", "hole"), part=part, normal_classes=(0,))  # fmt: skip
    for settings, told in (
        ({}, None),
        ({"gamma": 0.2}, "35 labelled anomalies of the training part are not used: gamma is 0.2"),
        ({"anomaly_classes": "dent"}, "20 labelled anomalies .* not used: they are of classes not asked for"),
    ):
        text = "\n".join(validate(samples, one_class_split(samples, **settings))["warnings"])
        if told is None:
            assert "not used" not in text
        else:
            with pytest.raises(AssertionError, match=told):
                raise AssertionError(text)


def photographs(count, rng):
    """Smooth random scenes of 64 x 64."""
    fine = resize_bilinear(rng.normal(size=(count, 9, 9, 1)), (64, 64))
    return np.clip(128 + 50 * fine, 0, 255).astype(np.uint8)


def test_two_photographs_of_one_thing_are_pointed_out():
    rng = np.random.default_rng(0)
    x = photographs(120, rng)
    part = np.repeat(["train", "test"], [80, 40])
    classes = np.arange(120) % 2
    plain = Samples("set", x, classes, ("normal", "anomaly"), part=part, normal_classes=(0,))
    assert look_alikes(plain, one_class_split(plain)) is None
    again = x.copy()
    # The same scene in other light, with noise: another content, the same thing.
    again[90] = np.clip(0.8 * x[11].astype(float) + 20 + rng.normal(0, 2, (64, 64, 1)), 0, 255)
    samples = Samples("set", again, classes, ("normal", "anomaly"), part=part, normal_classes=(0,),
                      paths=[f"photo {row}.png" for row in range(120)])  # fmt: skip
    split = one_class_split(samples)
    found = look_alikes(samples, split)
    assert (found.pairs, set(found.rows)) == (1, {11, 90})
    assert set(found.sides) <= {"train", "validation", "test"}
    text = table(validate(samples, split))
    assert "photo 11.png" in text
    assert "look alike: if they show the same thing, the test is too easy" in text


def test_sets_of_one_coarse_structure_are_left_alone():
    rng = np.random.default_rng(0)
    x = np.clip(photographs(1, rng) + rng.normal(0, 3, (60, 64, 64, 1)), 0, 255).astype(np.uint8)
    part = np.repeat(["train", "test"], [40, 20])
    samples = Samples("set", x, np.arange(60) % 2, ("normal", "anomaly"), part=part, normal_classes=(0,))
    assert look_alikes(samples, one_class_split(samples)) is None
