"""Weight matching that weighs each layer's weights by what its inputs are on data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair, read_example
from mechconn.alignment._weights import match_weights
from mechconn.core import (
    Data,
    Inputs,
    Params,
    as_data,
    check_count,
    count_batches,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
)
from mechconn.network import Network

WIDEST = 4096
"""Inputs of a layer at most whose whole covariance is held; of more, the second moment of each."""
LINEAR, CONVOLUTIONS = functional.linear, (torch.conv1d, torch.conv2d, torch.conv3d)


@dataclass(frozen=True, eq=False)
class InputCovarianceMatching(AlignmentMethod, name="input_covariance"):
    r"""Weight matching in the metric of each layer's inputs: maximise sum over layers of <W_A R_A, g(W_B R_B)>.

    R = C^(1/2), C = E[x x^T] the uncentred second moment of the layer's inputs x on the data, in A for W_A and in B for
    W_B: |dW R|^2 = E|dW x|^2, the mean square of what a difference of weights does to the layer's outputs, so that
    weights that read small inputs hardly count. Permutations and signs of inputs move W R as they move W, so that the
    search is that of `WeightMatching`, both networks balanced; where the inputs of the moved B have A's second moments,
    it minimises the sum of E|W_A x - g(W_B) x|^2.

    Linear layers: all inputs, over rows and positions; of more than 4096 inputs, their second moments alone.
    Convolutions: C of the channels at one place, the mean over places, for every place of the kernel: whole patches
    would have (channels * places)^2 moments, and permutations move channels alone. Grouped and transposed convolutions,
    weights between which only linear maps are, biases and normalisations keep the plain metric.

    Rows are streamed. It holds the weights of both networks once more, and a matrix for each layer.

    Attributes:
        data: what the inputs are taken from; by convention training data.
        restarts: number of starts.
        batch_size: rows per batch where `data` is a dataset or a pair of tensors.
        label: a name for the data, kept in the record.

    Source: Ainsworth, Hayase & Srinivasa 2023, Git Re-Basin (weight matching); the metric is that of layer-wise least
    squares on A's inputs (Jin, Ren, Preotiuc-Pietro & Cheng 2023, RegMean).
    """

    data: Data
    restarts: int = 8
    batch_size: int = 125
    label: str = "unnamed data"
    _checked: Data = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("restarts", self.restarts)
        check_count("batch_size", self.batch_size)
        object.__setattr__(self, "_checked", as_data("alignment data", self.data))

    def match(self, pair: NetworkPair) -> Matching:
        """The element, and the cosine similarity of each group's weights in the metric, before and after."""
        with isolate_rng(pair.seed, "input covariance"), keep_generator_states(self._checked):
            moments = [
                self._measure(pair, pair.model_a, pair.params_a),
                self._measure(pair, pair.model_b, pair.params_b),
            ]
        return match_weights(pair, self.restarts, (moments[0], moments[1]))

    def describe(self) -> dict[str, Any]:
        """Method, restarts, and the name of the data."""
        return {
            "method": "weight matching by input covariance",
            "restarts": self.restarts,
            "data": self.label,
            "batch_size": self.batch_size,
        }

    def example(self, device: torch.device, model: nn.Module) -> Inputs:
        """The first two rows of the data, to find and prove a symmetry on."""
        return read_example(self._checked, device, model)

    def _measure(self, pair: NetworkPair, model: nn.Module, params: Params) -> dict[str, Tensor]:
        """Parameter -> the second moments of what it multiplies."""
        network = Network(model, replace(pair.compute, device=pair.device, precision="model"))
        loaded, buffers = network.load(params), dict(network.buffers)
        seen = _SecondMoments({_place(tensor): name for name, tensor in loaded.items()})
        count = count_batches("alignment data", self._checked, self.batch_size)
        batches = iterate_batches(
            "alignment data", self._checked, batch_size=self.batch_size, device=pair.device, model=model
        )
        for number, (inputs, _) in enumerate(batches):
            with torch.no_grad(), seen:
                network(loaded, buffers, inputs)
            pair.compute.report("measuring layers' inputs", number + 1, count)
        if not seen.sums:
            raise ValueError(
                f"no linear layer or convolution of {type(model).__name__} was seen to read data, so that there is no "
                "metric; match weights by themselves, WeightMatching()"
            )
        return {name: total / seen.counts[name] for name, total in seen.sums.items()}


class _SecondMoments(TorchFunctionMode):
    """Context manager: add up the second moments of what linear layers and convolutions read, by their weights."""

    def __init__(self, names: Mapping[tuple[object, ...], str]) -> None:
        super().__init__()
        self._names = names
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is LINEAR or func in CONVOLUTIONS:
            read = args[0] if args else given["input"]
            weight = args[1] if len(args) > 1 else given["weight"]
            name = self._names.get(_place(weight))
            rows = _list_inputs(read, weight, func is LINEAR)
            if name is not None and rows is not None:
                self._add(name, rows)
        return func(*args, **given)

    def _add(self, name: str, rows: Tensor) -> None:
        rows = rows if rows.dtype == torch.float64 else rows.float()
        new = (rows.T @ rows if rows.shape[1] <= WIDEST else rows.square().sum(0)).double()
        self.sums[name] = self.sums[name] + new if name in self.sums else new
        self.counts[name] = self.counts.get(name, 0) + len(rows)


def _place(tensor: Tensor) -> tuple[object, ...]:
    """Where a tensor lies: a part of it, and its transpose, which begin at the same address, lie elsewhere."""
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _list_inputs(read: Tensor, weight: Tensor, linear: bool) -> Tensor | None:
    """[rows and positions, inputs]; None where the weight reads them in groups."""
    if linear:
        return read.reshape(-1, read.shape[-1]) if weight.dim() == 2 else None
    if read.dim() != weight.dim() or read.shape[1] != weight.shape[1]:
        return None
    return read.movedim(1, -1).flatten(0, -2)
