"""Distillation: closed forms, slow implementations of each term, what stays as it is, and other architectures."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.tuning._distillation_terms import compute_contrast, compute_direction_gaps, compute_soft_gaps
from reference import SlowSGD, cosine, gradients
from stopping import Counting, StoppedError
from zoo import CLASSES, FEATURES, build, images, mlp, norm_conv, norm_mlp, rows, split

X, Y = rows(24)
BATCHES = split((X, Y), [8, 8, 8])
ONE_STEP: dict[str, Any] = {"epochs": 1, "lr": 0.3, "momentum": 0.0, "weight_decay": 0.0}


def linear() -> nn.Module:
    return nn.Linear(FEATURES, CLASSES, bias=False)


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, CLASSES))


def test_a_linear_teacher_is_recovered_by_a_linear_student() -> None:
    """The soft targets' only minimum: the teacher's weights, up to what is added to all classes alike."""
    teacher, student = build(linear, 1), build(linear, 2)
    x = 3.0 * torch.cat([torch.eye(FEATURES), -torch.eye(FEATURES)]).double()  # one curvature in every direction
    method = mc.Distillation(
        temperature=2.0, label_share=0.0, epochs=80, lr=0.6, momentum=0.8, weight_decay=0.0, batch_size=8
    )
    found = mc.distill(teacher, student, method, x)
    mine, theirs = (own.get_parameter("weight").detach() for own in (found.model, teacher))
    gap = (mine - mine.mean(0)) - (theirs - theirs.mean(0))
    assert float(gap.abs().max()) < 2e-4  # 80 steps of a descent
    assert float((found.model(X).softmax(1) - teacher(X).softmax(1)).abs().max().detach()) < 2e-4


def test_a_step_of_soft_targets_is_its_closed_form() -> None:
    """d T^2 KL / d logits = T (p_student - p_teacher), so that W moves by -rate T mean (p_s - p_t) x^T."""
    teacher, student, (x, y) = build(linear, 1), build(linear, 2), BATCHES[0]
    method = mc.Distillation(temperature=2.0, label_share=0.25, **ONE_STEP)
    found = mc.distill(teacher, student, method, [(x, y)]).model.get_parameter("weight")
    start, wanted = (own.get_parameter("weight").detach() for own in (student, teacher))
    gap = (x @ start.T / 2.0).softmax(1) - (x @ wanted.T / 2.0).softmax(1)
    labelled = (x @ start.T).softmax(1) - one_hot(y, CLASSES)
    slope = (0.75 * 2.0 * gap + 0.25 * labelled).T @ x / len(x)
    torch.testing.assert_close(found, start - 0.3 * slope, rtol=1e-12, atol=1e-14)


def test_the_gradient_of_soft_targets_is_that_of_autograd() -> None:
    student, teacher = (rows(5, seed)[0].requires_grad_(seed == 1) for seed in (1, 2))
    (found,) = torch.autograd.grad(compute_soft_gaps(student, teacher, 3.0).sum(), student)
    torch.testing.assert_close(
        found, 3.0 * ((student / 3).softmax(1) - (teacher / 3).softmax(1)), rtol=1e-12, atol=1e-14
    )


def slow_jacobian_term(student: nn.Module, teacher: nn.Module, x: Tensor) -> Tensor:
    """Row by row: the whole Jacobian of the batch, of which a row's score has its own part."""
    total = torch.zeros((), dtype=x.dtype)
    for i in range(len(x)):
        row = x[i : i + 1].clone().requires_grad_()
        score = teacher(row)[0]
        k = int(score.argmax())
        (theirs,) = torch.autograd.grad(score[k], row)
        (mine,) = torch.autograd.grad(student(row)[0, k], row, create_graph=True)
        total = total + (mine / mine.norm() - theirs / theirs.norm()).square().sum()
    return total / len(x)


def slow_contrast(first: Tensor, second: Tensor, tau: float) -> Tensor:
    """Pair by pair."""

    def cosine_of(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b) / (a.norm() * b.norm()) / tau

    total = torch.zeros((), dtype=first.dtype)
    for i in range(len(first)):
        own = cosine_of(first[i], second[i])
        rest = [
            torch.stack([cosine_of(first[i], b) for b in second]),
            torch.stack([cosine_of(a, second[i]) for a in first]),
        ]
        total = total + sum((side.exp().sum().log() - own for side in rest), torch.zeros(())) / 2
    return total / len(first)


@pytest.mark.parametrize("terms", [{"jacobian": 0.7}, {"contrastive": 0.6}, {"jacobian": 0.2, "contrastive": 0.3}])
def test_a_run_is_that_of_the_slow_implementation(terms: dict[str, Any]) -> None:
    """Two epochs with momentum and decay; features of 7 numbers against 5, and maps that are trained and dropped."""
    teacher: Any = build(wide, 1)
    student: Any = build(mlp, 2)
    method = mc.Distillation(temperature=3.0, label_share=0.1, epochs=2, lr=0.1, projection=4, **terms)
    tuned = mc.distill(teacher, student, method, BATCHES, seed=3)
    theta = copy.deepcopy(student)
    with isolate_rng(3, "distillation", "maps"):
        maps = nn.ModuleList([nn.Linear(5, 4), nn.Linear(7, 4)]).double()
    whole = nn.ModuleList([theta, maps])
    optimiser = SlowSGD(whole, 0.9, 1e-4)
    for step in range(6):
        x, y = BATCHES[step % 3]
        with torch.no_grad():
            wanted, theirs = (teacher(x) / 3.0).softmax(1), teacher[:-1](x)
        own = (theta(x) / 3.0).softmax(1)
        loss = 0.9 * 9.0 * (wanted * (wanted.log() - own.log())).sum(1).mean()
        loss = loss - 0.1 * theta(x).log_softmax(1)[torch.arange(len(y)), y].mean()
        loss = loss + terms.get("jacobian", 0.0) * slow_jacobian_term(theta, teacher, x)
        features = theta[:-1](x)
        loss = loss + terms.get("contrastive", 0.0) * slow_contrast(maps[0](features), maps[1](theirs), 0.1)
        optimiser.step(gradients(whole, loss), cosine(0.1, step, 6))
    for name, tensor in tuned.model.state_dict().items():
        # A few iterations of float64, in another order than torch's.
        torch.testing.assert_close(tensor, theta.state_dict()[name], rtol=1e-8, atol=1e-9)
    assert {*tuned.history[0]} == {"epoch", "lr", "distillation", "clean", *terms}


def test_convolutions_and_norms_have_the_gradients_of_plain_torch() -> None:
    """In training mode a row's gradient is that of the sum of the scores over the batch; statistics move once."""
    teacher, student = build(norm_conv, 1, torch.float32).eval(), build(norm_conv, 2, torch.float32)
    x, y = images(12, 0)
    x = x.float()
    method = mc.Distillation(label_share=0.0, jacobian=1.0, **{**ONE_STEP, "lr": 0.05})
    tuned = mc.distill(teacher, student, method, [(x, y)])
    theta = copy.deepcopy(student).train()
    mine, theirs = (x.clone().requires_grad_() for _ in range(2))
    scores, wanted = theta(mine), teacher(theirs)
    places = torch.arange(len(x)), wanted.argmax(1)
    (own,) = torch.autograd.grad(scores[places].sum(), mine, create_graph=True)
    (other,) = torch.autograd.grad(wanted[places].sum(), theirs)
    loss = compute_soft_gaps(scores, wanted.detach(), 4.0).mean()
    loss = loss + compute_direction_gaps(own.flatten(1), other.flatten(1)).mean()
    SlowSGD(theta, 0.0, 0.0).step(gradients(theta, loss), 0.05)
    for name, tensor in tuned.model.state_dict().items():
        # float32, by kernels of this library where they are the faster ones.
        torch.testing.assert_close(tensor, theta.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_rows_without_a_direction_do_not_count_and_give_no_nan() -> None:
    student = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e-30, 0.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1e-38, 0.0]])
    gaps = compute_direction_gaps(student, teacher)
    torch.testing.assert_close(gaps, torch.tensor([1.0, 0.0, 0.0]))
    (slope,) = torch.autograd.grad(gaps.sum(), student)
    assert bool(slope.isfinite().all()) and not bool(slope[:2].any())
    constant, standing = build(mlp, 1), build(mlp, 2)
    for model in (constant, standing):
        torch.nn.init.zeros_(model.get_parameter("2.weight"))
    found = mc.distill(constant, build(mlp, 3), mc.Distillation(epochs=1, jacobian=1.0), (X, Y))
    assert found.history[0]["jacobian"] == 0.0
    assert found.notes == (
        "distillation's jacobian term was zero: the teacher's gradient in its inputs is zero on every row, so that it "
        "has no direction to match; set jacobian=0, or see whether the teacher depends on its inputs",
    )
    assert (
        mc.distill(build(mlp, 1), standing, mc.Distillation(epochs=1, jacobian=1.0), (X, Y)).history[0]["jacobian"]
        == 1.0
    )


def test_contrast_of_one_row_is_zero_and_a_note_says_so() -> None:
    assert float(compute_contrast(torch.ones(1, 3), -torch.ones(1, 3), 0.1)) == 0.0
    single = split((X[:3], Y[:3]), [1, 1, 1])
    found = mc.distill(build(wide, 1), build(mlp, 2), mc.Distillation(epochs=1, contrastive=1.0), single)
    assert found.history[0]["contrastive"] == 0.0 and "every batch had one row" in found.notes[0]


def test_without_a_share_no_label_is_read() -> None:
    """Not even one that names no class: any labels give the bits of inputs alone."""
    teacher, student, method = (
        build(wide, 1),
        build(norm_mlp, 2),
        mc.Distillation(epochs=2, batch_size=8, label_share=0.0),
    )
    found = [mc.distill(teacher, student, method, data) for data in (X, (X, Y), (X, torch.full((24,), 99)), X.numpy())]
    states = [own.model.state_dict() for own in found]
    assert all(torch.equal(state[name], states[0][name]) for state in states for name in state)
    labelled = mc.distill(teacher, student, mc.Distillation(epochs=2, batch_size=8), (X, Y)).model.state_dict()
    assert not torch.equal(labelled["0.weight"], states[0]["0.weight"])


def test_labels_alone_are_plain_training() -> None:
    """A share of one is a control: what cross-entropy makes of the same start, batches and schedule."""
    student: nn.Module = build(norm_mlp, 2)
    shared: Any = {"epochs": 2, "lr": 0.05}
    alone = mc.distill(build(wide, 1), student, mc.Distillation(label_share=1.0, **shared), BATCHES)
    plain = mc.fine_tune(student, mc.NaiveFineTuning(**shared), clean=BATCHES)
    assert alone.history == plain.history
    assert all(torch.equal(a, b) for a, b in zip(alone.model.parameters(), plain.model.parameters(), strict=True))


def test_the_teacher_is_asked_in_evaluation_mode_and_stays() -> None:
    teacher = build(norm_mlp, 1).train()
    before, flags = copy.deepcopy(teacher.state_dict()), [p.requires_grad for p in teacher.parameters()]
    method = mc.Distillation(epochs=1, batch_size=8, jacobian=0.5, contrastive=0.5)
    first = mc.distill(teacher, build(mlp, 2), method, (X, Y))
    assert teacher.training and [p.requires_grad for p in teacher.parameters()] == flags
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    again = mc.distill(copy.deepcopy(teacher).eval(), build(mlp, 2), method, (X, Y))
    assert first.history == again.history


def test_a_stopped_run_goes_on_and_another_teacher_is_another_run(tmp_path: Path) -> None:
    place = mc.Checkpoint(tmp_path / "run.safetensors", every=1)
    method = mc.Distillation(epochs=2, batch_size=8, jacobian=0.5, contrastive=0.5, label_share=0.2)
    teacher, student = build(wide, 1), build(norm_mlp, 2)
    with pytest.raises(StoppedError):
        mc.distill(teacher, student, method, (X, Y), loss=Counting(5), checkpoint=place)
    with pytest.raises(ValueError, match="another run"):
        mc.distill(build(wide, 5), student, method, (X, Y), loss=Counting(), checkpoint=place)
    resumed = mc.distill(teacher, student, method, (X, Y), loss=Counting(), checkpoint=place)
    whole = mc.distill(teacher, student, method, (X, Y), loss=Counting())
    assert resumed.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True))


def test_validation_chooses_by_labels_and_soft_targets_together() -> None:
    teacher, student, (x, y) = build(wide, 1), build(norm_mlp, 2), rows(9, 5)
    method = mc.Distillation(epochs=3, batch_size=8, lr=0.5, temperature=2.0, label_share=0.3)
    found = mc.distill(teacher, student, method, (X, Y), validation=(x, y))
    losses = [record["validation"] for record in found.history]
    assert found.settings["selected_epoch"] == losses.index(min(losses))
    with torch.no_grad():
        z, wanted = found.model(x), teacher(x)
        loss = 0.7 * compute_soft_gaps(z, wanted, 2.0).mean() + 0.3 * nn.functional.cross_entropy(z, y)
    assert min(losses) == pytest.approx(float(loss), rel=1e-9)


def test_one_logit_counts_as_two_classes() -> None:
    """A student of one logit learns from two outputs what it learns from their difference."""
    pair: Any = build(lambda: nn.Linear(FEATURES, 2), 1)
    single: Any = build(lambda: nn.Linear(FEATURES, 1))
    with torch.no_grad():
        single.weight.copy_(pair.weight[1:] - pair.weight[:1])
        single.bias.copy_(pair.bias[1:] - pair.bias[:1])
    student = build(lambda: nn.Sequential(nn.Linear(FEATURES, 1), nn.Flatten(0)), 2)
    data, method = (X, (Y > 0).long()), mc.Distillation(epochs=3, batch_size=8)
    found = [mc.distill(own, student, method, data, loss=mc.losses.binary) for own in (pair, single)]
    for a, b in zip(*(own.model.parameters() for own in found), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)  # 0 and z have the softmax of z0 and z1


def test_a_student_in_half_precision_gets_its_types_back() -> None:
    teacher, student = build(wide, 1, torch.float32), build(norm_mlp, 2, torch.bfloat16)
    method = mc.Distillation(epochs=2, batch_size=8, jacobian=0.1, contrastive=0.1)
    for own in (teacher, copy.deepcopy(teacher).bfloat16()):
        found = mc.distill(own, student, method, (X.float(), Y))
        assert {p.dtype for p in found.model.parameters()} == {torch.bfloat16}
        assert all(math.isfinite(record["distillation"]) for record in found.history)
