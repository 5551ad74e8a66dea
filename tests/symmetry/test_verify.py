"""What the proof by running must not miss, and must not refuse."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from symmetry.attention_nets import FEATURES, LanguageModel
from symmetry.check import built

H_ONLY = {"a.weight": ["h", 5], "a.bias": ["h"], "b.weight": [2, "h"]}


class Net(nn.Module):
    """Two linear layers and any function of them."""

    def __init__(self, function: Callable[..., Any], hidden: int = 4) -> None:
        super().__init__()
        self.a, self.b, self.gate = nn.Linear(5, hidden), nn.Linear(hidden, 2), nn.Parameter(torch.zeros(()))
        self.tiny = nn.Parameter(torch.full((hidden,), 1e-6))
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def verify(
    function: Callable[..., Any], axes: dict[str, list[str | int]] | None = None, x: Any = FEATURES, hidden: int = 4
) -> None:
    model = built(lambda: Net(function, hidden))
    mc.Symmetry.from_axes(model, axes or H_ONLY, example_input=x).verify(model)  # pyright: ignore[reportArgumentType]


WRONG: dict[str, Callable[..., Any]] = {
    "a gate at zero": lambda net, x: x.sum() + net.gate * (net.a(x).cumsum(1) @ net.b.weight.T),
    "a scale near zero": lambda net, x: x.mean() + net.b(torch.tanh(net.a(x)) * net.tiny),
    "cyclic only": lambda net, x: net.b(net.a(x) * net.a(x).roll(1, 1)),
    "a small output": lambda net, x: (1e9 * x.mean(), net.b(net.a(x).cumsum(1))),
    "whole numbers": lambda net, x: (net.b(net.a(x).cumsum(1)) * 1000).long(),
    "complex numbers": lambda net, x: torch.fft.fft(net.b(net.a(x).cumsum(1))),
    "one unit apart": lambda net, x: net.b(torch.cat([net.a(x)[:, :-1].tanh(), net.a(x)[:, -1:]], 1)),
    "a constant in float32": lambda net, x: net.b(net.a(x) * (1 + 1e-7 * torch.arange(net.a.out_features).float())),
}


@pytest.mark.parametrize("hidden", [2, 3, 7])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_symmetry_is_found_however_small_its_effect(case: str, hidden: int) -> None:
    if (case, hidden) == ("cyclic only", 2):
        pytest.skip("two units have no other permutation than the cyclic one")
    with pytest.raises(ValueError, match=r"permuting (group 'h'|all groups together) changes .* a\.weight axis 0"):
        verify(WRONG[case], hidden=hidden)


def test_a_wrong_symmetry_of_two_units_is_found_for_any_seed() -> None:
    model = built(lambda: Net(lambda net, x: net.b(net.a(x).cumsum(1)), 2))
    symmetry = mc.Symmetry.from_axes(model, H_ONLY, example_input=torch.zeros(2, 5))  # pyright: ignore
    for seed in range(12):
        with pytest.raises(ValueError, match="permuting group 'h'"):
            symmetry.verify(model, seed=seed)


def test_an_input_of_zeros_hides_nothing() -> None:
    axes: dict[str, list[str | int]] = {"a.weight": ["h", "inputs"], "a.bias": ["h"], "b.weight": [2, "h"]}
    with pytest.raises(ValueError, match=r"permuting group 'inputs' changes .* a\.weight axis 1"):
        verify(lambda net, x: net.b(net.a(x)), axes, torch.zeros(2, 5))


def test_what_happens_in_training_mode_only_is_found() -> None:
    def function(net: Net, x: Tensor) -> Tensor:
        return net.b(net.a(x).cumsum(1) if net.training else net.a(x))

    with pytest.raises(ValueError, match="outputs in training mode"):
        verify(function)


RIGHT: dict[str, Callable[..., Any]] = {
    "an input that is overwritten": lambda net, x: net.b(net.a(x.mul_(2)).relu_()),
    "infinite outputs": lambda net, x: net.b(net.a(x)).masked_fill(torch.tensor([True, False]), -torch.inf),
    "an output of rounding errors": lambda net, x: (net.b(net.a(x)), net.a(x).mean(1) - net.a(x).flip(1).mean(1)),
    "only float32 within": lambda net, x: net.b(net.a(x).float().softmax(1).to(x.dtype)),
    "an object with logits": lambda net, x: SimpleNamespace(logits=net.b(net.a(x)), hidden=net.a(x)),
    "dropout as a function": lambda net, x: net.b(nn.functional.dropout(net.a(x), 0.5, net.training)),
    "noise on the input": lambda net, x: net.b(net.a(x + torch.randn_like(x))),
    "whole numbers": lambda net, x: net.b(net.a(x)).argmax(1),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_symmetry_is_not_refused(case: str) -> None:
    x = FEATURES.clone()
    verify(RIGHT[case], x=x)
    assert torch.equal(x, FEATURES)
    model = built(lambda: Net(RIGHT[case]))
    symmetry = mc.symmetry_of(model, x)
    assert torch.equal(x, FEATURES)
    assert list(symmetry.sizes) == (["a"] if case != "an output of rounding errors" else [])


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda net, x: None, "Net returns no tensor but NoneType, so nothing can be proved"),
        (lambda net, x: SimpleNamespace(out=net.b(net.a(x))), "Net returns no tensor but SimpleNamespace"),
        (lambda net, x: net.b(net.a(x).half()), "Net could not be run in float64 in evaluation mode"),
        (lambda net, x: net.b(net.a(x)) / 0 * 0, "permuting group 'h' changes .* by a relative inf"),
    ],
)
def test_what_cannot_be_proved_is_refused(function: Callable[..., Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        verify(function)


def test_a_network_that_refuses_float64_is_proved_in_float32() -> None:
    model = built(lambda: Net(lambda m, x: m.b(torch.relu(m.a(x)).float())))
    symmetry = mc.symmetry_of(model, FEATURES)
    proof = symmetry.verify(model)
    assert (proof.dtype, proof.narrowest) == ("float32", "float32") and proof.error < 1e-6
    wrong = mc.Symmetry.from_axes(model, {"a.weight": ["h", 5]}, example_input=FEATURES)
    with pytest.raises(ValueError, match="permuting group 'h' changes"):
        wrong.verify(model)


def test_a_network_that_returns_nan_in_float64_alone_is_proved_in_float32() -> None:
    """As CANINE of transformers 5.23 does: 0 in float32 times the smallest number of the scores' type."""

    def forward(m: Any, x: Tensor) -> Tensor:
        hidden = m.a(x).relu()
        return m.b(hidden + (x[:, :1].abs() * 0).float() * torch.finfo(hidden.dtype).min)

    model = built(lambda: Net(forward))
    assert bool(model.double()(FEATURES.double()).isnan().all())
    symmetry = mc.symmetry_of(model.float(), FEATURES)
    assert symmetry.verify(model).dtype == "float32" and list(symmetry.sizes) == ["a"]


def test_a_buffer_that_is_added_to_the_outputs_hides_no_unit() -> None:
    model = built(lambda: Net(lambda m, x: m.b(m.a(x).relu()) + m.shift))
    model.register_buffer("shift", torch.arange(float(len(model.get_parameter("b.weight")))))
    symmetry = mc.symmetry_of(model, FEATURES)
    assert symmetry.coverage == 1.0 and symmetry.frozen["b.weight", 0] == "it belongs to the model's output"


def test_one_row_is_too_few_for_batch_statistics() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    symmetry = mc.symmetry_of(model, FEATURES[:1])
    with pytest.raises(ValueError, match=r"in training mode .* pass an example that it accepts, of two rows or more"):
        symmetry.verify(model)
    symmetry.verify(model, FEATURES)


# ---------------------------------------------------------------- what the finder must say


class Branching(Net):
    def forward(self, x: Tensor) -> Any:
        return self.b(self.a(x)) if self.a(x).sum() > 0 else self.a(x)


UNREADABLE: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "a wrong example": (
        lambda: nn.Linear(5, 4),
        torch.ones(2, 3),
        r"Linear rejects the example input \(RuntimeError: mat1",
    ),
    "a wrong argument": (lambda: nn.Linear(5, 4), {"y": FEATURES}, r"Linear rejects the example input \(TypeError"),
    "a branch on values": (lambda: Branching(abs), FEATURES, r"cannot read .* Branching .*Symmetry\.from_axes"),
    "a shape from values": (
        lambda: Net(lambda net, x: net.b(net.a(x)[net.a(x)[:, 0] > 0]).sum()),
        FEATURES,
        r"the shape of what aten\.\S+ returns depends on values\); its forward pass must not branch on values",
    ),
    "an unknown object": (
        lambda: Net(lambda net, x: SimpleNamespace(out=net.b(net.a(x)))),
        FEATURES,
        "cannot read the operations of Net",
    ),
    "a lazy module": (lambda: nn.Sequential(nn.LazyLinear(3)), FEATURES, r"parameter 0\.weight is not initialised"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_said_once_and_clearly(case: str) -> None:
    factory, x, text = UNREADABLE[case]
    with pytest.raises(ValueError, match=text) as caught:
        mc.symmetry_of(built(factory), x)
    assert "\n" not in str(caught.value)


SEEN: dict[str, tuple[Callable[..., Any], list[int]]] = {
    "a condition": (
        lambda net, x: torch.cond(x.sum() > 0, lambda y: net.b(net.a(y)), lambda y: net.b(net.a(y)) * 2, (x,)),
        [],
    ),
    "no gradients inside": (lambda net, x: net.b(net.a(x) * no_grad(net.a, x)), [4]),
    "another type of number": (lambda net, x: net.b(net.a(x).view(torch.int16).view(torch.float32)), []),
    "repeats without an axis": (lambda net, x: net.b(net.a(x).repeat_interleave(2).view(3, 8)[:, ::2]), []),
    "an empty slice": (lambda net, x: net.b(torch.cat([net.a(x), net.a(x)[:, 2:2]], 1)), [4]),
    "a number from a tensor": (lambda net, x: net.b(net.a(x) * net.a(x).mean().item()), [4]),
    "elementwise extremes": (lambda net, x: net.b(torch.max(net.a(x), net.a(x).sign() * 0.1)), [4]),
    "a lookup by units": (
        lambda net, x: net.b(net.a(x)) + (x.index_select(0, net.a(x).argmax(0)) * torch.arange(4.0)[:, None]).sum(),
        [],
    ),
    "the type of another": (lambda net, x: net.b(net.a(x).to(x[0, :4])), [4]),
}


def no_grad(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(x).sigmoid()


@pytest.mark.parametrize("case", SEEN)
@pytest.mark.filterwarnings("ignore")
def test_unusual_operations_are_read_or_frozen(case: str) -> None:
    function, sizes = SEEN[case]
    model = built(lambda: Net(function))
    del model.gate, model.tiny
    symmetry = mc.symmetry_of(model, FEATURES)
    assert sorted(symmetry.sizes.values()) == sizes
    if case != "another type of number":  # it is float32 alone
        symmetry.verify(model)


def test_halves_of_one_unit_are_frozen_with_a_reason() -> None:
    model = built(lambda: Net(lambda net, x: torch.mul(*net.a(x).chunk(2, 1)), 2))
    assert mc.symmetry_of(model, FEATURES).frozen["a.weight", 0] == "a place that is read by its number"


def test_weights_in_one_memory_move_unless_they_overlap() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)))
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    nn.utils.vector_to_parameters(flat, model.parameters())  # views of one vector, side by side
    assert list(mc.symmetry_of(model, FEATURES).sizes.values()) == [4]
    first, _, last = model.children()
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    last.weight = nn.Parameter(first.weight.detach()[:2, :4])
    symmetry = mc.symmetry_of(model, FEATURES)
    assert symmetry.sizes == {}
    assert "shares its memory" in symmetry.frozen["0.weight", 0]


def test_a_model_is_found_and_proved_without_a_trace() -> None:
    model = built(LanguageModel).train()
    for number, (parameter, mode) in enumerate(zip(model.parameters(), [True, False] * 20, strict=False)):
        parameter.requires_grad_(mode)
        parameter.grad = torch.full_like(parameter, float(number))
    ids = torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    flags = [p.requires_grad for p in model.parameters()]
    symmetry = mc.symmetry_of(model, ids)
    symmetry.verify(model)
    wrong = symmetry.with_axes({"norm.weight": ["6"]})
    for call in (lambda: wrong.verify(model), lambda: mc.symmetry_of(model, ids.float())):
        with pytest.raises(ValueError, match=r"changes the model's outputs|rejects"):
            call()
    assert model.training and all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == flags
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        assert grad is not None and parameter.grad is not None and torch.equal(parameter.grad, grad)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
