"""Networks in evaluation mode at one point of weight space, made fast before the data come.

Every BatchNorm that directly follows a linear map is folded into it; images have channels last; weights are converted
and packed once for a point, not once a batch. Networks in float64 are called as they stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from mechconn.core import Buffers, Compute, Inputs, Params, isolate_rng, log, take_first_rows
from mechconn.network._adapter_layers import is_held
from mechconn.network._copies import copy_module
from mechconn.network._packed_layers import PACKED, can_be_packed, pack_weight
from mechconn.network._params import LINEAR_MAPS, Network

Forward = Callable[[Inputs], Tensor]
PROBED_ROWS = 8
"""Enough for every layer to be seen, few enough that full precision and its graph need no room to speak of."""
WORTHWHILE = 33
"""Rows of the first batch from which on a network in its own type is made faster, and weights are packed."""
TOLERANCE_IN_REDUCED, TOLERANCE_IN_FLOAT32 = 1e-3, 1e-4
"""The most by which the fast network may differ from the plain one, both in full precision, in shares of the largest
output: far above float32 rounding in a deep network (1e-6 to 1e-5) and far below what a wrong fold does."""


@dataclass(frozen=True)
class Fold:
    """A linear map whose output goes to one BatchNorm and nowhere else, by module names."""

    linear: str
    norm: str


@dataclass(frozen=True)
class Plan:
    """How a network is made faster.

    Attributes:
        folds: BatchNorms that are folded.
        packed: name of a layer whose weight is packed -> the lengths of its inputs behind the rows.
        channels_last: whether images come with channels last; None: as the network's number type has it.
    """

    folds: tuple[Fold, ...] = ()
    packed: dict[str, tuple[int, ...]] = field(default_factory=dict)
    channels_last: bool | None = None

    def __str__(self) -> str:
        last = ", channels last" if self.channels_last else ""
        return f"{len(self.folds)} norms folded, {len(self.packed)} weights packed{last}"


class Inference:
    """The network as a function of inputs alone, at any number of points.

    What may be folded and packed is read off the operations that the first rows go through, and the fast network is
    then held against the plain one on those rows; where they differ, or where they cannot be run alone, less is done,
    and nothing in the end. So outputs in float32 are those of the plain network up to rounding; the largest difference
    that is let pass on the first rows is 1e-4 of the largest output. In float64, on other devices than processors, and
    where the first batch has fewer rows than `WORTHWHILE`, outputs in the model's own type are the plain network's.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        own = network.floating == torch.float32 and network.device.type == "cpu"
        self._ready = network.reduced is None and not (own and not network.mode_computes)
        self._plan = Plan()
        self._fast: Network | None = None

    def at(self, params: Params, buffers: Buffers) -> Forward:
        """The forward pass in evaluation mode at `params`; `params` and `buffers` are on the network's device.

        It takes `params` over: where weights are folded or packed, the dictionary is emptied tensor by tensor, so that
        the point and the copy that is made from it are never both there as a whole.
        """
        converted: Params | None = None
        network: Network | None = None

        def forward(inputs: Inputs) -> Tensor:
            nonlocal converted, network
            if not self._ready:
                self._prepare(params, buffers, inputs)
            if network is None:
                fast = self._fast if self._can_fold_at(params, buffers) else None
                network, converted = self._network, params
                if fast is not None:
                    network, converted = fast, self._convert(fast, params, buffers)
            assert converted is not None
            return network(converted, buffers, inputs)

        return forward

    def _can_fold_at(self, params: Params, buffers: Buffers) -> bool:
        """Whether no BatchNorm has a scale beyond the number type, which a weight must not be multiplied by."""
        scales = (fold_scale(self._network, fold, params, buffers) for fold in self._plan.folds)
        return all(bool(scale.isfinite().all()) for scale in scales)

    def _convert(self, fast: Network, params: Params, buffers: Buffers) -> Params:
        """The parameters of the fast network, made one at a time; `params` is emptied."""
        packed = {f"{name}.weight": name for name in self._plan.packed}
        folded = fold_parameters(self._network, list(self._plan.folds), params, buffers)
        return {
            name: self._pack(packed[name], tensor) if name in packed else tensor
            for name, tensor in fast.iterate_converted(folded)
        }

    def _pack(self, layer: str, weight: Tensor) -> Tensor:
        return pack_weight(self._network.module.get_submodule(layer), weight, self._plan.packed[layer])

    def _prepare(self, params: Params, buffers: Buffers, inputs: Inputs) -> None:
        self._ready = True
        few, many = take_first_rows(inputs, PROBED_ROWS), _count_rows(inputs) >= WORTHWHILE
        if self._network.reduced is None and not (many and _can_gain(self._network)):
            return
        with isolate_rng(0, "inference"):
            for plan in _find_plans(self._network, params, buffers, few, many):
                try:
                    holds = plan_holds(self._network, plan, params, buffers, few)
                except Exception:  # what is wrong beside the plan shows in the plain network
                    continue
                if holds:
                    log(f"evaluation: {plan}")
                    self._plan, self._fast = plan, _build(self._network, plan, self._network.compute)
                    self._fast.compiled.report_to(self._network.compiled)
                    return
        log("evaluation: the plain network")


def _can_gain(network: Network) -> bool:
    """Whether some layer could be folded, packed or given channels last."""
    return any(
        can_be_packed(layer, False) or isinstance(layer, (_BatchNorm, nn.Conv2d)) for layer in network.module.modules()
    )


def _count_rows(inputs: Inputs) -> int:
    return max((len(part) for part in tree_leaves(inputs) if isinstance(part, Tensor) and part.dim()), default=0)


def _find_plans(network: Network, params: Params, buffers: Buffers, inputs: Inputs, pack: bool) -> Iterator[Plan]:
    """What may be tried, the fastest first."""
    own, images = network.reduced is None, isinstance(inputs, Tensor) and inputs.dim() == 4
    try:
        folds, called = find_layers(network, params, buffers, inputs)
    except Exception:  # a forward pass that cannot do with few rows, or without its way back
        return
    packed = called if pack and network.device.type == "cpu" and not network.mode_computes else {}
    packed = {} if network.compiled.asked else packed  # what compiles lays weights out itself
    packed = {name: sides for name, sides in packed.items() if not is_held(params[f"{name}.weight"])}
    folds = [fold for fold in folds if not own or not is_held(params[f"{fold.linear}.weight"])]
    # packed convolutions give channels last whatever they get
    linear = {
        name: sides for name, sides in packed.items() if isinstance(network.module.get_submodule(name), nn.Linear)
    }
    seen: list[Plan] = [Plan(), Plan(channels_last=False)]
    for some_folds in (tuple(folds), ()):
        for some_packed in (packed, linear, {}):
            for last in (True, False) if own and images else (None,):
                plan = Plan(some_folds, some_packed, last)
                if plan not in seen:
                    seen.append(plan)
                    yield plan


def find_folds(network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> list[Fold]:
    """Linear maps whose output one BatchNorm alone reads, in the operations that lead to the outputs."""
    return find_layers(network, params, buffers, inputs)[0]


def find_layers(
    network: Network, params: Params, buffers: Buffers, inputs: Inputs
) -> tuple[list[Fold], dict[str, tuple[int, ...]]]:
    """(what may be folded, the layers that may be packed with the lengths of their inputs behind the rows).

    Folds are read off the graph that automatic differentiation records, so that any forward pass can be followed; a use
    that it cannot see (of a detached tensor) is left to the comparison that comes after.
    """
    calls: Counter[str] = Counter()
    made: dict[str, Any] = {}
    read: dict[str, Any] = {}
    sides: dict[str, tuple[int, ...]] = {}
    own = Network(network.restored_module(), Compute(network.device))

    def record(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            calls[name] += 1
            given = args[0] if args else kwargs["input"]
            made[name], read[name], sides[name] = output.grad_fn, given.grad_fn, tuple(given.shape[1:])

        return hook

    for name, module in own.module.named_modules():
        if isinstance(module, (*LINEAR_MAPS, _BatchNorm)):
            module.register_forward_hook(record(name), with_kwargs=True)
    held = {name: buffer.clone() for name, buffer in buffers.items()}
    with torch.enable_grad():
        outputs = own({name: t.detach().requires_grad_() for name, t in params.items()}, held, inputs)
    graph = outputs.grad_fn
    slots, holders = own.parameter_slots, Counter(own.parameter_slots.values())

    def holds_alone(layer: str) -> bool:
        return all(holders[slots[slot]] == 1 for slot in slots if slot.rpartition(".")[0] == layer)

    linear_maps = [name for name in made if isinstance(own.module.get_submodule(name), LINEAR_MAPS)]
    linear_maps = [name for name in linear_maps if f"{name}.weight" in params]  # none where it is made of others
    packed = {
        name: sides[name]
        for name in linear_maps
        if can_be_packed(own.module.get_submodule(name), network.reduced is not None) and holds_alone(name)
    }
    del outputs
    if graph is None:  # under the caller's inference_mode nothing is recorded, and nothing is folded
        return [], packed
    readers = _count_readers(graph)
    del graph
    maker = {made[name]: name for name in linear_maps}
    pairs = [(maker[read[norm]], norm) for norm in made if read[norm] in maker and f"{norm}.running_mean" in buffers]
    folds = [
        Fold(linear, norm)
        for linear, norm in pairs
        if calls[norm] == calls[linear] == readers[made[linear]] == 1 and holds_alone(linear) and holds_alone(norm)
    ]
    made.clear()  # the graph holds the weights, and the module the graph
    read.clear()
    return folds, packed


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
def plan_holds(network: Network, plan: Plan, params: Params, buffers: Buffers, inputs: Inputs) -> bool:
    """Whether the fast network gives the same outputs in full precision.

    Each weight that is changed is made when its layer is called and dropped after the call, so that there is no second
    copy of the weights. Any other reader of the weight gets NaN, which shows in the outputs.
    """
    full = Compute(network.device)
    plain, fast = Network(network.restored_module(), full), _build(network, plan, full)
    expected = plain(params, {name: buffer.clone() for name, buffer in buffers.items()}, inputs)
    folds, lent, handles = {fold.linear: fold for fold in plan.folds}, dict(params), []
    for layer in folds.keys() | plan.packed.keys():
        linear = fast.module.get_submodule(layer)
        unread = {
            name: torch.full((), torch.nan, dtype=p.dtype, device=network.device).expand(p.shape)
            for name, p in linear.named_parameters(recurse=False)
        }
        lent.update({f"{layer}.{name}": tensor for name, tensor in unread.items()})

        def make(layer: str = layer, linear: nn.Module = linear) -> dict[str, Tensor]:
            own = {name: params[f"{layer}.{name}"] for name in ("weight", "bias") if f"{layer}.{name}" in params}
            made = fold_one(network, folds[layer], params, buffers) if layer in folds else own
            if layer in plan.packed:
                made["weight"] = pack_weight(linear, made["weight"], plan.packed[layer])
            return made

        handles.append(linear.register_forward_pre_hook(_make_substituting_hook(make)))
        handles.append(linear.register_forward_hook(_make_substituting_hook(lambda unread=unread: unread)))
    try:
        got = fast(lent, {name: buffer.clone() for name, buffer in buffers.items()}, inputs)
    finally:
        for handle in handles:  # the module must not hold the weights
            handle.remove()
    if plan.channels_last is not None and fast.channels_last is not plan.channels_last:  # it fell back by itself
        return False
    allowed = TOLERANCE_IN_FLOAT32 if network.reduced is None else TOLERANCE_IN_REDUCED
    return bool((expected - got).abs().max() <= allowed * expected.abs().max())


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
    weight, bias = params[f"{fold.linear}.weight"], params.get(f"{fold.linear}.bias", 0.0)
    scale = fold_scale(network, fold, params, buffers)
    shift = scale * (bias - buffers[f"{fold.norm}.running_mean"]) + params.get(f"{fold.norm}.bias", 0.0)
    return {"weight": weight * scale.view(-1, *[1] * (weight.dim() - 1)), "bias": shift}


def fold_scale(network: Network, fold: Fold, params: Params, buffers: Buffers) -> Tensor:
    """s = gamma / sqrt(variance + eps) of a BatchNorm, by channel."""
    norm = network.module.get_submodule(fold.norm)
    assert isinstance(norm, _BatchNorm)
    gamma = params.get(f"{fold.norm}.weight", 1.0)
    return gamma * torch.rsqrt(buffers[f"{fold.norm}.running_var"] + norm.eps)


def _build(network: Network, plan: Plan, compute: Compute) -> Network:
    """The fast network: folded BatchNorms left out, a bias on every folded linear map, layers that take packed weights.

    Layers that the plan does not change are as they were.
    """
    module = copy_module(network.restored_module())
    for fold in plan.folds:
        linear = module.get_submodule(fold.linear)
        if linear.bias is None:
            features = linear.get_parameter("weight").shape[0]
            linear.register_parameter("bias", nn.Parameter(torch.empty(features, device="meta")))
        module.set_submodule(fold.norm, nn.Identity())
    for name in plan.packed:
        layer = module.get_submodule(name)
        layer.__class__ = PACKED[type(layer)]
    fast = Network(module, compute)
    if plan.channels_last is not None:
        fast.channels_last = plan.channels_last
    return fast
