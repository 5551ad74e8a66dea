"""Networks with low-rank adapters: means of weights are means of updates, and the base is held once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from memory import peak

peft = pytest.importorskip("peft")


def make_base() -> nn.Module:
    return seeded(lambda: _make_small())


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    """What is made from a seed, the global generator left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def _make_small() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))


def adapt(base: nn.Module, seed: int, **settings: Any) -> Any:
    """An adapter whose factors are drawn, on a copy of the base."""
    settings = {"r": 2, "lora_alpha": 4, "target_modules": ["0", "2"]} | settings
    named = settings.pop("adapter_name", "default")

    @torch.no_grad()
    def make() -> Any:
        model = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**settings), adapter_name=named)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_magnitude" not in name:
                parameter.normal_(std=0.5)
        return model.eval()

    return seeded(make, seed)


def merge(model: Any) -> dict[str, Tensor]:
    """The weights that a network computes with, by PEFT's own merging where it carries adapters."""
    merged = copy.deepcopy(model)
    merged = merged.merge_and_unload() if hasattr(merged, "merge_and_unload") else merged
    return {name: tensor.detach() for name, tensor in merged.state_dict().items()}


def deviation(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).abs().max()) for name in found)


def mean(*states: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


BASE = make_base()
PAIRS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "plain": lambda: (adapt(BASE, 1), adapt(BASE, 2)),
    "other ranks and scales": lambda: (adapt(BASE, 1, r=3, lora_alpha=9), adapt(BASE, 2, r=1)),
    "a scale of zero": lambda: (adapt(BASE, 1, lora_alpha=0), adapt(BASE, 2)),
    "rsLoRA": lambda: (adapt(BASE, 1, use_rslora=True, r=4), adapt(BASE, 2)),
    "a head that is saved": lambda: (adapt(BASE, 1, modules_to_save=["4"]), adapt(BASE, 2, modules_to_save=["4"])),
    "DoRA": lambda: (adapt(BASE, 1, use_dora=True), adapt(BASE, 2, use_dora=True)),
    "PiSSA": lambda: (adapt(BASE, 1, init_lora_weights="pissa"), adapt(BASE, 2)),
    "OLoRA": lambda: (adapt(BASE, 1, init_lora_weights="olora"), adapt(BASE, 2, init_lora_weights="olora")),
    "other layers": lambda: (adapt(BASE, 1, target_modules=["0"]), adapt(BASE, 2, target_modules=["2"])),
    "a head saved by one": lambda: (adapt(BASE, 1, modules_to_save=["4"]), adapt(BASE, 2)),
    "an adapter and its base": lambda: (adapt(BASE, 1), copy.deepcopy(BASE)),
    "biases that are trained": lambda: (adapt(BASE, 1, bias="all"), adapt(BASE, 2, bias="all")),
    "adapters of two names": lambda: (adapt(BASE, 1), adapt(BASE, 2, adapter_name="other")),
    "a bias in the factor": lambda: (adapt(BASE, 1, lora_bias=True), adapt(BASE, 2, lora_bias=True, lora_alpha=3)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_the_soup_is_the_mean_of_the_updates(pair: str) -> None:
    """The witness is PEFT's own merging: the mean of what both compute with."""
    a, b = PAIRS[pair]()
    wanted, before = mean(merge(a), merge(b)), (merge(a), merge(b))
    # float32 sums in another order: some units in the last place of weights near 1
    assert deviation(merge(mc.soup([a, b])), wanted) < 2e-6
    line = mc.LinearPath.between(a, b)
    quarter = merge(mc.model_at(a, line, 0.25))
    assert deviation(quarter, {n: 0.75 * before[0][n] + 0.25 * before[1][n] for n in wanted}) < 2e-6
    for t, model in ((0.0, a), (1.0, b)):
        assert deviation(merge(mc.model_at(a, line, t)), merge(model)) < 1e-6
    assert deviation(merge(a), before[0]) == deviation(merge(b), before[1]) == 0.0


def test_three_adapters_have_one_mean() -> None:
    models = [adapt(BASE, seed, r=seed) for seed in (1, 2, 3)]
    assert deviation(merge(mc.soup(models)), mean(*map(merge, models))) < 2e-6


def test_convolutions_too() -> None:
    base = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2)))
    a, b = (adapt(base, seed, target_modules=["0"]) for seed in (1, 2))
    assert deviation(merge(mc.soup([a, b])), mean(merge(a), merge(b))) < 2e-6


class Attending(nn.Module):
    """Attention, whose inner layer PEFT adapts too."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.last = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.attention(x, x, x)[0].mean(1))


class Experts(nn.Module):
    """Two parameters of one module, which no layer holds."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(3, 6, 4)), nn.Parameter(torch.randn(3, 4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bti,eih,ehj->btj", x, self.up, self.down)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (Attending, {"target_modules": ["attention", "last"]}),
        (
            lambda: nn.Sequential(Experts(), nn.Linear(6, 2)),
            {"target_modules": ["1"], "target_parameters": ["0.up", "0.down"]},
        ),
    ],
)
def test_layers_with_adapters_within(make: Callable[[], nn.Module], settings: dict[str, Any]) -> None:
    base, x = seeded(make), torch.linspace(-1, 1, 48).reshape(2, 4, 6)
    a, b = (adapt(base, seed, **settings) for seed in (1, 2))
    line = mc.LinearPath.between(a, b)
    with torch.no_grad():
        for t, model in ((0.0, a), (1.0, b)):
            wanted = model(x)  # float32 sums of products in another order
            assert torch.allclose(mc.model_at(a, line, t)(x), wanted, rtol=1e-4, atol=1e-5)
    assert deviation(merge(mc.soup([a, b])), mean(merge(a), merge(b))) < 2e-6


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).relu()).relu())


@pytest.mark.parametrize("named", ["default", "other"])
def test_an_adapter_changes_one_of_two_layers_that_share_a_weight(named: str) -> None:
    """Of adapters of two names the updates are merged, each into its own layer's weight alone."""
    base, x = seeded(Tied), torch.linspace(-1, 1, 18).reshape(3, 6)
    a, b = (adapt(base, 1, target_modules=["first"]), adapt(base, 2, target_modules=["first"], adapter_name=named))
    line = mc.LinearPath.between(a, b)
    with torch.no_grad():
        for t, model in ((0.0, a), (1.0, b)):
            assert torch.allclose(mc.model_at(a, line, t)(x), model(x), atol=1e-6)  # float32, another order
        mean = copy.deepcopy(base)
        mean.second.weight = nn.Parameter(base.first.weight.detach().clone())
        updates = [m.base_model.model.first.get_delta_weight(n) for m, n in ((a, "default"), (b, named))]
        mean.first.weight += (updates[0] + updates[1]) / 2
        assert torch.allclose(mc.soup([a, b])(x), mean(x), atol=1e-6)


def test_rows_of_an_embedding_that_are_trained_too() -> None:
    base = seeded(lambda: nn.Sequential(nn.Embedding(10, 6), nn.Flatten(), nn.Linear(18, 2)))
    a, b = (adapt(base, s, target_modules=["2"], trainable_token_indices={"0": [1, 4]}) for s in (1, 2))
    point = mc.point_of(a)
    assert deviation(merge(mc.soup([a, b])), mean(merge(a), merge(b))) < 2e-6
    before = {name: tensor.clone() for name, tensor in point.params.items()}
    with torch.no_grad():
        for parameter in a.parameters():
            parameter.add_(float(parameter.requires_grad))
    assert deviation(dict(point.params), before) == 0.0


def test_points_keep_what_is_trained_afterwards() -> None:
    """Biases that are trained with the adapters, and a network without adapters at one end."""
    a, plain = adapt(BASE, 1, bias="all"), copy.deepcopy(BASE)
    point, line = mc.point_of(a), mc.LinearPath.between(a, plain)
    held: list[Callable[[], dict[str, Tensor]]] = [lambda: dict(point.params), lambda: line.at(1.0)]
    before = [{name: tensor.clone() for name, tensor in state().items()} for state in held]
    with torch.no_grad():
        for parameter in (*a.parameters(), *plain.parameters()):
            parameter.add_(float(parameter.requires_grad))
    assert [deviation(state(), old) for state, old in zip(held, before, strict=True)] == [0.0, 0.0]


def test_a_networks_base_does_not_replace_that_of_a_point() -> None:
    a, b = adapt(BASE, 1), adapt(seeded(_make_small, 5), 1)
    assert deviation(merge(mc.with_parameters(b, mc.point_of(a).params)), merge(a)) == 0.0


def over(base: nn.Module) -> nn.Module:
    """The base's structure over its tensors."""
    return copy.deepcopy(base, {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in base.parameters()})


def test_what_is_done_to_a_soup_leaves_the_networks_on_the_same_base() -> None:
    base, models = make_base(), []
    for seed in (1, 2):
        settings = peft.LoraConfig(r=2, target_modules=["0", "2"], init_lora_weights=False)
        models.append(seeded(lambda own=settings: peft.get_peft_model(over(base), own), seed).eval())
    a, b = models
    wanted, before = mean(merge(a), merge(b)), [merge(model) for model in (a, b, base)]
    soup: Any = mc.soup([a, b])
    shared = {p.data_ptr() for p in base.parameters()} & {p.data_ptr() for p in soup.parameters()}
    assert len(shared) == len(list(base.parameters()))
    merged = soup.merge_and_unload(safe_merge=True).requires_grad_().double()
    assert deviation({n: t.float() for n, t in merged.state_dict().items()}, wanted) < 2e-6
    assert [deviation(merge(m), old) for m, old in zip((a, b, base), before, strict=True)] == [0.0] * 3
    assert {p.dtype for m in (a, b, base) for p in m.parameters()} == {torch.float32}
    assert not any(p.requires_grad for name, p in a.named_parameters() if "lora_" not in name)


def test_adapters_in_the_same_layers_are_refused() -> None:
    base, settings = make_base(), peft.LoraConfig(r=2, target_modules=["0"])
    a = seeded(lambda: peft.get_peft_model(base, settings))
    with pytest.warns(UserWarning, match="a second time|Already found"):  # PEFT's own, easily overlooked
        b = seeded(lambda: peft.get_peft_model(base, settings, adapter_name="b"))
    for other in (base, b):  # PEFT changed the base that it was given
        for compare in (mc.LinearPath.between, lambda a, b: mc.compare_mechanisms(a, b, make_suite())):
            with pytest.raises(
                ValueError, match=r"two of the networks are one: .* \((base_model\.model\.)?0, \.\.\.\)"
            ):
                compare(a, other)
    copied = seeded(lambda: peft.get_peft_model(copy.deepcopy(make_base()), settings))
    assert mc.LinearPath.between(a, copied).at(0.5)
    assert mc.LinearPath.between(a, a).at(0.5)


def make_suite() -> mc.Suite:
    generator = torch.Generator().manual_seed(3)
    x, other = torch.randn(40, 6, generator=generator), torch.randn(40, 6, generator=generator)
    y = torch.randint(0, 2, (40,), generator=generator)
    return mc.Suite({"cue": (x, y), "rand_cue": (other, y)}, reference="cue")


def merged_module(model: Any) -> nn.Module:
    return copy.deepcopy(model).merge_and_unload().eval()


@pytest.mark.parametrize("verb", ["path", "blocks", "plane", "map"])
def test_verbs_give_what_they_give_of_merged_networks(verb: str) -> None:
    """The reference is the same verb on plain networks with the weights that PEFT merges."""
    suite, models = make_suite(), [adapt(BASE, seed) for seed in (1, 2, 3)]
    plain = [merged_module(model) for model in models]

    def measure(a: Any, b: Any, c: Any) -> Any:
        if verb == "path":
            return mc.evaluate_path(a, mc.LinearPath.between(a, b), suite, 5).loss["cue"]
        if verb == "blocks":
            return mc.evaluate_blocks(a, a, b, suite, {"all": ".*"}, ts=3)["all"].loss["cue"]
        if verb == "plane":
            return mc.evaluate_plane(a, a, b, c, suite, 2).models["c"].loss["cue"]
        return mc.mechanism_map({"a": a, "b": b, "c": c}, suite, ts=3).barrier

    found, wanted = torch.tensor(measure(*models)), torch.tensor(measure(*plain))
    # float32 products of factors instead of one matrix
    assert torch.allclose(found, wanted, atol=1e-5)


def test_an_audit_of_two_adapters_says_that_alignment_is_off_and_equals_that_of_merged_ones() -> None:
    suite, (a, b) = make_suite(), (adapt(BASE, 1), adapt(BASE, 2))
    found, plain = mc.audit(a, b, suite), mc.audit(merged_module(a), merged_module(b), suite, alignment="none")
    assert found.alignment is None and any("adapters on one base" in note for note in found.notes)
    (own,), (other,) = found.paths.values(), plain.paths.values()
    assert own.loss["cue"] == pytest.approx(other.loss["cue"], abs=1e-5)
    assert found.verdict == plain.verdict
    with pytest.raises(ValueError, match="networks with low-rank adapters are not aligned") as caught:
        mc.align(a, b, mc.WeightMatching())
    assert "merge_and_unload" in str(caught.value)


def test_fitting_a_path_leaves_the_base_alone() -> None:
    a, b = adapt(BASE, 1), adapt(BASE, 2)
    fit = mc.fit_path(a, a, b, mc.BezierFit(epochs=1), make_suite()["cue"])
    bend = fit.path.points[1]
    changed = {name for name in bend if not torch.equal(bend[name], mc.LinearPath.between(a, b).at(0.5)[name])}
    assert changed and all("lora_" in name for name in changed)
    profile = mc.evaluate_path(a, fit.path, make_suite(), 3)
    straight = mc.evaluate_path(a, mc.LinearPath.between(a, b), make_suite(), 3)
    assert profile.loss["cue"][0] == straight.loss["cue"][0] and profile.loss["cue"][1] != straight.loss["cue"][1]


def test_factors_without_their_networks_are_refused() -> None:
    a, b = adapt(BASE, 1), adapt(BASE, 2)
    for given in ((mc.point_of(a), mc.point_of(b)), (mc.parameters_of(a), mc.parameters_of(b))):
        with pytest.raises(ValueError, match=r"hold low-rank factors .* whose means are not those of the updates B A"):
            mc.LinearPath.between(*given)
    with pytest.raises(TypeError, match="B must be a network like the others"):
        mc.LinearPath.between(a, mc.point_of(b))
    same = {**mc.parameters_of(b)}
    same |= {name: tensor for name, tensor in mc.parameters_of(a).items() if "lora_A" in name}
    middle = mc.LinearPath(mc.parameters_of(a), same).at(0.5)  # one factor in common: linear in the other
    assert middle.keys() == same.keys()


def test_a_layer_that_cannot_be_merged_is_named() -> None:
    base = seeded(lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(8 * 36, 2)))
    with pytest.warns(UserWarning, match="groups"):
        a, b = (adapt(base, seed, target_modules=["0"]) for seed in (1, 2))
    with pytest.raises(ValueError, match=r"the adapter of .*0 \(Conv2d\) cannot be merged"):
        mc.soup([a, b])


def wide_base() -> nn.Module:
    layers = [layer for _ in range(8) for layer in (nn.Linear(256, 256), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(256, 2))


@pytest.mark.filterwarnings("ignore")  # the profiler's own
@pytest.mark.parametrize("verb", ["between", "path", "soup", "measure", "compare", "audit", "map"])
def test_the_base_is_held_once(verb: str) -> None:
    """Two adapters on one base: at most 0.3 copies of the base above the one that is there, adapters included."""
    base = seeded(wide_base)
    size = sum(parameter.nbytes for parameter in base.parameters())
    models = []
    for seed in (1, 2):
        shared = copy.deepcopy(base, {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in base.parameters()})
        settings = peft.LoraConfig(r=2, target_modules=["0", "6"], init_lora_weights=False)
        models.append(seeded(lambda base=shared, own=settings: peft.get_peft_model(base, own), seed).eval())
    a, b = models
    x, y = torch.linspace(-1, 1, 1024).reshape(4, 256), torch.tensor([0, 1, 1, 0])
    suite = mc.Suite({"cue": (x, y), "rand_cue": (x.flip(1), y)}, reference="cue")
    verbs: dict[str, Callable[[], object]] = {
        "between": lambda: mc.LinearPath.between(a, b),
        "path": lambda: mc.evaluate_path(a, mc.LinearPath.between(a, b), suite, 5),
        "soup": lambda: mc.soup([a, b]),
        "measure": lambda: mc.measure_invariance(a, suite),
        "compare": lambda: mc.compare_mechanisms(a, b, suite),
        "audit": lambda: mc.audit(a, b, suite),
        "map": lambda: mc.mechanism_map({"a": a, "b": b}, suite, ts=3),
    }
    assert peak(verbs[verb]) / size < 0.3


def test_changes_of_weights_and_anchors_refuse_adapters_by_name_and_take_them_merged() -> None:
    base = make_base()
    adapted, plain = adapt(base, 1), copy.deepcopy(base)
    change = mc.weight_change(base, adapt(base, 2).merge_and_unload())
    refused: list[tuple[str, Callable[[], object]]] = [
        ("base", lambda: mc.weight_change(adapted, plain)),
        ("tuned", lambda: mc.weight_change(plain, adapted)),
        ("model", lambda: mc.with_change(adapted, change)),
        ("onto", lambda: mc.transplant(change, plain, adapted, None)),
        ("anchor 1", lambda: mc.ConnectedFineTuning(anchors=[adapted])),
    ]
    for name, call in refused:
        with pytest.raises(
            ValueError, match=rf"{name} carries low-rank adapters, .*; merge them first \(model\.merge_"
        ):
            call()
    merged = copy.deepcopy(adapted).merge_and_unload()
    assert mc.transplant(change, plain, merged, None).change.norm == pytest.approx(change.norm)
    assert len(mc.ConnectedFineTuning(anchors=[merged]).anchors) == 1
