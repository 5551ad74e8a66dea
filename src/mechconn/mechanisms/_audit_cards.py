"""Cards of an audit: those of its comparison, whether a mechanism is gone or hidden, and what joins the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mechconn.connectivity import PathVerdict, Profile, join_words
from mechconn.mechanisms._mechanism_cards import ASK_RELEARNING, list_comparison_cards, name_units
from mechconn.mechanisms._relearned_cards import SEE_RELEARNING, make_relearned_card
from mechconn.plotting import Answer, AnswerStyle, Card, format_interval, make_card

if TYPE_CHECKING:
    from mechconn.mechanisms._audit import Audit

NO_PATH = "So no path in weight space joins them."
"""The end of the note on two networks of different architectures."""
PATHS: Mapping[str, tuple[str, AnswerStyle]] = {
    "connected": ("a straight path joins them", "holds"),
    "not connected": ("a barrier lies between", "does-not-hold"),
    "undetermined": ("not settled", "open"),
}
ALIGNED = {"before": "as they are", "after": "after alignment"}


def list_audit_cards(audit: Audit) -> Iterator[Card]:
    """Each question once: does A rely on it, does B, how much less, gone or hidden, may they be merged."""
    yield from list_comparison_cards(audit.comparison, SEE_RELEARNING if audit.relearned else ASK_RELEARNING)
    if audit.relearned:
        yield make_relearned_card(audit.relearned)
    else:
        advice = "To ask: relearn= in mechconn.audit, or a table [relearn] in audit.toml."
        yield Card("Is it gone, or hidden?", (Answer("not asked", "open"),), advice=advice)
    yield _make_joining_card(audit)


def make_path_anchor(which: str) -> str:
    """The anchor of a line's section."""
    return f"path-{which}"


def _make_joining_card(audit: Audit) -> Card:
    """May they be merged? What the straight path says of it, and what gives the answer."""
    question = "May they be merged?"
    if not audit.connections:
        why = next((note for note in audit.notes if note.endswith(NO_PATH)), "No path was walked.")
        return Card(question, (Answer("no path in weight space", "open"),), why=why)
    answers = [_answer_path(audit, which, found) for which, found in audit.connections.items()]
    last, found = list(audit.connections.items())[-1]
    return make_card(question, answers, advice=_advise_on_path(audit, last, found), anchor=make_path_anchor(last))


def _advise_on_path(audit: Audit, which: str, found: PathVerdict) -> str:
    """What to do next, of the last path that was walked."""
    if found.shifted:
        return 'Its ends are other networks than those saved: [norm] policy = "interpolate" keeps both as saved.'
    if found.verdict == "undetermined" and _list_not_finite(audit, which):
        return "A merged network can be judged all the same: mechconn merge."
    return {
        "connected": "A path without a barrier is a start: mechconn merge judges the merged network on every split.",
        "not connected": "An average lies on this path; mechconn merge judges it, and other ways, on every split.",
        "undetermined": f"More {name_units(audit.comparison.a)} narrow the intervals; mechconn merge judges a merged "
        "network itself.",
    }[found.verdict]


def _answer_path(audit: Audit, which: str, found: PathVerdict) -> Answer:
    """The verdict on the networks as saved; what the path itself shows where its ends are others."""
    verdict, style = PATHS[found.verdict]
    number, interval = _describe_deciding(audit, which, found)
    if found.evaluated != found.verdict:
        interval = "; ".join(filter(None, (interval, f"between its ends: {found.evaluated}")))
    return Answer(verdict, style, ALIGNED[which], number, interval)


def _list_not_finite(audit: Audit, which: str) -> set[str]:
    """The splits on which what a path is judged by is not finite."""
    if which in audit.settled_paths:
        return {value.split for value in audit.settled_paths[which].undefined}
    return {value.split for value in audit.paths[which].not_finite if value.on == "loss"}


def _describe_deciding(audit: Audit, which: str, found: PathVerdict) -> tuple[str, str]:
    """The highest barrier among the splits that decided, with its interval; where a value is not finite, that."""
    path = audit.settled_paths.get(which) or audit.paths[which]
    decided = [split for split in (path.reference, *path.interventions) if found.splits[split] == found.evaluated]
    if bad := [split for split in decided if split in _list_not_finite(audit, which)]:
        where = join_words(bad)
        said = (
            f"the loss is not finite on {where}" if isinstance(path, Profile) else f"rows of {where} have no {path.on}"
        )
        return said, ""
    barriers = {split: path.barrier(split) for split in decided}
    split, barrier = max(barriers.items(), key=lambda item: item[1].height)
    scale, unit = 1.0, path.unit
    if not isinstance(path, Profile):
        scale, unit = (100.0, "points of error") if path.on == "accuracy" else (1.0, path.on)
    bounds = format_interval(barrier.interval, scale, ".3g")
    return f"barrier {scale * barrier.height:.3g} {unit} on {split}", f"95 % interval {bounds}" if bounds else ""
