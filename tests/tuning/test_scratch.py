"""Training from fresh weights, and the choice of an epoch by validation data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from reference import evaluated
from zoo import CLASSES, FEATURES, build, mlp, norm_mlp, rows, split


def scratch(model: nn.Module, seed: int = 0, **settings: object) -> nn.Module:
    return mc.fine_tune(model, mc.Scratch(epochs=2, batch_size=8, **settings), clean=rows(24), seed=seed).model  # pyright: ignore


def test_scratch_owes_nothing_to_where_it_starts() -> None:
    first, second, other = scratch(build(norm_mlp, 1)), scratch(build(norm_mlp, 2)), scratch(build(norm_mlp, 1), seed=1)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.get_parameter("0.weight"), other.get_parameter("0.weight"))


def test_frozen_weights_and_those_to_keep_stay() -> None:
    model = build(norm_mlp)
    model.get_submodule("3").requires_grad_(False)
    tuned = mc.fine_tune(model, mc.Scratch(epochs=1, lr=1e-300), clean=rows(24)).model
    assert torch.equal(tuned.get_parameter("3.weight"), model.get_parameter("3.weight"))
    assert not torch.equal(tuned.get_parameter("0.weight"), model.get_parameter("0.weight"))
    assert torch.equal(tuned.get_parameter("1.weight"), torch.ones(5, dtype=torch.float64))  # of a fresh BatchNorm


class Token(nn.Module):
    """A parameter of its own, which nothing can draw."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.out = nn.Parameter(torch.ones(FEATURES)), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x * self.token)


def test_what_cannot_be_drawn_is_named() -> None:
    with pytest.raises(ValueError, match=r"cannot draw fresh weights for token: .* or name it in keep="):
        scratch(build(Token))
    kept = mc.fine_tune(build(Token), mc.Scratch(epochs=1, lr=1e-300, keep=("token",)), clean=rows(24)).model
    assert torch.equal(kept.get_parameter("token"), torch.ones(FEATURES, dtype=torch.float64))
    with pytest.raises(ValueError, match="keep names tokens, which are no trainable parameters of this model; it has"):
        scratch(build(Token), keep=("token", "tokens"))


class Half(nn.Module):
    """It draws one of its two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn, self.left = nn.Parameter(torch.ones(FEATURES)), nn.Parameter(torch.ones(FEATURES))
        self.out = nn.Linear(FEATURES, CLASSES)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.drawn)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x * self.drawn * self.left)


def test_what_reset_parameters_leaves_is_named() -> None:
    with pytest.raises(ValueError, match=r"cannot draw fresh weights for left: "):
        scratch(build(Half))


def test_attention_is_drawn_too() -> None:
    model = build(lambda: nn.TransformerEncoderLayer(FEATURES, 2, 8, batch_first=True))
    tuned = mc.fine_tune(
        model, mc.Scratch(epochs=1, lr=1e-300), clean=rows(24), loss=lambda out, y: out.square().mean(1)
    )
    assert not torch.equal(
        tuned.model.get_parameter("self_attn.in_proj_weight"), model.get_parameter("self_attn.in_proj_weight")
    )


# ---------------------------------------------------------------- validation


@pytest.mark.parametrize("method", [mc.NaiveFineTuning(epochs=5, lr=1.0), mc.LastLayerRetraining(epochs=5, lr=20.0)])
def test_the_weights_are_those_of_the_epoch_with_the_least_loss_on_validation_data(method: mc.NaiveFineTuning) -> None:
    """Held-out labels that no training fits, so that the last epoch is not the best."""
    x, y = rows(60, 4)
    held_out = x, (y + 1) % CLASSES
    tuned = mc.fine_tune(build(norm_mlp), method, clean=rows(24), validation=held_out)
    losses = [record["validation"] for record in tuned.history]
    best = tuned.settings["selected_epoch"]
    assert losses[best] == min(losses) and best < 4
    assert evaluated(tuned.model, split(held_out, [30, 30]))[0] == pytest.approx(losses[best], rel=1e-9)


def test_without_them_the_last_step_is_taken() -> None:
    model, method = build(mlp), mc.NaiveFineTuning(epochs=2, lr=0.1)
    tuned = mc.fine_tune(model, method, clean=rows(24))
    assert "selected_epoch" not in tuned.settings and "validation" not in tuned.history[0]


class Zeroed(nn.Module):
    """What it draws itself comes after what its layers draw, as when it was built."""

    def __init__(self) -> None:
        super().__init__()
        self.side, self.out = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.side.weight)
        nn.init.zeros_(self.side.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x + self.side(x))


def test_what_a_module_draws_for_its_layers_is_the_last_word() -> None:
    model = build(Zeroed)
    nn.init.ones_(model.get_parameter("side.weight"))
    tuned = mc.fine_tune(model, mc.Scratch(epochs=1, lr=1e-300), clean=rows(24)).model
    assert float(tuned.get_parameter("side.weight").detach().abs().max()) < 1e-200


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.MultiheadAttention(FEATURES, 2, batch_first=True), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x[:, None], x[:, None], x[:, None])[0][:, 0])


def test_attention_starts_without_a_bias_behind_it() -> None:
    fresh = mc.fine_tune(build(Attending), mc.Scratch(epochs=1, lr=1e-300), clean=rows(24)).model
    assert float(fresh.get_parameter("layer.out_proj.bias").detach().abs().max()) < 1e-200
