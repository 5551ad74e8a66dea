"""Balancing: networks that differ by rescalings of their units become one, and the function stays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from symmetry.check import built

Scaled = Mapping[str, tuple[int, float]]
"""Tensor -> the axis along which its units lie, and the power of the scale that multiplies them."""

EQUAL = 1e-9
"""Scales are solved for to a relative 1e-12; a chain of layers adds up what is left."""

PAIR: Scaled = {"0.weight": (0, 1), "0.bias": (0, 1), "2.weight": (1, -1)}
ROWS = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
TEXTS = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def disturbed(factory: Callable[[], nn.Module]) -> nn.Module:
    """A float64 model in evaluation mode of which no parameter or statistic has a special value."""
    model, draw = built(factory).double(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.5 * torch.rand(tensor.shape, generator=draw, dtype=torch.float64))
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=draw, dtype=torch.float64))
    return model


def rescaled(model: nn.Module, members: Scaled, scales: Tensor) -> nn.Module:
    """A copy with units multiplied; a flattened feature map reads each unit at several places."""
    result = copy.deepcopy(model)
    for name, (axis, exponent) in members.items():
        tensor = result.state_dict()[name]
        factors = scales.pow(exponent).repeat_interleave(tensor.shape[axis] // len(scales))
        tensor.mul_(factors.view([-1 if i == axis else 1 for i in range(tensor.dim())]))
    return result


def draw_scales(size: int, seed: int) -> Tensor:
    return 2 ** (2 * torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1)


def difference(a: nn.Module, b: nn.Module) -> float:
    """The largest |x - y| / max |x| over parameters and statistics."""
    pairs = [(x.double(), y.double()) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)]
    return max(float((x - y).abs().max() / x.abs().max().clamp_min(1e-300)) for x, y in pairs)


def function_changes(a: nn.Module, b: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        expected, got = a(x), b(x)
    return float((expected - got).abs().max() / expected.abs().max())


class Residual(nn.Module):
    """Two blocks with BatchNorm that add to one stream of ReLU units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4)
        self.a = nn.Sequential(nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, 1))
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head((x + self.norm(self.a(x))).relu().mean((2, 3)))


class Transformer(nn.Module):
    """One block before whose attention and MLP stand layer norms; GELU in the MLP."""

    def __init__(self, activation: str = "gelu") -> None:
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, activation=activation, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x)).mean(1))


def two_layers(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), activation(), nn.Linear(4, 2))


def deep() -> nn.Module:
    body = [layer for _ in range(4) for layer in (nn.Linear(7, 7), nn.ReLU())]
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), *body, nn.Linear(7, 2))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.LeakyReLU(), nn.AvgPool2d(2),
        nn.Dropout(0.5), nn.Flatten(), nn.Linear(6, 5), nn.PReLU(5), nn.Linear(5, 3),
    )  # fmt: skip


def flattened() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def normalised() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Flatten(), nn.Linear(5 * 16, 3),
    )  # fmt: skip


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 3, 4), nn.Flatten(),
    )  # fmt: skip


def by_the_batch(norm: Callable[[int], nn.Module]) -> Callable[[], nn.Module]:
    """A normalisation that has no running statistics."""
    return lambda: nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


class Standardised(nn.Module):
    """A convolution whose weights are standardised, filter by filter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.ones(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, 4, -1)
        standard = F.batch_norm(flat, None, None, weight=self.gain, training=True).reshape(self.weight.shape)
        return self.head(F.conv2d(x, standard).relu().mean((2, 3)))


BEFORE = {"0.weight": (0, 1), "0.bias": (0, 1), "1.running_mean": (0, 1), "1.running_var": (0, 2)}
RESCALED: dict[str, tuple[Callable[[], nn.Module], Tensor, list[tuple[int, Scaled]]]] = {
    "two layers": (two_layers, ROWS, [(4, PAIR)]),
    "deep": (
        deep,
        ROWS,
        [(7, {f"{i}.weight": (0, 1), f"{i}.bias": (0, 1), f"{i + 2}.weight": (1, -1)}) for i in range(0, 10, 2)],
    ),
    "convolutions, pooling, dropout": (
        convolutions,
        IMAGES,
        [
            (4, {"0.weight": (0, 1), "0.bias": (0, 1), "3.weight": (1, -1)}),
            (6, {"3.weight": (0, 1), "3.bias": (0, 1), "8.weight": (1, -1)}),
            (5, {"8.weight": (0, 1), "8.bias": (0, 1), "10.weight": (1, -1)}),
        ],
    ),
    "a flattened feature map": (
        flattened,
        IMAGES,
        [(4, {"0.weight": (0, 1), "0.bias": (0, 1), "3.weight": (1, -1)})],
    ),
    "behind BatchNorm": (
        normalised,
        IMAGES,
        [
            (4, {"1.weight": (0, 1), "1.bias": (0, 1), "3.weight": (1, -1)}),
            (5, {"4.weight": (0, 1), "4.bias": (0, 1), "7.weight": (1, -1)}),
        ],
    ),
    "a residual stream": (
        Residual,
        IMAGES,
        [
            (
                6,
                {
                    "stem.weight": (0, 1), "stem.bias": (0, 1), "norm.weight": (0, 1), "norm.bias": (0, 1),
                    "a.0.weight": (1, -1), "head.weight": (1, -1),
                },
            ),
            (5, {"a.1.weight": (0, 1), "a.1.bias": (0, 1), "a.3.weight": (1, -1)}),
        ],
    ),
    "gains of layer norms": (
        Transformer,
        TEXTS,
        [
            (
                8,
                {
                    "block.norm1.weight": (0, 1), "block.norm1.bias": (0, 1), "block.self_attn.in_proj_weight": (1, -1),
                },
            ),
            (8, {"block.norm2.weight": (0, 1), "block.norm2.bias": (0, 1), "block.linear1.weight": (1, -1)}),
        ],
    ),
}  # fmt: skip
NORMALISED: dict[str, tuple[Callable[[], nn.Module], Tensor, list[tuple[int, Scaled]]]] = {
    "before BatchNorm without running statistics": (
        by_the_batch(lambda units: nn.BatchNorm2d(units, track_running_stats=False)),
        IMAGES,
        [
            (4, {"0.weight": (0, 1), "0.bias": (0, 1)}),
            (4, {"1.weight": (0, 1), "1.bias": (0, 1), "4.weight": (1, -1)}),
        ],
    ),
    "before InstanceNorm": (by_the_batch(nn.InstanceNorm2d), IMAGES, [(4, {"0.weight": (0, 1), "0.bias": (0, 1)})]),
    "before weight standardisation": (Standardised, IMAGES, [(4, {"weight": (0, 1)})]),
    "before BatchNorm": (normalised, IMAGES, [(4, BEFORE)]),
    "before BatchNorm, depthwise": (
        depthwise,
        IMAGES,
        [
            (4, BEFORE),
            (4, {"1.weight": (0, 1), "1.bias": (0, 1), "3.weight": (0, -1)}),
            (
                4,
                {"3.weight": (0, 1), "3.bias": (0, 1), "4.running_mean": (0, 1), "4.running_var": (0, 2)},
            ),
        ],
    ),
}


def balanced(model: nn.Module, example: Tensor) -> mc.Balanced:
    return mc.balance(model, mc.symmetry_of(model, example))


@pytest.mark.parametrize("case", [*RESCALED, *NORMALISED])
def test_rescaled_copies_become_one_network(case: str) -> None:
    factory, x, scalings = (RESCALED | NORMALISED)[case]
    model = disturbed(factory)
    copied = model
    for number, (size, members) in enumerate(scalings):
        copied = rescaled(copied, members, (100 if number == 0 else 1) * draw_scales(size, number))
    # the copy is the same function, but for what its epsilon of 1e-5 does where the weights before a norm change
    assert function_changes(model, copied, x) < (1e-12 if case in RESCALED else 1e-3) and difference(model, copied) > 1
    first, second = balanced(model, x), balanced(copied, x)
    assert difference(first.model, second.model) < EQUAL
    assert function_changes(model, first.model, x) < (1e-12 if case == "two layers" else 1e-3)
    assert first.error == pytest.approx(function_changes(model, first.model, x), rel=0.5, abs=1e-14)
    again = balanced(first.model, x)
    assert difference(first.model, again.model) < EQUAL
    assert [group.largest for group in again.groups] == pytest.approx([1.0] * len(again.groups), abs=EQUAL)


def test_two_layers_get_equal_norms() -> None:
    """|incoming weights and bias| = |outgoing weights|: by hand, unit by unit, the geometric mean of the two."""
    model = disturbed(two_layers)
    found = balanced(model, ROWS)
    incoming, bias, outgoing = (t.detach() for t in list(model.parameters())[:3])
    into = (incoming.square().sum(1) + bias.square()).sqrt()
    out = outgoing.norm(dim=0)
    scales = (out / into).sqrt()
    expected = rescaled(model, PAIR, scales)
    assert difference(expected, found.model) < 1e-12
    (group,) = found.groups
    assert (group.group, group.kind, group.exact, group.units, group.held) == ("layer0", "homogeneous", True, 4, 0)
    assert group.members == (("0.weight", 0, 1.0), ("0.bias", 0, 1.0), ("2.weight", 1, -1.0))
    assert group.largest == pytest.approx(float(torch.maximum(scales, 1 / scales).max()), rel=1e-12)
    assert not found.left and found.error < 1e-14 and not found.notes


def test_units_before_a_normalisation_get_norm_1() -> None:
    model = disturbed(normalised)
    found = balanced(model, IMAGES)
    state = found.model.state_dict()
    for conv in ("0", "3"):
        norms = state[f"{conv}.weight"].square().sum((1, 2, 3)) + state[f"{conv}.bias"].square()
        assert torch.allclose(norms, torch.ones_like(norms), rtol=1e-9)
    kinds = [(group.group, group.kind, group.exact) for group in found.groups]
    both = [("homogeneous", True), ("before normalisation", False)]
    assert kinds == [(f"layer{layer}", *kind) for kind in both for layer in (0, 3)]
    assert 0 < found.error < 1e-3


def test_networks_that_normalise_are_invariant_in_training_mode_too() -> None:
    model = disturbed(normalised)
    found = balanced(model, IMAGES).model
    assert function_changes(copy.deepcopy(model).train(), copy.deepcopy(found).train(), IMAGES) < 1e-3


def test_a_rescaled_copy_trains_alike_only_once_both_are_balanced() -> None:
    """Gradient descent depends on the scales, which is what balancing is for."""
    model = disturbed(two_layers)
    copied = rescaled(model, PAIR, 4 * draw_scales(4, 1))
    labels = torch.arange(6) % 2

    def train(network: nn.Module) -> nn.Module:
        trained = copy.deepcopy(network)
        descent = torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.9)
        for _ in range(30):
            descent.zero_grad()
            F.cross_entropy(trained(ROWS), labels).backward()
            descent.step()
        return trained

    assert function_changes(train(model), train(copied), ROWS) > 1e-2
    first, second = (train(balanced(network, ROWS).model) for network in (model, copied))
    assert difference(first, second) < 1e-8  # 30 steps with momentum amplify what rounding left


# ---------------------------------------------------------------- what is left alone


class Shifted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.3).relu()


@pytest.mark.parametrize(
    "activation", [nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.ReLU6, nn.Hardswish, nn.Hardshrink, Shifted]
)
def test_what_is_not_homogeneous_keeps_its_scales(activation: Callable[[], nn.Module]) -> None:
    model = disturbed(lambda: two_layers(activation))
    found = balanced(model, ROWS)
    assert not found.groups and found.error == 0 and difference(model, found.model) == 0
    assert found.left == {"layer0": mc.symmetry_of(model, ROWS).without["layer0:scale"]}
    if activation in (nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.Softplus):
        assert found.left["layer0"] == f"{activation.__name__.lower()} is not positively homogeneous"


def test_softmax_keeps_its_scales() -> None:
    model = disturbed(lambda: two_layers(lambda: nn.Softmax(1)))
    assert not balanced(model, ROWS).groups


def test_a_transformer_is_balanced_but_for_its_mlp() -> None:
    model = disturbed(Transformer)
    found = balanced(model, TEXTS)
    assert list(found.left) == ["block.linear1"] and "gelu" in found.left["block.linear1"]
    assert found.error < 1e-12 and function_changes(model, found.model, TEXTS) < 1e-12
    assert {group.kind for group in found.groups} == {"homogeneous"}
    attention = [g.members for g in found.groups if "self_attn.out_proj.weight" in str(g.members)]
    assert attention == [
        (
            ("block.self_attn.in_proj_weight", 0, 1.0),
            ("block.self_attn.in_proj_bias", 0, 1.0),
            ("block.self_attn.out_proj.weight", 1, -1.0),
        )
    ]
    assert not balanced(disturbed(lambda: Transformer("relu")), TEXTS).left


def test_values_and_outputs_of_attention_are_rescaled_head_by_head() -> None:
    model = disturbed(Transformer)
    scales, copied = draw_scales(8, 3), copy.deepcopy(model)
    with torch.no_grad():
        attention = copied.get_submodule("block.self_attn")
        attention.get_parameter("in_proj_weight")[16:].mul_(scales[:, None])
        attention.get_parameter("in_proj_bias")[16:].mul_(scales)
        attention.get_parameter("out_proj.weight").div_(scales)
    assert function_changes(model, copied, TEXTS) < 1e-12
    assert difference(balanced(model, TEXTS).model, balanced(copied, TEXTS).model) < EQUAL


def test_frozen_parameters_keep_their_scales() -> None:
    model = disturbed(two_layers)
    model.get_submodule("2").requires_grad_(False)
    found = balanced(model, ROWS)
    assert found.left == {"layer0": "2.weight is frozen (requires_grad is False)"}
    assert difference(model, found.model) == 0


class Tied(nn.Module):
    """Reads units by the weights that make them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T + self.bias).relu() @ self.weight


def test_tied_weights_keep_their_scales() -> None:
    model = disturbed(Tied)
    found = balanced(model, ROWS)
    assert not found.groups and len(found.left) == 1 and difference(model, found.model) == 0


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_parametrised_weights_stay_what_they_are(norm: Callable[[nn.Module], nn.Module]) -> None:
    model = disturbed(
        lambda: nn.Sequential(norm(nn.Linear(5, 4)), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    )
    found = balanced(model, ROWS)
    assert function_changes(model, found.model, ROWS) < 1e-12
    assert list(found.model.state_dict()) == list(model.state_dict())
    # w = g v / |v| has a scale of v, which is of no effect, beside the one of g and the bias
    of_v = [group for group in found.groups if "original1" in str(group.members)]
    is_weight_norm = norm is nn.utils.parametrizations.weight_norm
    others = [group.group for group in found.groups if group not in of_v]
    assert others == (["layer0", "layer2"] if is_weight_norm else ["layer2"]) and len(of_v) == is_weight_norm
    assert all(group.kind == "before normalisation" and group.exact for group in of_v)


def test_a_symmetry_that_is_wrong_rescales_nothing() -> None:
    """Its bias is missing, so that no scale leaves the function."""
    model = disturbed(two_layers)
    symmetry = mc.Symmetry.from_axes(model, {"0.weight": ["h", 5], "2.weight": [2, "h"]}, example_input=ROWS)
    found = mc.balance(model, symmetry)
    assert not found.groups and list(found.left) == ["h"] and difference(model, found.model) == 0


def test_units_of_norm_zero_keep_their_scales() -> None:
    model = disturbed(two_layers)
    with torch.no_grad():
        model.get_parameter("2.weight")[:, 1] = 0.0
        model.get_parameter("0.weight")[2] = 0.0
        model.get_parameter("0.bias")[2] = 0.0
    found = balanced(model, ROWS).model
    assert torch.equal(found.get_parameter("0.weight")[1], model.get_parameter("0.weight")[1])
    assert torch.equal(found.get_parameter("2.weight")[:, 2], model.get_parameter("2.weight")[:, 2])
    assert function_changes(model, found, ROWS) < 1e-14


def test_units_whose_variance_is_not_large_against_epsilon_are_held() -> None:
    model = disturbed(normalised)
    model.state_dict()["1.running_var"][2] = 1e-4
    found = balanced(model, IMAGES)
    (group,) = [g for g in found.groups if g.group == "layer0" and not g.exact]
    assert (group.held, group.units) == (1, 4) and found.error < 1e-3
    assert torch.equal(found.model.state_dict()["1.running_var"][2], model.state_dict()["1.running_var"][2])


class WideNorm(nn.BatchNorm2d):
    """Its epsilon stands in its forward pass, where nobody can look it up."""

    def forward(self, input: Tensor) -> Tensor:
        statistics = self.running_mean, self.running_var
        return F.batch_norm(input, *statistics, self.weight, self.bias, self.training, 0.1, eps=0.3)


def test_rescalings_that_change_the_outputs_too_much_are_left_out_and_named() -> None:
    def build() -> nn.Module:
        layers = list(normalised().children())
        return nn.Sequential(layers[0], WideNorm(4, eps=0.0), *layers[2:])

    found = balanced(disturbed(build), IMAGES)
    (note,) = found.notes
    assert note.startswith("2 rescalings were left out, the first of layer0: they change the outputs by more than")
    assert found.error < 1e-12 and len(found.groups) == 2 and all(group.exact for group in found.groups)
    assert found.findings == found.notes and note in str(found)


# ---------------------------------------------------------------- how it is called


def test_types_stay_and_rounding_is_in_the_error() -> None:
    model = built(two_layers).bfloat16()
    found = balanced(model, ROWS.bfloat16())
    assert {t.dtype for t in found.model.parameters()} == {torch.bfloat16}
    assert 1e-5 < found.error < 2e-2  # a bfloat16 number has 8 significant bits
    assert not found.model.training


def test_the_symmetry_is_found_where_only_an_example_is_given() -> None:
    model = disturbed(two_layers)
    assert difference(mc.balance(model, example_input=ROWS).model, balanced(model, ROWS).model) == 0
    loaded = mc.Symmetry.from_dict(mc.symmetry_of(model, ROWS).to_dict())
    with pytest.raises(ValueError, match=r"needs an example input, .*; pass example_input=, or symmetry=") as caught:
        mc.balance(model, loaded)
    assert "\n" not in str(caught.value)
    assert difference(mc.balance(model, loaded, example_input=ROWS).model, balanced(model, ROWS).model) == 0


def test_wrong_input_is_refused_in_one_line() -> None:
    model = disturbed(two_layers)
    calls: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (ValueError, "got none; pass example_input=", lambda: mc.balance(model)),
        (ValueError, "tensors", lambda: mc.balance(disturbed(deep), mc.symmetry_of(model, ROWS))),
        (ValueError, "rejects the example input", lambda: mc.balance(model, example_input=IMAGES)),
    ]
    for kind, text, call in calls:
        with pytest.raises(kind, match=text) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("unchecked")
def test_a_symmetry_is_passed_as_the_error_writes_it() -> None:
    model = disturbed(two_layers)
    with pytest.raises(TypeError, match=r"pass symmetry_of\(model, example_input\)"):
        mc.balance(model, "layer0")  # pyright: ignore[reportArgumentType]
    assert mc.balance(model, mc.symmetry_of(model, ROWS)).groups


def test_what_was_done_is_said() -> None:
    text = str(balanced(disturbed(Transformer), TEXTS))
    assert "left alone, block.linear1: gelu is not positively homogeneous" in text
    assert text.startswith("4 rescalings of 32 units in all; the outputs change by a relative ")


def test_the_digits_network_is_balanced() -> None:
    """As trained by the library: five convolutions, each before BatchNorm and ReLU."""
    model = mc.models.small_convnet(num_classes=10, seed=0).eval()
    found = balanced(model, IMAGES.float())
    assert len(found.groups) == 10 and not found.left and found.error < 1e-3
    assert function_changes(model, found.model, IMAGES.float()) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("factory", [mc.models.vgg13, mc.models.resnet18])
def test_the_networks_of_the_paper_are_balanced(factory: Callable[..., nn.Module]) -> None:
    model, x = (
        built(lambda: factory(num_classes=10)),
        torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
    )
    found = balanced(model, x)
    assert not found.left and found.error < 1e-3
    groups = {group.group for group in found.groups}
    assert groups == {group.group for group in found.groups if not group.exact} == set(mc.symmetry_of(model, x).sizes)


def grouped(last: int = 2) -> nn.Module:
    body = [nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, *([nn.Linear(8 * 64, last)] if last else []))


def test_units_of_grouped_convolutions_are_rescaled_each_where_blocks_may_be_permuted() -> None:
    model = disturbed(grouped)
    copied = copy.deepcopy(model)
    scales = draw_scales(8, 1)
    with torch.no_grad():
        copied.get_parameter("0.weight").mul_(scales[:, None, None, None])
        copied.get_parameter("0.bias").mul_(scales)
        copied.get_parameter("2.weight").div_(scales.view(2, 1, 4).expand(2, 4, 4).reshape(8, 4, 1, 1))
    assert function_changes(model, copied, IMAGES) < 1e-12
    first, second = balanced(model, IMAGES), balanced(copied, IMAGES)
    assert difference(first.model, second.model) < EQUAL and not first.notes
    found = balanced(disturbed(lambda: grouped(last=0)), IMAGES)
    assert "grouped convolutions (2) whose blocks keep their order are rescaled alike" in " ".join(found.notes)


def test_a_symmetry_without_scales_says_so_and_what_to_do() -> None:
    model = disturbed(two_layers)
    axes = {"0.weight": ["h", 5], "0.bias": ["h"], "2.weight": [2, "h"]}
    bare = mc.Symmetry.from_axes(model, axes, example_input=ROWS)
    (note,) = mc.balance(model, bare).notes
    assert "symmetry.with_actions([Action(...)])" in note
    members = [["0.weight", ["h", 5], 1], ["0.bias", ["h"], 1], ["2.weight", [2, "h"], -1]]
    written = bare.with_actions([mc.symmetry.Action("h:scale", "scale", ["h"], members)])  # pyright: ignore
    assert difference(mc.balance(model, written).model, balanced(model, ROWS).model) == 0
