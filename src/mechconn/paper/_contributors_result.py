"""What the recipe `contributors` gives: what averages of contributors use, round by round, and all seeds together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from mechconn.core import NO_CUE
from mechconn.mechanisms import Invariance
from mechconn.paper._poisons_result import combine_seeds
from mechconn.paper._run_part import RunPart
from mechconn.paper._run_tables import SeedMean, average_differing_seeds
from mechconn.paper._several_cues import name_alone, name_random
from mechconn.plotting import (
    VERDICT_STYLES,
    Answer,
    Card,
    Cell,
    Drawing,
    Mark,
    Section,
    Table,
    draw_marks,
    format_interval,
    make_card,
)

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

Arm = Literal["different cues", "one cue", "alone", "no cue"]
"""Contributors with a cue each; all with the first cue; the first contributor alone; all without a cue."""
ARMS: tuple[Arm, ...] = get_args(Arm)
MAIN: Arm = "different cues"


@dataclass(frozen=True)
class Fusion:
    """One arm.

    Attributes:
        rounds: what the average does after each round, the start first.
        contributors: contributor -> what its own network does in the last round, before it is averaged.
    """

    rounds: tuple[Invariance, ...]
    contributors: Mapping[str, Invariance]


@dataclass(frozen=True, repr=False)
class ContributorsCell(RunPart, kind="contributors_cell"):
    """One seed: every arm, round by round.

    Attributes:
        dataset, proportion, seed: where.
        cues: their names; contributor k has cue k where cues differ.
        arms: arm -> what its averages do.
    """

    dataset: str
    proportion: float
    seed: int
    cues: tuple[str, ...]
    arms: Mapping[Arm, Fusion]

    @property
    def place(self) -> str:
        """Data in words."""
        return f"{self.dataset}, a cue on {100 * self.proportion:g}\N{NO-BREAK SPACE}%"

    def rows(self) -> list[dict[str, Any]]:
        """One record for each arm, round and cue."""
        return [
            {"arm": arm, "round": number, "cue": cue, **_flatten_effect(found, cue)}
            for arm, own in self.arms.items()
            for number, found in enumerate(own.rounds)
            for cue in self.cues
        ]

    def sections(self) -> list[Section]:
        """Effects round by round."""
        return [
            _make_round_section(f"Seed {self.seed}", {a: o.rounds for a, o in self.arms.items()}, self.cues, _EXACT)
        ]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effect of a random cue of the first kind on every arm, by round."""
        return _draw_rounds({arm: own.rounds for arm, own in self.arms.items()}, self.cues[0], ax)

    def __str__(self) -> str:
        lines = [f"{self.place}, seed {self.seed}, after {_count_rounds(self.arms)} rounds"]
        lines += [f"  {arm}: {_write_effects(own.rounds[-1], self.cues)}" for arm, own in self.arms.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class FusionMean:
    """One arm over the seeds.

    Attributes:
        rounds: means over the seeds, with intervals and verdicts over seeds; of one seed as it was measured.
        contributors: contributor -> the same of its own network in the last round.
        verdicts: cue -> verdict on the last average in one seed -> in how many seeds.
    """

    rounds: tuple[Invariance, ...]
    contributors: Mapping[str, Invariance]
    verdicts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, repr=False)
class Contributors(RunPart, kind="contributors"):
    """Every arm over the seeds.

    Attributes:
        cues: their names.
        places: data in words -> arm -> what its averages do.
        gaps: data in words -> another arm, or "own contributors" -> the first cue's effect on the last average where
            cues differ, minus that there, within seeds; above zero, the average uses the cue less. Of "own
            contributors" the effect is the mean over cues, each on the network of the contributor that has it.
        seeds: how many.
    """

    cues: tuple[str, ...]
    places: Mapping[str, Mapping[Arm, FusionMean]]
    gaps: Mapping[str, Mapping[str, SeedMean]]
    seeds: int

    @property
    def findings(self) -> tuple[str, ...]:
        """What the averages use after the last round, and against the controls."""
        return tuple(self._write_findings())

    def _write_findings(self) -> Iterator[str]:
        for place, arms in self.places.items():
            for arm, own in arms.items():
                last = own.rounds[-1]
                yield (
                    f"{place}, {arm}, after {len(own.rounds) - 1} rounds: effect of a random cue: "
                    f"{_write_effects(last, self.cues)}; accuracy without a cue {100 * last.accuracy[NO_CUE]:.1f} %."
                )
            for other, gap in self.gaps[place].items():
                interval = format_interval(gap.interval, 100, ".1f")
                what = "their cues' effects on the contributors that have them" if other == OWN else f'"{other}"'
                on = "mean over cues" if other == OWN else self.cues[0]
                assert gap.mean is not None
                yield (
                    f"{place}: where cues differ the average's effect ({on}) is {100 * gap.mean:+.1f} points"
                    f"{f' ({interval})' if interval else ''} beside {what}: {_judge_gap(gap)}."
                )

    def cards(self) -> list[Card]:
        """Whether the average uses the cues less than in each control, at the first place."""
        (place, gaps), *_ = self.gaps.items()
        answers = [
            Answer(
                _judge_gap(gap),
                "open" if _judge_gap(gap) == "undetermined" else "",
                about=f"against {other}",
                number=f"{100 * (gap.mean or 0.0):+.1f} points",
                interval=format_interval(gap.interval, 100, ".1f"),
            )
            for other, gap in gaps.items()
        ]
        why = (
            "The number is the effect on the average of different cues minus the control's. Effects are negative where "
            "a random cue misleads: above zero, it misleads that average less."
        )
        return [make_card(f"Do different shortcuts cancel? ({place})", answers, why=why, most=len(answers))]

    def rows(self) -> list[dict[str, Any]]:
        """One record for each place, arm, round and cue."""
        return [
            {"place": place, "arm": arm, "round": number, "cue": cue, **_flatten_effect(found, cue)}
            for place, arms in self.places.items()
            for arm, own in arms.items()
            for number, found in enumerate(own.rounds)
            for cue in self.cues
        ]

    def sections(self) -> list[Section]:
        """Differences to the controls, effects round by round, and the contributors before the last averaging."""
        note = _OVER_SEEDS if self.seeds > 1 else _EXACT
        return [section for place in self.places for section in self._make_place_sections(place, note)]

    def _make_place_sections(self, place: str, note: str) -> Iterator[Section]:
        arms = self.places[place]
        rows = tuple(
            (
                other,
                Cell(_judge_gap(gap)),
                Cell(f"{100 * (gap.mean or 0.0):+.1f}", format_interval(gap.interval, 100, ".1f")),
            )
            for other, gap in self.gaps[place].items()
        )
        columns = ("against", "where cues differ the average uses them", "difference of effects (points)")
        yield Section(f"Beside the controls: {place}", tables=(Table(columns, rows),), note=_GAPS)
        yield _make_round_section(
            f"Round by round: {place}", {arm: own.rounds for arm, own in arms.items()}, self.cues, note
        )
        before = tuple(
            (f"{arm}, {name}", *(_make_cell(found, cue) for cue in self.cues), f"{100 * found.accuracy[NO_CUE]:.1f} %")
            for arm, own in arms.items()
            for name, found in own.contributors.items()
        )
        table = Table(("network", *(f"effect of a random {cue}" for cue in self.cues), "without a cue"), before)
        yield Section(f"Contributors in the last round, before averaging: {place}", tables=(table,), note=note)

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effect of a random cue of the first kind on every arm, at the first place."""
        arms = next(iter(self.places.values()))
        return _draw_rounds({arm: own.rounds for arm, own in arms.items()}, self.cues[0], ax)

    def __str__(self) -> str:
        return "\n".join(self.findings)


OWN = "own contributors"
_EXACT = (
    "Effect: accuracy with a random cue minus accuracy without one, in points, on the same test rows; intervals are "
    "exact at 95 %, each by itself; the verdicts on the cues of one network hold together."
)
_OVER_SEEDS = (
    "Effect: accuracy with a random cue minus accuracy without one, in points: means over seeds with 95 % intervals "
    "over seeds (Student's t), each by itself; the verdicts on the cues of one network hold together with 95 %, "
    "approximately."
)
_GAPS = (
    "The effect on the last average where contributors have different cues, minus that of the control, within seeds; "
    "on the first cue, and for own contributors on the mean over cues. Intervals over seeds (Student's t) hold "
    "together with 95 %, approximately; there is none of one seed, or where no seed differs. A smaller effect of one "
    "cue is what dilution alone would give, since one contributor of several has it: beside the control of one shared "
    "cue the difference says whether averaging helps, and not why."
)


def _flatten_effect(found: Invariance, cue: str) -> dict[str, Any]:
    effect = found[name_random(cue)]
    return {
        "effect": effect.effect, "low": effect.interval[0], "high": effect.interval[1], "verdict": effect.verdict,
        "accuracy_alone": found.accuracy[name_alone(cue)], "accuracy_without": found.accuracy[NO_CUE],
    }  # fmt: skip


def _make_cell(found: Invariance, cue: str) -> Cell:
    effect = found[name_random(cue)]
    small = f"{100 * effect.effect:+.1f} ({format_interval(effect.interval, 100, '.1f')})"
    return Cell(effect.verdict, small, style=VERDICT_STYLES[effect.verdict])


def _make_round_section(
    title: str, arms: Mapping[Arm, Sequence[Invariance]], cues: Sequence[str], note: str
) -> Section:
    rows = tuple(
        (f"{arm}, round {number}", *(_make_cell(found, cue) for cue in cues), f"{100 * found.accuracy[NO_CUE]:.1f} %")
        for arm, rounds in arms.items()
        for number, found in enumerate(rounds)
    )
    figures = tuple(
        Drawing(
            lambda cue=cue: _draw_rounds(arms, cue, None),
            f"Effect of a random {cue} on the average after each round, by arm, with intervals.",
            f"A random {cue}",
        )
        for cue in cues
    )
    table = Table(("average", *(f"effect of a random {cue}" for cue in cues), "without a cue"), rows)
    return Section(title, figures=figures, tables=(table,), note=note)


def _draw_rounds(arms: Mapping[Arm, Sequence[Invariance]], cue: str, ax: Axes | None) -> Figure:
    series: dict[str, list[Mark]] = {
        arm: [(100 * e.effect, 100 * e.interval[0], 100 * e.interval[1]) for e in (f[name_random(cue)] for f in rounds)]
        for arm, rounds in arms.items()
    }
    names = [str(number) for number in range(max(map(len, arms.values())))]
    return draw_marks(names, series, f"effect of a random {cue} (points)", "round", ax, joined=True)


def _count_rounds(arms: Mapping[Arm, Fusion]) -> int:
    return len(next(iter(arms.values())).rounds) - 1


def _write_effects(found: Invariance, cues: Sequence[str]) -> str:
    said = []
    for cue in cues:
        effect = found[name_random(cue)]
        interval = format_interval(effect.interval, 100, ".1f")
        said.append(f"{cue} {100 * effect.effect:+.1f} points ({interval}), {effect.verdict}")
    return "; ".join(said)


def _judge_gap(gap: SeedMean) -> str:
    """What the interval of a difference says."""
    if gap.interval is None:
        return "undetermined"
    return "less" if gap.interval[0] > 0 else "more" if gap.interval[1] < 0 else "undetermined"


def summarise_contributors(results: Sequence[ContributorsCell]) -> Contributors:
    """Means over the seeds of every arm, and differences within seeds to the controls."""
    groups: dict[str, list[ContributorsCell]] = {}
    for result in results:
        groups.setdefault(result.place, []).append(result)
    places: dict[str, dict[Arm, FusionMean]] = {
        place: {arm: _average_arm(found, arm) for arm in found[0].arms} for place, found in groups.items()
    }
    gaps = {place: _find_gaps(found) for place, found in groups.items()}
    return Contributors(results[0].cues, places, gaps, max(map(len, groups.values())))


def _average_arm(cells: Sequence[ContributorsCell], arm: Arm) -> FusionMean:
    own = [cell.arms[arm] for cell in cells]
    last = [fusion.rounds[-1] for fusion in own]
    return FusionMean(
        tuple(combine_seeds(found) for found in zip(*(fusion.rounds for fusion in own), strict=True)),
        {name: combine_seeds([fusion.contributors[name] for fusion in own]) for name in own[0].contributors},
        {cue: dict(Counter(found[name_random(cue)].verdict for found in last)) for cue in cells[0].cues},
    )


def _find_gaps(cells: Sequence[ContributorsCell]) -> dict[str, SeedMean]:
    """Student's t within seeds, at a confidence that all differences share (Bonferroni)."""
    others: tuple[Arm, ...] = ("one cue", "alone", "no cue")
    first = name_random(cells[0].cues[0])
    values = {
        other: [cell.arms[MAIN].rounds[-1][first].effect - cell.arms[other].rounds[-1][first].effect for cell in cells]
        for other in others
    }
    values[OWN] = [_compare_own(cell) for cell in cells]
    return {other: average_differing_seeds(own, 1.0 - 0.05 / len(values)) for other, own in values.items()}


def _compare_own(cell: ContributorsCell) -> float:
    """Mean over cues of the average's effect minus that on the contributor that has the cue."""
    fusion = cell.arms[MAIN]
    gaps = [
        fusion.rounds[-1][name_random(cue)].effect - found[name_random(cue)].effect
        for cue, found in zip(cell.cues, fusion.contributors.values(), strict=True)
    ]
    return sum(gaps) / len(gaps)
