"""Methods that merge tensor by tensor: closed forms by hand, slow references, and number types."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.merging import MergeProblem, TensorMerge
from merging_problems import pose
from zoo import build, mlp

Named = Mapping[str, Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def networks() -> tuple[dict[str, nn.Module], nn.Module]:
    return {name: build(mlp, seed) for seed, name in enumerate("abc", 1)}, build(mlp, 9)


def one(method: TensorMerge, parents: Named, base: Tensor | None = None, seed: int = 0) -> Tensor:
    """One tensor, as the only one of its networks."""

    def tensors() -> Iterator[tuple[str, Named, Tensor | None]]:
        yield "w", parents, base

    return method.prepare(tensors).merge_tensor("w", parents, base, seed)


def flatten(params: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in params.values()])


# ---------------------------------------------------------------- task arithmetic


def test_task_arithmetic_adds_and_subtracts_changes() -> None:
    base, a, b = draw(5), draw(5, seed=1), draw(5, seed=2)
    found = one(mc.TaskArithmetic(scale=0.3, weights={"a": 2.0, "b": -1.0}), {"a": a, "b": b}, base)
    torch.testing.assert_close(found, base + 0.3 * (2 * (a - base) - (b - base)), rtol=1e-14, atol=1e-14)


def test_the_mean_of_changes_is_the_mean_of_networks() -> None:
    parents, base = networks()
    problem = pose(parents, base)
    found, mean = mc.TaskArithmetic(scale=1 / 3).merge(problem), mc.Mean().merge(problem)
    for name, tensor in mean.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- TIES


def test_ties_by_hand() -> None:
    """Of five entries two stay: (4, -3), (5, 2), (-6, -1) at their places; 0: 4 + 5 > 6, mean of 4 and 5; 1: -3 against
    nothing else but 2 at another place."""
    a = torch.tensor([4.0, -3.0, 1.0, 0.5, 0.0])
    b = torch.tensor([5.0, 1.0, 2.0, 0.0, 0.0])
    c = torch.tensor([-6.0, 0.1, 0.2, -1.0, 0.3])
    found = one(mc.TIES(density=0.4, trim="tensor"), {"a": a, "b": b, "c": c}, torch.zeros(5))
    assert found.tolist() == [4.5, -3.0, 2.0, -1.0, 0.0]
    found = one(mc.TIES(density=0.4, trim="tensor", combine="sum", scale=2.0), {"a": a, "b": b, "c": c}, torch.zeros(5))
    assert found.tolist() == [18.0, -6.0, 4.0, -2.0, 0.0]


def test_ties_weighs_the_election_and_the_mean() -> None:
    a, b, c = torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([-2.5])
    parents, base = {"a": a, "b": b, "c": c}, torch.zeros(1)
    assert one(mc.TIES(density=1.0), parents, base).item() == 1.5
    assert one(mc.TIES(density=1.0, weights={"a": 3.0, "b": 1.0, "c": 1.0}), parents, base).item() == 7 / 4
    assert one(mc.TIES(density=1.0, weights={"a": 1.0, "b": 0.0, "c": 1.0}), parents, base).item() == -2.5


@pytest.mark.parametrize(("tie", "expected"), [("none", [0.0, -3.0, -2.0]), ("majority", [-1.0, -3.0, -2.0]),
                                              ("positive", [1.0, -3.0, -2.0])])  # fmt: skip
def test_an_even_sum_elects_what_the_option_says(tie: Any, expected: list[float]) -> None:
    a, b = torch.tensor([1.0, -3.0, -2.0]), torch.tensor([-1.0, -3.0, -2.0])
    assert one(mc.TIES(density=1.0, tie=tie), {"a": a, "b": b}, torch.zeros(3)).tolist() == expected


def _ties_reference(changes: Tensor, kept: int) -> Tensor:
    """Entry by entry, in Python."""
    trimmed = []
    for change in changes.tolist():
        least = sorted(map(abs, change), reverse=True)[kept - 1]
        trimmed.append([value if abs(value) >= least else 0.0 for value in change])
    found = []
    for entries in zip(*trimmed, strict=True):
        total = sum(entries)
        agreeing = [value for value in entries if value * total > 0]
        found.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return torch.tensor(found, dtype=changes.dtype)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("density", [0.01, 0.2, 0.5, 0.9, 1.0])
def test_ties_trims_over_the_whole_model(density: float, kind: torch.dtype) -> None:
    parents, base = networks()
    problem = pose({name: model.to(kind) for name, model in parents.items()}, base.to(kind))
    assert problem.base is not None
    start = flatten(problem.base.params)
    changes = torch.stack([flatten(point.params) - start for point in problem.parents.values()])
    found = flatten(mc.TIES(density=density).merge(problem))
    kept = max(1, int(density * len(start)))
    torch.testing.assert_close(found, start + _ties_reference(changes, kept), rtol=1e-6, atol=1e-6)


def test_the_smallest_kept_entry_is_exact_in_both_number_types() -> None:
    from mechconn.merging._largest_changes import find_thresholds

    for kind in (torch.float32, torch.float64):
        parts = [draw(1000, seed=seed).to(kind) * 10.0**seed for seed in range(-3, 3)]

        def tensors(parts: list[Tensor] = parts) -> Iterator[tuple[str, Named, Tensor | None]]:
            for number, part in enumerate(parts):
                yield str(number), {"a": part, "b": -part[torch.randperm(1000)]}, torch.zeros_like(part)

        sizes = torch.cat(parts).abs().sort(descending=True).values
        for density in (0.0001, 0.25, 0.77, 1.0):
            expected = float(sizes[max(1, int(density * 6000)) - 1])
            with torch.random.fork_rng():
                assert find_thresholds(tensors, density) == {"a": expected, "b": expected}


def test_nothing_changed_stays_the_base() -> None:
    base = draw(7)
    for method in (mc.TIES(), mc.TIES(trim="tensor", tie="positive"), mc.TaskArithmetic(), mc.DARE(rescale="l1")):
        assert torch.equal(one(method, {"a": base.clone(), "b": base.clone()}, base), base)


# ---------------------------------------------------------------- DARE


def test_dare_has_the_mean_and_variance_of_its_formula() -> None:
    entries, density = 200_000, 0.3
    base, a, b = (torch.full((entries,), value, dtype=torch.float64) for value in (1.0, 3.0, 0.5))
    found = one(mc.DARE(density=density, scale=0.7, weights={"a": 1.0, "b": 2.0}), {"a": a, "b": b}, base)
    mean = 1.0 + 0.7 * (2.0 + 2 * -0.5)
    variance = 0.7**2 * (4.0 + 4 * 0.25) * (1 - density) / density
    error = math.sqrt(variance / entries)
    assert abs(float(found.mean()) - mean) < 4 * error
    assert abs(float(found.var()) / variance - 1) < 0.02
    assert len(found.unique()) == 4  # kept or not, of two parents by themselves


def test_dare_depends_on_seed_parents_names_and_content() -> None:
    base, a, b = draw(50), draw(50, seed=1), draw(50, seed=2)
    first = mc.DARE(density=0.5).merge_tensor("w", {"a": a, "b": b}, base, 3)
    again = mc.DARE(density=0.5).merge_tensor("w", {"b": b, "a": a}, base, 3)
    torch.testing.assert_close(first, again, rtol=1e-14, atol=1e-14)
    tied = mc.DARE(density=0.5).merge_tensor("v", {"a": a, "b": b}, base, 3)
    assert torch.equal(first, tied)  # tied weights that a file stores twice stay tied
    for other in (mc.DARE(density=0.5).merge_tensor("w", {"c": a, "d": b}, base, 3),
                  mc.DARE(density=0.5).merge_tensor("w", {"a": a, "b": b}, base, 4)):  # fmt: skip
        assert not torch.equal(first, other)
    whole = mc.DARE(density=1.0).merge_tensor("w", {"a": a, "b": b}, base, 3)
    torch.testing.assert_close(whole, mc.TaskArithmetic().merge_tensor("w", {"a": a, "b": b}, base, 3))


def test_dare_rescales_as_asked() -> None:
    base, a = torch.zeros(100, dtype=torch.float64), draw(100, seed=1)
    plain = one(mc.DARE(density=0.25, rescale="none"), {"a": a}, base)
    kept = plain != 0
    assert torch.equal(plain[kept], a[kept]) and 10 < int(kept.sum()) < 45
    assert torch.equal(one(mc.DARE(density=0.25), {"a": a}, base), plain / 0.25)
    normed = one(mc.DARE(density=0.25, rescale="l1"), {"a": a}, base)
    torch.testing.assert_close(normed.abs().sum(), a.abs().sum())
    torch.testing.assert_close(normed, plain * (a.abs().sum() / plain.abs().sum()))


def test_dare_with_elected_signs_is_ties_without_trimming() -> None:
    base, parents = draw(40), {name: draw(40, seed=seed) for seed, name in enumerate("abc", 1)}
    for combine in ("mean", "sum"):
        found = one(mc.DARE(density=1.0, signs="elected", combine=combine), parents, base)
        assert torch.equal(found, one(mc.TIES(density=1.0, combine=combine), parents, base))
    even, start = {"a": torch.ones(3), "b": -torch.ones(3)}, torch.zeros(3)
    assert torch.equal(one(mc.DARE(density=1.0, signs="elected"), even, start), start)
    assert torch.equal(one(mc.DARE(density=1.0, signs="elected", tie="positive"), even, start), start + 1)
    dropped = {
        name: one(mc.DARE(density=0.5), {name: tensor}, base) for name, tensor in parents.items()
    }  # each by itself: the same entries stay
    found = one(mc.DARE(density=0.5, signs="elected"), parents, base)
    torch.testing.assert_close(found, one(mc.TIES(density=1.0), dropped, base), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- SLERP


def test_slerp_walks_on_the_circle() -> None:
    a, b = torch.tensor([3.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 3.0], dtype=torch.float64)
    for t in (0.0, 0.2, 0.5, 1.0):
        found = one(mc.SLERP(t), {"a": a, "b": b})
        angle = t * math.pi / 2
        expected = torch.tensor([3 * math.cos(angle), 3 * math.sin(angle)], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
    x, y = draw(6, 4), draw(6, 4, seed=1)
    y = y / y.norm() * x.norm()
    torch.testing.assert_close(one(mc.SLERP(0.3), {"a": x, "b": y}).norm(), x.norm())


def test_slerp_without_an_arc_is_a_line_and_says_so() -> None:
    a, zero = draw(8), torch.zeros(8, dtype=torch.float64)
    near = a + 1e-4 * draw(8, seed=1)
    for x, y in ((a, 3 * a), (a, -2 * a), (a, near), (zero, a), (a, zero), (zero, zero)):
        torch.testing.assert_close(one(mc.SLERP(0.25), {"a": x, "b": y}), 0.75 * x + 0.25 * y, rtol=1e-14, atol=1e-14)
    third = one(mc.SLERP(1 / 3, zeros="right_angle"), {"a": zero, "b": a})
    torch.testing.assert_close(third, a / 2, rtol=1e-12, atol=1e-12)
    parents, _ = networks()
    pair = {name: parents[name] for name in "ab"}
    with torch.no_grad():
        pair["b"].get_parameter("2.bias").copy_(pair["a"].get_parameter("2.bias"))
        pair["b"].get_parameter("0.bias").zero_()
    problem = pose(pair)
    mc.SLERP(0.5).merge(problem)
    (note,) = problem.record.notes
    assert note.startswith("2 of 4 tensors were mixed along a line") and "0.bias, 2.bias" in note
    assert problem.record.shares == {"a": 0.5, "b": 0.5}


# ---------------------------------------------------------------- all of them

METHODS: dict[str, Callable[[], TensorMerge]] = {
    "mean": lambda: mc.Mean(),
    "task arithmetic": lambda: mc.TaskArithmetic(scale=0.5),
    "ties": lambda: mc.TIES(density=0.5),
    "ties, tensor": lambda: mc.TIES(density=0.5, trim="tensor", tie="majority"),
    "dare": lambda: mc.DARE(density=0.5),
    "dare, elected": lambda: mc.DARE(density=0.5, signs="elected", rescale="l1"),
    "slerp": lambda: mc.SLERP(0.3),
}


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_rounded_once(method: str, kind: torch.dtype) -> None:
    base, a, b = (draw(300, seed=seed).to(kind) for seed in range(3))
    found = one(METHODS[method](), {"a": a, "b": b}, base)
    wide = one(METHODS[method](), {"a": a.float(), "b": b.float()}, base.float())
    assert found.dtype == kind and torch.equal(found, wide.to(kind))


@pytest.mark.parametrize("method", METHODS)
def test_parents_of_other_number_types_are_widened(method: str) -> None:
    base, a, b = (draw(300, seed=seed).bfloat16() for seed in range(3))
    found = one(METHODS[method](), {"a": a.float(), "b": b}, base)
    wide = one(METHODS[method](), {"a": a.float(), "b": b.float()}, base.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wide, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_whole_numbers_are_shared_or_refused(method: str) -> None:
    ids = torch.arange(4)
    found = one(METHODS[method](), {"a": ids, "b": ids.clone()}, ids)
    assert torch.equal(found, ids) and found is not ids
    with pytest.raises(
        ValueError, match=r"w is int64\[4\] of 'a' and int64\[4\] of 'b', which differ and have no mean"
    ):
        one(METHODS[method](), {"a": ids, "b": ids + 1}, ids)


@pytest.mark.parametrize("method", METHODS)
def test_the_parents_stay_and_the_order_of_names_changes_nothing(method: str) -> None:
    parents, base = networks()
    pair = {name: parents[name] for name in "ab"}
    problem, made = pose(pair, base), METHODS[method]()
    held = {name: {k: t.clone() for k, t in point.params.items()} for name, point in problem.parents.items()}
    found = made.merge(problem)
    for name, point in problem.parents.items():
        assert all(torch.equal(tensor, held[name][key]) for key, tensor in point.params.items())
        assert all(tensor.data_ptr() != found[key].data_ptr() for key, tensor in point.params.items())
    turned = mc.SLERP(1 - made.t) if isinstance(made, mc.SLERP) else made
    again = turned.merge(pose({name: parents[name] for name in "ba"}, base))
    for name, tensor in found.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("mean",)])
def test_nan_is_refused(method: str) -> None:
    base, a, b = draw(5), draw(5, seed=1), draw(5, seed=2)
    b[2] = math.nan
    with pytest.raises(ValueError, match="w of 'b' holds NaN or infinity; leave that network out, or train it again"):
        one(METHODS[method](), {"a": a, "b": b}, base)


def test_the_mean_keeps_nan() -> None:
    found = one(mc.Mean(), {"a": torch.tensor([1.0, math.nan]), "b": torch.tensor([3.0, 1.0])})
    assert found[0] == 2.0 and bool(found[1].isnan())


def test_tied_weights_are_merged_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.Linear(3, 3, bias=False)
            self.write = nn.Linear(3, 3, bias=False)
            self.write.weight = self.read.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.write(self.read(x))

    problem: MergeProblem = pose({name: build(Tied, seed) for seed, name in enumerate("ab")}, build(Tied, 5))
    for make in METHODS.values():
        assert list(make().merge(problem)) == ["read.weight"]
