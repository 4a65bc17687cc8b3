"""Each kind of labelled defects is left out once, and looked for."""

import feature_cases
import numpy as np

from agad_tf.data.samples import Samples
from agad_tf.data.splits.split import Split
from agad_tf.evaluation.wording import in_percent, kinds_line
from agad_tf.training.kinds import KEPT, leave_one_kind_out


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
    second.fit(samples.x[rows[:-6]], labels[:-6], steps_per_epoch=20, verbose=0)
    parts = [model.standardised_parts(samples.x) for model in (first, second)]
    for name in ("global", "local"):
        np.testing.assert_allclose(*(part[name] for part in parts), rtol=1e-3, atol=1e-3)
    assert not np.allclose(*(part["labels"] for part in parts), rtol=0.05)
    assert second.label_discriminator.get_weights()[0].any()


def test_labels_that_lose_are_told():
    kept = {"bar": {"auroc": 0.6, "auroc_without_labels": 0.7, "anomalies": 6}}
    metrics = {"leave_one_kind_out": kept, KEPT[1]: 0.6, KEPT[2]: 0.7}
    assert "labels of other kinds LOSE: 60.0 on average, 70.0 without any" in kinds_line(metrics)
    assert "LOSE" not in kinds_line(metrics | {KEPT[1]: 0.75})


def test_one_kind_many_kinds_or_no_held_out_normals_report_nothing():
    for samples, split in (made(("bar",)), made(held_out=0), made("abcdef")):
        assert leave_one_kind_out(None, None, {}, samples, split) == {}
