"""Last-layer retraining, LPFT and DFR: features once, and a head that is logistic regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

import mechconn as mc
from mechconn.tuning._last_layer import draw_balanced
from zoo import CLASSES, FEATURES, Tied, build, mlp, norm_mlp, rows


def noisy(count: int, seed: int = 0, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Rows whose labels no linear map gives without mistakes, so that logistic regression has one solution."""
    x, _ = rows(count, seed)
    draw = torch.Generator().manual_seed(seed + 100)
    logits = x @ torch.randn(FEATURES, classes, generator=draw, dtype=torch.float64)
    return x, torch.multinomial(logits.softmax(1), 1, generator=draw).flatten()


def body(model: nn.Module, x: Tensor) -> np.ndarray:
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        return model[:-1].eval()(x).numpy()


@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_llrt_is_logistic_regression_on_the_features(factory: Any) -> None:
    model, (x, y) = build(factory), noisy(200)
    method = mc.LastLayerRetraining(epochs=3000, lr=3.0, batch_size=200)
    tuned = mc.fine_tune(model, method, clean=(x, y))
    z = body(model, x)
    exact = LogisticRegression(C=np.inf, max_iter=10_000, tol=1e-10).fit(z, y.numpy())
    with torch.no_grad():
        found = tuned.model(x).softmax(1).numpy()
    # Gradient descent stops short of the optimum by less than this.
    np.testing.assert_allclose(found, exact.predict_proba(z), atol=6e-3)


@pytest.mark.parametrize("method", [mc.LastLayerRetraining(epochs=3, lr=0.5), mc.DFR(draws=2)])
def test_only_the_head_changes(method: Any) -> None:
    model = build(norm_mlp)
    tuned = mc.fine_tune(model, method, clean=noisy(60)).model
    moved = {name for name, tensor in tuned.state_dict().items() if not torch.equal(tensor, model.state_dict()[name])}
    assert moved == {"3.weight", "3.bias"}
    assert all(parameter.requires_grad for parameter in tuned.parameters())


def test_the_new_head_owes_nothing_to_the_old_one() -> None:
    model, other = build(mlp), build(mlp)
    with torch.no_grad():
        other.get_parameter("2.weight").mul_(-7)
    heads = [
        mc.fine_tune(start, mc.LastLayerRetraining(epochs=2), clean=noisy(60)).model.get_parameter("2.weight")
        for start in (model, other)
    ]
    assert torch.equal(*heads)


class CountingBody(nn.Module):
    """Counts its forward passes row by row."""

    rows = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).rows += len(x)
        return torch.tanh(x)


@pytest.mark.parametrize("method", [mc.LastLayerRetraining(epochs=50, lr=0.5), mc.DFR(draws=3)])
def test_features_are_computed_once(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountingBody, "rows", 0)
    model = build(lambda: nn.Sequential(CountingBody(), nn.Linear(FEATURES, CLASSES)))
    mc.fine_tune(model, method, clean=noisy(300), head="1")
    assert CountingBody.rows <= 300 + 250  # all rows, and one batch by which the head is looked at


def test_the_sources_defaults() -> None:
    method = mc.LastLayerRetraining()
    assert (method.epochs, method.lr, method.momentum, method.weight_decay) == (200, None, 0.9, 0.0)
    tuning = mc.LPFT().tuning
    assert (tuning.epochs, tuning.lr) == (20, 0.01)


def test_lpft_is_one_after_the_other() -> None:
    model, clean = build(norm_mlp), noisy(60)
    probe, tuning = mc.LastLayerRetraining(epochs=3, lr=0.5), mc.NaiveFineTuning(epochs=2, batch_size=16)
    both = mc.fine_tune(model, mc.LPFT(probe=probe, tuning=tuning), clean=clean)
    first = mc.fine_tune(model, probe, clean=clean)
    second = mc.fine_tune(first.model, tuning, clean=clean)
    assert both.history == first.history + second.history
    assert [set(record) - {"epoch", "lr"} for record in both.history] == [{"head"}] * 3 + [{"clean"}] * 2
    for name, tensor in both.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])
    assert both.settings["probe"]["lr"] == 0.5 and both.settings["tuning"]["batch_size"] == 16


# ---------------------------------------------------------------- DFR


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_dfr_is_logistic_regression_on_standardised_features(penalty: Any, classes: int) -> None:
    """With groups of one size every balanced subset is the whole."""
    model = build(lambda: nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, classes)))
    x, y = noisy(240, 1, classes)
    kept = torch.cat([(y == k).nonzero().flatten()[:30] for k in range(classes)])
    x, y = x[kept], y[kept]
    tuned = mc.fine_tune(model, mc.DFR(draws=2, strength=0.5, penalty=penalty), clean=(x, y))
    z = body(model, x)
    scaled = (z - z.mean(0)) / z.std(0)
    kind: dict[str, Any] = {"solver": "saga", "l1_ratio": 1.0} if penalty == "l1" else {"l1_ratio": 0.0}
    exact = LogisticRegression(C=0.5, max_iter=50_000, tol=1e-8, random_state=0, **kind).fit(scaled, y.numpy())
    with torch.no_grad():
        found = tuned.model(x).softmax(1).numpy()
    # The solver's own tolerance, 1e-4 of the gradient.
    np.testing.assert_allclose(found, exact.predict_proba(scaled), atol=3e-3)


@given(groups=st.lists(st.integers(0, 3), min_size=1, max_size=40), seed=st.integers(0, 1000))
def test_a_balanced_subset_holds_as_many_of_each(groups: list[int], seed: int) -> None:
    rows_taken = draw_balanced(torch.tensor(groups), torch.Generator().manual_seed(seed)).tolist()
    least = min(groups.count(group) for group in set(groups))
    assert len(set(rows_taken)) == len(rows_taken)
    assert sorted(groups[row] for row in rows_taken) == sorted(g for g in set(groups) for _ in range(least))


def test_dfr_balances_the_groups_that_it_is_given() -> None:
    """A shortcut that holds in the large group only: balanced rows give it less weight than the classes' rows do."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 2
    agrees = torch.arange(400) < 360
    cue = torch.where(agrees, y, 1 - y).double() * 2 - 1
    x = torch.randn(400, FEATURES, generator=draw, dtype=torch.float64)
    x[:, 0] = cue
    x[:, 1] += 0.7 * (2 * y - 1)
    model = build(lambda: nn.Sequential(nn.Identity(), nn.Linear(FEATURES, 2)))
    plain, told = (
        mc.fine_tune(model, mc.DFR(), clean=(x, y), groups=groups).model.get_parameter("1.weight").detach()
        for groups in (None, {"y": y, "agrees": agrees})
    )
    reliance = [abs(float(weight[1, 0] - weight[0, 0])) for weight in (plain, told)]
    assert reliance[1] < 0.3 * reliance[0]


# ---------------------------------------------------------------- what is refused


class Scaled(nn.Module):
    """Something comes after the last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).log_softmax(1)


class TiedHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
        self.head.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)))


@pytest.mark.parametrize("method", [mc.LastLayerRetraining(epochs=1), mc.LPFT(), mc.DFR()])
@pytest.mark.parametrize(
    ("factory", "text"),
    [
        (Scaled, "needs a head whose outputs are the model's, and something comes after 'head'; name the last layer"),
        (TiedHead, "would give 'head' weights of its own, but they are shared with first; untie them first"),
        (lambda: Tied().requires_grad_(False), "trains the head alone, and its weights in 'out' are frozen; call"),
    ],
)
def test_heads_that_cannot_be_retrained(factory: Any, text: str, method: Any) -> None:
    with pytest.raises(ValueError, match=text):
        mc.fine_tune(build(factory), method, clean=noisy(40))


def test_a_transform_meets_inputs_and_never_features() -> None:
    """Features of five columns, inputs of four."""
    widths: list[int] = []

    def flipped(x: Any) -> Any:
        widths.append(x.shape[1])
        return x.flip(1)

    probe = mc.LastLayerRetraining(epochs=2, batch_size=8, lr=0.1)
    given, plain = (mc.fine_tune(build(mlp), probe, clean=rows(24), transform=t).model for t in (flipped, None))
    assert not widths
    for name, tensor in given.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name
    both = mc.LPFT(probe=probe, tuning=mc.NaiveFineTuning(epochs=1, batch_size=8))
    mc.fine_tune(build(mlp), both, clean=rows(24), transform=flipped)
    assert widths == [4, 4, 4]


def test_dfr_names_groups_that_leave_a_class_out() -> None:
    """One row in a group of its own: a balanced draw holds two rows, and there are three classes."""
    with pytest.raises(ValueError, match="DFR balances groups of 1 rows at least, and a balanced draw lacks class "):
        mc.fine_tune(build(mlp), mc.DFR(draws=2), clean=rows(24), groups=[1] + [0] * 23)


def test_dfr_needs_every_class_and_labels() -> None:
    x, y = noisy(40)
    with pytest.raises(ValueError, match="DFR fits a classifier of 3 classes to the clean data, which lack 2"):
        mc.fine_tune(build(mlp), mc.DFR(), clean=(x[y != 2], y[y != 2]))
    with pytest.raises(ValueError, match=r"whole-number targets \[N\] .* got targets float64\[40\] and 3 outputs"):
        mc.fine_tune(build(mlp), mc.DFR(), clean=(x, y.double()), loss=lambda out, t: (out[:, 0] - t) ** 2)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"strength": 0.0}, "strength must be a number greater than zero"),
        ({"draws": 0}, "draws must be a whole number greater than zero"),
    ]
    for changes, text in refused:
        with pytest.raises(ValueError, match=text):
            mc.DFR(**changes)
    for changes, text in [({"epochs": 0}, "epochs must be"), ({"lr": 0.0}, "lr must be a number greater than zero")]:
        with pytest.raises(ValueError, match=text):
            mc.LastLayerRetraining(**changes)
