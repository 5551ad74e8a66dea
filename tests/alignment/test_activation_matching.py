"""Activation matching: one pass of moments equals correlations computed at leisure, the assignment brute force."""

from __future__ import annotations

import copy
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import CLASSES, FEATURES, build, rows, split

EXAMPLE = torch.zeros(2, FEATURES, dtype=torch.float64)


def two_layers() -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, 4), nn.ReLU(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, CLASSES)
    )


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 9, CLASSES),
    )


def images(count: int = 40, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(5)
    return torch.randn(count, 3, 8, 8, generator=draw, dtype=dtype), torch.arange(count) % CLASSES


def seen(model: nn.Module, module: str, x: Tensor) -> np.ndarray:
    """What a submodule returns on x in evaluation mode, as [values, units]."""
    kept: list[Tensor] = []
    own = copy.deepcopy(model).eval()
    own.get_submodule(module).register_forward_hook(lambda _, __, output: kept.append(output))  # pyright: ignore
    with torch.no_grad():
        own(x)
    return kept[0].movedim(1, -1).reshape(-1, kept[0].shape[1]).numpy()


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    width = a.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(np.corrcoef(a.T, b.T)[:width, width:])


@pytest.mark.parametrize(
    ("when", "modules"), [("after", {"layer0": "1", "layer2": "4"}), ("before", {"layer0": "0", "layer2": "3"})]
)
@pytest.mark.parametrize("sizes", [[30], [7, 13, 10]])
def test_permutation_is_the_best_of_all_by_correlation(when: str, modules: dict[str, str], sizes: list[int]) -> None:
    a, b, (x, y) = build(two_layers, 1), build(two_layers, 2), rows(30)
    method = mc.ActivationMatching(split((x, y), sizes), when=when)  # pyright: ignore[reportArgumentType]
    found = mc.align(a, b, method, mc.symmetry_of(a, EXAMPLE))
    assert set(found.permutations) == set(modules)
    for group, module in modules.items():
        matrix = correlations(seen(a, module, x), seen(b, module, x))
        places, before = np.arange(len(matrix)), np.diag(matrix).mean()
        matrix = np.abs(matrix) if group == "layer2" else matrix  # tanh is odd: the sign of each pair is chosen too
        best = max(permutations(range(len(matrix))), key=lambda p: matrix[places, list(p)].sum())
        assert found.permutations[group].tolist() == list(best)
        # Activations are compared in float32, its rounding is what is left.
        assert found.similarity_before[group] == pytest.approx(before, abs=1e-5)
        assert found.similarity_after[group] == pytest.approx(matrix[places, list(best)].mean(), abs=1e-5)


def test_positions_count_like_samples() -> None:
    a, b, (x, y) = build(conv_net, 1), build(conv_net, 2), images()
    found = mc.align(a, b, mc.ActivationMatching((x, y), batch_size=16), mc.symmetry_of(a, x[:2]))
    matrix = correlations(seen(a, "2", x), seen(b, "2", x))
    matched = matrix[np.arange(6), found.permutations["layer0"].numpy()]
    assert found.similarity_after["layer0"] == pytest.approx(matched.mean(), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("factory", [two_layers, conv_net])
def test_a_planted_permutation_is_undone(factory: type[nn.Module], seed: int) -> None:
    model = build(factory, 3)
    data = rows(50) if factory is two_layers else images()
    symmetry = mc.symmetry_of(model, data[0][:2])
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(seed, kinds=["permutation"])))
    found = mc.align(model, moved, mc.ActivationMatching(data))
    assert found.distance_before > 0.1
    assert found.distance_after == 0.0
    assert all(torch.equal(found.params[name], tensor) for name, tensor in mc.parameters_of(model).items())
    assert all(torch.equal(found.model.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_the_function_of_b_stays() -> None:
    a, b, (x, y) = build(conv_net, 1), build(conv_net, 2), images()
    found = mc.align(a, b, mc.ActivationMatching((x, y)))
    assert any(not torch.equal(p, torch.arange(len(p))) for p in found.permutations.values())
    with torch.no_grad():
        torch.testing.assert_close(found.model.eval()(x), b.eval()(x), rtol=1e-10, atol=1e-10)


def test_dead_units_are_counted_and_match_nothing() -> None:
    model = build(conv_net, 1)
    with torch.no_grad():
        model.get_parameter("1.weight")[:2] = 0.0
        model.get_parameter("1.bias")[:2] = -1.0  # their ReLU never opens
    found = mc.align(model, copy.deepcopy(model), mc.ActivationMatching(images()))
    assert found.dead == {"layer0": 2, "layer3": 0}
    assert found.similarity_after["layer0"] == pytest.approx(4 / 6, abs=1e-5)


def test_heads_are_matched_together_with_their_dimensions() -> None:
    def encoder() -> nn.Module:
        return nn.TransformerEncoderLayer(12, 3, 16, batch_first=True, dropout=0.0)

    draw = torch.Generator().manual_seed(1)
    x = torch.randn(20, 5, 12, generator=draw, dtype=torch.float64)
    model = build(encoder, 1)
    symmetry = mc.symmetry_of(model, x[:2])
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(2, kinds=["permutation"])))
    found = mc.align(model, moved, mc.ActivationMatching((x, torch.zeros(20, dtype=torch.long))), symmetry)
    assert found.distance_after == 0.0
    assert found.unseen == ()


def test_reduced_precision_finds_the_same() -> None:
    model = build(conv_net, 3, torch.float32)
    data = images(dtype=torch.float32)
    symmetry = mc.symmetry_of(model, data[0][:2])
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(1, kinds=["permutation"])))
    assert (
        mc.align(
            model, moved, mc.ActivationMatching(data), symmetry, compute=mc.Compute(precision="auto")
        ).distance_after
        == 0.0
    )


def test_progress_and_record() -> None:
    told: list[mc.ProgressEvent] = []
    a, b = build(two_layers, 1), build(two_layers, 2)
    method = mc.ActivationMatching(rows(30), batch_size=10, label="training data")
    found = mc.align(a, b, method, progress=told.append, seed=4)
    assert [(step.done, step.total) for step in told] == [(1, 3), (2, 3), (3, 3)]
    expected = {"method": "activation matching", "when": "after", "data": "training data", "batch_size": 10, "seed": 4}
    assert expected.items() <= dict(found.settings).items()
    assert f"coverage {100 * found.coverage:.1f} %" in str(found) and "layer2 (5 units)" in str(found)


def test_mappings_and_logits() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = two_layers()

        def forward(self, *, pixels: Tensor, scale: Tensor) -> Tensor:
            return self.body(pixels) * scale[:, None]

    x, y = rows(20)
    data = [{"pixels": x[i : i + 10], "scale": torch.ones(10, dtype=x.dtype), "labels": y[i : i + 10]} for i in (0, 10)]
    model = build(Named, 1)
    symmetry = mc.symmetry_of(model, {"pixels": x[:2], "scale": torch.ones(2, dtype=x.dtype)})
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(1, kinds=["permutation"])))
    assert mc.align(model, moved, mc.ActivationMatching(data)).distance_after == 0.0
