"""The quota over shards, over workers and after an interruption, and augmentation inside of it."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from agad_tf.data.batches.quota import quota_batches
from agad_tf.data.rows import LazyRows
from agad_tf.data.sources.load import load_samples
from agad_tf.data.sources.prepare import prepare
from agad_tf.errors import InputError


def make(folder, normals, anomalies, per_shard=16):
    """Shards of images that carry their own number in their first two pixels."""
    number = np.arange(normals + anomalies)
    x = np.zeros((len(number), 4, 4, 1), np.uint8)
    x[:, 0, 0, 0], x[:, 0, 1, 0] = number // 256, number % 256
    np.savez(folder / "set.npz", x=x, y=(number >= normals).astype(int), class_names=["normal", "anomaly"])
    prepare(folder / "set.npz", folder / "shards", shard_bytes=per_shard * 16, progress=False)
    samples = load_samples(folder / "shards")
    return samples.x[samples.classes == 0], samples.x[samples.classes == 1], x


def ids(batches):
    x = np.stack([np.asarray(x) for x, _ in batches])
    return x[..., 0, 0, 0].astype(int) * 256 + x[..., 0, 1, 0]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make(tmp_path_factory.mktemp("shards"), 300, 40)


@pytest.mark.parametrize(
    ("normals", "anomalies", "batch_size", "quota"),
    [
        (400, 10, 64, 32),  # ten anomalies for a quota of 32
        (400, 1, 64, 32),
        (120, 300, 64, 46),  # more anomalies than normals
        (200, 0, 64, 0),
    ],
)
def test_every_batch_from_shards(tmp_path, normals, anomalies, batch_size, quota):
    normal, anomaly, _ = make(tmp_path, normals, anomalies)
    assert isinstance(normal, LazyRows)
    dataset = quota_batches(normal, anomaly, batch_size, 32)
    assert dataset.element_spec[0] == tf.TensorSpec((batch_size, 4, 4, 1), tf.uint8)
    batches = list(dataset.as_numpy_iterator())
    seen, labels = ids(batches), np.stack([y for _, y in batches])
    assert (labels.sum(axis=1) == quota).all()
    np.testing.assert_array_equal(labels, seen >= normals)
    numbers, times = np.unique(seen[labels == 0], return_counts=True)
    assert len(numbers) == normals
    assert times.max() <= 2
    if quota:
        assert (labels.reshape(len(labels), 2, -1).sum(axis=2) == quota // 2).all()  # on each of two replicas
        counts = np.bincount(seen[labels == 1] - normals, minlength=anomalies)
        assert counts.max() - counts.min() <= 1


def test_same_batches_as_from_the_array(shards):
    normal, anomaly, x = shards
    from_shards = quota_batches(normal, anomaly, 64, 16, seed=3)
    from_array = quota_batches(x[:300], x[300:], 64, 16, seed=3)
    for one, other in zip(from_shards.stream().take(20), from_array.stream().take(20), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    # Normals and anomalies of different folders are no different.
    twice = quota_batches(normal, LazyRows(anomaly.store, anomaly.positions), 64, 16, seed=3)
    mixed = quota_batches(normal, np.asarray(anomaly), 64, 16, seed=3)
    np.testing.assert_array_equal(ids(mixed), ids(twice))


@pytest.mark.parametrize("kind", ["shards", "datasets"])
def test_workers_share_every_batch_and_none_starves(tmp_path, kind):
    normal, anomaly, x = make(tmp_path, 100, 3, per_shard=1000)  # one anomaly file
    assert len([s for s in normal.store.manifest["shards"] if s["kind"] == "anomaly"]) == 1
    if kind == "datasets":
        normal, anomaly = (tf.data.Dataset.from_tensor_slices(rows) for rows in (x[:100], x[100:]))
    whole = quota_batches(normal, anomaly, 64, 16, workers=1)
    parts = [quota_batches(normal, anomaly, 64, 16, workers=4, worker=worker) for worker in range(4)]
    for part in parts:
        assert part.element_spec[0].shape == (16, 4, 4, 1)
        assert all(y.sum() == 4 for _, y in part.as_numpy_iterator())
    together = np.concatenate([ids(part.stream(1, 1).take(4)) for part in parts], axis=1)
    np.testing.assert_array_equal(together, ids(whole.stream(1, 1).take(4)))


def test_workers_read_only_their_rows(shards):
    normal, anomaly, _ = shards
    read = []

    class Watched:
        shape, digests = normal.store.shape, None

        def read(self, rows):
            read.extend(rows.tolist())
            return normal.store.read(rows)

    store = Watched()
    dataset = quota_batches(
        LazyRows(store, normal.positions), LazyRows(store, anomaly.positions), 64, 16, workers=2, worker=1
    )
    list(dataset)
    assert len(read) == len(dataset) * 32


def test_refused_workers(shards):
    normal, anomaly, _ = shards
    with pytest.raises(InputError, match="batch size that 3 workers divide"):
        quota_batches(normal, anomaly, 64, 16, workers=3)
    with pytest.raises(InputError, match="batch that 4 workers divide, received 18"):
        quota_batches(normal, anomaly, 64, 18, workers=4)
    with pytest.raises(InputError, match="worker from 0 to 1, received 2"):
        quota_batches(normal, anomaly, 64, 16, workers=2, worker=2)


@pytest.mark.slow
def test_a_killed_epoch_goes_on_at_the_same_batch(tmp_path):
    """Batches after the kill, in another process, are those of an undisturbed run."""
    normal, anomaly, _ = make(tmp_path, 300, 40)
    code = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np
        from agad_tf.data.batches.quota import quota_batches
        from agad_tf.data.sources.load import load_samples
        folder, epoch, step, steps, out, kill = sys.argv[1:]
        samples = load_samples(folder)
        normal, anomaly = samples.x[samples.classes == 0], samples.x[samples.classes == 1]
        stream = quota_batches(normal, anomaly, 64, 16, seed=5).stream(int(epoch), int(step))
        for number, (x, _) in enumerate(stream.take(int(steps))):
            np.save(f"{out}/{int(epoch) * 7 + int(step) + number}.npy", x)
        if int(kill):
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    undisturbed = quota_batches(normal, anomaly, 64, 16, seed=5)
    steps = undisturbed.quota.steps_per_epoch
    assert steps == 7
    out = tmp_path / "batches"
    out.mkdir()
    for epoch, step, count, kill in ((0, 0, steps + 3, 1), (1, 3, steps, 0)):
        command = [sys.executable, "-c", code, tmp_path / "shards", epoch, step, count, out, kill]
        process = subprocess.run([str(part) for part in command], stderr=subprocess.DEVNULL)
        assert process.returncode == (-9 if kill else 0)
    for number, (x, _) in enumerate(undisturbed.stream().take(2 * steps + 3)):
        np.testing.assert_array_equal(np.load(out / f"{number}.npy"), x)


@pytest.mark.slow
def test_fit_holds_no_shards_in_memory(shards):
    """Training, validation and prediction read a batch at a time and give what arrays give."""
    import agad_tf

    normal, _, x = shards
    most = []

    class Watched:
        shape, digests = normal.store.shape, None

        def read(self, rows):
            most.append(len(rows))
            return normal.store.read(rows)

    lazy, labels = LazyRows(Watched()), (np.arange(340) >= 300).astype(int)
    results = []
    for rows in (lazy, x):
        keras.utils.set_random_seed(0)
        model = agad_tf.AGAD((8, 8, 1), backbone="encoder_decoder")
        history = model.fit(
            rows, labels, batch_size=32, min_anomalies=8, epochs=1, verbose=0, validation_data=(rows, labels)
        )
        results.append((history.history, model.predict(rows, batch_size=32, verbose=0)))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert max(most) <= 256


# --- augmentation ----------------------------------------------------------------------------------


def noise(count):
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "augment",
    [
        lambda: {"RandomFlip": {"mode": "horizontal"}, "RandomRotation": {"factor": 0.1}},
        lambda: keras.layers.RandomTranslation(0.2, 0.2),
        lambda: [keras.layers.RandomBrightness(0.2), keras.layers.RandomZoom(0.1)],
        lambda: keras.Sequential([keras.layers.RandomContrast(0.5)]),
    ],
)
def test_augmented_batches_depend_on_seed_epoch_and_step_alone(augment):
    augment = augment()  # layers are made here: while tests are collected no device may be touched
    dataset = quota_batches(noise(40), noise(6), 16, 4, augment=augment)
    plain = quota_batches(noise(40), noise(6), 16, 4)
    batches = [x for x, _ in dataset.stream().take(8).as_numpy_iterator()]
    assert batches[0].dtype == np.uint8
    assert all(
        (a != b).any() for a, (b, _) in zip(batches, plain.stream().take(8).as_numpy_iterator(), strict=True)
    )
    again = [x for x, _ in dataset.stream(1, 1).take(3).as_numpy_iterator()]
    np.testing.assert_array_equal(again, batches[5:8])
    assert dataset.quota.steps_per_epoch == 4
    other = quota_batches(noise(40), noise(6), 16, 4, augment=augment, seed=1)
    assert (next(other.as_numpy_iterator())[0] != batches[0]).any()


def test_flips_are_flips():
    x = noise(1)
    dataset = quota_batches(
        np.repeat(x, 64, axis=0), None, 64, augment={"RandomFlip": {"mode": "horizontal"}}
    )
    batch = next(dataset.as_numpy_iterator())[0]
    flipped = (batch == x[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((batch == x).all(axis=(1, 2, 3)) ^ flipped).all()
    assert 16 < flipped.sum() < 48


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"Dense": {"units": 3}}, "received Dense"),
        ({"RandomNothing": None}, "received RandomNothing: no such layer"),
        ({"RandomFlip": {"sideways": True}}, "received RandomFlip"),
        ({"RandomCrop": {"height": 4, "width": 4}}, "keep the shape"),
        ([None], "received NoneType"),
    ],
)
def test_refused_augmentation(augment, message):
    with pytest.raises(InputError, match=message) as error:
        quota_batches(noise(40), None, 16, augment=augment)
    assert "\n" not in str(error.value)
