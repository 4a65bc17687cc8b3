"""Several replicas train as one does: quota, batch norm, losses and steps of the global batch."""

import agad_cases
import bigan_cases
import keras
import numpy as np
import pytest
import tensorflow as tf

from agad_tf.errors import InputError
from agad_tf.models import loop
from agad_tf.models.updates import training_variables
from agad_tf.replicas import from_chief, is_chief, worker_count
from agad_tf.training import Checkpoints
from agad_tf.training.hardware import choose_precision, choose_strategy

CASES = {
    "agad": (agad_cases.make, {"bn_strategy": "adv_prop_freeze"}, agad_cases.photographs(40)),
    "aa_bigan": (bigan_cases.make, {}, bigan_cases.rows(40)),
}
EQUAL_QUOTA = np.repeat([0, 1], [34, 6])
UNEQUAL = np.arange(40) % 10 < 2  # the two anomalies of each 10 lie in the first replica's half


def compiled(detector, number, policy, optimizer):
    make, arguments, _ = CASES[detector]
    settings = {f"{name}_optimizer": optimizer() for name in ("generator", "discriminator")}
    return make(number=number, dtype=policy, score="reconstruction", compile_with=settings, **arguments)


def data_of(detector, masks):
    x = CASES[detector][2]
    if masks == "quota":
        return {"x": x, "y": EQUAL_QUOTA, "batch_size": 10, "min_anomalies": 2}
    labels = UNEQUAL.astype("int32")
    return {"x": tf.data.Dataset.from_tensor_slices((x, labels)).batch(10, drop_remainder=True)}


def both(strategy, detector, masks, policy, optimizer, steps):
    """The model, its variables and the logs after some steps on one replica, and those on two."""
    found = []
    for number, scope in (("one", tf.distribute.get_strategy()), ("two", strategy)):
        with scope.scope():
            model = compiled(detector, f"{number} {policy}", policy, optimizer)
        history = model.fit(**data_of(detector, masks), steps_per_epoch=steps, verbose=0).history
        copies = [scope.experimental_local_results(v.value) for v in training_variables(model)]
        for variable, values in zip(training_variables(model), copies, strict=True):
            for other in values[1:]:
                np.testing.assert_array_equal(values[0], other, err_msg=variable.path)
        found.append((model, [np.asarray(values[0]) for values in copies], history))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("masks", ["quota", "unequal"])
@pytest.mark.parametrize("detector", list(CASES))
def test_five_steps_of_two_replicas_equal_those_of_one(strategy, detector, masks):
    (_, one, logs), (_, two, logs_two) = both(
        strategy, detector, masks, "float64", lambda: keras.optimizers.SGD(1e-2), steps=5
    )
    for value, other in zip(one, two, strict=True):
        np.testing.assert_allclose(other, value, rtol=1e-9, atol=1e-9)
    for name, values in logs.items():
        np.testing.assert_allclose(logs_two[name], values, rtol=1e-6, atol=1e-9, err_msg=name)


def gradients(model):
    """Adam's means of the gradients, one a trained variable, after one step (1 − β₁) times the gradients."""
    held = [*model.optimizer.variables, *model.discriminator_optimizer.variables]
    means = {variable.name: np.asarray(variable) for variable in held}
    return [means[f"{variable.path.replace('/', '_')}_momentum"] for variable in trained(model)]


def trained(model):
    return [variable for variables in model.trained_by().values() for variable in variables]


@pytest.mark.slow
@pytest.mark.parametrize("detector", list(CASES))
def test_a_step_of_adam_in_float32(strategy, detector):
    (alone, _, _), (halves, _, _) = both(
        strategy, detector, "quota", "float32", lambda: keras.optimizers.Adam(2e-4), 1
    )

    def close(found, wanted, least):
        return np.linalg.norm(found - wanted) <= 1e-4 * max(np.linalg.norm(wanted), least)

    largest = max(map(np.linalg.norm, gradients(alone)))
    for variable, other, wanted, found in zip(
        trained(alone), trained(halves), gradients(alone), gradients(halves), strict=True
    ):
        assert close(found, wanted, 1e-2 * largest), variable.path
        # Of a bias before a batch norm the gradient is zero but for rounding, and Adam steps by its sign.
        if np.linalg.norm(wanted) > 1e-6 * largest:
            assert close(np.asarray(other), np.asarray(variable), 1e-6), variable.path
        else:
            assert variable.name == "bias"
    statistics = [[v for v in model.variables if v.name.startswith("moving_")] for model in (alone, halves)]
    assert statistics[0]
    for variable, other in zip(*statistics, strict=True):
        assert close(np.asarray(other), np.asarray(variable), 1e-6), variable.path


@pytest.mark.slow
def test_resumed_evaluated_and_saved_under_the_strategy(strategy, tmp_path):
    """A training on two replicas that was interrupted; its file is an ordinary model's."""
    from training_cases import Interruption, Killed

    def fit(*callbacks):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = compiled("aa_bigan", "resumed", "float32", lambda: keras.optimizers.Adam(1e-3))
        history = model.fit(
            **data_of("aa_bigan", "quota"), epochs=2, verbose=0, callbacks=list(callbacks),
            validation_data=(CASES["aa_bigan"][2], EQUAL_QUOTA),
        ).history  # fmt: skip
        return model, history, agad_cases.values(training_variables(model))

    _, history, state = fit()
    assert len(history["val_auroc"]) == 2
    with pytest.raises(Killed):
        fit(Interruption(steps=5), Checkpoints(tmp_path / "c", 1))
    model, resumed, found = fit(Checkpoints(tmp_path / "c", 1))
    assert resumed == history
    for one, other in zip(found, state, strict=True):
        np.testing.assert_array_equal(one, other)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = CASES["aa_bigan"][2]
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)


def test_slices_of_a_batch_make_it_up():
    data = tf.data.Dataset.from_tensors((tf.range(10), tf.range(10) * 2)).repeat()
    for count, static in ((2, 5), (3, None)):
        sliced = loop._sliced(data, count)
        assert sliced.element_spec[0].shape == (static,)
        assert int(sliced.cardinality()) == tf.data.INFINITE_CARDINALITY
        parts = list(sliced.take(count))
        np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), np.arange(10))
        np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), 2 * np.arange(10))


def test_float16_on_several_replicas_is_refused(strategy):
    with strategy.scope():
        model = bigan_cases.make(number="float16 twice", compile_with=None, dtype="float32")
        model.dtype_policy = keras.DTypePolicy("mixed_float16")
        with pytest.raises(InputError, match="mixed_float16 cannot train on 2 replicas: an overflow"):
            model.compile()


def test_one_process_is_its_own_chief(strategy):
    for one in (strategy, tf.distribute.get_strategy()):
        assert is_chief(one)
        assert worker_count(one) == 1
        assert from_chief(one, b"content") == b"content"


def test_the_strategy_is_chosen(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert choose_strategy("auto").num_replicas_in_sync == 1  # virtual CPUs are no reason
    assert choose_strategy("none").num_replicas_in_sync == 1
    mirrored = choose_strategy("mirrored")
    assert mirrored.num_replicas_in_sync == 2
    with mirrored.scope():
        assert choose_precision() == "float32"
    for text in ("{", "[]", '{"cluster": 3}'):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(InputError, match="TF_CONFIG expects JSON with a cluster and a task"):
            choose_strategy("auto")
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["localhost:1"]}}')
    with pytest.raises(InputError, match="to name two workers or more, found 1"):
        choose_strategy("multi_worker")
    monkeypatch.delenv("TF_CONFIG")
    with pytest.raises(InputError, match="found none: set it"):
        choose_strategy("multi_worker")
    with pytest.raises(InputError, match="strategy expects one of auto, none, mirrored, multi_worker"):
        choose_strategy("all")
