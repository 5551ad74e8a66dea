"""Weights that hooks make of others before a forward pass: weight_norm, spectral_norm and prune, old style."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path as FilePath

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import mechconn as mc
from mechconn.paths import Path
from zoo import CLASSES, FEATURES, build, rows

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
HIDDEN = 6


def around(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(HIDDEN, CLASSES))


def weight_normed() -> nn.Module:
    return around(nn.utils.weight_norm(nn.Linear(FEATURES, HIDDEN)))


def spectral_normed() -> nn.Module:
    return around(nn.utils.spectral_norm(nn.Linear(FEATURES, HIDDEN)))


def half_of(tensor: Tensor) -> Tensor:
    return (torch.arange(tensor.numel()) % 2).view(tensor.shape).to(tensor.dtype)


def pruned() -> nn.Module:
    model = around(nn.Linear(FEATURES, HIDDEN))
    for layer, name in ((model.get_submodule("0"), "weight"), (model.get_submodule("2"), "bias")):
        prune.custom_from_mask(layer, name, half_of(getattr(layer, name)))
    return model


def pruned_twice() -> nn.Module:
    """Two rounds of pruning on one weight."""
    model = pruned()
    layer = model.get_submodule("0")
    prune.custom_from_mask(layer, "weight", 1 - half_of(layer.weight)[:, :1].expand(-1, FEATURES))  # pyright: ignore
    return model


def pruned_direction() -> nn.Module:
    """A hook that reads what a hook after it makes."""
    model = weight_normed()
    layer = model.get_submodule("0")
    prune.custom_from_mask(layer, "weight_v", half_of(layer.weight_v))  # pyright: ignore
    return model


class Recurrent(nn.Module):
    """The layer keeps a second list of its weights, and with it what the hook makes."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.utils.weight_norm(nn.LSTM(FEATURES, HIDDEN, batch_first=True), "weight_hh_l0")
        self.out = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(torch.stack([x, -x], 1))[0][:, -1])


class Halved:
    """A hook of the user's."""

    def __call__(self, layer: nn.Module, _: object) -> None:
        layer.weight = 0.5 * layer.whole  # pyright: ignore


def hooked_by_hand() -> nn.Module:
    layer = nn.Linear(FEATURES, HIDDEN)
    layer.register_parameter("whole", layer.get_parameter("weight"))
    del layer._parameters["weight"]
    layer.weight = 0.5 * layer.get_parameter("whole")  # pyright: ignore[reportAttributeAccessIssue]
    layer.register_forward_pre_hook(Halved())
    return around(layer)


class Noting(nn.Module):
    """No weights are made, but activations of the last passes are kept, with their graph."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(x))
        self.seen.append(hidden)
        self.last = {"hidden": (hidden,)}
        return self.head(hidden)


KINDS: list[Callable[[], nn.Module]] = [
    weight_normed, spectral_normed, pruned, pruned_twice, pruned_direction, Recurrent, hooked_by_hand, Noting,
]  # fmt: skip
DATA = rows(24, dtype=torch.float32)
SUITE = mc.Suite({"cue": DATA, "flipped": (DATA[0].flip(1), DATA[1])}, reference="cue")


def built(kind: Callable[[], nn.Module], seed: int) -> nn.Module:
    """In float32: a weight that a hook made stays in that type when a layer is brought into another."""
    return build(kind, seed, torch.float32)


def after_backward(kind: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model that holds what a forward pass with gradients left in it; `copy.deepcopy` refuses it."""
    model = built(kind, seed).eval()
    nn.functional.cross_entropy(model(DATA[0]), DATA[1]).backward()
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(model)
    return model


def loss(model: nn.Module) -> float:
    with torch.no_grad():
        model(DATA[0])  # a layer with two hooks reads an old value in its first pass
        return float(nn.functional.cross_entropy(model(DATA[0]), DATA[1]))


def loaded(kind: Callable[[], nn.Module], params: dict[str, Tensor], buffers: dict[str, Tensor]) -> float:
    """The loss of a fresh module with these parameters and buffers."""
    fresh = built(kind, 9).eval()
    fresh.load_state_dict({**params, **buffers})
    return loss(fresh)


def along(kind: Callable[[], nn.Module], path: Path, a: nn.Module, b: nn.Module) -> list[float]:
    """The losses at 0, 1/2 and 1: with the buffers of each end, and between them spectral norm's vectors by SVD."""
    middle = dict(a.named_buffers())  # masks are alike
    if "0.weight_u" in middle:
        u, _, v = torch.linalg.svd(path.at(0.5)["0.weight_orig"].double())
        middle = {"0.weight_u": u[:, 0].float(), "0.weight_v": v[0].float()}
    held = dict(a.named_buffers()), middle, dict(b.named_buffers())
    return [loaded(kind, path.at(t), buffers) for t, buffers in zip((0.0, 0.5, 1.0), held, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_those_of_a_fresh_module(kind: Callable[[], nn.Module]) -> None:
    a, b = (after_backward(kind, seed) for seed in (1, 2))
    path = mc.LinearPath.between(a, b)
    expected = along(kind, path, a, b)
    assert mc.evaluate_path(a, path, SUITE, ts=3).loss["cue"] == pytest.approx(expected, rel=1e-6)
    moved = [mc.with_parameters(a, path.at(t)) for t in (0.0, 0.5, 1.0)]
    kept = [loaded(kind, path.at(t), dict(a.named_buffers())) for t in (0.0, 0.5, 1.0)]
    assert [loss(copy.deepcopy(model)) for model in moved] == pytest.approx(kept, rel=1e-6)
    for made in (
        [mc.model_at(a, path, t) for t in (0.0, 0.5, 1.0)],
        [mc.soup([a, b], weights=[1 - t, t]) for t in (0.0, 0.5, 1.0)],
    ):
        assert [loss(copy.deepcopy(model)) for model in made] == pytest.approx(expected, rel=1e-6)
    assert mc.measure_invariance(b, SUITE, on="loss").loss["cue"] == pytest.approx(loss(b), rel=1e-6)
    fitted = mc.fit_path(a, a, b, mc.BezierFit(epochs=1, batch_size=8), DATA).path
    expected = along(kind, fitted, a, b)
    assert mc.evaluate_path(a, fitted, SUITE, ts=3).loss["cue"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_users_module_is_left_as_it_was(kind: Callable[[], nn.Module]) -> None:
    model = after_backward(kind, 1)
    found = {name: dict(vars(part)) for name, part in model.named_modules()}
    values = {
        name: {k: v.detach().clone() for k, v in held.items() if isinstance(v, Tensor)} for name, held in found.items()
    }
    other = built(kind, 2).eval()
    mc.evaluate_path(model, mc.LinearPath.between(model, other), SUITE, ts=3)
    mc.model_at(model, mc.LinearPath.between(other, model), 0.5)
    loss(mc.with_parameters(model, mc.parameters_of(other)))
    for name, part in model.named_modules():
        assert vars(part).keys() == found[name].keys()
        assert all(value is found[name][key] for key, value in vars(part).items())
        assert all(torch.equal(value, vars(part)[key]) for key, value in values[name].items())


@pytest.mark.parametrize("kind", [weight_normed, spectral_normed, pruned, pruned_direction])
def test_what_is_read_off_a_copy_is_made_of_its_own_weights(kind: Callable[[], nn.Module]) -> None:
    a, b = after_backward(kind, 1), after_backward(kind, 2)
    state = {**mc.parameters_of(b), **dict(b.named_buffers())}
    moved = mc.with_parameters(a, mc.parameters_of(b))
    moved.load_state_dict(state)
    again = mc.with_parameters(moved, mc.parameters_of(b))
    torch.testing.assert_close(again.get_submodule("0").weight, b.get_submodule("0").weight)


@pytest.mark.parametrize("kind", [*KINDS[:-1], Noting])
def test_files_are_loaded(kind: Callable[[], nn.Module], tmp_path: FilePath) -> None:
    a, b = after_backward(kind, 1), after_backward(kind, 2)
    torch.save(b.state_dict(), tmp_path / "b.pt")
    for factory in (lambda: built(kind, 3), a):
        assert loss(mc.load_model(factory, tmp_path / "b.pt")) == pytest.approx(loss(b), rel=1e-6)


@pytest.mark.parametrize("kind", [weight_normed, Recurrent])
def test_weights_made_without_gradients_are_no_difference_between_models(kind: Callable[[], nn.Module]) -> None:
    """As an evaluation leaves them behind; a recurrent layer holds them in its second list too."""
    models = [built(kind, seed).eval() for seed in (1, 2)]
    expected = [loss(model) for model in models]
    path = mc.LinearPath.between(*models)
    found = mc.evaluate_path(models[0], path, SUITE, ts=2).loss["cue"]
    assert list(found) == pytest.approx(expected, rel=1e-6)
