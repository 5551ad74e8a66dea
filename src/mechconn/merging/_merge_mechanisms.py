r"""What becomes of each mechanism in a merged network: kept, lost, gained, averaged, taken from one parent.

The *state* of a network under an intervention is read off its verdict (`mechconn.mechanisms`): it relies on what the
intervention changes (sensitive, with the sign of the effect), is invariant, or undetermined. Let s_i be the states of
the parents and s that of the merged network.

    keeps:        all s_i are one settled state, and s is that
    loses:        some s_i is sensitive, and s is invariant
    gains:        every s_i is settled, and s is sensitive with a sign that no s_i has
    averages:     the s_i differ, s is not invariant, and the effect lies strictly between those of two parents
    takes:        the s_i differ, s is sensitive with a sign that some s_i has, and none of the above is shown
    undetermined: else; parents that are not settled count as differing from none.

**Error.** The effects of all networks under all interventions are judged as one family, parents and merged networks
together: all states are right together with probability 95 % at least (`mechconn.mechanisms._judge`), and with them
every "keeps", "loses" and "gains". "averages" rests on differences of effects within rows besides, merged network
minus parent: their intervals hold together for all networks, parents and interventions with 95 % at least
(Bonferroni), whichever of them is looked at. So all of these words are right together with 90 % at least. "takes" says
what is known of the states; that the effect does not lie between the parents' it does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mechconn.datasets import Suite
from mechconn.mechanisms import (
    ALPHA,
    Difference,
    DifferenceEvidence,
    Effect,
    Invariance,
    ModelOutcome,
    On,
    collect_evidence,
    compare_over_samples,
    compare_read_over_samples,
    judge_family,
    make_invariance,
)

Fate: TypeAlias = Literal["keeps", "loses", "gains", "averages", "takes", "undetermined"]
State: TypeAlias = Literal["harmed", "helped", "invariant", "undetermined"]


@dataclass(frozen=True)
class MechanismFate:
    """What becomes of one mechanism.

    Attributes:
        fate: "keeps", "loses", "gains", "averages", "takes" or "undetermined".
        of: the parents concerned: whose state it keeps or takes, of whom it loses it, between whom it averages.
        undetermined: the networks whose verdict is not settled, "merged" among them.
        differences: parent -> effect on the merged network minus that on the parent; the intervals hold together for
            all parents and interventions, and for both merged networks where there are two, with 95 %.
        to_settle: of "undetermined": the most rows that one of the open verdicts needs; None where that is not known.
    """

    fate: Fate
    of: tuple[str, ...] = ()
    undetermined: tuple[str, ...] = ()
    differences: Mapping[str, Difference] = field(default_factory=dict)
    to_settle: int | None = None


MERGED = "merged"


def judge_together(outcomes: Mapping[str, ModelOutcome], suite: Suite, margin: float, on: On) -> dict[str, Invariance]:
    """Every network's effects, with verdicts that are right for all networks and interventions together."""
    evidence, places = collect_together(outcomes, suite, on)
    judged = judge_family({places[key]: own for key, own in evidence.items() if key[1] in suite.interventions}, margin)
    for key, own in evidence.items():
        if key[1] not in suite.interventions:
            judged |= judge_family({places[key]: own}, margin)
    splits = [split for split in suite if split != suite.reference]
    return {
        name: make_invariance(outcome, suite, margin, on, {split: judged[places[name, split]] for split in splits})
        for name, outcome in outcomes.items()
    }


def collect_together(
    outcomes: Mapping[str, ModelOutcome], suite: Suite, on: On
) -> tuple[dict[tuple[str, str], DifferenceEvidence], dict[tuple[str, str], str]]:
    """((network, split) -> what is known of the effect there, (network, split) -> what it is called in a family)."""
    evidence = {
        (name, split): own
        for name, outcome in outcomes.items()
        for split, own in collect_evidence(outcome, suite, on).items()
    }
    numbers = {name: number for number, name in enumerate(outcomes)}
    return evidence, {(name, split): f"{numbers[name]}, {split}" for name, split in evidence}


def compare_effects(
    parents: Mapping[str, ModelOutcome], merged: ModelOutcome, suite: Suite, on: On, networks: int
) -> dict[str, dict[str, Difference]]:
    """Intervention -> parent -> how far the effects lie apart, at a confidence shared by all of them.

    Args:
        parents: their outcomes.
        merged: those of the merged network.
        suite: the splits.
        on: what effects are on.
        networks: how many merged networks share the confidence.
    """
    if not suite.interventions:
        return {}
    confidence = 1 - ALPHA / (networks * len(parents) * len(suite.interventions))
    compare = compare_read_over_samples if merged.read else compare_over_samples
    found = {name: compare(outcome, merged, suite, on, confidence) for name, outcome in parents.items()}
    return {split: {name: own[split] for name, own in found.items()} for split in suite.interventions}


def find_fates(
    parents: Mapping[str, Invariance], merged: Invariance, differences: Mapping[str, Mapping[str, Difference]]
) -> dict[str, MechanismFate]:
    """Intervention -> what becomes of what it changes."""
    return {
        split: _find_fate({name: found[split] for name, found in parents.items()}, merged[split], apart)
        for split, apart in differences.items()
    }


def _find_fate(parents: Mapping[str, Effect], merged: Effect, apart: Mapping[str, Difference]) -> MechanismFate:
    states: dict[str, State] = {name: _read_state(effect) for name, effect in parents.items()}
    own = _read_state(merged)
    open_ones = {name: effect for name, effect in parents.items() if states[name] == "undetermined"}
    if own == "undetermined":
        open_ones[MERGED] = merged
    for rule in (_find_kept, _find_lost, _find_gained):
        if found := rule(states, own):
            return MechanismFate(*found, undetermined=tuple(open_ones), differences=apart)
    differ = len(set(states.values()) - {"undetermined"}) > 1
    if differ and (between := _find_between(parents, apart)):
        return MechanismFate("averages", between, tuple(open_ones), apart)
    shared = tuple(name for name, state in states.items() if state == own != "undetermined")
    if differ and shared and own != "invariant":
        return MechanismFate("takes", shared, tuple(open_ones), apart)
    needed = [effect.to_settle for effect in open_ones.values()]
    known = [count for count in needed if count is not None]
    to_settle = max(known) if known and len(known) == len(needed) else None
    return MechanismFate("undetermined", (), tuple(open_ones), apart, to_settle)


def _read_state(effect: Effect) -> State:
    if effect.verdict != "sensitive":
        return effect.verdict
    return "helped" if effect.effect > 0 else "harmed"


Found: TypeAlias = tuple[Fate, tuple[str, ...]] | None


def _find_kept(states: Mapping[str, State], own: State) -> Found:
    return ("keeps", tuple(states)) if own != "undetermined" and set(states.values()) == {own} else None


def _find_lost(states: Mapping[str, State], own: State) -> Found:
    relying = tuple(name for name, state in states.items() if state in ("harmed", "helped"))
    return ("loses", relying) if own == "invariant" and relying else None


def _find_gained(states: Mapping[str, State], own: State) -> Found:
    settled = "undetermined" not in states.values()
    return ("gains", ()) if own in ("harmed", "helped") and settled and own not in states.values() else None


def _find_between(parents: Mapping[str, Effect], apart: Mapping[str, Difference]) -> tuple[str, ...]:
    """(the parent of the least effect, that of the largest) where the merged network's is shown to lie between."""
    least, most = (choose(parents, key=lambda name: parents[name].effect) for choose in (min, max))
    above, below = apart[least].interval[0] > 0, apart[most].interval[1] < 0
    return (least, most) if above and below else ()
