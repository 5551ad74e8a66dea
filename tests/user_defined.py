"""Classes as a user's own file defines them, on mechconn's public bases: what the contract holds to like ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.alignment import AlignmentMethod, Matching, NetworkPair
from mechconn.core import Params
from mechconn.network import Curve, Network, NormPolicy, Point, PointLike, as_points, list_statistics
from mechconn.paths import Path, PathFit, WeightedPath
from mechconn.symmetry import Axis, Call, broadcast, freeze, leaf, symmetry_rule, tie


class SphericalPath(Path):
    """gamma(t) = [sin((1 - t) w) A + sin(t w) B] / sin w, for an angle w between A and B, 0 < w < pi."""

    def __init__(self, a: PointLike, b: PointLike) -> None:
        first, last = as_points(("A", "B"), (a, b))
        self.known_ends = first, last
        flat_a, flat_b = (torch.cat([t.flatten().double() for t in end.params.values()]) for end in (first, last))
        self.angle = math.acos(float(flat_a @ flat_b / (flat_a.norm() * flat_b.norm())))

    def at(self, t: float) -> Params:
        assert self.known_ends is not None
        a, b = (end.params for end in self.known_ends)
        if t in (0.0, 1.0):
            return {name: tensor.clone() for name, tensor in (b if t else a).items()}
        u, v = (math.sin(s * self.angle) / math.sin(self.angle) for s in (1 - t, t))
        return {name: u * tensor + v * b[name] for name, tensor in a.items()}

    def describe(self) -> dict[str, Any]:
        return {"path": "spherical", "angle": self.angle}


class SinePath(WeightedPath):
    """gamma(t) = (1 - s) ((1 - t) A + t B) + s theta with s = sin(pi t), for one control point theta."""

    family = "sine"

    def coefficients(self, t: float) -> tuple[float, ...]:
        s = math.sin(math.pi * t) if 0.0 < t < 1.0 else 0.0
        return (1.0 - t) * (1.0 - s), s, t * (1.0 - s)


@dataclass(frozen=True, kw_only=True)
class SineFit(PathFit):
    """Fit the control point of a `SinePath`, through which it passes at t = 1/2."""

    strength: float = 1.0

    def curve(
        self,
        a: Params | mc.Point,
        b: Params | mc.Point,
        controls: Sequence[Params],
        origin: Mapping[str, Any] | None = None,
    ) -> SinePath:
        return SinePath(a, b, controls, origin)


@dataclass(frozen=True)
class NearestNorm(NormPolicy, name="nearest"):
    """The statistics of the nearer end, of A up to `until` and of B beyond it."""

    until: float = 0.5

    def renew(self, network: Network, path: Curve, t: float, point: Point) -> Point:
        end = path.ends[int(path.place(t) > self.until)]
        held = {name: end.buffers[name].to(network.device, copy=True) for name in list_statistics(network.module)}
        return Point(point.params, {**point.buffers, **held})

    def describe(self) -> dict[str, Any]:
        return {"policy": "nearest", "until": self.until}


@dataclass(frozen=True)
class SortedMatching(AlignmentMethod, name="sorted"):
    """Match units by rank: the i-th shortest unit of A with the i-th shortest of B, by the length of their weights."""

    power: float = 2.0

    def match(self, pair: NetworkPair) -> Matching:
        found, before, after = {}, {}, {}
        for group in (group for group in pair.symmetry.groups if group.kind == "permutation"):
            a, b = (self._lengths(params, group) for params in (pair.params_a, pair.params_b))
            order = torch.empty_like(a, dtype=torch.int64)
            order[a.argsort()] = b.argsort()
            found[group.name] = order
            before[group.name], after[group.name] = -float((a - b).norm()), -float((a - b[order]).norm())
        return Matching(found, before, after)

    def _lengths(self, params: Params, group: Any) -> Tensor:
        lengths = torch.zeros(group.size, dtype=torch.float64)
        for name, axis, pattern in group.members:
            if name in params and pattern == group.name:
                rows = params[name].double().cpu().movedim(axis, 0).reshape(group.size, -1)
                lengths += rows.abs().pow(self.power).sum(1)
        return lengths

    def describe(self) -> dict[str, Any]:
        return {"method": "sorted matching", "power": self.power}


@torch.library.custom_op("user_defined::squared_relu", mutates_args=())
def squared_relu(x: Tensor) -> Tensor:
    return x.relu().square()


@torch.library.custom_op("user_defined::mix", mutates_args=())
def mix(x: Tensor, table: Tensor) -> Tensor:
    """Each row of x times a table, cumulated over the rows."""
    return (x @ table).cumsum(0)


squared_relu.register_fake(torch.empty_like)
mix.register_fake(lambda x, table: x.new_empty(len(x), table.shape[1]))


@symmetry_rule("user_defined::squared_relu", activation=True, degree=2)
def squared_relu_rule(call: Call) -> tuple[Axis, ...]:
    """Place by place."""
    return broadcast(call.tensors, call.shape)


@symmetry_rule("user_defined::mix")
def mix_rule(call: Call) -> tuple[Axis, ...]:
    """What the product sums over is one axis; the order of the rows is read."""
    tie(call.x.axes[1], call.table.axes[0])
    freeze(call.x.axes[0], "rows are cumulated")
    return leaf(call.shape[0], "rows are cumulated"), call.table.axes[1]


class Squared(nn.Module):
    """Two layers around the user's activation."""

    def __init__(self, body: nn.Module | None = None, head: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.head = body or nn.Linear(3, 5), head or nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(squared_relu(self.body(x)))


class Mixed(nn.Module):
    """A linear layer, then the user's product."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.table = nn.Linear(3, 5), nn.Parameter(torch.randn(5, 2, generator=torch.Generator()))

    def forward(self, x: Tensor) -> Tensor:
        return mix(self.body(x), self.table)
