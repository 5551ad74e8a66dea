"""Cards of a run: which networks rely on the cue, is it gone or hidden, which paths join them, do the claims hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mechconn.core import RAND_CUE
from mechconn.mechanisms import Invariance, Relearned, describe_effect, make_relearned_card
from mechconn.paper._claims import Claim
from mechconn.paper._run_tables import (
    BarrierMean,
    CellPlace,
    combine_models,
    combine_relearned,
    tabulate_barriers,
)
from mechconn.paper._split_names import abbreviate_split
from mechconn.plotting import Answer, AnswerStyle, Card, format_interval, make_card, write_sentence

if TYPE_CHECKING:
    from mechconn.paper._cue_result import CueResult
    from mechconn.paper._run_record import RunRecord

MOST = 5
"""How many networks or paths a card shows."""
RELIANCE, PATHS, CLAIMS = "reliance", "paths", "claims"
"""Anchors of the sections that hold the evidence."""
CONNECTED: Mapping[str, AnswerStyle] = {"connected": "holds", "not connected": "does-not-hold", "undetermined": "open"}
HOLDS: Mapping[str, AnswerStyle] = {"holds": "holds", "does not hold": "does-not-hold", "undetermined": "open"}


def list_run_cards(record: RunRecord, claims: Sequence[Claim]) -> Iterator[Card]:
    """Those of the cells of the first place, of the summary, and of the claims; else the first finding."""
    cards = [*list_cue_cards(record.cue_results), *([] if record.summary is None else record.summary.cards())]
    cards += _list_claim_cards(record, claims)
    yield from cards
    if not cards and record.findings:
        header = record.header()
        yield Card(header.question or header.title, (), advice=write_sentence(record.findings[0]))


def list_cue_cards(results: Sequence[CueResult]) -> Iterator[Card]:
    """Of the first place: reliance on the cue, gone or hidden, and the paths."""
    models, relearned, barriers = combine_models(results), combine_relearned(results), tabulate_barriers(results)
    if models:
        yield _make_reliance_card(models)
    if relearned:
        place, named = next(iter(relearned.items()))
        yield _make_states_card(place, named, len(relearned))
    if barriers:
        yield _make_path_card(barriers)


def _say_where(place: CellPlace, places: int) -> str:
    """Where the answers are from, of several places."""
    return "" if places == 1 else f" ({place.words}; {places - 1} more below)"


def _make_reliance_card(found: Mapping[CellPlace, Mapping[str, Invariance]]) -> Card:
    place, named = next(iter(found.items()))
    answers = [
        Answer(effect.verdict, effect.style, name, effect.number, effect.interval)
        for name, model in named.items()
        if RAND_CUE in model
        for effect in (describe_effect(model, RAND_CUE, ""),)
    ]
    advice = f"Effect of a random cue ({abbreviate_split(RAND_CUE)}) on accuracy; which network should, you decide."
    return make_card(f"Which networks rely on the cue?{_say_where(place, len(found))}", answers, advice, RELIANCE, MOST)


def _make_states_card(place: CellPlace, named: Mapping[str, Relearned], places: int) -> Card:
    """Of one seed the states; of several in how many runs it is hidden."""
    question = f"Is the cue gone, or hidden?{_say_where(place, places)}"
    first = next(iter(named.values()))
    card = make_relearned_card(named, most=MOST)
    if len(first.runs) == 1:
        return Card(question, card.answers, card.more, card.advice, card.anchor)
    answers = [
        Answer(
            f"hidden in {own.count('hidden')} of {len(own.runs)}",
            "sensitive" if own.count("hidden") else "open",
            name,
            f"excess {100 * own.excess:+.1f} points",
            f"gone in {own.count('gone')}; 95 % interval over seeds {format_interval(own.mean_excess, 100, '+.1f')}",
        )
        for name, own in named.items()
    ]
    return make_card(question, answers, card.advice, card.anchor, MOST)


def _make_path_card(found: Mapping[CellPlace, Mapping[str, Mapping[str, BarrierMean]]]) -> Card:
    place, named = next(iter(found.items()))
    answers = [_answer_path(name, values) for name, values in named.items()]
    advice = "A barrier is evidence beside the effects, which decide; none does not prove one mechanism."
    return make_card(f"Which paths join them?{_say_where(place, len(found))}", answers, advice, PATHS, MOST)


def _answer_path(name: str, values: Mapping[str, BarrierMean]) -> Answer:
    """The verdict over the splits, with the highest barrier."""
    verdicts = {value.verdict for value in values.values()}
    verdict = next((one for one in ("not connected", "undetermined") if one in verdicts), "connected")
    known = {split: value for split, value in values.items() if value.mean is not None and value.verdict == verdict}
    if any(value.shifted for value in values.values()) and verdict == "connected":
        verdict = "undetermined"
    word = "not settled" if verdict == "undetermined" else verdict
    if not known:
        return Answer(word, CONNECTED[verdict], name)
    split, highest = max(known.items(), key=lambda item: item[1].mean or 0.0)
    interval = format_interval(highest.interval, form=".2f")
    return Answer(
        word,
        CONNECTED[verdict],
        name,
        f"barrier {highest.mean:.2f} nats on {abbreviate_split(split)}",
        f"95 % interval {interval}" if interval else "",
    )


def _list_claim_cards(record: RunRecord, claims: Sequence[Claim]) -> Iterator[Card]:
    """How many of the source's statements hold here."""
    if not claims:
        return
    counts = Counter(claim.verdict for claim in claims)
    source = "the paper" if record.is_of_paper else "the source"
    answers = [
        Answer("not settled" if verdict == "undetermined" else verdict, style, number=f"{counts[verdict]} statements")
        for verdict, style in HOLDS.items()
        if counts[verdict]
    ]
    broken = next((claim for claim in claims if claim.verdict == "does not hold"), None)
    advice = "" if broken is None else f"Does not hold: {write_sentence(broken.statement)}"
    yield make_card(f"Does what {source} says hold here?", answers, advice, CLAIMS)
