"""Data frames at every door of a model: columns by name, labels by position, and one line for the rest."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from agad_tf import AABiGAN
from agad_tf.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(40, 3)) * [1, 5, 50] + [0, 10, 100]
FRAME = pd.DataFrame(ROWS, columns=["a", "b", "c"])
OTHER = FRAME[["c", "a", "b"]]
LABELS = pd.Series((np.arange(40) % 10 == 0).astype(int))


@pytest.fixture(scope="module")
def model():
    model = AABiGAN((3,), latent_dim=2)
    model.compile(run_eagerly=True)
    model.fit(FRAME, LABELS, batch_size=20, min_anomalies=2, verbose=0, validation_data=(OTHER, LABELS))
    return model


DOORS = {
    "predict": lambda model, x: model.predict(x, verbose=0),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "call": lambda model, x: model(x),
    "explain": lambda model, x: model.explain(x)[1],
    "reconstruct": lambda model, x: model.reconstruct(x),
    "anomaly_map": lambda model, x: model.anomaly_map(x),
    "evaluate": lambda model, x: list(model.evaluate(x, LABELS, verbose=0).values()),
}


@pytest.mark.parametrize("door", DOORS)
def test_columns_go_by_their_names(model, door):
    expected = np.asarray(DOORS[door](model, ROWS))
    np.testing.assert_array_equal(np.asarray(DOORS[door](model, OTHER)), expected)
    np.testing.assert_array_equal(np.asarray(DOORS[door](model, OTHER.convert_dtypes())), expected)
    for wrong, words in ((FRAME[["a", "b"]], "missing: 'c'"), (FRAME.assign(d=1.0), "unknown: 'd'")):
        with pytest.raises(InputError, match=words):
            DOORS[door](model, wrong)


def test_training_by_hand_takes_frames(model):
    before = model.identity
    assert np.isfinite(model.train_on_batch(OTHER, LABELS)).all()
    model.prepare_scoring(OTHER)
    assert model.identity == before


@pytest.mark.parametrize(
    "labels",
    [LABELS.astype("Int64"), LABELS.astype("boolean"), LABELS.to_frame(), LABELS.set_axis(range(40, 80))],
    ids=["Int64", "boolean", "frame", "another index"],
)
def test_labels_of_pandas(model, labels):
    assert model.evaluate(FRAME, labels, verbose=0) == model.evaluate(ROWS, LABELS.to_numpy(), verbose=0)


def test_labels_in_another_order_are_noticed(model):
    shuffled = LABELS.sample(frac=1, random_state=0)
    for door in (
        lambda: model.fit(FRAME, shuffled, verbose=0),
        lambda: model.evaluate(FRAME, shuffled, verbose=0),
        lambda: model.train_on_batch(FRAME, shuffled),
    ):
        with pytest.raises(InputError, match=r"same index in another order: pass y.loc\[x.index\]"):
            door()
    mixed = [*range(len(FRAME) - 1), "last"]  # has no order to sort by
    with pytest.raises(InputError, match="same index in another order"):
        model.evaluate(FRAME.set_axis(mixed), LABELS.set_axis(mixed[::-1]), verbose=0)
    missing = LABELS.astype("Int64").mask(LABELS == 1)
    with pytest.raises(InputError, match=r"y expects 0 \(normal\) and 1 \(anomaly\), received"):
        model.evaluate(FRAME, missing, verbose=0)


def test_dates_and_datasets_of_columns_are_told():
    frame = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0)[::-1]})
    labels = np.repeat([0, 1], [36, 4])
    by_column = tf.data.Dataset.from_tensor_slices((dict(frame), labels)).batch(8)
    with pytest.raises(InputError, match=r"dataset of x or \(x, y\), received elements .*: map it to these"):
        AABiGAN((2,)).fit(by_column, verbose=0)
    dates = frame.assign(b=pd.date_range("2024-01-01", periods=40))
    with pytest.raises(InputError, match="in column 'b': encode it as numbers"):
        AABiGAN((2,)).fit(dates, labels, verbose=0)
