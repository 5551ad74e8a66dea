"""A pickle as plain values: what it would import or call is written down by name, and neither imported nor called."""

from __future__ import annotations

import builtins
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

MARK = object()
RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}
"""Modules of Python 2, whose names protocol 2 keeps."""
MAPPINGS = ("collections.OrderedDict", "builtins.dict", "collections.defaultdict", "collections.Counter")
HARMLESS = ("getattr", "iter", "long", "unicode", "xrange")
"""What pickles of plain objects call of `builtins`, also of Python 2, beside its classes."""
CALLING = ("filter", "map")
"""The classes of `builtins` that call what they are given."""
ACTING = frozenset(
    {"code", "codeop", "ctypes", "importlib", "marshal", "nt", "os", "pickle", "posix", "pty", "runpy", "shutil"}
    | {"socket", "subprocess", "sys", "webbrowser"}
)
"""Modules that no state of a training calls anything of."""
PLAIN = (str, bytes, int, float, complex, type(None))
LONGEST = 64
"""How many values the key of a dictionary, the shape of a tensor, or what a function of ours is given may hold."""


class UnsafePickleError(ValueError):
    """A pickle that would act on the machine if it were unpickled: it calls a function that runs code or commands."""


class DamagedPickleError(ValueError):
    """Bytes that are no whole pickle."""


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names."""

    dotted: str


@dataclass(eq=False)
class Foreign:
    """An object of a class that is not known here: the name of its class, and what it was to be made of."""

    name: str
    arguments: tuple[Any, ...] = field(default=(), repr=False)
    state: Any = field(default=None, repr=False)
    entries: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def is_module(self) -> bool:
        """Whether it is a whole network."""
        return isinstance(self.state, Mapping) and {"_parameters", "_modules"} <= self.state.keys()


class OrderedValues(dict[Any, Any]):
    """An OrderedDict, with the versions that `nn.Module.state_dict` hangs on it."""

    versions: Mapping[str, Any] | None = None


class ByteStream(Protocol):
    """What bytes are read from."""

    def read(self, n: int | None = ..., /) -> bytes:
        """So many bytes, or as many as there are."""
        ...

    def readline(self) -> bytes:
        """The rest of a line."""
        ...


Rebuild = Mapping[str, Callable[..., Any]]
"""Dotted name -> the function of ours that stands for it."""


def read_pickle(
    source: bytes | ByteStream,
    rebuild: Rebuild | None = None,
    find_stored: Callable[[Any], Any] | None = None,
) -> Any:
    """The values of one pickle, of any protocol; a stream stands behind its end afterwards.

    Args:
        source: bytes, or a stream of them.
        rebuild: what to call in the place of functions that the pickle names; it is given the pickle's arguments.
        find_stored: what stands for a persistent id.

    Raises:
        UnsafePickleError: unpickling would run code or commands.
        DamagedPickleError: this is no whole pickle.
    """
    try:
        return _Reader(rebuild or {}, find_stored).run(source)
    except UnsafePickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedPickleError(str(error) or type(error).__name__) from error


class _Reader:
    """The machine that a pickle programs, without the power to import or to call.

    A pickle may refer to one value many times over, so that a few bytes stand for more than any memory holds. Values
    are therefore never compared, hashed, printed or copied but where they are known to be short.
    """

    def __init__(self, rebuild: Rebuild, find_stored: Callable[[Any], Any] | None) -> None:
        self._rebuild, self._find_stored = rebuild, find_stored
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._steps = self._copied = 0

    def run(self, source: bytes | ByteStream) -> Any:
        for opcode, argument, _ in pickletools.genops(source):  # pyright: ignore[reportArgumentType]
            self._steps += 1
            if opcode.name == "STOP":
                return self._stack.pop()
            action = _ACTIONS.get(opcode.name)
            if action is not None:
                action(self, argument)
            elif opcode.stack_after and not opcode.stack_before and opcode.arg is not None:
                self._stack.append(argument)  # a number or a text, which stands in the pickle itself
            else:
                raise ValueError(f"the instruction {opcode.name} is not known")
        raise ValueError("it has no end")

    def _pop_to_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not MARK:
            at -= 1
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def make(self, count: int | None, kind: Callable[[list[Any]], Any]) -> None:
        """Replace the last `count` values, or those behind the mark, by one value."""
        if count is not None and count > len(self._stack):
            raise IndexError("pop from empty list")
        items = self._pop_to_mark() if count is None else self._stack[len(self._stack) - count :]
        if count:
            del self._stack[-count:]
        self._stack.append(kind(items))

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def drop(self, _: Any) -> None:
        self._stack.pop()

    def duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def drop_to_mark(self, _: Any) -> None:
        self._pop_to_mark()

    def get(self, index: Any) -> None:
        self._stack.append(self._memo[int(index)])

    def put(self, index: Any) -> None:
        self._memo[int(index)] = self._stack[-1]

    def memoise(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def name(self, dotted: Any) -> None:
        """Push a name; a text is "module name", and without one both stand on the stack."""
        if dotted is None:
            last = self._stack.pop()
            module = self._stack.pop()
        else:
            module, _, last = str(dotted).partition(" ")
        self._stack.append(_make_name(module, last))

    def extend(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        entries = target.entries if isinstance(target, Foreign) else target
        if not isinstance(entries, dict):
            raise TypeError("entries are set on what is no dictionary")
        entries.update(_pairs(items))

    def find_stored(self, identifier: Any) -> None:
        if self._find_stored is None:
            raise ValueError("it refers to data outside itself")
        self._stack.append(self._find_stored(self._stack.pop() if identifier is None else identifier))

    def call(self, keywords: bool = False) -> None:
        """Replace a name and its arguments by what we make of the call."""
        if keywords:
            self._stack.pop()
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(arguments, tuple):
            raise TypeError("a call with arguments that are no tuple")
        self._stack.append(self._stand_for(called, arguments))

    def instantiate(self, dotted: Any) -> None:
        """The calls of protocol 0 and 1."""
        items = self._pop_to_mark()
        if dotted is None:
            called, *items = items
        else:
            module, _, last = str(dotted).partition(" ")
            called = _make_name(module, last)
        self._stack.append(self._stand_for(called, tuple(items)))

    def build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Foreign):
            target.state = state
        elif isinstance(target, OrderedValues) and isinstance(state, Mapping):
            versions = state.get("_metadata")
            target.versions = versions if isinstance(versions, Mapping) else None

    def _stand_for(self, called: Any, arguments: tuple[Any, ...]) -> Any:
        if not isinstance(called, Name):
            return Foreign(getattr(called, "name", type(called).__name__), arguments)
        dotted = called.dotted
        if dotted in self._rebuild:
            return self._rebuild[dotted](*check_short(arguments))
        if dotted in MAPPINGS:
            return self._make_mapping(next((a for a in arguments if isinstance(a, list | Mapping)), ()))
        if dotted == "torch.Size":
            return check_short(*arguments)
        if dotted == "_codecs.encode":
            return _check_text(arguments[0]).encode("latin1")
        _check_acts_not(dotted)
        return Foreign(dotted, arguments)

    def _make_mapping(self, pairs: Any) -> OrderedValues:
        """A copy of pairs; no more of them, all together, than the pickle can have put there."""
        self._copied += len(pairs)
        if self._copied > self._steps:
            raise ValueError("more entries than it holds")
        return OrderedValues(
            (_make_key(key), value) for key, value in (pairs.items() if isinstance(pairs, Mapping) else pairs)
        )


def check_short(values: Any) -> tuple[Any, ...]:
    """A list or tuple of few values as a tuple."""
    if not isinstance(values, list | tuple) or len(values) > LONGEST:
        raise TypeError("a list of few values is missing")
    return tuple(values)


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _make_name(module: Any, last: Any) -> Name:
    dotted = f"{RENAMED.get(_check_text(module), module)}.{_check_text(last)}"
    return Name(dotted if dotted.isprintable() else repr(dotted))


def _check_acts_not(dotted: str) -> None:
    module, _, last = dotted.rpartition(".")
    if module.partition(".")[0] in ACTING or (module == "builtins" and not _is_harmless(last)):
        raise UnsafePickleError(dotted)


def _is_harmless(name: str) -> bool:
    """Whether something of `builtins` makes a value, and runs nothing."""
    return name in HARMLESS or (isinstance(getattr(builtins, name, None), type) and name not in CALLING)


def _make(count: int | None, kind: Callable[[list[Any]], Any]) -> Callable[[_Reader, Any], None]:
    return lambda reader, _: reader.make(count, kind)


def _push(make: Callable[[], Any]) -> Callable[[_Reader, Any], None]:
    return lambda reader, _: reader.push(make())


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(_make_key, items[::2]), items[1::2], strict=True))


def _make_key(value: Any) -> Any:
    """A value as the key of a dictionary; one that might take long to hash is an unknown object."""
    parts = [value]
    for _ in range(LONGEST):
        if not parts:
            return value
        part = parts.pop()
        if isinstance(part, tuple) and len(part) <= LONGEST:
            parts += part
        elif not isinstance(part, PLAIN) and not isinstance(part, Name | Foreign):
            break
    return value if not parts else Foreign(f"builtins.{type(value).__name__}")


def _pass(reader: _Reader, argument: Any) -> None:
    """An instruction that changes nothing."""


_ACTIONS: dict[str, Callable[[_Reader, Any], None]] = {
    "PROTO": _pass,
    "FRAME": _pass,
    "NONE": _push(lambda: None),
    "NEWTRUE": _push(lambda: True),
    "NEWFALSE": _push(lambda: False),
    "MARK": _push(lambda: MARK),
    "EMPTY_LIST": _push(list),
    "EMPTY_SET": _push(list),
    "EMPTY_TUPLE": _push(tuple),
    "EMPTY_DICT": _push(dict),
    "LIST": _make(None, list),
    "FROZENSET": _make(None, list),
    "TUPLE": _make(None, tuple),
    "TUPLE1": _make(1, tuple),
    "TUPLE2": _make(2, tuple),
    "TUPLE3": _make(3, tuple),
    "DICT": _make(None, _pairs),
    "APPEND": lambda reader, _: reader.extend([reader._stack.pop()]),
    "APPENDS": lambda reader, _: reader.extend(reader._pop_to_mark()),
    "ADDITEMS": lambda reader, _: reader.extend(reader._pop_to_mark()),
    "SETITEM": lambda reader, _: reader.set_items([reader._stack.pop(-2), reader._stack.pop()]),
    "SETITEMS": lambda reader, _: reader.set_items(reader._pop_to_mark()),
    "POP": _Reader.drop,
    "POP_MARK": _Reader.drop_to_mark,
    "DUP": _Reader.duplicate,
    "GET": _Reader.get,
    "BINGET": _Reader.get,
    "LONG_BINGET": _Reader.get,
    "PUT": _Reader.put,
    "BINPUT": _Reader.put,
    "LONG_BINPUT": _Reader.put,
    "MEMOIZE": _Reader.memoise,
    "GLOBAL": _Reader.name,
    "STACK_GLOBAL": _Reader.name,
    "PERSID": _Reader.find_stored,
    "BINPERSID": _Reader.find_stored,
    "REDUCE": lambda reader, _: reader.call(),
    "NEWOBJ": lambda reader, _: reader.call(),
    "NEWOBJ_EX": lambda reader, _: reader.call(keywords=True),
    "INST": _Reader.instantiate,
    "OBJ": _Reader.instantiate,
    "BUILD": _Reader.build,
}
