"""Networks for which a faster evaluation would give other numbers, or none: they are evaluated as they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import as_data, isolate_rng
from mechconn.losses import cross_entropy
from mechconn.network import Inference, Network, compute_outcomes, heeds_mask, read_buffers
from zoo import build

ROWS = 40  # enough for the fast path to be tried
CLOSE = 1e-5
"""In shares of the largest output: float32 keeps 24 bits, and a few layers sum some hundred terms each."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network_of(factory: Callable[[], nn.Module]) -> nn.Module:
    return build(factory, dtype=torch.float32).eval()


def evaluate(inference: Inference, model: nn.Module, x: Any) -> Tensor:
    """Outputs at the model's own point, a point of the inference's network."""
    forward = inference.at(inference.network.load(mc.parameters_of(model)), read_buffers(model))
    with torch.no_grad():
        return forward(x)


def is_close(got: Tensor, expected: Tensor) -> bool:
    return float((got - expected).abs().max()) <= CLOSE * float(expected.abs().max())


@torch.no_grad()
def make_informative(model: nn.Module) -> None:
    """Weights that no wrong fold could be right at."""
    with isolate_rng(1):
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + (0.3 if "running_var" in name else -0.5))


@pytest.mark.parametrize("nested", [False, True])
def test_encoders_whose_fused_kernels_read_the_weights_themselves(nested: bool) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(256, 4, 512, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False) if nested else layer
            self.head = nn.Linear(256, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x).mean(1))

    model, x = network_of(Encoder), draw(ROWS, 4, 256)
    with torch.no_grad():
        assert is_close(evaluate(Inference(Network(model)), model, x), model(x))


class ScaledNorm(nn.BatchNorm2d):
    """A norm with a further factor, which is 1 at first."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * self.factor


class ScaledConv(nn.Conv2d):
    """A convolution with a further factor behind its bias, which is 1 at first."""

    def __init__(self) -> None:
        super().__init__(3, 8, 3)
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * self.factor


class Exponential(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()

    def right_inverse(self, x: Tensor) -> Tensor:
        return x.log()


class SecondReader(nn.Module):
    """Reads the convolution a second time, unseen; its head is zero at first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        gate = out.detach().mean((2, 3), keepdim=True).sigmoid()
        return self.head((self.norm(out) * gate).mean((2, 3)))


def with_exponential() -> nn.Module:
    norm = nn.BatchNorm2d(8)
    nn.utils.parametrize.register_parametrization(norm, "weight", Exponential())
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.Flatten())


def with_hook() -> nn.Module:
    """A hook on the norm that does nothing at first: it doubles values above 3 alone."""
    norm = nn.BatchNorm2d(8)
    norm.register_forward_pre_hook(lambda _, args: (args[0] + args[0].clamp(min=3.0) - 3.0,))
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.Flatten())


SECOND: dict[str, Callable[[], nn.Module]] = {
    "a norm's subclass": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), ScaledNorm(8), nn.Flatten()),
    "a convolution's subclass": lambda: nn.Sequential(ScaledConv(), nn.BatchNorm2d(8), nn.Flatten()),
    "a parametrized norm": with_exponential,
    "a hook": with_hook,
    "a zero head": SecondReader,
}


@pytest.mark.parametrize("name", SECOND)
def test_what_shows_at_the_second_point_alone(name: str) -> None:
    """At the first point every wrong fold is right: norms are fresh, factors are 1, a head is zero."""
    model, x = network_of(SECOND[name]), draw(ROWS, 3, 8, 8)
    inference = Inference(Network(model))
    for _ in range(2):
        with torch.no_grad():
            assert is_close(evaluate(inference, model, x), model(x))
        make_informative(model)


def test_a_head_that_is_zero_at_first_is_fast_at_the_next_point() -> None:
    model = network_of(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 3)))
    with torch.no_grad():
        model[-1].weight.zero_()  # pyright: ignore
    inference, x = Inference(Network(model)), draw(ROWS, 3, 8, 8)
    for folded in (False, True):
        with torch.no_grad():
            assert is_close(evaluate(inference, model, x), model(x))
        assert bool(inference._plan.folds) is folded  # a witness: the surface does not show what was folded
        make_informative(model)


class Branches(nn.Module):
    """Leaves out the norm where the images are bright."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        return self.head((self.norm(out) if x.mean() < 1 else out).mean((2, 3)))


def test_rows_of_another_kind_in_another_split() -> None:
    model, x, y = network_of(Branches), draw(ROWS, 3, 8, 8), torch.arange(ROWS) % 3
    make_informative(model)
    suite = mc.Suite({"dark": (x, y), "bright": (x + 3, y)}, reference="dark", interventions=())
    with torch.no_grad():
        expected = [nn.functional.cross_entropy(model(part), y).item() for part in (x, x + 3)]
    assert list(mc.measure_invariance(model, suite).loss.values()) == pytest.approx(expected, rel=1e-5)


def test_images_of_two_sizes_of_which_one_allows_no_channels_last() -> None:
    class View(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).view(len(x), -1)[:, :4]

    model = network_of(View)
    network = Network(model)
    inference = Inference(network)
    batches = [draw(ROWS, 3, side, side) for side in (1, 2, 3, 1)]
    forward = inference.at(network.load(mc.parameters_of(model)), network.buffers)
    with torch.no_grad():
        assert all(is_close(forward(x), model(x)) for x in batches)
    two = network_of(lambda: nn.Sequential(View(), nn.BatchNorm1d(4)))
    loader = [(x, torch.arange(ROWS) % 3) for x in batches]
    path = mc.LinearPath(mc.parameters_of(two), mc.parameters_of(two))
    exact = mc.model_at(two.double(), path_of(two), 0.5, norm=mc.Reestimate([(x.double(), y) for x, y in loader]))
    found = mc.model_at(two.float(), path, 0.5, norm=mc.Reestimate(loader))
    for name, buffer in found.named_buffers():
        torch.testing.assert_close(buffer.double(), dict(exact.named_buffers())[name].double(), rtol=1e-4, atol=1e-6)


def path_of(model: nn.Module) -> mc.LinearPath:
    return mc.LinearPath(mc.parameters_of(model), mc.parameters_of(model))


class Remembers(nn.Module):
    """Moves a buffer in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 256)
        self.average: Tensor
        self.register_buffer("average", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        self.average.mul_(0.9).add_(0.1 * x.mean(0))
        return self.layer(x - self.average)


class OwnNoise(nn.Module):
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.noise = nn.Linear(8, 256), torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.randn(x.shape, generator=self.noise))


@pytest.mark.parametrize("factory", [Remembers, OwnNoise])
def test_a_point_evaluated_twice_has_the_same_bits_and_those_of_a_plain_pass(factory: Callable[[], nn.Module]) -> None:
    rows = 400
    model = build(factory, dtype=torch.float32)
    model.eval()
    x, y = draw(rows, 8) + torch.linspace(0, 3, rows)[:, None], torch.arange(rows) % 3
    network = Network(model)
    inference = Inference(network)
    found = [
        compute_outcomes(
            inference.at(network.load(mc.parameters_of(model)), read_buffers(model)),
            network, as_data("data", (x, y)), "data", cross_entropy,
        ).loss
        for _ in range(2)
    ]  # fmt: skip
    assert torch.equal(*found)
    with torch.no_grad():  # the batches of the pass: the first has 125 rows, and the others fit one
        outputs = torch.cat([model(x[:125]), model(x[125:])])
    expected = nn.functional.cross_entropy(outputs, y, reduction="none").double()
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)  # float32 rounds at 1e-7 of outputs of 5


class Shortens(nn.Module):
    """As BigBird: for good another function once a text is short."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer, self.head = nn.Embedding(50, 512), nn.Linear(512, 512), nn.Linear(512, 3)
        self.full = False

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        self.full = self.full or input_ids.shape[1] < 12
        out = self.layer(self.words(input_ids))
        out, weight = out if self.full else out.relu(), attention_mask[..., None].float()
        return self.head((out * weight).sum(1) / weight.sum(1))


def test_a_trial_of_padding_leaves_the_fast_network_as_it_was() -> None:
    ids = torch.randint(1, 50, (ROWS, 30), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(30) < 20).expand(ROWS, 30).long()
    texts = {"input_ids": ids * mask, "attention_mask": mask}
    model = network_of(Shortens)
    network = Network(model)
    inference = Inference(network)
    forward = inference.at(network.load(mc.parameters_of(model)), network.buffers)
    with torch.no_grad():
        expected = model(**texts)
        heeds_mask(network, forward)(texts)  # of a row or two: no reason to leave weights unpacked
        assert is_close(forward(texts), expected) and inference._plan.packed
        network.heeds_mask = None
        heeds_mask(network, forward)(texts)
        assert is_close(forward(texts), expected)


SEEN: list[int] = []


class Counts(nn.Module):
    """Notes how many rows come at a time."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(len(x))
        return self.inner(x)


class SequenceFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.RNN(4, 256), nn.Linear(256, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.transpose(0, 1))[0][-1])


def batch_norm_of_the_batch() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 3))


ROWS_AT_ONCE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, list[int]]] = {
    # 64 channels of 32 x 32 in float32 are 256 KiB a row, and 8 MiB would be 32 rows; no fewer than 64 are taken.
    "wide": (
        lambda: nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.Flatten(), nn.Linear(65536, 3)),
        (3, 32, 32), 253, [125, 64, 64],
    ),
    "small": (lambda: nn.Linear(6, 3), (6,), 2500, [125, 2048, 327]),
    "one batch": (lambda: nn.Linear(6, 3), (6,), 126, [126]),
    "sequence first": (SequenceFirst, (64, 4), 253, [125, 128]),
    "norms of the batch": (batch_norm_of_the_batch, (6,), 300, [125, 125, 50]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS_AT_ONCE)
def test_rows_at_a_time_follow_what_layers_write_for_the_first_batch(name: str) -> None:
    factory, shape, rows, expected = ROWS_AT_ONCE[name]
    SEEN.clear()
    model = Counts(build(factory, dtype=torch.float32)).eval()
    suite = mc.Suite({"cue": (draw(rows, *shape), torch.arange(rows) % 3)}, interventions=())
    mc.measure_invariance(model, suite)
    assert [count for count in SEEN if count > 8] == expected  # trials have 8 rows
    SEEN.clear()
    mc.measure_invariance(model, suite, compute=mc.Compute(batch_size=100))
    assert max(SEEN) == 100
