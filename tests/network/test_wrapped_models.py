"""Networks within wrappers (parallel, compiled, averaged), and TorchScript, which is refused in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import mechconn as mc
from zoo import CLASSES, FEATURES, build, norm_mlp, rows

DATA = rows(24)
SUITE = mc.Suite({"cue": DATA, "flipped": (DATA[0].flip(1), DATA[1])}, reference="cue")


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # pyright: ignore[reportReturnType]


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "parallel": nn.DataParallel,
    "distributed": nn.parallel.DistributedDataParallel,
    "compiled": compiled,
    "compiled in place": compiled_in_place,
    "averaged": AveragedModel,
    "parallel, compiled": lambda model: nn.DataParallel(compiled(model)),
    "compiled, distributed": lambda model: compiled(nn.parallel.DistributedDataParallel(model)),
    "averaged, parallel, compiled": lambda model: AveragedModel(nn.DataParallel(compiled(model))),
}


@pytest.fixture(scope="module", autouse=True)
def _one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """DistributedDataParallel wants a group of processes; one is enough."""
    file = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def network(seed: int) -> nn.Module:
    return build(norm_mlp, seed).eval()


def numbers(model: nn.Module) -> dict[str, Tensor]:
    """What a returned model is: a plain one, whose tensors have plain names."""
    assert type(model) is nn.Sequential
    return model.state_dict()


def verbs(a: nn.Module, b: nn.Module) -> dict[str, Any]:
    norm = mc.Reestimate(DATA)
    path = mc.LinearPath.between(a, b)
    return {
        "parameters_of": mc.parameters_of(b),
        "point_of": mc.point_of(b).buffers,
        "with_parameters": numbers(mc.with_parameters(b, mc.parameters_of(a))),
        "measure_invariance": mc.measure_invariance(b, SUITE, on="loss").loss,
        "evaluate_path": mc.evaluate_path(a, path, SUITE, ts=3, norm=norm).loss,
        "evaluate_path, interpolated": mc.evaluate_path(b, path, SUITE, ts=3, norm=mc.InterpolateNorm()).loss,
        "model_at": numbers(mc.model_at(b, path, 0.5, norm=norm)),
        "soup": numbers(mc.soup([b, a], norm=norm)),
        "fit_path": mc.fit_path(b, a, b, mc.BezierFit(epochs=1), DATA).path.at(0.5),
        "compare_mechanisms": mc.compare_mechanisms(a, b, SUITE).b.loss,
        "output_discrepancy": mc.output_discrepancy(a, b, SUITE).to_dict(),
        "representation_similarity": dict(mc.representation_similarity(a, b, DATA)),
        "probe": mc.probe(a, DATA, control=b).to_dict(),
        "measure_neighbours": mc.measure_neighbours(b, DATA, {"label": "label"}, k=3).to_dict(),
        "evaluate_input_path": mc.evaluate_input_path(b, DATA[0], DATA[0].flip(0), DATA[1], ts=3).values(),
        "mechanism_map": mc.mechanism_map({"a": a, "b": b}, SUITE, ts=3, norm=norm).distance,
        "measure_groups": mc.measure_groups(b, DATA, [0, 1] * 12).mean,
        "load_model": numbers(mc.load_model(b)),
        "load_model, built": numbers(mc.load_model(lambda: b)),
    }


def check_same(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name in expected:
            check_same(found[name], expected[name])
    elif isinstance(expected, Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    elif isinstance(expected, tuple | list):
        for one, other in zip(found, expected, strict=True):
            check_same(one, other)
    else:
        assert found == (pytest.approx(expected, rel=1e-9) if isinstance(expected, float) else expected)


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return verbs(network(1), network(2))


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_are_seen_through(wrapper: str, both: bool, plain: dict[str, Any]) -> None:
    a, b = network(1), WRAPPERS[wrapper](network(2))
    a = WRAPPERS[wrapper](a) if both else a
    found = [(type(part), part.training) for part in b.modules()]
    check_same(verbs(a, b), plain)
    assert [(type(part), part.training) for part in b.modules()] == found


def test_wrappers_within_a_network_are_seen_through_too() -> None:
    class Around(nn.Module):
        def __init__(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
            super().__init__()
            self.first = wrap(nn.Linear(FEATURES, FEATURES))
            self.again = self.first
            self.head = nn.Linear(FEATURES, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.again(torch.tanh(self.first(x)))))

    a, b = build(lambda: Around(compiled), 1), build(lambda: Around(nn.DataParallel), 2)
    plain = [build(lambda: Around(lambda layer: layer), seed) for seed in (1, 2)]
    assert list(mc.parameters_of(a)) == list(mc.parameters_of(b)) == list(mc.parameters_of(plain[0]))
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    found = mc.evaluate_path(a, path, SUITE, ts=3).loss["cue"]
    expected = mc.evaluate_path(plain[0], mc.LinearPath(*map(mc.parameters_of, plain)), SUITE, ts=3).loss["cue"]
    assert found == pytest.approx(expected, rel=1e-9)
    moved = mc.with_parameters(a, mc.parameters_of(b))
    assert type(moved.get_submodule("first")) is nn.Linear
    assert moved.get_submodule("first") is moved.get_submodule("again")
    assert torch.equal(moved(DATA[0]), plain[1](DATA[0]))


# ---------------------------------------------------------------- TorchScript


def scripted() -> nn.Module:
    return torch.jit.script(network(1))  # pyright: ignore[reportReturnType]


def traced() -> nn.Module:
    return torch.jit.trace(network(1), DATA[0])  # pyright: ignore[reportReturnType]


POINT = mc.parameters_of(network(1))
PATH = mc.LinearPath(POINT, POINT)
REFUSING: dict[str, Callable[[nn.Module], object]] = {
    "parameters_of": mc.parameters_of,
    "with_parameters": lambda model: mc.with_parameters(model, POINT),
    "measure_invariance": lambda model: mc.measure_invariance(model, SUITE),
    "compare_mechanisms": lambda model: mc.compare_mechanisms(network(1), model, SUITE),
    "evaluate_path": lambda model: mc.evaluate_path(model, PATH, SUITE, norm=mc.KeepNorm()),
    "evaluate_blocks": lambda model: mc.evaluate_blocks(model, POINT, POINT, SUITE, norm=mc.KeepNorm()),
    "evaluate_plane": lambda model: mc.evaluate_plane(model, POINT, POINT, POINT, SUITE, norm=mc.KeepNorm()),
    "model_at": lambda model: mc.model_at(model, PATH, 0.5, norm=mc.KeepNorm()),
    "soup": lambda model: mc.soup([network(1), model], norm=mc.KeepNorm()),
    "fit_path": lambda model: mc.fit_path(model, POINT, POINT, mc.BezierFit(), DATA),
    "align": lambda model: mc.align(network(1), model, mc.ActivationMatching(DATA)),
    "train": lambda model: mc.train(model, DATA),
    "fine_tune": lambda model: mc.fine_tune(model, mc.NaiveFineTuning(), clean=DATA),
    "fine_tune, head named": lambda model: mc.fine_tune(model, mc.NaiveFineTuning(), clean=DATA, head="3"),
    "fine_tune, reference": lambda model: mc.fine_tune(
        network(1), mc.CBFT(), clean=DATA, cued=DATA, references={"cued": model}
    ),
    "representation_similarity": lambda model: mc.representation_similarity(network(1), model, DATA),
    "output_discrepancy": lambda model: mc.output_discrepancy(network(1), model, SUITE),
    "probe": lambda model: mc.probe(network(1), DATA, control=model),
    "measure_neighbours": lambda model: mc.measure_neighbours(model, DATA, {"label": "label"}),
    "evaluate_input_path": lambda model: mc.evaluate_input_path(model, DATA[0], DATA[0], DATA[1]),
    "seek_disagreement": lambda model: mc.seek_disagreement(model, DATA, DATA[0]),
    "mechanism_map": lambda model: mc.mechanism_map({"a": network(1), "b": model}, SUITE, norm=mc.KeepNorm()),
    "measure_groups": lambda model: mc.measure_groups(model, DATA, [0, 1] * 12),
    "load_model": mc.load_model,
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [scripted, traced, lambda: nn.DataParallel(scripted())])
@pytest.mark.parametrize("verb", REFUSING)
def test_torchscript_is_refused_in_one_line(verb: str, make: Callable[[], nn.Module]) -> None:
    with pytest.raises(TypeError, match="got a TorchScript module") as caught:
        REFUSING[verb](make())
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith("pass the nn.Module that was scripted or traced")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_what_the_refusal_names_is_accepted() -> None:
    model = network(1)
    torch.jit.script(model)
    assert mc.measure_invariance(model, SUITE).accuracy


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_layer_within_a_network_is_no_obstacle() -> None:
    def part() -> nn.Module:
        return nn.Sequential(torch.jit.script(nn.Linear(FEATURES, 5)), nn.Tanh(), nn.Linear(5, CLASSES))

    models = [build(part, seed) for seed in (1, 2)]
    before = copy.deepcopy(models[0].state_dict())
    path = mc.LinearPath(*map(mc.parameters_of, models))
    expected = [float(nn.functional.cross_entropy(model(DATA[0]), DATA[1]).detach()) for model in models]
    found = mc.evaluate_path(models[0], path, SUITE, ts=3).loss["cue"]
    assert [found[0], found[2]] == pytest.approx(expected, rel=1e-9)
    moved = mc.with_parameters(models[0], mc.parameters_of(models[1]))
    assert torch.equal(moved(DATA[0]), models[1](DATA[0]))
    check_same(models[0].state_dict(), dict(before))


def test_states_of_wrapped_networks_load_into_plain_ones(tmp_path: Path) -> None:
    model = network(2)
    torch.save(nn.DataParallel(compiled(model)).state_dict(), tmp_path / "b.pt")
    for factory in (network(1), nn.DataParallel(network(1)), compiled(network(1))):
        check_same(numbers(mc.load_model(factory, tmp_path / "b.pt")), dict(model.state_dict()))
