"""What a search for the sparsest edit found, in sentences that hold whatever the numbers are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechconn.connectivity import describe_norm, join_words
from mechconn.merging._scale_verdict import ScaleClaim

if TYPE_CHECKING:
    from mechconn.merging._sparsest_edit_result import SparsestEdit


def write_percent(value: float) -> str:
    """A share in percent, three digits."""
    return f"{100 * value:.3g} %"


def write_edit_headline(found: SparsestEdit) -> str:
    """The verdict with the size of the edit, and where the splits then stand."""
    if found.verdict == "no edit":
        return f"No edit is chosen: {write_edit_reason(found)}"
    what = f"The edit of {found.edited:,} of {found.total:,} {found.unit} ({write_percent(found.share)})"
    moves = join_words([_write_move(found, split) for split in found.splits])
    said = {
        "brought to chance": f"{what} brings {found.target} to chance and keeps the rest: {moves}",
        "does not": f"{what} does not do it: {write_edit_reason(found)}; {moves}",
    }
    settle = "" if found.to_settle is None else f"; about {found.to_settle:,} {found.over} that judge would settle it"
    return f"{said.get(found.verdict, f'{what}: whether it does it is open{settle}; {moves}')}."


def _write_move(found: SparsestEdit, split: str) -> str:
    own = found.splits[split]
    after = "" if own.after is None else f" to {write_percent(own.after)}"
    return f"{split} {write_percent(own.before)}{after}"


def write_edit_reason(found: SparsestEdit) -> str:
    """What the verdict rests on."""
    if found.verdict == "no edit":
        tried = f"none of {len(found.tried)} edits keeps the rest and lowers {found.target} on the rows that choose."
        return tried if found.tried else "the model's own target is at chance on the rows that choose."
    standing = {"brought to chance": "shown", "does not": "refuted"}.get(found.verdict, "open")
    told = [describe_edit_claim(found, claim) for claim in found.claims if claim.standing == standing]
    lead = {"shown": "", "refuted": "refuted: ", "open": "not settled: "}[standing]
    return f"{lead}{join_words(told)}"


def describe_edit_claim(found: SparsestEdit, claim: ScaleClaim) -> str:
    """One claim in words."""
    if claim.claim == "reaches":
        return f"{claim.split} is at most {write_percent(found.floor + found.margin)}"
    if claim.claim == "stays":
        return f"{claim.split} is at least {write_percent(found.floor - found.margin)}"
    return f"{claim.split} keeps {write_percent(dict(found.keep)[claim.split])} of its accuracy"


def write_edit_findings(found: SparsestEdit) -> Iterator[str]:
    """Sizes, layers, the random edits, and what was not tested."""
    if found.chosen is not None:
        chosen = found.tried[found.chosen]
        if found.unit == "weights":
            yield f"Of all {found.parameters:,} parameters that is {write_percent(found.edited / found.parameters)}."
        most = max(found.layers, key=lambda name: found.layers[name].edited)
        layer = found.layers[most]
        yield (
            f"Most of it is in {most}: {layer.edited:,} of {layer.total:,} {found.unit}; "
            f"{sum(own.edited > 0 for own in found.layers.values())} of {len(found.layers)} layers are edited."
        )
        yield (
            f"It was chosen on other rows, of {len(found.tried)} edits tried ({_tell_choice(chosen.passes)}; "
            f"q = {chosen.cue_share:g}, p = {chosen.clean_share:g}); a sparser edit outside this family may do as much."
        )
    if any(own.random for own in found.splits.values()):
        draws = join_words(
            [f"{split} {', '.join(map(write_percent, own.random))}" for split, own in found.splits.items()]
        )
        yield f"Random edits of as many {found.unit} in every layer: {draws}."
    if found.norm:
        yield describe_norm(found.norm).strip()
    yield from found.notes


def _tell_choice(passed: str) -> str:
    return {
        "shown": "the smallest that is shown there to be at chance and to keep the rest",
        "by means": "the smallest that is at chance there and keeps the rest by its means alone",
        "no": "none did both there, and it is nearest to chance of those that keep the rest",
    }[passed]
