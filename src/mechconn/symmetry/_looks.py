"""Where a forward pass looks at the values of its input: what it saw on the example, and replayed in an export.

An export has no values: `if mask.any()`, `int(lengths.max())` and `x[mask]` stop it. So these looks are recorded in a
run on the example, in which they have answers, and an export gets the same answers. The graph that it makes holds for
every input that is looked at with the same answers, and checks them where it is run. What other answers lead to
is tried in `_other_answers`. Looks at values that depend on weights are left alone.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.fx.node import has_side_effect
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from mechconn.symmetry._origins import Origin, Origins
from mechconn.symmetry._seen_numbers import SEEN_FILE, make_seen

LookKey: TypeAlias = tuple[str, str, int, int]
"""What is asked, where (file:line, and the column), and how often it was asked there so far."""
Forced: TypeAlias = Mapping[Any, Any]
"""Answers to looks, by their keys, or by their questions."""

SCALAR = frozenset(
    (
        *(Tensor.item, Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__),
        *(Tensor.is_nonzero, torch.is_nonzero, Tensor.__contains__, Tensor.equal, torch.equal),
    )
)
"""Functions that return plain values."""
CONVERTED: dict[Any, type] = {Tensor.__int__: int, Tensor.__index__: int, Tensor.__float__: float}
"""What makes numbers of truth values."""
HIDING = {Tensor.__int__: "int()", Tensor.__float__: "float()"}
"""Functions after which Python's comparisons of a number are not seen."""
EXACT = frozenset((Tensor.__int__, Tensor.__index__, Tensor.__float__, Tensor.__bool__))
"""Those of which Python takes nothing but numbers of its own types."""
TRUTH = frozenset((Tensor.__bool__, Tensor.is_nonzero, torch.is_nonzero))
NONZERO = frozenset((Tensor.nonzero, torch.nonzero, Tensor.argwhere, torch.argwhere))
DISTINCT = {
    **dict.fromkeys((torch.unique, Tensor.unique), "unique"),
    **dict.fromkeys((torch.unique_consecutive, Tensor.unique_consecutive), "unique_consecutive"),
}
SIZED = frozenset(
    (
        *(torch.arange, torch.zeros, torch.ones, torch.empty, torch.full, torch.narrow, Tensor.narrow, Tensor.expand),
        *(Tensor.new_zeros, Tensor.new_ones, Tensor.new_full, Tensor.new_empty, Tensor.view, Tensor.reshape),
        *(Tensor.repeat, torch.reshape),
    )
)
"""Functions that take tensors of one number as sizes."""
OWN_FILES = str(Path(torch.__file__).parent)


class OtherAnswerError(ValueError):
    """A graph is run on values at which the model looks with another answer than the export's."""


@dataclass(frozen=True)
class Look:
    """One look at values.

    Attributes:
        key: what is asked and where.
        answer: the plain value that it got, or the shape of a tensor whose shape depends on values.
        origin: what the values depend on.
        question: a number for what is asked of which values, wherever it is asked; 0 in an export.
    """

    key: LookKey
    answer: Any
    origin: Origin
    question: int

    def __str__(self) -> str:
        asked, where, *_ = self.key
        return f"{asked} at {where} is {self.answer}"


torch.library.define("mechconn::expect", "(Tensor x, float[] values) -> ()")
has_side_effect(torch.ops.mechconn.expect.default)


@torch.library.register_fake("mechconn::expect")
def _expect_shapes(x: Tensor, values: Sequence[float]) -> None:
    return None


@torch.library.impl("mechconn::expect", "CompositeExplicitAutograd")
def _expect(x: Tensor, values: Sequence[float]) -> None:
    """Raise unless a tensor has these values."""
    found = x.detach().double().flatten().tolist()
    if found != list(values):
        raise OtherAnswerError(f"{values} was expected, {found} found")


@torch.library.custom_op("mechconn::look", mutates_args=())
def look(x: Tensor, what: str, shape: Sequence[int]) -> Tensor:
    """A tensor whose shape depends on values; an export's is the one that it had on the example."""
    found = SHAPED[what](x)
    if list(found.shape) != list(shape):
        raise OtherAnswerError(f"{what} of shape {list(shape)} was expected, {list(found.shape)} found")
    return found.clone()


@look.register_fake
def _look_shape(x: Tensor, what: str, shape: Sequence[int]) -> Tensor:
    return x.new_empty(list(shape), dtype=x.dtype if what in DISTINCT.values() else torch.int64)


def _repeat_places(times: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(times), device=times.device), times)


SHAPED: dict[str, Callable[[Tensor], Tensor]] = {
    "nonzero": torch.nonzero,
    "unique": torch.unique,
    "unique_consecutive": torch.unique_consecutive,
    "repeat_interleave": _repeat_places,
}
"""Tensors whose shapes depend on values."""


class Looks(TorchFunctionMode):
    """Context manager: answer the looks of a forward pass.

    In a run, `seen` is what was looked at, with its answers or with those that are forced. In an export, the looks of
    such a run are replayed, and `seen` is what was. `hidden` are the places that make of a value of the input a number
    of which the comparisons are not seen.
    """

    def __init__(
        self,
        origins: Origins | None = None,
        forced: Forced | None = None,
        replayed: Sequence[Look] | None = None,
        seen: list[Look] | None = None,
    ) -> None:
        super().__init__()
        self.seen: list[Look] = [] if seen is None else seen
        self.seen.clear()
        self.hidden: dict[str, None] = {}
        self._origins, self._forced = origins, dict(forced or {})
        self._replayed = None if replayed is None else {look.key: look for look in replayed}
        self._asked: Counter[tuple[str, str, int]] = Counter()
        self._reached = Origin.CONSTANT
        """What the answers so far depend on: numbers that they gave may be in any tensor from then on."""

    def restart(self) -> None:
        """Begin anew: the next look is the first."""
        self.seen.clear()
        self._asked.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.tolist:
            return self._list(args[0])
        if func in SCALAR:
            return self._read_scalar(func, args, kwargs)
        if func is Tensor.__setitem__ and _is_mask(args[1]) and not isinstance(args[2], Tensor):
            mask = args[1].view(*args[1].shape, *[1] * (args[0].dim() - args[1].dim()))
            return args[0].masked_fill_(mask, args[2])
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            return func(args[0], self._index(args[1]), *args[2:])
        if func in SIZED:
            first = 1 if isinstance(args[0], Tensor) and func is not torch.arange else 0
            return func(*args[:first], *tree_map(self._size, args[first:]), **kwargs)
        return self._select(func, args, kwargs)

    def _select(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What a function returns that may return a tensor whose shape depends on values."""
        if func in NONZERO or (func is torch.where and len(args) == 1):
            return self._find_places(func, args, kwargs)
        if func in DISTINCT and len(args) == 1 and not any(v for k, v in kwargs.items() if k != "sorted"):
            return self._read_shape(DISTINCT[func], args[0])
        if func in (torch.repeat_interleave, Tensor.repeat_interleave):
            return self._repeat(func, args, kwargs)
        if func in (torch.masked_select, Tensor.masked_select):
            x, mask = torch.broadcast_tensors(*args)
            return x[tuple(self._read_shape("nonzero", mask).unbind(1))]
        return func(*args, **kwargs)

    # ------------------------------------------------------------ kinds of looks

    def _read_scalar(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A plain value."""
        key = self._key("value")
        truth = len(args) == 1 and (args[0].dtype is torch.bool or func in TRUTH)
        if self._replayed is None:
            kind = "truth" if truth else func.__name__
            look = self._noted(key, lambda: func(*args, **kwargs), args, kind, bool if truth else None)
            if func in HIDING and not truth and look.origin is Origin.INPUT:
                self.hide(HIDING[func])
        else:
            known = self._replayed.get(key)
            if known is None or known.origin is Origin.WEIGHTS:
                return func(*args, **kwargs)
            look = known
            self.seen.append(look)
            if len(args) == 1:
                torch.ops.mechconn.expect(args[0], [float(look.answer)])
        answer = CONVERTED[func](look.answer) if func in CONVERTED else look.answer
        return answer if func in EXACT else make_seen(answer, self, look.origin, look.question)

    def hide(self, what: str) -> None:
        """Note that what follows of a value of the input is not seen."""
        self.hidden[f"{what} in {_find_place()[0]}"] = None

    def _list(self, x: Tensor) -> Any:
        """Plain values in lists, one look for each, as an export asks for them."""
        return [self._list(part) for part in x.unbind()] if x.dim() else self._read_scalar(Tensor.item, (x,), {})

    def _read_shape(self, what: str, x: Tensor) -> Tensor:
        """A tensor whose shape depends on values."""
        key = self._key(what)
        if self._replayed is None:
            found: list[Tensor] = []

            def measure() -> list[int]:
                found.append(SHAPED[what](x))
                return list(found[0].shape)

            shape = self._noted(key, measure, x, what).answer
            return _fitted(found[0] if found else SHAPED[what](x), shape)
        known = self._replayed.get(key)
        if known is None or known.origin is Origin.WEIGHTS:
            return SHAPED[what](x)
        self.seen.append(known)
        return look(x, what, known.answer)

    def _find_places(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Where a tensor is not zero, as one tensor or, for each axis, one."""
        x = args[0] if args else kwargs["input"]
        found = self._read_shape("nonzero", x)
        return found.unbind(1) if kwargs.get("as_tuple") or func is torch.where else found

    def _repeat(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Places of an axis, each as often as a tensor says."""
        if len(args) != 2 or not isinstance(args[1], Tensor) or args[1].dim() != 1 or set(kwargs) - {"dim"}:
            return func(*args, **kwargs)
        x, dim = (args[0], kwargs["dim"]) if kwargs.get("dim") is not None else (args[0].flatten(), 0)
        return x.index_select(dim, self._read_shape("repeat_interleave", args[1]))

    def _index(self, given: Any) -> Any:
        """What indexes a tensor: a mask as the places where it is true, numbers that tensors hold as numbers."""
        parts: list[Any] = []
        for part in given if isinstance(given, tuple) else (given,):
            if _is_mask(part):
                places = self._read_shape("nonzero", part)
                parts += places.unbind(1)
            elif isinstance(part, slice):
                parts.append(slice(*(self._size(end) for end in (part.start, part.stop, part.step))))
            else:
                parts.append(part)
        return tuple(parts) if isinstance(given, tuple) or len(parts) != 1 else parts[0]

    def _size(self, value: Any) -> Any:
        """A number that a tensor holds, as a number; anything else as it is."""
        if isinstance(value, Tensor) and not value.dim() and not value.is_floating_point():
            return self._read_scalar(Tensor.__index__, (value,), {})
        return value

    def compare(self, asked: str, compute: Callable[[], bool], origin: Origin, question: int) -> bool:
        """A comparison of a number that was looked at: one more answer."""
        key = self._key(asked)
        if self._replayed is None:
            answer = bool(self._find_forced(key, question, compute))
            self.seen.append(Look(key, answer, origin, question))
            return answer
        known = self._replayed.get(key)
        if known is None:
            return compute()
        self.seen.append(known)
        return known.answer

    # ------------------------------------------------------------ records

    def _key(self, asked: str) -> LookKey:
        where, column = _find_place()
        self._asked[asked, where, column] += 1
        return asked, where, column, self._asked[asked, where, column]

    def _find_forced(self, key: LookKey, question: int, compute: Callable[[], Any]) -> Any:
        """The answer that is forced on a look, else what it is."""
        return self._forced.get(key, self._forced.get(question, compute()))

    def _noted(
        self, key: LookKey, compute: Callable[[], Any], values: Any, kind: str, made: type | None = None
    ) -> Look:
        """A look in a run, with the answer that is forced, else what it is, as a value of the type that is `made`."""
        assert self._origins is not None
        origin = self._reached = max(self._reached, self._origins.find(values))
        question = hash((kind, self._origins.describe(values)))
        answer = compute() if origin is Origin.WEIGHTS else self._find_forced(key, question, compute)
        look = Look(key, answer if made is None else made(answer), origin, question)
        self.seen.append(look)
        return look


def _is_mask(part: Any) -> bool:
    """Whether an index is a tensor that is true where places are meant."""
    return isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) and part.dim() > 0


def _find_place() -> tuple[str, int]:
    """File and line of the code that looks, outside of PyTorch and of this package, and its column.

    The number of an instruction would not do: Python rewrites instructions as it runs them.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_filename in (__file__, SEEN_FILE) or frame.f_code.co_filename.startswith(OWN_FILES)
    ):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}", _find_column(frame)


def _find_column(frame: FrameType) -> int:
    """A number for the first and last column of the expression that a frame evaluates; 0 where they are not known."""
    _, _, first, last = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None, None, None, None))
    return 0 if first is None or last is None else 1 + first + 1000 * last


def _fitted(found: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor with as many rows as it is said to have: the last ones left out, or the last one repeated."""
    count = shape[0]
    if count <= len(found):
        return found[:count]
    last = found[-1:] if len(found) else found.new_zeros((1, *found.shape[1:]))
    return torch.cat([found, *[last] * (count - len(found))])
