"""What the recipe `transplant` gives: one fix moved onto one network, and all of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

from mechconn.mechanisms import State
from mechconn.merging import TravelVerdict
from mechconn.paper._run_part import RunPart
from mechconn.paper._transplant_sections import HOW, draw_shares_over_pairs, make_pair_sections, write_sentences
from mechconn.paper._transplant_settings import ALIGNED
from mechconn.plotting import Answer, Card, Section, Table, make_card
from mechconn.stats import LEAST_UNITS, Interval, delete_one_pair_means, jackknife_interval

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure


@dataclass(frozen=True)
class WayFacts:
    """One network of the target.

    Attributes:
        accuracy: split -> accuracy.
        effects: intervention -> effect on accuracy.
        further: split -> accuracy after further tuning; empty where there was none.
        state, excess: whether the cue is gone or hidden, and by how much it relearns faster than the control.
        verdict: whether the fix travels; None of a network that got no transplant, as all that follows.
        shares: intervention -> share of the way that tuning the target itself goes; None where that is not clear of 0.
        share_intervals: intervention -> the interval of the share, at a confidence shared by all of one judgement.
        moved: intervention -> effect minus that before.
        kept: accuracy without the cue minus that before.
        cosine: of the change as it was added and the target's own.
        distance_before, distance_after: of the two networks before the fix, as saved and aligned.
        unmatched: share of the change's squared norm in tensors with units that could not be matched; None where
            nothing was matched.
        size: norm of the change as it was added.
    """

    accuracy: Mapping[str, float]
    effects: Mapping[str, float]
    further: Mapping[str, float] = field(default_factory=dict)
    state: State | None = None
    excess: float | None = None
    verdict: TravelVerdict | None = None
    shares: Mapping[str, float | None] = field(default_factory=dict)
    share_intervals: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    moved: Mapping[str, float] = field(default_factory=dict)
    kept: float | None = None
    cosine: float | None = None
    distance_before: float | None = None
    distance_after: float | None = None
    unmatched: float | None = None
    size: float | None = None


@dataclass(frozen=True, repr=False)
class TransplantResult(RunPart, kind="transplant_cell"):
    """One fix moved from one seed onto another.

    Attributes:
        dataset, proportion, method: where, and which fix.
        source, target: seeds of the networks.
        source_accuracy: split -> accuracy of the source once it is tuned.
        networks: "before" (with the statistics of all others), every way of moving the fix, and "tuned" -> what the
            target then does.
    """

    dataset: str
    proportion: float
    method: str
    source: int
    target: int
    source_accuracy: Mapping[str, float]
    networks: Mapping[str, WayFacts]

    @property
    def place(self) -> str:
        """Data and fix in words."""
        return f"{self.dataset}, {self.proportion:g} cued, {self.method}"

    def rows(self) -> list[dict[str, Any]]:
        """One record for each network."""
        splits, moved = list(self.source_accuracy), list(self.networks["before"].effects)
        return [
            {
                "method": self.method, "source": self.source, "target": self.target, "network": name,
                **{f"accuracy_{split}": own.accuracy[split] for split in splits},
                **{f"share_{split}": own.shares.get(split) for split in moved},
                "kept": own.kept, "verdict": own.verdict, "state": own.state, "excess": own.excess,
                "cosine": own.cosine,
            }
            for name, own in self.networks.items()
        ]  # fmt: skip

    def sections(self) -> list[Section]:
        """A table of the networks."""
        splits = list(self.source_accuracy)
        rows = tuple(
            (HOW[name], *(f"{100 * own.accuracy[split]:.1f} %" for split in splits), own.verdict or "")
            for name, own in self.networks.items()
        )
        return [Section("Networks", tables=(Table(("network", *splits, "verdict"), rows),))]

    def __str__(self) -> str:
        lines = [f"{self.place}: seed {self.source} onto {self.target}"]
        for name, own in self.networks.items():
            accuracies = ", ".join(f"{split} {100 * value:.1f} %" for split, value in own.accuracy.items())
            lines.append(f"  {HOW[name]}: {accuracies}{f'; {own.verdict}' if own.verdict else ''}")
        return "\n".join(lines)


@dataclass(frozen=True)
class PairMean:
    """A mean over pairs of networks, with a jackknife interval over networks at 95 %; None of fewer than three."""

    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class WayMeans:
    """One way of moving a fix, over the pairs of seeds.

    Attributes:
        accuracy, further: split -> accuracy, at once and after further tuning.
        shares: intervention -> share of the way; None where some pair has none.
        verdicts: verdict -> how many pairs.
        states: state of the cue by relearning -> how many pairs.
        excess: by how much it relearns faster than the control.
        cosine: of the change as it was added and the target's own.
        kept, size, distance_before, distance_after, unmatched: as in `WayFacts`.
        gains: of an aligned way, another way ("none" or "random") -> what is measured -> by how much more it is within
            pairs: accuracy by split, and effects by intervention.
        each: pair in words -> its facts.
    """

    accuracy: Mapping[str, PairMean]
    further: Mapping[str, PairMean]
    shares: Mapping[str, PairMean | None]
    verdicts: Mapping[str, int]
    states: Mapping[str, int]
    excess: PairMean | None
    cosine: PairMean | None
    kept: PairMean | None = None
    size: PairMean | None = None
    distance_before: PairMean | None = None
    distance_after: PairMean | None = None
    unmatched: PairMean | None = None
    gains: Mapping[str, Mapping[str, PairMean]] = field(default_factory=dict)
    each: Mapping[str, WayFacts] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class TransplantSummary(RunPart, kind="transplant_run"):
    """What all pairs say together: fix -> network -> means over the pairs.

    Pairs that share a network are not independent, so that Student's t over pairs would be too sure. Intervals are a
    jackknife over networks instead, 95 % each: every network is left out with all of its pairs, and the spread of the
    means that remain gives the standard error, with Student's t quantile of networks - 1 degrees of freedom
    (`mechconn.stats.jackknife_interval`). Of means over all ordered pairs it is rather too wide (Efron & Stein 1981);
    in a cycle, where leaving one out leaves networks - 2 pairs, wider still. They are conditional on the data, which
    all networks share.

    Attributes:
        fixes: data and fix in words -> network -> its means.
        pairs: how many.
        least: the share of the way from which a fix travels.
    """

    fixes: Mapping[str, Mapping[str, WayMeans]]
    pairs: int
    least: float

    def cards(self) -> list[Card]:
        """Whether each fix travels, by every way of moving it: in how many pairs."""
        return [_make_travel_card(fix, networks) for fix, networks in self.fixes.items()]

    def rows(self) -> list[dict[str, Any]]:
        """One record for each fix and network."""
        return [
            {"fix": fix, "network": name, **_flatten(means, self.list_splits(), self.list_interventions())}
            for fix, networks in self.fixes.items()
            for name, means in networks.items()
        ]

    def list_splits(self) -> list[str]:
        """Every split."""
        return list(next(iter(self.fixes.values()))["before"].accuracy)

    def list_interventions(self) -> list[str]:
        """Those with a share of the way."""
        found = (means.shares for networks in self.fixes.values() for means in networks.values())
        return list(dict.fromkeys(split for shares in found for split in shares))

    def sections(self) -> list[Section]:
        """Shares of the way, accuracies, relearning, further tuning."""
        return list(make_pair_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the share of the way that each transplant goes, with intervals over the pairs."""
        return draw_shares_over_pairs(self, ax)

    def __str__(self) -> str:
        return "\n".join(write_sentences(self))


def _make_travel_card(fix: str, networks: Mapping[str, WayMeans]) -> Card:
    answers = [
        Answer(
            ", ".join(f"{count} {verdict}" for verdict, count in means.verdicts.items()),
            about=HOW[name],
            number="; ".join(
                f"{100 * share.mean:.0f} % of the way on {split}"
                for split, share in means.shares.items()
                if share is not None
            ),
        )
        for name, means in networks.items()
        if means.verdicts
    ]
    return make_card(f"Does the fix travel: {fix}?", answers, why="Counts are pairs of seeds.", most=len(answers))


Pairs: TypeAlias = Mapping[tuple[str, str], WayFacts]
"""(source, target) -> what one network of the pair does."""


def summarise_transplants(results: Sequence[TransplantResult], least: float) -> TransplantSummary:
    """Means over the pairs of seeds, fix by fix."""
    groups: dict[str, list[TransplantResult]] = {}
    for result in results:
        groups.setdefault(result.place, []).append(result)
    fixes = {}
    for place, found in groups.items():
        networks = {
            name: {(str(own.source), str(own.target)): own.networks[name] for own in found}
            for name in found[0].networks
        }
        means = {name: _average(pairs) for name, pairs in networks.items()}
        for name in (way for way in ALIGNED if way in means):
            gains = {way: _average_gains(networks[name], networks[way]) for way in ("none", "random") if way in means}
            means[name] = replace(means[name], gains=gains)
        fixes[place] = means
    return TransplantSummary(fixes, max(map(len, groups.values())), least)


def _average(pairs: Pairs) -> WayMeans:
    first = next(iter(pairs.values()))

    def over(read: Callable[[WayFacts], float | None]) -> PairMean | None:
        return _average_known({pair: read(own) for pair, own in pairs.items()})

    return WayMeans(
        accuracy={
            split: average_pairs({p: own.accuracy[split] for p, own in pairs.items()}) for split in first.accuracy
        },
        further={split: average_pairs({p: own.further[split] for p, own in pairs.items()}) for split in first.further},
        shares={split: _average_known({p: own.shares[split] for p, own in pairs.items()}) for split in first.shares},
        verdicts=dict(Counter(own.verdict for own in pairs.values() if own.verdict is not None)),
        states=dict(Counter(own.state for own in pairs.values() if own.state is not None)),
        excess=over(lambda own: own.excess),
        cosine=over(lambda own: own.cosine),
        kept=over(lambda own: own.kept),
        size=over(lambda own: own.size),
        distance_before=over(lambda own: own.distance_before),
        distance_after=over(lambda own: own.distance_after),
        unmatched=over(lambda own: own.unmatched),
        each={f"{source} onto {target}": own for (source, target), own in pairs.items()},
    )


def _average_gains(pairs: Pairs, others: Pairs) -> dict[str, PairMean]:
    """What one way has more than another of accuracy and of effects, within pairs."""
    first = next(iter(pairs.values()))
    found = {
        f"accuracy on {split}": average_pairs(
            {p: own.accuracy[split] - others[p].accuracy[split] for p, own in pairs.items()}
        )
        for split in first.accuracy
    }
    return found | {
        f"effect of {split}": average_pairs(
            {p: own.effects[split] - others[p].effects[split] for p, own in pairs.items()}
        )
        for split in first.effects
    }


def average_pairs(values: Mapping[tuple[str, str], float]) -> PairMean:
    """The mean over pairs of networks, with a jackknife interval over the networks; None where one is in every pair."""
    mean, units = fmean(values.values()), list(dict.fromkeys(unit for pair in values for unit in pair))
    if len(units) < LEAST_UNITS or any(all(unit in pair for pair in values) for unit in units):
        return PairMean(mean, None)
    return PairMean(mean, jackknife_interval(mean, delete_one_pair_means(values, units)))


def _average_known(values: Mapping[tuple[str, str], float | None]) -> PairMean | None:
    """None where one is missing: a mean over some pairs alone would be of another kind."""
    known = {pair: value for pair, value in values.items() if value is not None}
    return average_pairs(known) if len(known) == len(values) else None


def _flatten(means: WayMeans, splits: Sequence[str], interventions: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for split in splits:
        found |= _flatten_mean(f"accuracy_{split}", means.accuracy[split])
    for split in interventions:
        found |= _flatten_mean(f"share_{split}", means.shares.get(split))
    for split in splits:
        found |= _flatten_mean(f"further_{split}", means.further.get(split))
    for name in ("excess", "cosine", "kept", "size", "distance_before", "distance_after", "unmatched"):
        found |= _flatten_mean(name, getattr(means, name))
    counts = {"travels": means.verdicts.get("travels"), "does_not_travel": means.verdicts.get("does not travel")}
    return found | counts | {f"{state}": means.states.get(state) for state in ("uses", "hidden", "gone")}


def _flatten_mean(name: str, mean: PairMean | None) -> dict[str, float | None]:
    low, high = (None, None) if mean is None or mean.interval is None else mean.interval
    return {name: None if mean is None else mean.mean, f"{name}_low": low, f"{name}_high": high}
