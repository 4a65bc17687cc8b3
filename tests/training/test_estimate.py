"""What a training is expected to take, before it begins."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from agad_cases import make, values

from agad_tf.training import estimate as module
from agad_tf.training.configuration import configure
from agad_tf.training.estimate import MIB, Estimate, estimate, tell

SETTINGS = [("epochs", 3), ("batch_size", 8), ("min_anomalies", 2)]
CONFIGURATION = configure("agad", settings=SETTINGS)


@pytest.fixture
def machine(monkeypatch):
    """One without a GPU, that has 5000 MiB left, with a process of 700, and whose clock ticks by .5 s."""
    clock = SimpleNamespace(now=0.0)

    def tick():
        clock.now += 0.5
        return clock.now

    monkeypatch.setattr(module, "of_process", lambda name: 700.0)
    monkeypatch.setattr(module, "_available", lambda: 5000.0)
    monkeypatch.setattr(module.tf.config, "list_physical_devices", lambda kind=None: [])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=tick))


def test_it_grows_with_the_batch_and_changes_nothing(machine):
    model = make((16, 16, 1))
    before = values(model.variables)
    small, large = estimate(model, 8), estimate(model, 64)
    assert small.seconds == module.PASSES * 0.5  # the passes of eight images
    assert large.seconds == 4 * small.seconds  # of sixteen, four times
    assert small.free == 5700
    weights = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    fixed = 700 + module.GRAPH + 4 * module.COPIES * weights / MIB
    # Kernels are values too, and grow with no batch.
    assert 5 < (large.mib - fixed) / (small.mib - fixed) <= 8
    assert small.mib > fixed
    for value, now in zip(before, values(model.variables), strict=True):
        np.testing.assert_array_equal(value, now)


def test_it_counts_the_values_of_each_layer():
    x = module.tf.keras.Input((4, 4, 1), batch_size=2)
    network = module.tf.keras.Model(x, module.tf.keras.layers.Conv2D(3, 3, padding="same", use_bias=False)(x))
    function = module.tf.function(network).get_concrete_function(module.tf.TensorSpec((2, 4, 4, 1)))
    assert module._values(function.graph) == 2 * 4 * 4 * 3 * 4


def test_a_run_is_told_of(machine, caplog, monkeypatch):
    model = make((16, 16, 1))
    # Batches of 8 with two anomalies hold six normals: 5 steps an epoch.
    assert tell(model, CONFIGURATION, 30, 4).startswith(
        "expect about 49 s for all 15 steps, counted from the first, on this machine, and "
    )
    left_out = configure("agad", settings=[*SETTINGS, ("left_out", True)])
    assert "left_out" not in tell(model, CONFIGURATION, 30, 4)
    assert "left_out=true adds a training about as long for each kind" in tell(model, left_out, 30, 4)
    assert not caplog.records
    monkeypatch.setattr(module, "_available", lambda: 10.0)
    with caplog.at_level(logging.WARNING, "agad_tf"):
        tell(model, CONFIGURATION, 30, 4)
    assert "GiB are free: lower --batch-size or --image-size" in caplog.text


def test_nothing_is_told_where_nothing_is_known(machine, monkeypatch):
    assert tell(SimpleNamespace(), CONFIGURATION, 30, 4) is None
    monkeypatch.setattr(module, "of_process", lambda name: None)
    assert tell(make((16, 16, 1)), CONFIGURATION, 30, 4) is None
    assert Estimate(1.0, 100.0, None).fits
