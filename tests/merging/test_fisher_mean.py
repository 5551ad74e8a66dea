"""FisherMean: the information of linear-Gaussian and softmax models in closed form, and by finite sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from merging_problems import pose
from zoo import CLASSES, FEATURES, build, mlp, norm_conv, rows


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(factory: Callable[[], nn.Module]) -> dict[str, nn.Module]:
    return {name: build(factory, seed) for seed, name in enumerate("ab", 1)}


def weigh(models: dict[str, nn.Module], fisher: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The formula."""
    return {
        name: sum(fisher[p][name] * models[p].get_parameter(name).detach() for p in models)  # pyright: ignore
        / sum(fisher[p][name] for p in models)
        for name in fisher["a"]
    }


def check_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance)


def test_a_linear_gaussian_model() -> None:
    """y ~ N(W x, 1): F of W[k, j] is E x_j^2, whatever W, and that of the bias 1."""
    models = pair(lambda: nn.Linear(3, 2))
    data = {"a": (draw(40, 3), draw(40, 2)), "b": (3 * draw(30, 3, seed=1), draw(30, 2))}
    found = mc.FisherMean(data).merge(pose(models, loss=mc.losses.squared))
    fisher = {
        p: {"weight": x.square().mean(0).expand(2, 3), "bias": torch.ones(2).double()} for p, (x, _) in data.items()
    }
    check_close(found, weigh(models, fisher))


def test_a_softmax_model() -> None:
    """F of W[k, j] is E p_k (1 - p_k) x_j^2, and that of the bias E p_k (1 - p_k)."""
    models, (x, y) = pair(lambda: nn.Linear(FEATURES, CLASSES)), rows(30)
    fisher = {}
    for p, model in models.items():
        share = model(x).softmax(1).detach()
        spread = share * (1 - share)
        fisher[p] = {"weight": spread.T @ x.square() / len(x), "bias": spread.mean(0)}
    check_close(mc.FisherMean((x, y)).merge(pose(models)), weigh(models, fisher))
    weighted = {p: {n: (3 if p == "a" else 1) * f for n, f in own.items()} for p, own in fisher.items()}
    check_close(mc.FisherMean((x, y), weights={"a": 3.0, "b": 1.0}).merge(pose(models)), weigh(models, weighted))
    length = {p: sum(float(f.square().sum()) for f in own.values()) ** 0.5 for p, own in fisher.items()}
    normed = {p: {n: f / length[p] for n, f in own.items()} for p, own in fisher.items()}
    check_close(mc.FisherMean((x, y), norm="unit").merge(pose(models)), weigh(models, normed))
    floored = {p: {n: f.clamp_min(0.1) for n, f in own.items()} for p, own in fisher.items()}
    check_close(mc.FisherMean((x, y), floor=0.1).merge(pose(models)), weigh(models, floored))


def _by_sums(model: nn.Module, x: Tensor, shares: Tensor, value: Callable[[Tensor, int], Tensor]) -> dict[str, Tensor]:
    """sum_y p(y) (d value_y / d theta)^2, row by row and target by target."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for row in range(len(x)):
        for target in range(shares.shape[1]):
            model.zero_grad()
            value(model(x[row : row + 1]), target).backward()
            for name, p in model.named_parameters():
                if p.grad is not None:
                    total[name] += shares[row, target] * p.grad.square() / len(x)
    model.zero_grad()
    return {name: tensor.detach() for name, tensor in total.items()}


def _log_share(z: Tensor, target: int) -> Tensor:
    return z.log_softmax(1)[0, target]


def test_any_network_row_by_row_and_class_by_class() -> None:
    models, (x, y) = pair(mlp), rows(12)
    fisher = {p: _by_sums(m, x, m(x).softmax(1).detach(), _log_share) for p, m in models.items()}
    check_close(mc.FisherMean((x, y), batch_size=5).merge(pose(models)), weigh(models, fisher))


def test_a_network_with_batch_norm_keeps_its_own_statistics() -> None:
    models = pair(norm_conv)
    x, y = draw(6, 3, 6, 6), torch.arange(6) % 3
    for model in models.values():
        model.eval()
    fisher = {p: _by_sums(m, x, m(x).softmax(1).detach(), _log_share) for p, m in models.items()}
    check_close(mc.FisherMean((x, y)).merge(pose(models)), weigh(models, fisher), 1e-7)


def test_the_labels_of_the_data() -> None:
    models, (x, y) = pair(mlp), rows(12)
    one = nn.functional.one_hot(y, CLASSES).double()
    fisher = {p: _by_sums(m, x, one, _log_share) for p, m in models.items()}
    check_close(mc.FisherMean((x, y), targets="labels").merge(pose(models)), weigh(models, fisher))


def test_one_logit_and_several() -> None:
    for outputs in (1, 2):
        models = pair(lambda k=outputs: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, k)))
        x, y = draw(8, 4), torch.ones(8, outputs)
        fisher = {}
        for p, model in models.items():
            share = model(x).sigmoid().detach()
            parts = [
                _by_sums(model, x, (share * (1 - share))[:, k : k + 1], lambda z, _, k=k: z[0, k])
                for k in range(outputs)
            ]
            fisher[p] = {n: sum(part[n] for part in parts) for n in parts[0]}  # pyright: ignore
        check_close(mc.FisherMean((x, y)).merge(pose(models, loss=mc.losses.binary)), weigh(models, fisher))


@pytest.mark.parametrize("axis", [1, -1])
def test_positions_that_count_are_independent(axis: int) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).movedim(-1, axis)

    models = pair(Tokens)
    x, y = draw(6, 5, 4), torch.arange(30).view(6, 5) % 3
    y[:, 0] = -100
    y[2, 3] = -100
    counted = (y != -100).double()[..., None]
    fisher = {}
    for p, model in models.items():
        share = model.get_submodule("layer")(x).softmax(-1).detach()
        spread = share * (1 - share) * counted
        weight = torch.einsum("npk,npj->kj", spread, x.square()) / len(x)
        fisher[p] = {"layer.weight": weight, "layer.bias": spread.sum((0, 1)) / len(x)}
    check_close(mc.FisherMean((x, y)).merge(pose(models, loss=mc.losses.over_positions)), weigh(models, fisher))


@pytest.mark.parametrize("loss", ["cross_entropy", "binary", "squared"])
def test_draws_come_near_the_exact_expectation(loss: str) -> None:
    models = pair(lambda: nn.Linear(4, 3))
    x = draw(20, 4)
    y = {"cross_entropy": torch.arange(20) % 3, "binary": torch.ones(20, 3), "squared": draw(20, 3)}[loss]
    problem = pose(models, loss=getattr(mc.losses, loss))
    exact = mc.FisherMean((x, y)).merge(problem)
    drawn = mc.FisherMean((x, y), draws=400).merge(problem)
    apart = max(
        float((a - b).detach().abs().max()) for a, b in zip(*(m.parameters() for m in models.values()), strict=True)
    )
    for name, tensor in exact.items():
        assert float((drawn[name] - tensor).abs().max()) < 0.05 * apart
        assert not torch.equal(drawn[name], tensor)
    again = mc.FisherMean((x, y), draws=400).merge(problem)
    assert all(torch.equal(again[name], tensor) for name, tensor in drawn.items())


def test_what_the_data_never_reach_is_averaged() -> None:
    models, (x, y) = pair(mlp), rows(10)
    x[:, 1] = 0.0
    found, mean = mc.FisherMean((x, y)).merge(pose(models)), mc.Mean().merge(pose(models))
    assert torch.equal(found["0.weight"][:, 1], mean["0.weight"][:, 1])
    assert not torch.equal(found["0.weight"][:, 0], mean["0.weight"][:, 0])
    same = mc.FisherMean((x, y)).merge(pose({"a": models["a"], "b": models["a"]}))
    assert all(torch.equal(tensor, models["a"].get_parameter(name)) for name, tensor in same.items())


def test_wrong_settings_and_losses() -> None:
    models, data = pair(mlp), rows(5)
    for settings, text in (
        ({"targets": "own"}, "targets must be one of 'model', 'labels', got 'own'"),
        ({"norm": "l2"}, "norm must be one of 'none', 'unit', got 'l2'"),
        ({"draws": 0}, "draws must be a whole number greater than zero, got 0"),
        ({"floor": -1.0}, "floor must be zero or more, got -1.0"),
        ({"weights": {"a": 0.0}}, "weights must not all be zero"),
    ):
        given: Any = settings
        with pytest.raises(ValueError, match=text):
            mc.FisherMean(data, **given)

    def margin(outputs: Tensor, targets: Tensor) -> Tensor:
        return (1 - outputs.gather(1, targets[:, None])[:, 0]).clamp_min(0.0)

    problem = pose(models, loss=margin)
    with pytest.raises(ValueError, match="the loss margin stands for no distribution of targets that is known here"):
        mc.FisherMean(data).merge(problem)
    mc.FisherMean(data, targets="labels").merge(problem)
    wide = pair(lambda: nn.Linear(FEATURES, 5000))
    with pytest.raises(ValueError, match="the exact expectation has 5000 terms for each row; draw targets"):
        mc.FisherMean(data).merge(pose(wide))
    mc.FisherMean(data, draws=1).merge(pose(wide))
    mc.FisherMean(data, targets="labels").merge(pose(wide))
