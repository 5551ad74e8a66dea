"""Cards of an audit: those of its comparison, whether a mechanism is gone or hidden, and what joins the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mechconn.connectivity import Barrier, PathVerdict, Profile, SettledPath
from mechconn.mechanisms._mechanism_cards import list_comparison_cards
from mechconn.mechanisms._relearned_cards import make_relearned_card
from mechconn.plotting import Answer, AnswerStyle, Card, format_interval, make_card

if TYPE_CHECKING:
    from mechconn.mechanisms._audit import Audit

PATHS: Mapping[str, tuple[str, AnswerStyle]] = {
    "connected": ("a straight path joins them", "holds"),
    "not connected": ("a barrier lies between", "does-not-hold"),
    "undetermined": ("not settled", "open"),
}
WHEN = {"before": "as they are", "after": "after alignment"}


def list_audit_cards(audit: Audit) -> Iterator[Card]:
    """Each question once: does A rely on it, does B, how much less, gone or hidden, may they be merged."""
    yield from list_comparison_cards(audit.comparison)
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
        why = audit.notes[0] if audit.notes else "no path was walked"
        return Card(question, (Answer("no path in weight space", "open"),), advice=why)
    answers = [_answer_path(audit, which, found) for which, found in audit.connections.items()]
    last, found = list(audit.connections.items())[-1]
    return make_card(question, answers, _advise_on_path(found), make_path_anchor(last))


def _advise_on_path(found: PathVerdict) -> str:
    """What to do next, of the last path that was walked."""
    if found.shifted:
        return 'Its ends are other networks than those saved: [norm] policy = "interpolate" keeps both as saved.'
    return {
        "connected": "A path without a barrier is a start: mechconn merge judges the merged network on every split.",
        "not connected": "An average lies on this path; mechconn merge judges it, and other ways, on every split.",
        "undetermined": "More rows narrow the intervals; mechconn merge judges a merged network itself.",
    }[found.verdict]


def _answer_path(audit: Audit, which: str, found: PathVerdict) -> Answer:
    """The verdict on the networks as saved; what the path itself shows where its ends are others."""
    verdict, style = PATHS[found.verdict]
    number, interval = _describe_highest(audit, which, found)
    if found.evaluated != found.verdict:
        interval = "; ".join(filter(None, (interval, f"between its ends: {found.evaluated}")))
    return Answer(verdict, style, WHEN[which], number, interval)


def _describe_highest(audit: Audit, which: str, found: PathVerdict) -> tuple[str, str]:
    """The highest barrier over the splits that decide, with its interval; where a value is not finite, that."""
    settled = audit.settled_paths.get(which)
    scale, unit = (100.0, "points of error") if settled is not None and settled.on == "accuracy" else (1.0, "")
    barriers = _list_barriers(audit.paths[which] if settled is None else settled, found)
    if not barriers:
        return "the loss is not finite", ""
    split, barrier = max(barriers.items(), key=lambda item: item[1].height)
    unit = unit or (settled.on if settled is not None else audit.paths[which].unit)
    amount = f"barrier {scale * barrier.height:.3g} {unit} on {split}"
    return amount, (barrier.interval and f"95 % interval {format_interval(barrier.interval, scale, '.3g')}") or ""


def _list_barriers(path: Profile | SettledPath, found: PathVerdict) -> dict[str, Barrier]:
    """Split -> barrier, of the splits that decide and are finite; of those with a barrier where there is one."""
    bad = {value.split for value in (path.undefined if isinstance(path, SettledPath) else path.not_finite)}
    decide = [split for split in (path.reference, *path.interventions) if split not in bad]
    worst = [split for split in decide if found.splits[split] == "not connected"] or decide
    return {split: path.barrier(split) for split in worst}
