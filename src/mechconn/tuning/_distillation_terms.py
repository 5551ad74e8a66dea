"""The terms of a distillation loss: outputs, input gradients and features in, a value for each row out."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, normalize


def as_two_outputs(outputs: Tensor) -> Float[Tensor, "n k"]:
    """Class scores: a single logit z as 0 and z, all others as they are.

    Example:
        >>> as_two_outputs(torch.tensor([2.0])).tolist()
        [[0.0, 2.0]]
    """
    logits = outputs.reshape(len(outputs), -1)
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def compute_soft_gaps(student: Tensor, teacher: Tensor, temperature: float) -> Float[Tensor, " n"]:
    """T^2 KL(p_teacher || p_student) of each row, p = softmax(outputs / T), in nats.

    Example:
        At T = 1 a student of equal outputs is log 2 away from a certain teacher.

        >>> compute_soft_gaps(torch.zeros(1, 2), torch.tensor([[200.0, -200.0]]), 1.0).exp()
        tensor([2.])
    """
    first, second = ((as_two_outputs(own) / temperature).log_softmax(1) for own in (student, teacher))
    return temperature**2 * kl_div(first, second.to(first), reduction="none", log_target=True).sum(1)


def take_scores(outputs: Tensor, classes: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The score of a class of each row; a single logit z gives class 1 the score z and class 0 the score -z."""
    logits = outputs.reshape(len(outputs), -1)
    if logits.shape[1] == 1:
        return torch.where(classes == 1, logits[:, 0], -logits[:, 0])
    return logits.gather(1, classes[:, None])[:, 0]


def scale_to_unit(gradients: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Bool[Tensor, " n"]]:
    """Rows of length 1, and which of them are not zero; rows of zeros stay, and so does their derivative.

    Gradients may be tiny, so that their squares would be zero: each row is first divided by its largest entry.
    """
    largest = gradients.detach().abs().amax(1, keepdim=True)
    known = largest > 0
    scaled = gradients / torch.where(known, largest, 1.0)
    squares = torch.where(known, scaled.square().sum(1, keepdim=True), 1.0)
    return torch.where(known, scaled / squares.sqrt(), 0.0), known[:, 0]


def compute_direction_gaps(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """|| n(student) - n(teacher) ||^2 of each row; zero where the teacher's row is, which has no direction.

    Example:
        >>> compute_direction_gaps(torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 0.0]]))
        tensor([2.])
    """
    exact = torch.promote_types(student.dtype, torch.float32)
    (first, _), (second, known) = (scale_to_unit(own.to(exact)) for own in (student, teacher))
    return torch.where(known, (first - second).square().sum(1), 0.0)


def compute_contrast(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], temperature: float
) -> Float[Tensor, " n"]:
    """InfoNCE of each row: its own pair against all others of the batch, from either side, in nats.

    Example:
        Of two orthogonal rows at tau = 1 a pair has e of e + 1.

        >>> compute_contrast(torch.eye(2), 5 * torch.eye(2), 1.0).exp()
        tensor([1.3679, 1.3679])
    """
    exact = torch.promote_types(student.dtype, torch.float32)
    cosines = normalize(student.to(exact), dim=1) @ normalize(teacher.to(exact), dim=1).T / temperature
    own = torch.arange(len(cosines), device=cosines.device)
    sides = [cross_entropy(side, own, reduction="none") for side in (cosines, cosines.T)]
    return (sides[0] + sides[1]) / 2.0
