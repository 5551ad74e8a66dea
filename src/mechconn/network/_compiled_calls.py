"""Forward passes through torch.compile, each held against the plain one on the user's first batch before it counts."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from mechconn.core import isolate_rng
from mechconn.network._forward_call import extract_predictions

Call = Callable[[dict[str, Tensor], tuple[Any, ...], dict[str, Any]], Any]
COMPILERS = ("g++", "clang++", "c++")
NUMBERS = itertools.count()


def check_compiler(device: torch.device) -> None:
    """Raise ValueError where torch.compile cannot make kernels for this device."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise ValueError("compile=True needs the package triton on a GPU; install it, or leave compile out")
        return
    named = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ((named,) if named else COMPILERS)):
        looked = named or ", ".join(COMPILERS)
        raise ValueError(
            f"compile=True needs a C++ compiler, and none was found ({looked}); install g++, name a compiler in the "
            "environment variable CXX, or leave compile out"
        )


class CompiledCalls:
    """Calls of one module as a function of its tensors, compiled where `compile=True` asks for that.

    For training and for evaluation, with and without gradients, the first batch goes through both: the compiled call
    is used where outputs, gradients and buffers differ by at most sqrt(eps) of the number type in Euclidean norm, and
    the random numbers drawn are as many. Where they do not, or it cannot be compiled, the plain one is used, and the
    record says why. Calls while hooks that came later watch layers are plain.
    """

    def __init__(self, module: nn.Module, asked: bool, device: torch.device, computed_in: torch.dtype | None) -> None:
        if asked:
            check_compiler(device)
        self._asked = asked
        self._plain = _make_call(module)
        self._module = module
        self._type = computed_in
        self._hooks = _list_hooks(module) if asked else []
        self._found: dict[tuple[bool, ...], Call] = {}
        self._said: dict[str, None] = {}

    @property
    def asked(self) -> bool:
        """Whether calls are compiled where they may be."""
        return self._asked

    @property
    def _kind(self) -> str:
        return "training" if self._module.training else "evaluation"

    @property
    def settings(self) -> dict[str, str]:
        """Its part of a record: what became of compile=True; empty where nobody asked."""
        return {"compile": "; ".join(self._said) or "no batch was computed"} if self._asked else {}

    def report_to(self, other: CompiledCalls) -> None:
        """Let another's record say what becomes of these calls."""
        self._said = other._said

    def __call__(self, tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns with these tensors in the place of its own."""
        if not self._asked:
            return self._plain(tensors, args, kwargs)
        if _list_hooks(self._module) != self._hooks:  # torch.compile does not guard on hooks, and would call older ones
            self._said[f"{self._kind} plain where layers are watched"] = None
            return self._plain(tensors, args, kwargs)
        graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors.values())
        key = (graph, *(part.training for part in self._module.modules()))
        if key not in self._found:
            self._found[key] = self._choose(tensors, args, kwargs, graph)
        return self._found[key](tensors, args, kwargs)

    def _choose(self, tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], graph: bool) -> Call:
        made: Call = torch.compile(_make_call(self._module), options={"fallback_random": True})
        why = self._explain_difference(made, tensors, args, kwargs, graph)
        found = f"plain: {why}" if why else f"compiled, equal within {self._tolerance(tensors):.1e}"
        self._said[f"{self._kind} {found}"] = None
        return self._plain if why else made

    def _explain_difference(
        self, made: Call, tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], graph: bool
    ) -> str:
        """Why the compiled call does not stand for the plain one; empty where it does."""
        expected = _try_call(self._plain, tensors, args, kwargs, graph)
        try:
            got = _try_call(made, tensors, args, kwargs, graph)
        except Exception as error:
            return f"it does not compile ({type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')})"
        if not torch.equal(expected["generator"][0], got["generator"][0]):
            return "it draws other random numbers"
        for name, values in expected.items():
            if (gap := _measure(values, got[name])) > self._tolerance(tensors):
                return f"{name} differ by {gap:.1e}"
        return ""

    def _tolerance(self, tensors: Mapping[str, Tensor]) -> float:
        kinds = [t.dtype for t in tensors.values() if t.is_floating_point()] if self._type is None else [self._type]
        return max((torch.finfo(kind).eps for kind in kinds), default=torch.finfo(torch.float32).eps) ** 0.5


def _list_hooks(module: nn.Module) -> list[int]:
    """The identities of all hooks of its layers that a forward pass runs."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [id(hook) for part in module.modules() for kind in kinds for hook in vars(part)[kind].values()]


def _make_call(module: nn.Module) -> Call:
    """The module as a function of its tensors, as code of its own: torch.compile limits the variants of one code."""

    def call(tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # One key per (module, local name) and tie_weights=False: any other way of naming shared modules leaves
        # the substituted tensors behind in the module, without an error.
        return functional_call(module, tensors, args, kwargs, tie_weights=False)

    code = call.__code__.replace(co_name=f"call_{next(NUMBERS)}")
    return FunctionType(code, call.__globals__, code.co_name, None, call.__closure__)


def _try_call(
    call: Call, tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], graph: bool
) -> dict[str, list[Tensor]]:
    """Outputs, gradients, buffers and the generator's state after one call on copies of the tensors."""
    copies: dict[int, Tensor] = {}
    for tensor in tensors.values():
        if id(tensor) not in copies:
            copies[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
    own = {name: copies[id(tensor)] for name, tensor in tensors.items()}
    given, named = tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, (args, kwargs))
    wanted = [tensor for tensor in copies.values() if tensor.requires_grad] if graph else []
    with isolate_rng(0, "compile"):
        outputs = extract_predictions(call(own, given, named))
        state = torch.get_rng_state()
        weights = torch.linspace(-1.0, 1.0, outputs.numel(), device=outputs.device).cos().view(outputs.shape)
        total = (outputs.float() * weights).sum()
        found = torch.autograd.grad(total, wanted, allow_unused=True) if wanted else ()
    rest = [tensor.detach() for tensor in copies.values() if not tensor.requires_grad]
    return {
        "outputs": [outputs.detach()],
        "gradients": [g for g in found if g is not None],
        "buffers": [tensor for tensor in rest if tensor.is_floating_point()],
        "generator": [state],
    }


def _measure(expected: list[Tensor], got: list[Tensor]) -> float:
    """Euclidean norm of the difference over that of what is expected; infinite where NaN or the shapes say so."""
    if [t.shape for t in expected] != [t.shape for t in got]:
        return float("inf")
    pairs = list(zip(expected, got, strict=True))
    gap = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    size = sum(float(a.double().square().sum()) for a, _ in pairs)
    found = gap**0.5 / size**0.5 if size else float(gap > 0)
    return found if found == found else float("inf")
