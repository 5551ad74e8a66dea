"""Units matched before the paths of a map are walked; what uses an alignment of many; how often models run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import mechconn as mc
from zoo import build, mlp, norm_mlp, rows

SIZES = {"cue": 50, "hue": 40, "tint": 30}
SUITE = mc.Suite({name: rows(size, place) for place, (name, size) in enumerate(SIZES.items())})
NAMES = "abcd"


class Net(nn.Module):
    """A network of its own class, so that its passes are told from its layers'."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


class NormNet(Net):
    """The same with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = norm_mlp()


def orders(factory: Any = Net) -> dict[str, nn.Module]:
    """One network with its units in four orders."""
    first = build(factory)
    symmetry = mc.symmetry_of(first, rows(2, 5)[0])
    states = [symmetry.apply(first.state_dict(), symmetry.random(seed)) for seed in range(1, 4)]
    return {"a": first} | {
        name: mc.with_parameters(first, {key: state[key] for key in mc.parameters_of(first)})
        for name, state in zip("bcd", states, strict=True)
    }


@pytest.fixture
def passes() -> Iterator[Counter[int]]:
    """Forward passes by the number of rows."""
    found: Counter[int] = Counter()

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], _: Any) -> None:
        if isinstance(module, Net):
            found[len(inputs[0])] += 1

    handle = register_module_forward_hook(note)
    yield found
    handle.remove()


SAME_LOSS = mc.Suite({name: (rows(size, 9)[0], rows(size, 9)[0].argmax(1) % 3) for name, size in SIZES.items()})


@pytest.mark.parametrize("method", [mc.UniverseMatching(), mc.MergeMany(), mc.WeightMatching()])
def test_a_universe_removes_the_barriers_between_orders_of_one_network(method: Any) -> None:
    models = orders()
    before = mc.mechanism_map(models, SAME_LOSS, ts=3)
    after = mc.mechanism_map(models, SAME_LOSS, ts=3, align=method)
    assert max(map(max, before.barrier)) > 1e-3
    assert max(map(max, after.barrier)) < 1e-9
    assert after.distance == before.distance and after.aligned and not before.aligned
    assert (
        after.alignment["method"]
        == mc.align_many(models, method, _symmetry(models), onto=_onto(method)).settings["method"]
    )
    assert len(after.basins) == 1


def _symmetry(models: dict[str, nn.Module]) -> mc.Symmetry:
    return mc.symmetry_of(models["a"], rows(2, 5)[0])


def _onto(method: Any) -> str | None:
    return "a" if isinstance(method, mc.WeightMatching) else None


def test_an_alignment_that_is_there_is_used() -> None:
    models = orders()
    many = mc.align_many(models, mc.UniverseMatching(), _symmetry(models))
    given = mc.mechanism_map(models, SAME_LOSS, ts=3, align=many)
    asked = mc.mechanism_map(models, SAME_LOSS, ts=3, align=mc.UniverseMatching(), symmetry=_symmetry(models))
    moved = mc.mechanism_map(many.models, SAME_LOSS, ts=3)
    assert given.barrier == asked.barrier
    assert np.array(given.barrier) == pytest.approx(np.array(moved.barrier), abs=1e-12)
    assert given.alignment["cycle_error"] == many.cycle_error == 0.0
    assert "All models were moved into one order of units" in str(given.sections())
    onto = mc.mechanism_map(
        models, SAME_LOSS, ts=3, align=mc.align_many(models, mc.WeightMatching(), _symmetry(models), onto="b")
    )
    assert onto.alignment["onto"] == "b" and "Every model was moved onto b" in str(onto.sections())
    assert max(map(max, onto.barrier)) < 1e-9


@pytest.mark.parametrize("align", [None, mc.UniverseMatching(), mc.WeightMatching()])
def test_each_model_runs_over_each_split_once(align: Any, passes: Counter[int]) -> None:
    """N passes over each split, and one over the reference for each inner point of each path."""
    models = {name: build(Net, seed) for seed, name in enumerate(NAMES)}
    symmetry = None if align is None else _symmetry(models)
    passes.clear()
    mc.mechanism_map(models, SUITE, ts=5, align=align, symmetry=symmetry)
    assert passes[SIZES["hue"]] == passes[SIZES["tint"]] == len(NAMES)
    assert passes[SIZES["cue"]] == len(NAMES) + 6 * 3


def test_without_paths_each_model_runs_over_each_split_and_nothing_more(passes: Counter[int]) -> None:
    mc.mechanism_map({name: build(Net, seed) for seed, name in enumerate(NAMES)}, SUITE, barriers="none")
    assert passes == dict.fromkeys(SIZES.values(), len(NAMES))


@pytest.mark.parametrize("align", [None, mc.UniverseMatching()])
def test_ends_with_other_statistics_run_once_for_each_model(align: Any, passes: Counter[int]) -> None:
    models = {name: build(NormNet, seed) for seed, name in enumerate(NAMES)}
    symmetry = None if align is None else _symmetry(models)
    passes.clear()
    found = mc.mechanism_map(models, SUITE, ts=3, align=align, symmetry=symmetry, norm=mc.Reestimate(rows(17, 8)))
    assert passes[SIZES["hue"]] == passes[SIZES["tint"]] == len(NAMES)
    assert passes[SIZES["cue"]] == 2 * len(NAMES) + 6
    assert found.norm["policy"] == "reestimate"


# ---------------------------------------------------------------- soups, planes, audits


def test_a_soup_of_an_alignment_is_that_of_its_moved_networks() -> None:
    models = orders()
    many = mc.align_many(models, mc.UniverseMatching(), _symmetry(models))
    x = rows(20, 6)[0]
    expected, mixed, plain = models["a"](x), mc.soup(many)(x), mc.soup(models)(x)
    assert torch.allclose(mixed, expected, atol=1e-9)
    assert not torch.allclose(plain, expected, atol=1e-3)
    listed = mc.soup(list(many.models.values()))
    for one, other in zip(mc.soup(many).parameters(), listed.parameters(), strict=True):
        assert torch.equal(one, other)
    first = mc.soup(many, weights=[0, 1, 0, 0])
    assert torch.allclose(first(x), models["b"](x), atol=1e-9)


def test_a_plane_through_three_networks_of_an_alignment() -> None:
    models = {name: build(Net, seed) for seed, name in enumerate("abc")}
    many = mc.align_many(models, mc.UniverseMatching(), _symmetry(models))
    moved = many.models
    plane = mc.evaluate_plane(models["a"], moved["a"], moved["b"], moved["c"], SUITE, 3)
    own = {name: mc.Evaluator(model, SUITE).outcomes()["cue"].mean_loss for name, model in models.items()}
    assert {name: plane.models[name].loss["cue"] for name in "abc"} == pytest.approx(own)
    assert plane.models["b"].x == pytest.approx(many.distance_after[0][1])


@pytest.mark.parametrize("method", [mc.UniverseMatching(), mc.MergeMany()])
def test_an_audit_aligns_two_by_a_method_of_many(method: Any) -> None:
    models = orders()
    found = mc.audit(models["a"], models["c"], SAME_LOSS, ts=3, alignment=method)
    assert found.paths["before"].barrier("cue").height > 1e-3
    assert found.paths["after"].barrier("cue").height == pytest.approx(0.0, abs=1e-9)
    assert found.alignment is not None and found.alignment.settings["method"] == method.describe()["method"]
    assert found.alignment.distance_after < 1e-6


# ---------------------------------------------------------------- what cannot be


def other_alignment() -> mc.ManyAlignments:
    models = {name: build(Net, seed + 7) for seed, name in enumerate(NAMES)}
    return mc.align_many(models, mc.UniverseMatching(), _symmetry(models))


MODELS = {name: build(Net, seed) for seed, name in enumerate(NAMES)}
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no method": ("universe", TypeError, "align must be an alignment method, what align_many gave, or a function"),
    "of others": (other_alignment(), ValueError, "'a' as aligned computes something else than model 'a'; align these"),
}


@pytest.mark.parametrize("case", WRONG)
def test_alignments_that_do_not_fit(case: str) -> None:
    align, kind, text = WRONG[case]
    with pytest.raises(kind) as caught:
        mc.mechanism_map(MODELS, SUITE, ts=3, align=align)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


def test_an_alignment_of_fewer_names_the_rest() -> None:
    part = {name: MODELS[name] for name in "ab"}
    many = mc.align_many(part, mc.UniverseMatching(), _symmetry(MODELS))
    with pytest.raises(ValueError, match="models and those of the alignment do not match: missing c, d"):
        mc.mechanism_map(MODELS, SUITE, ts=3, align=many)
    assert mc.mechanism_map(part, SUITE, ts=3, align=many).aligned
