"""Rows that choose a scale and rows that judge it: the same sample is on one side in every split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechconn.core import NamedFiles, as_data, find_row_origin, is_source, make_generator, share_known_rows
from mechconn.datasets import ClusterLabels, Suite, join_groups
from mechconn.mechanisms import ModelOutcome, RowValues, rows_correspond
from mechconn.network import Answers, Outcomes

FILES = "files"
Sides = Mapping[str, Bool[Tensor, " n"]]
"""Split -> which of its rows that count choose; the others judge."""


def divide_rows(
    outcome: ModelOutcome, suite: Suite, clusters: ClusterLabels | None, share: float, seed: int
) -> dict[str, Bool[Tensor, " n"]]:
    """Split -> which rows choose, drawn by seed: about `share` of all of them.

    Rows are together on one side where they show one sample (equal origin, see `find_row_origin`), where they stand at
    one place of two splits of other origins with equal targets, where they are of one cluster, or show something of
    each other.

    Raises:
        ValueError: a split has fewer than two rows on a side.
    """
    groups = _group_rows(outcome, suite, clusters)
    sizes = torch.bincount(groups).double()
    order = torch.randperm(len(sizes), generator=make_generator(seed, "rows that choose a scale"))
    filled = sizes[order].cumsum(0)
    chosen = torch.zeros(len(sizes), dtype=torch.bool)
    chosen[order] = filled - sizes[order] / 2 <= share * len(groups)
    lengths = [len(result.loss) for result in outcome.splits.values()]
    sides = dict(zip(outcome.splits, chosen[groups].split(lengths), strict=True))
    for split, own in sides.items():
        few = min(int(own.sum()), int((~own).sum()))
        if few < 2:
            raise ValueError(
                f"the rows of split {split!r} divide into {int(own.sum())} that choose and {int((~own).sum())} that "
                "judge, and two are needed on either side; give more rows, or rows that choose alone, choosing=Suite"
            )
    return sides


def select_judging(outcome: ModelOutcome, sides: Sides) -> ModelOutcome:
    """The outcomes on the rows that judge."""
    return replace(
        outcome,
        splits={
            split: replace(
                result,
                draws=tuple(_select_rows(draw, ~sides[split]) for draw in result.draws),
                clusters=None if result.clusters is None else result.clusters[~sides[split]],
            )
            for split, result in outcome.splits.items()
        },
    )


def select_values(values: Mapping[str, RowValues], sides: Sides | None, choose: bool) -> dict[str, RowValues]:
    """Split -> the values of the rows of one side; all where there is no division."""
    if sides is None:
        return dict(values)
    return {split: rows.where(sides[split] == choose) for split, rows in values.items()}


def refuse_shared_rows(choosing: Suite, suite: Suite) -> None:
    """Raise where rows that choose are known to judge.

    Raises:
        ValueError: the splits are named.
    """
    shared = [
        split
        for split, judged in suite.items()
        if any(share_known_rows(as_data("choosing", data), as_data(split, judged)) for data in choosing.values())
    ]
    if shared:
        raise ValueError(
            f"choosing= holds rows that are in the suite ({', '.join(shared)}), so that they would judge what they "
            "chose; give other rows, or choosing=0.5 to divide those of the suite"
        )


def _group_rows(outcome: ModelOutcome, suite: Suite, clusters: ClusterLabels | None) -> Int[Tensor, " n"]:
    """The number of the group of each row, over all splits one after the other."""
    lengths = {split: len(result.loss) for split, result in outcome.splits.items()}
    total = sum(lengths.values())
    groups = torch.arange(total)
    for labels in _list_groupings(outcome, suite, clusters, lengths):
        groups = join_groups(groups, labels)
    return groups


def _list_groupings(
    outcome: ModelOutcome, suite: Suite, clusters: ClusterLabels | None, lengths: Mapping[str, int]
) -> Iterator[Int[Tensor, " n"]]:
    """Numberings of all rows: those of one number are together."""
    starts = dict(zip(lengths, torch.tensor([0, *lengths.values()]).cumsum(0).tolist(), strict=False))
    own = torch.arange(sum(lengths.values()))
    origins = {split: _find_origin(split, suite[split], result.draws[0]) for split, result in outcome.splits.items()}
    for root in {root for root, _ in origins.values() if root is not None}:
        yield _place(own, starts, {split: ids for split, (origin, ids) in origins.items() if origin == root})
    for a, b in combinations(lengths, 2):
        apart = origins[a][0] is None or origins[a][0] != origins[b][0]
        if apart and rows_correspond(outcome.splits[a], outcome.splits[b]):
            yield _place(own, starts, dict.fromkeys((a, b), torch.arange(lengths[a])))
    for split, result in outcome.splits.items():
        if result.clusters is not None:
            yield _place(own, starts, {split: result.clusters})
    if clusters is not None:
        labels = {s: clusters.of(s, n, outcome.splits[s].draws[0].counted) for s, n in lengths.items()}
        yield _place(own, starts, labels)


def _place(own: Tensor, starts: Mapping[str, int], labels: Mapping[str, Tensor]) -> Int[Tensor, " n"]:
    """A numbering of all rows in which those of some splits have these labels, and every other row its own."""
    placed = own.clone()
    _, numbers = torch.cat(list(labels.values())).unique(return_inverse=True)
    for split, part in zip(labels, numbers.split([len(part) for part in labels.values()]), strict=True):
        placed[starts[split] : starts[split] + len(part)] = len(own) + part
    return placed


def _find_origin(split: str, data: Any, result: Outcomes) -> tuple[str | int | None, Tensor]:
    """(what tells the origin of a split's rows, the identity of each that counts); None where it is not known."""
    data = as_data(split, data)
    if not is_source(data):
        return None, torch.empty(0)
    root, ids = find_row_origin(data)
    ids = ids.cpu() if result.counted is None else ids.cpu()[result.counted]
    return FILES if isinstance(root, NamedFiles) else root if isinstance(root, str) else id(root), ids


def _select_rows(result: Outcomes, rows: Bool[Tensor, " n"]) -> Outcomes:
    """The outcomes on some rows."""
    return replace(
        result,
        loss=result.loss[rows],
        answers=None if result.answers is None else _select_answers(result.answers, rows),
        targets=result.targets[rows],
        metrics={name: values[rows] for name, values in result.metrics.items()},
        counted=None,
        class_probabilities=None,
    )


def _select_answers(answers: Answers, rows: Bool[Tensor, " n"]) -> Answers:
    if (
        answers.predicted is None or answers.labels is None
    ):  # of labels or positions: shares of all rows stand for these
        return replace(answers, right=answers.right[rows])
    predicted, labels = answers.predicted[rows], answers.labels[rows]
    return replace(
        answers,
        right=answers.right[rows],
        predicted=predicted,
        labels=labels,
        commonest=float(torch.bincount(labels.clamp(min=0)).max()) / len(labels),
        constant=bool((predicted == predicted[0]).all()),
    )
