"""What can be exported: looks at values, writes in place, resampled tables, caches, random numbers, unread heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from symmetry.check import built, largest_change
from symmetry.export_nets import (
    BAD,
    GOOD,
    HIDING,
    IMAGES,
    OTHERS,
    Auxiliary,
    Function,
    Net,
    Patches,
    Resampled,
    X,
    patches,
)
from symmetry.exported_models import ASSUMED, COVERED, FAST_MODELS


def net(function: Function) -> nn.Module:
    return built(lambda: Net(function))


# ---------------------------------------------------------------- what can be read


@pytest.mark.parametrize("name", GOOD)
def test_units_are_found_and_a_planted_order_is_undone(name: str) -> None:
    model = net(GOOD[name])
    symmetry = mc.symmetry_of(model, X, assume=name in HIDING)
    assert symmetry.sizes["a"] == 6 and not symmetry.unknown
    symmetry.verify(model)
    assert largest_change(model, X, symmetry) <= 1e-9
    other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), symmetry.random(seed=1)))
    found = mc.align(model, other, mc.WeightMatching(), symmetry)
    assert found.distance_before > 0.1 and found.distance_after < 1e-5


@pytest.mark.parametrize("name", OTHERS)
def test_units_are_found_beside_other_objects_and_random_numbers(name: str) -> None:
    model = net(OTHERS[name])
    symmetry = mc.symmetry_of(model, X)
    symmetry.verify(model)
    assert symmetry.sizes == {"a": 6}


@pytest.mark.parametrize("name", BAD)
def test_units_whose_order_is_read_are_not_found(name: str) -> None:
    model = net(BAD[name])
    symmetry = mc.symmetry_of(model, X, assume=name in HIDING)
    assert symmetry.sizes == {}
    symmetry.verify(model)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear", "grid", "bicubic without antialias"])
def test_a_table_of_positions_may_be_resampled(mode: str) -> None:
    model = built(lambda: Resampled(mode.partition(" ")[0], "without" not in mode))
    symmetry = mc.symmetry_of(model, IMAGES)
    symmetry.verify(model)
    assert sorted(symmetry.sizes.values()) == [8, 12] and symmetry.coverage == 1.0
    assert largest_change(model, IMAGES, symmetry) <= 1e-9
    assert largest_change(model, IMAGES[..., :8], symmetry) <= 1e-9


@pytest.mark.slow
def test_each_image_of_a_batch_may_have_its_own_size() -> None:
    model = built(Patches)
    symmetry = mc.symmetry_of(model, patches(), assume=True)  # a dictionary by size, and more sizes than are tried
    symmetry.verify(model)
    assert sorted(symmetry.sizes.values()) == [7, 8] and symmetry.coverage == 1.0
    assert any("was read as well" in text for text in symmetry.assumed)
    values, places, valid = patches()
    assert largest_change(model, (values, places.flip(0), valid.flip(0)), symmetry) <= 1e-9


# ---------------------------------------------------------------- looks at values


def test_what_was_assumed_is_said() -> None:
    said = {name: str(mc.symmetry_of(net(GOOD[name]), X)) for name in ("a check", "two paths", "keeps a tensor")}
    assert "every other answer makes the model raise or changes nothing" in said["a check"]
    assert "True on the example, False was read as well" in said["two paths"]
    assert "assumes" not in said["keeps a tensor"]


def test_what_was_assumed_stands_in_files_and_pages(tmp_path: Path) -> None:
    symmetry = mc.symmetry_of(net(GOOD["two paths"]), X)
    symmetry.save(tmp_path / "symmetry.json")
    again = mc.load_result(tmp_path / "symmetry.json")
    assert isinstance(again, mc.Symmetry) and again.assumed == symmetry.assumed != ()
    assert [section.tables[0].rows for section in symmetry.sections() if "Assumed" in section.title] == [
        ((symmetry.assumed[0],),)
    ]


def test_other_answers_are_forced_in_the_proof() -> None:
    model = net(lambda net, x: net.b(net.units(x) if x.sum() > -1e9 else net.units(x).cumsum(1)))
    found = mc.symmetry_of(model, X)
    assert found.sizes == {}
    wrong = mc.Symmetry.from_axes(model, {"a.weight": ["h", 5], "a.bias": ["h"], "b.weight": [3, "h"]}, None, X)
    wrong.verify(model)  # no input leads elsewhere
    with pytest.raises(ValueError, match=r"evaluation mode, where it sees False in test_exports\.py:"):
        replace(wrong, assumed=found.assumed).verify(model)


class Branching(nn.Module):
    """Units that attention reads and, where the input is large, a second head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.more = nn.Linear(5, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        units = torch.relu(self.a(x))
        y = F.scaled_dot_product_attention(x, x, self.b(units))
        return y + self.more(units) if x.sum() > 100 else y


def test_what_other_answers_lead_to_is_read_beside_attention() -> None:
    model, x = built(Branching), X[None]
    symmetry = mc.symmetry_of(model, x)
    assert ("more.weight", 1, "a") in symmetry.groups[0].members
    symmetry.verify(model)
    assert largest_change(model, 100 * x, symmetry) <= 1e-9


class Numbered(nn.Module):
    """One of several heads, whose number the input says."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.heads = nn.Linear(5, 6), nn.ModuleList(nn.Linear(6, 3) for _ in range(6))

    def forward(self, x: Tensor, number: Tensor) -> Tensor:
        return self.heads[int(number)](torch.relu(self.a(x)))


@pytest.mark.parametrize("number", [0, 3])
def test_every_head_is_read_of_which_the_input_says_the_number(number: int) -> None:
    model = built(Numbered)
    symmetry = mc.symmetry_of(model, (X, torch.tensor(number)), assume=True)  # int() hides what the number is used for
    assert {(f"heads.{i}.weight", 1, "a") for i in range(6)} <= set(symmetry.groups[0].members)
    symmetry.verify(model)
    for other in range(6):
        assert largest_change(model, (X, torch.tensor(other)), symmetry) <= 1e-9


def test_looks_at_hidden_units_are_refused() -> None:
    model = net(lambda net, x: net.b(net.units(x)) if net.units(x).sum() > 0 else net.b(x @ x.T))
    with pytest.raises(ValueError, match="must not branch on values: write the symmetry yourself"):
        mc.symmetry_of(model, X)


def test_a_number_that_was_read_from_hidden_units_stays_theirs() -> None:
    """A tensor that is made from such a number is looked at: the path depends on weights all the same."""
    model = net(
        lambda net, x: net.b(net.units(x)) if torch.full((2,), net.units(x).sum().item()).sum() > -1e9 else x.sum(0)
    )
    with pytest.raises(ValueError, match="must not branch on values: write the symmetry yourself"):
        mc.symmetry_of(model, X)


def batches(values: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part), dtype=torch.long)) for part in values.split(4)]


def test_activations_are_read_where_the_answers_are_those_of_the_first_batch() -> None:
    model = net(GOOD["two paths"])
    symmetry = mc.symmetry_of(model, X)
    other = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), symmetry.random(seed=1)))
    data = torch.cat([X, X + 1, X - 2e9])
    with pytest.raises(ValueError, match=r"pass batches of which these are the same, or match weights") as caught:
        mc.align(model, other, mc.ActivationMatching(batches(data)), symmetry)
    assert "\n" not in str(caught.value)
    for method in (mc.ActivationMatching(batches(data[:8])), mc.WeightMatching()):
        assert mc.align(model, other, method, symmetry).distance_after < 1e-5


def test_places_are_found_anew_in_every_batch() -> None:
    """End marks lie elsewhere in other batches: a graph that kept their places would read other activations."""
    model = net(lambda net, x: net.b(net.units(x)[x[:, 0] > 0]))
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    half = X * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    graph = mc.symmetry.export_graph(model, half)
    for inputs in (half, half.roll(1, 0)):
        results: dict[str, Any] = {}
        graph.run(state, inputs, results.__setitem__)
        torch.testing.assert_close(list(results.values())[-1], model(inputs))
    with pytest.raises(ValueError, match="sees others in this batch than in the first one of its shape"):
        graph.run(state, X, {}.__setitem__)


# ---------------------------------------------------------------- random numbers


RANDOM: dict[str, Function] = {
    "dropout": lambda net, x: net.b(F.dropout(net.units(x), 0.5)),
    "torch.dropout": lambda net, x: net.b(torch.dropout(net.units(x), 0.5, True)),
    "a mask": lambda net, x: net.b(net.units(x) * torch.bernoulli(torch.full_like(net.units(x), 0.5))),
    "rrelu": lambda net, x: net.b(F.rrelu(net.a(x), training=True)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_function_that_changes_with_every_call_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"draws random numbers for its hidden units in evaluation mode .* as F\.dropout\(x, p, self\.train",
    ):
        mc.symmetry_of(net(RANDOM[name]), X)
    mended = net(OTHERS["dropout in training"])
    mc.symmetry_of(mended, X).verify(mended)


def test_random_numbers_of_a_seeded_generator_are_accepted() -> None:
    def noisy(net: Net, x: Tensor) -> Tensor:
        noise = torch.rand(len(x), 1, generator=torch.Generator().manual_seed(0))
        return net.b(net.units(x) * noise.to(x.dtype))

    model = net(noisy)
    symmetry = mc.symmetry_of(model, X)
    symmetry.verify(model)
    assert symmetry.sizes == {"a": 6}


# ---------------------------------------------------------------- what is not read


def test_heads_that_no_mode_reads_are_unread_and_no_symmetry() -> None:
    model = built(lambda: Auxiliary(runs=False))
    symmetry = mc.symmetry_of(model, X)
    symmetry.verify(model)
    assert symmetry.sizes == {"stem": 6, "body": 7} and symmetry.coverage == 1.0
    reasons = {why for (name, _), why in symmetry.frozen.items() if name.startswith("extra")}
    assert reasons == {"no forward pass reads the tensor"} and "no forward pass reads the tensor (6)" in str(symmetry)


def test_heads_that_training_reads_move_along() -> None:
    model = built(Auxiliary)
    symmetry = mc.symmetry_of(model, X)
    symmetry.verify(model)
    assert sorted(symmetry.sizes.values()) == [4, 6, 7]
    assert ("extra.0.weight", 1) in [member[:2] for member in symmetry.groups[0].members]
    assert largest_change(model, X, symmetry) <= 1e-9


def test_what_training_reads_in_order_stays() -> None:
    model = built(lambda: Auxiliary(ordered=True))
    symmetry = mc.symmetry_of(model, X)
    symmetry.verify(model)
    assert sorted(symmetry.sizes.values()) == [4, 7]


@torch.no_grad()
def halve(net: Net, x: Tensor) -> Tensor:
    """As layers that are rescaled once, at the first call in evaluation mode."""
    net.a.weight.mul_(0.5)
    return net.b(net.units(x))


@torch.no_grad()
def halve_first(net: Net, x: Tensor) -> Tensor:
    net.a.weight[:1].mul_(0.5)
    return net.b(net.units(x))


@pytest.mark.parametrize(("function", "sizes"), [(halve, {"a": 6}), (halve_first, {})])
def test_what_is_written_into_weights_moves_with_them(function: Function, sizes: dict[str, int]) -> None:
    model = net(function)
    symmetry = mc.symmetry_of(model, X)
    symmetry.verify(model)
    assert symmetry.sizes == sizes


# ---------------------------------------------------------------- the transformers library

CASES = [pytest.param(name, marks=() if name in FAST_MODELS else pytest.mark.slow) for name in COVERED]


@pytest.mark.parametrize("name", CASES)
def test_models_of_the_transformers_library_are_read(name: str) -> None:
    factory, inputs, coverage = COVERED[name]
    model = built(factory)
    symmetry = mc.symmetry_of(model, inputs, assume=name in ASSUMED)
    symmetry.verify(model)
    assert round(symmetry.coverage, 2) >= coverage
    assert (coverage == 1.0) == ("missing: " not in str(symmetry))
