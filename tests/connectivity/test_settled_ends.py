"""Ends that are other networks than the saved ones, settled in what the path is judged on and over clusters."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc

MARGIN = 0.05


class Gate(nn.Module):
    """Tells 1 on a row x where x < `level`, else 0; the buffer is all that the norm policy moves."""

    level: Tensor

    def __init__(self, level: float) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.body = nn.BatchNorm1d(1, affine=False).double()
        self.body.running_mean.copy_(torch.tensor([level], dtype=torch.float64))  # pyright: ignore[reportOptionalMemberAccess]
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        z = -self.body(x) + 0.0 * self.s
        return torch.cat([-z, z], 1)


class Moves(mc.NormPolicy):
    """Every point has this mean in the place of the saved one."""

    def __init__(self, level: float) -> None:
        self.level = level

    def renew(self, network: object, path: object, t: float, point: mc.Point) -> mc.Point:
        moved = torch.full((1,), self.level, dtype=torch.float64)
        return mc.Point(point.params, {**point.buffers, "body.running_mean": moved})

    def describe(self) -> dict[str, object]:
        return {"policy": "moves"}


def settle(share: float, clusters: int, size: int, seed: int, **how: object) -> mc.SettledPath:
    """A line that stays, whose ends answer otherwise than as saved on a share of the clusters of equal rows."""
    drawn = torch.rand(clusters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = drawn.repeat_interleave(size)[:, None]
    labels = torch.arange(clusters).repeat_interleave(size)
    model = Gate(0.0)
    line = mc.LinearPath.between(model, Gate(0.0))
    suite = mc.Suite({"cue": (x, torch.zeros(len(x), dtype=torch.long))})
    given: Mapping[str, object] = {"margin": MARGIN, **({"cluster": labels} if size > 1 else {}), **how}
    return mc.settle_path(model, line, suite, 3, norm=Moves(share), **given)  # pyright: ignore[reportArgumentType]


def test_a_shift_is_not_overlooked_where_rows_come_in_clusters() -> None:
    """Thirty clusters of a hundred equal rows, of which 12 % move: bets on rows said "no shift" in 75 of 100 draws."""
    found = [settle(0.12, 30, 100, seed, tolerance=1.0) for seed in range(40)]
    early = [line for line in found if line.read["cue"] < 3000]
    assert len([line for line in early if not line.shifted]) <= 3  # by the theory one on average at most
    for line in found:
        assert line.judge().evaluated == "connected"
        assert line.verdict == ("undetermined" if line.shifted else "connected")


def test_where_no_cluster_moves_the_end_is_found_to_stay() -> None:
    found = settle(0.0, 400, 3, 0)
    assert not found.shifted and found.verdict == "connected" and found.read["cue"] < 1200


@pytest.mark.parametrize(("share", "shifted"), [(0.5, True), (0.0, False)])
def test_independent_rows_settle_a_shift_early(share: float, shifted: bool) -> None:
    found = settle(share, 5000, 1, 1)
    assert bool(found.shifted) == shifted and found.read["cue"] < 1000
    assert {end.on for end in found.shifted} <= {"accuracy"}


def far(outputs: Tensor, _: Tensor) -> Tensor:
    return outputs.argmax(1).double()


def heavy(outputs: Tensor, target: Tensor) -> Tensor:
    """A loss that a few rows decide: of 64 rows its mean says nothing."""
    return 1e6 * outputs.argmax(1).double() * (target[:, 0] > 0.98)


@pytest.mark.parametrize(("share", "shifted"), [(0.3, True), (0.01, False)])
def test_without_accuracy_the_metric_that_the_path_is_judged_on_decides(share: float, shifted: bool) -> None:
    """The mean loss of the rows read would say otherwise, or nothing: no target is a class here."""
    x = torch.rand(6000, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    model = Gate(0.0)
    found = mc.settle_path(
        model, mc.LinearPath.between(model, Gate(0.0)), mc.Suite({"cue": (x, x)}), 3,
        norm=Moves(share), on="far", metrics={"far": mc.Metric(far, (0.0, 1.0))}, loss=heavy, margin=MARGIN,
    )  # fmt: skip
    assert bool(found.shifted) == shifted and found.read["cue"] < 6000
    assert {end.on for end in found.shifted} <= {"far"}
    assert found.verdict == ("undetermined" if shifted else "connected")
    for end in found.shifted:
        assert end.saved == 0.0 and end.evaluated == pytest.approx(0.3, abs=0.2)
        assert str(end) == f"{end.end} has a mean far of 0 on cue as saved, and of {end.evaluated:.3g} on this path"
        assert "has a mean far of 0 on cue as saved" in found.findings[0] and "nats" not in found.findings[0]


def test_the_margin_is_in_the_units_of_what_is_judged() -> None:
    """A metric in [0, 100] that moves by 30 is within a margin of 60, and beyond one of 10."""
    metrics = {"percent": mc.Metric(lambda f, y: 100 * far(f, y), (0.0, 100.0))}
    own = {"on": "percent", "metrics": metrics, "tolerance": 5.0}
    wide, narrow = (settle(0.3, 4000, 1, 0, **own, margin=margin) for margin in (60.0, 10.0))
    assert not wide.shifted and {end.end for end in narrow.shifted} == {"A", "B"}
    assert "tolerance 5 in percent)" in wide.findings[0]


def test_ends_whose_rows_have_no_value_are_shifted() -> None:
    found = settle(float("nan"), 500, 1, 0)
    assert {end.end for end in found.shifted} == {"A", "B"} and found.verdict == "undetermined"
    assert "A is right on 100.0 % of cue as saved, and on no finite value on this path" in found.findings[0]
