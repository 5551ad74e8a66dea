"""The state of an optimiser in checkpoints: any run that is stopped ends bit for bit as one that was not."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

import mechconn as mc
from mechconn.core import read_with_note
from stopping import Counting, StoppedError, check_same, run
from zoo import build, mlp, norm_conv, norm_mlp, rows

OLD = Path(__file__).parent / "momentum_checkpoint.bin"
"""A .safetensors file that the release before other optimisers than SGD wrote, in the second epoch of `old_run`."""


class Rounding(torch.optim.Optimizer):
    """One of a user's: a velocity in float32 whatever the weights are, a number of steps that is no tensor."""

    def __init__(self, groups: Any, lr: float = 0.01) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "taken": 0, "span": (1, 2.5)})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["taken"] += 1
            for weight in group["params"]:
                state = self.state[weight]
                state["count"] = state.get("count", 0) + 1
                velocity = state.setdefault("velocity", torch.zeros_like(weight, dtype=torch.float32))
                velocity.mul_(0.9).add_(weight.grad.float())
                weight.sub_(group["lr"] * velocity.to(weight) / (state["count"] + group["taken"]))


OPTIMIZERS: dict[str, Any] = {
    "Rounding": Rounding,
    "sgd": "sgd",
    "adam": "adam",
    "adamw": mc.AdamW((0.8, 0.99)),
    "RMSprop": functools.partial(torch.optim.RMSprop, momentum=0.5, centered=True),
    "NAdam": torch.optim.NAdam,  # keeps a product in float32, also for weights in float64
    "ASGD": torch.optim.ASGD,
    "Adagrad": torch.optim.Adagrad,
    "Adafactor": torch.optim.Adafactor,
    "nesterov": functools.partial(torch.optim.SGD, momentum=0.5, nesterov=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=6)
@given(
    last=st.integers(1, 24),
    warmup=st.sampled_from([0, 3, 0.5]),
    clip_norm=st.sampled_from([None, 0.1]),
    accumulate=st.sampled_from([1, 2]),
    alternating=st.booleans(),
    every=st.integers(1, 4),
)
def test_a_run_that_is_stopped_anywhere_ends_with_the_same_bits(
    name: str, last: int, alternating: bool, every: int, tmp_path_factory: Any, **given: Any
) -> None:
    """Two objectives in turn or one, in the middle of an epoch or of a step, at least four steps."""
    given |= {"epochs": 3, "batch_size": 8, "lr": 0.02, "optimizer": OPTIMIZERS[name], "weight_decay_on": "matrices"}
    method = mc.CBFT(**given) if alternating else mc.NaiveFineTuning(**given)
    place = mc.Checkpoint(tmp_path_factory.mktemp("run") / "run.safetensors", every=every)
    whole = run(method, model=build(norm_mlp))
    for stop in (last, last + 3):
        try:
            run(method, model=build(norm_mlp), loss=Counting(stop), checkpoint=place)
        except StoppedError:
            continue
    check_same(run(method, model=build(norm_mlp), checkpoint=place), whole)


def test_the_state_is_that_of_torch_in_types_and_values(tmp_path: Path) -> None:
    """In float32 weights too, and each tensor in the type that the optimiser keeps it in."""
    file = tmp_path / "run.safetensors"
    method = mc.NaiveFineTuning(epochs=1, batch_size=8, optimizer=torch.optim.NAdam)
    run(method, model=build(mlp), checkpoint=mc.Checkpoint(file))
    tensors, note = read_with_note(file)
    own = {name.removeprefix("state/optimizer/"): t for name, t in tensors.items() if "optimizer/" in name}
    assert len(own) == 4 * 4 and own["weight/0/step"] == 3.0
    assert own["weight/0/mu_product"].dtype == torch.float32 and own["weight/0/exp_avg"].dtype == torch.float64
    assert note["optimizer"]["kind"] == "torch.optim.nadam:NAdam"
    assert note["optimizer"]["values"]["group/0/betas"] == [0.9, 0.999]


# ---------------------------------------------------------------- what was written before


def old_network() -> nn.Module:
    model = build(mlp)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((torch.arange(parameter.numel()) % 5 - 2).view_as(parameter) / 8)
    return model


def old_run(**settings: Any) -> mc.Trained:
    """Of numbers that every machine computes alike, so that the file's run is this one."""
    data = ((torch.arange(96) % 7).double() / 8).view(24, 4), torch.arange(24) % 3
    return mc.train(old_network(), data, mc.Training(epochs=3, batch_size=8, milestones=(1,)), seed=3, **settings)


def test_a_checkpoint_that_an_earlier_release_wrote_goes_on(tmp_path: Path) -> None:
    file, loss = tmp_path / "run.safetensors", Counting()
    shutil.copy(OLD, file)
    found, whole = old_run(checkpoint=mc.Checkpoint(file, every=1), loss=loss), old_run()
    assert loss.calls == 5  # of nine steps four were done
    for name, tensor in found.model.state_dict().items():
        torch.testing.assert_close(tensor, whole.model.state_dict()[name], rtol=1e-12, atol=1e-14)  # another machine's


def test_runs_of_sgd_write_what_that_release_wrote(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    with pytest.raises(StoppedError):
        old_run(checkpoint=mc.Checkpoint(file, every=1), loss=Counting(5))
    (mine, note), (theirs, other) = read_with_note(file), read_with_note(OLD)
    assert note.keys() == other.keys() and note["identity"] == other["identity"]
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------- what cannot be written


class Listing(torch.optim.SGD):
    """It keeps a list of tensors for each weight."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for weight in group["params"]:
                self.state[weight].setdefault("seen", []).append(weight.detach().clone())
        return super().step(closure)


class Own(torch.optim.SGD):
    """It writes a state of its own."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "mine": 1}


class Labelled(torch.optim.SGD):
    """It keeps what belongs to no weight."""

    def step(self, closure: Any = None) -> Any:
        self.state["all"] = {"steps": 1}  # pyright: ignore[reportArgumentType]
        return super().step(closure)


@pytest.mark.parametrize(
    ("kind", "text", "losses"),
    [
        (Listing, "a checkpoint holds tensors and plain values, and .*Listing keeps a list as 'seen'; leave check", 1),
        (Labelled, r"keeps its state in its own way; leave checkpoint= out, or use another, such as", 1),
        (Own, r"keeps its state in its own way; leave checkpoint= out, or use another, such as", 0),
    ],
)
def test_a_state_that_no_file_holds_is_refused_after_one_step_at_most(
    kind: Any, text: str, losses: int, tmp_path: Path
) -> None:
    method, loss = mc.NaiveFineTuning(epochs=3, batch_size=8, optimizer=kind), Counting()
    with pytest.raises(ValueError, match=text) as caught:
        run(method, loss=loss, checkpoint=mc.Checkpoint(tmp_path / "run.safetensors"))
    assert "\n" not in str(caught.value) and loss.calls == losses
    run(method)


def test_the_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    """Local functions have no name that would tell their runs apart."""
    place, made = mc.Checkpoint(tmp_path / "run.safetensors", every=1), [torch.optim.Adam, torch.optim.Adagrad]

    def make(groups: Any, lr: float) -> torch.optim.Optimizer:
        return made.pop(0)(groups, lr)

    method = mc.NaiveFineTuning(epochs=3, batch_size=8, lr=0.01, optimizer=make)
    with pytest.raises(StoppedError):
        run(method, loss=Counting(3), checkpoint=place)
    with pytest.raises(
        ValueError, match=r"holds the state of torch.optim.adam:Adam, and optimizer makes .*Adagrad; name"
    ):
        run(method, checkpoint=place)


def test_runs_of_other_optimizers_are_other_runs(tmp_path: Path) -> None:
    place = mc.Checkpoint(tmp_path / "run.safetensors")
    run(mc.NaiveFineTuning(epochs=2, batch_size=8, lr=0.01, optimizer="adam"), checkpoint=place)
    for change in ({"optimizer": "adamw"}, {"optimizer": mc.Adam((0.8, 0.9))}, {"optimizer": "adam", "warmup": 2}):
        with pytest.raises(ValueError, match="was written by another run"):
            run(mc.NaiveFineTuning(**{"epochs": 2, "batch_size": 8, "lr": 0.01, **change}), checkpoint=place)


def test_relearning_with_adamw_goes_on_and_ends_alike(tmp_path: Path) -> None:
    """A half of its checkpoints are there: what comes of them is what came without."""
    model, control = build(mlp), build(mlp, 1)
    data, split = rows(16, 5), rows(30, 6)
    suite = mc.Suite({"cue": split, "rand_cue": tuple(t.clone() for t in split)}, reference="cue")

    def relearned(folder: Path | None) -> mc.Relearned:
        relearning = mc.Relearning(steps=(4, 8), seeds=2, batch_size=8, optimizer="adamw", warmup=2)
        return mc.measure_relearning(
            model, relearning, data, suite, split="cue", control=control, intervention="rand_cue", folder=folder
        )

    whole, written = relearned(None), relearned(tmp_path)
    for file in sorted(tmp_path.iterdir())[::2]:
        file.unlink()
    again = relearned(tmp_path)
    assert whole.runs[0].curve.means == written.runs[0].curve.means == again.runs[0].curve.means
    assert whole.settings["optimizer"] == "adamw" and whole.settings["lr"] == 0.001


def test_a_choice_of_epochs_is_restored_beside_the_state(tmp_path: Path) -> None:
    method = mc.CBFT(epochs=4, batch_size=4, accumulate=3, clip_norm=0.5, optimizer="adamw", warmup=0.3)
    given: dict[str, Any] = {"validation": rows(12, 7), "transform": lambda x: x + 0.1 * torch.randn_like(x)}
    whole, place = run(method, **given), mc.Checkpoint(tmp_path / "run.safetensors", every=1)
    for stop in (5, 9, 14):
        with pytest.raises(StoppedError):
            run(method, loss=Counting(stop), checkpoint=place, **given)
    check_same(run(method, checkpoint=place, **given), whole)


def test_tensors_of_a_layout_of_their_own_keep_it(tmp_path: Path) -> None:
    """Weights in channels_last have a state in channels_last, and go on with the same bits."""
    model: Any = build(norm_conv, dtype=torch.float32)
    model = model.to(memory_format=torch.channels_last)
    data = torch.linspace(-1, 1, 12 * 75).view(12, 3, 5, 5), torch.arange(12) % 3
    method = mc.Training(epochs=3, batch_size=4, optimizer="adamw", milestones=())
    place, whole = mc.Checkpoint(tmp_path / "run.safetensors", every=1), mc.train(model, data, method)
    with pytest.raises(StoppedError):
        mc.train(model, data, method, loss=Counting(5), checkpoint=place)
    check_same(mc.train(model, data, method, checkpoint=place), whole)
    assert load_file(tmp_path / "run.safetensors")["state/optimizer/weight/0/exp_avg"].shape == (4, 3, 3, 3)


@pytest.mark.parametrize("name", ["adamw", "NAdam", "RMSprop"])
def test_a_model_in_half_precision_has_its_state_in_float32(name: str, tmp_path: Path) -> None:
    model, data = build(mlp, dtype=torch.bfloat16), (rows(24)[0].bfloat16(), rows(24)[1])
    method = mc.NaiveFineTuning(epochs=3, batch_size=8, optimizer=OPTIMIZERS[name])
    place, whole = mc.Checkpoint(tmp_path / "run.safetensors", every=1), mc.train(model, data, method, seed=2)
    with pytest.raises(StoppedError):
        mc.train(model, data, method, seed=2, loss=Counting(6), checkpoint=place)
    held = [t for key, t in load_file(place.file).items() if key.startswith("state/optimizer/weight/")]
    assert held and all(tensor.dtype == torch.float32 for tensor in held)
    check_same(mc.train(model, data, method, seed=2, checkpoint=place), whole)


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["adamw", torch.optim.NAdam, functools.partial(torch.optim.AdamW, fused=True)])
def test_on_a_gpu_each_tensor_of_the_state_is_where_it_was(optimizer: Any, tmp_path: Path) -> None:
    """The number of steps is on the CPU, or with fused=True on the GPU."""
    method = mc.NaiveFineTuning(epochs=3, batch_size=8, optimizer=optimizer)
    place, whole = mc.Checkpoint(tmp_path / "run.safetensors", every=1), run(method, model=build(mlp), device="cuda")
    with pytest.raises(StoppedError):
        run(method, model=build(mlp), device="cuda", loss=Counting(6), checkpoint=place)
    check_same(run(method, model=build(mlp), device="cuda", checkpoint=place), whole)
