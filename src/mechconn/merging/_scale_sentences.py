"""What a search over scales found, in sentences that hold whatever the numbers are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

from mechconn.connectivity import describe_norm, join_words
from mechconn.core import CUE, RAND_CUE, RAND_IMAGE
from mechconn.mechanisms import Invariance, choose_effect_scale
from mechconn.merging._scale_verdict import ScaleClaim

if TYPE_CHECKING:
    from mechconn.merging._scale_search import ScaleSearch


def write_headline(found: ScaleSearch) -> str:
    """Does the change do what it is for, where target and kept splits then stand, and do random changes move it too."""
    return f"{_write_answer(found)}{_write_control(found)}."


def _write_control(found: ScaleSearch) -> str:
    own = [effect for effect in found.random if effect.split == found.target and effect.verdict == "moves"]
    if not own:
        return ""
    scale = choose_effect_scale(found.effects["base"])
    moved = ", ".join(scale.write(move) for move in own[0].draws)
    return f". Random changes of the same norms move {found.target} too, by {moved} {scale.unit}"


def _write_answer(found: ScaleSearch) -> str:
    if found.verdict == "no scale":
        return f"No scale of the grid is chosen: {explain_zero(found)}"
    values = join_words([_write_move(found, split) for split in (found.target, *(split for split, _ in found.keep))])
    at, rest = f"At scale {found.scale:g} the change", " and keeps the rest" if found.keep else ""
    if found.verdict == "removes":
        return f"{at} removes {name_share(found)} of {found.target}{_write_floor(found)}{rest}: {values}"
    if found.verdict in ("lowers", "raises"):
        return f"{at} {found.verdict} {found.target}{rest}: {values}"
    if found.verdict == "reverses":
        return f"{at} goes too far: {write_reason(found)}; {values}"
    if found.verdict == "does not":
        return f"{at} does not do it: {write_reason(found)}; {values}"
    settle = "" if found.to_settle is None else f"; {write_to_settle(found, found.to_settle)} would settle it"
    return f"Whether the change does it at scale {found.scale:g} is open{settle}: {values}"


def write_to_settle(found: ScaleSearch, judging: int) -> str:
    """So many rows that judge, and how many a split then has where its rows are divided."""
    share = found.settings.get("choosing")
    whole = f" ({math.ceil(judging / (1 - share)):,} of a split at choosing={share:g})" if _is_share(share) else ""
    return f"about {judging:,} {found.over} that judge{whole}"


def _is_share(value: object) -> TypeGuard[float]:
    return isinstance(value, float)


def name_share(found: ScaleSearch) -> str:
    """What counts as removed."""
    return f"{100 * (1 - found.enough):g} % or more"


def _write_floor(found: ScaleSearch) -> str:
    return f" above its floor of {write_value(found, found.floor)}" if found.floor else ""


def write_reason(found: ScaleSearch) -> str:
    """What the verdict rests on."""
    if found.verdict == "no scale":
        return explain_zero(found)
    if found.verdict in ("does not", "reverses"):
        refuted = [claim for claim in found.claims if claim.standing == "refuted" and claim.claim != "removes"]
        return join_words([_refute(found, claim) for claim in refuted])
    if found.verdict == "undetermined":
        opened = [claim for claim in found.claims if claim.standing == "open" and claim.needed]
        return "not settled: " + join_words([describe_claim(found, claim) for claim in opened])
    shown = [describe_claim(found, own) for own in found.claims if own.standing == "shown" and own.claim != "stays"]
    return f"{join_words(shown)}, on rows that did not choose the scale{_tell_removal(found)}"


def _tell_removal(found: ScaleSearch) -> str:
    """Of a target that is lowered, whether it is refuted or open that enough of it goes."""
    claim = next((claim for claim in found.claims if claim.claim == "removes"), None)
    if found.verdict != "lowers" or claim is None:
        return ""
    what = f"that it loses {name_share(found)} of what it has{_write_floor(found)}"
    return f"; {what} is {'refuted' if claim.standing == 'refuted' else 'not settled'}"


def explain_zero(found: ScaleSearch) -> str:
    """Why scale 0 was chosen."""
    able = [scale for scale, kept in zip(found.scales, found.kept, strict=True) if kept and scale]
    largest = found.settings.get("choose") == "largest"
    kept = join_words([f"{100 * share:g} % of {split}" for split, share in found.keep])
    if not able or largest:
        return f"on the rows that choose, no scale {'above' if largest else 'but'} 0 keeps {kept}"
    towards = (
        f"lowers {found.target} towards {_name_floor(found)}"
        if found.direction == "lower"
        else (f"raises {found.target}")
    )
    return f"on the rows that choose, no scale that keeps{f' {kept}' if kept else ''} {towards}"


def _name_floor(found: ScaleSearch) -> str:
    return f"its floor, {write_value(found, found.floor)}" if found.floor else "0"


def describe_claim(found: ScaleSearch, claim: ScaleClaim) -> str:
    """A claim in words."""
    if claim.claim == "moves":
        return f"{claim.split} {'falls' if found.direction == 'lower' else 'rises'}"
    if claim.claim == "removes":
        return f"{claim.split} loses {name_share(found)} of what it has{_write_floor(found)}"
    if claim.claim == "stays":
        return f"{claim.split} ends at {_name_least(found)} or more, its floor less the margin"
    return f"{claim.split} keeps {100 * dict(found.keep)[claim.split]:g} % of the base's"


def _refute(found: ScaleSearch, claim: ScaleClaim) -> str:
    if claim.claim == "moves":
        scale = choose_effect_scale(found.effects["base"])
        verb = "falls" if found.direction == "lower" else "rises"
        return f"{claim.split} {verb} by less than {scale.write(found.margin, '')} {scale.unit}"
    if claim.claim == "stays":
        return f"{claim.split} ends below {_name_least(found)}, so that the network follows it in reverse"
    return f"{claim.split} does not keep {100 * dict(found.keep)[claim.split]:g} % of the base's"


def _name_least(found: ScaleSearch) -> str:
    return write_value(found, found.floor - found.margin)


def write_findings(found: ScaleSearch) -> Iterator[str]:
    """The random changes, the effects, how the scale was chosen, and what the numbers cannot say."""
    if found.scale != 0:
        yield from _write_random(found)
        yield from _write_effects(found)
    able = [f"{scale:g}" for scale, kept in zip(found.scales, found.kept, strict=True) if kept]
    choosing, judging = (f"{count:,}" for count in found.row_counts[found.target])
    said = f"; the verdict is on {judging} others, and wrong with {_write_level(found)}" if found.scale else ""
    yield (
        f"On the rows that choose ({choosing} of {found.target}), {len(able)} of {len(found.scales)} scales keep "
        f"({', '.join(able)}){said}."
    )
    if found.settings.get("choose") != "shown" and found.verdict == "undetermined":
        yield "choose='shown' takes a scale that is safer to keep; more rows would settle this one."
    below = found.direction == "lower" and found.scale != 0 and found.value(found.target) < found.floor - found.margin
    if below and found.verdict != "reverses":
        yield (
            f"{found.target} ends at {write_value(found, found.value(found.target))}, below the floor of "
            f"{write_value(found, found.floor)}: the network may follow the mechanism in reverse; take a smaller scale."
        )
    at_end = found.scale != 0 and found.scale in (found.scales[0], found.scales[-1])
    if at_end and not below:
        yield f"The chosen scale is at the end of the grid; widen scales= beyond {found.scale:g}."
    if is_approximate(found):
        yield f"Intervals of {found.on} are Student's t, which is approximate."
    if found.target in (RAND_IMAGE, CUE) and found.direction == "lower" and found.scale != 0:
        yield (
            "What a network does not show may be hidden: whether the mechanism is gone, relearning says "
            "(measure_relearning)."
        )
    if text := describe_norm(found.norm).strip():  # nothing of a network that keeps no statistics
        yield text if found.norm.get("policy") != "keep" else "Normalisation statistics are those of the base."
    yield from (f"Note: {note}" for note in found.notes)


def is_approximate(found: ScaleSearch) -> bool:
    """Whether intervals are Student's t: of values whose range is not known."""
    return found.on != "accuracy" and not found.settings.get("metrics", {}).get(found.on)


def _write_level(found: ScaleSearch) -> str:
    return "about 5 %, as far as Student's t holds" if is_approximate(found) else "5 % at most"


def _write_random(found: ScaleSearch) -> Iterator[str]:
    scale = choose_effect_scale(found.effects["base"])
    said = join_words([f"{own.split} {', '.join(scale.write(move) for move in own.draws)}" for own in found.random])
    words = {"nothing": "do nothing", "moves": "move some split too", "undetermined": "are not settled"}
    draws = found.settings.get("draws", len(found.random[0].draws))
    verdict = found.random_verdict
    assert verdict is not None
    yield (
        f"{draws} random changes of the same norms {words[verdict]} at that scale, each by itself, at a margin of "
        f"{scale.write(found.margin, '')} {scale.unit}: {said}, in {scale.unit}, given the draws."
    )
    own = next(effect for effect in found.random if effect.split == found.target)
    how = "down" if found.direction == "lower" else "up"
    yield (
        f"The change moves {found.target} {scale.write(own.further, '')} {scale.unit} further {how} than they do on "
        f"average ({scale.write_interval(own.further_interval, '')})."
    )


def sort_interventions(base: Invariance) -> list[str]:
    """Of the base's, the one that takes the cue's information away first: it says whether the network uses the cue."""
    return sorted(base.interventions, key=lambda split: split != RAND_CUE)


def _write_effects(found: ScaleSearch) -> Iterator[str]:
    base, edited = found.effects.get("base"), found.effects.get("edited")
    if base is None or edited is None or not base.interventions:
        return
    scale = choose_effect_scale(base)
    said = [
        f"{split} {scale.write(base[split].effect)} ({base[split].verdict}) before, "
        f"{scale.write(edited[split].effect)} ({edited[split].verdict}) after"
        for split in sort_interventions(base)
    ]
    known = {RAND_CUE, RAND_IMAGE} <= set(base.interventions)
    expected = (
        ". A network that does not use the cue has none of rand_cue, and falls to chance on rand_image" if known else ""
    )
    yield f"Effects of the interventions, in {scale.unit}: {'; '.join(said)}{expected}."


def write_value(found: ScaleSearch, value: float) -> str:
    """A mean in words."""
    return f"{100 * value:.1f} %" if found.on == "accuracy" else f"{value:.4g}"


def _write_move(found: ScaleSearch, split: str) -> str:
    return f"{split} {write_value(found, found.value(split))}, before {write_value(found, found.value(split, 0.0))}"
