"""A few hundred malformed files, requests and tables, and damage at every door; more in `benchmarks/`."""

import numpy as np
import pytest
from malformed_cases import BAD, DAMAGED, GOOD, expected, write_files
from malformed_checks import TARGETS, wrong_files
from malformed_doors import DOORS
from malformed_matrix import KINDS, OUTCOMES, Case, matrix, outcome

from agad_tf.errors import InputError


@pytest.mark.parametrize("target", TARGETS)
def test_no_crash_no_wrong_answer_and_nothing_good_lost(target, tmp_path):
    check, share = TARGETS[target]
    wrong = check(int(400 * share), 1, tmp_path)
    assert not wrong, "\n".join(wrong[:20])


def test_the_cases_are_as_good_and_as_bad_as_they_say(tmp_path):
    cases = write_files(tmp_path, 240, seed=0, odd_names=True)
    assert {case.kind for case in cases} == {*GOOD, *BAD, *DAMAGED}
    outcomes = {kind: set() for kind in DAMAGED}
    for case in cases:
        pixels = expected(case)
        if case.good is not None:
            assert (pixels is not None) == case.good
        else:
            outcomes[case.kind].add(pixels is not None)
    assert {True, False} <= set.union(*outcomes.values())  # some damage does not matter


def test_the_check_finds_what_it_looks_for(tmp_path):
    cases = [case for case in write_files(tmp_path, 9, seed=0) if case.good is not None]
    fine = [None if case.good else "expected a readable image" for case in cases]
    scores = np.full(len(cases), -100.0)
    good, bad = (next(i for i, case in enumerate(cases) if case.good is kind) for kind in (True, False))
    assert len(wrong_files(cases, fine, scores)) == sum(case.good for case in cases)  # scores that are wrong
    for index, error, words in ((good, "expected", "not scored"), (bad, None, "though it cannot be")):
        broken = [error if i == index else value for i, value in enumerate(fine)]
        assert any(words in line for line in wrong_files(cases, broken, scores))


LONG = ("run folders", "exports, SavedModel", ".keras files")
"""Doors at which a case takes seconds."""


@pytest.mark.parametrize(
    "door", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in DOORS]
)
def test_every_kind_at_every_door(door, tmp_path):
    counts, wrong = matrix({door: DOORS[door]}, 2, 1, tmp_path)
    assert not wrong, "\n".join(wrong)
    assert counts[door].keys() <= set(KINDS)
    assert all(sum(cell.values()) == 2 for cell in counts[door].values())


def raising(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("found", "call", "right"),
    [
        ("refused", raising(InputError("expected this, received that")), [1.0]),
        ("refused", lambda: [np.nan], None),
        ("harmless", lambda: [1.0, 2.0], [1.0, 2.0]),
        ("wrong", lambda: [1.0, 2.5], [1.0, 2.0]),
        ("wrong", lambda: [1.0], None),
        ("traceback", raising(KeyError("x")), [1.0]),
        ("traceback", raising(InputError("several\nlines")), [1.0]),
        ("lost", lambda: [1.0], [1.0, 2.0]),
    ],
)
def test_the_matrix_finds_what_it_looks_for(found, call, right):
    assert found in OUTCOMES
    assert outcome(Case("", call, right))[0] == found
