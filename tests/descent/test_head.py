"""Where a classifier's last linear layer sits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.descent import find_head, record_head_calls
from mechconn.models import small_convnet
from zoo import CLASSES, FEATURES, Named, Recurrent, Shared, Tied, build, images, mlp, norm_mlp, rows


class Odd(nn.Module):
    """Layers in an order that does not tell their use: a gate, an unused layer at the end, a scaled output."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, CLASSES)
        self.gate = nn.Linear(FEATURES, 5)
        self.body = nn.Linear(FEATURES, 5)
        self.unused = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        features = self.body(x) * torch.sigmoid(self.gate(x))
        return (self.head(features) / 0.07).log_softmax(1).clone()


class SideBySide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(FEATURES, CLASSES), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


class Tokens(nn.Module):
    """A head on every token, averaged afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(1, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.embed(x[..., None]))).mean(1)


@pytest.mark.parametrize(
    ("factory", "head"), [(mlp, "2"), (norm_mlp, "3"), (Shared, "out"), (Tied, "out"), (Odd, "head"), (Tokens, "head")]
)
def test_the_layer_that_the_output_comes_from(factory: Callable[[], nn.Module], head: str) -> None:
    model = build(factory)
    assert find_head(model, rows(4)[0]) == head
    model.requires_grad_(False)
    with torch.no_grad():
        assert find_head(model, rows(4)[0]) == head


def test_heads_of_other_inputs_and_outputs() -> None:
    x = rows(4)[0]
    assert find_head(build(Named), {"values": x, "scale": x[:, 0]}) == "body.2"
    model = build(lambda: small_convnet(CLASSES, 2))
    assert find_head(model, images(3)[0]) == "classifier"
    parametrised = build(Recurrent)  # its weight is computed, but the layer is a linear one
    assert find_head(parametrised, x) == "out"


def test_a_head_may_be_named() -> None:
    assert find_head(build(Odd), (), named="gate") == "gate"
    with pytest.raises(ValueError) as caught:
        find_head(build(Odd), (), named="fc")
    assert str(caught.value) == (
        "head='fc' is not a linear layer of this model; its linear layers are: head, gate, body, unused"
    )


def test_two_heads_side_by_side_are_named() -> None:
    with pytest.raises(ValueError) as caught:
        find_head(build(SideBySide), rows(4)[0])
    assert str(caught.value) in {
        f"cannot tell which linear layer is the head ({a}, {b} lead to it side by side); name it, as in "
        f"head='{b}' (linear layers of this model: left, right), or use a method that trains the whole network (CBFT "
        "with invariance=False)"
        for a, b in (("left", "right"), ("right", "left"))
    }


def test_a_model_without_linear_layers() -> None:
    model = build(lambda: nn.Sequential(nn.Conv2d(3, CLASSES, 6), nn.Flatten()))
    with pytest.raises(ValueError) as caught:
        find_head(model, images(2)[0])
    assert str(caught.value) == (
        "cannot tell which linear layer is the head (no linear layer leads to the output); use a method that trains "
        "the whole network (CBFT with invariance=False)"
    )


def test_the_model_is_left_as_it_was() -> None:
    model = build(norm_mlp).train()
    model.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find_head(model, rows(4)[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(part.training and not part._forward_hooks for part in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_features_are_what_the_head_receives() -> None:
    model, (x, _) = build(mlp), rows(6)
    assert isinstance(model, nn.Sequential)
    with record_head_calls(model, "2") as received:
        outputs = model(x), model(2 * x)
    assert len(received.calls) == 2
    assert torch.equal(received.features(0, outputs[0]), model[:2](x))
    assert torch.equal(received.features(1, outputs[1]), model[:2](2 * x))
    model(x)
    assert len(received.calls) == 2


class LastToken(nn.Module):
    """A head on every token; the output is that of each row's last token, as in GPT-2's classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.score = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor, last: Tensor) -> Tensor:
        return self.score(self.body(x))[torch.arange(len(x)), last]


def test_features_of_a_head_on_tokens_are_those_of_the_token_that_gave_the_output() -> None:
    model, last = build(LastToken), torch.tensor([3, 0, 2, 1])
    x = rows(16)[0].view(4, 4, FEATURES)
    with record_head_calls(model, "score") as received:
        outputs = model(x, last)
    found = received.features(0, outputs)
    assert torch.equal(found, model.get_submodule("body")(x)[torch.arange(4), last])
    # One product of rows or of all tokens: sums in another order.
    torch.testing.assert_close(model.get_submodule("score")(found), outputs, rtol=1e-12, atol=1e-12)


def test_features_are_no_longer_read_after_an_error() -> None:
    model = build(mlp)
    with pytest.raises(RuntimeError), record_head_calls(model, "2"):
        model(torch.zeros(2, FEATURES + 1, dtype=torch.float64))
    assert not any(part._forward_hooks for part in model.modules())


class Keyword(nn.Module):
    """Its head is called by keyword; another linear layer is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aside = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=self.body(x))


@pytest.mark.parametrize("method", [mc.CBFT(epochs=2), mc.LastLayerRetraining(epochs=1), mc.DFR(draws=1)])
def test_a_head_may_be_called_by_keyword_and_must_be_called(method: Any) -> None:
    model = build(Keyword)
    data: dict[str, Any] = {"clean": rows(20), "cued": rows(20, 3)}
    found, named = (mc.fine_tune(model, method, **data, head=head).model for head in (None, "head"))
    assert torch.equal(found.get_parameter("head.weight"), named.get_parameter("head.weight"))
    with pytest.raises(ValueError, match="the head 'aside' receives nothing when the model runs; name the layer that"):
        mc.fine_tune(model, method, **data, head="aside")


def test_weights_of_a_parametrised_head_are_no_ones_to_set() -> None:
    model = build(mlp)
    nn.utils.parametrizations.weight_norm(model.get_submodule("2"))
    with pytest.raises(ValueError, match="but these are computed by a parametrization"):
        mc.fine_tune(model, mc.LastLayerRetraining(epochs=1), clean=rows(20))
