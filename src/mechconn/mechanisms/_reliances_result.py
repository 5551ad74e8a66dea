"""What a model relies on: the effects of many interventions in order, as text, page and picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from mechconn.core import Picture
from mechconn.mechanisms._effects import Effect, Invariance
from mechconn.mechanisms._invariance_page import (
    EFFECTS,
    HOLM,
    choose_effect_scale,
    describe_effect_intervals,
    describe_effects,
    list_invariance_rows,
    make_effect_cell,
    make_level_cell,
)
from mechconn.mechanisms._mechanism_cards import list_reliance_cards
from mechconn.plotting import (
    Card,
    Cell,
    Drawing,
    Header,
    Result,
    Section,
    Table,
    draw_ranked_marks,
    format_interval,
    print_table,
)

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

UNFAMILIAR = (
    "A model is sensitive where its answers depend on what the intervention disturbs, also because it never met such "
    "inputs; invariant means that the accuracy stays, not that no answer changes."
)

WIDER = "Thick lines: 95 % intervals, each for itself. Thin lines: those that the verdicts rest on, for all together."
SHOWN = 4
"""Names in a title."""


@dataclass(frozen=True)
class AppliedIntervention:
    """One intervention as it was applied.

    Attributes:
        what: the intervention with its options.
        disturbs: what it takes away or changes, in a few words; empty where that is not known.
        touched: share of the rows looked at whose inputs it changes.
        label_change: why people give another label after it; empty where they do not.
    """

    what: str
    disturbs: str
    touched: float
    label_change: str = ""


@dataclass(frozen=True, repr=False)
class Reliances(Result, Mapping[str, Effect], kind="reliances"):
    """The effects of many interventions on one model, the largest first; `result["grey"]` is that of one.

    Attributes:
        invariance: accuracies, effects and verdicts, corrected over all interventions together (Holm).
        applied: intervention -> what was done, in the same order.
        left_out: intervention -> why it was not applied.
        looked_at: rows whose inputs were compared before and after, for `AppliedIntervention.touched`.
        seed: of the draws.
        pictures: split -> its first samples side by side, where they are images.
    """

    derived: ClassVar[tuple[str, ...]] = ("relies_on", "invariant_to", "undetermined")

    invariance: Invariance
    applied: Mapping[str, AppliedIntervention]
    left_out: Mapping[str, str]
    looked_at: int
    seed: int
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Effect:
        return self.invariance.effects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.invariance.effects)

    def __len__(self) -> int:
        return len(self.invariance.effects)

    @property
    def relies_on(self) -> tuple[str, ...]:
        """The interventions that the model is sensitive to, the largest effect first."""
        return tuple(name for name, effect in self.items() if effect.verdict == "sensitive")

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """The interventions that it is invariant to."""
        return tuple(name for name, effect in self.items() if effect.verdict == "invariant")

    @property
    def undetermined(self) -> tuple[str, ...]:
        """The interventions whose verdict needs more rows."""
        return tuple(name for name, effect in self.items() if effect.verdict == "undetermined")

    def __str__(self) -> str:
        """A table of effects, the largest first, then what was left out and why."""
        lines = [self._describe_level(), *print_table(self._tabulate())]
        lines += [f"  left out: {name} ({why})" for name, why in self.left_out.items()]
        lines += [f"  note: {note}" for note in self._list_notes()]
        return "\n".join([*lines, UNFAMILIAR])

    def _describe_level(self) -> str:
        found = self.invariance
        level = make_level_cell(found, found.reference)
        what = "accuracy" if found.accuracy else "mean loss"
        return (
            f"{what} {level} on {found.samples[found.reference]:,} rows; effects of {len(self)} interventions, margin "
            f"{found.margin:g}, verdicts corrected over all of them"
        )

    def _list_notes(self) -> Iterator[str]:
        yield from self.invariance.notes
        if self.invariance.uninformative:
            yield f"where it is invariant that says nothing about what it uses: {self.invariance.uninformative}"
        for name, applied in self.applied.items():
            if applied.label_change:
                yield f"{name} changes the label for people, and is kept: {applied.label_change}"

    def rows(self) -> list[dict[str, Any]]:
        """One record per intervention, the largest effect first."""
        records = {row["split"]: row for row in list_invariance_rows(self.invariance)}
        return [
            {
                "intervention": name,
                "what": applied.what,
                "disturbs": applied.disturbs,
                "touched": applied.touched,
                **{key: value for key, value in records[name].items() if key != "split"},
            }
            for name, applied in self.applied.items()
        ]

    def cards(self) -> list[Card]:
        """What does the model rely on? The largest effects first."""
        return list(list_reliance_cards("the model", self.invariance))

    def header(self) -> Header:
        """What the model relies on, the largest effects first, and how much is invariant or open."""
        relied = [self._describe_thing(name) for name in self.relies_on]
        more = f" and {len(relied) - SHOWN} more" if len(relied) > SHOWN else ""
        said = [f"relies on {', '.join(relied[:SHOWN])}{more}"] if relied else []
        counts = {"is invariant to": self.invariant_to, "may or may not rely on": self.undetermined}
        said += [f"{verdict} {_list_names(names)}" for verdict, names in counts.items() if names]
        if self.invariant_to and self.invariance.uninformative:
            said.append(f"its invariance says nothing: {self.invariance.uninformative}")
        return Header(f"The model {'; '.join(said)}", "What does this model rely on?")

    def _describe_thing(self, name: str) -> str:
        disturbs = self.applied[name].disturbs
        return f"{disturbs} ({name})" if disturbs else name

    def sections(self) -> list[Section]:
        """The effects in order, what each intervention shows, and what was left out."""
        sides = {"": self.invariance}
        figure = Drawing(self.plot, describe_effects(sides), WIDER)
        noted = "".join(f" Note: {note}." for note in self._list_notes())
        note = f"{describe_effect_intervals(self.invariance)} {HOLM} {UNFAMILIAR}{noted}"
        sections = [
            Section("What it relies on", figures=(figure,), tables=(self._tabulate(),), note=note, anchor=EFFECTS)
        ]
        if self.pictures:
            sections.append(Section("What each intervention shows", strips=self.pictures))
        if self.left_out:
            rows = tuple(self.left_out.items())
            table = Table(("intervention", "reason"), rows, words=frozenset({1}))
            sections.append(Section("Left out", tables=(table,)))
        return sections

    def _tabulate(self) -> Table:
        scale = choose_effect_scale(self.invariance)
        changed = any(effect.changed is not None for effect in self.values())
        columns = ("intervention", "disturbs", f"effect ({scale.unit})", *(["predictions change"] if changed else []))
        rows = []
        for name, applied in self.applied.items():
            effect = self[name]
            share = "" if effect.changed is None else f"{100 * effect.changed:.1f} %"
            small = "" if effect.changed is None else format_interval(effect.changed_interval, 100, ".1f")
            rest = [Cell(share, small)] if changed else []
            rows.append((self._name(name, applied), applied.disturbs, make_effect_cell(effect, scale), *rest))
        return Table(columns, tuple(rows), words=frozenset({1}))

    def _name(self, name: str, applied: AppliedIntervention) -> Cell:
        percent = f"{100 * applied.touched:.0f}"
        share = "" if percent == "100" else f"changes {percent} % of rows"
        return Cell(name, share, title=applied.what)

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effects in order with their 95 % intervals, coloured by verdict, and the margin.

        Thin lines are the intervals that verdicts rest on, wider for those of all interventions to hold together.
        """
        found, scale = self.invariance, choose_effect_scale(self.invariance)
        marks = {
            name: (scale.factor * effect.effect, scale.factor * effect.interval[0], scale.factor * effect.interval[1])
            for name, effect in self.items()
        }
        verdicts = {name: effect.verdict for name, effect in self.items()}
        bounds = {name: effect.adjusted_interval for name, effect in self.items()}
        wider = {name: (scale.factor * low, scale.factor * high) for name, (low, high) in bounds.items()}
        label = f"effect on {found.on} ({scale.unit})"
        return draw_ranked_marks(marks, verdicts, wider, scale.factor * found.margin, label, ax)


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= SHOWN else f"what {len(names)} interventions disturb"
