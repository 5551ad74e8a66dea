"""RegMean: on linear regressions it is the regression on all rows; products of layers' inputs by slow references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from mechconn.merging._input_products import InputProducts
from merging_problems import pose
from zoo import build, mlp, rows


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def regression(seed: int, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """(the least-squares fit of these rows without intercept, inputs, targets [count, 2])."""
    x = draw(count, 5, seed=seed) @ draw(5, 5, seed=seed + 10)
    y = draw(count, 2, seed=seed + 20)
    model = build(lambda: nn.Linear(5, 2, bias=False)).requires_grad_(False)
    model.get_parameter("weight").copy_(torch.linalg.lstsq(x, y).solution.T)
    return model, x, y


def test_linear_regressions_give_the_regression_on_all_rows() -> None:
    (a, xa, ya), (b, xb, yb), (c, xc, yc) = (regression(seed, 20 + 10 * seed) for seed in range(3))
    data = {"a": (xa, ya), "b": (xb, yb), "c": (xc, yc)}
    problem = pose({"a": a, "b": b, "c": c}, loss=mc.losses.squared)
    found = mc.RegMean(data, alpha=1.0).merge(problem)["weight"]
    joint = torch.linalg.lstsq(torch.cat([xa, xb, xc]), torch.cat([ya, yb, yc])).solution.T
    torch.testing.assert_close(found, joint, rtol=1e-10, atol=1e-10)
    assert problem.record.notes == ["1 of 1 tensors were fitted to the parents' inputs, and the rest averaged"]


@pytest.mark.parametrize("count", ["rows", "parents"])
@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
def test_the_formula_of_the_paper(alpha: float, count: Any) -> None:
    (a, xa, ya), (b, xb, yb) = (regression(seed, 20 + 10 * seed) for seed in range(2))
    method = mc.RegMean({"b": (xb, yb), "a": (xa, ya)}, alpha=alpha, count=count, batch_size=7)
    found = method.merge(pose({"a": a, "b": b}, loss=mc.losses.squared))["weight"]
    products, moved = torch.zeros(5, 5).double(), torch.zeros(5, 2).double()
    for model, x in ((a, xa), (b, xb)):
        gram = x.T @ x / (1 if count == "rows" else len(x))
        gram = alpha * gram + (1 - alpha) * torch.diag(gram.diagonal())
        products += gram
        moved += gram @ model.get_parameter("weight").T
    torch.testing.assert_close(found, torch.linalg.solve(products, moved).T, rtol=1e-10, atol=1e-10)


def test_directions_that_no_input_has_keep_the_mean() -> None:
    """Inputs lie on a line and one is always zero: only along the line is W decided."""
    a, b = (build(lambda: nn.Linear(4, 3, bias=False), seed) for seed in (1, 2))
    along = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    x = draw(30, 1) * along
    y = torch.zeros(30, dtype=torch.long)
    found = mc.RegMean({"a": (x, y), "b": (x[:10], y[:10])}, alpha=1.0).merge(pose({"a": a, "b": b}))["weight"]
    own = {name: model.get_parameter("weight") for name, model in (("a", a), ("b", b))}
    gram = {"a": x.square().sum(), "b": x[:10].square().sum()}
    expected = sum(gram[name] * own[name] @ along for name in "ab") / (gram["a"] + gram["b"])
    mean = (own["a"] + own["b"]) / 2
    torch.testing.assert_close(found @ along, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(found[:, 3], mean[:, 3])
    # The change is the least in units in which every input has one length: it is the same for each input there.
    change = (found - mean)[:, :3] * along[:3]
    torch.testing.assert_close(change, change[:, :1].expand(3, 3), rtol=1e-9, atol=1e-9)


def test_equal_parents_stay_bit_for_bit_and_the_rest_is_the_mean() -> None:
    a, b = build(mlp, 1), build(mlp, 2)
    found = mc.RegMean(rows(30)).merge(pose({"a": a, "b": a}))
    assert all(torch.equal(tensor, a.get_parameter(name)) for name, tensor in found.items())
    data = {"a": rows(30, seed=1), "b": rows(30, seed=2)}
    found, mean = mc.RegMean(data).merge(pose({"a": a, "b": b})), mc.Mean().merge(pose({"a": a, "b": b}))
    assert {name for name in mean if torch.equal(found[name], mean[name])} == {"0.bias", "2.bias"}


CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2), (4, 11)),
    "2d": (lambda: nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(1, 0)), (3, 6, 7)),
    "3d": (lambda: nn.Conv3d(2, 3, 2, padding=1), (2, 3, 4, 3)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding="same"), (4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(3, 6, 3, groups=3, dilation=2, padding="same"), (3, 6, 6)),
    "even, same": (lambda: nn.Conv2d(2, 3, (2, 4), padding="same"), (2, 6, 6)),
    "circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
    "valid": (lambda: nn.Conv1d(2, 3, 3, padding="valid"), (2, 5)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_are_linear_in_their_patches(case: str) -> None:
    """For any kernels U, V the products give the sum over outputs of u(x) v(x): what least squares is made of."""
    factory, shape = CONVOLUTIONS[case]
    layer = build(factory, 1)
    x = draw(5, *shape)
    other = build(factory, 2)
    seen = InputProducts({"weight": layer.get_parameter("weight")})
    with torch.no_grad():
        for one in (layer, other):
            one.get_parameter("bias").zero_()
        with seen:
            out = layer(x)
        both = (out * other(x)).sum()
    products, layout = seen.sums["weight"], seen.layouts["weight"]
    u, v = layout.to_maps(layer.get_parameter("weight")), layout.to_maps(other.get_parameter("weight"))
    torch.testing.assert_close(torch.einsum("goi,gij,goj->", u, products, v), both, rtol=1e-10, atol=1e-10)
    assert torch.equal(layout.to_weight(u, layer.get_parameter("weight")), layer.get_parameter("weight"))


def test_a_convolution_of_one_place_is_a_linear_layer() -> None:
    a, b = (build(lambda: nn.Conv2d(4, 3, 1), seed) for seed in (1, 2))
    x, y = draw(20, 4, 3, 3), torch.zeros(20, dtype=torch.long)

    class Net(nn.Module):
        def __init__(self, layer: nn.Module, linear: bool) -> None:
            super().__init__()
            self.linear, weight = linear, layer.get_parameter("weight")
            self.layer = build(lambda: nn.Linear(4, 3)) if linear else layer
            if linear:
                self.layer.load_state_dict({"weight": weight[:, :, 0, 0], "bias": layer.get_parameter("bias")})

        def forward(self, x: Tensor) -> Tensor:
            out = self.layer(x.movedim(1, -1)).movedim(-1, 1) if self.linear else self.layer(x)
            return out.mean((2, 3))

    found = [mc.RegMean((x, y)).merge(pose({"a": Net(a, linear), "b": Net(b, linear)})) for linear in (True, False)]
    torch.testing.assert_close(found[0]["layer.weight"], found[1]["layer.weight"][:, :, 0, 0], rtol=1e-9, atol=1e-9)


class Turned(nn.Module):
    """GPT-2's linear layer: its weight is [inputs, outputs]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


def test_the_turned_layer_of_gpt2() -> None:
    found = {}
    for turned in (True, False):
        layers = {}
        for seed, name in enumerate("ab"):
            layers[name] = build(Turned if turned else lambda: nn.Linear(4, 3), seed)
            with torch.no_grad():
                weight = draw(4, 3, seed=seed)
                layers[name].get_parameter("weight").copy_(weight if turned else weight.T)
        found[turned] = mc.RegMean(rows(20)).merge(pose(layers))["weight"]
    torch.testing.assert_close(found[True].T, found[False], rtol=1e-10, atol=1e-10)


class Attention(nn.Module):
    """Attention of three positions with two heads, by PyTorch's module or by four linear layers."""

    def __init__(self, module: bool, cross: bool) -> None:
        super().__init__()
        self.cross, self.attend = cross, nn.MultiheadAttention(4, 2, batch_first=True) if module else None
        self.maps = nn.ModuleList([] if module else [nn.Linear(4, 4) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (3, 4))
        other = x[:, :2].flip(1) if self.cross else x
        if self.attend is not None:
            return self.attend(x, other, other, need_weights=False)[0].mean(1)
        parts = (layer(part) for layer, part in zip(self.maps, (x, other, other), strict=False))
        q, k, v = (part.unflatten(-1, (2, 2)).transpose(1, 2) for part in parts)
        return self.maps[3](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)).mean(1)


@pytest.mark.parametrize("cross", [False, True])
def test_attention_is_its_four_linear_maps(cross: bool) -> None:
    x, y = draw(25, 12), torch.zeros(25, dtype=torch.long)
    modules = {name: build(lambda: Attention(True, cross), seed) for seed, name in enumerate("ab")}
    layers = {}
    for name, module in modules.items():
        layers[name] = build(lambda: Attention(False, cross))
        own = dict(module.named_parameters())
        weights = [*own["attend.in_proj_weight"].chunk(3), own["attend.out_proj.weight"]]
        biases = [*own["attend.in_proj_bias"].chunk(3), own["attend.out_proj.bias"]]
        state = {f"maps.{n}.weight": w for n, w in enumerate(weights)}
        layers[name].load_state_dict(state | {f"maps.{n}.bias": b for n, b in enumerate(biases)})
        torch.testing.assert_close(layers[name](x), module(x))
    found, wanted = (mc.RegMean((x, y)).merge(pose(models)) for models in (modules, layers))
    joint = torch.cat([wanted[f"maps.{n}.weight"] for n in range(3)])
    torch.testing.assert_close(found["attend.in_proj_weight"], joint, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found["attend.out_proj.weight"], wanted["maps.3.weight"], rtol=1e-9, atol=1e-9)
    mean = mc.Mean().merge(pose(layers))
    assert float((wanted["maps.3.weight"] - mean["maps.3.weight"]).abs().max()) > 1e-3


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
def test_every_map_of_an_encoder_is_seen_on_its_fast_way_too() -> None:
    def encoder() -> nn.Module:
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        return nn.Sequential(nn.Unflatten(1, (3, 4)), nn.TransformerEncoder(layer, 1), nn.Flatten(), nn.Linear(12, 3))

    problem = pose({name: build(encoder, seed).eval() for seed, name in enumerate("ab")})
    mc.RegMean((draw(20, 12), torch.zeros(20, dtype=torch.long))).merge(problem)
    assert problem.record.notes[-1].startswith("5 of 14 tensors were fitted")


def test_wide_layers_use_the_squares_of_their_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = build(mlp, 1), build(mlp, 2)
    squares = mc.RegMean(rows(30), alpha=0.0).merge(pose({"a": a, "b": b}))
    monkeypatch.setattr("mechconn.merging._input_products.WIDEST", 4)
    problem = pose({"a": a, "b": b})
    found = mc.RegMean(rows(30), alpha=0.0).merge(problem)
    for name, tensor in squares.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-10, atol=1e-10)
    assert problem.record.notes[-1].endswith("of 2.weight the squares of inputs alone were used")


def test_shared_maps_are_averaged_and_named() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read, self.write = nn.Linear(4, 4), nn.Linear(4, 4)
            self.write.weight = self.read.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.write(F.relu(self.read(x)))

    problem = pose({"a": build(Twice, 1), "b": build(Twice, 2)})
    with pytest.raises(ValueError, match="no linear layer or convolution of Twice was seen to read data"):
        mc.RegMean(rows(20)).merge(problem)
    net = {name: nn.Sequential(build(Twice, seed), build(mlp, seed)) for seed, name in enumerate("ab")}
    problem = pose(net)
    mc.RegMean(rows(20)).merge(problem)
    assert problem.record.notes[-1] == (
        "2 of 7 tensors were fitted to the parents' inputs, and the rest averaged, among them 0.read.weight"
    )


def test_wrong_settings_and_data() -> None:
    a, b = build(mlp, 1), build(mlp, 2)
    with pytest.raises(ValueError, match="alpha must lie in"):
        mc.RegMean(rows(5), alpha=1.5)
    with pytest.raises(ValueError, match="count must be one of 'rows', 'parents', got 'row'"):
        mc.RegMean(rows(5), count="row")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="the parents and the names in data do not match: missing b; unexpected c"):
        mc.RegMean({"a": rows(5), "c": rows(5)}).merge(pose({"a": a, "b": b}))
    with torch.no_grad():
        b.get_parameter("0.weight")[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"what 2.weight reads of 'b' holds NaN or infinity"):
        mc.RegMean(rows(5)).merge(pose({"a": a, "b": b}))


def test_the_rows_that_it_read_are_told() -> None:
    one, own = rows(5), {"a": rows(5, seed=1), "b": rows(4, seed=2)}
    chosen = mc.RegMean(own).chosen_on()
    batches: Any = list(chosen)  # pyright: ignore[reportArgumentType]
    assert [len(y) for _, y in batches] == [5, 4] and torch.equal(batches[1][0], own["b"][0])
    assert len(list(chosen)) == 2  # pyright: ignore[reportArgumentType]
    found: Any = mc.RegMean(one).chosen_on()
    assert torch.equal(found.y, one[1])
    assert mc.RegMean(one, label="digits").describe() == {
        "method": "reg mean", "alpha": 0.9, "count": "rows", "data": "digits",
    }  # fmt: skip


def test_rows_that_weighed_a_parent_judge_nothing() -> None:
    """Also where each parent has rows of its own."""
    models, judged = {name: build(mlp, seed) for seed, name in enumerate("ab")}, rows(40)
    suite = mc.Suite({"rows": judged}, reference="rows")
    with pytest.raises(ValueError, match=r"RegMean chooses on rows that are in the suite \(rows\)"):
        mc.merge(models, mc.RegMean({"a": rows(20, seed=1), "b": judged}), suite)
    with pytest.raises(ValueError, match=r"FisherMean chooses on rows that are in the suite \(rows\)"):
        mc.merge(models, mc.FisherMean(judged), suite)
    found = mc.merge(models, mc.RegMean({name: rows(20, seed=seed) for seed, name in enumerate("ab", 1)}), suite)
    assert any("were fitted to the parents' inputs" in note for note in found.notes)
