"""Pairs of inputs from the splits of a suite, no row in two of them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from mechconn.core import (
    SampleSource,
    check_by_index,
    check_choice,
    check_count,
    check_is,
    is_source,
    make_generator,
    share_known_rows,
    share_rows,
)
from mechconn.datasets import Suite

PairRule: TypeAlias = Literal["class", "other class", "row"]
PAIR_RULES: tuple[PairRule, ...] = ("class", "other class", "row")


@dataclass(frozen=True, eq=False)
class InputPairs:
    """Pairs of inputs; `evaluate_input_path(model, *pairs)` takes them.

    Attributes:
        x_a: where paths begin, [N, ...].
        x_c: where they end.
        labels: the target of each row of x_a.
        rows_a: its row in the first split, int64 of shape [N].
        rows_c: that of the other end in the second.
    """

    x_a: Tensor
    x_c: Tensor
    labels: Tensor
    rows_a: Tensor
    rows_c: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Tensor]:
        """x_a, x_c and labels."""
        return iter((self.x_a, self.x_c, self.labels))


def pair_inputs(
    suite: Suite, a: str, c: str | None = None, *, by: PairRule = "class", per_class: int | None = None, seed: int = 0
) -> InputPairs:
    """Draw pairs of inputs from one or two splits of a suite, no row in two pairs.

    Where both splits show the same rows, as counterfactuals do, a row that one pair shows in either split stands in no
    other pair. So it is too where they have the same labels row by row and nothing is known of their rows, as of
    tensors; `Suite(..., paired=False)` says that they are others.

    Args:
        suite: the splits.
        a: the split of the inputs where paths begin.
        c: that of the inputs where they end; default: the same one.
        by: "class" joins different rows of one class; "other class" rows of two classes, with the first one's label;
            "row" each row with itself in the other split, the direction of an intervention.
        per_class: how many pairs begin in each class at the most; default: as many as there are.
        seed: of the draw.

    Raises:
        TypeError: a split that cannot be read by row.
        ValueError: no such split or rule, targets that are no class labels, "row" of splits that are not known to show
            the same rows, splits that have some rows in common and others not, or no pair at all.

    Example:
        >>> x, y = torch.arange(8.0)[:, None], torch.tensor([0, 1] * 4)
        >>> pairs = pair_inputs(Suite({"cue": (x, y), "no_cue": (x + 10, y)}, paired=True), "cue", "no_cue")
        >>> len(pairs), sorted([*pairs.rows_a.tolist(), *pairs.rows_c.tolist()])
        (4, [0, 1, 2, 3, 4, 5, 6, 7])
    """
    check_is("suite", suite, Suite, "; build one with Suite({name: data, ...})")
    c = a if c is None else c
    for name, split in (("a", a), ("c", c)):
        check_choice(name, split, tuple(suite))
    check_choice("by", by, PAIR_RULES)
    first, second = (check_by_index("pair_inputs", suite[split]) for split in (a, c))
    labels, others = (_read_labels(split, data) for split, data in ((a, first), (c, second)))
    same = _show_same_rows(suite, a, c)
    if not same and by != "row" and share_known_rows(first, second):
        raise ValueError(
            f"splits {a!r} and {c!r} have rows in common, and are not known to show the same ones row by row; pass "
            "Suite(..., paired=True) where they do, or give splits without rows in common"
        )
    apart = not same and not (suite.paired is None and torch.equal(labels, others))
    order = torch.randperm(len(labels), generator=make_generator(seed, "pairs", "a"))
    if by == "row":
        chosen = _pair_rows(labels, others, order, same, a, c)
    elif by == "class":
        chosen = _pair_within(labels, others, order, not apart, seed)
    else:
        chosen = _pair_across(labels, others, order, not apart, seed)
    kept = _keep_few(chosen, labels, per_class)
    if not kept:
        raise ValueError(f"no two rows of {a!r} and {c!r} make a pair by {by!r}; give more rows")
    rows_a, rows_c = torch.tensor(sorted(kept)).T
    x_a, x_c = first.inputs(rows_a), second.inputs(rows_c)
    for split, x in ((a, x_a), (c, x_c)):
        check_is(f"an input of split {split!r}", x, Tensor, ": paths join single tensors")
    return InputPairs(x_a, x_c, labels[rows_a], rows_a, rows_c)


def _read_labels(split: str, data: SampleSource) -> Tensor:
    y = data.y
    if y.dim() != 1 or y.is_floating_point():
        kind = f"{str(y.dtype).removeprefix('torch.')}{list(y.shape)}"
        raise ValueError(f"pairs are drawn by class, and split {split!r} has targets {kind}; give class labels [N]")
    return y.cpu().long()


def _show_same_rows(suite: Suite, a: str, c: str) -> bool:
    """Whether row i of both splits is known to show one sample."""
    first, second = suite[a], suite[c]
    assert is_source(first) and is_source(second)
    paired = suite.paired is True and len(first) == len(second)
    return a == c or paired or share_rows(first, second)


_Rows: TypeAlias = list[tuple[int, int]]


def _pair_rows(labels: Tensor, others: Tensor, order: Tensor, same: bool, a: str, c: str) -> _Rows:
    """Each row with itself."""
    if not same or a == c or not torch.equal(labels, others):
        raise ValueError(
            f"by='row' joins a row of {a!r} with the same row of {c!r}, and these are not known to be two splits of "
            "the same rows; pass Suite(..., paired=True) where they are, or by='class'"
        )
    return [(row, row) for row in order.tolist()]


def _pair_within(labels: Tensor, others: Tensor, order: Tensor, same: bool, seed: int) -> _Rows:
    """Different rows of one class: the two halves of its rows, or the rows of both splits in order."""
    again = order if same else torch.randperm(len(others), generator=make_generator(seed, "pairs", "c"))
    found: _Rows = []
    for label in labels.unique():
        left = order[labels[order] == label].tolist()
        right = again[others[again] == label].tolist()
        if same:
            half = len(left) // 2
            left, right = left[:half], left[half : 2 * half]
        found += zip(left, right, strict=False)
    return found


def _pair_across(labels: Tensor, others: Tensor, order: Tensor, same: bool, seed: int) -> _Rows:
    """Rows of two classes: each row in order with the first free one that has another label."""
    if not same:
        free = torch.randperm(len(others), generator=make_generator(seed, "pairs", "c"))
        return _match_labels(order, free, labels, others)
    half = len(order) // 2
    return _match_labels(order[:half], order[half:], labels, others)


def _match_labels(rows: Tensor, free: Tensor, labels: Tensor, others: Tensor) -> _Rows:
    """Each row with the first free one of another label, of queues by label."""
    queues: dict[int, deque[tuple[int, int]]] = defaultdict(deque)
    for place, (row, label) in enumerate(zip(free.tolist(), others[free].tolist(), strict=True)):
        queues[label].append((place, row))
    found: _Rows = []
    for row, label in zip(rows.tolist(), labels[rows].tolist(), strict=True):
        ready = [queue for other, queue in queues.items() if other != label and queue]
        if ready:
            found.append((row, _take_first(ready)))
    return found


def _take_first(queues: list[deque[tuple[int, int]]]) -> int:
    """The row of the smallest place, taken from its queue."""
    return min(queues, key=lambda queue: queue[0][0]).popleft()[1]


def _keep_few(chosen: _Rows, labels: Tensor, per_class: int | None) -> _Rows:
    """The first pairs that begin in each class."""
    if per_class is None:
        return chosen
    check_count("per_class", per_class)
    left = dict.fromkeys(labels.unique().tolist(), per_class)
    kept: Any = []
    for row, other in chosen:
        label = int(labels[row])
        if left[label]:
            left[label] -= 1
            kept.append((row, other))
    return kept
