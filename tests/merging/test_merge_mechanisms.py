"""What becomes of each mechanism, on planted outcomes: kept, lost, gained, averaged, taken, or open."""

from __future__ import annotations

import pytest
import torch

import mechconn as mc
from planted_merges import PARENTS, ROWS, A, Reader, judge, plant, right_on
from zoo import Batch

REFERENCE = plant(right_on(900), right_on(900), right_on(900))


def changed(a: int, merged: int, b: int) -> Batch:
    """Rows on which the networks are right as often as this; 900 is what they are right on without the change."""
    return plant(*(right_on(count) for count in (a, merged, b)))


def fate_of(split: Batch) -> mc.MechanismFate:
    return judge(cue=REFERENCE, rand_cue=split, tolerance=0.9).before.fates["rand_cue"]


@pytest.mark.parametrize(
    ("counts", "fate", "of"),
    [
        ((400, 400, 400), "keeps", ("a", "b")),
        ((200, 600, 450), "keeps", ("a", "b")),  # all rely on it, each by its own amount
        ((900, 900, 900), "keeps", ("a", "b")),
        ((400, 900, 900), "loses", ("a",)),
        ((400, 895, 300), "loses", ("a", "b")),
        ((900, 400, 900), "gains", ()),
        ((1000, 700, 1000), "gains", ()),  # the change helps the parents and harms the merged network
        ((400, 650, 900), "averages", ("a", "b")),
        ((900, 650, 400), "averages", ("b", "a")),
        ((400, 860, 900), "averages", ("a", "b")),  # not settled by itself, and yet between the two
        ((400, 400, 900), "takes", ("a",)),
        ((400, 300, 900), "takes", ("a",)),
        ((400, 855, 850), "undetermined", ()),
        ((850, 900, 900), "undetermined", ()),
    ],
)
def test_the_fate_is_that_of_the_definitions(counts: tuple[int, int, int], fate: str, of: tuple[str, ...]) -> None:
    found = fate_of(changed(*counts))
    assert (found.fate, found.of) == (fate, of)


def test_what_is_open_is_named_and_what_would_settle_it() -> None:
    found = fate_of(changed(848, 900, 848))
    assert found.undetermined == ("a", "b") and found.to_settle is not None and found.to_settle > ROWS
    merged = judge(cue=REFERENCE, rand_cue=changed(848, 900, 848), tolerance=0.9)
    assert "rand_cue undetermined (not settled on a and b; about" in "\n".join(merged.findings)


def test_differences_of_effects_are_those_within_rows() -> None:
    found = fate_of(changed(400, 650, 900))
    assert {name: apart.effect for name, apart in found.differences.items()} == pytest.approx({"a": 0.25, "b": -0.25})
    suite = mc.Suite({"cue": REFERENCE, "rand_cue": changed(400, 650, 900)})
    apart = mc.compare_mechanisms(A, Reader(1.0), suite).differences["rand_cue"]
    low, high = found.differences["a"].interval  # at 97.5 %, shared by two parents
    assert apart.effect == found.differences["a"].effect and low < apart.interval[0] and high > apart.interval[1]


def test_verdicts_are_those_of_one_family_of_all_networks() -> None:
    """An effect that a network alone would settle is open among many: six bounds share what two did."""
    close = changed(863, 863, 863)
    found = judge(cue=REFERENCE, rand_cue=close, more=close, tolerance=0.9)
    alone = mc.measure_invariance(A, mc.Suite({"cue": REFERENCE, "rand_cue": close}))["rand_cue"]
    together = found.parents["a"]["rand_cue"]
    assert together.effect == alone.effect and together.interval == alone.interval
    assert together.adjusted_p_value > alone.adjusted_p_value
    assert together.adjusted_interval[0] < alone.adjusted_interval[0]
    assert found.before.invariance.interventions == ("rand_cue", "more")


def test_a_network_of_one_answer_is_invariant_and_that_says_nothing() -> None:
    """The Reader of column 2 gives the label always, which is one class."""
    x, y = plant(right_on(900), right_on(900), right_on(ROWS))
    found = judge(cue=(x, y), rand_cue=changed(400, 900, ROWS), tolerance=0.9)
    assert found.parents["b"]["rand_cue"].caveat
    assert any(said.startswith("What b is invariant to says nothing about what it uses") for said in found.findings)


def test_rows_of_several_draws_count_with_their_means() -> None:
    first, second = changed(400, 500, 900), changed(600, 800, 900)
    suite = mc.Suite({"cue": REFERENCE, "rand_cue": first}, redraws={"rand_cue": [second]})
    found = mc.merge(PARENTS, mc.Mean(), suite)
    differences = {(pair.parent, pair.split): pair.difference for pair in found.before.differences}
    assert differences["a", "rand_cue"] == pytest.approx(0.65 - 0.5)
    assert differences["b", "rand_cue"] == pytest.approx(0.65 - 0.9)
    assert found.parents["a"]["rand_cue"].draws == 2


def test_three_parents_of_which_two_differ() -> None:
    """The states of all parents count: the mean of columns 0, 1 and 2 reads column 1, which is b's as well."""
    models: dict[str, torch.nn.Module] = {"a": Reader(0.0), "b": Reader(1.0), "c": Reader(2.0)}
    found = judge(cue=REFERENCE, rand_cue=changed(400, 400, 900), models=models, tolerance=0.9)
    fate = found.before.fates["rand_cue"]
    assert (fate.fate, fate.of, set(fate.differences)) == ("takes", ("a", "b"), {"a", "b", "c"})


def test_a_suite_without_interventions_gives_the_verdict_alone() -> None:
    found = judge(cue=REFERENCE)
    assert found.verdict == "yes" and found.before.fates == {} and found.before.invariance.effects == {}
    assert [section.title for section in found.sections()] == [
        "The same samples in every split",
        "How often each is right",
        "The merged network against every parent",
        "What these rows can show",
    ]


def test_splits_that_are_no_interventions_count_for_the_verdict_and_have_no_fate() -> None:
    suite = mc.Suite({"cue": REFERENCE, "no_cue": changed(900, 500, 900)}, interventions=())
    found = mc.merge(PARENTS, mc.Mean(), suite)
    assert found.verdict == "no" and found.before.fates == {} and set(found.before.invariance.effects) == {"no_cue"}
