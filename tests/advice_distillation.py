"""What is advised on networks, data and settings of a distillation; see `test_advice_tuning`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import mechconn as mc
from advice import CLEAN, Advice, Applied, Twin, X, Y
from zoo import CLASSES, FEATURES, build, mlp

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 8}
JACOBIAN, CONTRAST = mc.Distillation(jacobian=1.0, **QUICK), mc.Distillation(contrastive=1.0, **QUICK)
TOKENS = torch.arange(24 * 4).view(24, 4) % 6, Y


def teach(
    teacher: nn.Module | None = None, student: nn.Module | None = None, method: Any = None, **settings: Any
) -> mc.Trained:
    how = mc.Distillation(**QUICK) if method is None else method
    first, second = (build(mlp, seed) if model is None else model for seed, model in ((1, teacher), (2, student)))
    return mc.distill(first, second, how, settings.pop("data", CLEAN), **settings)


class Once(torch.autograd.Function):
    """A square whose gradient has none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 2 * ctx.saved_tensors[0] * slopes[0]


class SquaredOnce(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        return self[1](Once.apply(self[0](input)))


class Embedded(nn.Module):
    """A classifier of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(6, 5), nn.Linear(5, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.table(tokens).mean(1) if tokens.dtype == torch.long else tokens.mean(1))


class Positions(nn.Module):
    """Outputs at two positions of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.head(x), self.head(-x)], 1)


def once() -> nn.Module:
    return SquaredOnce(nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES))


def outputs(count: int, seed: int = 1) -> nn.Module:
    return build(lambda: nn.Linear(FEATURES, count), seed)


def masked(value: float) -> nn.Module:
    """Never gives the last class."""
    return build(lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES - 1), nn.ConstantPad1d((0, 1), value)), 1)


def headless() -> nn.Module:
    return build(lambda: nn.Sequential(nn.Unflatten(1, (FEATURES, 1)), nn.Conv1d(FEATURES, CLASSES, 1), nn.Flatten()))


DISTILLATION_ADVICE: dict[str, Advice] = {
    "NO_CLASSES": Advice(
        lambda: teach(loss=mc.losses.squared, data=(X, Y.double())),
        "use loss=mechconn.losses.cross_entropy or another, or train the student on the teacher's outputs as targets",
        (
            lambda: teach(loss=mc.losses.cross_entropy),
            lambda: mc.train(
                build(mlp, 2), (X, build(mlp, 1)(X).detach()), mc.Training(**QUICK), loss=mc.losses.squared
            ),
        ),
    ),
    "COMPILED": Advice(
        lambda: teach(method=JACOBIAN, compute=mc.Compute(compile=True)),
        "leave compile=True out, or set jacobian=0",
        (lambda: teach(method=JACOBIAN), lambda: teach()),
    ),
    "INPUTS_ALONE": Advice(
        lambda: teach(data=X),
        "pass (inputs, labels), or set label_share=0",
        (lambda: teach(data=(X, Y)), lambda: teach(method=mc.Distillation(label_share=0, **QUICK), data=X)),
    ),
    "TOKENS_HAVE_NO_GRADIENT": Advice(
        lambda: teach(build(Embedded, 1), build(Embedded, 2), JACOBIAN, data=TOKENS),
        "set jacobian=0, or give embeddings as inputs of both networks",
        (
            lambda: teach(build(Embedded, 1), build(Embedded, 2), data=TOKENS),
            lambda: teach(build(Embedded, 1), build(Embedded, 2), JACOBIAN, data=(X[:, :, None].repeat(1, 1, 5), Y)),
        ),
    ),
    "NO_SECOND_DERIVATIVE": Advice(
        lambda: teach(student=build(once), method=JACOBIAN), "set jacobian=0", (lambda: teach(student=build(once)),)
    ),
    "TEACHER_GIVES_NAN": Advice(
        lambda: teach(masked(-torch.inf)),
        "repair its weights, or let it give large negative numbers in the place of -inf",
        (lambda: teach(build(mlp, 1)), lambda: teach(masked(-1e4))),
    ),
    "FROZEN_STUDENT": Advice(
        lambda: teach(student=build(mlp, 2).requires_grad_(False), method=CONTRAST),
        "call requires_grad_() on those to change",
        (lambda: teach(student=build(mlp, 2).requires_grad_(False).requires_grad_(), method=CONTRAST),),
    ),
    "NO_ROWS": Advice(
        lambda: teach(method=mc.Distillation(label_share=0, **QUICK), data={}),
        "at least one is needed",
        (lambda: teach(method=mc.Distillation(label_share=0, **QUICK), data=X[:1]),),
    ),
    "OTHER_CLASSES": Advice(
        lambda: teach(outputs(4), outputs(3)),
        "the teacher gives 4 and the student 3; build the student with 4 outputs",
        (lambda: teach(outputs(4), outputs(4)),),
    ),
    "OTHER_CLASSES_OF_GRADIENTS": Advice(
        lambda: teach(outputs(9), outputs(3), mc.Distillation(label_share=1, jacobian=1, **QUICK)),
        "build the student with the teacher's outputs",
        (lambda: teach(outputs(9), outputs(9), mc.Distillation(label_share=1, jacobian=1, **QUICK)),),
    ),
    "POSITIONS": Advice(
        lambda: teach(
            build(Positions), build(Positions), data=(X, torch.stack([Y, Y], 1)), loss=mc.losses.over_positions
        ),
        "distil a network of whole rows",
        (lambda: teach(outputs(3), outputs(3)),),
    ),
    "HEAD_OF_THE_TEACHER": Advice(
        lambda: teach(build(Twin), method=CONTRAST),
        "name it, as in teacher_head='unused', or set contrastive=0",
        (lambda: teach(build(Twin), method=CONTRAST, teacher_head="left"), lambda: teach(build(Twin))),
    ),
    "HEAD_OF_THE_STUDENT": Advice(
        lambda: teach(student=build(Twin), method=CONTRAST),
        "or set contrastive=0",
        (lambda: teach(student=build(Twin), method=CONTRAST, head="left"), lambda: teach(student=build(Twin))),
    ),
    "NO_HEAD": Advice(
        lambda: teach(student=headless(), method=CONTRAST), "set contrastive=0", (lambda: teach(student=headless()),)
    ),
    "HEAD_RUNS_TWICE": Advice(
        lambda: teach(student=build(lambda: Applied(2, last=True)), method=CONTRAST, head="head"),
        "name another layer with head=, or set contrastive=0",
        (
            lambda: teach(student=build(lambda: Applied(1, last=True)), method=CONTRAST, head="first"),
            lambda: teach(student=build(lambda: Applied(2, last=True))),
        ),
    ),
}
