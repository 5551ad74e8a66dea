"""What a merge found, in sentences that hold whatever the numbers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mechconn.connectivity import describe_norm, join_words
from mechconn.core import RAND_IMAGE
from mechconn.mechanisms import choose_effect_scale
from mechconn.merging._merge_mechanisms import MERGED, MechanismFate
from mechconn.merging._merge_verdict import ParentDifference

if TYPE_CHECKING:
    from mechconn.merging._merged import Merged, MergeJudgement

FATES = {
    "keeps": "kept",
    "loses": "lost",
    "gains": "gained",
    "averages": "averaged",
    "takes": "taken",
    "undetermined": "undetermined",
}
APPROXIMATE = (
    "Intervals of {what} are Student's t, which is approximate: where a few rows have a value far beyond the others', "
    "or might have had, they can be too narrow, and a verdict too early."
)
CUE_ALONE = (
    f"On {RAND_IMAGE} rows show the content of others, so that the cue alone tells the label: a network that is right "
    "there relies on the cue. Where that is not wanted, leave the split out of the verdict by splits=."
)
MOST_PAIRS = 3
"""How many pairs a headline names."""


def write_headline(found: Merged) -> str:
    """May I merge them? The answer, before and after alignment, and where the merged network is worst."""
    who = f"May I merge {join_words(list(found.names))}?"
    if found.after is None:
        return f"{who} {_answer(found, found.before, '')}"
    if found.before.verdict == found.after.verdict:
        return f"{who} {_answer(found, found.after, ', as they are and after alignment')}"
    return f"{who} {_answer(found, found.after, ' after alignment')} {_answer(found, found.before, ' as they are')}"


def write_reason(found: Merged) -> str:
    """Why the verdict is what it is."""
    return _explain(found, found.judged)


def _answer(found: Merged, judged: MergeJudgement, when: str) -> str:
    """One merged network in a sentence."""
    word = judged.verdict.capitalize()
    if judged.verdict == "yes":
        return f"{word}{when}: not worse than any parent on any split, at a tolerance of {_write_tolerance(found)}."
    pairs = _list_worst(judged)
    first, more = pairs[0], len(pairs) - 1
    where = f"{first.parent} on {first.split}"
    rest = f" in {more} more of {len(judged.differences)} comparisons" if more else ""
    if judged.verdict == "no":
        scale = choose_effect_scale(judged.invariance)
        amount = f"{scale.write(abs(first.difference), '')} {scale.unit} worse than {where}"
        return f"{word}{when}: {amount}{', and worse' + rest if more else ''}."
    count = judged.to_settle
    settle = "" if count is None else f"; about {count:,} {name_units(found)} of a split would settle it"
    return f"{word}{when}: whether it is worse than {where}{' or' + rest if more else ''} is open{settle}."


def _explain(found: Merged, judged: MergeJudgement) -> str:
    """The verdict's reason, with every pair that decided, up to some."""
    limit = _write_tolerance(found)
    if judged.verdict == "yes":
        return f"the merged network is not worse than any parent on any split, at a tolerance of {limit}"
    pairs = _list_pairs(_list_worst(judged), found)
    if judged.verdict == "no":
        return f"the merged network is worse than {pairs}, beyond the tolerance of {limit}"
    count = judged.to_settle
    settle = "" if count is None else f"; about {count:,} {name_units(found)} of a split would settle it"
    return f"whether the merged network is worse than {pairs} is not settled at a tolerance of {limit}{settle}"


def _list_worst(judged: MergeJudgement) -> list[ParentDifference]:
    """The pairs that decided, worst first."""
    pairs = judged.worse or judged.open
    sign = 1 if judged.better == "higher" else -1
    return sorted(pairs, key=lambda pair: sign * pair.difference)


def _list_pairs(pairs: Sequence[ParentDifference], found: Merged) -> str:
    scale = choose_effect_scale(found.before.invariance)
    said = [
        f"{pair.parent} on {pair.split} ({scale.write(pair.difference)} {scale.unit})" for pair in pairs[:MOST_PAIRS]
    ]
    if len(pairs) > MOST_PAIRS:
        said.append(f"{len(pairs) - MOST_PAIRS} more")
    return join_words(said)


def _write_tolerance(found: Merged) -> str:
    scale = choose_effect_scale(found.before.invariance)
    return f"{scale.write(found.tolerance, '')} {scale.unit}"


def name_units(found: Merged) -> str:
    """What intervals are over."""
    return "clusters" if found.before.invariance.over == "clusters" else "rows"


def describe_how(found: Merged) -> str:
    """How the parents were aligned, and where statistics came from."""
    assert found.alignment is not None
    onto, how = found.alignment.settings.get("onto"), found.alignment.settings["method"]
    moved = f"The parents were moved onto {onto}" if onto else "The parents were moved into one order of units"
    return f"{moved} by {how}; each computes what it computed.{describe_statistics(found)}"


def describe_statistics(found: Merged) -> str:
    """Where normalisation statistics came from; empty where the networks keep none."""
    return "" if found.norm.get("policy") == "keep" else describe_norm(found.norm)


def describe_fate(fate: MechanismFate, units: str) -> str:
    """Of whom, or between whom, or what is open, and how many rows or clusters, `units`, settle it."""
    who = join_words(list(fate.of)) if fate.of else ""
    said = {
        "keeps": "as every parent",
        "loses": f"relied on by {who}",
        "gains": "relied on by no parent so",
        "averages": f"between {who}",
        "takes": f"from {who}",
    }.get(fate.fate, "")
    if fate.fate != "undetermined":
        return said
    names = ["the merged network" if name == MERGED else name for name in fate.undetermined]
    said = f"not settled on {join_words(names)}" if names else "the parents differ"
    return said if fate.to_settle is None else f"{said}\nabout {fate.to_settle:,} {units} would settle it"


def write_findings(found: Merged) -> Iterator[str]:
    """The verdicts, the mechanisms, what these rows can show, and notes."""
    for which, judged in found.networks.items():
        yield _describe_network(found, which, judged)
        yield from _describe_mechanisms(found, which, judged)
    yield from _list_side_notes(found)
    yield from _describe_power(found)
    if RAND_IMAGE in found.splits:
        yield CUE_ALONE
    if not _is_exact(found):
        yield APPROXIMATE.format(what="the loss" if found.on == "loss" else found.on)
    yield from (note if note.endswith(".") else f"{note}." for note in found.notes)


def _list_side_notes(found: Merged) -> Iterator[str]:
    """What is noted of single networks, each note once; and of whom an invariance says nothing."""
    sides = {**found.parents, **{_name(found, which): judged.invariance for which, judged in found.networks.items()}}
    for name, side in sides.items():
        if any(side[split].caveat for split in side.interventions):
            yield f"What {name} is invariant to says nothing about what it uses: {side.uninformative}."
    notes = dict.fromkeys(note for side in sides.values() for note in side.notes)
    yield from (note if note.endswith(".") else f"{note}." for note in notes)


def _is_exact(found: Merged) -> bool:
    """Whether intervals hold for every distribution: on accuracy, and on a metric that has bounds."""
    return found.on == "accuracy" or found.settings["metrics"].get(found.on) is not None


def _name(found: Merged, which: str) -> str:
    if found.after is None:
        return "the merged network"
    return f"the network merged of the {'parents as they are' if which == 'before' else 'aligned parents'}"


def _describe_network(found: Merged, which: str, judged: MergeJudgement) -> str:
    verdict = {"yes": "may take", "no": "may not take", "undetermined": "may or may not take"}[judged.verdict]
    name = _name(found, which)
    worse = f" Worse than {_list_pairs(_list_worst(judged), found)}." if judged.worse else ""
    counts = Counter(pair.verdict for pair in judged.differences)
    said = join_words([f"{count} {what}" for what in ("not worse", "worse", "undetermined") if (count := counts[what])])
    return (
        f"{name[:1].upper()}{name[1:]} {verdict} its parents' place. Of {len(judged.differences)} pairs of a parent "
        f"and a split, compared on the same rows, {said}. The verdict is wrong with probability 5 % "
        f"{'at most' if _is_exact(found) else 'or so'}.{worse}"
    )


def _describe_mechanisms(found: Merged, which: str, judged: MergeJudgement) -> Iterator[str]:
    if not judged.fates:
        return
    parts = []
    for split, fate in judged.fates.items():
        about = describe_fate(fate, name_units(found)).replace("\n", "; ")
        parts.append(f"{split} {FATES[fate.fate]} ({about})")
    name = _name(found, which)
    yield f"What becomes of the mechanisms in {name}: {', '.join(parts)}."


def _describe_power(found: Merged) -> Iterator[str]:
    scale = choose_effect_scale(found.judged.invariance)
    unit = name_units(found)
    known = [part for part in found.power if part.smallest_loss is not None]
    if known:
        worst = max(known, key=lambda part: part.smallest_loss or 0.0)
        yield (
            f"The smallest loss against a parent that these {unit} can show is "
            f"{scale.write(worst.smallest_loss or 0.0, '')} {scale.unit}, on {worst.split}."
        )
    yield from _describe_equals(found)


def _describe_equals(found: Merged) -> Iterator[str]:
    """What it takes to call a network not worse that has exactly a parent's values, where that is more than there is.

    Of others nothing is known before they are looked at: a better one may need fewer rows.
    """
    short = [part for part in found.power if part.least_tolerance > found.tolerance]
    if not short:
        return
    scale, unit = choose_effect_scale(found.judged.invariance), name_units(found)
    needed = max((part.units_for_yes or 0 for part in short), default=0)
    least = max(part.least_tolerance for part in short)
    count = f"takes {needed:,} {unit} of a split, or on these" if needed else "takes"
    alike = "that answers exactly as a parent" if found.on == "accuracy" else f"with exactly a parent's {found.on}"
    others = (
        "one that is better may need fewer"
        if _is_exact(found)
        else "one whose values differ is judged by Student's t, which may need fewer"
    )
    yield (
        f"On {join_words([part.split for part in short])}, to call a network {alike} on all {unit} not worse at a "
        f"tolerance of {_write_tolerance(found)} {count} a tolerance of {scale.write(least, '')} {scale.unit}; "
        f"{others}."
    )
