"""Planted truth: networks that met a cue, hide it, avoid it, or never met it, judged by relearning."""

from __future__ import annotations

from typing import Any

import pytest

import mechconn as mc
from mechconn.core import TensorPair
from planted_cues import cue_only, head_retrained, measure, met, never_met, rescaled, suite

DRAWS = (0, 1, 2)
each_draw = pytest.mark.parametrize("draw", DRAWS)
BY_REQUEST = (
    "the networks were not balanced, so that the scales of hidden units may decide how fast they relearn: "
    "this was asked for"
)


def of(draw: int) -> dict[str, Any]:
    return {"data": cue_only(draw), "suite": suite(draw)}


@each_draw
def test_a_network_that_met_the_cue_uses_it(draw: int) -> None:
    found = measure(met(draw), never_met(draw), **of(draw))
    assert (found.state, found.verdict) == ("uses", "hidden")
    assert found.runs[0].before["rand_cue"].effect < -0.3
    assert str(found).startswith("The network uses the mechanism: rand_cue changes its accuracy by -")


@each_draw
def test_features_that_are_kept_below_a_retrained_head_hide_the_cue(draw: int) -> None:
    """Before relearning both follow the cue no better than chance; against a network tuned alike."""
    found = measure(head_retrained(met(draw), draw), head_retrained(never_met(draw), draw), **of(draw))
    (run,) = found.runs
    assert found.verdict == run.verdict == "hidden" and run.excess > 0.1
    assert run.curve.means[0] < 0.3 and abs(run.at_start) < 0.1
    assert run.at_start_interval[0] <= run.at_start <= run.at_start_interval[1]
    assert run.to_settle is None


def test_a_network_that_is_invariant_and_relearns_at_once_is_hidden() -> None:
    found = measure(head_retrained(met(1), 1), head_retrained(never_met(1), 1), **of(1), margin=0.1)
    assert found.runs[0].before["rand_cue"].verdict == "invariant" and found.state == found.verdict == "hidden"
    assert str(found).startswith("The network hides the mechanism: rand_cue changes its accuracy by ")


@pytest.mark.parametrize(
    ("draw", "scale", "of_control"),
    [(0, 1.0, 1.0), (1, 1.0, 1.0), (2, 1.0, 1.0), (0, 100.0, 1.0), (1, 100.0, 1.0), (2, 0.01, 1.0), (0, 1.0, 0.01)],
)
def test_a_network_that_never_met_the_cue_lacks_it_whatever_the_scales(
    draw: int, scale: float, of_control: float
) -> None:
    found = measure(rescaled(never_met(draw, 2), scale), rescaled(never_met(draw), of_control), **of(draw))
    assert (found.state, found.verdict, found.notes) == ("gone", "gone", ())
    assert str(found).startswith("The network lacks the mechanism: ")


@pytest.mark.parametrize("draw", (0, 1))
def test_without_balancing_scales_decide_and_a_note_says_so(draw: int) -> None:
    """Features that are five times smaller, below a head five times larger: what was never met counts as hidden."""
    found = measure(rescaled(never_met(draw, 2), 0.2), never_met(draw), **of(draw), symmetry="none")
    assert found.verdict == "hidden"
    assert found.notes == (BY_REQUEST,) and f"note: {BY_REQUEST}" in str(found)


@pytest.mark.parametrize("draw", (0, 1))
def test_a_network_that_relearns_more_slowly_than_its_control_lacks_the_cue(draw: int) -> None:
    found = measure(never_met(draw, 2), rescaled(never_met(draw), 0.2), **of(draw), symmetry="none")
    (run,) = found.runs
    assert run.interval[1] < 0 and (found.state, run.verdict) == ("gone", "gone")


@pytest.mark.parametrize(("draw", "verdict"), ((0, "gone"), (2, "undetermined")))
def test_a_network_that_the_cue_misleads_avoids_it(draw: int, verdict: str) -> None:
    """On the second draw neither side learns the cue in these steps, so that relearning says nothing."""
    found = measure(met(draw, "against"), never_met(draw), **of(draw), margin=0.1)
    effect = found.runs[0].before["rand_cue"]
    assert (effect.verdict, effect.effect > 0.1) == ("sensitive", True)
    assert (found.state, found.verdict) == ("avoids", verdict)
    assert any("taught neither" in note for note in found.notes) == (verdict == "undetermined")
    assert "The network avoids the mechanism" in found.headline and f"Relearning says {verdict}" in found.headline


def test_others_are_drawn_and_decide_nothing() -> None:
    few = {"relearning": mc.Relearning(steps=(0, 20, 40), seeds=2), "suite": suite(0, 80)}
    alone = measure(never_met(0, 2), never_met(), **few)
    found = measure(never_met(0, 2), never_met(), **few, others={"theta_C": met()})
    assert list(found.others) == ["theta_C"] and found.others["theta_C"].means[-1] > 0.6
    assert found.runs[0].interval == alone.runs[0].interval and found.states == alone.states
    assert {row["network"] for row in found.rows()} == {"model", "control", "theta_C"}


def test_against_a_placebo_a_hidden_cue_is_found_and_labelled() -> None:
    """The placebo stands in the cue's place, with its values in another order."""
    x, y = cue_only()
    measured = suite()["rand_image"]
    assert isinstance(measured, TensorPair)
    order = [*range(12), 13, 14, 15, 16, 17, 12]
    placebo = mc.Placebo((x[:, order], y), (measured.x[:, order], measured.y))
    found = measure(met(), placebo=placebo)
    assert found.compared_with == "placebo" and found.verdict == "hidden"
    assert "with a placebo, a mechanism of the same kind that it never met (weaker than a control: " in str(found)
    assert {row["network"] for row in found.rows()} == {"model", "placebo"}
    headings = [table.headings[3].text for table in found.tables() if table.headings[0].text == "run"]
    assert headings == ["excess over placebo"]
