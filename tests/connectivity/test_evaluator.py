"""What is remembered is served to what it belongs to alone, and what is shared along a path is the same there."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import mechconn as mc
from mechconn.network import Network
from zoo import CLASSES, FEATURES, build, norm_mlp, rows

X, Y = rows(40)
SUITE = mc.Suite({"cue": (X, Y), "hue": rows(36, 4)}, reference="cue")
STATISTICS = mc.Reestimate(rows(48, 7))


def backbone(head: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.ReLU(), head)


def spectral_head() -> nn.Module:
    return backbone(spectral_norm(nn.Linear(6, CLASSES)))


def plain_head() -> nn.Module:
    return backbone(nn.Linear(6, CLASSES))


def trained(factory: Any, seed: int) -> nn.Module:
    model = build(factory, seed).train()
    with torch.no_grad():
        for _ in range(3):
            model(X)
    return model.eval()


def with_backbone_of(model: nn.Module, other: nn.Module) -> nn.Module:
    """`model` with all but the head of another."""
    state = {**other.state_dict(), **{n: t for n, t in model.state_dict().items() if n.startswith("3.")}}
    result = copy.deepcopy(model)
    result.load_state_dict(state)
    return result


def loss_at(model: nn.Module, path: mc.LinearPath | mc.BezierPath, t: float, norm: Any) -> float:
    """By a module of its own."""
    found = mc.measure_invariance(mc.model_at(model, path, t, norm=norm), SUITE).loss["cue"]
    assert found is not None
    return found


GRID = (0.0, 0.25, 0.5, 0.75, 1.0)


def test_a_head_with_other_state_moves_over_statistics_that_stay() -> None:
    a, b = (trained(spectral_head, seed) for seed in (1, 2))
    b = with_backbone_of(b, a)
    line = mc.LinearPath.between(a, b)
    found = mc.evaluate_path(a, line, SUITE, GRID, norm=STATISTICS).loss["cue"]
    assert found == pytest.approx([loss_at(a, line, t, STATISTICS) for t in GRID], rel=1e-9)


def test_bends_count_where_statistics_are_shared() -> None:
    a, b, bend = (trained(plain_head, seed) for seed in (1, 2, 3))
    b = with_backbone_of(b, a)
    for curve in (
        mc.BezierPath.between(a, b, controls=[mc.parameters_of(bend)]),
        mc.BezierPath(mc.parameters_of(a), mc.parameters_of(b), controls=[mc.parameters_of(bend)]),
    ):
        found = mc.evaluate_path(a, curve, SUITE, GRID, norm=STATISTICS).loss["cue"]
        assert found == pytest.approx([loss_at(a, curve, t, STATISTICS) for t in GRID], rel=1e-9)
    stretch = curve.sub(0.25, 0.75)
    found = mc.evaluate_path(a, stretch, SUITE, 3, norm=STATISTICS).loss["cue"]
    assert found == pytest.approx([loss_at(a, curve, t, STATISTICS) for t in (0.25, 0.5, 0.75)], rel=1e-9)


def test_policies_that_are_gone_leave_nothing_to_others() -> None:
    a, b = (trained(norm_mlp, seed) for seed in (1, 2))
    line, evaluator = mc.LinearPath.between(a, b), mc.Evaluator(a, SUITE)

    def measured(policy: mc.NormPolicy) -> float:
        return evaluator.along(line, 1.0, policy)[0]["cue"].mean_loss

    policies = (mc.InterpolateNorm, mc.KeepNorm, lambda: mc.Reestimate((X, Y)))
    expected = [mc.evaluate_path(a, line, SUITE, 2, norm=policy()).loss["cue"][1] for policy in policies]
    assert len({round(value, 6) for value in expected}) == 3
    for _ in range(20):  # each policy is freed at once, and its identity may be another's next
        assert [measured(policy()) for policy in policies] == expected


class FromStart(mc.NormPolicy):
    """The statistics of A everywhere."""

    def renew(self, network: Network, path: Any, t: float, point: mc.Point) -> mc.Point:
        start = path.ends[0].buffers
        kept = {name: start[name].clone() for name in point.buffers if "running" in name}
        return mc.Point(point.params, {**point.buffers, **kept})

    def describe(self) -> dict[str, Any]:
        return {"policy": "from start"}


def test_a_policy_that_reads_the_other_end_is_asked_on_every_path() -> None:
    a, b, c = (trained(norm_mlp, seed) for seed in (1, 2, 3))
    policy, evaluator = FromStart(), mc.Evaluator(a, SUITE)
    ends = [mc.point_of(model) for model in (a, b, c)]
    for start in (ends[0], ends[2]):
        line = mc.LinearPath(start, ends[1])
        expected = mc.evaluate_path(a, line, SUITE, 2, norm=FromStart()).loss["cue"][1]
        assert evaluator.along(line, 1.0, policy)[0]["cue"].mean_loss == expected
    symmetry = mc.symmetry_of(a, X[:2])
    lines = mc.evaluate_alignment(a, b, mc.WeightMatching(restarts=2), SUITE, 3, norm=policy, symmetry=symmetry)
    moved = lines.alignment.model
    alone = mc.evaluate_path(a, mc.LinearPath.between(a, moved), SUITE, 3, norm=policy)
    assert lines["after"].loss["cue"] == pytest.approx(alone.loss["cue"], rel=1e-9)
    assert lines["after"].loss["cue"][2] != pytest.approx(lines["before"].loss["cue"][2], rel=1e-3)


class Masked(nn.Module):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * self.get_buffer("mask"))


def test_what_is_ignored_although_it_matters_shows_in_the_ends_as_saved() -> None:
    a = build(lambda: Masked(torch.ones(FEATURES)), 1)
    b = copy.deepcopy(a)
    b.get_buffer("mask")[:3] = 0.0
    own = mc.measure_invariance(b, SUITE)
    profile = mc.evaluate_path(a, mc.LinearPath.between(a, b, ignore=("mask",)), SUITE, 3)
    assert profile.saved[1] is not None
    assert dict(profile.saved[1].accuracy) == pytest.approx(dict(own.accuracy), abs=1e-12)
    assert profile.accuracy["cue"][2] == profile.accuracy["cue"][0]
    assert any(shift.end == "B" for shift in profile.shifted_ends(0.01))
    found = mc.audit(a, b, SUITE, ts=3, alignment="none", ignore=("mask",))
    assert (
        dict(found.paths) == {} and "outputs on an example" in found.notes[0] and "with mask left out" in found.notes[0]
    )


def test_outcomes_are_of_this_module_alone() -> None:
    evaluator = mc.Evaluator(build(plain_head), SUITE)
    other = build(lambda: nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, CLASSES)))
    with pytest.raises(
        ValueError, match="not one module with different parameters and statistics: outputs on an example"
    ):
        evaluator.outcomes(other)
    with pytest.raises(TypeError, match=r"point must be a Point, got dict; pass mechconn\.point_of"):
        evaluator.outcomes(mc.parameters_of(other))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a split"):
        evaluator.outcomes(splits=["cuw"])
    assert evaluator.outcomes(splits=[]) == {}
    alike, events = trained(plain_head, 3), list[mc.ProgressEvent]()
    found = mc.Evaluator(build(plain_head), SUITE, progress=events.append).outcomes(alike)
    assert found["hue"].mean_loss == pytest.approx(mc.measure_invariance(alike, SUITE).loss["hue"], rel=1e-12)
    assert [(event.done, event.total) for event in events] == [(1, 2), (2, 2)]


def test_ends_are_held_to_the_module_that_is_passed() -> None:
    model = build(lambda: nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, CLASSES)))
    a, b, c = (
        build(lambda: nn.Sequential(nn.Linear(FEATURES, 6), nn.GELU(), nn.Linear(6, CLASSES)), seed)
        for seed in (1, 2, 3)
    )
    why = "not one module with different parameters and statistics: 1: ReLU and GELU"
    for act in (
        lambda: mc.evaluate_blocks(model, a, b, SUITE, ts=3),
        lambda: mc.evaluate_plane(model, mc.point_of(a), b, c, SUITE, 3),
        lambda: mc.fit_path(model, a, b, mc.BezierFit(epochs=1), rows(24)),
    ):
        with pytest.raises(ValueError, match=why):
            act()


def test_an_audit_refuses_before_the_work_what_would_fail_after_it() -> None:
    a, b, events = trained(norm_mlp, 1), trained(norm_mlp, 2), list[mc.ProgressEvent]()
    with pytest.raises(ValueError, match="InterpolateNorm needs the two ends of a path, and a block moved by itself"):
        mc.audit(a, b, SUITE, ts=3, norm=mc.InterpolateNorm(), blocks=1, progress=events.append)
    with pytest.raises(ValueError, match="an audit needs interventions"):
        mc.audit(a, b, mc.Suite({"cue": (X, Y)}), ts=3, norm=mc.KeepNorm(), progress=events.append)
    assert events == []


def test_sparse_state_is_shared_and_ends_that_are_not_finite_are_no_others() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(FEATURES, CLASSES)
            self.register_buffer("adjacency", torch.eye(FEATURES, dtype=torch.float64).to_sparse())

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.sparse.mm(self.adjacency, x.T).T)

    a, b = build(Graph, 1), build(Graph, 2)
    found = mc.evaluate_path(a, mc.LinearPath.between(a, b), SUITE, 3).loss["cue"]
    assert found[2] == pytest.approx(mc.measure_invariance(b, SUITE).loss["cue"], rel=1e-12)
    broken = trained(norm_mlp, 1)
    with torch.no_grad():
        next(p for name, p in broken.named_parameters() if name.endswith("weight")).fill_(torch.nan)
    line = mc.LinearPath.between(trained(norm_mlp, 2), broken)
    profile = mc.evaluate_path(broken, line, SUITE, 3, norm=mc.InterpolateNorm())
    assert profile.shifted_ends() == () and profile.not_finite
