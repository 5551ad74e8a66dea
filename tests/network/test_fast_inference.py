"""Folded, packed and reordered networks in float32, held against the plain one; fast paths that are wrong fall back."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
import mechconn.network._packed_layers as packed_layers
from mechconn.core import isolate_rng
from mechconn.network import Inference, Network
from zoo import build

with isolate_rng(0, "import"):
    import transformers

ROWS = 40  # enough for the fast path to be tried
WIDE = 192  # so that a linear map is worth packing
CLOSE = 1e-5
"""In shares of the largest output: float32 keeps 24 bits, and a dozen layers sum some hundred terms each."""


def images(rows: int = ROWS, channels: int = 3, side: int = 9) -> Tensor:
    return torch.randn(rows, channels, side, side, generator=torch.Generator().manual_seed(0))


class View(nn.Module):
    """Flattens by a view, which channels last do not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 49, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).view(len(x), -1))


class Tied(nn.Module):
    """One weight under two names, in layers of which one is followed by a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDE, WIDE, bias=False), nn.Linear(WIDE, WIDE)
        self.norm = nn.BatchNorm1d(WIDE)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.norm(self.first(x))))


class ReadsWeight(nn.Module):
    """Computes with a layer's weight outside the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDE, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) @ self.layer.weight.t()


class Branches(nn.Module):
    """Says which layout it got, as no network should."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last)
        return self.conv(x).mean((2, 3)) * (2.0 if last else 1.0)


def _double(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    return 2 * output


def doubled() -> nn.Module:
    """Hooks before and after a convolution."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    model[0].register_forward_hook(_double)
    model[0].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return model


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=12,
    )  # fmt: skip
    config.num_labels = 3
    return transformers.BertForSequenceClassification(config)


def conv(*given: Any, **named: Any) -> Callable[[], nn.Module]:
    width = given[1]
    return lambda: nn.Sequential(
        nn.Conv2d(*given, **named), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 5, 1), nn.Flatten()
    )


TOKENS = torch.randint(0, 50, (ROWS, 12), generator=torch.Generator().manual_seed(0))
WIDER = torch.randn(ROWS, WIDE, generator=torch.Generator().manual_seed(0))
FEATURES = torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(0))
FAST: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "vgg13": (lambda: mc.models.vgg13(seed=0), images(side=32)),  # of smaller ones outputs hardly vary
    "resnet18": (lambda: mc.models.resnet18(seed=0), images(side=16)),
    "small convnet": (lambda: mc.models.small_convnet(seed=0), images(side=28)),
    "mlp": (lambda: nn.Sequential(nn.Linear(6, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE), nn.Linear(WIDE, 3)), FEATURES),
    "no norm, a view": (View, images()),
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)), FEATURES),
    "stride and dilation": (conv(3, 7, (3, 2), stride=(2, 1), dilation=(1, 2), padding=(0, 1)), images()),
    "groups": (conv(6, 6, 3, groups=3), images(channels=6)),
    "by channel": (conv(6, 6, 5, groups=6, padding=2), images(channels=6)),
    "reflected": (conv(3, 4, 3, padding=1, padding_mode="reflect"), images()),
    "same": (conv(3, 4, 5, padding="same"), images()),
    "one channel": (conv(1, 1, 1), images(channels=1)),
    "one dimension": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(28, 3)), images()[:, :, 0]
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3), nn.Flatten()),
        images(),
    ),
    "called twice": (
        lambda: nn.Sequential(nn.Linear(6, WIDE), *[nn.Linear(WIDE, WIDE)] * 2, nn.BatchNorm1d(WIDE)), FEATURES
    ),
    "bert": (bert, TOKENS),
}  # fmt: skip
PLAIN: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "tied": (Tied, WIDER),
    "a weight read elsewhere": (ReadsWeight, WIDER),
    "a weight made of others": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(WIDE, WIDE)), WIDER),
    "hooks": (doubled, images()),
    "nothing to pack": (lambda: nn.Flatten(), FEATURES),
}


def outputs_of(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Inference]:
    """(the plain network's, those of the fast one, what made them)."""
    network = Network(model)
    inference = Inference(network)
    with torch.no_grad():
        params = network.load(mc.parameters_of(model))
        plain = network(dict(params), network.buffers, x)
        return plain, inference.at(params, network.buffers)(x), inference


@pytest.mark.parametrize("name", FAST)
def test_fast_outputs_are_the_plain_ones_up_to_rounding(name: str) -> None:
    factory, x = FAST[name]
    model = build(factory, dtype=torch.float32).eval()
    plain, fast, inference = outputs_of(model, x)
    assert float((plain - fast).abs().max()) <= CLOSE * float(plain.abs().max())
    assert (
        inference._plan.folds or inference._plan.packed
    )  # a witness of what was done; the surface shows no such thing
    assert all(hooks == 0 for hooks in (len(m._forward_hooks) for m in model.modules()))


@pytest.mark.parametrize("name", FAST)
def test_float64_and_few_rows_are_bit_for_bit_the_plain_network(name: str) -> None:
    factory, x = FAST[name]
    for dtype, rows in ((torch.float64, ROWS), (torch.float32, 32)):
        own = x[:rows].to(dtype) if x.is_floating_point() else x[:rows]
        plain, same, _ = outputs_of(build(factory, dtype=dtype).eval(), own)
        assert torch.equal(plain, same)


@pytest.mark.parametrize("name", PLAIN)
def test_what_must_not_be_folded_or_packed_is_left_alone(name: str) -> None:
    factory, x = PLAIN[name]
    plain, same, inference = outputs_of(build(factory, dtype=torch.float32).eval(), x)
    assert float((plain - same).abs().max()) <= CLOSE * float(plain.abs().max())
    assert not inference._plan.packed.keys() & {"first", "second", "layer", "", "0"} and not inference._plan.folds


def test_a_network_that_heeds_the_layout_keeps_its_own() -> None:
    plain, fast, inference = outputs_of(build(Branches, dtype=torch.float32).eval(), images())
    assert float((plain - fast).abs().max()) <= CLOSE * float(plain.abs().max())
    assert inference._plan.packed and not inference._plan.channels_last


def wrong(*given: Any) -> Tensor:
    return torch.full((1,), torch.nan)


def missing(*given: Any) -> Tensor:
    raise AttributeError("no such operation")


@pytest.mark.parametrize("operation", [wrong, missing])
def test_packing_that_is_wrong_or_not_there_is_done_without(
    operation: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reaches inside: no build of torch at hand lacks the operation."""
    names = ("_convolution_pointwise", "_linear_pointwise", "_reorder_linear_weight")
    operations = SimpleNamespace(mkldnn=SimpleNamespace(**dict.fromkeys(names, operation)))
    monkeypatch.setattr(packed_layers, "OPERATIONS", operations)
    model = build(lambda: mc.models.small_convnet(seed=0), dtype=torch.float32).eval()
    plain, fast, inference = outputs_of(model, images(side=28))
    assert inference._plan.folds and not inference._plan.packed
    assert float((plain - fast).abs().max()) <= CLOSE * float(plain.abs().max())


def test_a_scale_beyond_the_number_type_is_not_folded() -> None:
    """Folded, gamma = inf would make NaN of a zero weight, and of infinite outputs beside it."""
    factory = lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Softsign())  # noqa: E731
    model = build(factory, dtype=torch.float32).eval()
    network = Network(model)
    inference = Inference(network)
    sound = network.load(mc.parameters_of(model))
    with torch.no_grad():
        inference.at(dict(sound), network.buffers)(FEATURES)
        assert inference._plan.folds
        huge = {name: torch.full_like(t, torch.inf) if name == "1.weight" else t for name, t in sound.items()}
        plain = network(dict(huge), network.buffers, FEATURES)
        got = inference.at(huge, network.buffers)(FEATURES)
        assert torch.equal(got.nan_to_num(9.0), plain.nan_to_num(9.0))
        assert huge.keys() == sound.keys()  # not taken apart


def test_points_of_a_path_are_each_their_own() -> None:
    """Weights are packed once for a point and never kept for the next."""
    model, other = (mc.models.small_convnet(seed=seed).eval() for seed in (0, 1))
    network = Network(model)
    inference, x = Inference(network), images(side=28)
    for point in (model, other, model):
        with torch.no_grad():
            got = inference.at(network.load(mc.parameters_of(point)), network.buffers)(x)
            expected = point(x)
        assert float((expected - got).abs().max()) <= CLOSE * float(expected.abs().max())


def test_the_random_state_is_left_as_found_by_a_network_that_draws() -> None:
    class Noisy(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + torch.rand(len(input), 1)

    x, y = FEATURES, torch.arange(ROWS) % 3
    model = build(lambda: Noisy(6, 3), dtype=torch.float32).eval()
    with isolate_rng(0, "evaluate"), torch.no_grad():
        expected = nn.functional.cross_entropy(model(x), y).item()
    found = mc.measure_invariance(model, mc.Suite({"cue": (x, y)}, interventions=()))
    # The noise is that of the seed although trial passes were made before; the rest is rounding.
    assert found.loss["cue"] == pytest.approx(expected, rel=1e-5)


def test_a_view_is_no_error_in_reduced_precision() -> None:
    model = build(View, dtype=torch.float32).eval()
    suite = mc.Suite({"cue": (images(), torch.arange(ROWS) % 3)}, interventions=())
    exact, fast = (mc.measure_invariance(model, suite, compute=mc.Compute(precision=p)) for p in ("model", "auto"))
    assert fast.loss["cue"] == pytest.approx(exact.loss["cue"], abs=0.05)  # bfloat16 keeps 8 bits of a loss of 1 nat


@pytest.mark.parametrize("name", ["vgg13", "small convnet", "dropout", "no norm, a view"])
def test_statistics_in_float32_are_those_of_float64_up_to_rounding(name: str) -> None:
    factory, x = FAST[name]
    y, found = torch.arange(ROWS) % 3, []
    for dtype in (torch.float32, torch.float64):
        model = build(factory, dtype=dtype)
        path = mc.LinearPath(mc.parameters_of(model), mc.parameters_of(model))
        at = mc.model_at(model, path, 0.5, norm=mc.Reestimate((x.to(dtype), y)))
        found.append({name: buffer.double() for name, buffer in at.named_buffers()})
    for key, exact in found[1].items():
        torch.testing.assert_close(found[0][key], exact, rtol=1e-3, atol=1e-5)  # sums of ten thousand float32 products


def network_of(factory: Callable[[], nn.Module]) -> nn.Module:
    return build(factory, dtype=torch.float32).eval()
