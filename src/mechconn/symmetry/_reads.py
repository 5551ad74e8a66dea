"""How a forward pass reads its parameters: a record by which two passes on inputs of different sizes are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

SPREADING = frozenset("embedding expand repeat".split())
"""Operations that read a parameter whole, or by indices, and return it as often as the input is long."""

CUTTING = frozenset("slice select split split_with_sizes unbind".split())

LONG = 200
"""Characters of a text beyond which only its beginning and a number for all of it are kept."""
FEW = 64
"""Numbers of a constant up to which they are all kept."""


@dataclass(frozen=True)
class Read:
    """One operation that reads a parameter, or cuts what depends on the input.

    Attributes:
        text: the operation, and where its other tensors come from.
        length: of the axis that is cut; None for a parameter.
    """

    text: str
    length: int | None = None


@dataclass(frozen=True)
class _Origin:
    """What a tensor was made from: the text of all operations that led to it, unless the input is among them."""

    text: str
    is_input: bool = False
    is_weight: bool = False


def alike(a: Reads, b: Reads) -> bool:
    """Whether two passes read the parameters alike: cuts may differ along axes whose lengths do."""
    return all(
        x is not None and y is not None and (x == y or (None not in (x.length, y.length) and x.length != y.length))
        for x, y in zip_longest(a.seen, b.seen)
    )


class Reads(TorchDispatchMode):
    """Context manager: record each operation on a parameter, or on values computed from parameters and constants alone.

    Attributes:
        seen: the operations, in their order.
        unread: names of parameters that none of them was given.
    """

    supports_higher_order_operators = True

    def __init__(self, module: nn.Module, inputs: Iterable[Any]) -> None:
        super().__init__()
        self.seen: list[Read] = []
        self.unread = {name for name, _ in module.named_parameters()}
        self._origins = WeakIdKeyDictionary()
        for name, buffer in module.named_buffers():
            self._origins[buffer] = _Origin(name)
        for name, parameter in module.named_parameters():
            self._origins[parameter] = _Origin(name, is_weight=True)
        for value in inputs:
            if isinstance(value, Tensor):
                self._origins[value] = _Origin("", is_input=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        origins = [self._of(t) for t in given]
        name = func._schema.name.removeprefix("aten::") if hasattr(func, "_schema") else str(func)
        self.unread -= {o.text for o in origins if o.is_weight}
        is_input, is_weight = any(o.is_input for o in origins), any(o.is_weight for o in origins)
        spread = is_weight and name in SPREADING
        if is_weight and (is_input or spread):
            self.seen.append(Read(repr((name, [o.text for o in origins if o.is_weight or not spread]))))
        elif is_input and name in CUTTING:
            self.seen.append(Read(repr((name, args[1:])), given[0].shape[_cut_axis(name, args)]))
        if is_input or spread:
            made = _Origin("", is_input=True)
        else:
            made = _Origin(self._text(name, args, kwargs), is_weight=is_weight)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._origins[tensor] = made
        return result

    def _text(self, name: str, args: Any, kwargs: Any) -> str:
        """An operation on parameters and constants alone, with the texts of what it is given."""
        given = tree_map(lambda v: self._of(v).text if isinstance(v, Tensor) else v, (args, kwargs))
        text = repr((name, given))
        return text if len(text) < LONG else f"{text[:LONG]} {hash(text)}"

    def _of(self, tensor: Tensor) -> _Origin:
        known: _Origin | None = self._origins.get(tensor)
        if known is None:
            few = tensor.numel() <= FEW and not tensor.is_meta
            known = _Origin(f"a constant {tensor.tolist()}" if few else f"a constant of shape {list(tensor.shape)}")
        return known


def _cut_axis(name: str, args: Sequence[Any]) -> int:
    """Which axis an operation cuts; the first one unless its arguments say another."""
    place = 2 if name.startswith("split") else 1
    return args[place] if len(args) > place else 0
