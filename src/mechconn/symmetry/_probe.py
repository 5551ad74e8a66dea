"""Running a float64 copy of a network with some of its weights moved, without dropout, on disturbed numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mechconn.core import Inputs, isolate_rng, make_generator
from mechconn.network import drop_computed_values, has_mode_or_loading_rules, make_call_arguments, set_mode
from mechconn.symmetry._graph import copy_with_tensors, select_predictions, take_first_line

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Types that a forward pass may compute in."""
LAST_DIGITS = 4
"""By how many times the distance of 1 to the next larger number a parameter is off where rounding is measured."""
DRAWS = 4
"""How many times it is measured."""

DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout)


Derivatives: TypeAlias = list[dict[str, Tensor]]


class Probe:
    """A float64 copy of a model, disturbed, that can be run with some of its tensors moved.

    Disturbed, units differ that an initialisation made alike, and nothing vanishes that one set to zero: parameters,
    buffers and inputs get t (1 - 0.2 u) + 0.02 u with u uniform on [0, 1). What is positive stays so, and what lies
    between 0 and 1, or -1 and 1, does too.
    """

    def __init__(self, model: nn.Module, example: Inputs, seed: int, *, disturbed: bool = True) -> None:
        self._module = copy_with_tensors(model, _widened)
        drop_computed_values(self._module)
        self._seed = seed
        self._model = type(model).__name__
        self.where = ""
        self._strength = float(disturbed)
        self._disturb(self._tensors)
        self._arguments = self._disturbed(example)

    def on(self, example: Inputs) -> Probe:
        """The same model, to be run on another example, which errors name."""
        probe = copy.copy(self)
        probe._arguments = self._disturbed(example)
        shapes = [str(list(t.shape)) for t in tree_leaves(example) if isinstance(t, Tensor)]
        probe.where = f", at inputs of shape {', '.join(shapes)},"
        return probe

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}

    def _disturbed(self, example: Inputs) -> Any:
        arguments = tree_map(_widened, make_call_arguments(example))
        inputs = [t for t in tree_leaves(arguments) if isinstance(t, Tensor)]
        self._disturb({f"input {number}": tensor for number, tensor in enumerate(inputs)})
        return arguments

    @torch.no_grad()
    def _disturb(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                draw = self._uniform(tensor, "disturb", name)
                tensor.mul_(1 - 0.2 * self._strength * draw).add_(0.02 * self._strength * draw)

    def _uniform(self, tensor: Tensor, *names: str | int) -> Tensor:
        """Uniform draws in [0, 1) of a tensor's shape."""
        draw = torch.rand(tensor.shape, generator=make_generator(self._seed, *names), dtype=torch.float64)
        return draw.to(tensor.device)

    def run(self, mode: TorchFunctionMode) -> None:
        """Run the copy in training mode for what `mode` writes into its tensors.

        Raises:
            ValueError: it cannot be run.
        """
        module = copy_with_tensors(self._module, lambda t: t)
        _set_mode_without_dropout(module, True)
        args, kwargs = tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, self._arguments)
        try:
            with torch.no_grad(), isolate_rng(self._seed, "run"), _NoDropout(), mode:
                module(*args, **kwargs)
        except Exception as error:
            raise ValueError(f"{self._model} could not be run in training mode ({take_first_line(error)})") from error

    def rounded(self, training: bool, dtype: torch.dtype) -> Iterator[list[Tensor]]:
        """The outputs with every parameter off by a few units of the last digit that a type has, several times."""
        names = [name for name, parameter in self._module.named_parameters() if parameter.is_floating_point()]
        width = LAST_DIGITS * torch.finfo(dtype).eps
        for number in range(DRAWS):
            yield self.outputs(
                training,
                names,
                lambda name, t, number=number: t * (1 + width * (2 * self._uniform(t, "rounding", number, name) - 1)),
            )[0]

    @torch.no_grad()
    def outputs(
        self,
        training: bool,
        touched: list[str] | None = None,
        moved: Callable[[str, Tensor], Tensor] | None = None,
    ) -> tuple[list[Tensor], torch.dtype]:
        """The outputs with the touched tensors moved, and the narrowest type that the forward pass computes in."""
        tensors = self._tensors
        held = {name: buffer.clone() for name, buffer in self._module.named_buffers() if training}
        held |= {name: tensors[name].clone() for name in touched or []}
        for name in touched or []:
            assert moved is not None
            tensors[name].copy_(moved(name, held[name]))
        # What one run leaves in the module does not reach the next; a change of its mode may write into weights.
        module = copy_with_tensors(
            self._module, torch.clone if has_mode_or_loading_rules(self._module) else lambda t: t
        )
        _set_mode_without_dropout(module, training)
        types = _Types()
        args, kwargs = tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, self._arguments)
        try:
            with isolate_rng(self._seed, "verify"), _NoDropout(), types:
                found = select_predictions(module(*args, **kwargs))
        except Exception as error:
            mode = "training" if training else "evaluation"
            raise ValueError(
                f"{self._model} could not be run in float64 in {mode} mode ({take_first_line(error)}); pass an example "
                "that it accepts, of two rows or more, and let its forward pass compute in the type of its "
                "weights"
            ) from error
        finally:
            for name, tensor in held.items():
                tensors[name].copy_(tensor)
        leaves = _list_outputs(found)
        if not leaves:
            raise ValueError(
                f"{self._model} returns no tensor but {type(found).__name__}, so nothing can be proved; wrap it to "
                "return its predictions"
            )
        return leaves, types.narrowest

    def derivatives(self, training: bool, names: list[str], mode: TorchFunctionMode, count: int) -> Derivatives:
        """Of random sums F of the outputs, t dF/dt entry by entry for these tensors: how F changes as log t grows.

        Args:
            training: the mode; buffers have derivatives in evaluation mode alone.
            names: of parameters and buffers.
            mode: in force during the forward pass.
            count: how many sums.

        Returns:
            For each sum, tensor -> a tensor of its shape; no entry where F does not depend on it.
        """
        module = copy_with_tensors(self._module, torch.clone)
        _set_mode_without_dropout(module, training)
        tensors: dict[str, Tensor] = dict(module.named_parameters())
        if not training:
            tensors |= dict(module.named_buffers())
        chosen = {name: tensors[name].requires_grad_(True) for name in names if name in tensors}
        args, kwargs = tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, self._arguments)
        with torch.enable_grad(), isolate_rng(self._seed, "derivatives"), _NoDropout(), mode:
            leaves = [t[t.isfinite()] for t in _list_outputs(select_predictions(module(*args, **kwargs)))]
            leaves = [t for t in leaves if t.requires_grad and t.numel()]
        found = []
        for number in range(count if leaves else 0):
            weights = [2 * self._uniform(t, "sum", number, place) - 1 for place, t in enumerate(leaves)]
            grads = torch.autograd.grad(
                leaves, list(chosen.values()), weights, retain_graph=number + 1 < count, allow_unused=True
            )
            pairs = zip(chosen.items(), grads, strict=True)
            found.append({name: t.detach() * grad for (name, t), grad in pairs if grad is not None})
        return found


def _set_mode_without_dropout(module: nn.Module, training: bool) -> None:
    set_mode(module, training)
    for part in module.modules():
        if isinstance(part, _DropoutNd):
            part.eval()
        elif isinstance(part, nn.MultiheadAttention | nn.RNNBase):
            part.dropout = 0.0


def _list_outputs(found: Any) -> list[Tensor]:
    """Every tensor that a model returns, real and in float64."""
    leaves = [t for t in tree_leaves(found) if isinstance(t, Tensor)]
    return [(torch.view_as_real(t) if t.is_complex() else t).double() for t in leaves]


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
    return {dtype: torch.finfo(dtype).eps for dtype in types if dtype in TYPES}
