"""Networks in evaluation mode at one point of weight space, made fast before the data come.

In the model's own precision the network is called as it stands. In reduced precision every BatchNorm that directly
follows a linear map is folded into it, and the weights are converted once, not once a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mechconn.core import Buffers, Compute, Inputs, Params, take_first_rows
from mechconn.network._copies import copy_module
from mechconn.network._params import LINEAR_MAPS, Network

Forward = Callable[[Inputs], Tensor]
PROBED_ROWS = 8
"""Enough for every layer to be seen, few enough that full precision and its graph need no room to speak of."""


@dataclass(frozen=True)
class Fold:
    """A linear map whose output goes to one BatchNorm and nowhere else, by module names."""

    linear: str
    norm: str


class Inference:
    """The network as a function of inputs alone, at any number of points.

    What may be folded is read off the operations that the first rows go through, and the folded network is then held
    against the plain one on those rows; where they differ, or where they cannot be run alone, nothing is folded.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._ready = network.reduced is None
        self._folds: list[Fold] = []
        self._folded: Network | None = None

    def at(self, params: Params, buffers: Buffers) -> Forward:
        """The forward pass in evaluation mode at `params`; `params` and `buffers` are on the network's device.

        It takes `params` over: where weights are folded, the dictionary is emptied tensor by tensor, so that the
        point and the copy that is made from it are never both there as a whole.
        """
        converted: Params | None = None

        def forward(inputs: Inputs) -> Tensor:
            nonlocal converted
            if not self._ready:
                self._prepare(params, buffers, inputs)
            if self._folded is None:
                return self._network(params, buffers, inputs)
            if converted is None:
                converted = self._folded.convert_parameters(
                    fold_parameters(self._network, self._folds, params, buffers)
                )
            return self._folded(converted, buffers, inputs)

        return forward

    def _prepare(self, params: Params, buffers: Buffers, inputs: Inputs) -> None:
        self._ready = True
        few = take_first_rows(inputs, PROBED_ROWS)
        try:
            self._folds = find_folds(self._network, params, buffers, few)
            same = bool(self._folds) and folding_is_exact(self._network, self._folds, params, buffers, few)
        except Exception:  # a forward pass that cannot do with few rows; what else is wrong shows in the plain network
            return
        if same:
            self._folded = Network(_remove_folded(self._network, self._folds), self._network.compute)
            self._folded.compiled.report_to(self._network.compiled)


def find_folds(network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> list[Fold]:
    """Linear maps whose output one BatchNorm alone reads, in the operations that lead to the outputs.

    Read off the graph that automatic differentiation records, so that any forward pass can be followed; a use that
    it cannot see (of a detached tensor) is left to the comparison that comes after.
    """
    calls: Counter[str] = Counter()
    made: dict[str, Any] = {}
    read: dict[str, Any] = {}
    own = Network(network.restored_module(), Compute(network.device))

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
    readers = _count_readers(outputs.grad_fn)
    slots, holders = own.parameter_slots, Counter(own.parameter_slots.values())
    linear_maps = [name for name in made if isinstance(own.module.get_submodule(name), LINEAR_MAPS)]
    maker = {made[name]: name for name in linear_maps if f"{name}.weight" in params}  # none where it is made of others
    pairs = [(maker[read[norm]], norm) for norm in made if read[norm] in maker and f"{norm}.running_mean" in buffers]
    return [
        Fold(linear, norm)
        for linear, norm in pairs
        if calls[norm] == calls[linear] == readers[made[linear]] == 1
        and all(holders[slots[slot]] == 1 for slot in slots if slot.rpartition(".")[0] in (linear, norm))
    ]


def _count_readers(output: Any) -> Counter[Any]:
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


@torch.no_grad()
def folding_is_exact(network: Network, folds: list[Fold], params: Params, buffers: Buffers, inputs: Inputs) -> bool:
    """Whether the folded network gives the same outputs in full precision.

    Each folded weight is made when its layer is called and dropped after the call, so that there is no second copy of
    the weights. Any other reader of the weight gets NaN, which shows in the outputs.
    """
    plain, folded = (
        Network(m, Compute(network.device)) for m in (network.restored_module(), _remove_folded(network, folds))
    )
    expected = plain(params, buffers, inputs)
    lent = dict(params)
    for fold in folds:
        linear = folded.module.get_submodule(fold.linear)
        unread = {
            name: torch.full((), torch.nan, dtype=p.dtype, device=network.device).expand(p.shape)
            for name, p in linear.named_parameters(recurse=False)
        }
        lent.update({f"{fold.linear}.{name}": tensor for name, tensor in unread.items()})
        linear.register_forward_pre_hook(
            _make_substituting_hook(lambda fold=fold: fold_one(network, fold, params, buffers))
        )
        linear.register_forward_hook(_make_substituting_hook(lambda unread=unread: unread))
    got = folded(lent, buffers, inputs)
    # A thousandth is far above float32 rounding in a deep network and far below what a wrong fold does.
    return bool((expected - got).abs().max() <= 1e-3 * expected.abs().max())


def _make_substituting_hook(make: Callable[[], dict[str, Tensor]]) -> Callable[..., None]:
    """A hook that puts the tensors that `make` gives in the place of its module's own parameters."""

    def hook(module: nn.Module, *_: object) -> None:
        cast("dict[str, Tensor]", module._parameters).update(make())

    return hook


def fold_parameters(
    network: Network, folds: list[Fold], params: Params, buffers: Buffers
) -> Iterator[tuple[str, Tensor]]:
    """Parameters of the folded network, one at a time; what each is made of is taken out of `params`."""
    for fold in folds:
        made = fold_one(network, fold, params, buffers)
        for part in ("weight", "bias"):
            for name in (fold.linear, fold.norm):
                params.pop(f"{name}.{part}", None)
            yield f"{fold.linear}.{part}", made.pop(part)
    while params:
        yield params.popitem()


def fold_one(network: Network, fold: Fold, params: Params, buffers: Buffers) -> dict[str, Tensor]:
    """Weight s W and bias s (b - mean) + beta of a folded linear map, with s = gamma / sqrt(variance + eps)."""
    norm = network.module.get_submodule(fold.norm)
    assert isinstance(norm, _BatchNorm)
    weight, bias = params[f"{fold.linear}.weight"], params.get(f"{fold.linear}.bias", 0.0)
    gamma, beta = params.get(f"{fold.norm}.weight", 1.0), params.get(f"{fold.norm}.bias", 0.0)
    scale = gamma * torch.rsqrt(buffers[f"{fold.norm}.running_var"] + norm.eps)
    shift = scale * (bias - buffers[f"{fold.norm}.running_mean"]) + beta
    return {"weight": weight * scale.view(-1, *[1] * (weight.dim() - 1)), "bias": shift}


def _remove_folded(network: Network, folds: list[Fold]) -> nn.Module:
    """The network's structure with the folded BatchNorms left out and a bias on every folded linear map."""
    module = copy_module(network.restored_module())
    for fold in folds:
        linear = module.get_submodule(fold.linear)
        if linear.bias is None:
            features = linear.get_parameter("weight").shape[0]
            linear.register_parameter("bias", nn.Parameter(torch.empty(features, device="meta")))
        module.set_submodule(fold.norm, nn.Identity())
    return module
