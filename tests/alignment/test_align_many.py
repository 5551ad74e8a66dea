"""Many networks in one order of units: planted copies, brute force over all orders, invariances, and wrong input."""

from __future__ import annotations

import copy
from itertools import combinations, permutations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from alignment.many_nets import FEATURES, KINDS, make, perceptron, plant
from mechconn.alignment import ManyAlignmentMethod, ManyMatching
from mechconn.core import isolate_rng

METHODS = {"universe": mc.UniverseMatching(), "merge-many": mc.MergeMany()}


def trio(act: Any = nn.Tanh, widths: tuple[int, ...] = (5, 4)) -> tuple[dict[str, nn.Module], mc.Symmetry]:
    """Three networks of their own in float64."""
    models = {}
    for seed, name in enumerate("abc"):
        with isolate_rng(seed, "trio"):
            models[name] = perceptron(act, widths).double()
    return models, mc.symmetry_of(models["a"], FEATURES.double())


def flatten(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def largest(matrix: Any) -> float:
    return max(map(max, matrix))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_five_copies_moved_by_elements_of_all_kinds_come_together_and_compute_what_they_did(
    kind: str, method: str
) -> None:
    base, inputs = make(kind)
    symmetry = mc.symmetry_of(base, inputs)
    models = plant(base, symmetry, 5)
    found = mc.align_many(models, METHODS[method], symmetry, cycles=0)
    assert largest(found.distance_after) < 1e-5 * largest(found.distance_before)
    assert min(map(min, found.similarity_after)) == pytest.approx(1.0)
    with torch.no_grad():
        expected = base(inputs)
        for name, model in models.items():
            assert (found.models[name](inputs) - expected).abs().max() < 1e-5 * expected.abs().max(), name
            assert (model(inputs) - expected).abs().max() < 1e-5 * expected.abs().max(), name


def reordered(params: dict[str, Tensor], orders: tuple[tuple[int, ...], ...]) -> Tensor:
    """The parameters of a perceptron as one vector, the units of each hidden layer in another order."""
    parts, before = list[Tensor](), None
    for number, (weight, bias) in enumerate(
        (tensor, params[name.replace("weight", "bias")]) for name, tensor in params.items() if name.endswith("weight")
    ):
        weight = weight if before is None else weight[:, before]
        if number < len(orders):
            before = list(orders[number])
            weight, bias = weight[before], bias[before]
        parts += [weight.flatten(), bias]
    return torch.cat(parts)


def best_sum(networks: list[dict[str, Tensor]], widths: tuple[int, ...]) -> float:
    """The largest sum of inner products of three networks, over all orders of all of their units."""
    every = list(product(*(permutations(range(width)) for width in widths)))
    first = reordered(networks[0], every[0])
    second, third = (torch.stack([reordered(network, orders) for orders in every]) for network in networks[1:])
    return float(((second @ first)[:, None] + third @ first + second @ third.mT).max())


@pytest.mark.parametrize("widths", [(4,), (3, 3), pytest.param((4, 4), marks=pytest.mark.slow)])
def test_the_universe_is_the_best_of_all_orders_or_near_it(widths: tuple[int, ...]) -> None:
    gaps = []
    for draw in range(10):
        models = {}
        for name in "abc":
            with isolate_rng(draw, name):
                models[name] = perceptron(nn.GELU, widths).double()
        symmetry = mc.symmetry_of(models["a"], FEATURES.double())
        best = best_sum([mc.parameters_of(model) for model in models.values()], widths)
        gaps.append(1 - mc.align_many(models, mc.UniverseMatching(), symmetry, cycles=0).objective / best)
    assert min(gaps) > -1e-9  # no order is better than the best
    assert sum(gap < 1e-9 for gap in gaps) >= 7 and max(gaps) < 0.08


def test_the_objective_is_the_sum_over_pairs_of_the_moved_networks() -> None:
    models, symmetry = trio()  # signs alone: nothing is scaled
    found = mc.align_many(models, mc.UniverseMatching(), symmetry)
    for expected, given in ((found.objective_before, models), (found.objective, found.models)):
        flat = [flatten(model) for model in given.values()]
        assert expected == pytest.approx(sum(float(a @ b) for a, b in combinations(flat, 2)))
    assert found.objective > found.objective_before
    row = next(row for row in found.rows() if (row["a"], row["b"]) == ("a", "c"))
    moved = [flatten(found.models[name]) for name in "ac"]
    assert row["distance_after"] == pytest.approx(float((moved[0] - moved[1]).norm()))
    assert row["similarity_after"] == pytest.approx(float(torch.cosine_similarity(*moved, dim=0)))


def test_scales_that_networks_share_are_not_taken_for_likeness() -> None:
    models, symmetry = trio(nn.ReLU)
    for model in models.values():  # the function stays; the first layer is large in all networks
        with torch.no_grad():
            first, second = model.get_submodule("0"), model.get_submodule("2")
            first.bias += 3.0  # pyright: ignore[reportOperatorIssue]
            for tensor, factor in ((first.weight, 50.0), (first.bias, 50.0), (second.weight, 0.02)):
                tensor *= factor  # pyright: ignore[reportOperatorIssue]
    found = mc.align_many(models, mc.UniverseMatching(), symmetry)
    moved = [mc.balance(model, symmetry).model for model in models.values()]
    flat = [flatten(model) for model in moved]
    assert found.objective_before == pytest.approx(sum(float(a @ b) for a, b in combinations(flat, 2)))
    assert found.objective > found.objective_before
    (note,) = found.notes
    assert "share scales as they are saved" in note


@pytest.mark.parametrize("method", METHODS)
def test_neither_order_nor_names_change_anything(method: str) -> None:
    models, symmetry = trio()
    first = mc.align_many(models, METHODS[method], symmetry)
    other = mc.align_many({f"net {name}": models[name] for name in "cab"}, METHODS[method], symmetry)
    assert other.names == ("net c", "net a", "net b") and first.objective == other.objective
    for name, element in first.elements.items():
        for part, values in element.items():
            assert torch.equal(values, other.elements[f"net {name}"][part])
    assert first.distance_after[0][2] == other.distance_after[1][0]
    assert first.cycle_error == other.cycle_error and first.pairwise_cycle_error == other.pairwise_cycle_error


@pytest.mark.parametrize("method", METHODS)
def test_equal_networks_stay_equal_under_whatever_names(method: str) -> None:
    models, symmetry = trio()
    twins = {"x": models["a"], "y": models["b"], "z": copy.deepcopy(models["a"])}
    found = mc.align_many(twins, METHODS[method], symmetry)
    assert found.distance_after[0][2] == 0.0 and found.distance_after[0][1] > 0.1


def test_maps_between_pairs_lead_through_the_universe_so_that_cycles_are_the_identity() -> None:
    models, symmetry = trio()
    found = mc.align_many(models, mc.UniverseMatching(), symmetry)
    assert found.cycle_error == 0.0 and found.pairwise_cycle_error is not None and found.pairwise_cycle_error > 0.1
    element = found.pairwise("a", "b")
    onto_a = mc.with_parameters(models["b"], symmetry.apply(mc.parameters_of(models["b"]), element))
    x = FEATURES.double()
    assert torch.allclose(onto_a(x), models["b"](x))
    apart = [flatten(model) for model in (models["a"], onto_a)]
    assert float((apart[0] - apart[1]).norm()) == pytest.approx(found.distance_after[0][1])  # signs, no scales
    with pytest.raises(ValueError, match="network must be one of 'a', 'b', 'c', got 'd'"):
        found.pairwise("a", "d")


def test_the_pairwise_cycle_is_that_of_three_alignments() -> None:
    models, symmetry = trio()
    found = mc.align_many(models, mc.UniverseMatching(), symmetry, cycles=1)
    errors = []
    for cycle in permutations("abc"):  # the one that was followed is among them
        start = params = mc.parameters_of(models[cycle[0]])
        for here, there in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            params = symmetry.apply(
                params, mc.align(models[there], models[here], mc.WeightMatching(), symmetry).element
            )
        gap, whole = (torch.cat([p.flatten() for p in own.values()]) for own in (params, start))
        errors.append(float((gap - whole).norm() / whole.norm()))
    assert found.pairwise_cycle_error is not None and min(errors) > 0.1
    assert min(abs(error - found.pairwise_cycle_error) for error in errors) < 1e-6


def test_onto_one_network_the_others_are_aligned_to_it_as_saved() -> None:
    models, symmetry = trio()
    found = mc.align_many(models, mc.WeightMatching(), symmetry, onto="b")
    assert all(torch.equal(p, models["b"].state_dict()[n]) for n, p in found.models["b"].state_dict().items())
    for name in "ac":
        one = mc.align(models["b"], models[name], mc.WeightMatching(), symmetry)
        assert found.distance_after[found.names.index(name)][1] == pytest.approx(one.distance_after)
    assert found.objective <= mc.align_many(models, mc.UniverseMatching(), symmetry).objective


def test_two_networks_are_aligned_by_the_method_of_many() -> None:
    models, symmetry = trio()
    by_many = mc.align(models["a"], models["b"], mc.UniverseMatching(), symmetry)
    by_two = mc.align(models["a"], models["b"], mc.WeightMatching(), symmetry)
    assert by_many.distance_after <= by_two.distance_after * (1 + 1e-9)
    assert by_many.similarity_before == pytest.approx(by_two.similarity_before)
    assert by_many.settings["method"] == "universe matching"


def test_a_saved_alignment_moves_the_networks_again(tmp_path: Path) -> None:
    models, symmetry = trio(nn.ReLU)
    found = mc.align_many(models, mc.UniverseMatching(), symmetry)
    found.save(tmp_path / "many.json")
    read = mc.load_result(tmp_path / "many.json")
    assert isinstance(read, mc.ManyAlignments)
    assert read.to_dict() == found.to_dict()  # scales to their last bit
    for name, model in models.items():
        state = read.symmetry.apply(model.state_dict(), read.elements[name])
        for part, tensor in found.models[name].state_dict().items():
            torch.testing.assert_close(tensor, state[part])
    with pytest.raises(AttributeError, match="models"):
        _ = read.models


class Reversed(ManyAlignmentMethod):
    """A user's own: the second network back to front, whatever the weights are."""

    def match_many(self, networks: Any) -> ManyMatching:
        back = {group: torch.arange(size).flip(0) for group, size in networks.symmetry.sizes.items()}
        return ManyMatching([back if number == 1 else {} for number in range(self.count)], ("back to front",))

    def describe(self) -> dict[str, Any]:
        return {"method": "reversed"}

    count = 3


class TooFew(Reversed):
    count = 2


def test_a_method_of_ones_own_is_used_and_held_to_what_it_returns() -> None:
    models, symmetry = trio()
    found = mc.align_many(models, Reversed(), symmetry)
    assert found.notes == ("back to front",) and sum(bool(element) for element in found.elements.values()) == 1
    assert found.pairwise_cycle_error is not None
    with pytest.raises(ValueError, match=r"TooFew.match_many must return an element for each of 3 networks, got 2"):
        mc.align_many(models, TooFew(), symmetry)


def test_what_cannot_be_aligned_is_refused_in_one_line() -> None:
    models, symmetry = trio()
    with isolate_rng(9, "wide"):
        other = {**models, "wide": perceptron(nn.Tanh, (6, 4)).double()}
    universe, two, plain = mc.UniverseMatching(), mc.WeightMatching(), list(models.values())
    cases: list[tuple[str, Any]] = [
        ("two models or more, got 1", lambda: mc.align_many({"a": models["a"]}, universe, symmetry)),
        ("write {name: model, ...}", lambda: mc.align_many(plain, universe, symmetry)),  # pyright: ignore
        ("WeightMatching aligns two networks, and onto names none", lambda: mc.align_many(models, two, symmetry)),
        ("onto must be one of 'a', 'b', 'c', got 'd'", lambda: mc.align_many(models, two, symmetry, onto="d")),
        ("UniverseMatching needs to know what may be permuted", lambda: mc.align_many(models, universe)),
        ("are not one module", lambda: mc.align_many(other, universe, symmetry)),
        ("steps must be a whole number greater than zero", lambda: mc.UniverseMatching(steps=0)),
        ("cycles must be zero or more, got -1", lambda: mc.align_many(models, universe, symmetry, cycles=-1)),
    ]
    for message, call in cases:
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1


def test_weights_that_are_not_finite_are_named_and_left_out() -> None:
    models, symmetry = trio()
    broken = copy.deepcopy(models["b"])
    with torch.no_grad():
        broken.get_submodule("2").weight[0, 0] = float("nan")  # pyright: ignore[reportIndexIssue]
    expected = (
        "'b' must have finite weights to be aligned, got 1 of 20 in 2.weight that are NaN or infinite; leave it out"
    )
    with pytest.raises(ValueError, match=expected):
        mc.align_many({**models, "b": broken}, mc.UniverseMatching(), symmetry)
    with pytest.raises(ValueError, match="model_b must have finite weights"):
        mc.align(models["a"], broken, mc.WeightMatching(), symmetry)
    assert mc.align_many({name: models[name] for name in "ac"}, mc.UniverseMatching(), symmetry).objective > 0


def test_networks_whose_layers_have_very_other_scales_are_aligned_as_without_them() -> None:
    models, symmetry = trio(nn.ReLU)
    models = {name: model.float() for name, model in models.items()}
    plain = mc.align(models["a"], models["b"], mc.WeightMatching(), symmetry)
    for model in models.values():
        with torch.no_grad():
            for name, factor in (("0.weight", 1e20), ("0.bias", 1e20), ("2.weight", 1e-20)):
                model.get_parameter(name).mul_(factor)
    found = mc.align(models["a"], models["b"], mc.WeightMatching(), symmetry)
    assert all(torch.equal(order, plain.permutations[group]) for group, order in found.permutations.items())
    many = mc.align_many(models, mc.UniverseMatching(), symmetry)
    assert many.pairwise_cycle_error is not None and many.objective > many.objective_before


def test_a_remedy_that_the_refusal_names_works() -> None:
    models, _ = trio()
    found = mc.align_many(models, mc.UniverseMatching(), symmetry=mc.symmetry_of(models["a"], FEATURES.double()))
    assert mc.align_many(models, mc.WeightMatching(), found.symmetry, onto="a").elements["a"] == {}
