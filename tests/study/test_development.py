"""Development problems stay behind their wall, and the stability study resumes."""

import numpy as np
import pytest

from agad_tf.errors import InputError
from study.development import PROBLEMS, load_problem
from study.lines import read_lines
from study.stability import jobs
from study.switches import SWITCHES


@pytest.fixture(scope="module")
def mnist_like(tmp_path_factory):
    """An archive called mnist.npz in which every image carries its own number, so that rows can be told."""
    path = tmp_path_factory.mktemp("data") / "mnist.npz"
    x = np.zeros((1100, 8, 8), np.uint8)
    x[:, 0, 0], x[:, 0, 1] = np.divmod(np.arange(1100), 256)
    y = np.arange(1100) % 10
    np.savez(path, x_train=x[:1000], y_train=y[:1000], x_test=x[1000:], y_test=y[1000:])
    return path


def numbers(images):
    return set((images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 1, 0]).tolist())


def test_parts_are_disjoint_and_the_official_test_is_not_opened(mnist_like):
    first = load_problem(str(mnist_like), 5, 0.1, seed=0, normals=40, held_out=10)
    second = load_problem(str(mnist_like), 5, 0.1, seed=1, normals=40, held_out=10)
    parts = [numbers(part) for part in (first.normal, first.anomaly, first.held_out, first.test_x)]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert max(set().union(*parts)) < 1000
    # The held-out fifth is the same for every seed, so no seed trains on what another tests on.
    assert numbers(first.test_x) == numbers(second.test_x)
    assert numbers(first.normal) != numbers(second.normal)
    assert not numbers(second.normal) & numbers(first.test_x)
    assert all(number % 10 == 5 for number in numbers(first.normal) | numbers(first.held_out))
    assert all(number % 10 != 5 for number in numbers(first.anomaly))
    assert len(first.anomaly) == round(len(first.normal) * 0.1 / 0.9)
    labels = [
        number % 10 != 5 for number in (first.test_x[:, 0, 0, 0].astype(int) * 256 + first.test_x[:, 0, 1, 0])
    ]
    assert labels == first.test_y.astype(bool).tolist()


def test_report_problems_are_refused(mnist_like):
    with pytest.raises(InputError, match="development problem"):
        load_problem(str(mnist_like), 8, 0.0, seed=0)


def test_plans_cover_what_they_say():
    forty = jobs(4, "forty")
    for mode in ("default", "literal"):
        of_mode = [job for job in forty if job.switch == mode]
        assert len(of_mode) == len({job.key for job in of_mode}) == 40
        assert {(job.source, job.normal_class) for job in of_mode} == set(PROBLEMS)
        assert {job.gamma for job in of_mode} == {0.0, 0.05}
    provoked = {job.switch for job in jobs(plan="provoked")}
    assert provoked == {name for name, changed in SWITCHES.items() if changed.get("learning_rate") == 2e-3}
    assert {job.switch for job in jobs(plan="ledger")} == set(SWITCHES) - provoked
    assert {job.seed for job in jobs(3)} == {0, 1, 2}
    with pytest.raises(InputError, match="plan expects one of forty"):
        jobs(plan="fifty")


def test_an_interrupted_line_is_not_taken_for_a_run(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"switch": "default"}\n{"switch": "lit')
    assert read_lines(path) == [{"switch": "default"}]
    assert read_lines(tmp_path / "none.jsonl") == []
