"""Networks in evaluation mode at one point of weight space, made fast before the data come.

In the model's own precision the network is called as it stands. In reduced precision every BatchNorm that directly
follows a linear map is folded into it, and the weights are converted once, not once a batch.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mechconn._params import LINEAR_MAPS, Network
from mechconn._typing import Buffers, Inputs, Params

Forward = Callable[[Inputs], Tensor]


@dataclass(frozen=True)
class Fold:
    """A linear map whose output goes to one BatchNorm and nowhere else, by module names."""

    linear: str
    norm: str


class Inference:
    """The network as a function of inputs alone, at any number of points.

    What may be folded is read off the operations that the first batch goes through, and the folded network is then
    held against the plain one on that batch; where they differ, nothing is folded.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._ready = network.reduced is None
        self._folds: list[Fold] = []
        self._folded: Network | None = None

    def at(self, params: Params, buffers: Buffers) -> Forward:
        """The forward pass in evaluation mode at `params`; `params` and `buffers` are on the network's device."""
        converted: Params | None = None

        def forward(inputs: Inputs) -> Tensor:
            nonlocal converted
            if not self._ready:
                self._prepare(params, buffers, inputs)
            if self._folded is None:
                return self._network(params, buffers, inputs)
            if converted is None:
                converted = self._folded.converted(folded(self._network, self._folds, params, buffers))
            return self._folded(converted, buffers, inputs)

        return forward

    def _prepare(self, params: Params, buffers: Buffers, inputs: Inputs) -> None:
        self._ready = True
        self._folds = find_folds(self._network, params, buffers, inputs)
        if self._folds:
            folded = Network(_without(self._network, self._folds), self._network.device, "auto")
            point = fold_params(self._network, self._folds, params, buffers)
            self._folded = folded if _same(self._network, params, folded, point, buffers, inputs) else None


def find_folds(network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> list[Fold]:
    """Linear maps whose output one BatchNorm alone reads, in the operations that lead to the outputs.

    Read off the graph that automatic differentiation records, so that any forward pass can be followed; a use that
    it cannot see (of a detached tensor) is left to the comparison that comes after.
    """
    calls: Counter[str] = Counter()
    made: dict[str, Any] = {}
    read: dict[str, Any] = {}
    own = Network(network.module, network.device)

    def record(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            calls[name] += 1
            made[name], read[name] = output.grad_fn, (args[0] if args else kwargs["input"]).grad_fn

        return hook

    for name, module in own.module.named_modules():
        if isinstance(module, (*LINEAR_MAPS, _BatchNorm)):
            module.register_forward_hook(record(name), with_kwargs=True)
    with torch.enable_grad():
        outputs = own({name: t.detach().requires_grad_() for name, t in params.items()}, buffers, inputs)
    if outputs.grad_fn is None:  # under the caller's inference_mode nothing is recorded, and nothing is folded
        return []
    readers = _readers(outputs.grad_fn)
    slots, holders = own.parameter_slots, Counter(own.parameter_slots.values())
    maker = {made[name]: name for name in made if isinstance(own.module.get_submodule(name), LINEAR_MAPS)}
    pairs = [(maker[read[norm]], norm) for norm in made if read[norm] in maker and f"{norm}.running_mean" in buffers]
    return [
        Fold(linear, norm)
        for linear, norm in pairs
        if calls[norm] == calls[linear] == readers[made[linear]] == 1
        and all(holders[slots[slot]] == 1 for slot in slots if slot.rpartition(".")[0] in (linear, norm))
    ]


def _readers(output: Any) -> Counter[Any]:
    """How many operations on the way to the output read what each operation made."""
    counts: Counter[Any] = Counter()
    seen, frontier = {output}, [output]
    while frontier:
        for before, _ in frontier.pop().next_functions:
            if before is not None:
                counts[before] += 1
                if before not in seen:
                    seen.add(before)
                    frontier.append(before)
    return counts


def _same(plain: Network, params: Params, folded: Network, point: Params, buffers: Buffers, inputs: Inputs) -> bool:
    """Whether both networks give the same outputs in full precision."""
    expected = Network(plain.module, plain.device)(params, buffers, inputs)
    got = Network(folded.module, folded.device)(point, buffers, inputs)
    # A thousandth is far above float32 rounding in a deep network and far below what a wrong fold does.
    return bool((expected - got).abs().max() <= 1e-3 * expected.abs().max())


def fold_params(network: Network, folds: list[Fold], params: Params, buffers: Buffers) -> Params:
    """Parameters of the folded network: W' = s W, b' = s (b - mean) + beta, with s = gamma / sqrt(variance + eps)."""
    return dict(folded(network, folds, params, buffers))


def folded(network: Network, folds: list[Fold], params: Params, buffers: Buffers) -> Iterator[tuple[str, Tensor]]:
    """`fold_params` one tensor at a time, so that the copy need never be there as a whole."""
    gone = {f"{fold.norm}.{part}" for fold in folds for part in ("weight", "bias")}
    gone |= {f"{fold.linear}.{part}" for fold in folds for part in ("weight", "bias")}
    yield from ((name, tensor) for name, tensor in params.items() if name not in gone)
    for fold in folds:
        norm = network.module.get_submodule(fold.norm)
        assert isinstance(norm, _BatchNorm)
        scale = torch.rsqrt(buffers[f"{fold.norm}.running_var"] + norm.eps)
        if norm.affine:
            scale = scale * params[f"{fold.norm}.weight"]
        weight, bias = params[f"{fold.linear}.weight"], params.get(f"{fold.linear}.bias")
        shift = scale * ((0 if bias is None else bias) - buffers[f"{fold.norm}.running_mean"])
        yield f"{fold.linear}.weight", weight * scale.view(-1, *[1] * (weight.dim() - 1))
        yield f"{fold.linear}.bias", shift + params[f"{fold.norm}.bias"] if norm.affine else shift


def _without(network: Network, folds: list[Fold]) -> nn.Module:
    """The network's structure with the folded BatchNorms left out and a bias on every folded linear map."""
    module = copy.deepcopy(network.module)
    for fold in folds:
        linear = module.get_submodule(fold.linear)
        if linear.bias is None:
            features = linear.get_parameter("weight").shape[0]
            linear.register_parameter("bias", nn.Parameter(torch.empty(features, device="meta")))
        module.set_submodule(fold.norm, nn.Identity())
    return module
