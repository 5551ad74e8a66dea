"""The proof by running: a network's outputs before and after its units were permuted at random, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mechconn import _errors
from mechconn._copies import forget, has_rules, set_mode
from mechconn._params import call_arguments
from mechconn._rng import generator, isolated
from mechconn._symmetry._graph import copied, predictions
from mechconn._typing import Inputs

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-6, torch.float16: 1e-2, torch.bfloat16: 1e-1}
"""Largest relative change of the outputs, by the narrowest type that the forward pass itself computes in."""

DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout)


@runtime_checkable
class Movable(Protocol):
    """What the proof needs of a symmetry."""

    @property
    def sizes(self) -> Mapping[str, int]: ...
    def moved(self, name: str, tensor: Tensor, permutations: Mapping[str, Tensor]) -> Tensor: ...
    def touched_by(self, groups: list[str]) -> list[str]: ...
    def places_of(self, group: str) -> str: ...


def verify(model: nn.Module, example: Inputs, symmetry: Movable, seed: int) -> None:
    """Raise unless permuting each group, and all together, leaves the outputs as they are; see `Symmetry.verify`."""
    probe = _Probe(model, example, seed)
    probe.disturb()
    orders = {g: torch.randperm(n, generator=generator(seed, "verify", g)) for g, n in symmetry.sizes.items() if n > 1}
    rounds = {group: _round(order) for group, order in orders.items()}
    swaps = {group: _swap(order) for group, order in orders.items()}
    # A round and a swap of two neighbours in it generate every permutation of a group.
    trials: list[dict[str, Tensor]] = [{group: rounds[group]} for group in rounds]
    trials += [rounds, swaps] if len(rounds) > 1 else [swaps]
    for training in (False, True):
        expected, tolerance = probe.outputs(training)
        for chosen in trials:
            touched = symmetry.touched_by(list(chosen))
            got, _ = probe.outputs(training, touched, lambda name, t, chosen=chosen: symmetry.moved(name, t, chosen))
            error = relative_error(expected, got)
            if not error <= tolerance:
                mode, groups = "training" if training else "evaluation", list(chosen)
                which = f"group {groups[0]!r}" if len(groups) == 1 else "all groups together"
                places = "; ".join(symmetry.places_of(group) for group in groups[:3])
                raise ValueError(
                    _errors.NOT_A_SYMMETRY.format(which=which, mode=mode, error=error, bar=tolerance, places=places)
                )


def _round(order: Tensor) -> Tensor:
    """The permutation that moves every unit to the place of the next one in `order`."""
    return torch.empty_like(order).index_copy_(0, order, order.roll(-1))


def _swap(order: Tensor) -> Tensor:
    """The permutation that swaps the first two units in `order`."""
    return torch.arange(len(order)).index_copy_(0, order[:2], order[:2].flip(0))


def relative_error(expected: list[Tensor], got: list[Tensor]) -> float:
    """max |got - expected| / max |expected| of each output, the largest; infinite where an infinity or NaN moved."""
    finite = [t.isfinite() for t in expected]
    sizes = [_largest(t[known]) for t, known in zip(expected, finite, strict=True)]
    floor = 1e-6 * max(sizes, default=0.0)  # what is smaller than this beside another output is its rounding
    error = 0.0
    for a, b, known, size in zip(expected, got, finite, sizes, strict=True):
        if a.shape != b.shape or not torch.equal(a[~known], b[~known]) or not bool(b[known].isfinite().all()):
            return float("inf")
        error = max(error, _largest(b[known] - a[known]) / (max(size, floor) or 1.0))
    return error


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


class _Probe:
    """A float64 copy of a model that can be run with some of its tensors moved."""

    def __init__(self, model: nn.Module, example: Inputs, seed: int) -> None:
        self._module = copied(model, _widened)
        forget(self._module)
        self._arguments = tree_map(_widened, call_arguments(example))
        self._seed = seed
        self._model = type(model).__name__

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}

    @torch.no_grad()
    def disturb(self) -> None:
        """Make units differ that an initialisation made alike, and nothing vanish that one set to zero.

        All parameters, buffers and inputs get t (1 - 0.2 u) + 0.02 u with u uniform on [0, 1): what is positive stays
        so, and what lies between 0 and 1, or -1 and 1, does too.
        """
        inputs = [t for t in tree_leaves(self._arguments) if isinstance(t, Tensor)]
        disturbed = {f"input {number}": tensor for number, tensor in enumerate(inputs)}
        for name, tensor in {**self._tensors, **disturbed}.items():
            if tensor.is_floating_point():
                draw = torch.rand(tensor.shape, generator=generator(self._seed, "disturb", name), dtype=torch.float64)
                draw = draw.to(tensor.device)
                tensor.mul_(1 - 0.2 * draw).add_(0.02 * draw)

    @torch.no_grad()
    def outputs(
        self,
        training: bool,
        touched: list[str] | None = None,
        moved: Callable[[str, Tensor], Tensor] | None = None,
    ) -> tuple[list[Tensor], float]:
        """The outputs with the touched tensors moved, and the error to be expected of the arithmetic."""
        tensors = self._tensors
        held = {name: tensor.clone() for name, tensor in tensors.items() if training and name in self._buffer_names}
        held |= {name: tensors[name].clone() for name in touched or []}
        for name in touched or []:
            assert moved is not None
            tensors[name].copy_(moved(name, held[name]))
        # What one run leaves in the module does not reach the next; a change of its mode may write into weights.
        module = copied(self._module, torch.clone if has_rules(self._module) else lambda t: t)
        set_mode(module, training)
        for part in module.modules():
            if isinstance(part, _DropoutNd):
                part.eval()
            elif isinstance(part, nn.MultiheadAttention):
                part.dropout = 0.0
        types = _Types()
        args, kwargs = tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, self._arguments)
        try:
            with isolated(self._seed, "verify"), _NoDropout(), types:
                found = predictions(module(*args, **kwargs))
        except Exception as error:
            mode = "training" if training else "evaluation"
            raise ValueError(_errors.NOT_RUN.format(model=self._model, mode=mode, why=error)) from error
        finally:
            for name, tensor in held.items():
                tensors[name].copy_(tensor)
        leaves = [t for t in tree_leaves(found) if isinstance(t, Tensor)]
        if not leaves:
            raise ValueError(_errors.NO_OUTPUT.format(model=self._model, type=type(found).__name__))
        return [(torch.view_as_real(t) if t.is_complex() else t).double() for t in leaves], TOLERANCES[types.narrowest]

    @property
    def _buffer_names(self) -> set[str]:
        return {name for name, _ in self._module.named_buffers()}


def _widened(value: Any) -> Any:
    """A copy of a tensor, in float64 where it is real."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().to(torch.float64 if value.is_floating_point() else value.dtype, copy=True)


class _NoDropout(TorchFunctionMode):
    """Dropout that drops nothing, also where a forward pass calls it as a function."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            if len(args) > 4:
                args = (*args[:4], 0.0, *args[5:])
            else:
                kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


class _Types(TorchDispatchMode):
    """Notes the narrowest floating-point type that any operation brings a wider one to.

    What begins narrow, as a constant of the forward pass, does not depend on the weights and is exact for this purpose.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.narrowest = torch.float64

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = _rounding((args, kwargs))
        for dtype, eps in _rounding(result).items():
            if eps > min(given.values(), default=eps) and eps > torch.finfo(self.narrowest).eps:
                self.narrowest = dtype
        return result


def _rounding(values: Any) -> dict[torch.dtype, float]:
    """The floating-point types of tensors -> the distance of 1 to the next larger number."""
    types = {t.dtype for t in tree_leaves(values) if isinstance(t, Tensor)}
    return {dtype: torch.finfo(dtype).eps for dtype in types if dtype in TOLERANCES}
