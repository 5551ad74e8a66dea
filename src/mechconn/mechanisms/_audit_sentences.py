"""What an audit's numbers say, what follows from it and what does not: sentences that hold whatever the numbers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mechconn.alignment import Alignment
from mechconn.connectivity import (
    BIASED_AT_STOPPING,
    BlockProfiles,
    PathVerdict,
    Profile,
    SettledPath,
    describe_reading,
    describe_rises,
    describe_shifts,
    describe_tolerance,
)
from mechconn.losses import NATS
from mechconn.mechanisms._amounts import choose_scale, format_amount
from mechconn.mechanisms._audit_groups_page import describe_groups
from mechconn.mechanisms._comparison import Comparison
from mechconn.mechanisms._effects import Effect, Invariance
from mechconn.mechanisms._probe_result import NOT_USED
from mechconn.mechanisms._relearned_sentences import describe_relearned
from mechconn.mechanisms._representation_result import RepresentationSimilarity
from mechconn.stats import describe_clusters

if TYPE_CHECKING:
    from mechconn.mechanisms._audit import Audit

THEORY_PAGE = "docs/theory.md"
"""Where the theory stands, from the root of the project."""
THEORY = (
    "A barrier, or none, is evidence beside the effects of the interventions, which alone decide the verdict: what is "
    f"proved, under which assumptions, and what is a conjecture stands in {THEORY_PAGE}."
)
LOSS = (
    "Intervals of effects on the loss are Student's t, which is approximate: where a few rows have a loss far above "
    "the others', or might have had, they can be too narrow, and a verdict of invariant too early."
)


def write_sentences(audit: Audit) -> Iterator[str]:
    """One or two sentences for each model, then the comparison, the paths, the alignment, and what follows."""
    (a, b), comparison = audit.names, audit.comparison
    sides = {a: comparison.a, b: comparison.b}
    shared = [note for note in comparison.a.notes if note in comparison.b.notes]
    for name, side in sides.items():
        yield _describe_model(name, side)
        yield from (f"Of {name}: {_end_sentence(note)}" for note in side.notes if note not in shared)
    yield from (f"Of both: {_end_sentence(note)}" for note in shared)
    if comparison.a.on == "loss":
        yield LOSS
    yield from _describe_clusters(comparison.a)
    yield _describe_comparison(comparison)
    if comparison.less:
        yield _describe_reductions(comparison)
    if audit.discrepancy is not None:
        yield (
            f"Under the interventions their class probabilities lie {audit.discrepancy.mean:.3f} apart on average (L1 "
            "distance, at most 2); reported only, not part of the verdict."
        )
    yield from describe_groups(audit.groups)
    yield from describe_relearned(audit.relearned)
    yield from (found.describe(name) for name, found in audit.probes.items())
    if audit.probes:
        yield NOT_USED
    yield from _describe_joining(audit)


def _describe_clusters(side: Invariance) -> Iterator[str]:
    """What the intervals are over, where that is not rows."""
    if said := describe_clusters(side.clusters):
        yield f"{said[0].upper()}{said[1:]}, not over rows: rows of one cluster may depend on each other in any way."


def _describe_joining(audit: Audit) -> Iterator[str]:
    """What joins the two: the paths, the alignment, blocks and layers where asked for, and what follows."""
    (a, b), connections = audit.names, audit.connections
    before = connections.get("before")
    for which, path in audit.paths.items():
        how = "as it is" if which == "before" else "after alignment"
        yield _describe_path(path, connections[which], how, None if which == "before" else before)
    for which, path in audit.settled_paths.items():
        how = "as it is" if which == "before" else "after alignment"
        yield _describe_settled_path(path, connections[which], how, None if which == "before" else before)
    if audit.settled_paths:
        yield BIASED_AT_STOPPING
    if audit.alignment is not None:
        yield _describe_alignment(audit.alignment, b, a)
    yield from audit.notes
    if audit.blocks:
        moved = "" if audit.alignment is None else f" to the aligned {b}"
        yield _describe_blocks(audit.blocks, audit.comparison.a.reference, moved)
    if audit.similarity:
        yield _describe_layers(audit.similarity)
    if audit.paths or audit.settled_paths:
        yield THEORY


def _describe_model(name: str, side: Invariance) -> str:
    groups: dict[str, list[str]] = {"invariant": [], "sensitive": [], "undetermined": []}
    for split in side.interventions:
        groups[side[split].verdict].append(f"{split} ({_describe_effect(side[split], side)})")
    words = {
        "invariant": "is invariant to",
        "sensitive": "is sensitive to",
        "undetermined": "may or may not be invariant to",
    }
    said = "; ".join(f"{words[kind]} {', '.join(splits)}" for kind, splits in groups.items() if splits)
    scale, measured_in = choose_scale(side.on, side.loss_unit)
    caveat = (
        f" Its invariance says nothing about what it uses: {side.uninformative}." if _is_uninformative(side) else ""
    )
    return f"{name} {said}; the margin is {scale * side.margin:g} {measured_in}.{caveat}{_describe_level(side)}"


def _is_uninformative(side: Invariance) -> bool:
    """Whether the model is called invariant to something and that says nothing."""
    return bool(side.uninformative) and any(side[split].caveat for split in side.interventions)


def _describe_level(side: Invariance) -> str:
    """How good the model is on every split, and by the user's metrics on the reference."""
    metrics = "".join(
        f" Its mean {name} on {side.reference} is {means[side.reference]:.3g}." for name, means in side.metrics.items()
    )
    if side.accuracy:
        whole = "" if side.each == "rows" else f"the {side.each} of "
        shares = [f"{100 * share:.1f} % of {whole}{split}" for split, share in side.accuracy.items()]
        return f" It is right on {', '.join(shares)}.{metrics}"
    means = [
        f"on {split} is {_describe_loss(loss, side.loss_unit)}" for split, loss in side.loss.items() if loss is not None
    ]
    return f" Its mean loss {', '.join(means)}.{metrics}" if means else metrics


def _describe_loss(loss: float, unit: str) -> str:
    return f"{loss:.3g} nats" if unit == NATS else f"{loss:.3g}"


def _describe_effect(effect: Effect, side: Invariance) -> str:
    scale, unit = choose_scale(side.on, side.loss_unit)
    low, high = (format_amount(scale * bound, unit, "+") for bound in effect.adjusted_interval)
    level = f"{100 * effect.confidence:.4g} %"
    text = f"{format_amount(scale * effect.effect, unit, '+')} {unit}, {level} interval {low} to {high}"
    if effect.verdict == "undetermined" and effect.to_settle is not None:
        text += f"; about {effect.to_settle:,} {'rows' if effect.clusters is None else 'clusters'} would settle it"
    return text


def _describe_comparison(comparison: Comparison) -> str:
    a, b = comparison.names
    both = f"{a} and {b}" if (a, b) == ("A", "B") else f"{a} (A) and {b} (B)"
    verdict, sets = map(_describe_verdict, (comparison.verdict, comparison.same_invariances))
    paper = (
        "" if sets == verdict else f" By the paper's definition, equal sets of invariances, the mechanisms are {sets}."
    )
    return f"The mechanisms of {both} are {verdict}: {_end_sentence(comparison.why)}{paper}"


def _describe_verdict(verdict: str) -> str:
    return "not settled by these data" if verdict == "undetermined" else verdict


def _describe_reductions(comparison: Comparison) -> str:
    (a, b), (scale, unit) = comparison.names, choose_scale(comparison.a.on, comparison.a.loss_unit)
    said = []
    for split, less in comparison.less.items():
        amount, of, low, high = (format_amount(scale * x, unit) for x in (less.amount, less.of, *less.interval))
        said.append(f"{amount} of {of} {unit} on {split} (95 % interval {low} to {high})")
    return (
        f"How much less {b} relies on what {a} is sensitive to, |effect on {a}| - |effect on {b}|: {', '.join(said)}."
    )


def _end_sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _describe_path(path: Profile, found: PathVerdict, how: str, before: PathVerdict | None) -> str:
    """A path in a sentence or a few; `before` is the verdict on the path before alignment, where this is another."""
    verdict, unit = _describe_connection(found), path.unit
    shifts = _describe_ends(found, unit, path.names, before)
    bad = _list_not_finite(path)
    gaps = [(split, path.endpoint_minus_minimum(split)) for split in path.loss if split not in bad]
    listed = ", ".join(f"{format_amount(gap, unit)} {unit} on {split}" for split, gap in gaps)
    graded = f" Mean loss of the ends less the lowest on the path, a graded score: {listed}." if gaps else ""
    start, end = path.names
    return (
        f"The straight path from {start} to {end}, {how}, is {verdict} "
        f"(tolerance {found.tolerance:g} {unit}).{shifts} {_describe_barriers(path)}{graded}"
    )


def _describe_settled_path(path: SettledPath, found: PathVerdict, how: str, before: PathVerdict | None) -> str:
    """The same of a path that was read until settled."""
    start, end = path.names
    shifts = _describe_ends(found, path.unit, path.names, before)
    return (
        f"The straight path from {start} to {end}, {how}, is {_describe_connection(found)} "
        f"({describe_tolerance(path)}).{shifts} {describe_rises(path)} {describe_reading(path)}"
    )


def _describe_ends(found: PathVerdict, unit: str, names: tuple[str, str], before: PathVerdict | None) -> str:
    """Which ends are other networks than the saved ones, unless the path before said so."""
    again = before is not None and found.shifted and found.shifted == before.shifted
    return " Its ends are those of the path before." if again else describe_shifts(found.shifted, unit, names)


def _describe_connection(found: PathVerdict) -> str:
    """The verdict on the networks that a path ends at, in words."""
    verdict = {
        "connected": "mechanistically connected at these points",
        "not connected": "not mechanistically connected",
        "undetermined": "mechanistically connected or not: these data do not settle it",
    }[found.evaluated]
    return f"{verdict}, between networks with other statistics than those saved" if found.shifted else verdict


def _list_not_finite(path: Profile) -> set[str]:
    return {value.split for value in path.not_finite if value.on == "loss"}


def _describe_barriers(path: Profile) -> str:
    """Each barrier with its place and interval; those that show as zero together, with the largest of their bounds."""
    bad, unit = _list_not_finite(path), path.unit
    barriers = {split: path.barrier(split) for split in path.loss if split not in bad}
    none = [split for split, barrier in barriers.items() if _is_zero(barrier.height, unit)]
    said = [_describe_barrier(path, split, unit) for split in path.loss if split not in none]
    listed = [f"Barriers in loss: {', '.join(said)}."] if said else []
    if none:
        bounds = [interval[1] for split in none if (interval := barriers[split].interval) is not None]
        spread = f" (95 % intervals up to {format_amount(max(bounds), unit)})" if bounds else ""
        listed.append(f"No barrier above {format_amount(0.0, unit)} {unit} on {', '.join(none)}{spread}.")
    return " ".join(listed)


def _is_zero(height: float, unit: str) -> bool:
    """Whether a height shows as zero: to hundredths of nats, and to rounding in units of any scale."""
    return height < (0.005 if unit == NATS else 1e-9)


def _describe_barrier(path: Profile, split: str, unit: str) -> str:
    if split in _list_not_finite(path):
        return f"undefined on {split}, where the loss is not finite"
    barrier = path.barrier(split)
    bounds = None if barrier.interval is None else [format_amount(bound, unit) for bound in barrier.interval]
    spread = "" if bounds is None else f", 95 % interval {bounds[0]} to {bounds[1]}"
    return f"{format_amount(barrier.height, unit)} {unit} on {split} (t = {barrier.t:g}{spread})"


def _describe_alignment(found: Alignment, moved: str, fixed: str) -> str:
    dead = sum(found.dead.values())
    counted = f" {dead} units are constant on the data, and nothing tells them apart." if dead else ""
    unseen = f" Not compared, and left as they were: {', '.join(found.unseen)}." if found.unseen else ""
    how = (
        f"moved onto those of {fixed} by {found.removed}"
        if found.distance_by_kind
        else f"permuted onto those of {fixed}"
    )
    return (
        f"By {found.settings['method']}, the units of {moved} were {how}, which leaves the function of {moved} as it "
        f"is: the weights {_describe_distances(found)}. {found.share}; other symmetries were "
        f"not removed, and matching finds a good permutation, not provably the best.{counted}{unseen}"
        + "".join(f" {_end_sentence(note[:1].upper() + note[1:])}" for note in found.notes)
    )


def _describe_distances(found: Alignment) -> str:
    if not found.distance_by_kind:  # a file of release 0.1.0
        return f"were {found.distance_before:.4g} apart and are {found.distance_after:.4g}"
    return f"are {found.distances}"


def _describe_blocks(blocks: BlockProfiles, reference: str, moved: str) -> str:
    heights = {
        block: profile.barrier(reference).height
        for block, profile in blocks.items()
        if reference not in _list_not_finite(profile)
    }
    if not heights:
        return f"Block by block the loss on {reference} is not finite."
    highest = max(heights, key=lambda block: heights[block])
    unit = blocks[highest].unit
    return (
        f"Moving one block at a time{moved}, {highest} makes the highest barrier on {reference}, "
        f"{format_amount(heights[highest], unit)} {unit} above the chord between the ends of its own path"
        f"{_describe_against_models(blocks, list(heights), reference, unit)}; blocks' barriers need not add up to the "
        "whole."
    )


def _describe_against_models(blocks: BlockProfiles, finite: list[str], reference: str, unit: str) -> str:
    """The block that rises most above the mean loss of both models; empty where that is not known."""
    if not blocks.has_middle or blocks.whole is None or reference in _list_not_finite(blocks.whole):
        return ""
    rises = blocks.barriers(reference, against="models") if len(finite) == len(blocks) else {}
    if not rises:
        return ""
    most = max(rises, key=lambda block: rises[block].height)
    return (
        f"; against the mean loss of the two models {most} is highest at t = 0.5, "
        f"{format_amount(rises[most].height, unit)} {unit}"
    )


def _describe_layers(found: RepresentationSimilarity) -> str:
    left_out: Mapping[str, str] = found.left_out
    first = "; ".join(f"{layer} ({why})" for layer, why in list(left_out.items())[:3])
    more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    absent = f" Left out: {first}{more}." if left_out else ""
    known = {layer: value for layer, value in found.items() if value is not None}
    if not known:
        return (
            "In every layer one of the two models has the same representation for all rows, so none has a similarity."
            + absent
        )
    lowest = min(known, key=lambda layer: known[layer])
    named = lowest or "the model itself"
    unbiased = [value for value in found.unbiased.values() if value is not None]
    beside = f" (unbiased: {min(unbiased):.2f} to {max(unbiased):.2f})" if unbiased else ""
    return (
        f"Linear CKA of the layers lies between {min(known.values()):.2f} ({named}) and {max(known.values()):.2f}"
        f"{beside}; alike representations can serve different mechanisms.{absent}"
    )
