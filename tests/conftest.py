"""CPU only, two of them (virtual) for tests of replicas, quiet, and the same random numbers in every test."""

import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Two test processes share two cores; OpenMP threads that wait for one another by spinning take both.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session", autouse=True)
def _two_cpus():
    """Before the first tensor of the session; tests without TensorFlow do not wait for it."""
    if "tensorflow" not in sys.modules:
        return
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    except RuntimeError as error:
        raise RuntimeError(
            "a test module makes tensors while it is imported; make them in the tests"
        ) from error


@pytest.fixture(autouse=True)
def _seeds():
    if "tensorflow" in sys.modules:
        import keras

        keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def strategy():
    """MirroredStrategy over two replicas."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
