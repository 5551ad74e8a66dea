r"""The rows of a suite part by part, in one random order, so that reading may stop when enough was seen.

**Order.** The rows of splits of N rows are read in one order, a permutation that depends on N and a seed alone: splits
of equal length keep their pairs, and rows that are independent draws are so in any order that does not depend on them.
Rows of one cluster are read together, clusters in random order. Batches that cannot be read by index, as of a loader,
are read as they come.

**Looks.** After 64, 96, 144, ... rows, always half as many again, and after all. Where a bound holds at one sample
size alone, every look may take a share of the level, and the shares add up to one: half of it is for the look at all
rows, and the looks before share the other half evenly, or where their number is not known in the proportion 1 / (k (k +
1)). With one look it has all. Where splits are compared within classes there is one look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from mechconn.connectivity._evaluator import Evaluator
from mechconn.connectivity._row_clusters import shows_other_rows
from mechconn.core import (
    Data,
    check_choice,
    count_batch_rows,
    draw_uniform,
    draws_rows,
    is_source,
    select_rows,
)
from mechconn.datasets import Suite, compare_selection, find_selection, join_groups
from mechconn.network import Outcomes, join_outcomes

Until: TypeAlias = Literal["end", "settled"]
"""Whether all rows are read, or as many as settle every verdict."""
FIRST_LOOK, GROWTH = 64, 1.5
UNKNOWN_LOOKS = 25
FINAL_SHARE = 0.5
"""Share of the level for the look at all rows."""


def check_until(until: Any) -> Any:
    """`until` if it is one of the two."""
    return check_choice("until", until, ("end", "settled"))


class RowReader:
    """The rows of an evaluator's suite, look by look.

    Args:
        evaluator: of the whole suite.
        seed: of the order.

    Attributes:
        evaluator: the same.
        totals: split -> number of its rows; None of batches that cannot be read by index.

    Raises:
        ValueError: batches that come shuffled, or in clusters.
    """

    def __init__(self, evaluator: Evaluator, seed: int = 0) -> None:
        self.evaluator, self.totals = evaluator, dict[str, int | None]()
        self._numbers: dict[str, Int[Tensor, " n"] | None] = {}
        self._orders: dict[str, Int[Tensor, " n"]] = {}
        self._ends: dict[str, list[int]] = {}
        self._parts: list[Evaluator] = []
        self._batches: dict[str, list[_BatchPart]] = {}
        suite = evaluator.suite
        for split in suite:
            self.totals[split] = len(data) if is_source(data := suite[split]) else None
            if self.totals[split] is None:
                _check_batches(split, suite, evaluator.clusters is not None)
        for rows in {total for total in self.totals.values() if total is not None}:
            self._plan_order(rows, seed)

    def _plan_order(self, rows: int, seed: int) -> None:
        """The order and the looks of all splits of so many rows."""
        splits = [split for split, total in self.totals.items() if total == rows]
        together: Int[Tensor, " n"] | None = None
        for split in splits:
            numbers = self.evaluator.number_clusters(split, rows)
            self._numbers[split] = numbers
            if numbers is not None:
                together = numbers if together is None else join_groups(together, numbers)
        self._orders |= dict.fromkeys(splits, order := draw_order(rows, together, seed))
        ends = [rows] if self._compares_within() else list_looks(rows)
        if together is not None:
            ends = end_with_groups(ends, together[order])
        self._ends |= dict.fromkeys(splits, ends)

    def _compares_within(self) -> bool:
        """Whether some split is compared with the reference within classes, which has bounds of all rows alone."""
        suite, found = self.evaluator.suite, [find_selection(data) for data in self.evaluator.suite.values()]
        known = [compare_selection(find_selection(suite[suite.reference]), own) for own in found]
        return any(own is not None and own.within_classes for own in known)

    @property
    def looks(self) -> int:
        """How many looks there are at most, where that is known; else so many as a million rows take."""
        known = [len(ends) for ends in self._ends.values()]
        return max([*known, *([UNKNOWN_LOOKS] if None in self.totals.values() else [])])

    def rows_at(self, split: str, look: int) -> int | None:
        """How many rows of a split have been read after a look, the first is 0; None of batches, which are counted."""
        ends = self._ends.get(split)
        return None if ends is None else ends[min(look, len(ends) - 1)]

    def list_rows(self, split: str, look: int) -> Int[Tensor, " n"]:
        """The rows of a split between the look before and this one, of data that are read by index."""
        ends = [0, *self._ends[split]]
        return self._orders[split][ends[look] : ends[look + 1]]

    def is_complete(self, split: str, look: int) -> bool:
        """Whether all rows have been read after a look; of batches once they were read."""
        ends = self._ends.get(split)
        if ends is not None:
            return look >= len(ends) - 1
        parts = self._batches.get(split, [])
        return any(part.exhausted for part in parts[: look + 1])

    def share(self, split: str, look: int) -> float:
        """The share of the level that the look has at which a split stands."""
        ends = self._ends.get(split)
        if self.is_complete(split, look):
            return FINAL_SHARE if look > 0 and (ends is None or len(ends) > 1) else 1.0
        count = None if ends is None else len(ends) - 1
        return (1.0 - FINAL_SHARE) / ((look + 1) * (look + 2) if count is None else count)

    def has_begun(self, split: str, look: int) -> bool:
        """Whether an evaluator of a look's rows is at hand, or a split is read batch by batch."""
        return look < len(self._parts) or split not in self._orders

    def at(self, look: int) -> Evaluator:
        """The evaluator of the rows between the look before and this one, without splits that had been read whole."""
        while len(self._parts) <= look:
            place = len(self._parts)
            cut = {split: self._cut(split, place) for split in self.totals if not self._was_complete(split, place)}
            whole = self.evaluator.suite
            splits = {split: take(whole[split], 0) for split, take in cut.items()}
            redraws = {
                split: [cut[split](data, n) for n, data in enumerate(draws, start=1)]
                for split, draws in whole.redraws.items()
                if split in cut
            }
            reference = whole.reference if whole.reference in splits else next(iter(splits))
            others = tuple(split for split in whole.interventions if split in splits and split != reference)
            redraws = {split: draws for split, draws in redraws.items() if split in others}
            part = Suite(splits, reference, others, redraws, paired=whole.paired)
            self._parts.append(self.evaluator.on_rows(part))
        return self._parts[look]

    def between(self, spans: Mapping[str, tuple[int, int]]) -> Evaluator:
        """The evaluator of the rows of each split from one look to another, both included.

        Batches must have been read so far before, through `at`. Nothing that it computes is kept.
        """
        cut: dict[str, Data] = {}
        for split, (first, last) in spans.items():
            data, parts = self.evaluator.suite[split], self._batches.get(split, [])
            if split in self._orders:
                ends = [0, *self._ends[split]]
                rows = self._orders[split][ends[first] : ends[min(last + 1, len(ends) - 1)]]
                cut[split] = select_rows(data, rows)  # pyright: ignore[reportArgumentType]
            else:
                cut[split] = _BatchSpan(
                    data, parts[first - 1].last if first else 0, parts[min(last, len(parts) - 1)].last
                )
        return self.evaluator.on_rows(Suite(cut, next(iter(cut)), ()))

    def _was_complete(self, split: str, look: int) -> bool:
        return look > 0 and self.is_complete(split, look - 1)

    def _cut(self, split: str, look: int) -> Callable[[Data, int], Data]:
        """(data, number of its draw) -> its rows of one look."""
        if split in self._orders:
            rows = self.list_rows(split, look)
            return lambda data, _: select_rows(data, rows)  # pyright: ignore[reportArgumentType]
        end = list_looks(None, look + 1)[-1]

        def cut(data: Data, draw: int) -> Data:
            known = self._batches.setdefault(split if draw == 0 else f"{split}, draw {draw + 1}", [])
            known.append(_BatchPart(data, end, known[-1] if known else None, self._count))
            return known[-1]

        return cut

    def _count(self, batch: Any) -> int:
        return count_batch_rows("a batch", batch, self.evaluator.network.module)

    def clusters(self, split: str, look: int, counted: Tensor | None) -> Int[Tensor, " n"] | None:
        """The number of the cluster of each row that was read and counts; None where rows are independent."""
        numbers, rows = self._numbers.get(split), self.rows_at(split, look)
        if numbers is None or rows is None:
            return None
        numbers = numbers[self._orders[split][:rows]]
        return numbers if counted is None else numbers[counted.cpu()]

    def is_linked(self, split: str) -> bool:
        """Whether rows of a split show something of each other."""
        return shows_other_rows(self.evaluator.suite, split)

    def adopt(self, other: RowReader) -> None:
        """Take over what another reader of the same rows knows of its own network; see `Evaluator.adopt`."""
        for look in range(len(other._parts)):
            self.at(look).adopt(other.at(look))


class RowsRead:
    """The outcomes of one network on the rows that have been read, split by split.

    Args:
        reader: says which rows come at each look.
        compute: (evaluator of these rows, split) -> outcomes of the split and of its further draws.

    Attributes:
        looks: split -> the look at which it stands; the first is 0.
        counts: split -> how many rows that count had been read after each look.
    """

    def __init__(self, reader: RowReader, compute: Callable[[Evaluator, str], Sequence[Outcomes]]) -> None:
        self.reader, self._compute = reader, compute
        self._parts: dict[str, list[Sequence[Outcomes]]] = {}
        self.looks: dict[str, int] = {}
        self.counts: dict[str, list[int]] = {}

    def read(self, split: str, look: int) -> None:
        """Read a split up to a look; what has been read is not read again."""
        parts = self._parts.setdefault(split, [])
        counts = self.counts.setdefault(split, [])
        for number in range(len(counts), look + 1):
            if number == 0 or not self.reader.is_complete(split, number - 1):  # of a loader it shows as one reads
                parts.append(self._compute(self.reader.at(number), split))
            counts.append(sum(len(part[0].loss) for part in parts))
            self.looks[split] = number

    def list_unread(self, split: str, look: int) -> list[int]:
        """The looks whose rows would be read now, up to one."""
        numbers = range(self.looks.get(split, -1) + 1, look + 1)
        return [number for number in numbers if number == 0 or not self.reader.is_complete(split, number - 1)]

    def join(self, split: str) -> tuple[Outcomes, ...]:
        """The outcomes on all rows of a split that have been read, of every draw."""
        draws = tuple(join_outcomes(parts) for parts in zip(*self._parts[split], strict=True))
        self._parts[split] = [draws]
        return draws

    @property
    def rows(self) -> Mapping[str, int]:
        """Split -> number of rows that went through the network, of one draw."""
        return {split: sum(_count_rows(part[0]) for part in parts) for split, parts in self._parts.items()}


def _count_rows(found: Outcomes) -> int:
    return len(found.loss) if found.counted is None else len(found.counted)


def list_looks(rows: int | None, looks: int = 0) -> list[int]:
    """How many rows have been read at each look: of all looks at so many rows, or of the first `looks`.

    Example:
        >>> list_looks(360), list_looks(None, 3)
        ([64, 96, 144, 216, 324, 360], [64, 96, 144])
    """
    ends, size = [], float(FIRST_LOOK)
    while (len(ends) < looks) if rows is None else (size < rows):
        ends.append(int(size))
        size *= GROWTH
    return ends if rows is None else [*ends, rows]


def describe_looks() -> dict[str, float]:
    """What the looks depend on beside the rows and the seed: plain values for the record."""
    return {"first": FIRST_LOOK, "growth": GROWTH}


def end_with_groups(ends: Sequence[int], groups: Int[Tensor, " n"]) -> list[int]:
    """Ends of looks, each moved to the end of the group that it lies in, of rows whose groups come one after another.

    The first holds two groups, where there are two: an interval over groups takes as many.

    Example:
        >>> end_with_groups([1, 2, 5], torch.tensor([7, 7, 3, 3, 3]))
        [5]
    """
    last = torch.cat([groups[1:] != groups[:-1], torch.tensor([True])]).nonzero().flatten() + 1
    second = min(1, len(last) - 1)
    return sorted({int(last[max(second, int(torch.searchsorted(last, end)))]) for end in ends})


def draw_order(rows: int, together: Int[Tensor, " n"] | None, seed: int) -> Int[Tensor, " n"]:
    """A random order of rows, those of one group one after another.

    Example:
        >>> order = draw_order(6, torch.tensor([0, 1, 2, 0, 1, 2]), seed=0)
        >>> sorted(order.tolist()), (order % 3)[::2].tolist() == (order % 3)[1::2].tolist()
        ([0, 1, 2, 3, 4, 5], True)
    """
    if together is None:
        return draw_uniform(torch.arange(rows), seed, "reading").argsort()
    _, group = together.unique(return_inverse=True)
    places = draw_uniform(torch.arange(int(group.max()) + 1), seed, "reading")[group]
    return places.argsort(stable=True)


def _check_batches(split: str, suite: Suite, clustered: bool) -> None:
    """Raise unless batches of a loader come in one order, and rows in them are independent."""
    for what, data in suite.draws_of(split).items():
        if draws_rows(data):
            raise ValueError(
                f"the loader of {what} shuffles, so that a row could be read twice before another is; to read until "
                "settled pass its dataset, whose rows are read in random order, or a loader with shuffle=False"
            )
    if clustered:
        raise ValueError(
            f"reading until settled with cluster= takes whole clusters by index, and split {split!r} is a "
            f"{type(suite[split]).__name__}; pass its dataset, or an (x, y) pair of tensors"
        )


class _BatchSpan:
    """The batches of an iterable from one number to another."""

    def __init__(self, data: Any, first: int, end: int) -> None:
        self._data, self._first, self._end = data, first, end

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._data), self._first, self._end)


class _BatchPart:
    """The batches of an iterable from where another part ended until so many rows have been read.

    `exhausted` says, once it was read, whether it was the last.
    """

    def __init__(self, data: Any, rows: int, before: _BatchPart | None, count: Callable[[Any], int]) -> None:
        self._data, self._rows, self._before, self._count = data, rows, before, count
        self.last = self.read = 0
        self.exhausted = False

    def __iter__(self) -> Iterator[Any]:
        first, read = (0, 0) if self._before is None else (self._before.last, self._before.read)
        number, batches = first, islice(iter(self._data), first, None)
        batch = next(batches, None)
        while batch is not None and (read < self._rows or number == first):
            yield batch
            read, number = read + self._count(batch), number + 1
            batch = next(batches, None)
        self.last, self.read, self.exhausted = number, read, batch is None
