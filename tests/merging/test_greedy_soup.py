"""GreedySoup: the order of the paper, by brute force; the rows that chose are told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from merging_problems import pose
from zoo import build, mlp, norm_mlp, rows


def accuracy(params: dict[str, Tensor], model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    with torch.no_grad():
        outputs = torch.func.functional_call(model, params, (data[0],))
    return float((outputs.argmax(1) == data[1]).double().mean())


@pytest.mark.parametrize("seed", range(4))
def test_the_recipe_of_the_paper(seed: int) -> None:
    data = rows(1000, seed=seed)
    models = {name: build(mlp, 10 * seed + number) for number, name in enumerate("pqrst")}
    own = {name: dict(mc.parameters_of(model)) for name, model in models.items()}
    scores = {name: accuracy(params, models[name], data) for name, params in own.items()}
    order = sorted(scores, key=lambda name: -scores[name])
    assert len(set(scores.values())) == 5  # no ties, so that the order is the paper's
    taken, best = [order[0]], scores[order[0]]
    for name in order[1:]:
        mean = {key: sum(own[n][key] for n in [*taken, name]) / (len(taken) + 1) for key in own[name]}
        if (now := accuracy(mean, models[name], data)) >= best:  # pyright: ignore
            taken, best = [*taken, name], now
    problem = pose(models)
    found = mc.GreedySoup(data).merge(problem)
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, sum(own[n][key] for n in taken) / len(taken), rtol=1e-12, atol=1e-12)
    assert problem.record.notes[0].startswith(f"the greedy soup took {', '.join(taken)}")
    assert problem.record.shares == {name: (name in taken) / len(taken) for name in models}
    assert accuracy(found, models["p"], data) >= max(scores.values())


def test_names_and_their_order_change_nothing_but_ties() -> None:
    data = rows(60)
    models = {name: build(mlp, number) for number, name in enumerate("pqrs")}
    found = mc.GreedySoup(data).merge(pose(models))
    again = mc.GreedySoup(data).merge(pose({name: models[name] for name in "srqp"}))
    for key, tensor in found.items():
        torch.testing.assert_close(again[key], tensor, rtol=1e-12, atol=1e-12)


def test_means_have_statistics_of_their_own() -> None:
    """With statistics re-estimated on the rows themselves, the score of a mean is that of the network that is built."""
    data = rows(60)
    models = {name: build(norm_mlp, number) for number, name in enumerate("pqr")}
    norm = mc.Reestimate(data)
    problem = pose(models, norm=norm)
    found = mc.GreedySoup(data, on="loss").merge(problem)
    suite = mc.Suite({"rows": data}, reference="rows")

    def score(model: nn.Module) -> float:
        loss = mc.measure_invariance(model, suite, on="loss").loss["rows"]
        assert loss is not None
        return loss

    scores = {name: score(model) for name, model in models.items()}
    order = sorted(scores, key=lambda name: scores[name])
    taken, best = [order[0]], scores[order[0]]
    for name in order[1:]:
        now = score(mc.soup([models[n] for n in [*taken, name]], norm=norm))
        if now <= best:
            taken, best = [*taken, name], now
    assert problem.record.notes[0].startswith(f"the greedy soup took {', '.join(taken)}")
    mean = {key: sum(models[n].get_parameter(key).detach() for n in taken) / len(taken) for key in found}
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, mean[key], rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"the model keeps normalisation statistics \(1\)"):
        mc.GreedySoup(data).merge(pose(models))


def test_a_regression_is_chosen_by_its_loss() -> None:
    x = torch.linspace(-1, 1, 20).double()[:, None]
    models = {}
    for name, slope in {"p": 0.5, "q": 1.6, "r": 9.0}.items():
        models[name] = build(lambda: nn.Linear(1, 1, bias=False)).requires_grad_(False)
        models[name].get_parameter("weight").fill_(slope)
    problem = pose(models, loss=mc.losses.squared)
    found = mc.GreedySoup((x, x), on="loss").merge(problem)
    assert found["weight"].item() == pytest.approx(1.05)
    assert problem.record.notes == ["the greedy soup took p, q and left out r"]
    with pytest.raises(ValueError, match="split 'validation data' has no accuracy: its task is no classification"):
        mc.GreedySoup((x, x)).merge(problem)


def test_what_it_tells() -> None:
    data = rows(10)
    method: Any = mc.GreedySoup(data, label="held out")
    assert torch.equal(method.chosen_on().y, data[1])
    assert method.describe() == {"method": "greedy soup", "on": "accuracy", "data": "held out"}
    with pytest.raises(ValueError, match="on must be one of 'accuracy', 'loss', got 'error'"):
        mc.GreedySoup(data, on="error")  # pyright: ignore[reportArgumentType]
