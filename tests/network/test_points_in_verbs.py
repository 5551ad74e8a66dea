"""Training, symmetries, alignment and audits of networks that keep values, have hooks or wrappers, or other types."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from keeping import HIDDEN, KINDS, InPlace, Merging, NeverDropped, WhenEvaluated, levit, used
from mechconn.core import isolate_rng
from zoo import CLASSES, FEATURES, build, mlp, norm_mlp, rows

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
DATA = rows(24)
SUITE = mc.Suite({"cue": DATA, "flipped": (DATA[0].flip(1), DATA[1])}, reference="cue")
METHODS = [mc.NaiveFineTuning(epochs=1, batch_size=8), mc.CBFT(epochs=2, batch_size=8)]


@torch.no_grad()
def loss(model: nn.Module, data: tuple[Tensor, Tensor] = DATA) -> float:
    model.eval()
    outputs = model(data[0])
    return float(nn.functional.cross_entropy(getattr(outputs, "logits", outputs), data[1]))


def loaded(kind: Callable[[], nn.Module], state: dict[str, Tensor]) -> float:
    model = build(kind, 9)
    model.load_state_dict(state)
    model.train(True)
    return loss(model)


# ---------------------------------------------------------------- values that modules keep


AXES = {"factor": ["h"], "body.weight": ["h", FEATURES], "body.bias": ["h"], "head.weight": [CLASSES, "h"]}


@pytest.mark.parametrize("how", ["fresh", "evaluated", "differentiated"])
@pytest.mark.parametrize("kind", [*KINDS, NeverDropped])
def test_b_is_moved_with_what_it_keeps(kind: type[nn.Module], how: str) -> None:
    a, b = (used(build(kind, seed), "fresh" if kind is NeverDropped else how) for seed in (1, 2))
    before = {name: tensor.clone() for name, tensor in b.state_dict().items()}
    symmetry = mc.Symmetry.from_axes(b, AXES, example_input=DATA[0][:4])
    symmetry.verify(b)
    methods: list[Any] = [mc.WeightMatching(restarts=1)]
    if kind not in (InPlace, WhenEvaluated):  # what these read is a constant of the exported forward pass
        assert max(mc.symmetry_of(b, DATA[0][:4]).sizes.values()) == HIDDEN
        methods.append(mc.ActivationMatching(DATA))
    for method in methods:
        found = mc.align(a, b, method, symmetry)
        state = {name: tensor for name, tensor in found.model.state_dict().items() if name in before}
        assert not torch.equal(state["head.weight"], before["head.weight"])
        assert loss(found.model) == pytest.approx(loaded(kind, before), rel=1e-9)
        assert loaded(kind, state) == pytest.approx(loaded(kind, before), rel=1e-9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in b.state_dict().items())


@pytest.mark.parametrize("how", ["fresh", "evaluated", "in training"])
def test_weights_into_which_adapters_are_merged_stay_the_users(how: str) -> None:
    a, b = (used(build(Merging, seed), how) for seed in (1, 2))
    before = copy.deepcopy(b.state_dict())
    mc.symmetry_of(b, DATA[0][:4])
    symmetry = mc.Symmetry.from_axes(b, {**AXES, "adapter": ["h"]}, example_input=DATA[0][:4])
    symmetry.verify(b)
    found = mc.align(a, b, mc.WeightMatching(restarts=1), symmetry)
    mc.train(b, DATA, mc.Training(epochs=1, batch_size=8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in b.state_dict().items())
    assert loss(found.model) == pytest.approx(loss(b), rel=1e-9)


@pytest.mark.parametrize("how", ["fresh", "differentiated"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_trained_is_as_if_freshly_loaded(kind: type[nn.Module], how: str) -> None:
    if kind.__name__ in ("Property", "Memoised", "MemoisedOwn", "OnLoading"):
        pytest.skip("it cannot be trained: what its first pass computed is its value for good")
    start = used(build(kind, 1), how)
    made = [mc.train(start, DATA, mc.Training(epochs=1, batch_size=8)).model]
    made += [mc.fine_tune(start, m, clean=DATA, cued=DATA, validation=DATA, head="head").model for m in METHODS]
    for model in made:
        state = {name: tensor for name, tensor in model.state_dict().items() if name != "kept"}
        assert loss(model) == pytest.approx(loaded(kind, state), rel=1e-9)


def test_levits_moved_and_audited() -> None:
    draw = torch.Generator().manual_seed(0)
    data = torch.randn(8, 3, 32, 32, generator=draw, dtype=torch.float64), torch.arange(8) % CLASSES
    a, b = levit(1).eval(), levit(2).eval()
    assert loss(a, data) != loss(b, data)
    symmetry = mc.symmetry_of(b, data[0][:2])
    found = mc.align(a, b, mc.WeightMatching(restarts=1), symmetry)
    fresh = levit(3)
    fresh.load_state_dict(found.model.state_dict())
    assert loss(found.model, data) == pytest.approx(loss(fresh, data), rel=1e-9)
    assert loss(found.model, data) == pytest.approx(loss(b, data), rel=1e-6)
    tuned = mc.fine_tune(a, METHODS[0], clean=data).model
    fresh.load_state_dict(tuned.state_dict())
    fresh.train(True)
    assert loss(tuned, data) == pytest.approx(loss(fresh, data), rel=1e-9)


# ---------------------------------------------------------------- weights that hooks make


def weight_normed() -> nn.Module:
    hidden = nn.utils.weight_norm(nn.Linear(FEATURES, HIDDEN))
    return nn.Sequential(hidden, nn.Tanh(), nn.utils.weight_norm(nn.Linear(HIDDEN, CLASSES)))


def spectral_normed() -> nn.Module:
    return nn.Sequential(nn.utils.spectral_norm(nn.Linear(FEATURES, HIDDEN)), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))


@pytest.mark.parametrize("kind", [weight_normed, spectral_normed])
def test_networks_with_hooks_after_a_backward_pass(kind: Callable[[], nn.Module]) -> None:
    a, b = (used(build(kind, seed), "differentiated") for seed in (1, 2))
    made = [mc.train(a, DATA, mc.Training(epochs=1, batch_size=8)).model]
    made += [mc.fine_tune(a, method, clean=DATA, cued=DATA, head="2").model for method in METHODS]
    for model in made:
        assert loss(copy.deepcopy(model)) == pytest.approx(loaded(kind, dict(model.state_dict())), rel=1e-9)
    found = mc.align(a, b, mc.ActivationMatching(DATA))
    assert loss(copy.deepcopy(found.model)) == pytest.approx(loss(b), rel=1e-9)
    assert "before" in mc.audit(a, a, SUITE, ts=3).paths


@pytest.mark.parametrize("method", [mc.LastLayerRetraining(epochs=1, lr=0.1), mc.DFR(draws=1)])
def test_a_head_that_a_hook_makes_is_refused(method: Any) -> None:
    model = used(build(weight_normed, 1), "differentiated")
    with pytest.raises(ValueError, match="a hook computes these") as caught:
        mc.fine_tune(model, method, clean=DATA)
    assert str(caught.value).endswith("take it off first, as by torch.nn.utils.remove_weight_norm")
    nn.utils.remove_weight_norm(model.get_submodule("2"))
    mc.fine_tune(model, method, clean=DATA)


# ---------------------------------------------------------------- wrappers


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # pyright: ignore[reportReturnType]


def numbers(model: nn.Module) -> list[float]:
    assert type(model) is nn.Sequential
    return [value for tensor in model.state_dict().values() for value in tensor.flatten().tolist()]


def verbs(a: nn.Module, b: nn.Module) -> dict[str, Any]:
    norm = mc.Reestimate(DATA)
    symmetry = mc.symmetry_of(b, DATA[0][:4])
    symmetry.verify(b)
    audit = mc.audit(a, b, SUITE, norm=norm, ts=3, blocks=2, layers="all")
    return {
        "symmetry_of": (symmetry.coverage, list(symmetry.axes)),
        "from_axes": list(mc.Symmetry.from_axes(b, {"3.weight": [CLASSES, "h"]}).axes),
        "align": numbers(mc.align(a, b, mc.ActivationMatching(DATA)).model),
        "evaluate_alignment": mc.evaluate_alignment(a, b, mc.WeightMatching(), SUITE, 3, norm=norm, symmetry=symmetry)[
            "after"
        ].loss,
        "audit": ({name: line.loss for name, line in audit.paths.items()}, audit.notes),
        "train": numbers(mc.train(b, DATA, mc.Training(epochs=1)).model),
        "fine_tune": numbers(mc.fine_tune(b, METHODS[1], clean=DATA, cued=DATA, references={"cued": a}).model),
        "fine_tune, head": numbers(mc.fine_tune(b, mc.DFR(draws=1), clean=DATA, head="3").model),
        "fine_tune, fresh": numbers(mc.fine_tune(b, mc.Scratch(epochs=1), clean=DATA).model),
    }


def is_numbers(values: Any) -> bool:
    return isinstance(values, list) and isinstance(values[0], float)


@pytest.mark.parametrize("wrap", [nn.DataParallel, compiled, lambda model: nn.DataParallel(compiled(model))])
def test_wrappers_are_seen_through(wrap: Callable[[nn.Module], nn.Module]) -> None:
    with isolate_rng(0, "test"):
        plain = verbs(build(norm_mlp, 1).eval(), build(norm_mlp, 2).eval())
        found = verbs(build(norm_mlp, 1).eval(), wrap(build(norm_mlp, 2).eval()))
    for verb, expected in plain.items():
        assert found[verb] == (pytest.approx(expected, rel=1e-9) if is_numbers(expected) else expected), verb


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("verb", ["symmetry_of", "from_axes", "verify", "audit"])
def test_torchscript_is_refused_in_one_line(verb: str) -> None:
    plain = build(mlp, 1)
    model: Any = torch.jit.script(plain)
    acts = {
        "symmetry_of": lambda: mc.symmetry_of(model, DATA[0]),
        "from_axes": lambda: mc.Symmetry.from_axes(model, {}),
        "verify": lambda: mc.symmetry_of(plain, DATA[0]).verify(model),
        "audit": lambda: mc.audit(plain, model, SUITE),
    }
    with pytest.raises(TypeError, match=r"; pass the nn\.Module that was scripted or traced$"):
        acts[verb]()


# ---------------------------------------------------------------- number types


@pytest.mark.parametrize(
    ("weights", "data"),
    [(torch.float64, torch.float32), (torch.float32, torch.float64), (torch.bfloat16, torch.float32)],
)
def test_data_of_another_type_are_as_data_of_the_models(weights: torch.dtype, data: torch.dtype) -> None:
    a, b = (build(norm_mlp, seed, weights).eval() for seed in (1, 2))
    results = []
    for x in (DATA[0].to(data).to(weights), DATA[0].to(data)):
        pair = (x, DATA[1])
        full = weights in (torch.float32, torch.float64)  # half precision is trained as float32, data as they are
        methods = [*METHODS, mc.LastLayerRetraining(epochs=1, lr=0.1), mc.DFR(draws=1)]
        suite = mc.Suite({"cue": pair, "flipped": (x.flip(1), DATA[1])}, reference="cue")
        results.append(
            [
                *(numbers(mc.train(a, pair, mc.Training(epochs=1, batch_size=8)).model) for _ in range(full)),
                *(numbers(mc.fine_tune(a, method, clean=pair, cued=pair).model) for method in methods if full),
                numbers(mc.align(a, b, mc.ActivationMatching(pair)).model),
                mc.symmetry_of(a, x[:4]).coverage,
                mc.audit(a, b, suite, norm=mc.Reestimate(pair), ts=3).paths["after"].loss,
            ]
        )
    assert results[0] == results[1]
