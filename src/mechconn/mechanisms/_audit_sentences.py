"""What an audit's numbers say, what follows from it and what does not: sentences that hold whatever the numbers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mechconn.connectivity import describe_shifted_end
from mechconn.losses import NATS, find_loss_unit
from mechconn.mechanisms._amounts import choose_scale, format_amount
from mechconn.stats import describe_clusters

PlainField = Mapping[str, Any]

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


def write_sentences(plain: PlainField) -> Iterator[str]:
    """One or two sentences for each model, then the comparison, the paths, the alignment, and what follows."""
    a, b = plain["names"]
    comparison, unit = plain["comparison"], find_loss_unit(plain["settings"])
    notes = [comparison[side]["notes"] for side in ("a", "b")]
    for name, side in ((a, comparison["a"]), (b, comparison["b"])):
        yield _describe_model(name, side, unit)
        yield from (
            f"Of {name}: {_end_sentence(note)}" for note in side["notes"] if not (note in notes[0] and note in notes[1])
        )
    yield from (f"Of both: {_end_sentence(note)}" for note in notes[0] if note in notes[1])
    both = f"{a} and {b}" if (a, b) == ("A", "B") else f"{a} (A) and {b} (B)"
    if comparison["a"]["on"] == "loss":
        yield LOSS
    yield from _describe_clusters(comparison["a"])
    yield _describe_comparison(comparison, both)
    if comparison["less"]:
        yield _describe_reductions(comparison, a, b, unit)
    if plain["discrepancy"] is not None:
        mean = plain["discrepancy"]["mean"]
        yield (
            f"Under the interventions their class probabilities lie {mean:.3f} apart on average (L1 distance, at most "
            "2); reported only, not part of the verdict."
        )
    yield from _describe_joining(plain, unit)


def _describe_clusters(side: PlainField) -> Iterator[str]:
    """What the intervals are over, where that is not rows."""
    if said := describe_clusters(side["clusters"]):
        yield f"{said[0].upper()}{said[1:]}, not over rows: rows of one cluster may depend on each other in any way."


def _describe_joining(plain: PlainField, unit: str) -> Iterator[str]:
    """What joins the two: the paths, the alignment, blocks and layers where asked for, and what follows."""
    a, b = plain["names"]
    for which, path in plain["paths"].items():
        how = "as it is" if which == "before" else "after alignment"
        yield _describe_path(path, how, unit, plain["paths"]["before"])
    if plain["alignment"] is not None:
        yield _describe_alignment(plain["alignment"], b, a)
    yield from plain["notes"]
    if plain["blocks"]:
        moved = "" if plain["alignment"] is None else f" to the aligned {b}"
        yield _describe_blocks(plain["blocks"], plain["comparison"]["a"]["reference"], moved, unit)
    if plain["similarity"]:
        yield _describe_layers(plain["similarity"], plain["left_out"])
    if plain["paths"]:
        yield THEORY


def _describe_model(name: str, side: PlainField, unit: str) -> str:
    groups: dict[str, list[str]] = {"invariant": [], "sensitive": [], "undetermined": []}
    for split in side["interventions"]:
        groups[side["effects"][split]["verdict"]].append(
            f"{split} ({_describe_effect(side['effects'][split], side['on'], unit)})"
        )
    words = {
        "invariant": "is invariant to",
        "sensitive": "is sensitive to",
        "undetermined": "may or may not be invariant to",
    }
    said = "; ".join(f"{words[kind]} {', '.join(splits)}" for kind, splits in groups.items() if splits)
    scale, measured_in = choose_scale(side["on"], unit)
    caveat = (
        f" Its invariance says nothing about what it uses: {side['uninformative']}." if _is_uninformative(side) else ""
    )
    return (
        f"{name} {said}; the margin is {scale * side['margin']:g} {measured_in}.{caveat}{_describe_level(side, unit)}"
    )


def _is_uninformative(side: PlainField) -> bool:
    """Whether the model is called invariant to something and that says nothing."""
    return bool(side["uninformative"]) and any(side["effects"][s]["caveat"] for s in side["interventions"])


def _describe_level(side: PlainField, unit: str) -> str:
    """How good the model is on every split, and by the user's metrics on the reference."""
    metrics = "".join(
        f" Its mean {name} on {side['reference']} is {means[side['reference']]:.3g}."
        for name, means in side["metrics"].items()
    )
    if side["accuracy"]:
        whole = "" if side["each"] == "rows" else f"the {side['each']} of "
        shares = [f"{100 * share:.1f} % of {whole}{split}" for split, share in side["accuracy"].items()]
        return f" It is right on {', '.join(shares)}.{metrics}"
    means = [f"on {split} is {_describe_loss(loss, unit)}" for split, loss in side["loss"].items() if loss is not None]
    return f" Its mean loss {', '.join(means)}.{metrics}" if means else metrics


def _describe_loss(loss: float, unit: str) -> str:
    return f"{loss:.3g} nats" if unit == NATS else f"{loss:.3g}"


def _describe_effect(effect: PlainField, on: str, loss_in: str) -> str:
    scale, unit = choose_scale(on, loss_in)
    low, high = (format_amount(scale * bound, unit, "+") for bound in effect["adjusted_interval"])
    level = f"{100 * effect['confidence']:.4g} %"
    text = f"{format_amount(scale * effect['effect'], unit, '+')} {unit}, {level} interval {low} to {high}"
    if effect["verdict"] == "undetermined" and effect["to_settle"] is not None:
        unit = "rows" if effect["clusters"] is None else "clusters"
        text += f"; about {effect['to_settle']:,} {unit} would settle it"
    return text


def _describe_comparison(comparison: PlainField, both: str) -> str:
    verdict, sets = (_describe_verdict(comparison[name]) for name in ("verdict", "same_invariances"))
    paper = (
        "" if sets == verdict else f" By the paper's definition, equal sets of invariances, the mechanisms are {sets}."
    )
    return f"The mechanisms of {both} are {verdict}: {_end_sentence(comparison['why'])}{paper}"


def _describe_verdict(verdict: str) -> str:
    return "not settled by these data" if verdict == "undetermined" else verdict


def _describe_reductions(comparison: PlainField, a: str, b: str, loss_unit: str) -> str:
    scale, unit = choose_scale(comparison["a"]["on"], loss_unit)
    said = []
    for split, less in comparison["less"].items():
        amount, of, low, high = (
            format_amount(scale * value, unit) for value in (less["amount"], less["of"], *less["interval"])
        )
        said.append(f"{amount} of {of} {unit} on {split} (95 % interval {low} to {high})")
    return (
        f"How much less {b} relies on what {a} is sensitive to, |effect on {a}| - |effect on {b}|: {', '.join(said)}."
    )


def _end_sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _describe_path(path: PlainField, how: str, unit: str, before: PlainField) -> str:
    verdict = {
        "connected": "mechanistically connected at these points",
        "not connected": "not mechanistically connected",
        "undetermined": "mechanistically connected or not: these data do not settle it",
    }[path.get("evaluated_connection") or path["mechanistic_connection"]]
    again = path is not before and path["shifted"] and path["shifted"] == before["shifted"]
    shifts = " Its ends are those of the path before." if again else describe_shifts(path["shifted"], unit)
    if path["shifted"]:
        verdict += ", between networks with other statistics than those saved"
    gaps = [(split, gap) for split, gap in path["endpoint_minus_minimum"].items() if gap is not None]
    listed = ", ".join(f"{format_amount(gap, unit)} {unit} on {split}" for split, gap in gaps)
    graded = f" Mean loss of the ends less the lowest on the path, a graded score: {listed}." if gaps else ""
    return (
        f"The straight path from {path['start']} to {path['end']}, {how}, is {verdict} "
        f"(tolerance {path['tolerance']:g} {unit}).{shifts} {_describe_barriers(path, unit)}{graded}"
    )


def describe_shifts(shifted: Sequence[PlainField], unit: str) -> str:
    """Which ends of a path are other networks than the saved ones, in a sentence; empty where none is.

    Example:
        >>> found = {"end": "B", "split": "cue", "on": "accuracy", "saved": 0.94, "evaluated": 0.33}
        >>> describe_shifts([found], "nats")
        ' Its ends are not the networks as saved: B is right on 94.0 % of cue as saved, and on 33.0 % on this path.'
    """
    if not shifted:
        return ""
    ends = dict.fromkeys((shift["end"], shift["on"]) for shift in shifted)
    said = (
        describe_shifted_end(
            [s for s in shifted if (s["end"], s["on"]) == end], lambda loss: f"{format_amount(loss, unit)} {unit}"
        )
        for end in ends
    )
    return f" Its ends are not the networks as saved: {'; '.join(said)}."


def _describe_barriers(path: PlainField, unit: str) -> str:
    """Each barrier with its place and interval; those that show as zero together, with the largest of their bounds."""
    none = [split for split, barrier in path["barrier"].items() if barrier is not None and _is_zero(barrier[0], unit)]
    said = [_describe_barrier(path, split, unit) for split in path["barrier"] if split not in none]
    listed = [f"Barriers in loss: {', '.join(said)}."] if said else []
    if none:
        bounds = [interval[1] for split in none if (interval := path["barrier_interval"][split]) is not None]
        spread = f" (95 % intervals up to {format_amount(max(bounds), unit)})" if bounds else ""
        listed.append(f"No barrier above {format_amount(0.0, unit)} {unit} on {', '.join(none)}{spread}.")
    return " ".join(listed)


def _is_zero(height: float, unit: str) -> bool:
    """Whether a height shows as zero: to hundredths of nats, and to rounding in units of any scale."""
    return height < (0.005 if unit == NATS else 1e-9)


def _describe_barrier(path: PlainField, split: str, unit: str) -> str:
    if path["barrier"][split] is None:
        return f"undefined on {split}, where the loss is not finite"
    (height, t), interval = path["barrier"][split], path["barrier_interval"][split]
    bounds = None if interval is None else [format_amount(bound, unit) for bound in interval]
    spread = "" if bounds is None else f", 95 % interval {bounds[0]} to {bounds[1]}"
    return f"{format_amount(height, unit)} {unit} on {split} (t = {t:g}{spread})"


def _describe_alignment(found: PlainField, moved: str, fixed: str) -> str:
    dead = sum(found["dead"].values())
    counted = f" {dead} units are constant on the data, and nothing tells them apart." if dead else ""
    unseen = f" Not compared, and left as they were: {', '.join(found['unseen'])}." if found["unseen"] else ""
    return (
        f"By {found['settings']['method']}, the units of {moved} were permuted onto those of {fixed}, which leaves the "
        f"function of {moved} as it is: the weights were {found['distance_before']:.4g} apart and are "
        f"{found['distance_after']:.4g}. "
        f"{100 * found['coverage']:.1f} % of the parameters have units that may be permuted; other symmetries were "
        f"not removed, and matching finds a good permutation, not provably the best.{counted}{unseen}"
        + "".join(f" {_end_sentence(note[:1].upper() + note[1:])}" for note in found["notes"])
    )


def _describe_blocks(blocks: PlainField, reference: str, moved: str, unit: str) -> str:
    heights = {block: splits[reference] for block, splits in blocks.items() if splits[reference] is not None}
    if not heights:
        return f"Block by block the loss on {reference} is not finite."
    highest = max(heights, key=lambda block: heights[block])
    return (
        f"Moving one block at a time{moved}, {highest} makes the highest barrier on {reference}, "
        f"{format_amount(heights[highest], unit)} {unit}; blocks' barriers need not add up to the whole."
    )


def _describe_layers(layers: PlainField, left_out: PlainField) -> str:
    first = "; ".join(f"{layer} ({why})" for layer, why in list(left_out.items())[:3])
    more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    absent = f" Left out: {first}{more}." if left_out else ""
    known = {layer: value for layer, value in layers.items() if value is not None}
    if not known:
        return (
            "In every layer one of the two models has the same representation for all rows, so none has a similarity."
            + absent
        )
    lowest = min(known, key=lambda layer: known[layer])
    named = lowest or "the model itself"
    return (
        f"Linear CKA of the layers lies between {min(known.values()):.2f} ({named}) and {max(known.values()):.2f}; "
        f"alike representations can serve different mechanisms.{absent}"
    )
