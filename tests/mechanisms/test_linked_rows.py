"""Whatever is measured of rows that show something of each other, intervals are over groups of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.datasets import find_links
from mechconn.interventions import SwapColumn
from mechconn.stats import clopper_pearson

ROWS = 200


class Sign(nn.Module):
    """Class 1 where a column is positive."""

    def __init__(self, column: int = 0) -> None:
        super().__init__()
        self.column = column

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([-x[:, self.column], x[:, self.column]], 1)


def table(rows: int = ROWS, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The first of two columns has the sign of the label."""
    draw = torch.Generator().manual_seed(seed)
    y = (torch.rand(rows, generator=draw) < 0.5).long()
    x = torch.rand(rows, 2, generator=draw, dtype=torch.float64) + 0.5
    x[:, 0] *= 2.0 * y - 1.0
    return x, y


def swap(data: Any, seed: int = 1) -> Any:
    """The data with values of the first column exchanged in pairs of rows."""
    return SwapColumn(columns=0)(data, seed=seed)


@pytest.mark.parametrize("on", ["accuracy", "loss"])
def test_a_reference_of_linked_rows_is_the_mirror_image_of_linked_rows(on: Any) -> None:
    data = table()
    there = mc.measure_invariance(Sign(), mc.Suite({"data": data, "other": swap(data)}, reference="data"), on=on)
    back = mc.measure_invariance(Sign(), mc.Suite({"other": swap(data), "data": data}, reference="other"), on=on)
    low, high = there["other"].interval
    assert back["data"].interval == pytest.approx((-high, -low), abs=1e-6)  # bounds are found by bisection
    assert back["data"].paired and back["data"].clusters == there["other"].clusters == ROWS // 2


def test_comparisons_against_linked_rows() -> None:
    data = table()
    suite = mc.Suite({"other": swap(data), "data": data}, reference="other")
    found = mc.compare_mechanisms(Sign(), Sign(1), suite)
    low, high = found.differences["data"].interval
    assert low < found.differences["data"].effect < high


def test_rows_linked_in_two_ways_are_paired_over_the_groups_of_both() -> None:
    data = table()
    first, second = swap(data, seed=1), swap(data, seed=2)
    suite = mc.Suite({"first": first, "second": second}, reference="first")
    found = mc.measure_invariance(Sign(1), suite, on="loss")
    links = [find_links(split) for split in (first, second)]
    assert links[0] is not None and links[1] is not None and not torch.equal(links[0], links[1])
    groups = mc.datasets.join_groups(links[0], links[1])
    assert found["second"].paired and found["second"].clusters == len(groups.unique()) < ROWS // 2


def test_linked_rows_and_other_rows_are_two_sets_of_clusters() -> None:
    data, others = table(), table(150, seed=5)
    found = mc.measure_invariance(Sign(), mc.Suite({"other": swap(data), "rest": others}, reference="other"))
    assert not found["rest"].paired and found["rest"].clusters == 150
    low, high = found["rest"].interval
    assert low < found["rest"].effect < high


def test_accuracies_of_groups_are_over_groups_of_linked_rows() -> None:
    data = table()
    linked, names = swap(data), (data[0][:, 1] > 1).tolist()
    found = mc.measure_groups(Sign(), linked, names)
    clear = mc.measure_groups(Sign(), (linked.inputs(torch.arange(ROWS)), data[1]), names)
    assert not clear.clusters and all(count > ROWS // 4 for count in found.clusters.values())
    for name, group in found.groups.items():
        other = clear.groups[name]
        assert group.accuracy == other.accuracy
        assert other.interval == clopper_pearson(round(other.accuracy * other.rows), other.rows, 0.95)
        assert group.interval != other.interval


def test_probes_hold_out_whole_groups_of_linked_rows() -> None:
    linked = swap(table())
    model = nn.Linear(2, 2, dtype=torch.float64, device="meta").to_empty(device="cpu")
    model.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    found = mc.probe(model, linked, layers=[""], fresh=False)
    assert found.clusters == found.rows_held_out // 2


def test_an_audit_joins_groups_over_splits_of_which_one_is_linked() -> None:
    data = table()
    suite = mc.Suite({"data": data, "other": swap(data)}, reference="data")
    task = mc.GroupTask((data[0][:, 1] > 1).tolist(), split=("data", "other"))
    found = mc.audit(Sign(), Sign(1), suite, groups=task).groups["A"]
    for name, group in found.groups.items():
        assert group.rows // 2 < found.clusters[name] < group.rows


def test_relearning_is_judged_over_groups_of_linked_rows() -> None:
    """The rows that are measured hold the second column of other rows: groups of them are its units, not the rows."""
    data, fresh = table(), table(60, seed=9)
    linked = SwapColumn(columns=1)(data, seed=3)
    apart = linked.inputs(torch.arange(ROWS)), data[1]
    protocol = mc.Relearning(steps=(0, 2), seeds=2, batch_size=30)
    over_groups, over_rows = (
        mc.measure_relearning(
            flat(0), protocol, fresh, mc.Suite({"data": rows, "other": swap(data)}, reference="data"), split="data",
            control=flat(1), symmetry="none",
        ).runs[0]
        for rows in (linked, apart)
    )  # fmt: skip
    assert over_groups.excess == over_rows.excess and over_groups.interval != over_rows.interval
    assert over_groups.at_start == over_rows.at_start
    assert over_groups.at_start_interval != over_rows.at_start_interval


def flat(column: int) -> nn.Module:
    """A linear network that reads one column."""
    weight = torch.zeros(2, 2, dtype=torch.float64)
    weight[:, column] = torch.tensor([-1.0, 1.0])
    model = nn.Linear(2, 2, dtype=torch.float64, device="meta").to_empty(device="cpu")
    model.load_state_dict({"weight": weight, "bias": torch.zeros(2)})
    return model
