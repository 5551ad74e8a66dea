"""Gradient matching: gradients move against weights, a closed form that weights get wrong, and planted elements."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.alignment import _gradient_matching, _network_gradients
from mechconn.alignment._network_gradients import make_dual
from small_networks import Attending, of_all_kinds
from zoo import CLASSES, FEATURES, Recurrent, build, rows

X, Y = rows(60)


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square() / 2


def convolved() -> nn.Module:
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, CLASSES)),
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "all kinds": of_all_kinds,
    "attention": Attending,
    "BatchNorm": convolved,
    "LSTM": Recurrent,
}


def moved_by(symmetry: mc.Symmetry, model: nn.Module, element: Any) -> nn.Module:
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), element))
    return moved


def gradient_of(model: nn.Module) -> dict[str, Tensor]:
    model.eval()
    loss = nn.functional.cross_entropy(model(X), Y)
    names = dict(model.named_parameters())
    return dict(zip(names, torch.autograd.grad(loss, list(names.values())), strict=True))


@pytest.mark.parametrize("name", NETS)
def test_gradients_move_against_weights(name: str) -> None:
    """grad L(g(theta)) = G^-T grad L(theta), for a random element of every kind that the network has."""
    model = build(NETS[name], 1)
    symmetry = mc.symmetry_of(model, X[:4])
    element = symmetry.random(3)
    own, other = gradient_of(model), gradient_of(moved_by(symmetry, model, element))
    dual = make_dual(symmetry)
    for parameter, gradient in own.items():
        torch.testing.assert_close(dual.moved(parameter, gradient, element), other[parameter], rtol=1e-7, atol=1e-10)
    assert {"permutation"} < {group.kind for group in symmetry.groups}


def test_an_inner_product_of_gradient_and_change_does_not_depend_on_the_order_and_scale_of_units() -> None:
    """<G^-T grad, G tau> = <grad, tau>: what a step along the change does to the loss is the same in every copy."""
    model, other = build(of_all_kinds, 1), build(of_all_kinds, 2)
    symmetry = mc.symmetry_of(model, X[:4])
    element, dual = symmetry.random(3), make_dual(symmetry)
    gradient, tau = gradient_of(model), mc.weight_change(model, other).tensors
    pairs = [(dual.moved(n, g, element), symmetry.moved(n, tau[n], element)) for n, g in gradient.items()]
    there = sum(float((g * t).sum()) for g, t in pairs)
    assert there == pytest.approx(sum(float((g * tau[n]).sum()) for n, g in gradient.items()), rel=1e-9)


def linear_pair() -> tuple[nn.Module, nn.Module]:
    """y = v . (W x) with x = 1, W = (1, 2), v = (3, 1) in both: the gradient of unit u is r (v_u, w_u), r = y - t."""

    def layers() -> nn.Module:
        return nn.Sequential(nn.Linear(1, 2, bias=False), nn.Identity(), nn.Linear(2, 1, bias=False))

    a, b = build(layers), build(layers)
    with torch.no_grad():
        for model in (a, b):
            model.get_parameter("0.weight").copy_(torch.tensor([[1.0], [2.0]]))
            model.get_parameter("2.weight").copy_(torch.tensor([[3.0, 1.0]]))
    return a, b


def test_a_network_of_two_linear_units() -> None:
    """A's residual is 5 - t. Without a change both residuals are alike, and the order is that of the weights.

    Half of B's change makes y = 23, so that B is pulled the other way: r_A r_B < 0 at the second point, which outweighs
    the first. With moving=False A's gradient is r (v_u, w_u) at both points.
    """
    a, b = linear_pair()
    axes = {"0.weight": ["h", 1], "2.weight": [1, "h"]}
    symmetry = mc.Symmetry.from_axes(a, axes, example_input=torch.ones(2, 1, dtype=torch.float64))
    data = (torch.ones(4, 1, dtype=torch.float64), torch.full((4,), 7.0, dtype=torch.float64))
    found = mc.align(a, b, mc.GradientMatching(data, loss=squared), symmetry)
    assert found.permutations["h"].tolist() == [0, 1] and found.similarity_after["h"] == pytest.approx(1.0)
    # theta_B + tau / 2 has W = (1, 2), v = (3 + 18, 1): y = 23, r_B = 16, where r_A = -2. The weights are 2 and 1.
    tuned = copy.deepcopy(b)
    with torch.no_grad():
        tuned.get_parameter("2.weight")[0, 0] += 36.0
    method = mc.GradientMatching(data, mc.weight_change(b, tuned), points=2, moving=False, loss=squared)
    found = mc.align(a, b, method, symmetry)
    ours = torch.tensor([[3.0, 1.0], [1.0, 2.0]]) * -2.0  # (v_u, w_u) r, unit by unit
    theirs = torch.tensor([[21.0, 1.0], [1.0, 2.0]]) * 16.0
    scores = 2.0 * ours @ ours.T + 1.0 * ours @ theirs.T
    swapped = float(scores[0, 1] + scores[1, 0])
    assert swapped > float(scores[0, 0] + scores[1, 1])
    assert found.permutations["h"].tolist() == [1, 0]
    norms = math.sqrt(3.0 * float(ours.square().sum()) * float((2 * ours.square() + theirs.square()).sum()))
    assert found.similarity_after["h"] == pytest.approx(swapped / norms)
    assert mc.align(a, b, mc.WeightMatching(), symmetry).permutations["h"].tolist() == [0, 1]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("moving", [True, False])
def test_planted_elements_are_undone(name: str, moving: bool) -> None:
    """B is A moved by an element of every kind, with a change that is moved alike: gradients agree at every point.

    With moving=False A's are taken elsewhere than B's, so that maps that mix units are found nearly.
    """
    a, tuned = build(NETS[name], 1), build(NETS[name], 1)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.mul_(1.0 + 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    symmetry = mc.symmetry_of(a, X[:4])
    element = symmetry.random(5)
    b, after = moved_by(symmetry, a, element), moved_by(symmetry, tuned, element)
    change = mc.weight_change(b, after)
    found = mc.align(a, b, mc.GradientMatching((X, Y), change, points=3, moving=moving), symmetry)
    if moving:
        assert found.distance_after < 1e-6 < found.distance_before
        assert min(found.similarity_after.values()) > 0.99
    else:
        assert found.distance_after < 0.02 * found.distance_before


def test_the_scale_at_which_a_network_is_saved_does_not_decide() -> None:
    """Two networks that share nothing: rescaled and relabelled copies get the same units."""
    a, b = build(of_all_kinds, 1), build(of_all_kinds, 2)
    symmetry = mc.symmetry_of(a, X[:4])
    scales = symmetry.random(4, kinds=("scale",))
    method = mc.GradientMatching((X, Y), restarts=8)
    plain, scaled = (
        mc.align(own, other, method, symmetry)
        for own, other in (
            (a, b),
            (moved_by(symmetry, a, scales), moved_by(symmetry, b, symmetry.random(9, ("scale",)))),
        )
    )
    for group, order in plain.permutations.items():
        assert torch.equal(order, scaled.permutations[group])
    for group, before in plain.similarity_after.items():
        assert scaled.similarity_after[group] == pytest.approx(before, abs=1e-6)


def test_the_sign_of_a_gain_is_told_by_the_weights() -> None:
    """Both networks' gains are positive, but for one of B's: that unit is flipped, and no other."""
    a, b = build(convolved, 1), build(convolved, 2)
    with torch.no_grad():
        for model in (a, b):
            model.get_parameter("2.weight").uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))
        b.get_parameter("2.weight")[2] *= -1.0
    symmetry = mc.symmetry_of(a, X[:4])
    found = mc.align(a, b, mc.GradientMatching((X, Y)), symmetry)
    (sign,) = (action.name for action in symmetry.actions if action.kind == "sign" and action.touches("2.weight"))
    order = next(order for group, order in found.permutations.items() if len(order) == 6)
    place = order.tolist().index(2)
    assert found.factors[sign].tolist() == [-1.0 if unit == place else 1.0 for unit in range(6)]
    assert bool((found.params["2.weight"] > 0).all())


def test_units_without_a_gradient_are_matched_by_their_weights() -> None:
    """Behind a ReLU, the last two units are never active: their gradients are zero."""

    def dead() -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU(), nn.Linear(4, CLASSES))

    a = build(dead, 1)
    with torch.no_grad():
        a.get_parameter("0.bias")[2:] = -100.0
    symmetry = mc.symmetry_of(a, X[:4])
    b = moved_by(symmetry, a, {"layer0": torch.tensor([3, 1, 0, 2])})
    found = mc.align(a, b, mc.GradientMatching((X, Y)), symmetry)
    assert found.permutations["layer0"].tolist() == [2, 1, 3, 0] and found.distance_after < 1e-9


def test_checkpoints_of_a_straight_run_are_its_whole_change() -> None:
    a, b, end = (build(of_all_kinds, seed) for seed in (1, 2, 3))
    symmetry, change = mc.symmetry_of(a, X[:4]), mc.weight_change(b, end)
    passed = [mc.with_change(b, change, s / 4) for s in (1, 2, 3, 4)]
    whole = mc.align(a, b, mc.GradientMatching((X, Y), change, points=4), symmetry)
    run = mc.align(a, b, mc.GradientMatching((X, Y), passed), symmetry)
    assert all(torch.equal(whole.permutations[g], run.permutations[g]) for g in whole.permutations)
    assert run.similarity_after == pytest.approx(whole.similarity_after)
    assert run.settings["change"] == "checkpoints" and whole.settings["points"] == run.settings["points"] == 4


def test_rows_are_drawn_by_the_seed() -> None:
    a, b = build(of_all_kinds, 1), build(of_all_kinds, 2)
    symmetry, method = mc.symmetry_of(a, X[:4]), mc.GradientMatching((X, Y), batch_size=10)
    first, again, other = (mc.align(a, b, method, symmetry, seed=seed) for seed in (0, 0, 1))
    assert first.similarity_before == again.similarity_before != other.similarity_before


def test_the_symmetry_may_be_found_on_its_rows_and_progress_is_told() -> None:
    a, b = build(convolved, 1), build(convolved, 2)
    told: list[str] = []
    method = mc.GradientMatching((X, Y), mc.weight_change(b, a), points=3, label="sixty rows")
    found = mc.align(a, b, method, progress=lambda event: told.append(f"{event.stage} {event.done} of {event.total}"))
    assert told == [f"matching gradients {done} of 3" for done in (1, 2, 3)]
    assert "statistics of each batch" in " ".join(found.notes)
    assert found.settings["method"] == "gradient matching" and found.settings["data"] == "sixty rows"


def test_one_line_says_what_is_wrong() -> None:
    a, b = build(of_all_kinds, 1), build(of_all_kinds, 2)
    symmetry = mc.symmetry_of(a, X[:4])
    loader = DataLoader(TensorDataset(X, Y), batch_size=8)
    with pytest.raises(TypeError, match=r"GradientMatching reads rows by index .* of a loader pass its dataset"):
        mc.GradientMatching(loader)
    with pytest.raises(TypeError, match=r"change must be .* pass weight_change\(base, tuned\)"):
        mc.GradientMatching((X, Y), change=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"change\[0\] must be .* pass the networks"):
        mc.GradientMatching((X, Y), change=[3])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="one checkpoint or more, got an empty list; leave it out"):
        mc.GradientMatching((X, Y), change=[])
    for wrong in ({"points": 0}, {"batch_size": 0}, {"restarts": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            mc.GradientMatching((X, Y), **cast(Any, wrong))
    narrow = build(lambda: nn.Linear(2, 2), 1)
    with pytest.raises(ValueError, match="parameters of B and of the change that gradients are matched along"):
        mc.align(a, b, mc.GradientMatching((X, Y), mc.weight_change(narrow, narrow)), symmetry)
    spectral = build(lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(FEATURES, 4)), nn.Linear(4, CLASSES)), 1)
    with pytest.raises(ValueError, match=r"spectral norm.*WeightMatching\(\)"):
        still = mc.Symmetry.from_axes(spectral, {}, example_input=X)
        mc.align(spectral, copy.deepcopy(spectral), mc.GradientMatching((X, Y)), still)
    assert mc.align(a, b, mc.WeightMatching(), symmetry).coverage > 0


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, CLASSES))


@pytest.mark.parametrize(("moving", "gradients", "ascents"), [(True, 20, 10), (False, 11, 1)])
def test_gradients_that_stay_are_taken_once(
    moving: bool, gradients: int, ascents: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten points on the same rows: B's gradient at each, and A's at each or once; one ascent where A stays."""
    a, b, c = (build(net, seed) for seed in range(3))
    counts = {"gradients": 0, "ascents": 0}
    measure, search = _network_gradients.GradientReader.measure, _gradient_matching.search_element

    def count_measure(self: Any, *args: Any) -> Any:
        counts["gradients"] += 1
        return measure(self, *args)

    def count_search(*args: Any, **how: Any) -> Any:
        counts["ascents"] += 1
        return search(*args, **how)

    monkeypatch.setattr(_network_gradients.GradientReader, "measure", count_measure)
    monkeypatch.setattr(_gradient_matching, "search_element", count_search)
    method = mc.GradientMatching((X, Y), mc.weight_change(b, c), moving=moving)
    mc.align(a, b, method, mc.symmetry_of(a, X[:4]))
    assert counts == {"gradients": gradients, "ascents": ascents}


def test_small_gradients_of_a_layer_still_decide() -> None:
    """Inputs of size 1e-5: gradients before the head are 1e-5 of its own, and yet not the weights match the units."""

    def deep() -> nn.Module:
        layers = (nn.Linear(FEATURES, 6, bias=False), nn.Tanh(), nn.Linear(6, 6, bias=False), nn.Tanh())
        return nn.Sequential(*layers, nn.Linear(6, CLASSES))

    a, b = build(deep, 1), build(deep, 2)
    symmetry = mc.symmetry_of(a, X[:4])
    weights = mc.align(a, b, mc.WeightMatching(), symmetry)
    large, small = (mc.align(a, b, mc.GradientMatching((X * size, Y)), symmetry) for size in (1e-2, 1e-5))
    assert all(torch.equal(large.permutations[group], small.permutations[group]) for group in symmetry.sizes)
    assert any(not torch.equal(weights.permutations[group], small.permutations[group]) for group in symmetry.sizes)


def test_dropout_is_off_beside_statistics_of_the_batch() -> None:
    """A copy has the same gradients, whose masks would else differ."""

    def dropping() -> nn.Module:
        return nn.Sequential(
            *(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES))
        )

    a = build(dropping, 1)
    symmetry = mc.symmetry_of(a, X[:4])
    b = moved_by(symmetry, a, symmetry.random(5, kinds=("permutation",)))
    found = mc.align(a, b, mc.GradientMatching((X, Y)), symmetry)
    assert found.similarity_after == pytest.approx({"layer0": 1.0})
    with pytest.raises(ValueError, match=r"from each batch, which one row does not have; pass batch_size=2"):
        mc.align(a, b, mc.GradientMatching((X, Y), batch_size=1), symmetry)


def test_single_precision_finds_a_copy() -> None:
    a, tuned = build(of_all_kinds, 1, torch.float32), build(of_all_kinds, 2, torch.float32)
    data = (X.float(), Y)
    symmetry = mc.symmetry_of(a, data[0][:4])
    b = moved_by(symmetry, a, symmetry.random(5, kinds=("permutation",)))
    element = symmetry.random(5, kinds=("permutation",))
    change = mc.weight_change(b, moved_by(symmetry, tuned, element))
    found = mc.align(a, b, mc.GradientMatching(data, change, points=3), symmetry)
    assert found.distance_after < 1e-5 * found.distance_before


def test_passes_are_counted_by_point() -> None:
    a, b = build(net, 1), build(net, 2)
    counts = [
        mc.GradientMatching((X, Y)),
        mc.GradientMatching((X, Y), mc.weight_change(a, b), points=4),
        mc.GradientMatching((X, Y), [a, b]),
    ]
    assert [method.count_passes(60) / 360 for method in counts] == [1, 4, 2]
