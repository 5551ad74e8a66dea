r"""Reading rows until every verdict is settled, with the errors of verdicts on all rows.

Rows are read in random order in growing looks (`connectivity._row_reader`). After each look the verdicts are given
that `_judge` gives of the rows read so far, and reading stops when none of the family is open. What was settled is read
no more.

**Why the family's error stays alpha.** Judged are bounds that hold at all looks at once: a lower bound at tail level a
that lies above the effect at any look has probability a at most. So the proof of `_judge` holds word for word with "at
some look" added: until the first error on a side all r settled interventions lie outside E, and an error needs a bound
of level (alpha / 2) / |E| at most to fail *at some look* for some member of E, which has probability alpha / 2 at most.
Neither when reading stops, nor which interventions are still read, nor what Holm's step has settled by then can change
that.

**Which bounds.** Of rows that are independent, by betting (`stats._betting`, the mean of capitals of several designs):
Ville's inequality is about all numbers of rows at once. Bets have half of the level; the other half has the bound that
`measure_invariance` takes of all rows, once all are read, so that what all rows settle seldom stays open. Of clusters
of rows, and of rows that show something of each other, the bound at the rows of one look with that look's share of the
level (alpha spending): the shares add up to one. Comparisons within classes have bounds of all rows alone, and all are
read at once.

**A comparison stands at the look of its split**, with what had been read of the reference then, so that reading on for
others moves nothing that was settled. Splits of equal length are bet on in pairs, whatever their labels: pairs are
independent draws of the effect. Splits of other lengths are bounded each by itself, and where looks have shares of the
level both sides' smaller one is taken (`ReadSoFar.join`), which adds up to one again.

Betting was chosen by rows needed. On 10,000 rows within which effects are differences, margin 0.05, with predictions
that change on 2, 10 and 30 % of the rows and an effect of zero it takes 286, 862 and 2,091 rows (means of ten draws),
alpha spending over exact bounds at looks that double 307, 973 and 2,662; `benchmarks/rows_to_settle.py`.

**Other intervals** of the result hold whenever reading stops as well: they are those of the rows of one look with that
look's share of the level. The level of the loss has no such interval, and it has none. Estimates at stopping are
biased: of two effects of one size the one that chance made larger stops sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

from mechconn.connectivity import Evaluator, RowReader, RowsRead
from mechconn.core import Compute
from mechconn.datasets import Suite, find_selection
from mechconn.mechanisms._effect_evidence import collect_evidence
from mechconn.mechanisms._effects import On
from mechconn.mechanisms._judge import list_open
from mechconn.mechanisms._outcomes import ModelOutcome, ReadSoFar, SplitOutcome, check_outcomes
from mechconn.network import Metric

Prepare: TypeAlias = Callable[[Mapping[str, Collection[str]], int], None]
"""Called with (name -> splits, look) before these are read."""


def check_settles(on: On, metrics: Mapping[str, Metric]) -> None:
    """Raise unless verdicts on this can be settled before all rows are read."""
    if on == "loss" or (on != "accuracy" and metrics[on].bounds is None):
        what = "the loss" if on == "loss" else f"the metric {on!r}"
        raise ValueError(
            f"until='settled' needs values with a least and a largest, and {what} has no bounds; use on='accuracy' or "
            "a metric with bounds, mechconn.Metric(function, bounds=(low, high)), or until='end'"
        )


class ModelReading:
    """The outcomes of one model on the rows of its suite that have been read.

    Args:
        evaluator: of the whole suite.
        on: what effects are measured on.
        compute: how progress is told; default: as the evaluator does.

    Attributes:
        reader: which rows come at each look.
        suite: the whole suite.
        compute: how to compute.
    """

    def __init__(self, evaluator: Evaluator, on: On, compute: Compute | None = None) -> None:
        self.reader, self.suite = RowReader(evaluator, evaluator.seed), evaluator.suite
        self.compute = compute or evaluator.compute
        self._evaluator, self._on = evaluator, on
        self._rows = RowsRead(self.reader, lambda part, split: part.draws(split))

    def read(self, splits: Collection[str], look: int) -> None:
        """Read some splits up to a look."""
        for split in splits:
            self._rows.read(split, look)

    def list_unread(self, splits: Collection[str], look: int) -> dict[int, list[str]]:
        """Look -> those of some splits of which rows would be read there, up to a look."""
        found: dict[int, list[str]] = {}
        for split in splits:
            for number in self._rows.list_unread(split, look):
                found.setdefault(number, []).append(split)
        return found

    def is_complete(self, split: str) -> bool:
        """Whether all rows of a split, and of the reference, have been read."""
        return all(self.reader.is_complete(name, self._rows.looks[name]) for name in (split, self.suite.reference))

    @property
    def outcome(self) -> ModelOutcome:
        """What is known so far."""
        own, reader, splits, read = self._evaluator, self.reader, dict[str, SplitOutcome](), dict[str, ReadSoFar]()
        for split, look in self._rows.looks.items():
            draws = self._rows.join(split)
            for what, result in zip(own.suite.draws_of(split), draws, strict=True):
                check_outcomes(what, result, self._on)
            clusters, total = reader.clusters(split, look, draws[0].counted), reader.totals[split]
            observed, linked = find_selection(own.suite[split]), reader.is_linked(split)
            splits[split] = SplitOutcome(draws, observed, clusters, linked, total)
            shares = tuple(reader.share(split, number) for number in range(look + 1))
            whole = tuple(reader.is_complete(split, number) for number in range(look + 1))
            read[split] = ReadSoFar(tuple(self._rows.counts[split]), shares, whole, total)
        return ModelOutcome(
            splits, own.network.computed, own.bounds, own.suite.paired is True, own.loss.unit, read=read
        )


def read_until_settled(
    models: Mapping[str, ModelReading],
    find_open: Callable[[Mapping[str, ModelOutcome]], Mapping[str, Collection[str]]],
    stage: str,
    prepare: Prepare | None = None,
) -> dict[str, ModelOutcome]:
    """Name -> the model's outcomes on the rows that settle every verdict, or on all.

    Args:
        models: name -> what is read of it.
        find_open: outcomes of all so far -> name -> splits on which a verdict is open.
        stage: what progress is of, which counts looks.
        prepare: see `Prepare`.
    """
    look, asked = 0, {name: list(reading.suite) for name, reading in models.items()}
    compute, looks = next(iter(models.values())).compute, max(reading.reader.looks for reading in models.values())
    while True:
        if prepare is not None:
            prepare(asked, look)
        for name, splits in asked.items():
            models[name].read(splits, look)
        outcomes = {name: reading.outcome for name, reading in models.items()}
        look += 1
        opened = find_open(outcomes)
        left = {n: [s for s in splits if not models[n].is_complete(s)] for n, splits in opened.items()}
        if not any(left.values()):
            compute.report(stage, looks, looks)
            return outcomes
        compute.report(stage, min(look, looks - 1), looks)
        asked = {n: list(dict.fromkeys([models[n].suite.reference, *own])) for n, own in left.items() if own}


def measure_settled(evaluators: Mapping[str, Evaluator], margin: float, on: On, stage: str) -> dict[str, ModelOutcome]:
    """Name -> the outcomes of each model on the rows that settle its own family of verdicts.

    `stage` names the progress, which counts looks.
    """
    return settle_each({name: ModelReading(own, on) for name, own in evaluators.items()}, margin, on, stage)


def settle_each(readings: Mapping[str, ModelReading], margin: float, on: On, stage: str) -> dict[str, ModelOutcome]:
    """Read each model until its own family of verdicts is settled."""
    return read_until_settled(readings, lambda found: list_open_splits(found, readings, margin, on), stage)


def list_open_splits(
    outcomes: Mapping[str, ModelOutcome], readings: Mapping[str, ModelReading], margin: float, on: On
) -> dict[str, list[str]]:
    """Name -> the splits to read on: open interventions and, while there are such, open others and the reference."""
    return {name: _list_open(own, readings[name].suite, margin, on) for name, own in outcomes.items()}


def _list_open(outcome: ModelOutcome, suite: Suite, margin: float, on: On) -> list[str]:
    evidence = collect_evidence(outcome, suite, on)
    family = list_open({name: evidence[name] for name in suite.interventions}, margin)
    others = [name for name in evidence if name not in suite.interventions]
    if not family:
        return []
    return [suite.reference, *family, *(name for name in others if list_open({name: evidence[name]}, margin))]
