"""Splits: no row on two sides, the counts that were asked for, and every decision on its own."""

import dataclasses
import itertools

import numpy as np
import pytest

from agad_tf.data.samples import Samples
from agad_tf.data.sources.load import load_samples
from agad_tf.data.splits.protocols import Split, one_class_split
from agad_tf.errors import InputError

PARTS = [
    f"{part}_{label}"
    for part in ("train", "validation", "selection", "test")
    for label in ("normal", "anomaly")
]
SIDES = ("train", "validation", "selection", "test")


def make(counts, part_counts=None, *, normal_classes=None, copies=0, seed=0):
    """Table samples with `counts` rows a class, the same again for each part; `copies` rows repeat others."""
    rng = np.random.default_rng(seed)
    parts = part_counts or {None: counts}
    classes = np.concatenate([np.repeat(np.arange(len(c)), c) for c in parts.values()])
    part = np.concatenate([np.full(sum(c), str(name)) for name, c in parts.items()]) if part_counts else None
    x = rng.normal(size=(len(classes), 2)).astype(np.float32)
    if copies:
        target = rng.choice(len(x), copies, replace=False)
        x[target] = x[rng.choice(np.setdiff1d(np.arange(len(x)), target), copies)]
    names = tuple(f"class{index}" for index in range(len(next(iter(parts.values())))))
    return Samples("made", x, classes, names, part=part, normal_classes=normal_classes)


def side(split, name):
    return np.concatenate([getattr(split, f"{name}_normal"), getattr(split, f"{name}_anomaly")])


def check(samples, split):
    """What must hold for any split of any samples."""
    rows = np.concatenate([getattr(split, name) for name in PARTS])
    assert len(np.unique(rows)) == len(rows)
    contents = [{samples.x[row].tobytes() for row in side(split, name)} for name in SIDES]
    for one, other in itertools.combinations(contents, 2):
        assert not one & other
    normals = split.settings["normal_classes"]
    polluted = set(split.polluted.tolist())
    assert polluted <= set(split.train_normal.tolist())
    for name in PARTS:
        for row in getattr(split, name):
            anomalous = samples.classes[row] not in normals
            assert anomalous == (name.endswith("anomaly") or row in polluted)
    labelled = {
        samples.x[row].tobytes() for row in np.concatenate([split.train_anomaly, split.validation_anomaly])
    }
    assert not labelled & {samples.x[row].tobytes() for row in split.polluted}
    if samples.part is not None:
        assert set(samples.part[side(split, "train")]) <= {"train"}
        assert set(samples.part[side(split, "test")]) == {"test"}
        assert set(samples.part[side(split, "selection")]) <= {"test"}
        assert set(samples.part[side(split, "validation")]) <= {"train", "validation"}
    summary = split.summary()
    assert summary["unused"] >= 0
    assert sum(summary[name] for name in (*PARTS, "dropped_duplicates", "unused")) == len(samples.classes)


GIVEN = {"train": [300, 100, 80], "validation": [40, 20, 20], "test": [60, 30, 30]}
WITHOUT_VALIDATION = {part: GIVEN[part] for part in ("train", "test")}


@pytest.mark.parametrize("part_counts", [None, GIVEN, WITHOUT_VALIDATION])
@pytest.mark.parametrize("copies", [0, 250])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gamma": 0.1},
        {"gamma": 0.1, "pollution": 0.05, "test_validation": 0.2},
        {"gamma": 0.05, "anomaly_classes": [2], "ratio": "to_normals", "validation": 0.3},
        {"gamma": 0.02, "anomaly_class_count": 1, "pollution": 0.1},
    ],
)
def test_no_row_and_no_content_on_two_sides(part_counts, copies, seed, settings):
    samples = make([300, 100, 80], part_counts, copies=copies, seed=seed)
    split = one_class_split(samples, 0, seed=seed, **settings)
    check(samples, split)
    # Copies across classes: the hard case for a normal class in the middle.
    check(samples, one_class_split(samples, [1, 2], seed=seed))


def test_contradicting_labels_do_not_leak():
    samples = make([200, 200])
    x = samples.x.copy()
    x[200:300] = x[:100]  # half of the normals are also called anomalous
    for pollution in (0.0, 0.1):
        samples = dataclasses.replace(samples, x=x)
        split = one_class_split(samples, 0, 0.1, pollution=pollution, validation=0.4, test_validation=0.4)
        check(samples, split)
        assert split.dropped_duplicates > 20


def test_given_parts_are_kept():
    samples = make(None, GIVEN)
    split = one_class_split(samples, "class0", 0.1, test=0.9)
    assert len(split.train_normal) == 300
    assert len(split.validation_normal) == 40
    assert (len(split.test_normal), len(split.test_anomaly)) == (60, 60)
    assert (len(split.train_anomaly), split.known_classes) == (33, (1, 2))
    assert len(split.validation_anomaly) == 40
    assert set(samples.part[split.validation_normal]) == {"validation"}
    assert split.dropped_duplicates == 0
    one = one_class_split(samples, 0, 0.1, anomaly_classes="class2")
    assert set(samples.classes[one.train_anomaly]) == set(samples.classes[one.validation_anomaly]) == {2}
    assert len(one.test_anomaly) == 60  # uncollected anomalies of the training part do not enter a given test
    assert len(one_class_split(samples, 0, gamma=0).validation_anomaly) == 0


def test_copies_of_test_rows_are_dropped_from_given_training_and_validation():
    samples = make(None, GIVEN)
    x = samples.x.copy()
    train, validation, test = (np.flatnonzero(samples.part == part) for part in GIVEN)
    x[train[:7]] = x[test[:7]]
    x[validation[:3]] = x[test[10:13]]
    x[train[7:12]] = x[validation[20:25]]
    x[train[13]] = x[train[12]]  # copies within a side stay
    samples = dataclasses.replace(samples, x=x)
    split = one_class_split(samples, 0)
    check(samples, split)
    assert split.dropped_duplicates == split.summary()["dropped_duplicates"] == 15
    assert len(split.test_normal) == 60
    assert {train[12], train[13]} <= set(split.train_normal.tolist())


def test_negative_zero_is_a_copy_of_zero():
    samples = make(None, {"train": [20, 5], "test": [20, 5]})
    samples.x[0], samples.x[25] = (0.0, 1.0), (-0.0, 1.0)
    assert one_class_split(samples, 0).dropped_duplicates == 1


def test_stratified_split_without_parts():
    samples = make([200, 100, 50])
    split = one_class_split(samples, 0, 0.0, test=0.3, validation=0.1)
    assert (len(split.train_normal), len(split.validation_normal), len(split.test_normal)) == (126, 14, 60)
    assert np.bincount(samples.classes[split.test_anomaly]).tolist() == [0, 100, 50]  # none was collected
    split = one_class_split(samples, 0, 0.2, test=0.3)
    assert len(split.train_anomaly) + len(split.validation_anomaly) == 35
    assert len(split.test_anomaly) == 115  # no anomaly is wasted
    assert split.summary()["unused"] == 0
    # At least the tested share of each class tests, whatever is collected.
    every = one_class_split(samples, 0, 0.42, test=0.3)
    assert (np.bincount(samples.classes[every.test_anomaly])[1:] >= [30, 15]).all()


@pytest.mark.parametrize(
    ("ratio", "gamma", "expected"),
    [
        ("of_total", 0.05, 26),
        ("to_normals", 0.05, 25),
        ("of_total", 0.01, 5),
        ("of_total", 0.2, 125),
        ("to_normals", 0.2, 100),
    ],
)
def test_gamma_counts(ratio, gamma, expected):
    samples = make(None, {"train": [500, 300], "test": [10, 10]})
    split = one_class_split(samples, 0, gamma, ratio=ratio)
    assert len(split.train_anomaly) + len(split.validation_anomaly) == expected
    split = one_class_split(samples, 0, 0, pollution=gamma, ratio=ratio)
    assert len(split.polluted) == expected
    assert len(split.train_normal) == 450 + expected


def test_anomalies_are_held_out_from_twenty_on():
    samples = make(None, {"train": [100, 100], "test": [10, 10]})
    for gamma, held_out in ((0.19, 0), (0.20, 2), (0.4, 4)):
        split = one_class_split(samples, 0, gamma, ratio="to_normals")
        assert len(split.validation_anomaly) == held_out
        assert len(split.train_anomaly) == round(100 * gamma) - held_out
    assert len(one_class_split(samples, 0, 0.4, validation=0).validation_anomaly) == 0


def test_default_gamma():
    named = make([100, 40], normal_classes=(0,))
    split = one_class_split(named)
    assert len(split.train_anomaly) + len(split.validation_anomaly) == 28
    assert len(one_class_split(named, gamma=0).train_anomaly) == 0


def test_pollution_is_drawn_from_all_other_classes():
    samples = make([400, 100, 100])
    split = one_class_split(samples, 0, 0.1, anomaly_classes=1, pollution=0.1)
    assert set(samples.classes[split.train_anomaly]) == {1}
    assert set(samples.classes[split.polluted]) == {1, 2}
    assert not set(split.polluted) & set(split.validation_normal)
    assert split.known_classes == (1,)


def test_drawn_anomaly_classes():
    samples = make([100] + [60] * 8)
    chosen = set()
    for seed in range(10):
        split = one_class_split(samples, 0, 0.3, anomaly_class_count=2, seed=seed)
        assert len(split.known_classes) == 2
        assert 0 not in split.known_classes
        assert set(split.known_classes) <= set(
            one_class_split(samples, 0, 0.3, anomaly_class_count=3, seed=seed).known_classes
        )
        chosen.add(split.known_classes)
    assert len(chosen) > 3


def test_selection_share_of_the_test_part():
    samples = make(None, {"train": [500, 300, 300], "test": [100, 100, 200]})
    split = one_class_split(samples, 0, test_validation=0.2)
    assert (len(split.selection_normal), len(split.test_normal)) == (20, 80)
    assert np.bincount(samples.classes[split.selection_anomaly]).tolist() == [0, 20, 40]
    assert len(split.test_anomaly) == 240
    assert len(one_class_split(samples, 0).selection_normal) == 0


def test_same_seed_same_split_and_another_seed_another():
    samples = make([200, 100, 50], copies=20)
    settings = dict(gamma=0.1, pollution=0.05, test_validation=0.1)
    one, same, other = (one_class_split(samples, 0, **settings, seed=seed) for seed in (3, 3, 4))
    assert one.sha256 == same.sha256 != other.sha256
    for name in (*PARTS, "polluted"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert set(one.train_normal) != set(other.train_normal)


def test_decisions_are_independent():
    samples = make([300, 100, 100])
    base = one_class_split(samples, 0, 0.05)
    more = one_class_split(samples, 0, 0.15, pollution=0.1)
    np.testing.assert_array_equal(more.validation_normal, base.validation_normal)
    np.testing.assert_array_equal(more.test_normal, base.test_normal)
    collected = [np.concatenate([split.train_anomaly, split.validation_anomaly]) for split in (base, more)]
    assert set(collected[0]) < set(collected[1])
    held = one_class_split(samples, 0, 0.05, validation=0.3)
    np.testing.assert_array_equal(held.train_anomaly, base.train_anomaly)
    assert set(base.validation_normal) < set(held.validation_normal)


def test_names_and_positions_of_classes():
    samples = load_samples("digits")
    by_name, by_index = one_class_split(samples, "8", 0.05), one_class_split(samples, [8], 0.05)
    assert by_name.sha256 == by_index.sha256
    check(samples, by_name)
    made = make([50, 50])
    assert one_class_split(made, "1").sha256 == one_class_split(made, "class1").sha256


def test_save_and_load(tmp_path):
    samples = make([200, 100, 50], copies=50)
    split = one_class_split(samples, 0, 0.1, pollution=0.02, test_validation=0.3)
    path = tmp_path / "split.npz"
    path.write_text("an older file")
    split.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["split.npz"]
    loaded = Split.load(path)
    assert (loaded.sha256, loaded.settings, loaded.known_classes) == (
        split.sha256,
        split.settings,
        split.known_classes,
    )
    assert loaded.summary() == split.summary()
    assert all(getattr(loaded, name).dtype == np.int64 for name in PARTS)
    with np.load(path, allow_pickle=False) as archive:
        assert "train_normal" in archive.files


def test_failed_save_leaves_the_old_file(tmp_path):
    split = one_class_split(make([50, 50]), 0)
    path = tmp_path / "split.npz"
    split.save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        dataclasses.replace(split, settings={"bad": object()}).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["split.npz"]


def test_refused_files(tmp_path):
    (tmp_path / "text.npz").write_text("x")
    np.savez(tmp_path / "other.npz", a=[1])
    for name, message in (
        ("none.npz", "no such file"),
        ("text.npz", "expected a split written by"),
        ("other.npz", "expected a split written by"),
    ):
        with pytest.raises(InputError, match=message):
            Split.load(tmp_path / name)


def test_split_refuses_a_common_row():
    arrays = {name: np.arange(4) + 10 * index for index, name in enumerate(PARTS)}
    assert Split(**arrays).summary()["test_normal"] == 4
    with pytest.raises(InputError, match="received 1 rows that are in two"):
        Split(**(arrays | {"test_normal": arrays["train_normal"][-1:]}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.0}, r"gamma in \[0, 1\), received 1.0"),
        ({"gamma": -0.1}, r"gamma in \[0, 1\), received -0.1"),
        ({"gamma": float("nan")}, r"gamma in \[0, 1\), received nan"),
        ({"pollution": 1.5}, r"pollution in \[0, 1\)"),
        ({"validation": 1.0}, r"validation in \[0, 1\)"),
        ({"test_validation": 1.0}, r"test_validation in \[0, 1\)"),
        ({"test": 0.0}, "test between 0 and 1"),
        ({"seed": -1}, "at least 0 as seed"),
        ({"ratio": "of_normals"}, "'of_total' or 'to_normals', received 'of_normals'"),
        ({"normal_classes": None}, "which class is normal, .* class0, class1, class2"),
        ({"normal_classes": 3}, "received '3'; give a name, or a position from 0 to 2"),
        ({"normal_classes": "dog"}, "received 'dog'"),
        ({"normal_classes": []}, "at least one normal class"),
        (
            {"anomaly_classes": 0},
            "other than the normal class0, received class0; choose among class1, class2",
        ),
        ({"anomaly_classes": 1, "anomaly_class_count": 1}, "received both"),
        ({"anomaly_class_count": 3}, "from 1 to 2, .* received 3"),
        ({"anomaly_class_count": 0}, "from 1 to 2, .* received 0"),
        # 70 normals, 28 + 14 anomalies in training
        (
            {"gamma": 0.5},
            "expected 70 anomalies for gamma 0.5 beside 70 normals, received 42 .* gamma is 0.375",
        ),
        ({"gamma": 0.5, "anomaly_classes": 2}, "received 14 .* largest possible gamma is 0.166"),
        ({"gamma": 0.7, "ratio": "to_normals"}, "expected 49 .* received 42 .* gamma is 0.6$"),
        (
            {"gamma": 0.3, "pollution": 0.3},
            "pollution 0.3 .* received 12 .* largest possible pollution is 0.146",
        ),
        ({"gamma": 0.001}, "rounds to none; set gamma to 0 or to at least 0.0141"),
    ],
)
def test_refused_settings(settings, message):
    samples = make([100, 40, 20])
    with pytest.raises(InputError, match=message) as error:
        one_class_split(samples, **{"normal_classes": 0, **settings})
    assert "\n" not in str(error.value)


def test_largest_gamma_named_is_possible():
    samples = make([100, 40, 20])
    assert len(one_class_split(samples, 0, 0.375, validation=0).train_anomaly) == 42
    assert len(one_class_split(samples, 0, 0.166, anomaly_classes=2, validation=0).train_anomaly) == 14
    with pytest.raises(InputError, match=r"received 0 .* set gamma to 0"):
        one_class_split(make(None, {"train": [100, 0], "test": [20, 20]}), 0, 0.1)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": [50, 5], "test": [10, 0]}, "received no anomalies with normal class class0"),
        ({"train": [50, 5], "test": [0, 10]}, "received no normals with normal class class0"),
        ({"train": [0, 5], "test": [10, 10]}, "normals in the training part, received none"),
        ({"train": [50, 5], "test": [0, 0]}, "in the parts train and test, received 55 and 0"),
    ],
)
def test_one_sided_data(counts, message):
    with pytest.raises(InputError, match=message):
        one_class_split(make(None, counts), 0)


@pytest.mark.parametrize(("counts", "normal"), [([100], 0), ([100, 0], 0), ([60, 30, 10], [0, 1, 2])])
def test_data_of_normals_alone_give_a_test_of_normals_alone(counts, normal):
    split = one_class_split(make(counts), normal)
    assert len(split.test_normal) == 30
    assert not len(split.test_anomaly)
    assert not len(split.train_anomaly)
    assert len(split.train_normal) + len(split.validation_normal) == 70
    with pytest.raises(InputError, match=r"received 0 .* set gamma to 0"):
        one_class_split(make(counts), normal, 0.05)


def test_nothing_left_for_training():
    with pytest.raises(InputError, match="normals left for training"):
        one_class_split(make([2, 40]), 0, validation=0.9)
