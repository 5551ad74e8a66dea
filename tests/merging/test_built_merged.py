"""Merged networks as modules: statistics re-estimated, REPAIR at a mean of many, a parent as it was, one clear line."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import list_kinds
from mechconn.merging import MergeMethod, build_merged, note_far_base
from merging_problems import pose
from zoo import CLASSES, FEATURES, build, mlp, norm_conv, norm_mlp, rows

METHODS: dict[str, Callable[[], MergeMethod]] = {
    "mean": lambda: mc.Mean(),
    "weighted mean": lambda: mc.Mean({"a": 1.0, "b": 2.0}),
    "greedy soup": lambda: mc.GreedySoup(rows(20)),
    "reg mean": lambda: mc.RegMean(rows(20)),
    "fisher mean": lambda: mc.FisherMean(rows(5)),
    "task arithmetic": lambda: mc.TaskArithmetic(scale=0.4),
    "ties": lambda: mc.TIES(density=0.5),
    "dare": lambda: mc.DARE(density=0.5),
    "slerp": lambda: mc.SLERP(0.3),
}


def deep() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, CLASSES))


def statistics(model: nn.Module, module: str, x: Tensor) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []
    own = copy.deepcopy(model).eval()
    own.get_submodule(module).register_forward_hook(lambda _, __, output: kept.append(output))  # pyright: ignore
    with torch.no_grad():
        own(x)
    return kept[0].mean(0), kept[0].std(0, correction=0)


@pytest.mark.parametrize("method", METHODS)
def test_statistics_are_those_of_the_merged_network(method: str) -> None:
    """Re-estimated on one batch, the statistics before each BatchNorm are those of its inputs there."""
    models = {name: build(norm_mlp, seed) for seed, name in enumerate("ab", 1)}
    x, y = rows(40)
    norm = mc.Reestimate((x, y), batch_size=40)
    problem = pose(models, build(norm_mlp, 9))
    merged = build_merged(METHODS[method](), problem, norm)
    assert not merged.training
    taken = problem.record.shares
    if 1.0 in taken.values():  # a greedy soup of one: the parent itself, with its own statistics
        (one,) = (name for name, share in taken.items() if share == 1.0)
        assert torch.equal(merged.get_buffer("1.running_mean"), models[one].get_buffer("1.running_mean"))
        return
    mean, spread = statistics(merged, "0", x)
    torch.testing.assert_close(merged.get_buffer("1.running_mean"), mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(merged.get_buffer("1.running_var"), spread.square() * 40 / 39, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("greedy soup", "reg mean", "fisher mean")])
def test_a_convolutional_network_with_statistics(method: str) -> None:
    models = {name: build(norm_conv, seed) for seed, name in enumerate("ab", 1)}
    x = torch.randn(12, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    norm = mc.Reestimate((x, torch.arange(12) % 3), batch_size=12)
    merged = build_merged(METHODS[method](), pose(models, build(norm_conv, 9)), norm)
    kept: list[Tensor] = []
    by_batch = copy.deepcopy(merged).train()
    by_batch.get_submodule("3").register_forward_hook(lambda _, __, output: kept.append(output))  # pyright: ignore
    with torch.no_grad():
        by_batch(x)
    torch.testing.assert_close(merged.get_buffer("4.running_mean"), kept[0].mean((0, 2, 3)), rtol=1e-8, atol=1e-8)


def test_statistics_must_come_from_somewhere() -> None:
    problem = pose({name: build(norm_mlp, seed) for seed, name in enumerate("ab")})
    with pytest.raises(ValueError, match=r"the model keeps normalisation statistics \(1\)"):
        build_merged(mc.Mean(), problem, None)


# ---------------------------------------------------------------- REPAIR

SHARES: dict[str, tuple[MergeMethod, tuple[float, float, float]]] = {
    "mean": (mc.Mean(), (1 / 3, 1 / 3, 1 / 3)),
    "weighted": (mc.Mean({"a": 1.0, "b": 2.0, "c": 5.0}), (1 / 8, 2 / 8, 5 / 8)),
    "one left out": (mc.Mean({"a": 1.0, "b": 0.0, "c": 1.0}), (1 / 2, 0.0, 1 / 2)),
    "ties": (mc.TIES(density=0.5), (1 / 3, 1 / 3, 1 / 3)),
}


@pytest.mark.parametrize("case", SHARES)
def test_units_get_the_mean_of_the_parents_means_and_spreads(case: str) -> None:
    method, shares = SHARES[case]
    models = {name: build(deep, seed) for seed, name in enumerate("abc", 1)}
    x, y = rows(50)
    merged = build_merged(method, pose(models, build(deep, 9)), mc.Repair((x, y), batch_size=50))
    for layer in ("0", "2"):
        own = [statistics(model, layer, x) for model in models.values()]
        found = statistics(merged, layer, x)
        for which in (0, 1):  # standard deviations are averaged, not variances
            wanted = sum(share * parts[which] for share, parts in zip(shares, own, strict=True))
            torch.testing.assert_close(found[which], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_the_mean_of_two_is_the_point_of_the_line_bit_for_bit(share: float) -> None:
    a, b, data = build(deep, 1), build(deep, 2), rows(50)
    norm = mc.Repair(data, batch_size=20)
    line = mc.model_at(a, mc.LinearPath.between(a, b), share, norm=norm)
    merged = build_merged(mc.Mean({"a": 1 - share, "b": share}), pose({"a": a, "b": b}), norm)
    plain = mc.Mean({"a": 1 - share, "b": share}).merge(pose({"a": a, "b": b}))
    assert not torch.equal(plain["0.weight"], merged.get_parameter("0.weight"))
    assert all(torch.equal(p, merged.get_parameter(name)) for name, p in line.named_parameters())


def test_a_soup_of_three_takes_repair() -> None:
    models = [build(deep, seed) for seed in range(3)]
    x, y = rows(50)
    norm = mc.Repair((x, y), batch_size=50)
    found = mc.soup(models, [1.0, 2.0, 1.0], norm=norm)
    mean = sum(s * statistics(m, "2", x)[0] for s, m in zip((0.25, 0.5, 0.25), models, strict=True))
    torch.testing.assert_close(statistics(found, "2", x)[0], mean, rtol=1e-9, atol=1e-9)
    only = mc.soup(models, [0.0, 1.0, 0.0], norm=norm)
    assert all(torch.equal(p, models[1].get_parameter(name)) for name, p in only.named_parameters())


def test_slerp_and_the_greedy_soup_say_their_shares() -> None:
    models = {name: build(deep, seed) for seed, name in enumerate("ab", 1)}
    x, y = rows(50)
    merged = build_merged(mc.SLERP(0.2), pose(models), mc.Repair((x, y), batch_size=50))
    own = [statistics(model, "0", x)[0] for model in models.values()]
    torch.testing.assert_close(statistics(merged, "0", x)[0], 0.8 * own[0] + 0.2 * own[1], rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- names and records


def test_files_name_methods_and_records_repeat_their_settings() -> None:
    kinds = list_kinds(MergeMethod, built_in=True)
    assert list(kinds) == [
        "dare", "fisher_mean", "greedy_soup", "mean", "reg_mean", "slerp", "task_arithmetic", "ties",
    ]  # fmt: skip
    for name, make in METHODS.items():
        method = make()
        told = method.describe()
        assert told == json.loads(json.dumps(told)) and told["method"].replace(" ", "_") in kinds, name
        assert dataclasses.is_dataclass(method)
        settings = {field.name for field in dataclasses.fields(method) if field.init}
        assert settings - {"data", "label", "batch_size"} <= told.keys(), name
        assert (method.chosen_on() is None) == (name not in ("greedy soup", "reg mean", "fisher mean"))


# ---------------------------------------------------------------- wrong input


def test_one_clear_line() -> None:
    a, b, other = build(mlp, 1), build(mlp, 2), build(deep, 3)
    pair = {"a": a, "b": b}
    for method, problem, text in (
        (mc.Mean(), pose({"a": a}), "a merge needs two models or more, got 1"),
        (mc.TIES(), pose(pair), "TIES merges what the parents changed, and there is no base; pass the"),
        (mc.DARE(), pose(pair), r"DARE merges what the parents changed, and there is no base; .*base=\.\.\."),
        (
            mc.Mean(),
            pose({"a": a, "b": other}),
            "of parent 'a' and parent 'b' do not match: missing none; unexpected 4",
        ),
        (mc.TaskArithmetic(), pose(pair, other), "of parent 'a' and the base do not match: missing none; unexpected 4"),
        (mc.Mean({"a": 1.0, "c": 1.0}), pose(pair), "names in weights do not match: missing b; unexpected c"),
        (mc.TIES(weights={"a": 1.0}), pose(pair, a), "names in weights do not match: missing b; unexpected"),
        (mc.SLERP(), pose({**pair, "c": a}), r"SLERP is between two parents, got 3 \(a, b, c\); use Mean\(\)"),
    ):
        with pytest.raises(ValueError, match=text) as raised:
            build_merged(method, problem, None)
        assert "\n" not in str(raised.value)


def test_the_remedies_work() -> None:
    a, b, c = (build(mlp, seed) for seed in range(3))
    assert build_merged(mc.TIES(), pose({"a": a, "b": b}, c), None)
    assert build_merged(mc.Mean(), pose({"a": a, "b": b, "c": c}), None)


WRONG: list[tuple[Callable[[], MergeMethod], str]] = [
    (lambda: mc.TIES(density=0.0), "density must lie above 0 and at most 1, the share of entries to keep, got 0.0"),
    (lambda: mc.DARE(density=1.5), "density must lie above 0 and at most 1, the share of entries to keep, got 1.5"),
    (lambda: mc.DARE(density=True), "density must lie above 0 and at most 1"),
    (lambda: mc.TIES(trim="layer"), "trim must be one of 'model', 'tensor', got 'layer'"),  # pyright: ignore
    (lambda: mc.TIES(scale=float("nan")), "scale must be a finite number, what the changes are multiplied by, got nan"),
    (lambda: mc.TaskArithmetic(scale="1"), "scale must be a finite number"),  # pyright: ignore
    (lambda: mc.SLERP(1.2), "t must lie in"),
    (lambda: mc.Mean({"a": 0.0, "b": 0.0}), "weights must not all be zero, got {'a': 0.0, 'b': 0.0}; give some parent"),
    (lambda: mc.Mean({"a": -1.0, "b": 2.0}), "the weight of 'a' must be zero or more, got -1.0"),
    (lambda: mc.TaskArithmetic(weights={"a": float("inf")}), "the weight of 'a' must be a finite number, got inf"),
    (lambda: mc.TIES(weights={"a": -1.0}), "the weight of 'a' must be zero or more, got -1.0"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text"), WRONG)
def test_settings_are_checked_where_they_are_given(make: Callable[[], MergeMethod], text: str) -> None:
    with pytest.raises(ValueError) as raised:
        make()
    assert text in str(raised.value)


def test_weights_are_a_mapping() -> None:
    with pytest.raises(TypeError, match=r"weights must be a Mapping, got list; write \{name of the parent: weight"):
        mc.Mean([1.0, 2.0])  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- a suspicious base


def test_a_base_that_is_too_far_is_noted() -> None:
    base, other = build(mlp, 1), build(mlp, 2)
    tuned = {}
    for seed, name in enumerate("ab"):
        change = build(mlp, seed + 5)
        params = {k: t + 0.01 * change.get_parameter(k).detach() for k, t in mc.parameters_of(base).items()}
        tuned[name] = mc.with_parameters(base, params)
    assert note_far_base(pose(tuned, base)) == ()
    assert note_far_base(pose(tuned)) == ()
    notes = note_far_base(pose(tuned, other))
    assert len(notes) == 2 and notes[0].startswith("'a' lies farther from the base (")
    assert "than from 'b' (" in notes[0] and "may not be what it was fine-tuned from" in notes[0]


def test_one_parent_that_is_of_another_base_is_noted_where_two_are_alike() -> None:
    base = build(mlp, 1)
    far = build(mlp, 2)
    near = mc.with_parameters(far, {k: t + 0.001 for k, t in mc.parameters_of(far).items()})
    own = mc.with_parameters(base, {k: t + 0.001 for k, t in mc.parameters_of(base).items()})
    notes = note_far_base(pose({"far": far, "near": near, "own": own}, base))
    assert [note.split(" ")[0] for note in notes] == ["'far'", "'near'"]
