"""Small mixtures of experts in the ways in which libraries compute them, for the tests of routers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mechconn.core import isolate_rng

with isolate_rng(0, "import"):
    from transformers.integrations.moe import _grouped_mm as grouped_mm  # torch's own is not exported in float32

WIDTH, EXPERTS, CHOSEN, INNER = 8, 4, 2, 12
TOKENS = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(12))
"""Three rows of five tokens."""


class Mixture(nn.Module):
    """A router and gated experts in fused weights, in a residual block between a linear embedding and a head."""

    def __init__(self, experts: Callable[[Any, Tensor, Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.embed, self.norm, self.head = nn.Linear(6, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.up = nn.Parameter(torch.randn(EXPERTS, 2 * INNER, WIDTH, generator=draw) / 3)
        self.down = nn.Parameter(torch.randn(EXPERTS, WIDTH, INNER, generator=draw) / 3)
        self.experts = experts

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The weights and the numbers of the experts that each token goes to."""
        weights, chosen = self.router(x).softmax(-1).topk(CHOSEN, dim=-1)
        return weights / weights.sum(-1, keepdim=True), chosen

    def mix(self, x: Tensor) -> Tensor:
        weights, chosen = self.route(x)
        assert self.experts is not None
        return self.experts(self, x, weights, chosen)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.mix(self.norm(x).reshape(-1, WIDTH)).view(x.shape)).mean(1))


def gated(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def batched(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """One matrix is looked up for each token and choice."""
    ids = chosen.reshape(-1)
    rows = x.repeat_interleave(CHOSEN, dim=0)
    hidden = gated(torch.bmm(m.up[ids], rows.unsqueeze(-1)).squeeze(-1))
    y = torch.bmm(m.down[ids], hidden.unsqueeze(-1)).squeeze(-1) * weights.reshape(-1, 1)
    return y.view(-1, CHOSEN, WIDTH).sum(1)


def ends_of(ids: Tensor) -> Tensor:
    counts = torch.histc(ids.float(), bins=EXPERTS, min=0, max=EXPERTS - 1)
    return torch.cumsum(counts, dim=0, dtype=torch.int32)


def grouped(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """Tokens are sorted by expert, for one grouped product; the order is undone behind."""
    ids, order = torch.sort(chosen.reshape(-1))
    rows, ends = x[order // CHOSEN], ends_of(ids)
    hidden = gated(grouped_mm(rows, m.up.transpose(-2, -1), offs=ends))
    y = grouped_mm(hidden, m.down.transpose(-2, -1), offs=ends) * weights.reshape(-1)[order].unsqueeze(-1)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return y[back].view(-1, CHOSEN, WIDTH).sum(1)


def grouped_by_argsort(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """The same with an order whose inverse is that of its own sorting."""
    ids = chosen.reshape(-1)
    order = torch.argsort(ids)
    rows, ends = x[order // CHOSEN], ends_of(ids)
    hidden = gated(grouped_mm(rows, m.up.transpose(-2, -1), offs=ends))
    y = grouped_mm(hidden, m.down.transpose(-2, -1), offs=ends)[torch.argsort(order)]
    return (y * weights.reshape(-1, 1)).view(-1, CHOSEN, WIDTH).sum(1)


def summed(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """Every expert sees every token; the weights of those that are not chosen are 0."""
    full = torch.zeros(len(x), EXPERTS, dtype=x.dtype).scatter(1, chosen, weights)
    hidden = gated(torch.einsum("td,eud->teu", x, m.up))
    return torch.einsum("te,teu,edu->td", full, hidden, m.down)


def marked(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """The same with weights at the places that are marked."""
    full = torch.einsum("tk,tke->te", weights, F.one_hot(chosen, EXPERTS).to(x.dtype))
    hidden = gated(torch.einsum("td,eud->teu", x, m.up))
    return torch.einsum("te,teu,edu->td", full, hidden, m.down)


class Biased(Mixture):
    """Experts with biases, chosen by logits; the weights are gathered."""

    def __init__(self) -> None:
        super().__init__()
        self.up_bias, self.down_bias = nn.Embedding(EXPERTS, 2 * INNER), nn.Parameter(torch.zeros(EXPERTS, WIDTH))

    def mix(self, x: Tensor) -> Tensor:
        scores = self.router(x).sigmoid()
        chosen = scores.argmax(-1)
        hidden = gated((self.up[chosen] @ x.unsqueeze(-1)).squeeze(-1) + self.up_bias(chosen))
        y = (self.down[chosen] @ hidden.unsqueeze(-1)).squeeze(-1) + self.down_bias.index_select(0, chosen)
        return y * scores.gather(1, chosen.unsqueeze(1))


class InGroups(Mixture):
    """The better one of two groups of experts is found first, and a buffer is added to what is compared."""

    correction: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("correction", torch.zeros(EXPERTS))

    def mix(self, x: Tensor) -> Tensor:
        scores = self.router(x).sigmoid()
        compared = scores + self.correction
        best = compared.view(-1, 2, EXPERTS // 2).topk(2, dim=-1)[0].sum(-1).topk(1, dim=-1)[1]
        mask = torch.zeros(len(x), 2, dtype=x.dtype).scatter(1, best, 1.0)
        mask = mask.unsqueeze(-1).expand(-1, 2, EXPERTS // 2).reshape(-1, EXPERTS)
        chosen = compared.masked_fill(~mask.bool(), float("-inf")).topk(CHOSEN, dim=-1)[1]
        return batched(self, x, scores.gather(1, chosen), chosen)


SIZES = [WIDTH, EXPERTS, INNER]
NETS: dict[str, tuple[Callable[[], nn.Module], list[int]]] = {
    "batched": (lambda: Mixture(batched), SIZES),
    "grouped": (lambda: Mixture(grouped), SIZES),
    "grouped by argsort": (lambda: Mixture(grouped_by_argsort), SIZES),
    "summed": (lambda: Mixture(summed), SIZES),
    "marked": (lambda: Mixture(marked), SIZES),
    "biased": (Biased, SIZES),
    "in groups": (InGroups, [WIDTH, 2, 2, INNER]),
}
"""Name -> a network, and the sizes of all groups that it must have."""


def number_added(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """The number of the expert is computed with."""
    return batched(m, x, weights, chosen) + chosen[:, :1].to(x.dtype)


def next_one(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """Another expert than the one that was chosen: the next one."""
    return batched(m, x, weights, (chosen + 1) % EXPERTS)


def look_up(m: Any, rows: Tensor, ids: Tensor) -> Tensor:
    """Each row through the expert that is named."""
    hidden = gated((m.up[ids] @ rows.unsqueeze(-1)).squeeze(-1))
    return (m.down[ids] @ hidden.unsqueeze(-1)).squeeze(-1)


def unsorted(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """The order of the rows that were sorted is not undone."""
    ids, order = torch.sort(chosen.reshape(-1))
    return look_up(m, x[order // CHOSEN], ids).view(-1, CHOSEN, WIDTH).sum(1) * weights[:, :1]


def foreign_ends(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """The rows of each group are those of other numbers than the ones that sorted them."""
    order = torch.argsort(chosen.reshape(-1))
    ends = ends_of(chosen[:, :1].expand(-1, CHOSEN).reshape(-1))
    hidden = gated(grouped_mm(x[order // CHOSEN], m.up.transpose(-2, -1), offs=ends))
    y = grouped_mm(hidden, m.down.transpose(-2, -1), offs=ends)[torch.argsort(order)]
    return (y * weights.reshape(-1, 1)).view(-1, CHOSEN, WIDTH).sum(1)


def rounded(m: Any, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """Where two experts have one number, the order of experts decides."""
    del weights, chosen
    chosen = (m.router(x) * 2).round().topk(CHOSEN, dim=-1)[1]
    return batched(m, x, torch.ones_like(chosen, dtype=x.dtype), chosen)


class SharedTable(Mixture):
    """The number of the expert looks up a table that the input looks up as well."""

    def __init__(self) -> None:
        super().__init__(batched)
        self.table = nn.Embedding(EXPERTS, WIDTH)

    def mix(self, x: Tensor) -> Tensor:
        weights, chosen = self.route(x)
        places = torch.arange(len(x)) % EXPERTS
        return batched(self, x, weights, chosen) + self.table(chosen[:, 0]) * self.table(places)


class Row(Mixture):
    """Rows that are sorted by expert meet a parameter that has an order of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Parameter(torch.randn(15 * CHOSEN, WIDTH, generator=torch.Generator().manual_seed(4)))

    def mix(self, x: Tensor) -> Tensor:
        weights, chosen = self.route(x)
        ids, order = torch.sort(chosen.reshape(-1))
        y = look_up(self, x[order // CHOSEN], ids) * self.each
        back = torch.argsort(order)
        return y[back].view(-1, CHOSEN, WIDTH).sum(1) * weights[:, :1]


class Masked(Mixture):
    """All experts get one number at some tokens, so that their order decides there."""

    def mix(self, x: Tensor) -> Tensor:
        padded = torch.arange(len(x)) % 2 == 0
        numbers = self.router(x).masked_fill(padded[:, None], 0.0)
        return batched(self, x, *numbers.softmax(-1).topk(CHOSEN, dim=-1))


class Pairs(Mixture):
    """Two experts share the larger one's number, so that their order decides; the router rows of a pair have none."""

    def mix(self, x: Tensor) -> Tensor:
        largest = self.router(x).view(-1, EXPERTS // 2, 2).amax(-1, keepdim=True)
        numbers = largest.expand(-1, -1, 2).reshape(-1, EXPERTS)
        chosen = numbers.topk(1).indices.expand(-1, CHOSEN)
        return batched(self, x, numbers.gather(1, chosen).sigmoid(), chosen)


CHOSEN_NUMBER = "the number of a unit is computed with"
NO_ORDER: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "number added": (lambda: Mixture(number_added), CHOSEN_NUMBER),
    "next one": (lambda: Mixture(next_one), CHOSEN_NUMBER),
    "unsorted": (lambda: Mixture(unsorted), "rows that are sorted by units meet others"),
    "foreign ends": (lambda: Mixture(foreign_ends), CHOSEN_NUMBER),
    "rounded": (lambda: Mixture(rounded), "an order runs along it"),
    "masked": (Masked, "an order runs along it"),
    "shared table": (SharedTable, "a table in which the input looks up places too"),
    "row": (Row, "rows that are sorted by units meet others"),
}
"""Name -> a network whose experts have an order, and what must be said of the router's rows."""
