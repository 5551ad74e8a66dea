"""Fitting a path: what is refused, what stays, and how much memory a step holds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.descent import draw_fresh_state
from memory import peak
from zoo import FEATURES, Recurrent, build, mlp, norm_mlp, rows


def fit(model: nn.Module, **changes: Any) -> mc.FittedPath:
    arguments = {
        "a": mc.parameters_of(build(norm_mlp, 1)),
        "b": mc.parameters_of(build(norm_mlp, 2)),
        "method": mc.BezierFit(epochs=2, batch_size=8),
        "batches": rows(20),
        **changes,
    }
    return mc.fit_path(model, **arguments)


# ---------------------------------------------------------------- what stays


def test_model_and_endpoints_stay_also_when_they_ask_for_gradients() -> None:
    model, other = build(norm_mlp), build(norm_mlp, 2)
    states = [copy.deepcopy(m.state_dict()) for m in (model, other)]
    found = fit(model, a=dict(model.named_parameters()), b=dict(other.named_parameters()))
    for owner, state in zip((model, other), states, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in owner.state_dict().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in owner.parameters())
    assert not any(tensor.requires_grad for tensor in found.path.at(0.5).values())


def test_what_the_models_statistics_are_does_not_matter() -> None:
    model, spoilt = build(norm_mlp), build(norm_mlp)
    spoilt.get_buffer("1.running_mean").fill_(3.0)
    first, second = (fit(m).path.points[1] for m in (model, spoilt))
    assert all(torch.equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------- memory


@pytest.mark.filterwarnings("ignore")  # the profiler's own
@pytest.mark.parametrize(
    "method",
    [
        mc.BezierFit(epochs=1, lr=1e-6),
        mc.BezierFit(epochs=1, lr=1e-6, bends=3),
        mc.BezierFit(epochs=1, lr=1e-6, variant="authors"),
        mc.PolygonalFit(epochs=1, lr=1e-6, bends=3),
    ],
)
def test_a_step_holds_at_most_four_copies_of_the_model_per_control_point(method: Any) -> None:
    """Wide layers and two rows: activations are nothing beside weights, one layer is a tenth of them."""
    width, depth = 256, 10
    model = build(lambda: nn.Sequential(*(nn.Linear(width, width) for _ in range(depth))), dtype=torch.float32)
    size = sum(parameter.nbytes for parameter in model.parameters())
    a, b = (mc.parameters_of(model) for _ in range(2))
    data = [(torch.ones(2, width), torch.tensor([0, 1])) for _ in range(3)]
    copies = peak(lambda: mc.fit_path(model, a, b, method, data)) / size
    assert 3.0 <= copies / method.bends <= 4.0


# ---------------------------------------------------------------- errors


class Bare(nn.Module):
    """Weights that nothing can draw anew."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Parameter(torch.ones(FEATURES, dtype=torch.float64)) for _ in range(2))
        self.out = nn.Linear(FEATURES, 3).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x * self.scale + self.shift)


def bad_rows() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = rows(20)
    x[11, 0] = float("inf")
    return x, y


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"b": mc.parameters_of(build(mlp, 2))},
            ValueError,
            "a and b do not match: missing 1.weight, 1.bias, 3.weight, 3.bias; unexpected 2.weight, 2.bias",
        ),
        (
            {"a": mc.parameters_of(build(norm_mlp, 2, torch.float32))},
            ValueError,
            "a and b have different shapes or types: 0.weight float32[5, 4] against float64[5, 4], 0.bias",
        ),
        ({"batches": []}, ValueError, "path data holds no samples; at least one is needed"),
        ({"batches": (torch.zeros(4, 4), torch.zeros(4).long())}, ValueError, "path data holds only class 0; training"),
        ({"batches": iter([rows(4)])}, TypeError, "path data must be data that can be read more than once, got a list"),
        ({"batches": bad_rows()}, ValueError, "path data: row 11 holds NaN or infinity; remove or repair it"),
        (
            {"method": mc.CBFT()},
            TypeError,
            "fit_path needs a PathFit, such as BezierFit(...) or PolygonalFit(...), got CBFT",
        ),
    ],
)
def test_what_cannot_be_fitted(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        fit(build(norm_mlp), **changes)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_a_frozen_model_has_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match=r"^all 6 parameters of the model are frozen, so a path has nothing to fit"):
        fit(build(norm_mlp).requires_grad_(False))


def test_divergence_names_the_step() -> None:
    with pytest.raises(FloatingPointError, match=r"^training diverged: path is (nan|inf) at step \d of 6 \(epoch \d\)"):
        fit(build(norm_mlp), method=mc.BezierFit(epochs=2, batch_size=8, lr=1e300))


@pytest.mark.parametrize(
    ("model", "names"),
    [(Bare(), "scale, shift"), (Recurrent(), "out.parametrizations.weight.original0, out.parametrizations.weight.")],
)
def test_weights_that_cannot_be_drawn_are_listed(model: nn.Module, names: str) -> None:
    with pytest.raises(ValueError) as caught:
        draw_fresh_state(model, 0, "random start", "use variant='default'")
    assert str(caught.value).startswith(f"cannot draw fresh weights for {names}")
    assert str(caught.value).endswith("have no reset_parameters(); add it, or use variant='default'")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"bends": 0}, "bends must be a whole number greater than zero, got 0"),
        ({"decay": 0.0}, "decay must be a number greater than zero, got 0.0"),
        ({"decay_every": 1.5}, "decay_every must be a whole number greater than zero, got 1.5"),
        ({"epochs": 0}, "epochs must be a whole number greater than zero, got 0"),
        ({"variant": "author"}, "variant must be one of 'default', 'authors', got 'author'; did you mean 'authors'?"),
        (
            {"variant": "authors", "bends": 2},
            "variant='authors' is defined for one bend, got bends=2; use variant='default'",
        ),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        mc.BezierFit(**wrong)
    assert str(caught.value) == text
