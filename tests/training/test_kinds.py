"""Each kind of labelled defects is left out once, and looked for."""

from types import SimpleNamespace

import feature_cases
import numpy as np
import pytest

from agad_tf import AGAD
from agad_tf.baselines import BASELINES
from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.errors import InputError
from agad_tf.evaluation.wording import in_percent, kinds_line
from agad_tf.models import FeatureDiscriminator
from agad_tf.training.kinds import KEPT, caution, is_wanted, leave_one_kind_out


def made(kinds=("bar", "spot"), held_out=8):
    """32 normals and six of each kind, of which held_out normals are not trained on."""
    x = feature_cases.parts(32 + 6 * len(kinds), range(32, 32 + 6 * len(kinds)))
    classes = np.repeat(np.arange(len(kinds) + 1), [32] + [6] * len(kinds))
    empty = np.zeros(0, np.int64)
    split = Split(
        train_normal=np.arange(32 - held_out),
        train_anomaly=np.arange(32, len(x)),
        validation_normal=np.arange(32 - held_out, 32),
        validation_anomaly=empty,
        test_normal=empty,
        test_anomaly=empty,
    )
    return Samples("made", x, classes, ("good", *kinds)), split


def test_every_kind_is_left_out_once(monkeypatch):
    samples, split = made()
    trained = []

    def make():
        model = feature_cases.make(compiled={"learning_rate": 2e-3})
        fit = model.fit
        model.fit = lambda x, y, **how: (
            trained.append((len(x), int(y.sum()))) or fit(x, y, steps_per_epoch=20, **how)
        )
        return model

    rows, labels = split.labelled("train")
    of_run = feature_cases.make(compiled={"learning_rate": 2e-3})
    of_run.fit(samples.x[rows], labels, steps_per_epoch=20, verbose=0)
    metrics = leave_one_kind_out(of_run, make, {"epochs": 1}, samples, split)
    assert trained == [(30, 6), (30, 6)]
    assert set(metrics["leave_one_kind_out"]) == {"bar", "spot"}
    for about in metrics["leave_one_kind_out"].values():
        assert about["anomalies"] == 6
        assert 0.6 < about["auroc"] <= 1  # both kinds are bars here
        assert 0.4 < about["auroc_without_labels"] <= 1
    assert set(metrics) == set(KEPT)
    for mean, name in zip(KEPT[1:], ("auroc", "auroc_without_labels"), strict=True):
        each = [about[name] for about in metrics["leave_one_kind_out"].values()]
        assert metrics[mean] == np.mean(each)
    assert in_percent(metrics["mean_kind_left_out_auroc"]) in kinds_line(metrics)


def test_what_no_label_teaches_is_taken_from_the_run():
    samples, split = made()
    rows, labels = split.labelled("train")
    first, second = (feature_cases.make(compiled={"learning_rate": 2e-3}) for _ in range(2))
    first.fit(samples.x[rows], labels, steps_per_epoch=20, verbose=0)
    second.learn_labels_after(first)
    with pytest.raises(InputError, match="labelled anomalies, received none"):
        second.fit(samples.x[rows[:-12]], verbose=0)
    second.fit(samples.x[rows[:-6]], labels[:-6], steps_per_epoch=20, verbose=0)
    parts = [model.standardised_parts(samples.x) for model in (first, second)]
    for name in ("global", "local"):
        np.testing.assert_allclose(*(part[name] for part in parts), rtol=1e-3, atol=1e-3)
    assert not np.allclose(*(part["labels"] for part in parts), rtol=0.05)
    assert second.label_discriminator.get_weights()[0].any()


def test_labels_that_lose_by_more_than_chance_are_told():
    bar = {"auroc": 0.6, "auroc_without_labels": 0.7, "anomalies": 6, "difference": [-0.1, -0.15, -0.05]}
    metrics = {"leave_one_kind_out": {"bar": bar}, KEPT[1]: 0.6, KEPT[2]: 0.7}
    assert "60.0 on average, 70.0 without labels. Labels of other kinds LOSE for bar" in kinds_line(metrics)
    by_chance = {"leave_one_kind_out": {"bar": bar | {"difference": [-0.1, -0.3, 0.1]}}}
    assert "LOSE" not in kinds_line(metrics | by_chance)


def test_one_kind_many_kinds_or_no_held_out_normals_report_nothing():
    for samples, split in (made(("bar",)), made(held_out=0), made("abcdef")):
        assert leave_one_kind_out(None, None, {}, samples, split) == {}


class Average:
    """Learns the mean of its normals, and of its anomalies where it sees some, as a detector would."""

    def __init__(self, seen):
        self.seen = seen

    def fit(self, x, y, verbose=0):
        self.seen.append((int((y == 0).sum()), int(y.sum())))
        self.normal = x[y == 0].mean(axis=0)
        self.anomaly = x[y == 1].mean(axis=0) if y.any() else None

    def predict(self, x, verbose=0):
        far = np.abs(x - self.normal).mean(axis=(1, 2, 3))
        return far if self.anomaly is None else far - np.abs(x - self.anomaly).mean(axis=(1, 2, 3))


def test_a_score_without_a_part_for_labels_is_trained_once_more_without_any():
    samples, split = made()
    seen = []
    metrics = leave_one_kind_out(None, lambda: Average(seen), {}, samples, split)
    assert seen == [(24, 6), (24, 0), (24, 6)]
    x = samples.x.astype(np.float64)
    plain = Average([])
    plain.fit(x[:24], np.zeros(24))
    for name, left, other in (("bar", slice(32, 38), slice(38, 44)), ("spot", slice(38, 44), slice(32, 38))):
        taught = Average([])
        taught.fit(np.concatenate([x[:24], x[other]]), np.repeat([0, 1], [24, 6]))
        held_out = np.concatenate([x[24:32], x[left]])
        found = metrics["leave_one_kind_out"][name]
        for key, model in (("auroc", taught), ("auroc_without_labels", plain)):
            scores = model.predict(held_out)
            pairs = scores[8:, None] - scores[None, :8]
            assert found[key] == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def of(kind, uses_anomalies=True, **attributes):
    """An evaluation whose model is of a kind, without making one."""
    model = kind.__new__(kind)
    for name, value in attributes.items():
        object.__setattr__(model, name, value)
    object.__setattr__(model, "uses_anomalies", uses_anomalies)
    return SimpleNamespace(model=model)


def test_kinds_are_left_out_where_that_is_cheap_or_asked_for():
    features, agad = of(FeatureDiscriminator), of(AGAD)
    assert is_wanted(features)
    assert not is_wanted(features, left_out=False)
    assert is_wanted(agad, left_out=True)
    assert not is_wanted(agad)
    assert not is_wanted(of(AGAD, uses_anomalies=False), left_out=True)


def test_kinds_are_not_left_out_where_a_detector_cannot_do_without_labels():
    for name in ("gradient_boosting", "stacked"):
        trees = of(BASELINES[name], sample_shape=(4,))
        assert not is_wanted(trees, left_out=True)
        words = caution(trees.model, *made(), True)
        assert words.startswith(f"left_out=true has no effect: {BASELINES[name].__name__} cannot be trained")


def test_labelled_photographs_are_warned_of():
    samples, split = made()
    photographs, digits = (of(AGAD, sample_shape=(side, side, 1)).model for side in (64, 32))
    words = caution(photographs, samples, split, None)
    assert "--gamma 0 trains without them" in words
    assert "--set left_out=true says what they are worth, by 3 more trainings" in words
    assert "left_out" not in caution(photographs, *made(("bar",)), None)
    assert caution(photographs, samples, split, True) is None  # it will be measured
    assert caution(digits, samples, split, None) is None
    assert caution(of(FeatureDiscriminator, sample_shape=(64, 64, 1)).model, samples, split, None) is None
