"""UNDO: the student's gradient by hand, whole runs against a slow implementation, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

import mechconn as mc
from reference import SlowSGD, cosine, descended, gradients
from stopping import Counting, StoppedError
from zoo import CLASSES, FEATURES, build, mlp, norm_mlp, rows, split

BATCHES = split(rows(24), [8, 8, 8])
HALF: dict[str, Any] = {"shrink": 0.5, "noise": 0.0}
"""A student that starts at half of the teacher, so that it is known."""


def test_of_a_linear_network_a_step_is_its_closed_form() -> None:
    """d T^2 KL / d logits = T (p_student - p_teacher), so that the weights move by -rate T mean (p_s - p_t) x^T."""
    model, (x, y) = build(lambda: nn.Linear(FEATURES, CLASSES, bias=False)), BATCHES[0]
    method = mc.UNDO(
        epochs=1, lr=0.3, momentum=0.0, weight_decay=0.0, temperature=2.0, label_share=0.25,
        teacher=mc.NaiveFineTuning(epochs=1, lr=1e-300), **HALF,
    )  # fmt: skip
    found = mc.fine_tune(model, method, clean=[(x, y)]).model.get_parameter("weight")
    start = model.get_parameter("weight").detach()
    student, teacher = ((x @ w.T / 2.0).softmax(1) for w in (0.5 * start, start))
    labelled = (x @ (0.5 * start).T).softmax(1) - one_hot(y, CLASSES)
    slope = (0.75 * 2.0 * (student - teacher) + 0.25 * labelled).T @ x / len(x)
    torch.testing.assert_close(found, 0.5 * start - 0.3 * slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_a_run_is_that_of_the_slow_implementation(factory: Any) -> None:
    """Momentum, decay, two rates; a BatchNorm of the student starts anew, and the teacher's is in evaluation mode."""
    model, inner = build(factory), mc.NaiveFineTuning(epochs=1, lr=0.2)
    method = mc.UNDO(epochs=2, lr=0.1, temperature=3.0, teacher=inner, **HALF)
    tuned = mc.fine_tune(model, method, clean=BATCHES)
    teacher = descended(model, BATCHES, [cosine(0.2, step, 3) for step in range(3)])
    theta = copy.deepcopy(teacher).train()
    with torch.no_grad():
        for parameter in theta.parameters():
            parameter.mul_(0.5)
        for name, buffer in theta.named_buffers():
            buffer.fill_(1 if name.endswith("var") else 0)
    optimiser = SlowSGD(theta, 0.9, 1e-4)
    for step in range(6):
        x, _ = BATCHES[step % 3]
        with torch.no_grad():
            wanted = (teacher(x) / 3.0).softmax(1)
        loss = 9.0 * (wanted * (wanted.log() - (theta(x) / 3.0).softmax(1).log())).sum(1).mean()
        optimiser.step(gradients(theta, loss), cosine(0.1, step, 6))
    for name, tensor in tuned.model.state_dict().items():
        # A few iterations of float64, in another order than torch's.
        torch.testing.assert_close(tensor, theta.state_dict()[name], rtol=1e-9, atol=1e-10)
    assert [set(record) for record in tuned.history] == [
        {"epoch", "lr", "clean"},
        *[{"epoch", "lr", "distillation"}] * 2,
    ]


def test_a_fresh_student_owes_to_the_start_what_the_teacher_says() -> None:
    """With a standing teacher whose outputs are all alike, two starts give one student."""
    starts = [build(mlp, seed) for seed in (1, 2)]
    for start in starts:
        with torch.no_grad():
            start.get_parameter("2.weight").zero_()
            start.get_parameter("2.bias").zero_()
    method = mc.UNDO(epochs=2, teacher=mc.NaiveFineTuning(epochs=1, lr=1e-300))
    first, second = (mc.fine_tune(start, method, clean=BATCHES).model for start in starts)
    for name, tensor in first.state_dict().items():
        # The teacher's head is 1e-300 away from zero.
        torch.testing.assert_close(tensor, second.state_dict()[name], rtol=1e-12, atol=1e-14)


class TwoOutputs(nn.Module):
    """The outputs 0 and z of a network of one logit z."""

    def __init__(self, one: nn.Module) -> None:
        super().__init__()
        self.one = one

    def forward(self, x: Tensor) -> Tensor:
        z = self.one(x)
        return torch.cat([torch.zeros_like(z), z], 1)


def test_one_logit_is_two_outputs() -> None:
    one = build(lambda: nn.Sequential(nn.Linear(FEATURES, 4), nn.Tanh(), nn.Linear(4, 1)))
    data = [(x, y.clamp(max=1)) for x, y in BATCHES]
    method = mc.UNDO(epochs=2, label_share=0.5, teacher=mc.NaiveFineTuning(epochs=1), **HALF)
    first = mc.fine_tune(one, method, clean=data, loss=mc.losses.binary)
    second = mc.fine_tune(TwoOutputs(one), method, clean=data)
    for a, b in zip(first.history, second.history, strict=True):
        assert a == pytest.approx(dict(b), rel=1e-10)


def test_what_the_teacher_needs_is_asked_for_and_told() -> None:
    with pytest.raises(ValueError, match=r"^CBFT needs data with the cue: pass cued="):
        mc.fine_tune(build(mlp), mc.UNDO(teacher=mc.CBFT()), clean=BATCHES)
    llrt = mc.UNDO(epochs=1, teacher=mc.LastLayerRetraining(epochs=1))
    settings = mc.fine_tune(build(mlp), llrt, clean=BATCHES).settings
    assert settings["lr"] == 0.1 and settings["teacher"]["lr"] > 0 and settings["teacher"]["epochs"] == 1


def test_the_teachers_notes_stay_when_a_run_is_resumed_behind_it(tmp_path: Path) -> None:
    teacher = mc.PathAware(epochs=1, rho=50.0)
    method, cued = mc.UNDO(epochs=2, teacher=teacher), split(rows(24, 3), [8, 8, 8])
    place = mc.Checkpoint(tmp_path / "run.safetensors", every=1)
    # Three iterations of two losses, and then one in each.
    with pytest.raises(StoppedError):
        mc.fine_tune(build(mlp), mc.UNDO(epochs=2, teacher=teacher, label_share=0.1), clean=BATCHES, cued=cued,
                     loss=Counting(9), checkpoint=place)  # fmt: skip
    labelled = mc.UNDO(epochs=2, teacher=teacher, label_share=0.1)
    resumed = mc.fine_tune(build(mlp), labelled, clean=BATCHES, cued=cued, checkpoint=place)
    whole = mc.fine_tune(build(mlp), labelled, clean=BATCHES, cued=cued)
    assert resumed.notes == whole.notes and whole.notes[0].startswith("PathAware never was further than")
    assert all(torch.equal(a, b) for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True))
    assert not torch.equal(
        whole.model.get_parameter("0.weight"),
        mc.fine_tune(build(mlp), method, clean=BATCHES, cued=cued).model.get_parameter("0.weight"),
    )


def test_a_budget_is_shared_by_teacher_and_student() -> None:
    def epochs(method: Any) -> tuple[int, int]:
        return method.teacher.epochs, method.epochs

    assert epochs(mc.UNDO().with_epochs(60)) == (10, 50)
    assert epochs(mc.UNDO().with_epochs(2)) == (1, 1) and epochs(mc.UNDO().with_epochs(1)) == (1, 1)
    assert epochs(mc.UNDO(teacher=mc.LastLayerRetraining()).with_epochs(7)) == (200, 7)
    assert (mc.UNDO().passes(1), mc.UNDO(teacher=mc.CBFT()).passes(1)) == (1, 3)


def test_it_needs_classes() -> None:
    x, _ = rows(24)
    with pytest.raises(ValueError, match=r"UNDO distils the classes of whole rows: .* targets float64\[24\]"):
        mc.fine_tune(
            build(mlp), mc.UNDO(epochs=1), clean=(x, x[:, 0]), loss=lambda outputs, y: (outputs[:, 0] - y).square()
        )
    with pytest.raises(ValueError, match=r"label_share must be below 1, got 1\.0"):
        mc.UNDO(label_share=1.0)
    with pytest.raises(TypeError, match="teacher must be a Method"):
        mc.UNDO(teacher="FT")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="temperature must be a number greater than zero"):
        mc.UNDO(temperature=0.0)


def test_recipes_name_the_teacher(tmp_path: Path) -> None:
    from mechconn.paper import resolve_settings

    lines = ('recipe = "table1"', "[methods.again]", 'method = "UNDO"', 'teacher = {method = "PathAware", rho = 0.25}')
    (tmp_path / "own.toml").write_text("\n".join(lines), encoding="utf-8")
    settings: Any = resolve_settings(str(tmp_path / "own.toml"))[2]
    assert settings.methods["again"] == mc.UNDO(teacher=mc.PathAware(rho=0.25))
    dumped = settings.model_dump(mode="json")
    assert dumped["methods"]["again"]["teacher"]["method"] == "PathAware"
    assert type(settings).model_validate(dumped) == settings
