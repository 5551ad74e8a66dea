"""The card of arithmetic: does a change of weights remove the cue?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mechconn.plotting import Answer, Card, format_interval, make_card

if TYPE_CHECKING:
    from mechconn.paper._arithmetic_result import ChangeSummary


def make_change_card(places: Mapping[str, Mapping[str, ChangeSummary]]) -> Card:
    """What every change of weights does to the cue, of the first place, over the seeds."""
    (place, changes), *more = places.items()
    answers = [_answer_change(name, change) for name, change in changes.items()]
    where = f" ({place}; {len(more)} more below)" if more else ""
    why = "A random change of the same norms stands beside each below; whether the cue is gone, relearning says."
    return make_card(f"Does subtracting the change remove the cue?{where}", answers, why=why, most=len(answers))


def _answer_change(name: str, change: ChangeSummary) -> Answer:
    """The verdicts over the seeds, and the cue alone before and after."""
    before, after = (f"{100 * (value.mean or 0.0):.1f}" for value in (change.target_before, change.target_after))
    interval = format_interval(change.target_after.interval, 100, ".1f")
    return Answer(
        f"{write_counts(change.verdicts)} of {change.seeds}",
        about=name,
        number=f"RI {before} to {after} %",
        interval=f"95 % interval over seeds {interval}" if interval else "",
    )


def write_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word} in {count}" for word, count in counts.items())
