"""Folding gains into linear maps: the same function, closed forms, and what cannot be folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from symmetry.check import built, generic, largest_change_under
from symmetry.hub_models import GPT2, IDS, TEXT, VISION, images, mixture
from symmetry.recurrent_nets import Net

hf: Any = transformers
X = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
WIDTH = 8


class Block(nn.Module):
    """Attention with queries, keys and values in one matrix, and two linear maps, each behind a norm."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)

    def attend(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class PostBlock(Block):
    """The norms stand behind the sums."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class OwnNorm(nn.Module):
    """RMSNorm by hand with a gain of 1 + w, as Gemma has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w, self.small = nn.Parameter(torch.zeros(width)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.small) * (1 + self.w)


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


def transformer(norm: Callable[[int], nn.Module], block: type[Block] = Block) -> nn.Module:
    """Two blocks between linear maps, with no two parameters alike."""
    return generic(
        built(lambda: nn.Sequential(nn.Linear(5, WIDTH), block(norm), block(norm), norm(WIDTH), nn.Linear(WIDTH, 3)))
    )


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer norm": nn.LayerNorm,
    "layer norm without biases": lambda width: nn.LayerNorm(width, bias=False),
    "layer norm without gains": lambda width: nn.LayerNorm(width, elementwise_affine=False),
    "rms norm": nn.RMSNorm,
    "rms norm without an epsilon of its own": lambda width: nn.RMSNorm(width, eps=None),
    "1 + w by hand": OwnNorm,
}


@pytest.mark.parametrize("case", NORMS)
def test_a_folded_network_is_the_same_function_and_its_stream_can_be_rotated(case: str) -> None:
    model = transformer(NORMS[case])
    assert not [action for action in mc.symmetry_of(model, X).actions if action.kind == "orthogonal"]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = mc.fold(model, X)
    assert folded.error < 1e-12 and not folded.left and len(folded.norms) == 5
    assert folded.centred == (("0",) if "layer norm" in case else ()) or folded.centred == ("layer0",)
    for x in (X, X[:1, :2], 3 * X):
        torch.testing.assert_close(folded.model(x), model(x), rtol=1e-10, atol=1e-12)
    symmetry = mc.symmetry_of(folded.model, X)
    (rotation,) = [action for action in symmetry.actions if action.kind == "orthogonal"]
    assert len(rotation.members) == 15
    assert largest_change_under(folded.model, X, symmetry, [symmetry.random(1)]) <= 1e-9
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_gain_and_bias_are_in_the_weights_that_read_them() -> None:
    """W' = W g and c' = c + W b; what writes the stream is centred, and so is what reads it."""
    model = transformer(nn.LayerNorm)
    folded = mc.fold(model, X).model
    centring = torch.eye(WIDTH).double() - 1 / WIDTH
    old, new = dict(model.named_parameters()), dict(folded.named_parameters())
    torch.testing.assert_close(new["0.weight"], centring @ old["0.weight"])
    torch.testing.assert_close(new["1.out.bias"], centring @ old["1.out.bias"])
    torch.testing.assert_close(new["1.qkv.weight"], old["1.qkv.weight"] * old["1.norm1.weight"] @ centring)
    torch.testing.assert_close(new["1.qkv.bias"], old["1.qkv.weight"] @ old["1.norm1.bias"])
    torch.testing.assert_close(new["4.bias"], old["4.bias"] + old["4.weight"] @ old["3.bias"])
    assert not [name for name in new if "norm" in name] and isinstance(folded.get_submodule("3"), nn.RMSNorm)


def test_gains_of_zero_and_below_are_folded() -> None:
    model = transformer(nn.LayerNorm)
    with torch.no_grad():
        model.get_parameter("1.norm1.weight")[:4] = torch.tensor([0.0, -1.0, -2.0, 0.0])
    folded = mc.fold(model, X)
    assert folded.error < 1e-12
    assert bool((folded.model.get_parameter("1.qkv.weight").abs() > 0).any())


def test_a_gain_behind_a_linear_map_goes_into_the_map() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.write(x)
        return m.head(m.norm(x + m.scale(m.down(F.gelu(m.up(m.norm0(x)))))))

    model = generic(
        built(
            lambda: Net(
                forward,
                write=nn.Linear(5, WIDTH),
                norm0=nn.LayerNorm(WIDTH),
                up=nn.Linear(WIDTH, 7),
                down=nn.Linear(7, WIDTH),
                scale=LayerScale(WIDTH),
                norm=nn.LayerNorm(WIDTH),
                head=nn.Linear(WIDTH, 3),
            )
        )
    )
    folded = mc.fold(model, X)
    assert folded.norms["scale"] == ("down.weight", "down.bias") and folded.error < 1e-12
    assert "orthogonal" in {action.kind for action in mc.symmetry_of(folded.model, X).actions}


def test_a_small_epsilon_is_kept() -> None:
    """The module's own, not the smallest that agrees with it: 1e-12 counts where the stream is tiny."""
    model = generic(built(lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8, eps=1e-12), nn.Linear(8, 3))))
    with torch.no_grad():
        model.get_parameter("0.bias").zero_()
    x = 1e-6 * X
    torch.testing.assert_close(mc.fold(model, X).model(x), model(x))


def test_a_folded_network_may_be_folded_again() -> None:
    folded = mc.fold(mc.fold(transformer(nn.LayerNorm), X).model, X)
    assert folded.error < 1e-12 and "3: into nothing, it had no gain" in str(folded)


def test_a_norm_of_two_names_is_folded_under_both() -> None:
    def make() -> nn.Module:
        block = Block(nn.RMSNorm)
        block.norm2 = block.norm1
        block.again = nn.ModuleList([block.norm1])
        return nn.Sequential(nn.Linear(5, WIDTH), block, nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 3))

    folded = mc.fold(generic(built(make)), X)
    assert folded.error < 1e-12 and len(folded.norms) == 2
    assert not [name for name, _ in folded.model.named_parameters() if "norm" in name or "again" in name]


def test_types_frozen_parameters_and_modes_are_kept() -> None:
    model = transformer(nn.LayerNorm).to(torch.bfloat16).train()
    model.get_parameter("0.weight").requires_grad_(False)
    folded = mc.fold(model, X.bfloat16())
    assert {p.dtype for p in folded.model.parameters()} == {torch.bfloat16} and folded.error < 0.05
    assert not folded.model.get_parameter("0.weight").requires_grad
    assert model.training and not folded.model.training


def test_an_encoder_layer_of_torch_does_not_take_its_fast_path() -> None:
    def make() -> nn.Module:
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 12, dropout=0.0, norm_first=True, batch_first=True)
        return nn.Sequential(nn.Linear(5, WIDTH), layer, nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3))

    model = generic(built(make))
    folded = mc.fold(model, X)
    with torch.no_grad():
        torch.testing.assert_close(folded.model(X), model(X))
    assert len(folded.norms) == 3


def gpt2(**settings: Any) -> nn.Module:
    return hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, **settings))


HUB: dict[str, tuple[Callable[[], nn.Module], Any, int]] = {
    "GPT-2, head of its own": (lambda: gpt2(tie_word_embeddings=False), IDS, 5),
    "LLaMA": (
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(num_key_value_heads=1, tie_word_embeddings=False, **TEXT)),
        IDS,
        5,
    ),
    "Mixtral, which does not run in float64": (lambda: mixture("Mixtral", num_local_experts=4), IDS, 3),
    "ViT": (lambda: hf.ViTForImageClassification(hf.ViTConfig(**VISION)), {"pixel_values": images(32)}, 5),
    "DINOv2, LayerScale": (
        lambda: hf.Dinov2ForImageClassification(hf.Dinov2Config(**VISION)),
        {"pixel_values": images(32)},
        9,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HUB)
def test_networks_of_the_hub_are_folded(case: str) -> None:
    factory, x, norms = HUB[case]
    model = generic(built(factory)).float()
    folded = mc.fold(model, x)
    assert len(folded.norms) == norms and folded.error < 1e-6 and not folded.left
    symmetry = mc.symmetry_of(folded.model, x)
    assert [len(a.units) for a in symmetry.actions if a.kind == "orthogonal"] == [1]
    symmetry.verify(folded.model)


def test_norms_of_queries_and_keys_keep_their_gains() -> None:
    sizes = {**TEXT, "num_hidden_layers": 1}
    config = hf.Qwen3Config(num_key_value_heads=1, head_dim=8, tie_word_embeddings=False, **sizes)
    model = generic(built(lambda: hf.Qwen3ForCausalLM(config)))
    folded = mc.fold(model, IDS)
    assert sorted(folded.left) == [f"model.layers.0.self_attn.{side}_norm" for side in "kq"]
    assert all("rotary embeddings leave a complex scaling" in why for why in folded.left.values())
    assert len(folded.norms) == 3 and len(folded.notes) == 2


def test_a_tied_head_is_refused_and_untied_where_it_is_asked_for() -> None:
    model = generic(built(gpt2))
    with pytest.raises(ValueError, match=r"lm_head\.weight is tied to transformer\.wte\.weight.*pass untie=True"):
        mc.fold(model, IDS)
    folded = mc.fold(model, IDS, untie=True)
    assert folded.error < 1e-6 and model.lm_head.weight is model.transformer.wte.weight  # pyright: ignore
    assert folded.model.lm_head.weight is not folded.model.transformer.wte.weight  # pyright: ignore


def padded(m: Any, x: Tensor) -> Tensor:
    """The norm's bias is added at each token, and not at those that the convolution pads with."""
    return m.conv(m.norm(m.write(x)).transpose(1, 2)).mean(-1)


def shifted(m: Any, x: Tensor) -> Tensor:
    return m.head(m.norm(m.write(x)) + m.table)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "post-norm": (
        lambda: transformer(nn.LayerNorm, PostBlock),
        "1.norm1 keeps its gain, since linear maps alone do not",
    ),
    "no norm": (
        lambda: generic(built(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)))),
        "Sequential has no module that normalises its last axis or multiplies it by a gain, so that there is nothing",
    ),
    "the input is the stream": (
        lambda: generic(built(lambda: nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 3)))),
        "0 keeps its gain, since it belongs to the model's input",
    ),
    "an activation behind the norm": (
        lambda: generic(built(lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3)))),
        "1 keeps its gain, since linear maps alone do not read what it returns",
    ),
    "a bias before padding": (
        lambda: generic(
            built(
                lambda: Net(
                    padded, write=nn.Linear(5, 4), norm=nn.LayerNorm(4), conv=nn.Conv1d(4, 3, 3, padding=1, bias=True)
                )
            )
        ),
        "cannot fold the bias of norm into conv.weight",
    ),
    "a table behind the norm": (
        lambda: generic(
            built(
                lambda: Net(
                    shifted,
                    write=nn.Linear(5, 4),
                    norm=nn.LayerNorm(4),
                    table=nn.Parameter(torch.randn(4)),
                    head=nn.Linear(4, 3),
                )
            )
        ),
        "norm keeps its gain, since linear maps alone do not read what it returns",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_folded_is_refused(case: str) -> None:
    factory, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        mc.fold(factory(), X)


class Bounded(OwnNorm):
    """What the norm reads has a bound."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clamp(-20, 20))


class Lengthwise(OwnNorm):
    """Another function of long inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / (2 if x.dim() == 3 and x.shape[1] > 6 else 1)


@pytest.mark.parametrize("norm", [Bounded, Lengthwise])
def test_a_norm_that_is_one_on_the_example_alone_is_not_folded(norm: Callable[[int], nn.Module]) -> None:
    with pytest.raises(ValueError, match="has no module that normalises its last axis"):
        mc.fold(transformer(norm), X)


class SomeLengths(OwnNorm):
    """Another function of inputs that are a little longer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / (2 if x.dim() == 3 and 6 < x.shape[1] < 20 else 1)


def test_a_folded_network_is_compared_at_other_sizes() -> None:
    with pytest.raises(ValueError, match="folded copy of Sequential changes its outputs, at inputs of shape"):
        mc.fold(transformer(SomeLengths), X)


def test_hooks_of_norms_are_cleared_first() -> None:
    model = transformer(nn.LayerNorm)
    name = next(name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm))
    model.get_submodule(name).register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"clear them, model\..*_forward_hooks\.clear\(\)"):
        mc.fold(model, X)
    model.get_submodule(name)._forward_hooks.clear()
    assert mc.fold(model, X).error < 1e-9


@pytest.mark.parametrize("norm", ["layer norm", "rms norm"])
def test_matching_undoes_every_kind_on_a_folded_network(norm: str) -> None:
    model = mc.fold(transformer(NORMS[norm]), X).model
    symmetry = mc.symmetry_of(model, X)
    moved = mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), symmetry.random(seed=3)))
    found = mc.align(model, moved, mc.WeightMatching(), symmetry)
    assert found.removed == "permutations, linear maps and orthogonal maps"
    assert found.distance_before > 1 and found.distance_after < 1e-6


def test_wrong_arguments_are_refused_in_one_line() -> None:
    model = transformer(nn.RMSNorm)
    with pytest.raises(TypeError, match="of keyword arguments, got NoneType; pass one batch"):
        mc.fold(model, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="untie must be a bool, got str; pass untie=True or untie=False"):
        mc.fold(model, X, untie="no")  # pyright: ignore[reportArgumentType]
    assert mc.fold(model, X, untie=True).error < 1e-12
