"""How far the outputs of two models lie apart under interventions: a graded score, no verdict on mechanisms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.connectivity import Evaluator
from mechconn.core import Compute, PerSampleLoss, Progress, check_is, resolve_compute
from mechconn.datasets import ModelOutputs, Suite, check_interventions, check_label_names, represent_pair_on_suite
from mechconn.losses import cross_entropy
from mechconn.network import Outcomes, check_row_order, fix_device
from mechconn.plotting import Cell, Drawing, Header, Result, Section, Table, draw_marks

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

EPSILON = 1e-8
Draws: TypeAlias = Callable[[str], Sequence[Outcomes]]
"""Split -> outcomes of one model on every draw of it."""


@dataclass(frozen=True, repr=False)
class OutputDiscrepancy(Result, kind="output_discrepancy"):
    """Mean distance between two models' class probabilities; `print(result)` lists it by split.

    Attributes:
        splits: split -> mean over its rows and draws of the L1 distance, in [0, 2]: twice the total variation.
        mean: the mean over `transformations`, each with the same weight.
        similarity: 1 / (mean + 1e-8): 1e8 where the outputs are the same everywhere.
        transformations: the interventions of the suite; the other splits stand beside them.
        compute: how it was computed: device, number type of the layers, batch size; see `Compute`.
    """

    splits: Mapping[str, float]
    mean: float
    similarity: float
    transformations: tuple[str, ...]
    compute: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        splits = ", ".join(f"{split} {distance:.4g}" for split, distance in self.splits.items())
        return (
            f"class probabilities lie {self.mean:.4g} apart on average over {', '.join(self.transformations)} "
            f"(L1 distance, at most 2); similarity {self.similarity:.4g}\n  by split: {splits}"
        )

    def rows(self) -> list[dict[str, Any]]:
        """One record per split: its distance, and whether it is an intervention."""
        return [
            {"split": split, "distance": distance, "intervention": split in self.transformations}
            for split, distance in self.splits.items()
        ]

    def header(self) -> Header:
        """What was asked."""
        return Header(f"{self.mean:.3g} apart on average", "How far do the class probabilities lie apart?")

    def sections(self) -> list[Section]:
        """The distance on every split."""
        rows = tuple(
            (Cell(split, "" if split in self.transformations else "reported only"), f"{distance:.4f}")
            for split, distance in self.splits.items()
        )
        table = Table(("split", "L1 distance"), rows)
        note = f"Mean over the interventions: {self.mean:.4f}, at most 2. Reported only; no verdict on mechanisms."
        figure = Drawing(self.plot, f"L1 distances of class probabilities by split. {self}")
        return [Section("How far the outputs lie apart", figures=(figure,), tables=(table,), note=note)]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the distance on every split."""
        marks = [(distance, distance, distance) for distance in self.splits.values()]
        return draw_marks([*self.splits], {"L1 distance": marks}, "L1 distance", "split", ax)


@torch.no_grad()
def output_discrepancy(
    model_a: nn.Module | ModelOutputs,
    model_b: nn.Module | ModelOutputs,
    suite: Suite,
    *,
    loss: PerSampleLoss = cross_entropy,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> OutputDiscrepancy:
    """The mean over transformations T of the mean over rows of |f_a(T x) - f_b(T x)|_1, f the class probabilities.

    T runs over the interventions of the suite; |.|_1 is the sum over the classes, so the score does not shrink as
    classes are added. It says how differently two models answer, not why: two models of one mechanism and different
    accuracy lie apart, and two models that err alike on every intervention lie together. The verdict on
    mechanisms is that of `compare_mechanisms`.

    Args:
        model_a: any classifier with outputs [N, K], or its outputs (`load_outputs`); it stays as it is.
        model_b: another with the same classes.
        suite: the interventions.
        loss: says what outputs mean: of `mechconn.losses.binary` one logit z has the probabilities 1 - s(z) and s(z),
            s the logistic function.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where A is.
        progress: short for `Compute(progress=...)`; counts splits.

    Raises:
        ValueError: a suite without interventions, outputs that are not [N, K] with the same K > 1, or that hold NaN.

    Example:
        Probabilities (1/2, 1/2) of one model, (3/4, 1/4) of the other on one split and (1/4, 3/4) on the other.

        >>> x = torch.log(torch.tensor([[3.0, 1.0]])).expand(4, 2)
        >>> data = {"cue": x, "a": x, "b": x.flip(1)}
        >>> suite = Suite({name: (inputs, torch.zeros(4).long()) for name, inputs in data.items()})
        >>> flat = nn.Linear(2, 2).requires_grad_(False)
        >>> _ = flat.weight.zero_(), flat.bias.zero_()
        >>> found = output_discrepancy(nn.Identity(), flat, suite)
        >>> round(found.mean, 6), round(found.similarity, 4)
        (0.5, 2.0)

    Source: a third party's summary of Lubana et al. 2023.
    """
    check_is("suite", suite, Suite, "; build one with Suite({name: data, ...})")
    check_interventions("an output discrepancy", suite.interventions)
    check_label_names([("model_a", model_a), ("model_b", model_b)], suite)
    compute = resolve_compute(compute, device, progress)
    model_a, model_b, suite = represent_pair_on_suite(model_a, model_b, suite, seed, compute)
    compute = fix_device(compute, model_a)
    a, b = (
        Evaluator(model, suite, loss=loss, keep_probabilities=True, seed=seed, compute=compute)
        for model in (model_a, model_b)
    )
    return measure_discrepancy(a, b)


def measure_discrepancy(a: Evaluator, b: Evaluator) -> OutputDiscrepancy:
    """`output_discrepancy` of the networks that two evaluators of one suite were made with."""
    return compare_outputs(a, a.draws, b.draws)


def compare_outputs(a: Evaluator, of_a: Draws, of_b: Draws) -> OutputDiscrepancy:
    """`output_discrepancy` from the outcomes of every split of the suite of A's evaluator."""
    splits, suite = {}, a.suite
    for number, name in enumerate(suite):
        draws = zip(suite.draws_of(name), of_a(name), of_b(name), strict=True)
        splits[name] = float(torch.cat([_compute_l1_distance(*draw) for draw in draws]).mean())
        a.compute.report("comparing outputs", number + 1, len(suite))
    mean = sum(splits[name] for name in suite.interventions) / len(suite.interventions)
    return OutputDiscrepancy(splits, mean, 1.0 / (mean + EPSILON), suite.interventions, a.network.computed)


def _compute_l1_distance(what: str, a: Outcomes, b: Outcomes) -> Tensor:
    """The L1 distance between the probabilities of each row, float64 of shape [N]."""
    first, second = a.class_probabilities, b.class_probabilities
    if first is None or second is None or first.shape[1] != second.shape[1]:
        shapes = [[len(own.targets), *own.row_shape] for own in (a, b)]
        raise ValueError(
            f"{what}: outputs must be [N, K] with the same K > 1 for both models, got {shapes[0]} of model_a and "
            f"{shapes[1]} of model_b"
        )
    check_row_order(what, "model_b", torch.equal(a.targets, b.targets))
    distance = (first.double() - second.double()).abs().sum(1)
    if bool(distance.isnan().any()):
        raise ValueError(f"{what}: outputs hold NaN or +inf, so they are no class probabilities")
    return distance
