"""The proof by running: a network's outputs before and after its units were permuted at random, in float64."""

from __future__ import annotations

import copy
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
from mechconn._params import call_arguments
from mechconn._rng import derive_seed, generator, isolated
from mechconn._symmetry._graph import predictions
from mechconn._typing import Inputs

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-6, torch.float16: 1e-2, torch.bfloat16: 1e-1}
"""Largest relative change of the outputs, by the narrowest type that the forward pass itself computes in."""

DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout)


@runtime_checkable
class Movable(Protocol):
    """What the proof needs of a symmetry."""

    @property
    def sizes(self) -> Mapping[str, int]: ...
    @property
    def buffers(self) -> frozenset[str]: ...
    def random(self, seed: int) -> dict[str, Tensor]: ...
    def moved(self, name: str, tensor: Tensor, permutations: Mapping[str, Tensor]) -> Tensor: ...
    def touched_by(self, groups: list[str]) -> list[str]: ...
    def places_of(self, group: str) -> str: ...


def verify(model: nn.Module, example: Inputs, symmetry: Movable, seed: int) -> None:
    """Raise unless permuting each group, and all together, leaves the outputs as they are; see `Symmetry.verify`."""
    probe = _Probe(model, example, seed)
    probe.disturb(symmetry.touched_by(list(symmetry.sizes)), symmetry.buffers)
    drawn = symmetry.random(derive_seed(seed, "verify"))
    trials = [[group] for group in symmetry.sizes] + ([list(symmetry.sizes)] if len(symmetry.sizes) > 1 else [])
    for training in (False, True):
        expected, tolerance = probe.outputs(training)
        for groups in trials:
            chosen = {group: drawn[group] for group in groups}
            touched = symmetry.touched_by(groups)
            got, _ = probe.outputs(training, touched, lambda name, t, chosen=chosen: symmetry.moved(name, t, chosen))
            error = relative_error(expected, got)
            if not error <= tolerance:
                mode = "training" if training else "evaluation"
                which = f"group {groups[0]!r}" if len(groups) == 1 else "all groups together"
                places = "; ".join(symmetry.places_of(group) for group in groups[:3])
                raise ValueError(
                    _errors.NOT_A_SYMMETRY.format(which=which, mode=mode, error=error, bar=tolerance, places=places)
                )


def relative_error(expected: list[Tensor], got: list[Tensor]) -> float:
    """max |got - expected| / max |expected| over all outputs; infinite where one of them is not finite."""
    largest = max((float(t.abs().max()) for t in expected if t.numel()), default=0.0)
    error = max((float((a - b).abs().max()) for a, b in zip(expected, got, strict=True) if a.numel()), default=0.0)
    if not all(bool(torch.isfinite(t).all()) for t in (*expected, *got)):
        return float("inf")
    return error / largest if largest else error


class _Probe:
    """A float64 copy of a model that can be run with some of its tensors moved."""

    def __init__(self, model: nn.Module, example: Inputs, seed: int) -> None:
        self._module = copy.deepcopy(model).double()
        for module in self._module.modules():
            for name, value in vars(module).items():  # tensors that are neither parameters nor buffers
                if isinstance(value, Tensor) and value.is_floating_point():
                    setattr(module, name, value.double())
        args, kwargs = call_arguments(example)
        self._args, self._kwargs = tree_map(_widened, (args, kwargs))
        self._seed = seed
        self._model = type(model).__name__

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}

    @torch.no_grad()
    def disturb(self, names: list[str], buffers: frozenset[str]) -> None:
        """Make units differ that an initialisation made alike: biases of zero, scales and variances of one."""
        for name, tensor in self._tensors.items():
            if name not in names or not tensor.is_floating_point():
                continue
            draw = torch.rand(tensor.shape, generator=generator(self._seed, "disturb", name), dtype=torch.float64)
            draw = draw.to(tensor.device)
            tensor.mul_(1 + 0.2 * draw)  # keeps a variance positive
            if not (name in buffers and bool((tensor > 0).all())):
                tensor.add_(0.02 * (draw - 0.5))

    @torch.no_grad()
    def outputs(
        self,
        training: bool,
        touched: list[str] | None = None,
        moved: Callable[[str, Tensor], Tensor] | None = None,
    ) -> tuple[list[Tensor], float]:
        """Floating-point outputs with the touched tensors moved, and the error to be expected of the arithmetic."""
        tensors = self._tensors
        held = {name: tensor.clone() for name, tensor in tensors.items() if training and name in self._buffer_names}
        held |= {name: tensors[name].clone() for name in touched or []}
        for name in touched or []:
            assert moved is not None
            tensors[name].copy_(moved(name, held[name]))
        self._module.train(training)
        for module in self._module.modules():
            if isinstance(module, _DropoutNd):
                module.eval()
            elif isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
        types = _Types()
        try:
            with isolated(self._seed, "verify"), _NoDropout(), types:
                found = predictions(self._module(*self._args, **self._kwargs))
        except Exception as error:
            mode = "training" if training else "evaluation"
            raise ValueError(_errors.NOT_RUN.format(model=self._model, mode=mode, why=error)) from error
        finally:
            for name, tensor in held.items():
                tensors[name].copy_(tensor)
        leaves = [t for t in tree_leaves(found) if isinstance(t, Tensor) and t.is_floating_point()]
        return [t.double() for t in leaves], TOLERANCES[types.narrowest]

    @property
    def _buffer_names(self) -> set[str]:
        return {name for name, _ in self._module.named_buffers()}


def _widened(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


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
    """Notes the narrowest floating-point type that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.narrowest = torch.float64

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.dtype in TOLERANCES:
                if torch.finfo(tensor.dtype).eps > torch.finfo(self.narrowest).eps:
                    self.narrowest = tensor.dtype
        return result
