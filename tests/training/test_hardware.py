"""Precision, XLA and determinism: what is chosen, and that one step and one run are what they should be."""

import os
import subprocess
import sys
from pathlib import Path

import agad_cases
import bigan_cases
import keras
import numpy as np
import pytest
import tensorflow as tf
from training_cases import DETECTORS

from agad_tf.errors import InputError
from agad_tf.models.trainer import choose_jit
from agad_tf.training.hardware import choose_precision

MAKE = {"agad": agad_cases.make, "aa_bigan": bigan_cases.make}
BATCH = {
    "agad": agad_cases.batch([0, 1, 0, 0, 1, 0, 0, 0]),
    "aa_bigan": bigan_cases.batch([0, 1, 0, 0, 1, 0, 0, 0]),
}


@pytest.fixture
def gpus(monkeypatch):
    """Makes TensorFlow tell of GPUs with these compute capabilities; None tells none."""

    def pretend(*capabilities):
        details = [{} if one is None else {"compute_capability": one} for one in capabilities]
        monkeypatch.setattr(
            tf.config, "list_physical_devices", lambda kind=None: list(range(len(details) * (kind == "GPU")))
        )
        monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)

    return pretend


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [
        ((), "float32"),
        (((7, 5),), "mixed_float16"),  # T4
        (((8, 0),), "mixed_bfloat16"),  # A100
        (((9, 0), (8, 9)), "mixed_bfloat16"),
        ((None,), "float32"),  # not NVIDIA's
        (((9, 0), None), "float32"),
    ],
)
def test_precision_follows_the_gpus(gpus, capabilities, chosen):
    gpus(*capabilities)
    assert choose_precision() == chosen
    for precision in ("float32", "mixed_float16", "float64"):
        assert choose_precision(precision) == precision


def test_older_gpus_train_together_in_full_precision(gpus, strategy):
    gpus((7, 5), (7, 5))
    with strategy.scope():
        assert choose_precision() == "float32"
    gpus((8, 0), (8, 0))
    with strategy.scope():
        assert choose_precision() == "mixed_bfloat16"


def test_unknown_precisions_are_refused():
    with pytest.raises(InputError, match=r"precision expects one of auto, float32, .*, received 'half'"):
        choose_precision("half")


def test_xla_is_for_one_gpu(gpus, strategy):
    assert choose_jit("auto") is False  # slower on a CPU
    gpus((8, 0))
    assert choose_jit("auto") is True
    assert choose_jit(False) is False
    with strategy.scope():
        assert choose_jit("auto") is False


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.1), ("mixed_float16", 0.025)])
def test_one_step_in_half_precision_is_finite_and_close(detector, policy, tolerance):
    """What one step of SGD does to each network, beside what it does in float32."""
    sgd = {f"{name}_optimizer": keras.optimizers.SGD(1e-2) for name in ("generator", "discriminator")}
    moved = []
    full = MAKE[detector](number="half", compile_with=sgd)
    half = MAKE[detector](number=f"half {policy}", dtype=policy, compile_with=sgd)
    for other, variable in zip(half.variables, full.variables, strict=True):
        other.assign(variable)
    for optimizer in (half.optimizer, half.discriminator_optimizer):
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == (policy == "mixed_float16")
        if scaled:
            optimizer.dynamic_scale.assign(2.0**6)  # where its search ends; see the test below
    for model in (full, half):
        before = [np.array(variable) for variable in model.trainable_variables]
        logs = agad_cases.train_once(model, *BATCH[detector])
        assert np.isfinite(list(logs.values())).all(), logs
        after = [np.array(variable) for variable in model.trainable_variables]
        moved.append((logs, [new - old for new, old in zip(after, before, strict=True)]))
    (logs, steps), (half_logs, half_steps) = moved
    for name, value in logs.items():
        assert half_logs[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name
    for side in ("generator", "discriminator"):
        variables = getattr(full, f"{side}_variables")()
        places = [i for i, v in enumerate(full.trainable_variables) if any(v is one for one in variables)]
        step = np.concatenate([steps[place].ravel() for place in places])
        other = np.concatenate([half_steps[place].ravel() for place in places])
        assert np.linalg.norm(step) > 0
        assert np.linalg.norm(other - step) < 2 * tolerance * np.linalg.norm(step), side


@pytest.mark.parametrize("detector", DETECTORS)
def test_an_overflow_of_float16_moves_nothing_and_lowers_the_scale(detector):
    model = MAKE[detector](number="overflow", dtype="mixed_float16")
    before = [np.array(variable) for variable in model.trainable_variables]
    for optimizer in (model.optimizer, model.discriminator_optimizer):
        optimizer.dynamic_scale.assign(2.0**120)
    logs = agad_cases.train_once(model, *BATCH[detector])
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert np.isfinite(list(logs.values())).all(), logs
    for optimizer in (model.optimizer, model.discriminator_optimizer):
        assert float(optimizer.dynamic_scale) == 2.0**119


def in_a_process(code, **environment):
    """What a program writes to standard output."""
    root = Path(__file__).parents[2]
    environment = (
        os.environ
        | {"PYTHONPATH": f"{root}:{root / 'tests' / 'support'}", "CUDA_VISIBLE_DEVICES": ""}
        | environment
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


FIT = """
import keras, numpy as np
from agad_cases import make, photographs
import bigan_cases
x, y = {x}, np.repeat([0, 1], [32, 5])
model = {make}(score="reconstruction", compile_with={{"jit_compile": True}})
count = 0
step = model.train_step
def counted(data):
    global count
    count += 1
    return step(data)
model.train_step = counted
for _ in range(2):
    model.fit(x, y, 12, epochs=2, min_anomalies=4, verbose=0, validation_data=(x, y))
print(model.jit_compile, count, model.step_function().experimental_get_tracing_count())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "x"), [("make", "photographs(37)"), ("bigan_cases.make", "bigan_cases.rows(37)")]
)
def test_a_run_is_compiled_once(make, x, tmp_path):
    """Counted by what XLA writes of each program it compiles, over 16 steps, 4 epochs, 2 calls of fit."""
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    said = in_a_process(FIT.format(make=make, x=x), XLA_FLAGS=flags)
    assert said.split() == ["True", "1", "1"]
    programs = [path.name.split(".")[1] for path in tmp_path.glob("module_*before_optimizations.txt")]
    assert sorted(name.rsplit("_", 3)[0] for name in programs) == [
        "a_inference_on_data",  # the training step
        "a_inference_one_step_on_data",  # scores for validation
    ]


DETERMINISTIC = """
import keras, numpy as np
from agad_tf.training import hardware
print(*hardware.prepare(deterministic=True)[:1])
import bigan_cases
from agad_tf.errors import InputError
states = []
for _ in range(2):
    keras.utils.set_random_seed(0)
    model = bigan_cases.make(score="reconstruction")
    model.fit(bigan_cases.rows(37), np.repeat([0, 1], [32, 5]), 12, min_anomalies=4, verbose=0)
    states.append([np.array(variable) for variable in model.variables])
print(all((a == b).all() for a, b in zip(*states)))
try:
    model.compile(jit_compile=True)
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_deterministic_operations_alone():
    precision, equal, refusal = in_a_process(DETERMINISTIC).splitlines()
    assert (precision, equal) == ("float32", "True")
    assert refusal.startswith("jit_compile expects False or 'auto' where operations must be deterministic")
