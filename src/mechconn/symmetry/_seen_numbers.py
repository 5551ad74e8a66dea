"""Numbers that a forward pass took from a tensor: comparisons of them are noted, and what hides them is as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mechconn.symmetry._origins import Origin

SEEN_FILE = __file__


class Notes(Protocol):
    """What keeps the comparisons."""

    def compare(self, asked: str, compute: Callable[[], bool], origin: Origin, question: int) -> bool: ...
    def hide(self, what: str) -> None: ...


class _Number:
    """A number that was looked at: comparisons of it, and of what is computed from it, are looks as well."""

    looks: Notes
    origin: Origin
    question: int


COMPARISONS = ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__bool__")
BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
COMPUTED = (
    *(f"__{side}{name}__" for name in BINARY for side in ("", "r")),
    *("__neg__", "__pos__", "__abs__", "__invert__", "__round__", "__trunc__", "__floor__", "__ceil__"),
    *("conjugate", "bit_length", "bit_count"),
)
HIDDEN_BY = {
    **{"__int__": "int()", "__float__": "float()", "__complex__": "complex()", "__hash__": "a lookup of a number"},
    **{"__str__": "str()", "__repr__": "repr()", "__format__": "format()", "is_integer": "is_integer()"},
    **dict.fromkeys(("__divmod__", "__rdivmod__"), "divmod()"),
    **{"as_integer_ratio": "as_integer_ratio()", "to_bytes": "to_bytes()", "hex": "hex()"},
}
"""Methods of numbers of which nothing that follows is seen."""


def _derived(name: str, number: Any, others: Sequence[Any]) -> int:
    """A number for what is asked of, or computed from, a number that was looked at."""
    said = [x.question if isinstance(x, _Number) else repr(x) for x in others]
    return hash((name, number.question, *said))


def _compares(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
    def compare(self: Any, *other: Any) -> Any:
        found = own(self, *other)
        if found is NotImplemented:
            return found
        return self.looks.compare(name.strip("_"), lambda: found, self.origin, _derived(name, self, other))

    return compare


def _computes(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
    def compute(self: Any, *others: Any) -> Any:
        return make_seen(own(self, *others), self.looks, self.origin, _derived(name, self, others))

    return compute


def _hides(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
    def hide(self: Any, *others: Any) -> Any:
        self.looks.hide(HIDDEN_BY[name])
        return own(self, *others)

    return hide


def _make_type(base: type) -> Any:
    members: dict[str, Any] = {}
    for names, make in ((COMPARISONS, _compares), (COMPUTED, _computes), (HIDDEN_BY, _hides)):
        members |= {name: make(name, getattr(base, name)) for name in names if hasattr(base, name)}
    return type(f"Seen_{base.__name__}", (base, _Number), members)


TRACKED: dict[type, Any] = {int: _make_type(int), float: _make_type(float)}


def make_seen(answer: Any, looks: Notes, origin: Origin, question: int) -> Any:
    """An answer whose comparisons are answered by the same looks, where it depends on the input."""
    if origin is not Origin.INPUT or type(answer) not in TRACKED:
        return answer
    made = TRACKED[type(answer)](answer)
    made.looks, made.origin, made.question = looks, origin, question
    return made
