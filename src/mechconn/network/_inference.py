"""Networks in evaluation mode at one point of weight space, made fast before the data come.

Every BatchNorm that directly follows a linear map is folded into it; images have channels last; weights are converted
and packed once for a point, not once a batch. Networks in float64 are called as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from mechconn.core import Buffers, Compute, Inputs, Params, isolate_rng, log, take_first_rows
from mechconn.network._adapter_layers import is_held
from mechconn.network._copies import copy_module
from mechconn.network._few_rows import CLEAR, are_close, describe_error, vary_enough
from mechconn.network._fold_norms import Fold as Fold
from mechconn.network._fold_norms import find_folds as find_folds
from mechconn.network._fold_norms import find_layers, fold_scale
from mechconn.network._fold_norms import fold_parameters as fold_parameters
from mechconn.network._packed_layers import PACKED, can_be_packed, pack_weight
from mechconn.network._params import Network

Forward = Callable[[Inputs], Tensor]
PROBED_ROWS = 8
"""Enough for every layer to be seen, few enough that full precision and its graph need no room to speak of."""
WORTHWHILE = 33
"""Rows of a batch from which on a network in its own type is made faster, and weights are packed."""
TOLERANCE_IN_REDUCED, TOLERANCE_IN_FLOAT32 = 1e-3, 1e-4
"""The most by which the fast network may differ from the plain one, both in full precision, in shares of the largest
output: far above float32 rounding in a deep network (1e-6 to 1e-5) and far below what a wrong fold does."""
ROUGHLY = 0.25
"""The most by which outputs in reduced precision may differ from those in full precision: bfloat16 keeps 8 bits."""


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


@dataclass(frozen=True)
class FastNetwork:
    """A plan carried out: the network that is used, and copies of it for trials, one of them in full precision."""

    plan: Plan
    network: Network
    trial: Network
    exact: Network


class Inference:
    """The network as a function of inputs alone, at any number of points.

    What may be folded and packed is read off the operations that the first rows go through. The fast network is held
    against the plain one on the first rows of every pass at every point, and of images of every size: where they
    differ by more than 1e-4 of the largest output (in float32), or the fast one raises, this pass and all that come are
    plain; where the plain outputs do not vary between rows, so that nothing is shown, this pass is. Trials run on
    copies: the network's state, its buffers and the generators are as without them. In float64, on other devices than
    processors, and in batches of fewer rows than `WORTHWHILE`, outputs in the model's own type are the plain network's.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        own = network.floating == torch.float32 and network.device.type == "cpu" and not network.mode_computes
        self.wanted = network.reduced is not None or (own and _can_gain(network))
        self._resting: Network | None = None
        self._exact: Network | None = None
        self._made: FastNetwork | None = None

    @property
    def planned(self) -> bool:
        """Whether there is a fast network."""
        return self._made is not None

    @property
    def _plan(self) -> Plan:
        return Plan() if self._made is None else self._made.plan

    def at(self, params: Params, buffers: Buffers) -> PointForward:
        """The forward pass in evaluation mode at `params`; `params` and `buffers` are on the network's device."""
        if self.wanted:
            self.make_plain_copy()  # no point's values are in the module now
        return PointForward(self, params, buffers)

    def make_plain_copy(self) -> Network:
        """A copy of the network at rest for trials, never compiled."""
        if self._resting is None:
            compute = replace(self.network.compute, compile=False)
            self._resting = Network(self.network.restored_module(), compute)
            self._exact = self._resting
            if self.network.reduced is not None:
                self._exact = Network(self._resting.module, Compute(self.network.device))
        return self._resting

    def give_up(self, why: str) -> None:
        """From now on the plain network is used."""
        if self.wanted:
            log(f"evaluation: the plain network ({why})")
        self.wanted, self._made = False, None

    def convert(self, params: Params, buffers: Buffers) -> tuple[Network, Params] | None:
        """(the fast network, its parameters); None where some norm has a scale beyond the number type."""
        made = self._made
        if made is None or not self._can_fold(made.plan, params, buffers):
            return None
        try:
            return made.network, self._convert(made.plan, made.network, params, buffers)
        except Exception as error:  # no room, or an operation that refuses these numbers
            self.give_up(describe_error(error))
            return None

    @torch.no_grad()
    def prove(self, params: Params, buffers: Buffers, inputs: Inputs, converted: Params | None) -> bool:
        """Whether the fast network, which is made where there is none yet, gives these rows the plain outputs."""
        few, plain = take_first_rows(inputs, PROBED_ROWS), self.make_plain_copy()
        exact = self._exact
        assert exact is not None
        held = {name: buffer.clone() for name, buffer in buffers.items()}
        try:
            expected = _run(exact, params, held, few)
        except Exception as error:  # what is wrong beside the few rows shows in the plain network
            self.give_up(f"{PROBED_ROWS} rows cannot be run alone: {describe_error(error)}")
            return False
        if not all(torch.equal(held[name], buffer) for name, buffer in buffers.items()):
            self.give_up("it writes into its buffers in evaluation")
            return False
        if not vary_enough(expected):
            log("evaluation: the plain network for one pass (outputs on its first rows do not vary)")
            return False
        if self._made is None:
            self._made, why = self._find(plain, params, buffers, few, expected, _count_rows(inputs) >= WORTHWHILE)
        else:
            why = self._explain_difference(self._made, params, buffers, few, expected, converted)
        if why and vary_enough(expected, CLEAR):
            self.give_up(why)
        elif why:
            log(f"evaluation: the plain network for one pass ({why}; outputs on its first rows hardly vary)")
        return not why

    @property
    def _tolerance(self) -> float:
        return TOLERANCE_IN_FLOAT32 if self.network.reduced is None else TOLERANCE_IN_REDUCED

    def _find(
        self, plain: Network, params: Params, buffers: Buffers, few: Inputs, expected: Tensor, pack: bool
    ) -> tuple[FastNetwork | None, str]:
        """(the fastest that gives the expected outputs, why there is none)."""
        reasons: dict[str, None] = {}
        try:
            with isolate_rng(0, "inference"):
                plans = list(_find_plans(plain, self.network, params, buffers, few, pack))
        except Exception as error:  # a forward pass that cannot do with few rows, or without its way back
            plans, reasons = [], {f"its operations cannot be followed: {describe_error(error)}": None}
        for plan in plans:
            try:
                made = self._make(plan)
                why = self._explain_difference(made, params, buffers, few, expected, None)
            except Exception as error:
                why = describe_error(error)
            else:
                if not why:
                    log(f"evaluation: {plan}")
                    made.network.compiled.report_to(self.network.compiled)
                    return made, ""
            reasons[why] = None
        return None, "; ".join(reasons) or "nothing can be made faster"

    def _make(self, plan: Plan) -> FastNetwork:
        plain, compute = self.make_plain_copy(), self.network.compute
        trial = _build(plain, plan, replace(compute, compile=False))
        exact = trial if self.network.reduced is None else _build(plain, plan, Compute(self.network.device))
        return FastNetwork(plan, _build(plain, plan, compute), trial, exact)

    def _explain_difference(
        self,
        made: FastNetwork,
        params: Params,
        buffers: Buffers,
        few: Inputs,
        expected: Tensor,
        converted: Params | None,
    ) -> str:
        """Why the fast network does not stand for the plain one on these rows; empty where it does."""
        if not self._can_fold(made.plan, params, buffers):
            return "a norm has a scale beyond the number type"
        held = {name: buffer.clone() for name, buffer in buffers.items()}
        try:
            if converted is None:
                converted = self._convert(made.plan, made.trial, params, buffers)
            got = _run(made.trial, converted, held, few)
            if made.exact is not made.trial:
                if not bool((expected - got).abs().max() <= ROUGHLY * expected.abs().max()):
                    return "outputs of the fast network differ in reduced precision"
                got = _run(made.exact, self._convert(made.plan, made.exact, params, buffers), held, few)
        except Exception as error:
            return describe_error(error)
        if made.plan.channels_last is not None and not made.trial.keeps_layout(few):
            return "images cannot have channels last"
        return "" if are_close(expected, got, self._tolerance) else f"outputs differ with {made.plan}"

    def _can_fold(self, plan: Plan, params: Params, buffers: Buffers) -> bool:
        """Whether no BatchNorm has a scale beyond the number type, which a weight must not be multiplied by."""
        scales = (fold_scale(self.network, fold, params, buffers) for fold in plan.folds)
        return all(bool(scale.isfinite().all()) for scale in scales)

    def _convert(self, plan: Plan, fast: Network, params: Params, buffers: Buffers) -> Params:
        """The parameters of the fast network; what it does not change is shared."""
        packed = {f"{name}.weight": name for name in plan.packed}
        folded = fold_parameters(self.network, list(plan.folds), dict(params), buffers)
        return {
            name: pack_weight(self.network.module.get_submodule(packed[name]), tensor, plan.packed[packed[name]])
            if name in packed
            else tensor
            for name, tensor in fast.iterate_converted(folded)
        }


class PointForward:
    """Outputs in evaluation mode at one point: of the fast network where it was proved on this pass, else the plain."""

    def __init__(self, inference: Inference, params: Params, buffers: Buffers) -> None:
        self._inference, self._params, self._buffers = inference, params, buffers
        self._fast: tuple[Network, Params] | None = None
        self._proved: dict[object, bool] = {}

    def begin_pass(self) -> None:
        """Before the first batch of other data: the fast network is to be proved anew."""
        self._proved = {}

    def prove(self, inputs: Inputs) -> bool:
        """Whether the fast network stands for the plain one on rows as these; tried where it is not known yet."""
        return self._inference.wanted and self._is_proved(inputs) and self._inference.wanted

    def __call__(self, inputs: Inputs) -> Tensor:
        """The network's outputs on a batch."""
        if self.prove(inputs):
            assert self._fast is not None
            state = torch.get_rng_state()
            try:
                return self._fast[0](self._fast[1], self._buffers, inputs)
            except Exception as error:  # what is wrong beside shows in the plain network
                self._inference.give_up(describe_error(error))
            torch.set_rng_state(state)
        return self._inference.network(self._params, self._buffers, inputs)

    def run_copy(self, inputs: Inputs) -> Tensor:
        """Outputs of a copy of the plain network, for trials: nothing of this point is changed."""
        copied = self._inference.make_plain_copy()
        copied.restored_module()
        return copied(self._params, {name: buffer.clone() for name, buffer in self._buffers.items()}, inputs)

    def _is_proved(self, inputs: Inputs) -> bool:
        inference, key = self._inference, describe_row(inputs)
        if key not in self._proved:
            if inference.network.reduced is None and _count_rows(inputs) < WORTHWHILE:
                return False
            if not inference.planned or self._convert():
                converted = None if self._fast is None else self._fast[1]
                proved = inference.prove(self._params, self._buffers, inputs, converted)
                self._proved[key] = proved and self._convert()
            else:
                self._proved[key] = False
        return self._proved[key]

    def _convert(self) -> bool:
        if self._fast is None:
            self._fast = self._inference.convert(self._params, self._buffers)
        return self._fast is not None


def describe_row(inputs: Inputs) -> object:
    """What a layer may decide by: the shape of a row, of texts alone the number of their axes."""
    leaves = [part for part in tree_leaves(inputs) if isinstance(part, Tensor)]
    whole = isinstance(inputs, Tensor)
    return tuple((part.shape[1:] if whole or part.dim() > 3 else part.dim(), part.dtype) for part in leaves)


def _run(network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> Tensor:
    """Outputs of a copy, each time from rest and with the same random numbers."""
    network.restored_module()
    with isolate_rng(0, "inference"):
        return network(params, buffers, inputs)


def _can_gain(network: Network) -> bool:
    """Whether some layer could be folded, packed or given channels last."""
    return any(
        can_be_packed(layer, False) or isinstance(layer, (_BatchNorm, nn.Conv2d)) for layer in network.module.modules()
    )


def _count_rows(inputs: Inputs) -> int:
    return max((len(part) for part in tree_leaves(inputs) if isinstance(part, Tensor) and part.dim()), default=0)


def _find_plans(
    plain: Network, network: Network, params: Params, buffers: Buffers, inputs: Inputs, pack: bool
) -> Iterator[Plan]:
    """What may be tried, the fastest first."""
    own, images = network.reduced is None, isinstance(inputs, Tensor) and inputs.dim() == 4
    folds, called = find_layers(plain, params, buffers, inputs)
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
