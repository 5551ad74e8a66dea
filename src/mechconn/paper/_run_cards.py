"""Cards of a run: which networks rely on the cue, is it gone or hidden, which paths join them, do the claims hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mechconn.connectivity import combine_verdicts, join_words
from mechconn.core import RAND_CUE
from mechconn.mechanisms import Invariance, Relearned, describe_effect, make_relearned_card
from mechconn.paper._claims import Claim
from mechconn.paper._run_tables import (
    BarrierMean,
    CellPlace,
    combine_models,
    combine_relearned,
    group_paths,
    tabulate_barriers,
)
from mechconn.paper._split_names import abbreviate_split
from mechconn.plotting import VERDICT_STYLES, Answer, Card, format_interval, make_card, write_sentence

if TYPE_CHECKING:
    from mechconn.paper._cue_result import CueResult
    from mechconn.paper._run_record import RunRecord

MOST = 5
"""How many networks or paths a card shows."""
MOST_SHOWN = 4
"""How many answers of a run stand on top of a page of several."""
RELIANCE, PATHS, CLAIMS = "reliance", "paths", "claims"
"""Anchors of the sections that hold the evidence."""
CLAIM_VERDICTS = ("holds", "does not hold", "undetermined")


def list_run_cards(record: RunRecord, claims: Sequence[Claim]) -> Iterator[Card]:
    """Those of the cells of the first place, of the summary, and of the claims; else the first finding."""
    cards = [*list_cue_cards(record.cue_results), *([] if record.summary is None else record.summary.cards())]
    cards += _list_claim_cards(record, claims)
    yield from cards
    if not cards and record.findings:
        header = record.header()
        yield Card(header.question or header.title, (), why=write_sentence(record.findings[0]))


def list_cue_cards(results: Sequence[CueResult]) -> Iterator[Card]:
    """Of the first place: reliance on the cue, gone or hidden, and the paths."""
    models, relearned = combine_models(results), combine_relearned(results)
    if models:
        yield _make_reliance_card(models)
    if relearned:
        place, named = next(iter(relearned.items()))
        yield _make_states_card(place, named, len(relearned))
    if any(result.paths for result in results):
        yield _make_path_card(results)


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
    question = f"Which networks rely on the cue?{_say_where(place, len(found))}"
    why = f"Effects of a random cue ({abbreviate_split(RAND_CUE)}) on accuracy."
    return make_card(question, answers, why=why, anchor=RELIANCE, most=MOST)


def _make_states_card(place: CellPlace, named: Mapping[str, Relearned], places: int) -> Card:
    card = make_relearned_card(named, most=MOST)
    return replace(card, question=f"Is the cue gone, or hidden?{_say_where(place, places)}")


def _make_path_card(results: Sequence[CueResult]) -> Card:
    """The paths of the first place, judged as a profile is: on the reference and the interventions."""
    barriers, paths = tabulate_barriers(results), group_paths(results)
    place, named = next(iter(barriers.items()))
    answers = []
    for name, values in named.items():
        profile = paths[place][name][0].profile
        decide = {split: values[split] for split in (profile.reference, *profile.interventions)}
        answers.append(_answer_path(name, decide))
    question = f"Which paths join them?{_say_where(place, len(barriers))}"
    why = "A barrier, or none, is evidence beside the effects, which decide."
    return make_card(question, answers, why=why, anchor=PATHS, most=MOST)


def _answer_path(name: str, values: Mapping[str, BarrierMean]) -> Answer:
    """The verdict over the splits, with the highest barrier among those that decided."""
    verdict = combine_verdicts({value.verdict for value in values.values()})
    decided = {split: value for split, value in values.items() if value.verdict == verdict}
    if verdict == "connected" and any(value.shifted for value in values.values()):
        verdict = "undetermined"
    word = "not settled" if verdict == "undetermined" else verdict
    if bad := [abbreviate_split(split) for split, value in decided.items() if value.mean is None]:
        return Answer(word, VERDICT_STYLES[verdict], name, f"the loss is not finite on {join_words(bad)}")
    split, highest = max(decided.items(), key=lambda item: item[1].mean or 0.0)
    interval = format_interval(highest.interval, form=".2f")
    return Answer(
        word,
        VERDICT_STYLES[verdict],
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
        Answer(
            "not settled" if verdict == "undetermined" else verdict,
            VERDICT_STYLES[verdict],
            number=f"{counts[verdict]} of {len(claims)}",
        )
        for verdict in CLAIM_VERDICTS
        if counts[verdict]
    ]
    broken = next((claim for claim in claims if claim.verdict == "does not hold"), None)
    why = "" if broken is None else f"Does not hold: {write_sentence(broken.statement)}"
    yield make_card(f"Does what {source} says hold here?", answers, why=why, anchor=CLAIMS)


def make_overview_card(record: RunRecord) -> Card:
    """A run on top of a page of several: its first answers, and the way to its part."""
    header, cards = record.header(), record.cards()
    claims = [card for card in cards if card.anchor == CLAIMS]
    told = (claims or cards or [Card("", ())])[0]
    answers = told.answers
    if claims:  # said once, above the first
        answers = (replace(answers[0], about=told.question), *answers[1:])
    card = make_card(header.title, answers, why=header.question, anchor=record.id, most=MOST_SHOWN)
    return replace(card, more="and more below") if told.more else card
