"""What a search over scales found, in sentences that hold whatever the numbers are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechconn.connectivity import describe_norm, join_words
from mechconn.core import CUE, RAND_IMAGE
from mechconn.mechanisms import choose_effect_scale
from mechconn.merging._scale_verdict import ScaleClaim

if TYPE_CHECKING:
    from mechconn.merging._scale_search import ScaleSearch


def write_headline(found: ScaleSearch) -> str:
    """Does the change do what it is for, and where the target and the kept splits then stand."""
    if found.scale == 0:
        return f"No scale of the grid {_name_aim(found)}: {explain_zero(found)}."
    values = join_words([_write_move(found, split) for split in (found.target, *(split for split, _ in found.keep))])
    at = f"At scale {found.scale:g} the change"
    if found.verdict == "removes":
        held = f"{100 * (1 - found.enough):g} % or more of {found.target}" + (
            " and keeps the rest" if found.keep else ""
        )
        return f"{at} removes {held}: {values}."
    if found.verdict in ("lowers", "raises"):
        return f"{at} {found.verdict} {found.target}{' and keeps the rest' if found.keep else ''}: {values}."
    if found.verdict == "does not":
        return f"{at} does not do it: {write_reason(found)}; {values}."
    settle = "" if found.to_settle is None else f"; about {found.to_settle:,} {found.over} of a split would settle it"
    return f"Whether the change does it at scale {found.scale:g} is open{settle}: {values}."


def write_reason(found: ScaleSearch) -> str:
    """What the verdict rests on."""
    if found.scale == 0:
        return explain_zero(found)
    if found.verdict == "does not":
        refuted = [claim for claim in found.claims if claim.standing == "refuted" and claim.claim != "removes"]
        return join_words([_refute(found, claim) for claim in refuted])
    if found.verdict == "undetermined":
        opened = [claim for claim in found.claims if claim.standing == "open" and claim.claim != "removes"]
        return "not settled: " + join_words([describe_claim(found, claim) for claim in opened])
    shown = [describe_claim(found, claim) for claim in found.claims if claim.standing == "shown"]
    return f"{join_words(shown)}, on rows that did not choose the scale"


def explain_zero(found: ScaleSearch) -> str:
    """Why scale 0 was chosen."""
    able = [scale for scale, kept in zip(found.scales, found.kept, strict=True) if kept and scale]
    kept = join_words([f"{100 * share:g} % of {split}" for split, share in found.keep])
    if not able:
        return f"on the rows that choose, no scale but 0 keeps {kept}"
    return f"on the rows that choose, no scale that keeps{f' {kept}' if kept else ''} moves {found.target} that way"


def describe_claim(found: ScaleSearch, claim: ScaleClaim) -> str:
    """A claim in words."""
    if claim.claim == "moves":
        return f"{claim.split} {'falls' if found.direction == 'lower' else 'rises'}"
    if claim.claim == "removes":
        return f"{claim.split} falls to {100 * found.enough:g} % of the base's or less"
    return f"{claim.split} keeps {100 * dict(found.keep)[claim.split]:g} % of the base's"


def _refute(found: ScaleSearch, claim: ScaleClaim) -> str:
    if claim.claim == "moves":
        scale = choose_effect_scale(found.effects["base"])
        verb = "falls" if found.direction == "lower" else "rises"
        return f"{claim.split} {verb} by less than {scale.write(found.margin, '')} {scale.unit}"
    return f"{claim.split} does not keep {100 * dict(found.keep)[claim.split]:g} % of the base's"


def write_findings(found: ScaleSearch) -> Iterator[str]:
    """The random changes, the effects, how the scale was chosen, and what the numbers cannot say."""
    if found.scale != 0:
        yield from _write_random(found)
        yield from _write_effects(found)
    able = [f"{scale:g}" for scale, kept in zip(found.scales, found.kept, strict=True) if kept]
    choosing, judging = (f"{count:,}" for count in found.row_counts[found.target])
    yield (
        f"On the rows that choose ({choosing} of {found.target}), {len(able)} of {len(found.scales)} scales keep "
        f"({', '.join(able)}); the verdict is on {judging} others, and wrong with 5 % at most."
    )
    if found.settings.get("choose") != "shown" and found.verdict == "undetermined":
        yield "choose='shown' takes a scale that is safer to keep; more rows would settle this one."
    if found.direction == "lower" and found.scale != 0 and found.value(found.target) < found.floor - found.margin:
        yield (
            f"{found.target} ends at {write_value(found, found.value(found.target))}, below the floor of "
            f"{write_value(found, found.floor)}: the network may follow the mechanism in reverse; take a smaller scale."
        )
    at_end = found.scale != 0 and found.scale in (found.scales[0], found.scales[-1])
    if at_end:
        yield f"The chosen scale is at the end of the grid; widen scales= beyond {found.scale:g}."
    if found.on not in ("accuracy",) and "metrics" in found.settings and not found.settings["metrics"].get(found.on):
        yield f"Intervals of {found.on} are Student's t, which is approximate."
    if found.target in (RAND_IMAGE, CUE) and found.direction == "lower" and found.scale != 0:
        yield (
            "What a network does not show may be hidden: whether the mechanism is gone, relearning says "
            "(measure_relearning)."
        )
    if text := describe_norm(found.norm).strip():
        yield text if found.norm.get("policy") != "keep" else "Normalisation statistics are those of the base."
    yield from (f"Note: {note}" for note in found.notes)


def _write_random(found: ScaleSearch) -> Iterator[str]:
    scale = choose_effect_scale(found.effects["base"])
    moves = join_words(
        [f"{own.split} {scale.write(own.effect)} ({scale.write_interval(own.interval)})" for own in found.random]
    )
    words = {"nothing": "do nothing", "moves": "move it too", "undetermined": "are not settled"}
    draws = found.settings.get("draws", len(found.random))
    verdict = found.random_verdict
    assert verdict is not None
    yield (
        f"{draws} random changes of the same norms {words[verdict]} at that scale, at a margin of "
        f"{scale.write(found.margin, '')} {scale.unit}: {moves}, in {scale.unit}, given the draws."
    )
    own = next(effect for effect in found.random if effect.split == found.target)
    how = "down" if found.direction == "lower" else "up"
    yield (
        f"The change moves {found.target} {scale.write(own.further, '')} {scale.unit} further {how} than they do "
        f"({scale.write_interval(own.further_interval, '')})."
    )


def _write_effects(found: ScaleSearch) -> Iterator[str]:
    base, edited = found.effects.get("base"), found.effects.get("edited")
    if base is None or edited is None or not base.interventions:
        return
    scale = choose_effect_scale(base)
    said = [
        f"{split} {scale.write(base[split].effect)} ({base[split].verdict}) before, "
        f"{scale.write(edited[split].effect)} ({edited[split].verdict}) after"
        for split in base.interventions
    ]
    yield f"Effects of the interventions, in {scale.unit}: {'; '.join(said)}."


def write_value(found: ScaleSearch, value: float) -> str:
    """A mean in words."""
    return f"{100 * value:.1f} %" if found.on == "accuracy" else f"{value:.4g}"


def _write_move(found: ScaleSearch, split: str) -> str:
    return f"{split} {write_value(found, found.value(split))}, before {write_value(found, found.value(split, 0.0))}"


def _name_aim(found: ScaleSearch) -> str:
    kept = " and keeps the rest" if found.keep else ""
    return f"{found.direction}s {found.target}{kept}" if found.direction == "lower" else f"raises {found.target}{kept}"
