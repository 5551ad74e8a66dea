"""What the demo's numbers say, in words that hold whatever the numbers are."""

from __future__ import annotations

from mechconn.core import CUE, NO_CUE, RAND_CUE, RAND_IMAGE, abbreviate_split
from mechconn.losses import NATS
from mechconn.mechanisms import EffectRecord, InvarianceRecord, PathRecord, describe_shifts


def write_findings(models: dict[str, InvarianceRecord], path: PathRecord) -> list[str]:
    """One sentence or two per model, then the path, then what follows and what does not."""
    sentences = [_describe_model(name, record) for name, record in models.items()]
    return [*sentences, _describe_path(path), _choose_caveat(path)]


def _describe_model(name: str, record: InvarianceRecord) -> str:
    rand_cue, rand_image = record.effects[RAND_CUE], record.effects[RAND_IMAGE]
    accuracy = record.accuracy
    follows = "relies on the cue" if rand_cue.effect < 0 else "responds to the cue, but is not helped by it"
    verdict = {
        "sensitive": follows,
        "invariant": "is invariant to the cue",
        "undetermined": "may or may not rely on the cue",
    }[rand_cue.verdict]
    content = {
        "sensitive": "It reads the image",
        "invariant": "Its accuracy does not depend on the image",
        "undetermined": "Whether it reads the image is not settled",
    }[rand_image.verdict]
    return (
        f"{name} {verdict}: with the cue drawn at random its accuracy goes from {_format_percent(accuracy[CUE])} to "
        f"{_format_percent(accuracy[RAND_CUE])} ({_describe_change(rand_cue)}, "
        f"margin {record.margin * 100:.0f}{_describe_needed(rand_cue)}). "
        f"{content}: with another image under the same cue it still gives the cue's label on "
        f"{_format_percent(accuracy[RAND_IMAGE])}. Without any cue it is right on {_format_percent(accuracy[NO_CUE])}."
    )


def _describe_path(path: PathRecord) -> str:
    verdict = {
        "connected": "is mechanistically connected at these points: on the cue data and on every intervention",
        "not connected": "is not mechanistically connected",
        "undetermined": "may or may not be mechanistically connected: this much data does not settle it",
    }[path.evaluated_connection or path.mechanistic_connection]
    heights = ", ".join(_describe_barrier(path, split) for split in path.barrier)
    shifts = describe_shifts([shift.model_dump() for shift in path.shifted], NATS)
    return (
        f"The straight path from {path.start} to {path.end} {verdict} (tolerance {path.tolerance:g} nats).{shifts} "
        f"Barriers in loss: {heights}."
    )


def _describe_barrier(path: PathRecord, split: str) -> str:
    if path.connection[split] == "connected":
        return f"none on {abbreviate_split(split)}"
    barrier, interval = path.barrier[split], path.barrier_interval[split]
    if barrier is None:
        return f"undefined on {abbreviate_split(split)}, where the loss is not finite"
    height, t = barrier
    spread = "" if interval is None else f", 95 % interval {interval[0]:.2f} to {interval[1]:.2f}"
    return f"{height:.2f} nats on {abbreviate_split(split)} (t = {t:.1f}{spread})"


def _choose_caveat(path: PathRecord) -> str:
    if (path.evaluated_connection or path.mechanistic_connection) == "connected":
        return (
            "A straight path without a barrier does not prove one mechanism: dissimilar mechanisms of similar "
            "complexity can still be linearly connected."
        )
    return (
        "A barrier on this path is no proof of dissimilar mechanisms. That minimisers which cannot be linearly "
        "connected, up to permutations of units, are dissimilar is a conjecture; proved, for one hidden ReLU layer and "
        "interpolating minimisers, is that dissimilar mechanisms of different complexity imply a barrier under every "
        "permutation. No permutation was removed here; the effects above are the direct evidence."
    )


def _describe_change(effect: EffectRecord) -> str:
    low, high = (100 * bound for bound in effect.interval)
    return f"{100 * effect.effect:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"


def _describe_needed(effect: EffectRecord) -> str:
    return f"; about {effect.to_settle:,} samples like these would settle it" if effect.to_settle else ""


def _format_percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
