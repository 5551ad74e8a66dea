r"""Reading rows until every verdict on a merged network is settled, with the errors of verdicts on all rows.

**Mechanisms.** Effects of all networks, parents and merged ones, are one family, judged with bounds that hold at all
looks at once: the proof of `mechconn.mechanisms._judge` holds with "at some look" added (`mechanisms._until_settled`),
so that all states, and "keeps", "loses" and "gains", are right together with probability 95 % at least. Differences of
effects, on which "averages" rests, have intervals that hold at all looks, together with 95 % (Bonferroni).

**Worse, or not.** Of each parent and split, the difference on the rows that were read of both networks has one-sided
bounds: at tail level a each is on the wrong side of the truth at some look with probability a at most. Half of the
level is bet on rows, the other half is that of the bound of all rows, once they are read; of clusters each look has its
share. So the two errors of `_merge_verdict` stay. "yes" is wrong only where some pair is worse, and then the lower
bound of that pair at level alpha has lain above its difference at some look: alpha at most. "no" is wrong only where
none is, and then an upper bound at level alpha / m has lain below its difference at some look: m alpha / m = alpha at
most.

**When reading stops**: once all states and all pairs are settled. Where parents differ and the merged network relies on
what the intervention changes, it goes on while the estimates say that the effect lies more than the margin from both,
between them, and the intervals do not yet. A merged network that is a parent has no difference to that one, which takes
no rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mechconn.connectivity import Evaluator
from mechconn.core import Compute
from mechconn.datasets import Suite
from mechconn.mechanisms import (
    ALPHA,
    ModelOutcome,
    ModelReading,
    On,
    compare_read_effects,
    compare_read_split,
    list_open,
    match_outcomes,
    read_until_settled,
)
from mechconn.merging._merge_mechanisms import collect_together
from mechconn.merging._merge_parents import name_network
from mechconn.merging._merge_verdict import Question

Opened = dict[str, dict[str, None]]
"""Network -> splits to read on, in their order."""


class NetworkReading(ModelReading):
    """The outcomes of one network; a ValueError says of which, `what`."""

    def __init__(self, what: str, evaluator: Evaluator, on: On, compute: Compute) -> None:
        super().__init__(evaluator, on, compute)
        self.what = what

    def read(self, splits: Collection[str], look: int) -> None:
        """Read some splits up to a look."""
        with name_network(self.what):
            super().read(splits, look)

    @property
    def outcome(self) -> ModelOutcome:
        """What is known so far."""
        with name_network(self.what):
            return super().outcome


@dataclass(eq=False)
class MergeReading:
    """Parents and merged networks, read together.

    Attributes:
        parents: name -> what is read of it.
        networks: "before" and, where there is one, "after" -> what is read of it.
        same: (merged network, parent) -> whether they are one network.
        splits: those that the verdict is over.
        asked: what "worse" means.
        margin: the largest effect that counts as none.
    """

    parents: Mapping[str, ModelReading]
    networks: Mapping[str, ModelReading]
    same: Mapping[tuple[str, str], bool]
    splits: tuple[str, ...]
    asked: Question
    margin: float

    @property
    def suite(self) -> Suite:
        """The whole suite."""
        return next(iter(self.parents.values())).suite

    def read(self, stage: str) -> tuple[dict[str, ModelOutcome], dict[str, ModelOutcome]]:
        """The outcomes of the parents, and of the merged networks; `stage` names the progress, which counts looks."""
        named = {name_merged(which): reading for which, reading in self.networks.items()}
        found = read_until_settled({**self.parents, **named}, self._find_open, stage)
        return {name: found[name] for name in self.parents}, {
            which: found[name_merged(which)] for which in self.networks
        }

    def _find_open(self, outcomes: Mapping[str, ModelOutcome]) -> Mapping[str, list[str]]:
        opened: Opened = {name: {} for name in outcomes}
        self._open_states(outcomes, opened)
        for which in self.networks:
            for name in self.parents:
                if not self.same[which, name]:
                    self._open_pairs(outcomes, (name, name_merged(which)), opened)
            self._open_averages(outcomes, which, opened)
        return {name: list(splits) for name, splits in opened.items()}

    def _open_states(self, outcomes: Mapping[str, ModelOutcome], opened: Opened) -> None:
        """Effects whose verdict the family does not give yet."""
        family, places = collect_together(outcomes, self.suite, self.asked.on)
        still = set(
            list_open({places[key]: family[key] for key in family if key[1] in self.suite.interventions}, self.margin)
        )
        for name, split in (key for key in family if places[key] in still):
            opened[name] |= {self.suite.reference: None, split: None}

    def _open_pairs(self, outcomes: Mapping[str, ModelOutcome], pair: tuple[str, str], opened: Opened) -> None:
        """Splits on which one network is neither worse than another nor not worse."""
        for split in self.splits:
            evidence = compare_read_split(outcomes[pair[0]], outcomes[pair[1]], split, self.asked.on)
            if not self.asked.is_settled(evidence):
                for name in pair:
                    opened[name][split] = None

    def _open_averages(self, outcomes: Mapping[str, ModelOutcome], which: str, opened: Opened) -> None:
        """Interventions whose effect on the merged network seems to lie between those on two parents, far from both."""
        merged = outcomes[name_merged(which)]
        tail = ALPHA / (2 * len(self.networks) * len(self.parents) * max(1, len(self.suite.interventions)))
        for split in self.suite.interventions:
            found = {
                name: compare_read_effects(
                    *match_outcomes(outcomes[name], merged), self.suite.reference, split, self.asked.on
                )
                for name in self.parents
            }
            least, most = (choose(found, key=lambda name: -found[name].effect) for choose in (min, max))
            between = found[least].effect > self.margin and found[most].effect < -self.margin
            if between and not (found[least].reaches(1, tail, 0.0) and found[most].reaches(-1, tail, 0.0)):
                for name in (least, most, name_merged(which)):
                    opened[name] |= {self.suite.reference: None, split: None}


def name_merged(which: str) -> str:
    """What a merged network is called among the parents, of which none can be called so."""
    return f"\0{which}"
