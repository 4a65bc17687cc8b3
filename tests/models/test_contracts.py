"""Every model through the contracts of contracts.py."""

from collections.abc import Callable
from dataclasses import dataclass

import agad_cases
import baseline_cases
import bigan_cases
import contracts
import feature_cases
import numpy as np
import pytest
from agad_cases import photographs, train_once

from agad_tf import AABiGAN, AABiGANNeighbours
from agad_tf.errors import InputError
from agad_tf.export.agreement import rounded_size


@dataclass(frozen=True)
class Case:
    """How to make a trained model that is ready to score, and the samples it takes.

    Attributes:
        train: makes the model.
        raw: (count, seed) to uint8 images of the model's size, or raw rows.
        floats: count to float images in the model's range, or raw rows.
        explains: whether the method reconstructs samples.
    """

    train: Callable
    raw: Callable
    floats: Callable
    explains: bool = True


def agad(score, bn_strategy="shared", **compile_with):
    model = agad_cases.make(score=score, bn_strategy=bn_strategy, compile_with=compile_with)
    train_once(model, *agad_cases.batch([0, 1, 0, 0, 1, 0]))
    model.prepare_scoring(photographs(24), batch_size=8)
    return model


def aa_bigan(backbone, score):
    shape = bigan_cases.SHAPES[backbone]
    model = bigan_cases.make(shape, {"run_eagerly": True}, score=score)
    normals, anomalies = bigan_samples(shape)(10), bigan_samples(shape)(2, seed=9)
    x, y = np.concatenate([normals, anomalies]), np.repeat([0, 1], [10, 2])
    model.fit(x, y, batch_size=12, min_anomalies=2, verbose=0)
    return model


def bigan_samples(shape):
    if len(shape) == 1:
        return lambda count, seed=0: bigan_cases.rows(count, *shape, seed)
    return lambda count, seed=0: photographs(count, shape, seed)


def agad_case(*arguments):
    return Case(
        lambda: agad(*arguments),
        lambda count, seed=0: photographs(count, seed=seed),
        lambda count: agad_cases.batch([0] * count)[0],
    )


def bigan_case(backbone, score):
    shape = bigan_cases.SHAPES[backbone]
    raw = bigan_samples(shape)
    floats = raw if len(shape) == 1 else lambda count: bigan_cases.batch([0] * count, shape)[0]
    return Case(lambda: aa_bigan(backbone, score), raw, floats)


def neighbours_case():
    def train():
        model = AABiGANNeighbours(bigan_cases.SHAPES["mlp"], latent_dim=4)
        model.compile(run_eagerly=True)
        x = np.concatenate([bigan_cases.rows(20), bigan_cases.rows(2, seed=9)])
        model.fit(x, np.repeat([0, 1], [20, 2]), batch_size=12, min_anomalies=2, verbose=0)
        return model

    return Case(train, lambda count, seed=0: bigan_cases.rows(count, seed=seed), bigan_cases.rows)


def baseline(name, shape):
    model = baseline_cases.make(name, shape)
    x, y = baseline_cases.both_kinds(shape)
    model.fit(x, y, batch_size=7, epochs=2, verbose=0)
    return model


def baseline_case(name, shape, explains=True):
    low = -1.0 if name in ("ganomaly", "skip_ganomaly") else 0.0

    def raw(count, seed=0):
        return baseline_cases.samples(shape, count, seed)

    def floats(count):
        return (raw(count) * np.float32((1 - low) / 255) + np.float32(low)).astype(np.float32)

    return Case(lambda: baseline(name, shape), raw, raw if len(shape) == 1 else floats, explains)


def features_case(shape):
    def train():
        model = feature_cases.make(shape)
        x, y = feature_cases.parts(20, range(16, 20), shape), np.repeat([0, 1], [16, 4])
        model.fit(x, y, epochs=1, steps_per_epoch=4, verbose=0)
        return model

    def raw(count, seed=0):
        return photographs(count, shape, seed)

    return Case(train, raw, lambda count: raw(count) / np.float32(127.5) - 1, explains=False)


CASES = {
    "agad, reconstruction": agad_case("reconstruction", "adv_prop_freeze"),
    "agad, fused": agad_case("fused"),
    "aa-bigan, grey images": bigan_case("dcgan", "reconstruction"),
    "aa-bigan, colour images, fused": bigan_case("lenet", "fused"),
    "aa-bigan, rows": bigan_case("mlp", "reconstruction"),
    "aa-bigan and neighbours, rows": neighbours_case(),
    "features, grey images": features_case((64, 96, 1)),
    "autoencoder, grey images": baseline_case("autoencoder", baseline_cases.GREY),
    "autoencoder, rows": baseline_case("autoencoder", baseline_cases.ROWS),
    "deep svdd, grey images": baseline_case("deep_svdd", baseline_cases.GREY, explains=False),
    "deep sad, rows": baseline_case("deep_sad", baseline_cases.ROWS, explains=False),
    "classifier, rows": baseline_case("classifier", baseline_cases.ROWS, explains=False),
    "ganomaly, grey images": baseline_case("ganomaly", baseline_cases.GREY),
    "alad, rows": baseline_case("alad", baseline_cases.ROWS),
    "f-anogan, grey images": baseline_case("f_anogan", baseline_cases.GREY),
}
# Larger networks, and the same code on other samples.
SLOW = {
    "autoencoder, colour images": baseline_case("autoencoder", baseline_cases.COLOUR),
    "deep svdd, rows": baseline_case("deep_svdd", baseline_cases.ROWS, explains=False),
    "deep sad, colour images": baseline_case("deep_sad", baseline_cases.COLOUR, explains=False),
    "classifier, grey images": baseline_case("classifier", baseline_cases.GREY, explains=False),
    "ganomaly, colour images": baseline_case("ganomaly", baseline_cases.COLOUR),
    "skip-ganomaly, grey images": baseline_case("skip_ganomaly", baseline_cases.GREY),
    "skip-ganomaly, colour images": baseline_case("skip_ganomaly", baseline_cases.COLOUR),
    "alad, grey images": baseline_case("alad", baseline_cases.GREY),
    "alad, colour images": baseline_case("alad", baseline_cases.COLOUR),
    "f-anogan, colour images": baseline_case("f_anogan", baseline_cases.COLOUR),
}
PARAMETERS = [pytest.param(case, id=name) for name, case in CASES.items()]
PARAMETERS += [pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in SLOW.items()]


@pytest.fixture(scope="module", params=PARAMETERS)
def case(request):
    """A case and its model; the checks leave the model as it is."""
    return request.param, request.param.train()


def test_score_is_independent_of_the_batch(case):
    case, model = case
    # A fused score subtracts means: it has the rounding error of its parts, in their deviations.
    tolerance = contracts.FLOAT32 * rounded_size(model)
    contracts.check_independence(model, case.raw(7, 1), tolerance)
    contracts.check_independence(model, case.floats(7), tolerance)


def test_score_is_taken_in_inference_mode(case):
    case, model = case
    contracts.check_inference_mode(model, case.raw(5, 1))


def test_predict_agrees_with_call(case):
    case, model = case
    contracts.check_predict_is_call(model, case.raw(9, 1))


def test_samples_as_they_come(case):
    case, model = case
    if model.is_table:
        contracts.check_scaling(model, case.raw(9, 1))
        return
    height, width, channels = model.sample_shape
    sizes = (height + 5, width + 1), (height - 3, width + 12), (height, width)
    for seed, size in enumerate(sizes):
        images = photographs(4, (*size, channels), seed)
        contracts.check_preprocessing(model, images, (height, width), model.preprocess.value_range)


def test_save_and_load(case, tmp_path):
    case, model = case
    contracts.check_save_and_load(model, case.raw(6, 1), tmp_path / "model.keras")


def test_explanation(case):
    case, model = case
    if not case.explains:
        with pytest.raises(InputError, match="no reconstructions"):
            model.explain(case.raw(2))
        return
    contracts.check_explanation(model, case.floats(2))
    raw = case.raw(3, 1) if model.is_table else photographs(3, (13, 9, model.sample_shape[-1]), 1)
    contracts.check_explanation(model, raw)


@pytest.mark.parametrize(
    "name",
    [
        "agad",
        "features",
        "aa-bigan, rows",
        "aa-bigan, grey images",
        *(pytest.param(name, marks=pytest.mark.slow) for name in baseline_cases.KERAS),
    ],
)
def test_quota_batches_through_fit(name):
    if name in baseline_cases.KERAS:
        shape = baseline_cases.small_shape(name)
        model = baseline_cases.make(name, shape)

        def raw(count, seed=0):
            return baseline_cases.samples(shape, count, seed)

    elif name == "features":
        model = feature_cases.make(compiled={"run_eagerly": True})

        def raw(count, seed=0):
            return photographs(count, (64, 64, 1), seed)

    elif name == "agad":
        model, raw = agad("auto", run_eagerly=True), photographs
    else:
        shape = bigan_cases.SHAPES["mlp" if "rows" in name else "dcgan"]
        model, raw = bigan_cases.make(shape, {"run_eagerly": True}), bigan_samples(shape)
        assert type(model) is AABiGAN
    contracts.check_quota_batches_through_fit(model, raw(6), raw(3, seed=4))


# The checks themselves must be able to fail.


def test_a_score_that_reads_its_neighbours_is_caught():
    x = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    with pytest.raises(AssertionError, match="scores differ"):
        contracts.check_independence(lambda batch: batch.sum(1) - batch.mean(), x)


def test_an_order_or_a_shape_that_is_lost_is_caught():
    x = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    with pytest.raises(AssertionError):
        contracts.check_independence(lambda batch: np.sort(batch.sum(1)), x)
    with pytest.raises(AssertionError):
        contracts.check_scores(lambda batch: batch.sum(1, keepdims=True), x)
    with pytest.raises(AssertionError):
        contracts.check_scores(lambda batch: np.full(len(batch), np.nan, np.float32), x)
    contracts.check_independence(lambda batch: batch.sum(1), x)


def test_another_resize_is_caught():
    images = photographs(4, (16, 16, 1))

    def nearest(batch):
        x = batch[:, ::2, ::2] / np.float32(127.5) - 1 if batch.dtype == np.uint8 else batch
        return x.reshape(len(x), -1).std(1)

    with pytest.raises(AssertionError, match="scores differ"):
        contracts.check_preprocessing(nearest, images, (8, 8), (-1, 1))
