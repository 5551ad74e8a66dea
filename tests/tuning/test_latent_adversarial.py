"""Latent adversarial training: the worst perturbation in closed form, whole runs by hand, and which layers it takes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from reference import SlowSGD, cosine, gradients
from zoo import CLASSES, FEATURES, Shared, build, mlp, norm_mlp, rows, split

BATCHES = split(rows(16), [8, 8])


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


def line(w: float, v: float) -> nn.Module:
    """f(x) = v w x."""
    model = build(lambda: nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)))
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(w)
        model.get_parameter("1.weight").fill_(v)
    return model


@pytest.mark.parametrize("steps", [1, 5])
def test_on_a_line_the_perturbation_is_the_radius_away_from_the_target(steps: int) -> None:
    """max over |d| <= r of (v (w x + d) - y)^2 is (|v w x - y| + |v| r)^2: the ascent ends there, and its gradient."""
    x, y, w, v, r, rate = [1.0, 2.0, -1.0], [1.0, 0.0, 3.0], 0.6, 1.5, 0.25, 0.1
    data = [(torch.tensor(x).double()[:, None], torch.tensor(y).double())]
    method = mc.LatentAdversarial(layer="0", radius=r, steps=steps, epochs=1, lr=rate, momentum=0.0, weight_decay=0.0)
    found = mc.fine_tune(line(w, v), method, clean=data, loss=squared)
    signs = [1.0 if v * w * a > b else -1.0 for a, b in zip(x, y, strict=True)]
    worst = [v * (w * a + sign * r) - b for a, b, sign in zip(x, y, signs, strict=True)]
    assert found.history[0]["perturbed"] == pytest.approx(sum(e**2 for e in worst) / 3, rel=1e-12)
    slopes = [sum(2 * e * v * a for e, a in zip(worst, x, strict=True)) / 3]
    slopes += [sum(2 * e * (w * a + sign * r) for e, a, sign in zip(worst, x, signs, strict=True)) / 3]
    assert found.model.get_parameter("0.weight").item() == pytest.approx(w - rate * slopes[0], rel=1e-12)
    assert found.model.get_parameter("1.weight").item() == pytest.approx(v - rate * slopes[1], rel=1e-12)


@pytest.mark.parametrize("width", [1, 2])
def test_the_length_of_slopes_does_not_matter(width: int) -> None:
    """Those of rows that are answered with certainty are tiny; their squares are zero in float32."""
    model = build(lambda: nn.Sequential(nn.Linear(1, width), nn.Linear(width, 1)), dtype=torch.float32)
    x, small = torch.tensor([[1.0], [-2.0]]), 2.0**-130 if width == 1 else 2.0**-90
    method = mc.LatentAdversarial(layer="0", radius=0.5, epochs=1, lr=1e-30)
    found = mc.fine_tune(model, method, clean=[(x, torch.zeros(2))], loss=lambda outputs, _: small * outputs[:, 0])
    weight = model.get_parameter("1.weight").detach()
    worst = model(x).mean().item() + 0.5 * float(weight.norm())
    assert found.history[0]["perturbed"] / small == pytest.approx(worst, rel=1e-4)


def ascended(theta: nn.Sequential, cut: int, x: Tensor, y: Tensor, radius: float, steps: int) -> Tensor:
    """The perturbation of every row by projected gradient ascent, on copies: statistics of theta stay."""
    body, rest = copy.deepcopy(theta[:cut]), copy.deepcopy(theta[cut:])
    features = body(x).detach()
    delta = torch.zeros_like(features)
    for _ in range(steps):
        delta.requires_grad_()
        (slope,) = torch.autograd.grad(cross_entropy(rest(features + delta), y, reduction="sum"), delta)
        delta = delta.detach()
        for row in range(len(y)):
            delta[row] += 2.5 * radius / steps * slope[row] / slope[row].norm()
            if delta[row].norm() > radius:
                delta[row] *= radius / delta[row].norm()
    return delta


@pytest.mark.parametrize(("factory", "cut"), [(mlp, 1), (mlp, 3), (norm_mlp, 1), (norm_mlp, 2)])
def test_a_run_is_that_of_the_slow_implementation(factory: Any, cut: int) -> None:
    """Before and behind a BatchNorm too, whose statistics are those of rows as they are."""
    model = build(factory)
    method = mc.LatentAdversarial(layer=str(cut - 1), radius=0.4, steps=3, epochs=2, lr=0.1)
    tuned = mc.fine_tune(model, method, clean=BATCHES)
    theta = copy.deepcopy(model).train()
    assert isinstance(theta, nn.Sequential)
    optimiser = SlowSGD(theta, 0.9, 1e-4)
    for step in range(4):
        x, y = BATCHES[step % 2]
        delta = ascended(theta, cut, x, y, 0.4, 3)
        own = copy.deepcopy(theta)
        slopes = gradients(own, cross_entropy(own[cut:](own[:cut](x) + delta), y))
        with torch.no_grad():
            theta(x)
        optimiser.step(slopes, cosine(0.1, step, 4))
    for name, tensor in tuned.model.state_dict().items():
        # A few iterations of float64, in another order than torch's.
        torch.testing.assert_close(tensor, theta.state_dict()[name], rtol=1e-9, atol=1e-10)


def test_the_perturbation_of_images_and_texts_is_one_of_the_whole_row() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 3, 6, 6, generator=draw, dtype=torch.float64), torch.arange(12) % CLASSES
    net = build(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, CLASSES)))
    still: dict[str, Any] = {"epochs": 1, "lr": 1e-300}
    first = mc.fine_tune(net, mc.LatentAdversarial(layer="0", radius=0.7, **still), clean=[(x, y)]).history
    second = mc.fine_tune(net, mc.LatentAdversarial(layer="1", radius=0.7, **still), clean=[(x, y)]).history
    assert first[0]["perturbed"] == pytest.approx(second[0]["perturbed"], rel=1e-10)
    text = build(lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, CLASSES)))
    tokens = torch.randint(0, 9, (12, 5), generator=draw)
    found = mc.fine_tune(text, mc.LatentAdversarial(layer="0", **still), clean=[(tokens, y)]).history
    assert found[0]["perturbed"] > cross_entropy(text(tokens), y).item()


class Odd(nn.Module):
    """A layer that gives a tuple, one that gives other rows, one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.rows = nn.LSTM(FEATURES, FEATURES, batch_first=True), nn.Flatten(0, 1)
        self.spare, self.out = nn.Linear(2, 2), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.cell(torch.stack([x, -x], 1))
        return self.out(self.rows(found).view(len(x), 2, -1).mean(1))


@pytest.mark.parametrize(
    ("factory", "layer", "found"),
    [
        (Odd, "cell", "gives tuple"), (Odd, "rows", r"gives shape \[16, 4\]"), (Odd, "spare", "does not run"),
        (Shared, "first", "runs several times"),
    ],
)  # fmt: skip
def test_layers_that_it_cannot_perturb_are_told(factory: Any, layer: str, found: str) -> None:
    with pytest.raises(ValueError, match=f"'{layer}' {found}; name another layer$"):
        mc.fine_tune(build(factory), mc.LatentAdversarial(layer=layer), clean=BATCHES)


def test_a_layer_that_does_not_exist_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"^layer='celll' is no module of this model; did you mean 'cell'\?$"):
        mc.fine_tune(build(Odd), mc.LatentAdversarial(layer="celll"), clean=BATCHES)


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"radius": 0.0}, "radius must be a number greater than zero"), ({"steps": 0}, "steps must be a whole number")],
)
def test_settings_are_checked(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        mc.LatentAdversarial(layer="0", **settings)
    assert mc.LatentAdversarial(layer="0", steps=4).passes(0) == 5


class Unused(nn.Module):
    """The output of `side` is not part of the model's."""

    def __init__(self) -> None:
        super().__init__()
        self.side, self.body = nn.Linear(FEATURES, 2), mlp()

    def forward(self, x: Tensor) -> Tensor:
        self.side(x)
        return self.body(x)


def test_a_layer_that_no_loss_depends_on_is_noted() -> None:
    method = mc.LatentAdversarial(layer="side", epochs=2)
    tuned = mc.fine_tune(build(Unused), method, clean=BATCHES)
    assert tuned.notes[0].startswith("LatentAdversarial perturbed nothing: no loss depends on what 'side' gives")
    assert mc.fine_tune(build(Unused), mc.LatentAdversarial(layer="body.0", epochs=2), clean=BATCHES).notes == ()
    naive = mc.fine_tune(build(Unused), mc.NaiveFineTuning(epochs=2), clean=BATCHES).model
    assert all(torch.equal(a, b) for a, b in zip(tuned.model.parameters(), naive.parameters(), strict=True))
