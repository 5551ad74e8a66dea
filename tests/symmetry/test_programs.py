"""Random programs over the operations that symmetry finding knows: the function stays, and units are found."""

from __future__ import annotations

import random

import hypothesis
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechconn as mc
from mechconn.core import isolate_rng
from symmetry.check import largest_change_under, list_actions_alone
from symmetry.programs import program

EXAMPLES = 40
SEEN: list[mc.Symmetry] = []


@hypothesis.settings(max_examples=EXAMPLES)
@given(st.integers(0, 2**32 - 1))
def test_moving_the_units_found_changes_nothing(seed: int) -> None:
    with isolate_rng(seed, "random program"):
        model, inputs = program(random.Random(seed))
    symmetry = mc.symmetry_of(model, inputs)
    elements = [symmetry.random(0), *list_actions_alone(symmetry)]
    assert largest_change_under(model, inputs, symmetry, elements) <= 1e-9
    SEEN.append(symmetry)


def test_most_programs_have_units_that_may_be_permuted() -> None:
    while len(SEEN) < 10:  # where this test runs alone, or on another worker
        with isolate_rng(len(SEEN), "random program"):
            model, inputs = program(random.Random(len(SEEN)))
        SEEN.append(mc.symmetry_of(model, inputs))
    free = [symmetry for symmetry in SEEN if symmetry.sizes]
    assert len(free) >= 0.7 * len(SEEN)
    assert sum(symmetry.coverage for symmetry in SEEN) >= 0.6 * len(SEEN)
    assert any(symmetry.unknown for symmetry in SEEN) or len(SEEN) < EXAMPLES
    kinds = {action.kind for symmetry in SEEN for action in symmetry.actions}
    assert kinds == {"sign", "scale", "linear"} or len(SEEN) < EXAMPLES


def test_one_seed_makes_one_program() -> None:
    made = []
    for _ in range(2):
        with isolate_rng(5, "random program"):
            model, inputs = program(random.Random(5))
        made.append((str(model), inputs, model(inputs)))
    assert made[0][0] == made[1][0] and all(torch.equal(a, b) for a, b in zip(made[0][1:], made[1][1:], strict=True))
