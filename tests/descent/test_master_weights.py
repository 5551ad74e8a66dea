"""Modules in bfloat16 or float16 are trained as float32 copies, and given back in their own types."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.descent import Method
from operations import METHODS, PATH_FITS
from reference import cosine, descended
from stopping import Counting, StoppedError, check_same
from world import Delicate, World, keep
from zoo import CLASSES, FEATURES, Recurrent, Tied, build, mlp, norm_mlp, rows, split

HALF = (torch.bfloat16, torch.float16)
Factory = Callable[[], nn.Module]


def half(factory: Factory, kind: torch.dtype = torch.bfloat16, seed: int = 0) -> nn.Module:
    return build(factory, seed, kind)


def full(model: nn.Module) -> nn.Module:
    """The witness's start: the same numbers in float32."""
    return copy.deepcopy(model).float()


def data(count: int, seed: int = 0, kind: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Inputs that bfloat16 and float16 hold exactly, as `kind`."""
    x, y = rows(count, seed)
    return (x * 8).round().div(8).to(kind), y


def check_rounded(found: nn.Module, exact: nn.Module, start: nn.Module) -> None:
    """The float32 result rounded to the start's types, bit for bit."""
    mine, other, types = found.state_dict(), exact.state_dict(), start.state_dict()
    assert list(mine) == list(other) == list(types)
    for name, tensor in mine.items():
        assert tensor.dtype == types[name].dtype, name
        assert torch.equal(tensor, other[name].to(tensor.dtype)), name


def tuned(model: nn.Module, method: Method, kind: torch.dtype = torch.float32, **settings: Any) -> mc.Trained:
    given: dict[str, Any] = {"clean": data(24, 0, kind), "cued": data(28, 3, kind), "validation": data(9, 5, kind)}
    return mc.fine_tune(model, method, seed=2, **{**given, **settings})


@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize("name", METHODS)
def test_a_half_module_is_trained_as_its_float32_copy_and_rounded(name: str, kind: torch.dtype) -> None:
    """Tied weights, statistics, dropout, a frozen layer, a hook; data of its own type, and a choice of epochs."""
    model = half(Delicate, kind)
    model.get_submodule("out").register_forward_hook(keep)
    before = World.of(model)
    found, exact = tuned(model, METHODS[name], kind), tuned(full(model), METHODS[name])
    before.check_unchanged(model)
    check_rounded(found.model, exact.model, model)
    assert found.history == exact.history
    assert found.settings == {**exact.settings, "master_weights": "float32"}
    assert "master_weights" not in exact.settings
    assert torch.equal(found.model.get_parameter("frozen.weight"), model.get_parameter("frozen.weight"))
    assert found.model.get_parameter("tied.weight") is found.model.get_parameter("block.0.weight")
    assert not found.model._forward_pre_hooks and list(found.model.get_submodule("out")._forward_hooks.values()) == [
        keep
    ]
    with torch.no_grad():
        assert found.model(data(4, 1, kind)[0]).dtype == kind  # it computes in its own type again


@pytest.mark.parametrize("kind", HALF)
def test_training_is_the_loop_by_hand_in_float32(kind: torch.dtype) -> None:
    model, batches = half(norm_mlp, kind), split(data(25), [9, 9, 7])
    found = mc.train(model, [(x.to(kind), y) for x, y in batches], mc.Training(epochs=2, milestones=(), lr=0.1))
    slow = descended(full(model), batches, [0.1] * 6)
    for name, tensor in found.model.state_dict().items():
        exact = slow.state_dict()[name]
        assert tensor.dtype == model.state_dict()[name].dtype
        # Six steps of float32 in another order than torch's, then one rounding: neighbours at most.
        torch.testing.assert_close(tensor.float(), exact.float(), rtol=2 * torch.finfo(kind).eps, atol=1e-5)


def one(kind: torch.dtype) -> nn.Module:
    """A weight of 1."""
    model = half(lambda: nn.Linear(1, 1, bias=False), kind)
    nn.init.ones_(model.get_parameter("weight"))
    return model


def test_steps_below_the_spacing_of_the_type_add_up() -> None:
    """The loss w x at x = 1 has the gradient 1, so that w ends at 1 less the sum of the rates, rounded once.

    Each of 40 steps is below 0.001, and bfloat16 has nothing between 1 and 0.99609375: one by one they are lost.
    """
    model = one(torch.bfloat16)
    ones = torch.ones(4, 1, dtype=torch.bfloat16), torch.zeros(4)
    method = mc.NaiveFineTuning(epochs=40, lr=0.001, momentum=0.0, weight_decay=0.0)
    found = mc.fine_tune(model, method, clean=ones, loss=lambda outputs, _: outputs[:, 0])
    end = 1.0 - sum(cosine(0.001, step, 40) for step in range(40))
    assert found.model.get_parameter("weight").item() == torch.tensor(end).bfloat16().item() == 0.98046875


class Mixed(nn.Module):
    """A float32 norm between layers of bfloat16, a buffer of float16: each layer casts to the type of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(FEATURES, 5).bfloat16(), nn.LayerNorm(5)
        self.out = nn.Linear(5, CLASSES).bfloat16()
        self.register_buffer("scale", torch.full((5,), 0.75, dtype=torch.float16))
        self.register_buffer("shared", self.get_buffer("scale"))

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(self.first(x.to(self.first.weight.dtype)).to(self.norm.weight.dtype))
        return self.out((z * self.get_buffer("scale")).to(self.out.weight.dtype))


def mixed() -> Mixed:
    with isolate_rng(0, "mixed"):
        return Mixed()


def test_each_tensor_of_a_mixed_module_gets_its_own_type_back() -> None:
    model = mixed()
    found, exact = tuned(model, METHODS["CBFT"]), tuned(full(model), METHODS["CBFT"])
    check_rounded(found.model, exact.model, model)
    assert torch.equal(found.model.get_buffer("scale"), model.get_buffer("scale"))
    assert found.model.get_buffer("scale") is found.model.get_buffer("shared")


SEEN: set[torch.dtype] = set()
"""Types of outputs; here, since what a hook's closure holds is copied with the module."""


def test_what_trains_in_float32_or_float64_stays_as_it_is() -> None:
    """Also where frozen layers are in half precision: there is nothing to lose in steps that are not taken."""
    model = mixed()
    model.first.requires_grad_(False)
    model.out.float()
    for name in ("scale", "shared"):
        model.register_buffer(name, torch.ones(5))
    SEEN.clear()
    model.first.register_forward_hook(lambda _, __, output: SEEN.add(output.dtype))
    found = tuned(model, METHODS["NaiveFineTuning"])
    assert {torch.bfloat16} == SEEN and "master_weights" not in found.settings
    double = tuned(build(mlp), METHODS["NaiveFineTuning"], torch.float64)
    assert double.model.get_parameter("0.weight").dtype == torch.float64 and "master_weights" not in double.settings


@pytest.mark.parametrize("factory", [Tied, Recurrent])
def test_tied_and_computed_weights(factory: Factory) -> None:
    model = half(factory)
    check_rounded(
        tuned(model, METHODS["NaiveFineTuning"]).model, tuned(full(model), METHODS["NaiveFineTuning"]).model, model
    )


def test_inputs_of_every_form_and_a_transform_that_meets_them_as_they_are() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp()

        def forward(self, x: Tensor, *, parts: dict[str, Any]) -> Tensor:
            return self.body(x + parts["shift"][0])

    met: list[torch.dtype] = []

    def transform(inputs: Any) -> Any:
        met.append(inputs["x"].dtype)
        return inputs

    def batches(kind: torch.dtype) -> Any:
        x, y = data(24, 0, kind)
        return [({"x": x, "parts": {"shift": [x.flip(0)], "number": 3}}, y)]

    model, method = half(Two), METHODS["NaiveFineTuning"]
    found = mc.fine_tune(model, method, clean=batches(torch.bfloat16), transform=transform)
    check_rounded(found.model, mc.fine_tune(full(model), method, clean=batches(torch.float32)).model, model)
    assert set(met) == {torch.bfloat16}


@pytest.mark.parametrize("loss", [huber_loss, binary_cross_entropy_with_logits], ids=["huber", "binary cross-entropy"])
def test_targets_of_half_precision_meet_the_loss_as_float32(loss: Any) -> None:
    """Huber refuses two types; binary cross-entropy of float32 outputs would come in the type of its targets."""
    x, y = data(24, 0, torch.bfloat16)
    targets = torch.nn.functional.one_hot(y, CLASSES).bfloat16()
    model, method = half(mlp), METHODS["NaiveFineTuning"]

    def per_sample(outputs: Tensor, given: Tensor) -> Tensor:
        return loss(outputs, given, reduction="none").mean(1)

    found = mc.fine_tune(model, method, clean=(x, targets), validation=(x, targets), loss=per_sample)
    given = (x.float(), targets.float())
    exact = mc.fine_tune(full(model), method, clean=given, validation=given, loss=per_sample)
    check_rounded(found.model, exact.model, model)
    assert found.history == exact.history


def test_references_of_its_type() -> None:
    model, other, method = half(norm_mlp), half(norm_mlp, seed=1), mc.CBFT(epochs=2, batch_size=8)
    sources = {"box": data(24, 3), "hue": data(24, 4)}
    found = mc.fine_tune(model, method, clean=data(24), cued=sources, references={"hue": other})
    exact = mc.fine_tune(full(model), method, clean=data(24), cued=sources, references={"hue": full(other)})
    check_rounded(found.model, exact.model, model)
    assert found.history == exact.history


def test_a_checkpoint_holds_float32_and_a_resumed_run_ends_bit_identical(tmp_path: Path) -> None:
    model, method, file = half(norm_mlp), mc.CBFT(epochs=3, batch_size=8), tmp_path / "run.safetensors"
    whole = tuned(model, method)
    for last in (5, 7):
        with pytest.raises(StoppedError):
            tuned(model, method, loss=Counting(last), checkpoint=mc.Checkpoint(file, every=1))
    held = {name: t.dtype for name, t in load_file(file).items() if name.startswith("state/") and t.is_floating_point()}
    assert len(held) > 8 and set(held.values()) == {torch.float32}
    check_same(tuned(model, method, checkpoint=mc.Checkpoint(file)), whole)
    with pytest.raises(ValueError, match="was written by another run"):
        tuned(full(model), method, checkpoint=mc.Checkpoint(file))


@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize("name", PATH_FITS)
def test_paths_are_fitted_in_float32_and_rounded(name: str, kind: torch.dtype) -> None:
    model, ends = half(norm_mlp, kind), [half(norm_mlp, kind, seed) for seed in (1, 2)]
    a, b = map(mc.parameters_of, ends)
    found = mc.fit_path(model, a, b, PATH_FITS[name], data(24, 0, kind))
    a32, b32 = (mc.parameters_of(full(end)) for end in ends)
    exact = mc.fit_path(full(model), a32, b32, PATH_FITS[name], data(24))
    for point, control in zip(found.path.points[1:-1], exact.path.points[1:-1], strict=True):
        for key, tensor in point.items():
            assert torch.equal(tensor, control[key].to(kind)), key
    assert found.history == exact.history
    assert found.settings["master_weights"] == "float32" and "master_weights" not in exact.settings
    assert {tensor.dtype for tensor in found.path.at(0.3).values()} == {kind}


def test_methods_are_compared_from_a_half_module() -> None:
    model, method, kind = half(mlp), METHODS["CBFT"], torch.bfloat16
    suite = mc.Suite({"cue": data(30, 3, kind), "rand_cue": data(30, 4, kind)}, reference="cue")
    task = mc.TuningTask(model, data(24, 0, kind), suite, cued=data(28, 3, kind), seed=2)
    table = mc.compare_methods(task, {"CBFT": method})
    alone = mc.fine_tune(model, method, clean=data(24), cued=data(28, 3), seed=2)
    measured = mc.measure_invariance(alone.model, suite)
    assert table.runs[1].settings == alone.settings and alone.settings["master_weights"] == "float32"
    assert table.runs[1].accuracy == measured.accuracy


# ---------------------------------------------------------------- what is refused


DATA = rows(24, dtype=torch.float32)


def test_a_weight_beyond_float16_is_told_and_float32_trains_it() -> None:
    """The loss -w grows without end: the weight passes 65504, the largest float16."""
    model = half(lambda: nn.Linear(1, 1, bias=False), torch.float16)
    nn.init.ones_(model.get_parameter("weight"))
    method = mc.NaiveFineTuning(epochs=1, lr=1e5, weight_decay=0.0)
    ones = torch.ones(4, 1), torch.zeros(4)

    def falling(outputs: Tensor, _: Tensor) -> Tensor:
        return -outputs[:, 0]

    with pytest.raises(FloatingPointError) as caught:
        mc.fine_tune(model, method, clean=ones, loss=falling)
    assert str(caught.value) == (
        "weight reached 1e+05 in float32, which is beyond float16; lower the learning rate, or train model.float()"
    )
    lower = mc.NaiveFineTuning(epochs=1, lr=1e3, weight_decay=0.0)
    assert mc.fine_tune(model, lower, clean=ones, loss=falling).model.get_parameter("weight").item() == 1001
    exact = mc.fine_tune(copy.deepcopy(model).float(), method, clean=ones, loss=falling)
    assert exact.model.get_parameter("weight").item() == 100001


class ByName(nn.Module):
    """It casts its inputs to a type that it names, or to that of its weights."""

    def __init__(self, named: bool) -> None:
        super().__init__()
        self.out, self.named = nn.Linear(FEATURES, CLASSES), named

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.to(torch.bfloat16 if self.named else self.out.weight.dtype))


def test_a_cast_by_name_is_told_with_what_to_write_instead() -> None:
    a, b = (mc.parameters_of(half(lambda: ByName(True), seed=seed)) for seed in (1, 2))
    calls: list[Callable[[nn.Module], object]] = [
        lambda model: mc.fine_tune(model, METHODS["NaiveFineTuning"], clean=DATA),
        lambda model: mc.fine_tune(model, METHODS["DFR"], clean=DATA),
        lambda model: mc.fit_path(model, a, b, PATH_FITS["BezierFit"], DATA),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match="is trained as a float32 copy, whose forward pass meets two types"
        ) as caught:
            call(half(lambda: ByName(True)))
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("let it cast to the type of its weights, as in x.to(self.weight.dtype)")
        call(half(lambda: ByName(False)))


def test_other_errors_of_a_half_module_come_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        mc.fine_tune(half(mlp), METHODS["NaiveFineTuning"], clean=(torch.ones(8, 7), rows(8)[1]))
