"""Running a network in float64 or float32 with some of its weights moved, without dropout, on disturbed numbers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from mechconn.core import Inputs, isolate_rng, make_generator
from mechconn.network import drop_computed_values, make_call_arguments, unwrap_module
from mechconn.symmetry._disturbance import Disturbance
from mechconn.symmetry._lazy_weights import Memory, make_lazy
from mechconn.symmetry._looks import LookKey, Looks
from mechconn.symmetry._module_copies import clone_tensors, copy_with_tensors
from mechconn.symmetry._no_dropout import NoDropout, set_mode_without_dropout
from mechconn.symmetry._origins import Origins
from mechconn.symmetry._recorded_runs import select_predictions, take_first_line

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Types that a forward pass may compute in."""
LAST_DIGITS = 4
"""By how many times the distance of 1 to the next larger number a parameter is off where rounding is measured."""
DRAWS = 4
"""How many times it is measured."""

Move: TypeAlias = Callable[[str, Tensor], Tensor]
"""A tensor's name and its values -> the moved ones."""


aten: Any = torch.ops.aten

CHOOSING = (aten.topk, aten.sort, aten.argsort, aten.argmax, aten.argmin)
"""Operations that choose places of an axis."""


class UnrunnableError(ValueError):
    """The network does not run in the type that it is to be run in."""


class MoveRows(Protocol):
    """How some rows of a tensor are moved."""

    def find(self, which: slice | Tensor) -> slice | Tensor:
        """Which old rows go to these places."""
        ...

    def move(self, rows: Tensor, which: slice | Tensor) -> Tensor:
        """The old rows that go to these places, moved, in float64."""
        ...


ByRows: TypeAlias = Callable[[str], MoveRows | None]
"""A tensor's name -> how some of its rows are moved; None where only all can be."""


class Probe:
    """A model in float64, or in another type, disturbed, that can be run with some tensors moved; see `Disturbance`.

    Its parameters are no copies: their values are made when an operation reads them.

    Attributes:
        dtype: the type that it is run in.
        where: the inputs' shapes, in words, where they are not those of the example.
        chooses: whether some operation of the last run of `outputs` chose places of an axis.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Inputs,
        seed: int,
        *,
        disturbed: bool = True,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._seed, self._model, self.where, self.dtype = seed, type(model).__name__, "", dtype
        self.chooses = False
        parameters, buffers = (dict(part) for part in _list_named(unwrap_module(model)))
        longest = max((t.shape[-1] for t in (*parameters.values(), *buffers.values()) if t.dim()), default=0)
        self._disturbance = Disturbance(seed, longest, float(disturbed))
        self._weights = _Weights(self._disturbance, sum(t.numel() for t in parameters.values()), dtype)
        names = {id(t): name for name, t in parameters.items() if t.is_floating_point()}
        self._module = copy_with_tensors(
            model, lambda t: self._weights.make_lazy(names[id(t)], t) if id(t) in names else _cast(t, dtype)
        )
        drop_computed_values(self._module)
        self._weights.forget()
        self._buffers = {id(buffer): name for name, buffer in self._module.named_buffers()}
        for name, buffer in self._module.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(self._disturbance.disturb(name, buffer))
        self._arguments = self._disturbed(example)
        self._forced: Mapping[LookKey, Any] = {}

    def answering(self, forced: Mapping[LookKey, Any]) -> Probe:
        """The same model, whose looks at values get these answers, which errors name."""
        probe = copy.copy(self)
        probe._forced = forced
        said = ", ".join(f"{answer} in {where}" for (_, where, *_), answer in forced.items())
        probe.where = f", where it sees {said},"
        return probe

    def on(self, example: Inputs) -> Probe:
        """The same model, to be run on another example, which errors name."""
        probe = copy.copy(self)
        probe._arguments = self._disturbed(example)
        shapes = [str(list(t.shape)) for t in tree_leaves(example) if isinstance(t, Tensor)]
        probe.where = f", at inputs of shape {', '.join(shapes)},"
        return probe

    def _disturbed(self, example: Inputs) -> Any:
        values, spec = tree_flatten(make_call_arguments(example))
        inputs = [i for i, v in enumerate(values) if isinstance(v, Tensor)]
        for number, i in enumerate(inputs):
            if values[i].is_floating_point():
                values[i] = self._disturbance.disturb(f"input {number}", values[i]).to(self.dtype)
        return tree_unflatten(values, spec)

    def _uniform(self, tensor: Tensor, *names: str | int) -> Tensor:
        """Uniform draws in [0, 1) of a tensor's shape."""
        draw = torch.rand(tensor.shape, generator=make_generator(self._seed, *names), dtype=torch.float64)
        return draw.to(tensor.device)

    def rounded(self, training: bool, dtype: torch.dtype) -> Iterator[list[Tensor]]:
        """The outputs with every parameter off by a few units of the last digit that a type has, several times."""
        names = self._weights.names
        width = LAST_DIGITS * torch.finfo(dtype).eps
        for number in range(DRAWS):
            yield self.moved_outputs(
                training,
                names,
                lambda name, t, number=number: t * (1 + width * (2 * self._uniform(t, "rounding", number, name) - 1)),
            )

    def outputs(
        self, training: bool, touched: Sequence[str] = (), moved: Move | None = None
    ) -> tuple[list[Tensor], torch.dtype]:
        """The outputs with the touched tensors moved, and the narrowest type that the forward pass computes in."""
        types = _Types(self.dtype)
        found = self._run(training, touched, moved, None, types)
        self.chooses = types.chooses
        return found, types.narrowest

    def moved_outputs(
        self, training: bool, touched: Sequence[str], moved: Move, by_rows: ByRows | None = None
    ) -> list[Tensor]:
        """The outputs with the touched tensors moved; some rows at a time where that is possible."""
        return self._run(training, touched, moved, by_rows, nullcontext())

    @torch.no_grad()
    def _run(
        self,
        training: bool,
        touched: Sequence[str],
        moved: Move | None,
        by_rows: ByRows | None,
        mode: AbstractContextManager[Any],
    ) -> list[Tensor]:
        with self._weights.moving(touched, moved, by_rows):
            try:
                found = self._called(training, mode)
            except Exception as error:
                name = "training" if training else "evaluation"
                raise UnrunnableError(
                    f"{self._model} could not be run in {name_type(self.dtype)} in {name} mode "
                    f"({take_first_line(error)}); pass an example that it accepts, of two rows or more, and let its "
                    "forward pass compute in the type of its weights"
                ) from error
        leaves = _list_outputs(found)
        if not leaves:
            raise ValueError(
                f"{self._model} returns no tensor but {type(found).__name__}, so nothing can be proved; wrap it to "
                "return its predictions"
            )
        return leaves

    def _called(self, training: bool, mode: AbstractContextManager[Any]) -> Any:
        """What a copy returns, of which nothing reaches the next run.

        Where it does not run on weights that are made when they are read, it gets them all, now and from now on.
        """
        for whole in (False, True)[self._weights.whole :]:
            module = copy_with_tensors(self._module, functools.partial(self._own, whole))
            set_mode_without_dropout(module, training)
            args, kwargs = clone_tensors(self._arguments)
            try:
                with isolate_rng(self._seed, "verify"), NoDropout(), mode, self._answered(module, (args, kwargs)):
                    found = select_predictions(module(*args, **kwargs))
            except Exception:
                if whole:
                    raise
            else:
                self._weights.whole = whole
                return found
        raise AssertionError

    @contextmanager
    def _answered(self, module: nn.Module, arguments: Any) -> Iterator[None]:
        """Context manager: force answers on looks at values, where some are to be."""
        if not self._forced:
            yield
            return
        origins = Origins(module, tree_leaves(arguments))
        with origins, Looks(origins, self._forced):
            yield

    def _own(self, whole: bool, tensor: Tensor) -> Tensor:
        """A tensor for one run: a moved copy of a buffer, of a parameter where all of it is to be made."""
        if isinstance(tensor, nn.Parameter):
            return tensor.clone() if whole else tensor
        name = self._buffers.get(id(tensor))
        return tensor if name is None else self._weights.move(name, tensor.clone())


class _Weights:
    """The parameters of a probe, whose values are made when they are read, moved as they are to be at the time.

    Attributes:
        names: of the parameters.
        whole: whether the model runs on whole weights alone.
    """

    def __init__(self, disturbance: Disturbance, numbers: int, dtype: torch.dtype) -> None:
        self._disturbance, self._memory, self._dtype = disturbance, Memory(numbers), dtype
        self._touched: frozenset[str] = frozenset()
        self._moved: Move | None = None
        self._by_rows: ByRows | None = None
        self.names: list[str] = []
        self.whole = False

    def make_lazy(self, name: str, tensor: Tensor) -> Tensor:
        """A parameter in the type of the run, without values."""
        self.names.append(name)
        values = _Disturbed(name, tensor.detach(), self._disturbance, self, self._dtype)
        return make_lazy(values, self._memory, self._dtype)

    @contextmanager
    def moving(self, touched: Sequence[str], moved: Move | None, by_rows: ByRows | None) -> Iterator[None]:
        """Context manager: move the touched ones."""
        self._touched, self._moved, self._by_rows = frozenset(touched), moved, by_rows
        self._memory.forget()
        try:
            yield
        finally:
            self._touched, self._moved, self._by_rows = frozenset(), None, None
            self._memory.forget()

    def forget(self) -> None:
        """Drop all values."""
        self._memory.forget()

    def move(self, name: str, values: Tensor) -> Tensor:
        """The values as they are to be now."""
        return self._moved(name, values) if self._moved is not None and name in self._touched else values

    def row_moves(self, name: str) -> MoveRows | None:
        """How rows are to be moved now; None where only all can be."""
        if name not in self._touched:
            return _UNMOVED
        return None if self._by_rows is None else self._by_rows(name)


class _Unmoved:
    """Rows stay where they are."""

    def find(self, which: slice | Tensor) -> slice | Tensor:
        return which

    def move(self, rows: Tensor, which: slice | Tensor) -> Tensor:
        return rows.double()


_UNMOVED = _Unmoved()


@dataclass(frozen=True)
class _Disturbed:
    """A parameter's values."""

    name: str
    like: Tensor
    disturbance: Disturbance
    owner: _Weights
    dtype: torch.dtype

    def make(self) -> Tensor:
        """All, disturbed and moved."""
        values = self.rows(slice(None)) if self.like.dim() else None
        if values is None:
            values = self.owner.move(self.name, self.disturbance.disturb(self.name, self.like))
        return values.to(self.dtype)

    def rows(self, which: slice | Tensor) -> Tensor | None:
        """Those at some places of the first axis."""
        moves = self.owner.row_moves(self.name)
        if moves is None:
            return None
        draws = self.disturbance.draws(self.name, self.like.shape, self.like.device)
        where = moves.find(which)
        if isinstance(where, slice):
            values = self.disturbance.apply(self.like[where], draws[where])
        else:
            where = where.to(self.like.device)
            values = self.disturbance.apply(self.like.index_select(0, where), draws.index_select(0, where))
        return moves.move(values, which).to(self.dtype)


def _list_named(model: nn.Module) -> tuple[Iterator[tuple[str, Tensor]], Iterator[tuple[str, Tensor]]]:
    return model.named_parameters(), model.named_buffers()


def _list_outputs(found: Any) -> list[Tensor]:
    """Every tensor that a model returns, real and in float64."""
    leaves = [t for t in tree_leaves(found) if isinstance(t, Tensor)]
    return [(torch.view_as_real(t) if t.is_complex() else t).double() for t in leaves]


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of a tensor, in a type where it is real."""
    return tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)


def name_type(dtype: torch.dtype) -> str:
    """The name of a type, as "float32"."""
    return str(dtype).removeprefix("torch.")


class _Types(TorchDispatchMode):
    """Notes the narrowest floating-point type that any operation brings a wider one to.

    What begins narrow, as a constant of the forward pass, does not depend on the weights and is exact for this purpose.
    """

    supports_higher_order_operators = True

    def __init__(self, widest: torch.dtype) -> None:
        super().__init__()
        self.narrowest = widest
        self.chooses = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.chooses |= getattr(func, "overloadpacket", None) in CHOOSING
        given = _rounding((args, kwargs))
        for dtype, eps in _rounding(result).items():
            if eps > min(given.values(), default=eps) and eps > torch.finfo(self.narrowest).eps:
                self.narrowest = dtype
        return result


def _rounding(values: Any) -> dict[torch.dtype, float]:
    """The floating-point types of tensors -> the distance of 1 to the next larger number."""
    types = {t.dtype for t in tree_leaves(values) if isinstance(t, Tensor)}
    return {dtype: torch.finfo(dtype).eps for dtype in types if dtype in TYPES}
