"""Learned matching: undoes planted elements, mends what weights mislead, keeps its start where rows mislead it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.alignment import NetworkPair
from mechconn.alignment._descend_element import split_rows
from mechconn.alignment._interpolated_loss import InterpolatedLoss
from mechconn.alignment._learned import _make_matching
from mechconn.alignment._trained_element import ElementMover, TrainedElement, project_to_orthogonal
from mechconn.alignment._weight_scores import WeightScores
from mechconn.core import RowSubset, TensorPair
from small_networks import Attending, of_all_kinds
from zoo import CLASSES, FEATURES, build, norm_mlp, rows

X = rows(60)[0]


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().flatten(1).sum(1)


def convolved() -> nn.Module:
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 8, 1, groups=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32, CLASSES)),
    )


def moved_by(symmetry: mc.Symmetry, model: nn.Module, seed: int) -> nn.Module:
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(seed)))
    return moved


def taught(model: nn.Module, x: Tensor = X, error: float = 0.0) -> tuple[Tensor, Tensor]:
    """Inputs with a network's own outputs as targets, so that its squared loss is 0; but for an error."""
    return x, model(x).detach() + error


def loss_halfway(a: nn.Module, b: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    x, y = data
    return float(squared(mc.model_at(a, mc.LinearPath.between(a, b), 0.5)(x).detach(), y).mean())


def split(data: tuple[Tensor, Tensor]) -> tuple[RowSubset, RowSubset]:
    """(rows to learn from, rows kept back), as the method divides them at seed 0: it tells nobody else."""
    found = split_rows(TensorPair(*data), 0.2, seed=0)
    assert isinstance(found[0], RowSubset)
    assert isinstance(found[1], RowSubset)
    return found[0], found[1]


@pytest.mark.parametrize("factory", [of_all_kinds, Attending, convolved])
def test_a_planted_element_is_undone(factory: Callable[[], nn.Module]) -> None:
    a = build(factory, 1).eval()
    symmetry = mc.symmetry_of(a, X[:4])
    b = moved_by(symmetry, a, 3)
    found = mc.align(a, b, mc.LearnedMatching(taught(a, error=0.1), steps=3, loss=squared), symmetry)
    assert found.distance_after <= 1e-6 * found.distance_before
    assert torch.allclose(found.model(X), b(X), rtol=1e-9, atol=1e-12)
    assert "nothing to learn" in found.notes[-1]


def decoyed(order: list[int]) -> nn.Module:
    """ReLU units on inputs that the data have, with large weights on one that they hardly have, in an order."""
    net = build(lambda: nn.Sequential(nn.Linear(5, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)))
    decoys = torch.tensor([10.0, -10.0, 20.0, -20.0, 30.0], dtype=torch.float64)
    with torch.no_grad():
        net.get_parameter("0.weight")[:, 4] = decoys[order]
    return net


IN_ORDER, IN_ANOTHER = [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]


def decoyed_pair() -> tuple[nn.Module, nn.Module, mc.Symmetry]:
    """Two networks of one function on the data, whose units are in one order, and all that may be permuted."""
    a, b = decoyed(IN_ORDER), decoyed(IN_ANOTHER)
    return a, b, replace(mc.symmetry_of(a, rows_read(0)[:4]), actions=())


def rows_read(seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    scale = torch.tensor([1.0, 1.0, 1.0, 1.0, 1e-4], dtype=torch.float64)
    return torch.randn(200, 5, generator=draw, dtype=torch.float64) * scale


def test_a_loss_mends_what_weights_mislead() -> None:
    """Weight matching follows the decoys; the loss of the rows tells which units are alike."""
    a, b, symmetry = decoyed_pair()
    misled = mc.align(a, b, mc.WeightMatching(), symmetry)
    assert misled.permutations["layer0"].tolist() == IN_ANOTHER
    events: list[mc.ProgressEvent] = []
    method = mc.LearnedMatching(taught(a, rows_read(0)), steps=150, loss=squared)
    found = mc.align(a, b, method, symmetry, progress=events.append)
    assert found.permutations["layer0"].tolist() == IN_ORDER
    other = taught(a, rows_read(1))
    assert loss_halfway(a, misled.model, other) > 0.03 > 1e-5 > loss_halfway(a, found.model, other)
    assert torch.allclose(found.model(rows_read(1)), b(rows_read(1)), rtol=1e-9, atol=1e-12)
    assert found.notes[-1].startswith("the barrier of this alignment was optimised, by ")
    assert "on 160 rows of unnamed data: on 40 rows kept back" in found.notes[-1]
    assert found.notes[-1].endswith("weaker evidence than matching without the data; judge the barrier on other rows")
    assert found.settings["method"] == "learned matching"
    assert "a barrier reports" in found.settings["optimises"]
    assert ("learning the matching", 150, 150) in [(event.stage, event.done, event.total) for event in events]


def test_rows_kept_back_decide() -> None:
    """The rows to learn from want another network than the rows kept back do: the start stays."""
    a, b, symmetry = decoyed_pair()
    x, y = taught(a, rows_read(0))
    y[split((x, y))[0].rows] *= -3
    start = mc.align(a, b, mc.WeightMatching(), symmetry)
    found = mc.align(a, b, mc.LearnedMatching((x, y), steps=40, lr=0.1, loss=squared), symmetry)
    assert "found nothing better than its start on 40 rows kept back" in found.notes[-1]
    assert torch.equal(found.permutations["layer0"], start.permutations["layer0"])
    assert found.similarity_after == start.similarity_after


def test_it_is_better_on_rows_kept_back_and_repeats_itself() -> None:
    a, b, permuted = decoyed_pair()
    data, symmetry = taught(a, rows_read(0)), mc.symmetry_of(a, rows_read(0)[:4])
    assert {action.kind for action in symmetry.actions} - {action.kind for action in permuted.actions} == {"scale"}
    method = mc.LearnedMatching(data, steps=30, lr=0.03, label="rows", loss=squared)
    found, again = (mc.align(a, b, method, symmetry) for _ in range(2))
    assert all(torch.equal(found.element[name], again.element[name]) for name in found.element)
    assert found.notes == again.notes
    kept = split(data)[1].rows
    start = mc.align(a, b, mc.WeightMatching(), symmetry)
    halfway = [loss_halfway(a, one.model, (data[0][kept], data[1][kept])) for one in (start, found)]
    assert halfway[1] < halfway[0]
    assert f"the loss halfway is {halfway[1]:.4g}, after weight matching {halfway[0]:.4g}" in found.notes[-1]
    assert torch.allclose(found.model(rows_read(1)), b(rows_read(1)), rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- what is differentiated


def test_the_gradient_of_the_nearest_orthogonal_matrix() -> None:
    draw = torch.Generator().manual_seed(0)
    free = torch.randn(2, 4, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(project_to_orthogonal, (free,))
    # At an orthogonal matrix, where all singular values are equal: the part along the matrices that rotate it.
    there = torch.linalg.qr(free.detach()).Q.requires_grad_()
    assert torch.autograd.gradcheck(project_to_orthogonal, (there,))
    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    project_to_orthogonal(3 * turn)[1, 0].backward()
    assert angle.grad is not None
    assert float(angle.grad) == pytest.approx(float(angle.detach().cos()))  # 3 R(angle) is nearest to R(angle)


def pair_of(factory: Callable[[], nn.Module]) -> NetworkPair:
    a, b = (build(factory, seed).eval() for seed in (1, 2))
    params = [mc.parameters_of(model) for model in (a, b)]
    symmetry = mc.symmetry_of(a, X[:4])
    return NetworkPair(a, b, params[0], params[1], symmetry, 0, torch.device("cpu"), mc.Compute())


def disturbed(pair: NetworkPair) -> tuple[TrainedElement, WeightScores]:
    """A trained element somewhere, other permutations, signs, scales and matrices than at its start among it."""
    similarity = WeightScores(pair.symmetry, pair.params_a, pair.params_b)
    trained = TrainedElement(pair.symmetry, similarity.make_present(), next(iter(pair.params_b.values())))
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for leaf in trained.list_smooth():
            leaf += 0.7 * torch.randn(leaf.shape, generator=draw, dtype=leaf.dtype)
    trained.change({group: torch.arange(len(scores)).flip(0) for group, scores in trained.scores.items()})
    trained.change({name: torch.where(torch.arange(len(s)) % 2 == 0, s, -s) for name, s in trained.signs.items()})
    return trained, similarity


@pytest.mark.parametrize("factory", [of_all_kinds, Attending, convolved, norm_mlp])
def test_what_is_trained_is_what_is_applied(factory: Callable[[], nn.Module]) -> None:
    """The differentiable move gives the weights that the exact element gives, and the function of B."""
    pair = pair_of(factory)
    trained, similarity = disturbed(pair)
    moved = ElementMover(pair.symmetry, pair.params_a, pair.params_b).move(trained.compute())
    found = _make_matching(pair.symmetry, similarity, trained.read())
    exact = pair.symmetry.apply(pair.params_b, found.element)
    assert all(torch.allclose(moved[name], exact[name], rtol=1e-9, atol=1e-11) for name in exact)
    kinds = {action.kind for action in pair.symmetry.actions if action.name in found.factors}
    assert kinds == {action.kind for action in pair.symmetry.actions}
    assert any(not torch.equal(order, torch.arange(len(order))) for order in found.permutations.values())


def test_the_gradient_of_the_loss_halfway() -> None:
    """In rotations and scales, against differences; in the scores, that in the matrix of the permutation."""
    pair = pair_of(of_all_kinds)
    trained, _ = disturbed(pair)
    mover = ElementMover(pair.symmetry, pair.params_a, pair.params_b)
    loss = InterpolatedLoss(pair, mc.losses.as_loss(squared), {})

    def compute(**instead: Tensor) -> Tensor:
        element = trained.compute() | instead
        return loss(mover.move(element), 0.5, X, pair.model_a(X).detach() + 1)

    compute().backward()
    for leaf in (*trained.matrices.values(), *trained.logarithms.values()):
        assert leaf.grad is not None
        for place in range(0, leaf.numel(), 3):
            values = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    leaf.view(-1)[place] += step
                    values.append(float(compute()))
                    leaf.view(-1)[place] -= step
            assert float(leaf.grad.view(-1)[place]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7)
    (group, scores) = next(iter(trained.scores.items()))
    matrix = trained.compute()[group].detach().requires_grad_()
    compute(**{group: matrix}).backward()
    assert scores.grad is not None
    assert matrix.grad is not None
    assert torch.allclose(scores.grad, matrix.grad)


# ---------------------------------------------------------------- data, and what is said


def test_a_barrier_on_the_same_rows_is_noted() -> None:
    a, b = build(of_all_kinds, 1), build(of_all_kinds, 2)
    symmetry, own = mc.symmetry_of(a, X[:4]), rows(100, 5)
    method = mc.LearnedMatching(own, steps=2)
    suite = mc.Suite({"cue": rows(40, 6), "same": own, "some": (own[0][:9], own[1][:9])})
    notes = mc.evaluate_alignment(a, b, method, suite, 3, symmetry=symmetry).alignment.notes
    assert notes[-1].startswith("the barrier after alignment is judged on rows on which the alignment was optimised, ")
    assert "in same, some: it is too low there" in notes[-1]
    assert notes[-1] in str(mc.evaluate_alignment(a, b, method, suite, 3, symmetry=symmetry))
    first, second = split(own)
    whole = first.source
    method = mc.LearnedMatching(first, steps=2)
    for judged, known in ((second, False), (first, True), (whole, True)):
        found = mc.evaluate_alignment(a, b, method, mc.Suite({"cue": judged}), 3, symmetry=symmetry)
        assert any("judged on rows on which" in note for note in found.findings) == known
    found = mc.evaluate_alignment(a, b, mc.WeightMatching(), mc.Suite({"cue": own}), 3, symmetry=symmetry)
    assert not any("judged on rows on which" in note for note in found.findings)


def test_weights_that_move_apart_are_no_matter_of_the_method() -> None:
    """B where weight matching is misled to: the loss moves it away from there."""
    a, b, symmetry = decoyed_pair()
    b = mc.align(a, b, mc.WeightMatching(), symmetry).model
    found = mc.align(a, b, mc.LearnedMatching(taught(a, rows_read(0)), steps=150, loss=squared), symmetry)
    assert found.distance_after > found.distance_before + 1
    assert found.notes[0].endswith("the method optimises a loss, not the distance")


def test_batch_statistics_are_used_and_noted() -> None:
    a, b = build(norm_mlp, 1).eval(), build(norm_mlp, 2).eval()
    data, symmetry = rows(80, 5), mc.symmetry_of(a, X[:4])
    before = {name: tensor.clone() for name, tensor in b.state_dict().items()}
    found = mc.align(a, b, mc.LearnedMatching(data, steps=20), symmetry)
    assert "with the normalisation statistics of each batch" in found.notes[-1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in b.state_dict().items())
    assert torch.allclose(found.model(X), b(X), rtol=1e-9, atol=1e-12)


def test_a_loss_that_is_not_finite_ends_the_descent() -> None:
    """Scales of exp(1e8) after one step; the start stays."""
    a, b, permuted = decoyed_pair()
    symmetry = mc.symmetry_of(a, rows_read(0)[:4])
    assert len(symmetry.actions) > len(permuted.actions)
    found = mc.align(a, b, mc.LearnedMatching(taught(a, rows_read(0)), steps=9, lr=1e8, loss=squared), symmetry)
    assert "ended at step 2 of 9, where the loss was not finite" in found.notes[-1]
    assert torch.allclose(found.model(rows_read(1)), b(rows_read(1)), rtol=1e-9, atol=1e-12)


def test_nothing_to_move() -> None:
    a, b = (build(lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES)), seed) for seed in (1, 2))
    found = mc.align(a, b, mc.LearnedMatching(rows(50), steps=2), mc.symmetry_of(a, X[:4]))
    assert found.notes == ("the symmetry holds no units that may be permuted: B was not changed",)


def test_what_is_refused() -> None:
    data = rows(8)
    dataset = TensorDataset(*data)
    loader = DataLoader(dataset, batch_size=4)
    with pytest.raises(TypeError, match=r"LearnedMatching reads rows by index .* of a loader pass its dataset"):
        mc.LearnedMatching(loader)
    assert mc.LearnedMatching(dataset).describe()["steps"] == 200
    with pytest.raises(ValueError, match=r"two rows of data or more, .* got 1; pass more rows"):
        mc.LearnedMatching((data[0][:1], data[1][:1]))
    cases: list[dict[str, Any]] = [{"steps": 0}, {"lr": 0.0}, {"judge": 1.0}, {"batch_size": 0}, {"restarts": 0}]
    for wrong in cases:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            mc.LearnedMatching(data, **wrong)

    def normed() -> nn.Module:
        return nn.Sequential(
            *(nn.Linear(FEATURES, 5), nn.ReLU(), nn.Linear(5, 6)),
            *(nn.ReLU(), nn.utils.parametrizations.spectral_norm(nn.Linear(6, CLASSES))),
        )

    a, b = build(normed, 1).eval(), build(normed, 2).eval()
    symmetry = mc.symmetry_of(a, X[:4])
    with pytest.raises(ValueError, match=r"spectral norm, .*; match weights by themselves, WeightMatching\(\)"):
        mc.align(a, b, mc.LearnedMatching(data, steps=1), symmetry)
    assert mc.align(a, b, mc.WeightMatching(), symmetry).distance_before > 0


def test_an_element_that_was_read_stays_as_it_is() -> None:
    trained, _ = disturbed(pair_of(of_all_kinds))
    found = trained.read()
    before = {name: value.clone() for name, value in found.items()}
    with torch.no_grad():
        for leaf in trained.list_smooth():
            leaf += 1
    assert all(torch.equal(value, before[name]) for name, value in found.items())
    assert not any(value.requires_grad for value in found.values())
