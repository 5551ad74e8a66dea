"""Models and calls with which an advice of an error is followed; see `test_advice_tuning`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import peft
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations, parametrize
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from operations import METHODS
from zoo import CLASSES, FEATURES, build, mlp, rows

CLEAN, CUED = rows(24), rows(24, 3)
X, Y = CLEAN
NAIVE, CBFT, LLRT = METHODS["NaiveFineTuning"], mc.CBFT(epochs=2, batch_size=8), METHODS["LastLayerRetraining"]
PATH = mc.BezierFit(epochs=1, batch_size=8)
SUITE = mc.Suite({"cue": CUED, "rand_cue": rows(24, 4)}, reference="cue")


@dataclass(frozen=True)
class Advice:
    """An error, and calls that follow what it says.

    Attributes:
        call: provokes it.
        says: the advice in its text.
        follow: each takes one way that the text offers.
    """

    call: Callable[[], object]
    says: str
    follow: tuple[Callable[[], object], ...]


def tune(model: nn.Module | None = None, method: Any = NAIVE, **settings: Any) -> mc.Trained:
    return mc.fine_tune(build(mlp) if model is None else model, method, **{"clean": CLEAN, **settings})


def adapt() -> Any:
    """A network with low-rank adapters, as PEFT makes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return peft.get_peft_model(build(mlp), peft.LoraConfig(r=2, target_modules=["0"])).double()


def fit(model: nn.Module, method: Any = PATH) -> mc.FittedPath:
    a, b = (mc.parameters_of(build(lambda: copy.deepcopy(model), seed)) for seed in (1, 2))
    return mc.fit_path(model, a, b, method, CLEAN)


class Masked(nn.Sequential):
    """Hidden units of which a buffer lets some through."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(FEATURES, 6), nn.Linear(6, CLASSES))
        self.register_buffer("mask", torch.ones(6))

    def forward(self, input: Tensor) -> Tensor:
        return self[1](self[0](input).relu() * self.get_buffer("mask"))


def masked(unit: int) -> nn.Module:
    """A network without one of its hidden units."""
    model = build(Masked, unit)
    model.get_buffer("mask")[unit] = 0.0
    return model


def frozen(*, but: str = "") -> nn.Module:
    model = build(mlp).requires_grad_(False)
    if but:
        model.get_parameter(but).requires_grad_()
    return model


def compare(**settings: Any) -> mc.MethodComparison:
    given: dict[str, Any] = {"tasks": task(), "methods": {"naive": NAIVE}, **settings}
    return mc.compare_methods(given.pop("tasks"), given.pop("methods"), **given)


def task(**changes: Any) -> mc.TuningTask:
    return replace(mc.TuningTask(build(mlp), CLEAN, SUITE), **changes)


def loader(count: int, **settings: Any) -> Any:
    return DataLoader(TensorDataset(*rows(count)), batch_size=8, **settings)


def without(label: int) -> tuple[Tensor, Tensor]:
    x, y = CLEAN
    return x[y != label], y[y != label]


class Twin(nn.Module):
    """Two linear layers side by side, and one that is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(FEATURES, CLASSES), nn.Linear(FEATURES, CLASSES)
        self.unused = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


class Applied(nn.Module):
    """Its last layer runs twice in each forward pass, and its output is scaled."""

    def __init__(self, times: int = 1, last: bool = False) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)
        self.times, self.last = times, last

    def forward(self, x: Tensor) -> Tensor:
        outputs = sum((self.head(torch.tanh(self.first(x))) for _ in range(self.times)), torch.zeros(()))
        return outputs if self.last else outputs.log_softmax(1)


class Tied(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
        if tied:
            self.head.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)))


class Tokens(nn.Module):
    """A head on every token, flattened for the features, averaged for the output."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x)).mean(1)


class Bare(nn.Module):
    """A weight that no reset_parameters draws."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.scale = mlp(), nn.Parameter(torch.ones(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.scale


class Drawn(Bare):
    """The same with one."""

    def reset_parameters(self) -> None:
        nn.init.ones_(self.scale)


def parametrised(*, removed: bool) -> nn.Module:
    model = build(mlp)
    head = parametrizations.weight_norm(model.get_submodule("2"))
    if removed:
        parametrize.remove_parametrizations(head, "weight")
    return model


def untied() -> nn.Module:
    model = build(lambda: Tied(tied=True))
    head: Any = model.get_submodule("head")
    head.weight = nn.Parameter(head.weight.detach().clone())
    return model


def words(length: int, pad: int = 0) -> Any:
    return [
        (
            torch.cat([torch.arange(9 * length).reshape(9, length) % 20, torch.zeros(9, pad).long()], 1),
            torch.arange(9) % CLASSES,
        )
    ]


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


def mean_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs, targets)


def planted() -> Any:
    return mc.datasets.cue_task("planted", rows=60, test_rows=30)


def start_of(dataset: Any) -> nn.Module:
    return build(
        lambda: nn.Sequential(nn.Linear(dataset.train.inputs(torch.tensor([0])).shape[1], 4)), dtype=torch.float32
    )


class OnceBefore(nn.Module):
    """A first layer that runs once, and a last one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.first(x))
        return self.head(z) + self.head(-z)


def thawed(layer: str) -> nn.Module:
    model = frozen(but="0.weight")
    model.get_submodule(layer).requires_grad_()
    return model
