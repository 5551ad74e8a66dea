"""Folding of BatchNorm and reduced precision, held against the plain network."""

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.network import Inference, Network, autocast_to, choose_reduced_type, read_buffers
from mechconn.network._inference import Fold, find_folds, fold_parameters
from mechconn.network._precision import make_small_maps_contiguous, prefers_contiguous_small_maps

CPU = torch.device("cpu")
HAS_FAST_BF16 = choose_reduced_type("auto", CPU) is not None
needs_fast_bf16 = pytest.mark.skipif(not HAS_FAST_BF16, reason="this processor has no fast bfloat16 products")


class Branching(nn.Module):
    """Convolutions whose outputs are read in every way that must, or must not, be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.plain_norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.biased, self.free_norm = nn.Conv2d(4, 4, 3, bias=True), nn.BatchNorm2d(4, affine=False)
        self.read_twice, self.twice_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.called_twice, self.again_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.batch_norm_only = nn.BatchNorm2d(4, track_running_stats=False)
        self.unnormalised = nn.Conv2d(4, 4, 1)
        self.hidden, self.hidden_norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.plain_norm(self.plain(x)))
        x = torch.relu(self.free_norm(self.biased(x)))
        y = self.read_twice(x)
        x = self.twice_norm(y) + y
        x = self.again_norm(self.called_twice(self.called_twice(x)))
        x = self.batch_norm_only(self.unnormalised(x))
        return self.head(torch.relu(self.hidden_norm(self.hidden(x.mean((2, 3))))))


@pytest.fixture
def branching() -> nn.Module:
    with isolate_rng(0, "branching"):
        model = Branching()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
                assert module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                if module.affine:
                    nn.init.normal_(module.weight)
                    nn.init.normal_(module.bias)
        return model


def images(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, 9, 9, generator=torch.Generator().manual_seed(seed))


def folds_of(model: nn.Module, x: Tensor) -> list[Fold]:
    return find_folds(Network(model), mc.parameters_of(model), read_buffers(model), x)


def test_only_what_a_batch_norm_alone_reads_is_folded(branching: nn.Module):
    assert folds_of(branching, images(2)) == [
        Fold("plain", "plain_norm"),
        Fold("biased", "free_norm"),
        Fold("hidden", "hidden_norm"),
    ]


def test_the_papers_networks_fold_every_norm():
    assert len(folds_of(mc.models.vgg13(seed=0), images(2))) == 10
    assert len(folds_of(mc.models.resnet18(seed=0), images(2))) == 20


def test_folded_parameters_give_the_same_function(branching: nn.Module):
    model = branching.double().eval()
    network = Network(model)
    folds = folds_of(model, images(2).double())
    point = mc.parameters_of(model)
    params = dict(fold_parameters(network, folds, point, read_buffers(model)))
    assert point == {}  # taken out one by one
    with isolate_rng(0):
        slow = nn.Conv2d(3, 4, 3).double()
    with torch.no_grad():
        slow.weight.copy_(params["plain.weight"])
        assert slow.bias is not None
        slow.bias.copy_(params["plain.bias"])
        x = images(2).double()
        expected = model.get_submodule("plain_norm")(model.get_submodule("plain")(x))
        assert torch.allclose(slow(x), expected, rtol=1e-12, atol=1e-12)
    assert "plain_norm.weight" not in params
    assert "twice_norm.weight" in params


def test_a_shared_weight_is_left_alone():
    with isolate_rng(0):
        tied = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    tied[2].weight = tied[0].weight
    assert folds_of(tied, torch.ones(2, 3)) == []


class Hidden(nn.Module):
    """Reads a convolution's output a second time where automatic differentiation does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return (self.norm(y) + y.detach()).mean((2, 3))


class Standardised(nn.Conv2d):
    """Makes its scale and its bias of no account, so a folded one would be lost."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.conv2d(input, self.weight / self.weight.norm(), None)


class Elsewhere(nn.Module):
    """Reads a convolution's weight a second time, outside the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).mean((2, 3)) + 0 * self.conv.weight.detach().mean()


class TwelveRows(nn.Sequential):
    """A network of one batch size."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.view(12, 3, 9, 9))


def scaled(layer: nn.Module) -> nn.Sequential:
    """With statistics that no fold may forget."""
    norm = nn.BatchNorm2d(3)
    norm.running_mean = torch.ones(3)
    return nn.Sequential(layer, norm, nn.Flatten(2))


UNFOLDED = {
    "its output is read unseen": Hidden,
    "its weight is read elsewhere": Elsewhere,
    "it changes its weight": lambda: scaled(Standardised(3, 3, 1)),
    "its weight is made of others": lambda: scaled(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))),
    "it takes no fewer rows": lambda: TwelveRows(*scaled(nn.Conv2d(3, 3, 1))),
}


@needs_fast_bf16
@pytest.mark.parametrize("why", UNFOLDED)
def test_where_a_fold_would_be_wrong_or_cannot_be_tried_the_plain_network_runs(why: str):
    with isolate_rng(0):
        model = UNFOLDED[why]().eval()
    network = Network(model, mc.Compute(precision="auto"))
    params = network.load(mc.parameters_of(model))
    plain = network(params, network.buffers, images(12))
    assert torch.equal(Inference(network).at(params, network.buffers)(images(12)), plain)


def test_what_is_refused_only_by_comparison_looks_foldable_in_the_graph():
    with isolate_rng(0):
        models = Hidden(), Elsewhere(), scaled(Standardised(3, 3, 1))
    assert [folds_of(model.eval(), images(2)) for model in models[:2]] == [[Fold("conv", "norm")]] * 2
    assert folds_of(models[2].eval(), images(2)) == []  # no class of torch's own is followed


@needs_fast_bf16
def test_reduced_precision_agrees_with_the_plain_network(branching: nn.Module):
    model = branching.eval()
    with torch.no_grad():
        expected = model(images(64))
    network = Network(model, mc.Compute(precision="auto"))
    inference = Inference(network)
    got = inference.at(network.load(mc.parameters_of(model)), network.buffers)(images(64))
    assert got.dtype == torch.float32
    # bfloat16 keeps 8 bits: each of five layers is off by about 2^-8 of its scale.
    assert float((got - expected).abs().max()) <= 0.1 * float(expected.abs().max())
    assert not torch.equal(got, expected)


@pytest.mark.parametrize("grad", [True, False])
def test_a_weight_written_in_place_inside_one_block_is_read_anew(grad: bool):
    """Autocast's cache would go on using the low-precision copy of the first point."""
    with isolate_rng(0):
        layer = nn.Linear(4, 4)
    x = torch.ones(1, 4)
    with torch.set_grad_enabled(grad), autocast_to(torch.bfloat16, CPU):
        first = layer(x).float()
        with torch.no_grad():
            layer.weight.mul_(3.0)
            layer.bias.mul_(3.0)
        second = layer(x).float()
    assert torch.allclose(second, 3 * first, rtol=0.05)


@needs_fast_bf16
def test_points_of_a_path_differ_in_reduced_precision_and_close_to_float32():
    task = mc.datasets.cue_task("digits", seed=0)
    model = mc.models.small_convnet(width=4, seed=0)
    other = mc.train(
        model, task.train.sample(128), mc.Training(epochs=1, batch_size=32), compute=mc.Compute(precision="auto")
    )
    assert other.settings["precision"] == "bfloat16"
    path = mc.LinearPath(mc.parameters_of(model), mc.parameters_of(other.model))
    few = mc.Suite({"cue": task.train.sample(200)}, reference="cue")
    exact, fast = (
        mc.evaluate_path(
            model, path, few, ts=3, norm=mc.Reestimate(task.clean.sample(200)), compute=mc.Compute(precision=precision)
        )
        for precision in ("model", "auto")
    )
    assert (exact.settings["precision"], fast.settings["precision"]) == ("float32", "bfloat16")
    assert len(set(fast.loss["cue"])) == 3
    # A loss of about 2 nats moves by a few units of bfloat16's 2^-8.
    assert fast.loss["cue"] == pytest.approx(exact.loss["cue"], abs=0.05)


@needs_fast_bf16
def test_inference_mode_of_the_caller_only_costs_the_folding(branching: nn.Module):
    suite = mc.Suite({"cue": (images(32), torch.arange(32) % 3)}, interventions=())
    model = branching.eval()
    with torch.inference_mode():
        inside = mc.measure_invariance(model, suite, compute=mc.Compute(precision="auto"))
    outside = mc.measure_invariance(model, suite, compute=mc.Compute(precision="auto"))
    # Both compute in bfloat16, one of them with folded weights: losses of about 1 nat agree to a few parts in 2^8.
    assert inside.loss["cue"] == pytest.approx(outside.loss["cue"], abs=0.05)


def test_small_maps_come_contiguous_and_nothing_else_is_touched():
    layer = nn.Identity()
    small, large = (torch.ones(2, 3, side, side).contiguous(memory_format=torch.channels_last) for side in (4, 5))
    (found, other) = make_small_maps_contiguous(layer, (small, 1)) or (None, None)
    assert found is not None and found.is_contiguous() and torch.equal(found, small) and other == 1
    assert make_small_maps_contiguous(layer, (large,)) is None
    assert make_small_maps_contiguous(layer, ()) is None
    assert make_small_maps_contiguous(layer, (torch.ones(3, 4, 4),)) is None


@needs_fast_bf16
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_of_the_users_weights_does_not_matter(layout: torch.memory_format):
    """Deep enough for small maps: each of the ten layers is off by about 2^-8 of its scale."""
    model = mc.models.vgg13(seed=0).to(memory_format=layout).eval()  # pyright: ignore[reportCallIssue]
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = Network(model, mc.Compute(precision="auto"))
    params = network.load(mc.parameters_of(model))
    with torch.no_grad():
        expected, got = model(x), Inference(network).at(dict(params), network.buffers)(x)
    assert float((got - expected).abs().max()) <= 0.1 * float(expected.abs().max())
    if prefers_contiguous_small_maps(CPU):
        assert all(tensor.is_contiguous() for tensor in params.values())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (3, 3)])
def test_taps_that_meet_padding_alone_have_no_gradient(shape: tuple[int, int], stride: int) -> None:
    """Against float32; the bfloat16 kernel leaves these gradients unset."""
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 8, *shape, generator=draw), torch.randn(16, 8, 3, 3, generator=draw)
    gradients = []
    for reduced in (torch.bfloat16, None):
        leaf = weight.clone().requires_grad_()
        with autocast_to(reduced, CPU):
            torch.nn.functional.conv2d(x, leaf, None, stride, 1).float().square().sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    found, exact = gradients
    assert torch.equal(found[exact == 0.0], exact[exact == 0.0])
    assert bool((exact == 0.0).any()) == (1 in shape)
    torch.testing.assert_close(found, exact, rtol=0.0, atol=0.02 * float(exact.abs().max()))  # bfloat16 rounds at 2^-9
