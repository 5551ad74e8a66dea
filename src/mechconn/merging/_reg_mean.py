"""RegMean: each linear map is the least-squares fit of the outputs that the parents' maps give on their own inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mechconn.core import (
    Data,
    Params,
    check_choice,
    check_count,
    check_fraction,
    count_batches,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
)
from mechconn.merging._changes import check_all_finite
from mechconn.merging._input_products import InputProducts, Layout
from mechconn.merging._mean import Mean
from mechconn.merging._merge_method import MergeMethod, MergeProblem
from mechconn.merging._parent_data import ParentData, list_tied
from mechconn.network import Network, Point


@dataclass
class _Fit:
    """Normal equations of one weight: sum_i G_i, and sum_i G_i (W_i - W)^T for the mean W of the parents' weights."""

    layout: Layout
    mean: Tensor
    products: Tensor
    moved: Tensor


@dataclass(frozen=True, eq=False)
class RegMean(MergeMethod, name="reg_mean"):
    r"""Linear maps by least squares on the parents' own inputs, all other parameters by their mean.

        W^T = (sum_i G_i)^{-1} sum_i G_i W_i^T,     G_i = alpha X_i^T X_i + (1 - alpha) diag(X_i^T X_i)

    X_i are the inputs of the map in parent i on its data, a row for each sample and position. With alpha = 1 it is the
    minimiser of sum_i |X_i (W - W_i)^T|^2: of linear regressions, each on its own rows, the regression on all rows.
    Where inputs leave a direction open, W keeps the mean of the parents there.

    Linear layers, GPT-2's, the projections of `nn.MultiheadAttention`, and convolutions, whose inputs are patches; of
    more than 4096 inputs alpha = 0. Maps that several layers share, biases, and what is multiplied in other ways are
    averaged; a note says which.

    Attributes:
        data: what inputs come from: one data set for all parents, or {name of the parent: its data}. Labels are not
            used.
        alpha: the scale of the off-diagonal products, in [0, 1].
        count: "rows": every row counts alike, as in the paper; "parents": every parent does, G_i / rows, as other code
            does.
        batch_size: rows per batch where data are datasets or pairs of tensors.
        label: a name for the data, kept in the record.

    Raises:
        ValueError: alpha lies outside [0, 1]; when used: the names in data are not those of the parents, or no linear
            map was seen to read data.

    Source: Jin, Ren, Preotiuc-Pietro & Cheng 2023, *Dataless knowledge fusion by merging weights of language models*.
    """

    data: Data | Mapping[str, Data]
    alpha: float = 0.9
    count: Literal["rows", "parents"] = "rows"
    batch_size: int = 125
    label: str = "unnamed data"
    _checked: ParentData = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_fraction("alpha", self.alpha)
        check_choice("count", self.count, ("rows", "parents"))
        check_count("batch_size", self.batch_size)
        object.__setattr__(self, "_checked", ParentData.read("data", self.data))

    @torch.no_grad()
    def merge(self, problem: MergeProblem) -> Params:
        """Linear maps by least squares, the rest by the mean."""
        data = self._checked.of(list(problem.parents))
        averaged = Mean().merge(problem)
        fits: dict[str, _Fit] = {}
        for parent, point in problem.parents.items():
            with isolate_rng(problem.seed, "reg mean"), keep_generator_states(data[parent]):
                seen = self._measure(problem, parent, point, data[parent])
            for name, products in seen.sums.items():
                check_all_finite(f"what {name} reads", parent, products)
            self._add(fits, problem, point, seen)
        if not fits:
            raise ValueError(
                f"no linear layer or convolution of {type(problem.model).__name__} was seen to read data, so that "
                "there is nothing to fit; average the parents, Mean()"
            )
        found = {name: fit.layout.to_weight(fit.mean + _solve(fit), averaged[name]) for name, fit in fits.items()}
        problem.record.notes.append(_tell(averaged, fits))
        return averaged | found

    def _measure(self, problem: MergeProblem, parent: str, point: Point, data: Data) -> InputProducts:
        """The products of what linear maps read in one parent."""
        network = Network(problem.model, replace(problem.compute, precision="model"))
        params = network.load(dict(point.params))
        buffers = {k: b.to(network.device, copy=True) for k, b in (point.buffers or network.buffers).items()}
        tied = list_tied(network.module)
        seen = InputProducts({name: tensor for name, tensor in params.items() if name not in tied})
        count = count_batches("data", data, self.batch_size)
        batches = iterate_batches("data", data, batch_size=self.batch_size, device=network.device, model=problem.model)
        for number, (inputs, _) in enumerate(batches):
            with seen:
                network(params, buffers, inputs)
            problem.compute.report(f"measuring inputs of {parent}", number + 1, count)
        return seen

    def _add(self, fits: dict[str, _Fit], problem: MergeProblem, point: Point, seen: InputProducts) -> None:
        """Add one parent to the normal equations."""
        for name, products in seen.sums.items():
            layout = seen.layouts[name]
            if name not in fits:
                maps = [layout.to_maps(other.params[name].to(products.device)) for other in problem.parents.values()]
                mean = torch.stack(maps).mean(0)
                fits[name] = _Fit(layout, mean, torch.zeros_like(products), torch.zeros_like(mean.mT))
            fit, share = fits[name], 1.0 if self.count == "rows" else 1.0 / seen.counts[name]
            moved = (layout.to_maps(point.params[name].to(products.device)) - fit.mean).mT
            scaled = self._shrink(products) * share
            fit.products += scaled
            fit.moved += scaled[..., None] * moved if scaled.dim() == 2 else scaled @ moved

    def _shrink(self, products: Tensor) -> Tensor:
        """Products with the off-diagonal ones scaled by alpha."""
        if products.dim() == 2:
            return products
        diagonal = torch.diag_embed(products.diagonal(dim1=-2, dim2=-1))
        return self.alpha * products + (1 - self.alpha) * diagonal

    def chosen_on(self) -> Data:
        """The rows that inputs come from."""
        return self._checked.join(self.batch_size)

    def describe(self) -> dict[str, Any]:
        """{"method": "reg mean", "alpha": ..., "count": ..., "data": its name}."""
        return {"method": "reg mean", "alpha": self.alpha, "count": self.count, "data": self.label}


def _solve(fit: _Fit) -> Tensor:
    """What is to be added to the mean weight, [groups, outputs, inputs]: zero where inputs leave a direction open."""
    if fit.products.dim() == 2:
        share = torch.where(fit.products > 0, 1 / fit.products.masked_fill(fit.products <= 0, 1.0), 0.0)
        return (share[..., None] * fit.moved).mT
    return torch.stack(
        [_solve_block(products, moved) for products, moved in zip(fit.products, fit.moved, strict=True)]
    ).mT


def _solve_block(products: Tensor, moved: Tensor) -> Tensor:
    """G^+ R, of the least change where G is singular, in units in which every input has length 1: [inputs, outputs]."""
    lengths = products.diagonal().clamp_min(0.0).sqrt()
    units = torch.where(lengths > 0, 1 / lengths.masked_fill(lengths <= 0, 1.0), 0.0)
    scaled, wanted = products * units[:, None] * units, moved * units[:, None]
    factor, failed = torch.linalg.cholesky_ex(scaled)
    least = len(products) * torch.finfo(torch.float64).eps * 1e3
    if not bool(failed) and float(factor.diagonal().square().min()) > least:
        return torch.cholesky_solve(wanted, factor) * units[:, None]
    values, vectors = torch.linalg.eigh(scaled)
    kept = values > least
    shares = torch.where(kept, 1 / values.masked_fill(~kept, 1.0), 0.0)
    return (vectors * shares) @ (vectors.mT @ wanted) * units[:, None]


def _tell(averaged: Params, fits: Mapping[str, _Fit]) -> str:
    """What was fitted and what was averaged."""
    wide = [name for name, fit in fits.items() if fit.products.dim() == 2]
    others = [name for name, tensor in averaged.items() if name not in fits and tensor.dim() > 1]
    text = f"{len(fits)} of {len(averaged)} tensors were fitted to the parents' inputs, and the rest averaged"
    if others:
        text += f", among them {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}"
    return text + (f"; of {', '.join(wide)} the squares of inputs alone were used" if wide else "")
