"""Master weights: a module in bfloat16 or float16 is trained as a float32 copy and given back in its own types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mechconn.core import Params
from mechconn.losses import Loss, OwnLoss
from mechconn.network import HALF, copy_module


class MasterWeights:
    """What is trained in a module's place: the module itself, or a float32 copy of one that trains in half precision.

    The spacing of either type is wider than a step of SGD: bfloat16 keeps 8 bits, so that a change of a weight by
    less than a 256th of it is lost as a whole, however often it comes. There is a copy where a trainable parameter
    or a buffer is bfloat16 or float16. All such tensors of it are float32 (frozen ones as well, so that its layers
    compute in one type), and it casts inputs of these types to float32. All others keep their type. What comes of
    the copy is rounded to the module's own types once, at the end.

    Attributes:
        module: what to train a copy of.
        types: own type of every parameter and buffer that the copy holds in float32, by its first name; empty where
            there is no copy.
    """

    def __init__(self, model: nn.Module) -> None:
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        half = {name: tensor.dtype for name, tensor in tensors.items() if tensor.dtype in HALF}
        moves = (tensors[name].requires_grad or not isinstance(tensors[name], nn.Parameter) for name in half)
        self.types: Mapping[str, torch.dtype] = half if any(moves) else {}
        self.module = self._copy(model) if self.types else model

    @property
    def settings(self) -> dict[str, Any]:
        """Its part of a record: empty where there is no copy."""
        return {"master_weights": "float32"} if self.types else {}

    def load(self, params: Params) -> Params:
        """A point of the module's weight space as one of the copy's; exact."""
        return {name: tensor.float() if name in self.types else tensor for name, tensor in params.items()}

    def round(self, params: Params) -> Params:
        """A point of the copy's weight space in the module's own types.

        Raises:
            FloatingPointError: a finite value is beyond the range of its type.
        """
        return {name: self._rounded(name, tensor) for name, tensor in params.items()}

    def write_back(self, trained: nn.Module) -> None:
        """Round the parameters and buffers of a trained copy of `module`, in place, and take its cast of inputs away.

        Raises:
            FloatingPointError: a finite value is beyond the range of its type.
        """
        if not self.types:
            return
        tensors = dict(trained.named_parameters()) | dict(trained.named_buffers())
        rounded = {id(tensors[name]): self._rounded(name, tensors[name].detach()) for name in self.types}
        trained._apply(lambda tensor: rounded.get(id(tensor), tensor))
        hooks = trained._forward_pre_hooks
        for number in [number for number, hook in hooks.items() if isinstance(hook, _CastHalf)]:
            del hooks[number]
            trained._forward_pre_hooks_with_kwargs.pop(number, None)

    def loss(self, loss: Loss) -> Loss:
        """The loss; a function of the user's then gets targets of half precision as float32, as our own losses do."""
        if not self.types or not isinstance(loss, OwnLoss):
            return loss
        own = loss.function
        return OwnLoss(lambda outputs, targets: own(outputs, targets.float() if is_half(targets) else targets))

    @contextmanager
    def explain_errors(self) -> Iterator[None]:
        """Context manager: a clash of types in the copy's forward pass is re-raised with its reason.

        Raises:
            ValueError: the forward pass casts to the module's own type by name.
        """
        try:
            yield
        except (RuntimeError, TypeError) as error:
            if not self.types or "type" not in str(error):
                raise
            own = " and ".join(sorted({str(kind).removeprefix("torch.") for kind in self.types.values()}))
            raise ValueError(
                f"the model holds {own} and is trained as a float32 copy, whose forward pass meets two types "
                f"({str(error).splitlines()[0]}); let it cast to the type of its weights, as in x.to(self.weight.dtype)"
            ) from error

    def _copy(self, model: nn.Module) -> nn.Module:
        full = copy_module(model)
        seen: dict[int, tuple[Tensor, Tensor]] = {}  # one tensor in several places stays one; held, so that ids last

        def float32(tensor: Tensor) -> Tensor:
            if tensor.dtype not in HALF:
                return tensor
            return seen.setdefault(id(tensor), (tensor, tensor.float()))[1]

        full._apply(float32)
        full.register_forward_pre_hook(_CastHalf(), with_kwargs=True)
        return full

    def _rounded(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self.types:
            return tensor
        rounded, kind = tensor.to(self.types[name]), str(self.types[name]).removeprefix("torch.")
        if bool((torch.isfinite(tensor) & ~torch.isfinite(rounded)).any()):
            largest = float(tensor[torch.isfinite(tensor)].abs().max())
            raise FloatingPointError(
                f"{name} reached {largest:.3g} in float32, which is beyond {kind}; lower the learning rate, "
                "or train model.float()"
            )
        return rounded


class _CastHalf:
    """A pre-hook of a module: floating inputs of half precision come as float32."""

    def __call__(self, _: nn.Module, args: Any, kwargs: Any) -> Any:
        return tree_map(lambda value: value.float() if is_half(value) else value, (args, kwargs))


def is_half(value: Any) -> bool:
    """Whether it is a tensor of bfloat16 or float16."""
    return isinstance(value, Tensor) and value.dtype in HALF
