"""The quota contract: every batch, every replica slice, every normal, the same for the same seed."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from agad_tf.data.batches.quota import anomalies_per_batch, quota_batches
from agad_tf.errors import InputError


def rows(count, start=0):
    """Table rows that carry their own number; anomalies get numbers from 10000 on."""
    return np.arange(start, start + count, dtype=np.float32)[:, None]


def ids(batches):
    return np.stack([np.asarray(x)[:, 0] for x, _ in batches])


def build(n, a, kind="arrays", **settings):
    normal, anomaly = rows(n), rows(a, 10000)
    if kind == "datasets":
        normal = tf.data.Dataset.from_tensor_slices(normal)
        anomaly = tf.data.Dataset.from_tensor_slices(anomaly)
    return quota_batches(normal, anomaly, **{"batch_size": 64, "min_anomalies": 16, **settings})


CASES = [
    # n, a, batch_size, min_anomalies
    (500, 40, 64, 16),  # more anomalies than the quota
    (500, 3, 64, 16),  # fewer than the quota: several passes in a batch
    (500, 1, 64, 16),
    (48, 20, 64, 16),  # one batch, exactly filled
    (40, 20, 64, 16),  # one batch, filled from a second shuffle
    (24, 5, 64, 16),  # each normal exactly twice
    (50, 400, 64, 16),  # more anomalies than normals
    (1000, 700, 60, 4),  # the share of anomalies sets the quota
    (97, 300, 100, 7),
]


@pytest.mark.parametrize("kind", ["arrays", "datasets"])
@pytest.mark.parametrize(("n", "a", "batch_size", "min_anomalies"), CASES)
def test_every_batch_of_an_epoch(kind, n, a, batch_size, min_anomalies):
    dataset = build(n, a, kind, batch_size=batch_size, min_anomalies=min_anomalies)
    quota = dataset.quota
    expected = max(min_anomalies, round(batch_size * a / (n + a)))
    assert quota.anomalies_per_batch == expected == anomalies_per_batch(n, a, batch_size, min_anomalies)
    assert dataset.element_spec[0].shape == (batch_size, 1)
    assert dataset.element_spec[1].shape == (batch_size,)
    for _ in range(3):
        batches = list(dataset.as_numpy_iterator())
        assert len(batches) == len(dataset) == quota.steps_per_epoch
        seen = ids(batches)
        labels = np.stack([y for _, y in batches])
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, seen >= 10000)
        assert (labels.sum(axis=1) == expected).all()
        assert (labels == labels[0]).all()
        normals, times = np.unique(seen[seen < 10000], return_counts=True)
        assert len(normals) == n
        assert times.min() >= 1
        assert times.max() <= 2


@pytest.mark.parametrize(("batch_size", "min_anomalies"), [(64, 16), (60, 12), (256, 32), (48, 24), (96, 36)])
def test_every_replica_slice_holds_its_share(batch_size, min_anomalies):
    divisors = [r for r in range(1, batch_size) if batch_size % r == 0 and min_anomalies % r == 0]
    assert len(divisors) > 2
    dataset = build(500, 9, batch_size=batch_size, min_anomalies=min_anomalies, replicas=divisors[-1])
    for _, y in dataset.as_numpy_iterator():
        for replicas in divisors:
            assert (y.reshape(replicas, -1).sum(axis=1) == min_anomalies // replicas).all()


@pytest.mark.parametrize("kind", ["arrays", "datasets"])
@pytest.mark.parametrize("a", [1, 7, 40, 300])
def test_anomalies_are_seen_equally_often(kind, a):
    dataset = build(200, a, kind)
    assert dataset.quota.repeat_rate == pytest.approx(len(dataset) * dataset.quota.anomalies_per_batch / a)
    seen = ids(dataset.stream().take(5 * len(dataset)))
    for upto in (1, len(dataset), len(seen)):
        counts = np.bincount((seen[:upto][seen[:upto] >= 10000] - 10000).astype(int), minlength=a)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("none", [None, np.zeros((0, 1), np.float32)])
def test_without_anomalies(none):
    dataset = quota_batches(rows(100), none, batch_size=32)
    batches = list(dataset.as_numpy_iterator())
    assert (dataset.quota.anomalies_per_batch, dataset.quota.repeat_rate, len(batches)) == (0, 0.0, 4)
    assert not any(y.any() for _, y in batches)
    assert len(np.unique(ids(batches))) == 100


@pytest.mark.parametrize("kind", ["arrays", "datasets"])
def test_same_seed_same_batches_and_new_order_each_epoch(kind):
    first, second, other = build(200, 30, kind), build(200, 30, kind), build(200, 30, kind, seed=1)
    one, two = ids(first), ids(first)
    np.testing.assert_array_equal(ids(second), one)
    np.testing.assert_array_equal(ids(second), two)
    assert (one != two).any()
    assert (ids(other) != one).any()
    # Rows are mixed, not merely rotated: neighbours of one epoch are no neighbours in the next.
    normals = [epoch[epoch < 10000] for epoch in (one, two)]
    pairs = [set(itertools.pairwise(order)) for order in normals]
    assert len(pairs[0] & pairs[1]) < 20


@pytest.mark.parametrize("kind", ["arrays", "datasets"])
@pytest.mark.parametrize("a", [0, 3, 70])
def test_stream_equals_skipping(kind, a):
    dataset = build(200, a, kind)
    steps = len(dataset)
    whole = ids(dataset.stream().take(3 * steps))
    np.testing.assert_array_equal(whole, np.concatenate([ids(dataset) for _ in range(3)]))
    for epoch, step in ((0, 1), (1, 0), (1, 2), (2, 1), (0, steps + 1)):
        received = ids(dataset.stream(epoch, step).take(2))
        start = epoch * steps + step
        np.testing.assert_array_equal(received, whole[start : start + 2])
    assert dataset.stream().cardinality() == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize("kind", ["arrays", "datasets"])
def test_order_does_not_depend_on_the_global_seed(kind):
    try:
        tf.random.set_seed(11)
        one = ids(build(100, 9, kind))
        tf.random.set_seed(0)
        two = ids(build(100, 9, kind))
        assert tf.random.uniform(()).dtype == tf.float32  # a program's own randomness still works
    finally:
        tf.keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", ["arrays", "datasets"])
def test_last_batch_is_filled_from_another_shuffle(kind):
    seen = ids(build(45, 20, kind, batch_size=64))  # one batch of 48 normals
    normals = seen[seen < 10000]
    assert len(np.unique(normals[:45])) == 45
    assert normals[45:].tolist() != normals[:3].tolist()


def test_all_orders_of_few_anomalies_occur():
    dataset = build(2000, 3, batch_size=16, min_anomalies=3)
    seen = ids(dataset.stream().take(600))
    orders, times = np.unique(seen[seen >= 10000].reshape(-1, 3), axis=0, return_counts=True)
    assert len(orders) == 6
    assert times.min() > 60  # 100 expected, standard deviation 9


def test_small_buffer_still_covers_everything():
    dataset = build(200, 90, "datasets", shuffle_buffer=4)
    seen = ids(dataset)
    assert len(np.unique(seen[seen < 10000])) == 200
    seen = ids(dataset.stream().take(4 * len(dataset)))
    assert len(np.unique(seen[seen >= 10000])) == 90


def test_unknown_cardinality_is_counted():
    normal = tf.data.Dataset.from_tensor_slices(rows(150)).filter(lambda x: x[0] < 100)
    dataset = quota_batches(normal, rows(5, 10000), batch_size=32, min_anomalies=8)
    assert (dataset.quota.n_normal, dataset.quota.n_anomaly) == (100, 5)
    assert len(np.unique(ids(dataset))) == 105


def test_images_keep_dtype_and_pixels():
    normal = np.random.default_rng(0).integers(0, 256, (80, 5, 6, 3), dtype=np.uint8)
    anomaly = 255 - normal[:7]
    dataset = quota_batches(normal, anomaly, batch_size=32, min_anomalies=8)
    known = {image.tobytes(): 0 for image in normal} | {image.tobytes(): 1 for image in anomaly}
    for x, y in dataset.as_numpy_iterator():
        assert x.dtype == np.uint8
        assert x.shape == (32, 5, 6, 3)
        assert [known[image.tobytes()] for image in x] == y.tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 100, "a": 5, "min_anomalies": 64}, r"batch size 64, received a quota of 64"),
        ({"n": 100, "a": 5, "min_anomalies": 65}, r"batch size 64, received a quota of 65"),
        ({"n": 1, "a": 500}, r"received a quota of 64"),
        ({"n": 100, "a": 5, "min_anomalies": 0}, r"min_anomalies of at least 1, received 0"),
        (
            {"n": 20, "a": 5},
            r"at least 24 normals for 48 .* received 20; the largest batch_size possible is 56$",
        ),
        ({"n": 0, "a": 5}, r"received none"),
        ({"n": 100, "a": 5, "replicas": 3}, r"3 replicas divide, received 64; the nearest are 63 and 66"),
        ({"n": 100, "a": 5, "replicas": 32}, r"received 16; the nearest min_anomalies are 32$"),
        ({"n": 100, "a": 5, "min_anomalies": 15, "replicas": 4}, r"min_anomalies are 12 and 16$"),
        ({"n": 100, "a": 49, "replicas": 2}, r"received 21; the nearest min_anomalies are 22$"),
        ({"n": 100, "a": 5, "batch_size": 0}, r"batch_size of at least 1"),
        ({"n": 100, "a": 5, "kind": "datasets", "shuffle_buffer": 0}, r"shuffle_buffer of at least 1"),
    ],
)
def test_refused_numbers(settings, message):
    with pytest.raises(InputError, match=message) as error:
        build(**settings)
    assert "\n" not in str(error.value)


def test_largest_batch_size_named_is_possible():
    largest = build(20, 5, batch_size=56)
    assert largest.quota.steps_per_epoch == 1
    with pytest.raises(InputError, match="the largest batch_size possible is 56"):
        build(20, 5, batch_size=57)


def test_refused_rows():
    flat = np.zeros((100, 8, 8), np.uint8)
    with pytest.raises(InputError, match="images \\(height, width, channels\\)"):
        quota_batches(flat)
    with pytest.raises(InputError, match=r"uint8 and .* float32"):
        quota_batches(flat[..., None], flat[..., None].astype(np.float32))
    with pytest.raises(InputError, match="alike"):
        quota_batches(rows(100), np.zeros((9, 2), np.float32))
    data = tf.data.Dataset.from_tensor_slices(flat[..., None])
    with pytest.raises(InputError, match="unbatched"):
        quota_batches(data.batch(4))
    with pytest.raises(InputError, match="x alone"):
        quota_batches(tf.data.Dataset.zip(data, data))
    with pytest.raises(InputError, match="infinite"):
        quota_batches(data.repeat())
    with pytest.raises(InputError, match="epoch and a step"):
        quota_batches(data, batch_size=8).stream(-1)
