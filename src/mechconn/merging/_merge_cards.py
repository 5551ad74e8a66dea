"""Cards of a merge: may it take its parents' place, what becomes of each mechanism, what each parent relies on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechconn.mechanisms import choose_effect_scale, list_reliance_cards
from mechconn.merging._merge_sentences import FATES, describe_fate, name_units
from mechconn.merging._merge_verdict import ParentDifference
from mechconn.plotting import VERDICT_STYLES, Answer, Card, make_card

if TYPE_CHECKING:
    from mechconn.merging._merged import Merged, MergeJudgement

WHEN = {"before": "as they are", "after": "aligned"}
MAY = "May they be merged?"
"""The question."""
MOST_PARENTS = 3
"""How many parents have a card of their own."""


def list_merge_cards(found: Merged) -> Iterator[Card]:
    """The verdict on every merged network, the mechanisms of the one that counts, and those of the parents."""
    yield _make_verdict_card(found)
    yield from _list_fate_cards(found)
    yield from (
        card for name in found.names[:MOST_PARENTS] for card in list_reliance_cards(name, found.parents[name], "fates")
    )


def _make_verdict_card(found: Merged) -> Card:
    several = found.after is not None
    answers = [_answer_verdict(found, judged, WHEN[which] * several) for which, judged in found.networks.items()]
    left = len(found.names) - MOST_PARENTS
    why = f"Of {len(found.names)} parents the first {MOST_PARENTS} have a card." if left > 0 else ""
    return make_card(MAY, answers, why=why, advice=_advise(found), anchor=find_anchor(found))


def find_anchor(found: Merged) -> str:
    """The anchor of the differences of the network that the verdict is about."""
    return f"merged-{'before' if found.after is None else 'after'}"


def _answer_verdict(found: Merged, judged: MergeJudgement, about: str) -> Answer:
    """The verdict with the pair that is worst, or least settled."""
    word = "not settled" if judged.verdict == "undetermined" else judged.verdict
    pair = _find_lowest(found, judged)
    scale = choose_effect_scale(judged.invariance)
    number = f"{scale.write(pair.difference)} {scale.unit} against {pair.parent} on {pair.split}"
    limit = f"tolerance {scale.write(found.tolerance, '')}"
    interval = limit if pair.same_network else f"bounds {scale.write_interval(pair.judged_interval)}, {limit}"
    return Answer(word, VERDICT_STYLES[judged.verdict], about, number, interval)


def _find_lowest(found: Merged, judged: MergeJudgement) -> ParentDifference:
    """The comparison in which the merged network is worst, of those that decide the verdict."""
    sign = 1 if found.better == "higher" else -1
    return min(judged.worse or judged.open or judged.differences, key=lambda pair: sign * pair.difference)


def _advise(found: Merged) -> str:
    """What to do next."""
    judged, units = found.judged, name_units(found)
    if judged.verdict == "yes":
        return "It may take its parents' place on these splits, at this tolerance; other data need splits of their own."
    if judged.verdict == "undetermined":
        count = judged.to_settle
        return f"About {count:,} {units} would settle it." if count else f"No number of {units} is known to settle it."
    if found.after is None:
        return (
            "Align the parents before they are merged (align=UniverseMatching(), --align universe), or merge otherwise."
        )
    return "Try another method, or train the merged network further and judge it again (mechconn.judge_merged)."


def _list_fate_cards(found: Merged) -> Iterator[Card]:
    """What becomes of each mechanism; without colour, since a lost cue may be what is wanted."""
    fates = found.judged.fates
    if not fates:
        return
    several = len(fates) > 1
    answers = [
        Answer(
            "not settled" if fate.fate == "undetermined" else FATES[fate.fate],
            "open" if fate.fate == "undetermined" else "",
            split if several else "",
            interval=describe_fate(fate, name_units(found)).replace("\n", "; "),
        )
        for split, fate in fates.items()
    ]
    question = "What becomes of the mechanisms?" if several else f"What becomes of {next(iter(fates))}?"
    advice = "Whether what is lost or gained is wanted, only you know; the effects of every network stand below."
    yield make_card(question, answers, advice=advice, anchor="fates")
