"""What the TensorBoard callback wrote, read back from the event files."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agad_tf import AGAD, InputError
from agad_tf.evaluation.metrics import auroc
from agad_tf.training import tensorboard
from agad_tf.training.tensorboard import TensorBoardReport

EPOCHS = 2


def read(folder):
    accumulator = EventAccumulator(str(folder), {"tensors": 0, "images": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["tensors"]
    return {
        tag: [(e.step, tf.make_ndarray(e.tensor_proto)) for e in accumulator.Tensors(tag)] for tag in tags
    }


@pytest.fixture(scope="module")
def data():
    digits = load_digits()
    x = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    y = (digits.target != 8).astype(int)
    normal, anomaly = x[y == 0], x[y == 1]
    validation = np.concatenate([normal[100:130], anomaly[:40]]), np.repeat([0, 1], [30, 40])
    return normal[:64], validation


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A model and its events, read back after two epochs."""
    folder = tmp_path_factory.mktemp("logs")
    train, validation = data
    model = AGAD((8, 8, 1), "encoder_decoder")
    model.compile()
    history = model.fit(
        train, epochs=EPOCHS, batch_size=32, verbose=0, validation_data=validation,
        callbacks=[TensorBoardReport(folder / "with", validation, images=5)],
    )  # fmt: skip
    return model, history.history, read(folder / "with")


def test_losses_and_auroc_of_every_epoch(trained):
    _, history, events = trained
    for log, tag in (
        ("loss_generator", "training/loss_generator"),
        ("normal_contextual", "training/normal_contextual"),
        ("val_auroc", "validation/auroc"),
        ("val_score_normal", "validation/score_normal"),
    ):
        assert [step for step, _ in events[tag]] == list(range(EPOCHS))
        np.testing.assert_allclose([float(value) for _, value in events[tag]], history[log], rtol=1e-5)


def test_histograms_of_the_scores(trained, data):
    model, _, events = trained
    x, y = data[1]
    scores = model.predict(x, verbose=0)
    for kind, name in ((0, "normal"), (1, "anomaly")):
        assert [step for step, _ in events[f"scores/{name}"]] == list(range(EPOCHS))
        _, buckets = events[f"scores/{name}"][-1]  # rows of left edge, right edge, count
        assert buckets[:, 2].sum() == (y == kind).sum()
        # `fit` ends with the scoring networks of the last epoch: the same scores.
        assert buckets[0, 0] == pytest.approx(scores[y == kind].min(), rel=1e-3)
        assert buckets[-1, 1] == pytest.approx(scores[y == kind].max(), rel=1e-3)


def test_the_same_pictures_each_epoch(trained, data):
    model, _, events = trained
    x, y = data[1]
    for kind, name in ((0, "normal"), (1, "anomaly")):
        shown = [value for _, value in events[f"pictures/{name}"]]
        assert len(shown) == EPOCHS
        pictures = []
        for strings in shown:
            assert [int(side) for side in strings[:2]] == [24, 8]  # width of three tiles, height
            assert len(strings) == 2 + 3  # half of five, rounded up
            pictures.append(np.stack([tf.io.decode_png(png).numpy() for png in strings[2:]]))
        inputs = [picture[:, :, :8] for picture in pictures]
        np.testing.assert_array_equal(inputs[0], inputs[1])
        np.testing.assert_allclose(inputs[0].astype(int), x[y == kind][:3], atol=1)
        reconstruction, error = (np.asarray(part) for part in model.explain(x[y == kind][:3]))
        wanted = np.concatenate([(reconstruction[..., 0] + 1) / 2, np.clip(error, 0, 1)], axis=2)
        np.testing.assert_allclose(pictures[-1][:, :, 8:, 0] / 255, wanted, atol=0.01)


def test_readies_the_scoring_networks_where_fit_ran_no_validation(trained, data, tmp_path):
    model, _, _ = trained
    x, y = data[1]
    model.scoring_prepared.assign(0.0)
    report = TensorBoardReport(tmp_path, (x, y), images=0)
    report.set_model(model)
    report.on_train_begin()
    report.on_epoch_end(0, {})
    report.on_train_end()
    assert model.scoring_prepared.numpy() == 1
    events = read(tmp_path)
    expected = auroc(y, model.predict(x, verbose=0))
    assert float(events["validation/auroc"][0][1]) == pytest.approx(expected, abs=1e-6)
    assert not [tag for tag in events if tag.startswith("pictures")]


def test_one_kind_only_and_many_samples(data, tmp_path, monkeypatch):
    normal = data[0]
    monkeypatch.setattr(tensorboard, "MOST_SCORES", 10)
    report = TensorBoardReport(tmp_path, (normal, None), images=4)
    assert report.x.shape == (10, 8, 8, 1)
    model = AGAD((8, 8, 1), "encoder_decoder")
    model.prepare_scoring(normal)
    report.set_model(model)
    report.on_train_begin()
    report.on_epoch_end(0, {"loss_generator": 1.0})
    report.on_train_end()
    events = read(tmp_path)
    assert set(events) == {"training/loss_generator", "scores/normal", "pictures/normal"}
    assert len(events["pictures/normal"][0][1]) == 2 + 4


def test_mistakes_are_told(data, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="arrays"):
        TensorBoardReport(tmp_path, data[0])
    with pytest.raises(InputError, match="0 or more"):
        TensorBoardReport(tmp_path, images=-1)
    monkeypatch.setattr(tensorboard, "tensorboard_installed", lambda: False)
    with pytest.raises(InputError, match="pip install"):
        TensorBoardReport(tmp_path)
