"""How far the outputs of two models lie apart under interventions: a graded score, no verdict on mechanisms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import PerSampleLoss, check_is, isolate_rng, iterate_batches, join_targets, keep_generator_states
from mechconn.datasets import ModelOutputs, Suite, check_interventions, check_label_names, represent_pair_on_suite
from mechconn.losses import Binary, Loss, as_loss, cross_entropy
from mechconn.mechanisms._outcomes import RunOptions
from mechconn.network import ROWS_ON_CPU, Precision, check_same_rows, resolve_device

EPSILON = 1e-8


@dataclass(frozen=True)
class OutputDiscrepancy:
    """Mean distance between two models' class probabilities.

    Attributes:
        splits: split -> mean over its rows and draws of the L1 distance, in [0, 2]: twice the total variation.
        mean: the mean over `transformations`, each with the same weight.
        similarity: 1 / (mean + 1e-8): 1e8 where the outputs are the same everywhere.
        transformations: the interventions of the suite; the other splits stand beside them.
    """

    splits: Mapping[str, float]
    mean: float
    similarity: float
    transformations: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@torch.no_grad()
def output_discrepancy(
    model_a: nn.Module | ModelOutputs,
    model_b: nn.Module | ModelOutputs,
    suite: Suite,
    *,
    loss: PerSampleLoss = cross_entropy,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
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
        device: where to compute; default: where A is.
        precision: "float32" computes in the models' own type, "auto" in bfloat16 where the device is faster with it.

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
    model_a, model_b, suite = represent_pair_on_suite(model_a, model_b, suite, seed)
    setting = RunOptions(as_loss(loss), seed, resolve_device(model_a, device), precision)
    (network, first), (_, second) = setting.make_forward(model_a), setting.make_forward(model_b)
    splits = {}
    for name in suite:
        distances, labels = [], []
        for what, data in suite.draws_of(name).items():
            with isolate_rng(seed, "output_discrepancy"), keep_generator_states(data):
                found = [
                    (_l1_distance(what, first(inputs), second(inputs), setting.loss), targets.cpu())
                    for inputs, targets in iterate_batches(
                        what, data, batch_size=ROWS_ON_CPU, device=network.device, model=network.module
                    )
                ]
            distances.append(torch.cat([distance for distance, _ in found]))
            labels.append(join_targets([targets for _, targets in found]))
            check_same_rows(what, labels[0], labels[-1])
        splits[name] = float(torch.cat(distances).mean())
    mean = sum(splits[name] for name in suite.interventions) / len(suite.interventions)
    return OutputDiscrepancy(splits, mean, 1.0 / (mean + EPSILON), suite.interventions)


def _l1_distance(what: str, a: Tensor, b: Tensor, loss: Loss) -> Tensor:
    """The L1 distance between the probabilities of each row, float64 of shape [N]."""
    a, b = (_expand_binary_logits(outputs) if isinstance(loss, Binary) else outputs for outputs in (a, b))
    if a.dim() != 2 or a.shape != b.shape or a.shape[1] < 2:
        raise ValueError(
            f"{what}: outputs must be [N, K] with the same K > 1 for both models, got {list(a.shape)} of model_a "
            f"and {list(b.shape)} of model_b"
        )
    distance = (a.double().softmax(1).cpu() - b.double().softmax(1).cpu()).abs().sum(1)
    if bool(distance.isnan().any()):
        raise ValueError(f"{what}: outputs hold NaN or +inf, so they are no class probabilities")
    return distance


def _expand_binary_logits(outputs: Tensor) -> Tensor:
    """One logit z as the logits (0, z) of two classes; other outputs as they are."""
    z = outputs[:, None] if outputs.dim() == 1 else outputs
    return torch.cat([torch.zeros_like(z), z], 1) if z.dim() == 2 and z.shape[1] == 1 else outputs
