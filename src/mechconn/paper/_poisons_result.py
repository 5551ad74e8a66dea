"""What the recipe `poisons` gives: what networks do with each of several cues, and all seeds together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechconn.core import NO_CUE
from mechconn.mechanisms import Invariance, combine_training_runs, draw_effects
from mechconn.paper._run_part import RunPart
from mechconn.paper._several_cues import judge_cue, name_agreeing, name_alone, name_random
from mechconn.plotting import (
    VERDICT_STYLES,
    Answer,
    Card,
    Cell,
    Drawing,
    Section,
    Table,
    format_interval,
    make_card,
)

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

BEFORE = "theta_C"
"""The network that was trained on all cues."""


@dataclass(frozen=True)
class TunedNetwork:
    """One network.

    Attributes:
        against: the cues that its tuning was given; none of a method that reads clean rows alone.
        found: its accuracies, and the effect of a random cue of each kind.
    """

    against: tuple[str, ...]
    found: Invariance


@dataclass(frozen=True, repr=False)
class PoisonsCell(RunPart, kind="poisons_cell"):
    """One seed: the network before tuning and after every way of it.

    Attributes:
        dataset, proportion, seed: where.
        cues: their names.
        networks: name -> network, that before tuning first.
    """

    dataset: str
    proportion: float
    seed: int
    cues: tuple[str, ...]
    networks: Mapping[str, TunedNetwork]

    @property
    def place(self) -> str:
        """Data in words."""
        return f"{self.dataset}, a cue on {100 * self.proportion:g}\N{NO-BREAK SPACE}%"

    def rows(self) -> list[dict[str, Any]]:
        """One record for each network and cue."""
        return _list_rows(self.networks, self.cues)

    def sections(self) -> list[Section]:
        """What every network does with every cue."""
        found = {name: own.found for name, own in self.networks.items()}
        return [_make_effect_section(f"Seed {self.seed}", found, self.cues, self.networks, _EXACT)]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effect of a random cue of each kind on every network."""
        return _draw({name: own.found for name, own in self.networks.items()}, self.cues, ax)

    def __str__(self) -> str:
        lines = [f"{self.place}, seed {self.seed}"]
        for name, own in self.networks.items():
            effects = ", ".join(_write_effect(own.found, cue) for cue in self.cues)
            lines.append(f"  {name}: {effects}")
        return "\n".join(lines)


@dataclass(frozen=True)
class TunedMean:
    """One network over the seeds.

    Attributes:
        against: the cues that its tuning was given.
        found: means, with intervals and verdicts over seeds; of one seed as it was measured.
        verdicts: cue -> verdict of one seed -> in how many seeds.
    """

    against: tuple[str, ...]
    found: Invariance
    verdicts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, repr=False)
class Poisons(RunPart, kind="poisons"):
    """Every network over the seeds.

    The verdicts on the cues of one network are right together with 95 %: over seeds approximately (Student's t, Holm),
    of one seed exactly. Those of several networks are separate statements.

    Attributes:
        cues: their names.
        places: data in words -> network -> what it does over the seeds.
        seeds: how many.
    """

    cues: tuple[str, ...]
    places: Mapping[str, Mapping[str, TunedMean]]
    seeds: int

    @property
    def findings(self) -> tuple[str, ...]:
        """What becomes of each cue, network by network."""
        return tuple(self._write_findings())

    def _write_findings(self) -> Iterator[str]:
        for place, networks in self.places.items():
            for name, own in networks.items():
                effects = "; ".join(_write_effect(own.found, cue) for cue in self.cues)
                yield (f"{place}, {name}: {effects}; accuracy without a cue {100 * own.found.accuracy[NO_CUE]:.1f} %.")
            yield from _answer_spread(place, networks, self.cues)

    def cards(self) -> list[Card]:
        """Which cues each network of the first place still uses."""
        (place, networks), *_ = self.places.items()
        answers = [_answer_network(name, own, self.cues) for name, own in networks.items()]
        why = "A cue is used where one that agrees, or a random one, moves accuracy by more than the margin."
        return [make_card(f"Which cues are still used? ({place})", answers, why=why, most=len(answers))]

    def rows(self) -> list[dict[str, Any]]:
        """One record for each place, network and cue."""
        return [
            {"place": place, **row}
            for place, networks in self.places.items()
            for row in _list_rows(networks, self.cues)
        ]

    def sections(self) -> list[Section]:
        """A table and a figure for each place."""
        note = _OVER_SEEDS if self.seeds > 1 else _EXACT
        return [
            _make_effect_section(
                place, {name: own.found for name, own in networks.items()}, self.cues, networks, note,
                {name: own.verdicts for name, own in networks.items()},
            )
            for place, networks in self.places.items()
        ]  # fmt: skip

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effects of the first place."""
        networks = next(iter(self.places.values()))
        return _draw({name: own.found for name, own in networks.items()}, self.cues, ax)

    def __str__(self) -> str:
        return "\n".join(self.findings)


_EXACT = (
    "Effects: accuracy with the cue that agrees, or a random one, minus accuracy without one, in points, on the same "
    "test rows; intervals are exact at 95 %, each by itself, and the verdicts on the cues of one network hold "
    "together. Alone: accuracy where the cue agrees with the label and the content is another row's."
)
_OVER_SEEDS = (
    "Effects: accuracy with the cue that agrees, or a random one, minus accuracy without one, in points: means over "
    "seeds with 95 % intervals over seeds (Student's t), each by itself; the verdicts on the cues of one network hold "
    "together with 95 %, approximately. Below the verdict: those of single seeds, which are exact. Alone: mean "
    "accuracy where the cue agrees with the label and the content is another row's."
)


def _make_effect_section(
    title: str, found: Mapping[str, Invariance], cues: Sequence[str], networks: Mapping[str, Any], note: str,
    verdicts: Mapping[str, Mapping[str, Mapping[str, int]]] | None = None,
) -> Section:  # fmt: skip
    """Networks by cues: the verdict, the effect, and the accuracy by the cue alone."""
    rows = []
    for name, own in found.items():
        cells: list[str | Cell] = [name]
        for cue in cues:
            effect = own[name_random(cue)]
            counts = verdicts[name][cue] if verdicts is not None else {}
            small = f"{_count(counts)}" if counts else ""
            target = " (its target)" if cue in networks[name].against else ""
            verdict, gain = judge_cue(own, cue), own[name_agreeing(cue)]
            cells.append(Cell(f"{verdict}{target}", small, style=VERDICT_STYLES[verdict]))
            cells.append(Cell(f"{100 * gain.effect:+.1f}", format_interval(gain.interval, 100, ".1f")))
            cells.append(Cell(f"{100 * effect.effect:+.1f}", format_interval(effect.interval, 100, ".1f")))
            cells.append(f"{100 * own.accuracy[name_alone(cue)]:.1f} %")
        rows.append((*cells, f"{100 * own.accuracy[NO_CUE]:.1f} %"))
    columns = (
        "network",
        *(
            part
            for cue in cues
            for part in (cue, f"effect, {name_agreeing(cue)}", f"effect, {name_random(cue)}", name_alone(cue))
        ),
    )
    what = "The effect of a random cue of each kind on every network, with intervals and the margin."
    figure = Drawing(lambda: _draw(found, cues, None), what)
    return Section(title, figures=(figure,), tables=(Table((*columns, "without a cue"), tuple(rows)),), note=note)


def _draw(found: Mapping[str, Invariance], cues: Sequence[str], ax: Axes | None) -> Figure:
    return draw_effects(found, ax, splits=[split for cue in cues for split in (name_agreeing(cue), name_random(cue))])


def _count(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{verdict} in {count}" for verdict, count in counts.items())


def _write_effect(found: Invariance, cue: str) -> str:
    said = []
    for split in (name_agreeing(cue), name_random(cue)):
        effect = found[split]
        said.append(f"{split} {100 * effect.effect:+.1f} points ({format_interval(effect.interval, 100, '.1f')})")
    return f"{', '.join(said)}: {judge_cue(found, cue)}"


def _answer_network(name: str, own: TunedMean, cues: Sequence[str]) -> Answer:
    by_verdict: dict[str, list[str]] = {}
    for cue in cues:
        by_verdict.setdefault(judge_cue(own.found, cue), []).append(cue)
    words = {"sensitive": "uses", "invariant": "does not use", "undetermined": "undetermined:"}
    verdict = "; ".join(f"{words[said]} {', '.join(by_verdict[said])}" for said in words if said in by_verdict)
    effects = ", ".join(
        f"{split} {100 * own.found[split].effect:+.1f}"
        for cue in cues
        for split in (name_agreeing(cue), name_random(cue))
    )
    return Answer(verdict, about=name, number=f"effects: {effects} points")


def _answer_spread(place: str, networks: Mapping[str, TunedMean], cues: Sequence[str]) -> Iterator[str]:
    """Of every network that was tuned against one cue: what became of the others that were used before."""
    used = [cue for cue in cues if judge_cue(networks[BEFORE].found, cue) == "sensitive"]
    for name, own in networks.items():
        if len(own.against) != 1 or own.against[0] not in used:
            continue
        (target,) = own.against
        after = {cue: judge_cue(own.found, cue) for cue in used}
        others = ", ".join(f"{cue} {after[cue]}" for cue in used if cue != target) or "no other cue was used"
        yield f"{place}, {name}: the target is {after[target]} afterwards; of the others that were used: {others}."


def summarise_poisons(results: Sequence[PoisonsCell]) -> Poisons:
    """Means over the seeds of every network."""
    groups: dict[str, list[PoisonsCell]] = {}
    for result in results:
        groups.setdefault(result.place, []).append(result)
    places = {
        place: {
            name: TunedMean(
                own.against,
                combine_seeds([cell.networks[name].found for cell in found]),
                {
                    cue: dict(Counter(judge_cue(cell.networks[name].found, cue) for cell in found))
                    for cue in found[0].cues
                },
            )
            for name, own in found[0].networks.items()
        }
        for place, found in groups.items()
    }
    return Poisons(results[0].cues, places, max(map(len, groups.values())))


def combine_seeds(found: Sequence[Invariance]) -> Invariance:
    """Means over seeds; of one seed what it is."""
    return found[0] if len(found) == 1 else combine_training_runs(found)


def _list_rows(networks: Mapping[str, TunedNetwork | TunedMean], cues: Sequence[str]) -> list[dict[str, Any]]:
    """One record for each network and cue."""
    return [
        {
            "network": name,
            "against": ", ".join(own.against),
            "cue": cue,
            "effect": own.found[name_random(cue)].effect,
            "low": own.found[name_random(cue)].interval[0],
            "high": own.found[name_random(cue)].interval[1],
            "effect_agreeing": own.found[name_agreeing(cue)].effect,
            "verdict": judge_cue(own.found, cue),
            "accuracy_alone": own.found.accuracy[name_alone(cue)],
            "accuracy_without": own.found.accuracy[NO_CUE],
        }
        for name, own in networks.items()
        for cue in cues
    ]
