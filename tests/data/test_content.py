"""One digest a sample, the rows of a part with their labels, and groups that no split cuts."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from agad_tf.data.content import numbered
from agad_tf.data.samples import Samples
from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.data.splits.protocols import one_class_split
from agad_tf.data.splits.split import SIDES, Split
from agad_tf.errors import InputError

RNG = np.random.default_rng(0)


def images(count, height=4, width=4):
    return RNG.integers(0, 256, (count, height, width, 1), dtype=np.uint8)


def samples(x, classes=None, **more):
    classes = np.arange(len(x)) % 2 if classes is None else np.asarray(classes)
    return Samples("set", x, classes, ("normal", "anomaly"), normal_classes=(0,), **more)


def test_digests_tell_content_and_nothing_else():
    x = images(6)
    x[4] = x[1]
    found = samples(x)
    assert (found.digests.shape, found.digests.dtype) == ((6, 16), np.uint8)
    assert found.digests is found.digests  # computed once
    assert numbered(found.digests).tolist() == [0, 1, 2, 3, 1, 4]
    order = RNG.permutation(6)
    np.testing.assert_array_equal(samples(x[order]).digests, found.digests[order])
    assert (samples(x.reshape(6, 2, 8, 1)).digests != found.digests).any(axis=1).all()


def test_table_rows_are_compared_as_float64():
    table = RNG.normal(size=(5, 3))
    table[0, 0], table[1] = 0.0, table[0]
    table[1, 0] = -0.0
    digests = samples(table).digests
    np.testing.assert_array_equal(digests[0], digests[1])
    narrow = table.astype(np.float32)
    np.testing.assert_array_equal(samples(narrow).digests, samples(narrow.astype(np.float64)).digests)
    near = 1.6e9 + np.arange(4.0)[:, None]  # one value alone in float32
    assert len(np.unique(samples(near).digests, axis=0)) == 4


def test_folder_and_shards_have_the_same_digests(tmp_path):
    for name, count in (("normal", 5), ("anomaly", 3)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index, image in enumerate(images(count)):
            Image.fromarray(image[..., 0]).save(tmp_path / "set" / name / f"{index}.png")
    prepare(tmp_path / "set", tmp_path / "shards", progress=False)
    np.testing.assert_array_equal(
        load_samples(tmp_path / "set").digests, load_samples(tmp_path / "shards").digests
    )


def test_labelled_rows_of_a_part():
    split = one_class_split(samples(images(200)), gamma=0.2, validation=0.2, test_validation=0.3)
    for part in SIDES:
        rows, labels = split.labelled(part)
        normal, anomaly = getattr(split, f"{part}_normal"), getattr(split, f"{part}_anomaly")
        assert rows.tolist() == [*normal, *anomaly]
        assert labels.tolist() == [0] * len(normal) + [1] * len(anomaly)
        assert (rows.dtype, labels.dtype) == (np.int64, np.int32)
    with pytest.raises(InputError, match="train, validation, test or selection, received 'val'"):
        split.labelled("val")


def sides_share_nothing(split, tied):
    sides = [set(tied[split.labelled(side)[0]]) for side in SIDES]
    return not any(one & other for one, other in itertools.combinations(sides, 2))


@pytest.mark.parametrize("part", [None, "given"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gamma": 0.05, "pollution": 0.02, "test_validation": 0.3, "validation": 0.3},
        {"gamma": 0.0, "pollution": 0.02},
    ],
)
def test_no_group_is_on_two_sides(part, seed, settings):
    rng = np.random.default_rng(seed)
    x = images(600)
    x[rng.integers(0, 600, 30)] = x[rng.integers(0, 600, 30)]  # copies tie groups together
    group = np.array([f"part {index}" for index in rng.integers(0, 250, 600)])
    group[:40] = ""  # each of these stands alone
    classes = rng.integers(0, 8, 600) == 0  # of most parts there are normal and anomalous photos
    given = None if part is None else rng.choice(["train", "validation", "test"], 600, p=[0.8, 0.1, 0.1])
    data = samples(x, classes.astype(np.int64), group=group, part=given)
    split = one_class_split(data, **settings, seed=seed)
    own = np.where(group == "", [f"row {row}" for row in range(600)], group)
    assert sides_share_nothing(split, own)
    assert sides_share_nothing(split, numbered(data.digests))
    assert min(len(split.train_normal), len(split.test_normal)) > 20
    summary = split.summary()
    assert summary["unused"] >= 0
    if part is None and not settings:  # nothing is lost for being of a group
        assert (split.dropped_groups, summary["unused"]) == (0, 0)
    # Without groups the same data do have parts on two sides.
    assert not sides_share_nothing(one_class_split(dataclasses.replace(data, group=None), **settings), own)


def test_what_a_given_split_cuts_is_left_out_and_counted():
    part = np.repeat(["train", "test"], [30, 20])
    group = np.array([f"g{index}" for index in range(50)])
    group[:4] = "g40"  # a part photographed for training and for the test
    split = one_class_split(samples(images(50), part=part, group=group))
    assert (split.dropped_groups, split.dropped_duplicates) == (4, 0)
    assert not set(range(4)) & set(split.labelled("train")[0])


def test_a_split_tells_what_it_cuts(tmp_path):
    split = one_class_split(samples(images(60), group=np.array([f"g{i // 3}" for i in range(60)])))
    split.save(tmp_path / "split.npz")
    loaded = Split.load(tmp_path / "split.npz")
    assert loaded.summary() == split.summary()
    assert loaded.settings["grouped"] is True
    with pytest.raises(InputError, match="no content and no group on two sides, received"):
        split.check_sides(np.zeros(60, np.int64))


def test_a_split_of_before_groups_is_read(tmp_path):
    split = one_class_split(samples(images(60)))
    split.save(tmp_path / "split.npz")
    with np.load(tmp_path / "split.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    about = json.loads(arrays.pop("about").item())
    del about["dropped_groups"], about["settings"]["grouped"]
    np.savez(tmp_path / "old.npz", about=np.array(json.dumps(about)), **arrays)
    assert Split.load(tmp_path / "old.npz").dropped_groups == 0
