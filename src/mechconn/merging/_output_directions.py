"""Directions of a network's outputs whose squared slopes add up to the Fisher information of one row.

A loss stands for a distribution p(y | z) of targets given outputs z, l = -log p. With v_y = dl / dz at the target y the
information about the outputs is E_{y ~ p} v_y v_y^T, and that about a parameter, E_y (v_y . dz / dtheta)^2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mechconn.losses import Absolute, Binary, CrossEntropy, Loss, OverPositions, Squared, cross_entropy

MOST = 4096
"""Directions of one row at most."""


def list_directions(loss: Loss, outputs: Tensor, target: Tensor) -> Tensor:
    """sqrt(p(y | z)) v_y of every y, [directions, *outputs.shape]: the sum of their squared slopes is the information.

    Args:
        loss: what stands for the distribution.
        outputs: of one row, [1, ...].
        target: of the row, [1, ...]; it tells the positions that count.

    Raises:
        ValueError: the loss stands for no distribution, or there are more than 4096 directions.
    """
    each, rows, counted = _find_rows(loss, outputs, target)
    width = rows.shape[1]
    chosen = counted.nonzero().flatten().tolist()
    if len(chosen) * width > MOST:
        raise ValueError(
            f"the exact expectation has {len(chosen) * width} terms for each row; draw targets, "
            "FisherMean(data, draws=1), or pass targets='labels'"
        )
    factors = _list_factors(each, rows[counted])  # [positions that count, directions, outputs of each]
    found = rows.new_zeros(len(chosen), factors.shape[1], *rows.shape)
    for place, position in enumerate(chosen):
        found[place, :, position] = factors[place]
    return _to_outputs(loss, found.flatten(0, 1), outputs, target)


def draw_directions(loss: Loss, outputs: Tensor, target: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """v_y / sqrt(draws) of targets y drawn from p(y | z), at all positions at once: [draws, *outputs.shape].

    Raises:
        ValueError: the loss stands for no distribution.
    """
    each, rows, counted = _find_rows(loss, outputs, target)
    found = torch.stack([_draw_factors(each, rows, generator) for _ in range(draws)])
    return _to_outputs(loss, found * counted[:, None] / draws**0.5, outputs, target)


def _find_rows(loss: Loss, outputs: Tensor, target: Tensor) -> tuple[Loss, Tensor, Tensor]:
    """(the loss of a position, outputs [positions, outputs of each] in float64, which positions count)."""
    if not isinstance(loss, OverPositions):
        return loss, outputs.double().reshape(1, -1), torch.ones(1, dtype=torch.bool, device=outputs.device)
    counted = (target != loss.ignore_index).flatten()
    moved = outputs.movedim(1, -1) if _has_classes_first(loss, outputs, target) else outputs
    return loss.each, moved.double().reshape(len(counted), -1), counted


def _to_outputs(loss: Loss, found: Tensor, outputs: Tensor, target: Tensor) -> Tensor:
    """[directions, positions, outputs of each] in the shape and type of the outputs."""
    if isinstance(loss, OverPositions) and _has_classes_first(loss, outputs, target):
        shape = outputs.movedim(1, -1).shape
        return found.reshape(len(found), *shape).movedim(-1, 2).to(outputs.dtype)
    return found.reshape(len(found), *outputs.shape).to(outputs.dtype)


def _has_classes_first(loss: OverPositions, outputs: Tensor, target: Tensor) -> bool:
    """Whether outputs are [1, K, positions ...]; the loss raises where they are of no such shape."""
    loss(outputs, target)
    if outputs.dim() == target.dim() or loss.classes_at == -1:
        return False
    return loss.classes_at == 1 or outputs.shape[:1] + outputs.shape[2:] == target.shape


def _list_factors(each: Loss, rows: Tensor) -> Tensor:
    """sqrt(p(y)) v_y at each position, [positions, directions, outputs]."""
    if isinstance(each, Binary):
        share = rows.sigmoid()
        return torch.diag_embed((share * (1 - share)).sqrt())
    if isinstance(each, Squared | Absolute):
        return torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device).expand(len(rows), -1, -1)
    shares, slopes = _differentiate_classes(each, rows)
    return shares.sqrt()[..., None] * slopes


def _draw_factors(each: Loss, rows: Tensor, generator: torch.Generator) -> Tensor:
    """v_y at each position for one draw of y, [positions, outputs]."""
    if isinstance(each, Squared | Absolute):
        return torch.randn(rows.shape, generator=generator, dtype=rows.dtype).to(rows.device)
    if isinstance(each, Binary):
        share = rows.sigmoid()
        return share - (torch.rand(rows.shape, generator=generator, dtype=rows.dtype).to(share) < share).to(share)
    shares, slopes = _differentiate_classes(each, rows)
    drawn = torch.multinomial(shares.cpu(), 1, generator=generator).to(rows.device)
    return slopes.gather(1, drawn[..., None].expand(-1, -1, rows.shape[1]))[:, 0]


def _differentiate_classes(each: Loss, rows: Tensor) -> tuple[Tensor, Tensor]:
    """(p(y), v_y) of every class y, [positions, classes] and [positions, classes, outputs].

    Raises:
        ValueError: exp(-loss) is no distribution over classes.
    """
    each = cross_entropy if isinstance(each, CrossEntropy) else each
    classes = len(each.joins() or ()) or rows.shape[1]
    with torch.enable_grad():
        z = rows.repeat_interleave(classes, 0).requires_grad_()
        values = each(z, torch.arange(classes, device=rows.device).repeat(len(rows))) if classes > 1 else z.sum(1)
        (slopes,) = torch.autograd.grad(values.sum(), z)
    shares = (-values.detach()).exp().view(len(rows), classes)
    if classes < 2 or not torch.allclose(shares.sum(1), torch.ones_like(shares[:, 0]), atol=1e-4):
        raise ValueError(
            f"the loss {each.name} stands for no distribution of targets that is known here; pass "
            "FisherMean(data, targets='labels') for the empirical Fisher"
        )
    return shares, slopes.view(len(rows), classes, -1)
