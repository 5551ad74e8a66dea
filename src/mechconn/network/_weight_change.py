"""What training changed of a network's weights, as a vector: added, subtracted, scaled, and added to other networks."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import (
    Params,
    UnusableFileError,
    check_is,
    check_same_keys,
    describe_tensor,
    make_generator,
    read_with_note,
    write_safetensors,
)
from mechconn.network._adapter_layers import has_adapters
from mechconn.network._forward_call import HALF
from mechconn.network._params import parameters_of, with_parameters
from mechconn.network._points import as_points
from mechconn.network._wrappers import unwrap_module

WEIGHT_CHANGE = "mechconn weight change"
"""What the note of a file of a change says."""


@dataclass(frozen=True, eq=False)
class WeightChange:
    """tau = theta_tuned - theta_base, a vector over the parameters of a module; buffers are no part of it.

    `-v`, `v + w`, `v - w`, `2 * v`, `v / 2` are new vectors; two are added where they have the same names and shapes.
    Tensors are float64, of parameters in half precision float32, on the device of the base.

    Attributes:
        tensors: name of a parameter -> what changed of it.

    Source: Ilharco et al. 2023, *Editing models with task arithmetic*.
    """

    tensors: Params = field(repr=False)

    def __post_init__(self) -> None:
        check_is("tensors", self.tensors, Mapping, "; pass weight_change(base, tuned)")
        if not self.tensors:
            raise ValueError("a weight change must hold one tensor or more, got none; pass weight_change(base, tuned)")
        for name, tensor in self.tensors.items():
            check_is(f"the change of {name}", tensor, Tensor)
            if not tensor.is_floating_point():
                raise ValueError(f"the change of {name} must be floating point, got {describe_tensor(tensor)}")
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"the change of {name} holds NaN or infinity; take finite weights on both sides")
        object.__setattr__(self, "tensors", {name: tensor.detach() for name, tensor in self.tensors.items()})

    def __repr__(self) -> str:
        count = sum(tensor.numel() for tensor in self.tensors.values())
        return f"WeightChange({count:,} parameters in {len(self.tensors)} tensors, norm {self.norm:.4g})"

    def __neg__(self) -> WeightChange:
        return self._map(torch.neg)

    def __add__(self, other: WeightChange) -> WeightChange:
        return self._join(other, torch.add)

    def __radd__(self, other: object) -> WeightChange:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum([v, w]) begins with 0

    def __sub__(self, other: WeightChange) -> WeightChange:
        return self._join(other, torch.sub)

    def __mul__(self, scale: float) -> WeightChange:
        if not isinstance(scale, numbers.Real) or isinstance(scale, bool):
            return NotImplemented
        check_change_scale(scale)
        return self._map(lambda tensor: tensor * float(scale))

    __rmul__ = __mul__

    def __truediv__(self, scale: float) -> WeightChange:
        if not isinstance(scale, numbers.Real) or isinstance(scale, bool):
            return NotImplemented
        if scale == 0:
            raise ValueError("a weight change cannot be divided by zero; multiply by the scale that is meant")
        check_change_scale(scale)
        return self._map(lambda tensor: tensor / float(scale))

    @property
    def norm(self) -> float:
        """|tau|, the Euclidean norm over all parameters."""
        return math.hypot(*self.norms.values())

    @property
    def norms(self) -> dict[str, float]:
        """Name of a parameter -> Euclidean norm of what changed of it."""
        return {name: float(torch.linalg.vector_norm(tensor)) for name, tensor in self.tensors.items()}

    def cosine(self, other: WeightChange) -> float:
        """<tau, tau'> / (|tau| |tau'|); NaN where one of them is zero.

        Raises:
            ValueError: the names or shapes differ.
        """
        self._check_same_space(other)
        total = sum(float((own * other.tensors[name].to(own)).sum()) for name, own in self.tensors.items())
        norms = self.norm * other.norm
        return total / norms if norms else math.nan

    def random_like(self, seed: int = 0) -> WeightChange:
        """A change of random direction in which each tensor has the norm that it has here: a control.

        A function of the names, the shapes and the seed.
        """
        drawn = {}
        for name, tensor in self.tensors.items():
            generator = make_generator(seed, "random weight change", name)
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64, device="cpu").to(tensor)
            drawn[name] = noise * (torch.linalg.vector_norm(tensor) / torch.linalg.vector_norm(noise))
        return WeightChange(drawn)

    def save(self, file: str | Path) -> None:
        """Write it as safetensors; the file appears whole or not at all.

        Raises:
            FileExistsError: the file exists.
        """
        file = Path(file)
        if file.exists():
            raise FileExistsError(f"{file} exists; remove it, or name another file")
        write_safetensors(file, self.tensors, {"format": WEIGHT_CHANGE, "names": list(self.tensors)})

    def _map(self, change: Callable[[Tensor], Tensor]) -> WeightChange:
        return WeightChange({name: change(tensor) for name, tensor in self.tensors.items()})

    def _join(self, other: Any, combine: Callable[[Tensor, Tensor], Tensor]) -> WeightChange:
        if not isinstance(other, WeightChange):
            return NotImplemented
        self._check_same_space(other)
        pairs = {name: (own, other.tensors[name].to(own.device)) for name, own in self.tensors.items()}
        return WeightChange({name: combine(own, added) for name, (own, added) in pairs.items()})

    def _check_same_space(self, other: WeightChange) -> None:
        check_is("the other change", other, WeightChange, "; pass weight_change(base, tuned)")
        _check_same_space("two weight changes", self.tensors, other.tensors)


def weight_change(base: nn.Module, tuned: nn.Module, *, ignore: Sequence[str] = ()) -> WeightChange:
    """tau = theta_tuned - theta_base: what fine-tuning changed of every parameter.

    Normalisation statistics and other buffers are no part of it: a network that it is added to keeps its own.

    Args:
        base: the network that fine-tuning started from; neither is changed.
        tuned: the same module with other parameters and statistics.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.

    Raises:
        ValueError: they are not one module with other parameters and statistics (the first differences are named),
            carry low-rank adapters, or hold NaN or infinity.

    Example:
        >>> base, tuned = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> _ = base.load_state_dict({"weight": torch.tensor([[1.0]]), "bias": torch.tensor([0.0])})
        >>> _ = tuned.load_state_dict({"weight": torch.tensor([[3.0]]), "bias": torch.tensor([0.5])})
        >>> change = weight_change(base, tuned)
        >>> with_change(base, -change, scale=0.5).weight.item()
        0.0

    Source: Ilharco et al. 2023.
    """
    for name, model in (("base", base), ("tuned", tuned)):
        check_is(name, model, nn.Module)
        refuse_adapters(name, model)
    start, end = as_points(("base", "tuned"), (base, tuned), ignore)
    _refuse_complex("base", start.params)
    return WeightChange({name: _widen(end.params[name].to(p.device)) - _widen(p) for name, p in start.params.items()})


@torch.inference_mode(False)  # a network made of inference tensors could not be trained
def with_change(model: nn.Module, change: WeightChange, scale: float = 1.0) -> nn.Module:
    """A copy of the model at theta + scale tau; its buffers stay as they are, and so does the model.

    The sum is taken in the type of the change and rounded once, so that a whole change of a base gives what it was
    fine-tuned to, to the rounding of that type.

    Args:
        model: the network that is edited: the change's base, or another of the same names and shapes.
        change: tau.
        scale: any finite number.

    Raises:
        ValueError: names or shapes of the change are not those of the parameters (all are listed), the scale is not
            finite, a weight overflows its type, or the network carries low-rank adapters.
    """
    check_is("change", change, WeightChange, "; pass weight_change(base, tuned)")
    check_change_scale(scale)
    refuse_adapters("model", model)
    theta = parameters_of(model)
    _refuse_complex("model", theta)
    _check_same_space("parameters of the model and of the change", theta, change.tensors)
    return with_parameters(
        model, {name: _add(name, p, change.tensors[name], float(scale)) for name, p in theta.items()}
    )


def load_weight_change(file: str | Path) -> WeightChange:
    """A change that `WeightChange.save` wrote, on the CPU; nothing in the file is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds something else.
    """
    file = Path(file)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise FileNotFoundError(f"{file} {what}; give a file that WeightChange.save wrote")
    tensors, note = read_with_note(file)
    if note.get("format") != WEIGHT_CHANGE:
        raise UnusableFileError(
            f"{file} holds no weight change but other tensors; give a file that WeightChange.save wrote"
        )
    return WeightChange({name: tensors[name] for name in note.get("names", tensors)})


def _check_same_space(what: str, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Raise unless the names and shapes are the same; types may differ."""
    check_same_keys(what, expected, got)
    differ = [
        f"{name} {list(tensor.shape)} against {list(got[name].shape)}"
        for name, tensor in expected.items()
        if tensor.shape != got[name].shape
    ]
    if differ:
        raise ValueError(f"{what} have different shapes: {', '.join(differ)}; take both of one architecture")


def _add(name: str, parameter: Tensor, change: Tensor, scale: float) -> Tensor:
    if scale == 0:
        return parameter
    change = change.to(parameter.device)
    moved = (parameter.to(change.dtype) + scale * change).to(parameter.dtype)
    if bool((parameter.isfinite() & ~moved.isfinite()).any()):
        kind = str(parameter.dtype).removeprefix("torch.")
        raise ValueError(
            f"{name} overflows {kind} at scale {scale:g}; take a smaller scale, or a model in a wider type"
        )
    return moved


def _widen(tensor: Tensor) -> Tensor:
    """Float32 of half precision, else float64 where the device has it."""
    return tensor.to(torch.float32 if tensor.dtype in HALF or tensor.device.type == "mps" else torch.float64)


def check_change_scale(scale: object) -> None:
    """Raise ValueError unless it is a finite number."""
    if not isinstance(scale, numbers.Real) or isinstance(scale, bool) or not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, what the changes are multiplied by, got {scale!r}")


def _refuse_complex(name: str, params: Params) -> None:
    if found := [key for key, tensor in params.items() if tensor.is_complex()]:
        raise ValueError(
            f"parameters of {name} are complex ({', '.join(found)}), and a change holds real numbers; keep them as "
            "real and imaginary parts, torch.view_as_real(parameter)"
        )


def refuse_adapters(name: str, model: nn.Module) -> None:
    """Raise ValueError where a network carries low-rank adapters, whose factors do not add up as weights do."""
    if has_adapters(unwrap_module(model, name)):
        raise ValueError(
            f"{name} carries low-rank adapters, and a sum of factors is no sum of updates; merge them first "
            "(model.merge_and_unload())"
        )
