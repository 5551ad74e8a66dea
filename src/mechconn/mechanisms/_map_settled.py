r"""Reading rows until every verdict of a map is settled: those on each model, and those on every two of them.

**Models.** Each model's verdicts are a family of their own, with the error of `_until_settled`.

**Pairs.** Of k = pairs x interventions differences each has an interval at confidence 1 - alpha / k that holds at all
looks at once: by betting at half of the level, and the bound of all rows at the other half, once all have been read of
both models. One of the k intervals fails at some look with probability k (alpha / k) = alpha at most (Bonferroni),
however rows and models depend on each other. Distances and verdicts ("differ", "agree") are functions of these
intervals, so that all of them are right together with probability 1 - alpha at least, whenever reading stops and
whatever decides it: which models are still read, that other pairs are open, that a pair was settled before. Where
clusters of rows take the place of rows, or rows show something of each other, each look has its share of alpha / k.

A pair is compared on the rows that were read of both models: the first n of one order, of which the bounds hold for all
n at once.

Groups are those of the estimates and carry no error of their own, as with all rows; estimates at stopping are biased.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, TypeAlias

from mechconn.mechanisms._difference_evidence import DifferenceEvidence
from mechconn.mechanisms._effects import On
from mechconn.mechanisms._map_pairs import Pair, check_same_order, choose_confidence, choose_pair_bound
from mechconn.mechanisms._outcomes import ModelOutcome, match_outcomes
from mechconn.mechanisms._settled_differences import compare_read_effects
from mechconn.mechanisms._until_settled import ModelReading, Prepare, list_open_splits, read_until_settled

Place: TypeAlias = Literal["beyond", "within", "open"]
"""Whether an interval of a difference lies beyond the margin, within it, or neither."""


def read_map(
    readings: Mapping[str, ModelReading], margin: float, on: On, stage: str, prepare: Prepare | None = None
) -> dict[str, ModelOutcome]:
    """Name -> the outcomes of each model on the rows that settle its own verdicts and those on its pairs.

    `stage` and `prepare` are as in `read_until_settled`.
    """
    return read_until_settled(readings, OpenVerdicts(readings, margin, on).find, stage, prepare)


@dataclass(eq=False)
class OpenVerdicts:
    """Which splits of which models are to be read on.

    Attributes:
        readings: name -> what is read of it.
        margin: the largest effect, and difference of effects, that counts as none.
        on: what effects are measured on.
    """

    readings: Mapping[str, ModelReading]
    margin: float
    on: On
    _known: dict[tuple[Pair, str], tuple[tuple[int, ...], Place]] = field(default_factory=dict)

    def find(self, outcomes: Mapping[str, ModelOutcome]) -> dict[str, list[str]]:
        """Name -> splits on which a verdict is open: the model's own, or on a pair."""
        opened = {name: dict.fromkeys(own) for name, own in self._list_own(outcomes).items()}
        first = next(iter(outcomes))
        for other in outcomes:
            check_same_order(*match_outcomes(outcomes[first], outcomes[other]), other)
        for pair in combinations(outcomes, 2):
            splits = self._list_open(outcomes, pair)
            for name in pair:
                opened[name] |= dict.fromkeys(splits)
        return {name: list(splits) for name, splits in opened.items()}

    def _list_own(self, outcomes: Mapping[str, ModelOutcome]) -> dict[str, list[str]]:
        return list_open_splits(outcomes, self.readings, self.margin, self.on)

    def _list_open(self, outcomes: Mapping[str, ModelOutcome], pair: Pair) -> list[str]:
        """The reference and the interventions that keep a pair from its verdict; none where it has one."""
        suite = self.readings[pair[0]].suite
        a, b = match_outcomes(*(outcomes[name] for name in pair))
        names, open_ones = len(outcomes), list[str]()
        for name in suite.interventions:
            match self._judge(a, b, pair, name, suite.reference, (names, len(suite.interventions))):
                case "beyond":
                    return []
                case "open":
                    open_ones.append(name)
                case "within":
                    pass
        return [suite.reference, *open_ones] if open_ones else []

    def _judge(
        self, a: ModelOutcome, b: ModelOutcome, pair: Pair, name: str, reference: str, counts: tuple[int, int]
    ) -> Place:
        """Where the interval of one difference lies; not looked at again where nothing was read since."""
        rows = *(len(a.splits[split].loss) for split in (reference, name)), a.read[name].complete + 0
        rows = *rows, a.read[reference].complete + 0
        if (known := self._known.get((pair, name))) is None or known[0] != rows:
            claims = counts[0] * (counts[0] - 1) // 2 * counts[1]
            evidence = compare_read_effects(a, b, reference, name, self.on, choose_pair_bound(claims))
            known = rows, judge_difference(evidence, self.margin, (1.0 - choose_confidence(claims)) / 2.0)
            self._known[pair, name] = known
        return known[1]


def judge_difference(evidence: DifferenceEvidence, margin: float, tail: float) -> Place:
    """Where the interval with this level on either side lies.

    Asked of bounds on one side at a time, those first that the estimate points to.
    """
    side = 1 if evidence.effect >= 0 else -1
    if abs(evidence.effect) > margin:
        return "beyond" if evidence.reaches(side, tail, margin) else "open"
    return "within" if all(evidence.reaches(sign, tail, -margin) for sign in (-side, side)) else "open"
