"""Modular addition: all pairs of residues, a transformer of one layer that adds them, and how it adds.

Source: Zhong, Liu, Tegmark & Andreas 2023, *The clock and the pizza*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, relu

from mechconn.core import make_generator
from mechconn.models import build_seeded
from mechconn.paper._architectures import Architecture

COMPONENTS = 4
"""Principal components that the circularity is a mean over, as published."""
TRIPLES = 8192
"""Rows whose gradients are taken at a time."""
LEAST_NORM = 1e-150
"""Gradients below it count as zero; small enough that the scale of the logits has no effect."""


def list_pairs(modulus: int) -> tuple[Int[Tensor, "n 2"], Int[Tensor, " n"]]:
    """All pairs (a, b) of residues, row a p + b, and (a + b) mod p.

    Example:
        >>> list_pairs(2)[0].tolist(), list_pairs(2)[1].tolist()
        ([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
    """
    residues = torch.arange(modulus)
    pairs = torch.cartesian_prod(residues, residues)
    return pairs, pairs.sum(1) % modulus


def divide_pairs(modulus: int, share: float, seed: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """Rows of `list_pairs` to train on, floor(share p^2) of them drawn by seed, and the others."""
    order = torch.randperm(modulus**2, generator=make_generator(seed, "modular addition"))
    count = int(share * modulus**2)
    return order[:count].sort().values, order[count:].sort().values


class OneLayerTransformer(nn.Module):
    """Two tokens, one layer of attention and one of ReLU units on a residual stream without norms; the last is read.

    Each head adds up the values with the weights r softmax(q k' / sqrt(h)) + (1 - r), h its width: the attention rate r
    mixes softmax attention with attention that is 1 everywhere. r is a weight that is not trained, so that a line
    between networks of two rates passes the rates between.

    Args:
        modulus: p, tokens and outputs.
        width: of the residual stream; four times as many ReLU units.
        heads: of attention, which divide the width.
        rate: r.

    Source: Zhong et al. 2023, section 2 and appendix; the weights' deviations are those of their code.
    """

    def __init__(self, modulus: int, width: int, heads: int, rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.rate = nn.Parameter(torch.tensor([float(rate)]), requires_grad=False)
        self.embed = nn.Embedding(modulus, width)
        self.place = nn.Parameter(torch.empty(2, width))
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.unembed = nn.Linear(width, modulus, bias=False)
        narrow = (self.embed, self.query, self.key, self.value, self.out, self.down)
        for weight in (self.place, *(part.weight for part in narrow)):
            nn.init.normal_(weight, std=width**-0.5)
        nn.init.normal_(self.up.weight, std=(4 * width) ** -0.5)
        nn.init.normal_(self.unembed.weight, std=modulus**-0.5)
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.down.bias)

    def forward(self, pairs: Int[Tensor, "n 2"]) -> Float[Tensor, "n p"]:
        """Logits of the sum."""
        return self.read_tokens(self.embed(pairs))

    def read_tokens(self, tokens: Float[Tensor, "n 2 d"]) -> Float[Tensor, "n p"]:
        """Logits of embedded tokens."""
        stream = tokens + self.place
        query, key, value = (self._divide(part(stream)) for part in (self.query, self.key, self.value))
        soft = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), -1)
        mixed = (self.rate * soft + (1.0 - self.rate)) @ value
        stream = stream + self.out(mixed.transpose(1, 2).flatten(2))
        stream = stream + self.down(relu(self.up(stream)))
        return self.unembed(stream[:, -1])

    def _divide(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


@dataclass(frozen=True)
class AdditionArchitecture(Architecture):
    """A `OneLayerTransformer` without its weights; `num_classes` is the modulus, `width` that of the stream.

    Attributes:
        heads: of attention.
        rate: the attention rate.
    """

    heads: int = 4
    rate: float = 1.0

    def build(self, seed: int) -> nn.Module:
        """The network with fresh weights, a function of the seed."""
        return build_seeded(lambda: OneLayerTransformer(self.num_classes, self.width, self.heads, self.rate), seed)


@dataclass(frozen=True)
class AdditionMeasures:
    """What a network's function and embedding say of how it adds.

    Attributes:
        gradient_symmetricity: near 1 where the two tokens enter by their sum, as in a pizza; less in a clock.
        distance_irrelevance: 0 where the correct logit is a function of a - b alone, as in a pizza; 1 where it is a
            function of a + b alone. None where all correct logits are equal.
        circularity: 1 where each of the first components of the embedding has one frequency.
    """

    gradient_symmetricity: float
    distance_irrelevance: float | None
    circularity: float


def measure_addition(model: OneLayerTransformer) -> AdditionMeasures:
    """The three published measures, over all pairs, and all triples (a, b, c), of residues; no draws."""
    table = model.embed.weight.detach()
    with torch.no_grad():
        logits = model(list_pairs(len(table))[0])
    return AdditionMeasures(
        compute_gradient_symmetricity(model.read_tokens, table),
        compute_distance_irrelevance(logits.unflatten(0, (len(table), -1))),
        compute_circularity(table),
    )


def compute_gradient_symmetricity(
    logits_of: Callable[[Tensor], Tensor], table: Float[Tensor, "p d"], triples: Int[Tensor, "n 3"] | None = None
) -> float:
    """Mean over (a, b, c) of cos(d logit_c / d E_a, d logit_c / d E_b); 0 is taken where a gradient is zero.

    Args:
        logits_of: embedded tokens [N, 2, d] -> logits [N, p], row by row.
        table: E, the embedding of every residue.
        triples: (a, b, c); by default all p^3. The source takes 100 that are drawn.

    Example:
        Logits that are a function of E_a + E_b have the same gradients at both.

        >>> table = torch.eye(3)
        >>> round(compute_gradient_symmetricity(lambda tokens: tokens.sum(1).square(), table), 6)
        0.555556

        That is 15 / 27: the gradient is zero where c is neither a nor b, and else the same at both.

    Source: Zhong et al. 2023, section 4.
    """
    if triples is None:
        triples = torch.cartesian_prod(*[torch.arange(len(table))] * 3)
    total, table = 0.0, table.detach()
    for rows in triples.to(table.device).split(TRIPLES):
        with torch.enable_grad():
            tokens = table[rows[:, :2]].requires_grad_()
            (gradient,) = torch.autograd.grad(logits_of(tokens).gather(1, rows[:, 2:]).sum(), tokens)
        first, second = gradient.double().unbind(1)
        total += float(cosine_similarity(first, second, eps=LEAST_NORM).sum())
    return total / len(triples)


def compute_distance_irrelevance(logits: Float[Tensor, "p p p"]) -> float | None:
    """Mean over d = a - b of the deviation of correct logits over a + b, by that over all pairs; both mod p.

    Args:
        logits: [a, b, c].

    Returns:
        None where all correct logits are equal, but for rounding: a clock without any error has none.

    Example:
        Correct logits that are a function of a + b alone.

        >>> a, b = torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij")
        >>> round(compute_distance_irrelevance(((a + b) % 3).double()[..., None].expand(3, 3, 3)), 12)
        1.0

    Source: Zhong et al. 2023, section 4; population deviations, as in their code.
    """
    modulus = len(logits)
    pairs, sums = list_pairs(modulus)
    correct = logits.double()[pairs[:, 0], pairs[:, 1], sums].cpu()
    arranged = torch.empty(modulus, modulus, dtype=torch.float64)
    arranged[sums, (pairs[:, 0] - pairs[:, 1]) % modulus] = correct
    whole = float(arranged.std(correction=0))
    if whole <= 1e-6 * float(correct.abs().max()):
        return None
    return float(arranged.std(0, correction=0).mean()) / whole


def compute_circularity(table: Float[Tensor, "p d"]) -> float:
    """Mean over the first four principal components v of max_k 2 |sum_t v_t exp(2 pi i k t / p)|^2 / (p |v|^2).

    Components beyond the rank count 0, since they hold nothing.

    Example:
        >>> turn = 2 * torch.pi * torch.arange(5.0)[:, None] / 5
        >>> circles = [3 * turn.cos(), 3 * turn.sin(), (2 * turn).cos(), (2 * turn).sin()]
        >>> round(compute_circularity(torch.cat(circles, 1)), 4)
        1.0

    Source: Zhong et al. 2023, appendix.
    """
    centred = table.double() - table.double().mean(0)
    found, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    kept = found[:, :COMPONENTS][:, sizes[:COMPONENTS] > 1e-9 * float(sizes[0])]
    power = torch.fft.rfft(kept, dim=0).abs().square()[1:].max(0).values
    return float((2.0 * power / len(table)).clamp(max=1.0).sum()) / COMPONENTS


def describe_measures(found: AdditionMeasures) -> Mapping[str, float | None]:
    """Name -> value."""
    return {
        "gradient symmetricity": found.gradient_symmetricity,
        "distance irrelevance": found.distance_irrelevance,
        "circularity": found.circularity,
    }
