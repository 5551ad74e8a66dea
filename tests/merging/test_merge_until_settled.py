"""Merges judged on as many rows as settle every verdict: the same answers, their errors, what is read, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import mechconn as mc
from planted_merges import PARENTS, plant
from zoo import Batch

ROWS = 6000


def draw(seed: int, *shares: float, rows: int = ROWS) -> Batch:
    """Rows in random order on which (a, merged, b) are right with chances of their own, as far as may be together."""
    level = torch.rand(rows, generator=torch.Generator().manual_seed(seed))
    sides: list[Tensor] = [level < share for share in shares]
    return plant(sides[0], sides[1], sides[2])


def judge(until: str, *, tolerance: float = 0.03, seed: int = 0, **splits: Batch) -> mc.Merged:
    names = list(splits)
    own: Any = tuple(names[1:])
    suite = mc.Suite(splits, reference=names[0], interventions=own)
    return mc.merge(PARENTS, mc.Mean(), suite, tolerance=tolerance, until=until, seed=seed)  # pyright: ignore


CASES: dict[str, tuple[tuple[float, ...], tuple[float, ...], str]] = {
    "as good": ((0.9, 0.9, 0.9), (0.89, 0.9, 0.9), "yes"),
    "worse on one split": ((0.9, 0.9, 0.9), (0.9, 0.6, 0.9), "no"),
    "better": ((0.8, 0.95, 0.8), (0.8, 0.95, 0.8), "yes"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdicts_are_those_of_all_rows_from_fewer(case: str) -> None:
    cue, other, verdict = CASES[case]
    splits: dict[str, Any] = {"cue": draw(0, *cue), "rand_cue": draw(1, *other)}
    whole, found = judge("end", **splits), judge("settled", **splits)
    assert found.verdict == whole.verdict == verdict
    for pair, same in zip(found.before.differences, whole.before.differences, strict=True):
        assert pair.verdict == same.verdict != "undetermined" and pair.samples < ROWS
        assert pair.interval[0] <= pair.difference <= pair.interval[1]
    fates = {name: fate.fate for name, fate in whole.before.fates.items()}
    assert {name: fate.fate for name, fate in found.before.fates.items()} == fates
    for name in PARENTS:
        assert found.parents[name].sensitive_to == whole.parents[name].sensitive_to
        assert found.parents[name].invariant_to == whole.parents[name].invariant_to
    (note,) = [note for note in found.notes if note.startswith("rows were read as far as the verdicts needed them")]
    assert "of 6,000" in note and "estimates at stopping are biased" in note
    assert found.settings["until"] == "settled" and found.power == ()
    assert mc.load_result(found.to_dict()).to_dict() == found.to_dict() and len(found.sections()) >= 2


def test_an_effect_between_those_of_the_parents_is_read_until_it_is_shown() -> None:
    """On a the intervention costs 60 points, on b none, on the merged network 30: sensitive soon, averaged later."""
    splits: dict[str, Any] = {"cue": draw(0, 0.9, 0.9, 0.9), "rand_cue": draw(1, 0.3, 0.6, 0.9)}
    found = judge("settled", **splits)
    assert found.before.fates["rand_cue"].fate == judge("end", **splits).before.fates["rand_cue"].fate == "averages"


def test_where_nothing_settles_all_rows_are_read_and_power_is_theirs() -> None:
    splits: dict[str, Any] = {"cue": draw(0, 0.9, 0.9, 0.9, rows=400)}
    found, whole = judge("settled", tolerance=1e-4, **splits), judge("end", tolerance=1e-4, **splits)
    assert found.verdict == "undetermined" and found.before.differences[0].samples == 400
    (power,), (same,) = found.power, whole.power
    assert power.units == same.units == 400 and power.least_tolerance > same.least_tolerance  # half of the level
    assert [pair.difference for pair in found.before.differences] == pytest.approx(
        [pair.difference for pair in whole.before.differences]
    )


def test_a_merged_network_that_is_a_parent_takes_no_rows_against_that_one() -> None:
    suite = mc.Suite({"cue": draw(0, 0.9, 0.9, 0.9)}, reference="cue", interventions=())
    found = mc.judge_merged(PARENTS, PARENTS["a"], suite, tolerance=1e-4, splits=["cue"], until="settled")
    first, second = found.before.differences
    assert first.same_network and (first.verdict, first.difference) == ("not worse", 0.0)
    assert second.verdict == "undetermined" and second.samples == ROWS  # as right as the other on every row
    soon = mc.judge_merged(PARENTS, PARENTS["a"], suite, tolerance=0.1, until="settled")
    assert soon.verdict == "yes" and soon.before.differences[0].samples < ROWS


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "wrong"), [(0.0301, "not worse"), (0.0299, "worse")])
def test_a_loss_near_the_tolerance_is_called_wrong_in_few_draws(loss: float, wrong: str) -> None:
    """Of 20 draws 5 % are 1; with that chance 5 or more come in one of four hundred."""
    found = []
    for seed in range(20):
        data = draw(seed, 0.9, 0.9 - loss, 0.0, rows=1000)
        found.append(judge("settled", cue=data).before.differences[0].verdict)
    assert found.count(wrong) <= 4


def test_what_cannot_be_settled_is_refused() -> None:
    suite = mc.Suite({"cue": draw(0, 0.9, 0.9, 0.9, rows=100)}, reference="cue", interventions=())
    with pytest.raises(ValueError, match="until='settled' needs values with a least and a largest, and the loss"):
        mc.merge(PARENTS, mc.Mean(), suite, on="loss", until="settled")
    with pytest.raises(ValueError, match="until must be one of 'end', 'settled', got 'soon'"):
        mc.merge(PARENTS, mc.Mean(), suite, until="soon")  # pyright: ignore[reportArgumentType]
