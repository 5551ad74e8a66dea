"""What the numbers of a cell say, in words that hold whatever the numbers are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechconn.connectivity import PathVerdict, Profile, describe_shifts
from mechconn.core import CUE, NO_CUE, RAND_CUE, RAND_IMAGE
from mechconn.mechanisms import Effect, Invariance, describe_state
from mechconn.paper._run_tables import sort_splits
from mechconn.paper._split_names import abbreviate_split

if TYPE_CHECKING:
    from mechconn.paper._cue_result import CueResult


def write_findings(result: CueResult) -> list[str]:
    """What each does with the cue, then a sentence or two per model, each straight path, and what follows."""
    sentences = _list_states(result)
    sentences += [
        _describe_model(name, model) for name, model in result.models.items() if {RAND_CUE, RAND_IMAGE} <= set(model)
    ]
    straight = [path.profile for path in result.paths if path.kind == "linear"]
    verdicts = [path.judge(result.tolerance) for path in straight]
    sentences += [_describe_path(path, verdict) for path, verdict in zip(straight, verdicts, strict=True)]
    return [*sentences, *dict.fromkeys(map(_choose_caveat, verdicts))]


def _describe_model(name: str, model: Invariance) -> str:
    rand_cue, rand_image = model[RAND_CUE], model[RAND_IMAGE]
    accuracy = model.accuracy
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
        f"margin {model.margin * 100:.0f}{_describe_needed(rand_cue)}). "
        f"{content}: with another image under the same cue it still gives the cue's label on "
        f"{_format_percent(accuracy[RAND_IMAGE])}. Without any cue it is right on {_format_percent(accuracy[NO_CUE])}."
    )


def _list_states(result: CueResult) -> list[str]:
    """Which model uses, avoids, hides or lacks the cue; then what that says of those where relearning decides."""
    if not result.states:
        return []
    said = ", ".join(describe_state(name, state, "the cue") for name, state in result.states.items())
    hidden = [name for name, found in result.relearned.items() if found.state in ("hidden", "avoids", "undetermined")]
    return [f"{said}.", *(f"{name}: {result.relearned[name].headline}" for name in hidden)]


def _describe_path(path: Profile, found: PathVerdict) -> str:
    verdict = {
        "connected": "is mechanistically connected at these points: on the cue data and on every intervention",
        "not connected": "is not mechanistically connected",
        "undetermined": "may or may not be mechanistically connected: this much data does not settle it",
    }[found.evaluated]
    heights = ", ".join(_describe_barrier(path, found, split) for split in sort_splits(path.loss))
    shifts = describe_shifts(found.shifted, path.unit, path.names)
    return (
        f"The straight path from {path.names[0]} to {path.names[1]} {verdict} (tolerance {found.tolerance:g} nats)."
        f"{shifts} Barriers in loss: {heights}."
    )


def _describe_barrier(path: Profile, verdict: PathVerdict, split: str) -> str:
    if verdict.splits[split] == "connected":
        return f"none on {abbreviate_split(split)}"
    if any((value.split, value.on) == (split, "loss") for value in path.not_finite):
        return f"undefined on {abbreviate_split(split)}, where the loss is not finite"
    found = path.barrier(split)
    spread = "" if found.interval is None else f", 95 % interval {found.interval[0]:.2f} to {found.interval[1]:.2f}"
    return f"{found.height:.2f} nats on {abbreviate_split(split)} (t = {found.t:.1f}{spread})"


def _choose_caveat(found: PathVerdict) -> str:
    if found.evaluated == "connected":
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


def _describe_change(effect: Effect) -> str:
    low, high = (100 * bound for bound in effect.interval)
    return f"{100 * effect.effect:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"


def _describe_needed(effect: Effect) -> str:
    return f"; about {effect.to_settle:,} samples like these would settle it" if effect.to_settle else ""


def _format_percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
