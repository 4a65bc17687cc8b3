"""What the speed benchmarks count and compare with, without PyTorch."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import flops  # noqa: E402
import training_speed  # noqa: E402
from speed_worker import Worker  # noqa: E402

from agad_tf.networks import EncoderDecoder, UNet  # noqa: E402
from agad_tf.networks.bigan_conv import dcgan_discriminators  # noqa: E402


def test_operations_of_the_naive_generator():
    half = 2 * (16 * 16 * 16 * 64 + 8 * 8 * 16 * 64 * 128 + 4 * 4 * 16 * 128 * 256 + 16 * 256 * 100)
    network = EncoderDecoder((32, 32, 1))
    assert flops.forward(network, (32, 32, 1)) == 2 * half  # its second half mirrors the first
    assert flops.forward(network, (32, 32, 1)) == 2 * half  # counting leaves nothing behind


def test_operations_grow_with_the_pixels():
    small, large = (flops.forward(UNet((side, side, 1)), (side, side, 1)) for side in (16, 32))
    assert large == 4 * small


def test_operations_of_a_pair():
    joint, _ = dcgan_discriminators((32, 32, 1), 100, "float32")
    trunk = 2 * (16 * 16 * 16 * 64 + (8 * 8 + 4 * 4 + 2 * 2) * 16 * 64 * 64)
    dense = 2 * (100 * 512 + 768 * 1024 + 1024)
    assert flops.forward(joint, (32, 32, 1), (100,)) == trunk + dense
    assert flops.forward(joint.trunk, (32, 32, 1)) == trunk


def test_operations_of_steps():
    assert flops.agad_step(generator=10, discriminator=1, batch=4) == 4 * (60 + 7)
    # E 3, G 2 x 3; D's trunk 6 + 1, code 6 + 1, head 6 + 2; the towers of D' 3 + 6 + 1, its head 6 + 1
    assert flops.aa_bigan_step(1, 1, 1, 1, 1, 1, batch=2) == 2 * (3 + 6 + 7 + 7 + 8 + 10 + 7)


class Recorded:
    """Stands for a worker that takes `seconds` for everything and writes down who was asked."""

    def __init__(self, seconds, asked):
        self.seconds, self.asked = seconds, asked

    def ask(self, run, count):
        self.asked.append(run)
        return [{"wall": 2 * self.seconds, "processor": self.seconds}] * count


def test_everybody_takes_turns_and_ratios_are_ours_over_theirs():
    asked = []
    results = training_speed.rounds_of({"a": Recorded(1, asked), "b": Recorded(4, asked)}, rounds=3, count=2)
    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert len(results["a"]) == 6
    assert training_speed.seconds(results["b"]) == {"wall": 8, "processor": 4}
    ratio = training_speed.ratio(results["a"], results["b"])
    assert ratio == {"wall": 0.25, "processor": 0.25, "processor_quartiles": [0.25, 0.25]}


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from speed_worker import serve

def make(what):
    if what == "impossible":
        raise ValueError("cannot")
    calls = []
    print("not an answer")
    return lambda: calls.append(len(calls)), {{"said": what}}

serve(make)
"""


def test_a_worker_answers_and_says_what_it_cannot(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(SCRIPT.format(folder=str(BENCHMARKS)))
    with Worker(sys.executable, str(script), threads=1) as worker:
        assert worker.ask(make="one", job={"what": "x"})["said"] == "x"
        assert [set(one) for one in worker.ask(run="one", count=2)] == [{"wall", "processor"}] * 2
        with pytest.raises(RuntimeError, match="ValueError: cannot"):
            worker.ask(make="two", job={"what": "impossible"})
        assert worker.ask(peak=True) > 1
    assert worker.process.returncode == 0
