"""What the table says of one architecture: does it export, what may be moved, and does its function stay.

`verify` of the package is one proof. The second is here and shares no code with it: every parameter and statistic gets
noise, so that no gain is one and no bias zero; a random element of all kinds moves the state; and the outputs of both
networks are compared, at two sizes of input. A third run is the control: each moved tensor is left where it was while
the others move, and the outputs must change, or the tensor was not seen by the comparison.
"""

from __future__ import annotations

import contextlib
import copy
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.symmetry._coverage import NOT_HIDDEN

SEEDS = (1, 2)
"""Of the random elements."""
BARS = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Largest relative change that is rounding, by the narrowest type that the forward pass computes in."""
SEEN = 1e-6
"""Smallest relative change by which a tensor that is left behind counts as seen, where the forward pass is in float64.

In float32 a hundred times as much.
"""
TRIED = 20
"""Moved tensors that are left behind, one at a time."""
STATISTICS = ("running_mean", "running_var")

Row = dict[str, Any]


@torch.no_grad()
def make_generic(model: nn.Module, inputs: Mapping[str, Tensor]) -> nn.Module:
    """Add seeded noise to every parameter and statistic, in place: none is zero or one, and no two are alike.

    Statistics are those of a batch first, so that numbers neither vanish nor grow through the layers.
    """
    model.eval()
    draw = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=draw).to(parameter.dtype)
        fan = parameter.numel() // max(len(parameter), 1) if parameter.dim() > 1 else 1
        parameter.add_(noise * (0.5 * fan**-0.5 if parameter.dim() > 1 else 0.2))
    adopt_statistics(model, inputs)
    for name, buffer in model.named_buffers():
        if name.endswith(STATISTICS) and buffer is not None:
            noise = torch.rand(buffer.shape, generator=draw).to(buffer.dtype)
            buffer.copy_(buffer * (0.5 + noise) if name.endswith("running_var") else buffer + 0.6 * noise - 0.3)
    return model


def adopt_statistics(model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Let every normalisation with running statistics take those of one batch."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.running_var is not None]
    for norm in norms:
        norm.train()
        norm.momentum, kept = 1.0, norm.momentum
        norm.register_forward_hook(lambda m, *_, kept=kept: setattr(m, "momentum", kept))
    if norms:
        with isolate_rng(0, "statistics"):
            call(model, {name: vary_rows(tensor) for name, tensor in inputs.items()})
    for norm in norms:
        norm.eval()
        norm._forward_hooks.clear()


class Widened(TorchFunctionMode):
    """A forward pass that asks for float32 gets float64, so that rounding hides nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            return args[0].double()
        return func(*map(_widen, args), **{name: _widen(value) for name, value in (kwargs or {}).items()})


def _widen(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def vary_rows(tensor: Tensor, times: int = 8) -> Tensor:
    """A batch several times, with noise of its own each time."""
    found = tensor.repeat(times, *[1] * (tensor.dim() - 1))
    return found + torch.randn(found.shape) if tensor.is_floating_point() else found


@contextlib.contextmanager
def widened() -> Iterator[None]:
    """Context manager: what is made in the default type, or asked for in float32, is float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Widened():
            yield
    finally:
        torch.set_default_dtype(before)


class NarrowestType(TorchDispatchMode):
    """Notes whether a forward pass rounds to float32 or less: an operation returns a narrower type than it got."""

    def __init__(self) -> None:
        super().__init__()
        self.dtype = torch.float64

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if torch.float64 in _float_types((args, kwargs)) and _float_types(found) - {torch.float64}:
            self.dtype = torch.float32
        return found


def _float_types(values: Any) -> set[torch.dtype]:
    return {t.dtype for t in tree_leaves(values) if isinstance(t, Tensor) and t.is_floating_point()}


class Compared:
    """Two states of one network, compared at one input in one number type."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self._model, self.dtype = copy.deepcopy(model).to(dtype), dtype
        self.narrowest = dtype

    @property
    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers, also those that a state_dict leaves out; a tied tensor once."""
        return {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}

    @torch.no_grad()
    def run(self, inputs: Mapping[str, Tensor], state: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The predictions of a new copy that holds this state."""
        model = copy.deepcopy(self._model)
        if state is not None:
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                tensor.copy_(state[name])
            model.train().eval()  # what was computed from weights when the mode changed is computed again
        given = tree_map(lambda t: t.to(self.dtype) if t.is_floating_point() else t, dict(inputs))
        watch = NarrowestType()
        wide = widened() if self.dtype == torch.float64 else contextlib.nullcontext()
        with isolate_rng(0, "forward"), wide, watch:
            found = call(model, given)
        if watch.dtype != torch.float64 or self.dtype != torch.float64:
            self.narrowest = torch.float32
        return [t.double() for t in tree_leaves(getattr(found, "logits", found)) if isinstance(t, Tensor)]


def compute_change(expected: list[Tensor], got: list[Tensor]) -> float:
    """max |change| / max |output|, the largest over the outputs; infinite where a number is none."""
    worst = 0.0
    for before, after in zip(expected, got, strict=True):
        if not bool(before.isfinite().all() and after.isfinite().all()):
            return float("inf")
        if before.numel():
            worst = max(worst, float((before - after).abs().max()) / (float(before.abs().max()) or 1.0))
    return worst


def choose_type(model: nn.Module, inputs: Mapping[str, Tensor]) -> torch.dtype:
    """float64, or float32 where the forward pass does not run in float64."""
    try:
        Compared(model, torch.float64).run(inputs)
    except Exception:
        return torch.float32
    return torch.float64


def measure_changes(model: nn.Module, examples: list[Mapping[str, Tensor]], symmetry: mc.Symmetry) -> Row:
    """The relative change of the outputs at each size, and which tensors the comparison does not see."""
    compared = Compared(model, choose_type(model, examples[0]))
    state = compared.state
    moved = [symmetry.apply(state, symmetry.random(seed)) for seed in SEEDS]
    expected = [compared.run(inputs) for inputs in examples]
    errors = [
        max(compute_change(before, compared.run(inputs, new)) for new in moved)
        for inputs, before in zip(examples, expected, strict=True)
    ]
    return {
        "type": str(compared.dtype).removeprefix("torch."),
        "computes_in": str(compared.narrowest).removeprefix("torch."),
        "errors": errors,
        "bar": BARS[compared.narrowest],
        "rounding": compute_change(expected[0], compared.run(examples[0], round_otherwise(state, compared.dtype))),
        "spread": min(float(t.std()) / (float(t.abs().max()) or 1.0) for t in expected[0] if t.numel() > 1),
        "unseen": sorted(find_unseen(compared, examples[0], expected[0], state, moved[-1])),
        "tried": min(TRIED, sum(not torch.equal(state[name], moved[-1][name]) for name in state)),
    }


def round_otherwise(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """A state whose numbers are off by up to four units of their last digit."""
    draw, width = torch.Generator().manual_seed(11), 4 * torch.finfo(dtype).eps
    return {
        name: t * (1 + width * (2 * torch.rand(t.shape, generator=draw, dtype=dtype) - 1)) if t.dtype == dtype else t
        for name, t in state.items()
    }


def find_unseen(
    compared: Compared,
    inputs: Mapping[str, Tensor],
    expected: list[Tensor],
    state: Mapping[str, Tensor],
    moved: Mapping[str, Tensor],
) -> set[str]:
    """Moved tensors without which the element changes nothing either: the comparison says nothing about them."""
    bar = SEEN if compared.narrowest == torch.float64 else 100 * SEEN
    names = [name for name in state if not torch.equal(state[name], moved[name])]
    tried = random.Random(0).sample(names, min(TRIED, len(names)))
    changes = {n: compute_change(expected, compared.run(inputs, {**moved, n: state[n]})) for n in tried}
    return {name for name, change in changes.items() if change < bar}


def say_why(symmetry: mc.Symmetry) -> str:
    """Why hidden axes stay, the commonest reasons first; nothing where none does."""
    counted = Counter(
        reason for reason in (*symmetry.frozen.values(), *symmetry.partly_frozen.values()) if reason not in NOT_HIDDEN
    )
    return "; ".join(f"{reason} ({number})" for reason, number in counted.most_common(3))


def take_first_line(error: BaseException) -> str:
    """The first line of an error's text, without the one-line advice that follows it."""
    return (str(error).splitlines() or [type(error).__name__])[0].partition(": write the symmetry yourself")[0]


def measure(build: Callable[[], nn.Module], examples: list[Mapping[str, Tensor]]) -> Row:
    """One row of the table."""
    with isolate_rng(0, "architecture"):
        model = build()
    make_generic(model, examples[0])
    row: Row = {"class": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())}
    for inputs in examples:
        Compared(model, torch.float32).run(inputs)  # a model that does not take its example is a mistake here
    started = time.perf_counter()
    try:
        symmetry = mc.symmetry_of(model, unpack(examples[0]))
    except ValueError as error:
        return {**row, "exports": False, "why": take_first_line(error), "seconds": time.perf_counter() - started}
    row |= {
        "exports": True,
        "coverage": symmetry.coverage,
        "by_kind": dict(symmetry.coverage_by_kind),
        "groups": len(symmetry.sizes),
        "actions": dict(Counter(action.kind for action in symmetry.actions)),
        "units": sum(symmetry.sizes.values()),
        "why": say_why(symmetry),
        "without": dict(Counter(f"no {k.rpartition(':')[2]}: {v}" for k, v in symmetry.without.items())),
        "unknown": list(symmetry.unknown),
        "seconds": time.perf_counter() - started,
    }
    started = time.perf_counter()
    try:
        symmetry.verify(model)
        row["verified"] = "yes"
    except ValueError as error:
        row["verified"] = f"no: {take_first_line(error)}"
    row["verify_seconds"] = time.perf_counter() - started
    return {**row, **measure_changes(model, examples, symmetry)}


def call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """What a model returns."""
    return model(inputs["x"]) if set(inputs) == {"x"} else model(**inputs)


def unpack(inputs: Mapping[str, Tensor]) -> Any:
    """A lone tensor for a model that takes one by its place."""
    return inputs["x"] if set(inputs) == {"x"} else dict(inputs)
