"""Forward passes through torch.compile, each held against the plain one on the user's first batch before it counts."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules import module as every_module
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils._pytree import tree_leaves, tree_map

from mechconn.core import Buffers, isolate_rng
from mechconn.network._copies import copy_module
from mechconn.network._forward_call import extract_predictions
from mechconn.network._module_snapshot import ModuleSnapshot
from mechconn.network._precision import make_small_maps_contiguous

Call = Callable[[dict[str, Tensor], tuple[Any, ...], dict[str, Any]], Any]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
COMPILERS = ("g++", "clang++", "c++")
NUMBERS = itertools.count()


def check_compiler(device: torch.device) -> None:
    """Raise ValueError where torch.compile cannot make kernels for this device."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise ValueError("compile=True needs the package triton on a GPU; install it, or leave compile out")
        return
    named = os.environ.get("CXX")
    if not any(shutil.which(name) for name in (shlex.split(named)[:1] if named else COMPILERS)):
        looked = named or ", ".join(COMPILERS)
        raise ValueError(
            f"compile=True needs a C++ compiler, and none was found ({looked}); install g++, name a compiler in the "
            "environment variable CXX, or leave compile out"
        )


class CompiledCalls:
    """Calls of one module as a function of its tensors, compiled where `compile=True` asks for that.

    For training and for evaluation, with and without gradients, the first batch of each shape goes through both: the
    compiled call is used where a graph was captured, where outputs, gradients and buffers differ by at most sqrt(eps)
    of the number type in Euclidean norm, and the random numbers drawn are as many. Where they do not, where it cannot
    be compiled, also later, and where layers keep values from call to call, the plain one is used, and the record says
    why. Calls while hooks that came later watch layers are plain.
    """

    def __init__(
        self,
        module: nn.Module,
        snapshot: ModuleSnapshot,
        asked: bool,
        device: torch.device,
        computed_in: torch.dtype | None,
    ) -> None:
        if asked:
            check_compiler(device)
        self._asked = asked
        self._plain = _make_call(module)
        self._module, self._snapshot, self._device = module, snapshot, device
        self._type = computed_in
        self._hooks = _list_hooks(module) if asked else []
        self._slots = {name for name, _ in module.named_buffers(remove_duplicate=False)} if asked else set()
        self._made: dict[tuple[bool, ...], Call | None] = {}
        self._compared: set[tuple[Any, ...]] = set()
        self._stands: dict[tuple[bool, ...], bool] = {}
        self._said: dict[str, None] = {}

    @property
    def asked(self) -> bool:
        """Whether calls are compiled where they may be."""
        return self._asked

    @property
    def settings(self) -> dict[str, str]:
        """Its part of a record: what became of compile=True; empty where nobody asked."""
        return {"compile": "; ".join(self._said) or "no batch was computed"} if self._asked else {}

    def report_to(self, other: CompiledCalls) -> None:
        """Let another's record say what becomes of these calls."""
        self._said = other._said

    def stands_for(
        self, model: nn.Module, run: Callable[[nn.Module], Tensor], own: Callable[[Buffers], Tensor]
    ) -> bool:
        """Whether calls of this module do all that calls of `model` do, tried once for its modes on copies.

        Args:
            model: what is trained.
            run: outputs of a copy of it.
            own: outputs of this module at the model's weights and these buffers, which it writes into.
        """
        if _count_hooks(model) != _count_hooks(self._module) or _is_every_module_watched():
            self._say(model, "plain where layers are watched")
            return False
        modes = tuple(part.training for part in model.modules())
        if modes not in self._stands:
            why = self._explain_misfit(model, run, own)
            self._stands[modes] = not why
            if why:
                self._say(model, f"plain: {why}")
        return self._stands[modes]

    def _explain_misfit(
        self, model: nn.Module, run: Callable[[nn.Module], Tensor], own: Callable[[Buffers], Tensor]
    ) -> str:
        memo: dict[int, Any] = {}
        copied, held = copy_module(model, memo), {name: b.detach().clone() for name, b in model.named_buffers()}
        snapshot = ModuleSnapshot(copied, memo)
        with isolate_rng(0, "compile"):
            expected = run(copied).detach()
        if snapshot.differs():
            return "its layers keep values from call to call"
        try:
            with isolate_rng(0, "compile"):
                got = own(held).detach()
        except Exception as error:  # the model itself runs
            return f"it does not run as a function of its tensors ({type(error).__name__})"
        buffers = dict(copied.named_buffers())
        pairs = {"outputs": (expected, got), **{name: (buffers[name], held[name]) for name in held}}
        for name, (a, b) in pairs.items():
            if (gap := _measure([a], [b])) > self._tolerance(held | {"": expected}):
                return f"{name} differ by {gap:.1e} from the model's own"
        return ""

    def __call__(self, tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns with these tensors in the place of its own."""
        if not self._asked:
            return self._plain(tensors, args, kwargs)
        # torch.compile does not guard on hooks, and would call older ones.
        if _list_hooks(self._module) != self._hooks or _is_every_module_watched():
            self._say(self._module, "plain where layers are watched")
            return self._plain(tensors, args, kwargs)
        graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors.values())
        key = (graph, *(part.training for part in self._module.modules()))
        given = (key, *(_describe(leaf) for leaf in tree_leaves((args, kwargs))))
        if given not in self._compared:
            self._compare(key, tensors, args, kwargs)
            self._compared.add(given)
        if (made := self._made[key]) is None:
            return self._plain(tensors, args, kwargs)
        return self._run(key, made, tensors, args, kwargs)

    def _say(self, module: nn.Module, what: str) -> None:
        self._said[f"{'training' if module.training else 'evaluation'} {what}"] = None

    def _compare(
        self, key: tuple[bool, ...], tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Keep the compiled call for these modes where it stands for the plain one on this batch too."""
        known = key in self._made
        made = self._made[key] if known else torch.compile(_make_call(self._module), options={"fallback_random": True})
        if made is None:
            return
        why = self._explain_difference(made, tensors, args, kwargs, key[0], captured=known)
        self._made[key] = None if why else made
        later = "from a later batch on, " if known else ""
        self._say(
            self._module, f"plain: {later}{why}" if why else f"compiled, equal within {self._tolerance(tensors):.1e}"
        )

    def _run(
        self,
        key: tuple[bool, ...],
        made: Call,
        tensors: dict[str, Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """The compiled call; where it fails, as in compiling anew, the plain one from what was there before."""
        held = [(tensors[name], tensors[name].detach().clone()) for name in self._slots if name in tensors]
        states = _read_generators(self._device)
        try:
            return made(tensors, args, kwargs)
        except Exception as error:
            failed = type(error).__name__
        with torch.no_grad():
            for tensor, value in held:
                tensor.copy_(value)
        _set_generators(self._device, states)
        self._made[key] = None
        found = self._plain(tensors, args, kwargs)  # what is wrong beside compiling is raised here
        self._say(self._module, f"plain: from a later batch on, it does not compile ({failed})")
        return found

    def _explain_difference(
        self,
        made: Call,
        tensors: dict[str, Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        graph: bool,
        captured: bool,
    ) -> str:
        """Why the compiled call does not stand for the plain one; empty where it does."""
        changed = self._snapshot.differs()
        expected = _try_call(self._plain, tensors, args, kwargs, graph, self._device)
        if changed or self._snapshot.differs():
            self._snapshot.restore()
            return "its layers keep values from call to call"
        graphs = _count_graphs()
        try:
            got = _try_call(made, tensors, args, kwargs, graph, self._device)
        except Exception as error:
            return f"it does not compile ({type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')})"
        if not captured and _count_graphs() == graphs:
            return "no graph was captured"
        if not all(map(torch.equal, expected["generator"], got["generator"])):
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
    return [id(hook) for part in module.modules() for kind in HOOKS for hook in vars(part)[kind].values()]


def _is_every_module_watched() -> bool:
    """Whether there are hooks of all modules, or a mode that sees operations: under one nothing is compiled."""
    return any(getattr(every_module, f"_global{kind}") for kind in HOOKS) or _get_current_dispatch_mode() is not None


def _count_hooks(module: nn.Module) -> list[int]:
    """How many hooks each layer has, but for those of this library that a precision brings."""
    own = [vars(part)[kind].values() for part in module.modules() for kind in HOOKS]
    return [sum(hook is not make_small_maps_contiguous for hook in hooks) for hooks in own]


def _describe(leaf: Any) -> Any:
    """What a compiled call may be specialised to: shape and type of a tensor, or a plain value."""
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.dtype
    return leaf if isinstance(leaf, int | float | str | None) else type(leaf)


def _count_graphs() -> int:
    from torch._dynamo.utils import counters  # seconds to import, and only who compiles needs it

    return counters["stats"]["unique_graphs"]


def _read_generators(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_generators(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def _make_call(module: nn.Module) -> Call:
    """The module as a function of its tensors, as code of its own: torch.compile limits the variants of one code."""

    def call(tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # One key per (module, local name) and tie_weights=False: any other way of naming shared modules leaves
        # the substituted tensors behind in the module, without an error.
        return functional_call(module, tensors, args, kwargs, tie_weights=False)

    code = call.__code__.replace(co_name=f"call_{next(NUMBERS)}")
    return FunctionType(code, call.__globals__, code.co_name, None, call.__closure__)


def _try_call(
    call: Call,
    tensors: dict[str, Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    graph: bool,
    device: torch.device,
) -> dict[str, list[Tensor]]:
    """Outputs, gradients, buffers and the generators' states after one call on copies of the tensors."""
    copies: dict[int, Tensor] = {}
    for tensor in tensors.values():
        if id(tensor) not in copies:
            copies[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
    own = {name: copies[id(tensor)] for name, tensor in tensors.items()}
    given, named = tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, (args, kwargs))
    wanted = [tensor for tensor in copies.values() if tensor.requires_grad] if graph else []
    with isolate_rng(0, "compile"):
        outputs = extract_predictions(call(own, given, named))
        states = _read_generators(device)
        weights = torch.linspace(-1.0, 1.0, outputs.numel(), device=outputs.device).cos().view(outputs.shape)
        total = (outputs.float() * weights).sum()
        found = torch.autograd.grad(total, wanted, allow_unused=True) if wanted and total.requires_grad else ()
    rest = [tensor.detach() for tensor in copies.values() if not tensor.requires_grad]
    return {
        "outputs": [outputs.detach()],
        "gradients": [g for g in found if g is not None],
        "buffers": [tensor for tensor in rest if tensor.is_floating_point()],
        "generator": states,
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
