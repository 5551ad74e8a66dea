"""Classes that files and records name: registered where they are defined, also in the user's own modules."""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar, TypeVar, get_origin

from mechconn.core._checks import did_you_mean
from mechconn.core._import_function import import_object

Kind = TypeVar("Kind")

_REGISTERED: dict[str, type[Registered]] = {}
"""Full name, module:class, -> class; a class that is defined again takes the place of the first."""


class Registered:
    """Base of the classes that files and records name: a subclass is registered where it is defined.

    It is registered under its class name, or under the name that it gives: `class Mine(Base, name="mine")`. Abstract
    classes, and those whose name begins with an underscore, have no name in files.

    Example:
        >>> class Norm(Registered):
        ...     pass
        >>> class Median(Norm):
        ...     pass
        >>> class Trimmed(Norm, name="trimmed"):
        ...     pass
        >>> sorted(list_kinds(Norm)), find_kind("norm", Norm, "trimmed") is Trimmed
        (['Median', 'trimmed'], True)
    """

    registered_name: ClassVar[str]

    def __init_subclass__(cls, name: str | None = None, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls.registered_name = name or cls.__name__
        _REGISTERED[f"{cls.__module__}:{cls.__qualname__}"] = cls


def list_kinds(base: type[Kind], built_in: bool = False) -> dict[str, type[Kind]]:
    """Name -> class of every registered, concrete subclass of `base`: this package's own sorted by name, then others.

    A user's class that has the name of one of ours is listed under its full name, and so are two of the user's that
    share one.

    Args:
        base: the family.
        built_in: only the classes of this package.
    """
    kinds = {full: kind for full, kind in _REGISTERED.items() if issubclass(kind, base) and _has_name(kind, base)}
    own = {kind.registered_name: kind for kind in kinds.values() if is_built_in(kind)}
    others = {} if built_in else {full: kind for full, kind in kinds.items() if not is_built_in(kind)}
    shared = [*own, *(kind.registered_name for kind in others.values())]
    named = {
        kind.registered_name if shared.count(kind.registered_name) == 1 else full: kind for full, kind in others.items()
    }
    return dict([*sorted(own.items()), *sorted(named.items())])  # pyright: ignore[reportReturnType]


def _has_name(kind: type, base: type) -> bool:
    return kind is not base and not kind.registered_name.startswith("_") and not inspect.isabstract(kind)


def is_built_in(kind: type) -> bool:
    """Whether a class is this package's own."""
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]


def find_kind(what: str, base: type[Kind], name: str) -> type[Kind]:
    """The subclass of `base` that a file names.

    Args:
        what: what errors call it.
        base: the family.
        name: a registered name, or "package.module:Class", which is imported.

    Raises:
        ValueError: no class of this name, several of the user's, or one that is no concrete subclass of `base`.
    """
    known = list_kinds(base)
    if name in known:
        return known[name]
    if ":" in name:
        found: Any = import_object(what, name, "class")
        if not (inspect.isclass(found) and issubclass(found, base)) or inspect.isabstract(found):
            raise ValueError(f"{what} {name!r} must be a subclass of {base.__name__} without abstract methods")
        return found
    if shared := [full for full, kind in known.items() if getattr(kind, "registered_name", "") == name]:
        raise ValueError(f"{what} {name!r} is ambiguous: {' and '.join(shared)} have this name; write the full name")
    listed = ", ".join(map(repr, known))
    raise ValueError(
        f"{what} must be one of {listed}, or a class of your own as 'package.module:Class', got {name!r}"
        f"{did_you_mean(name, known)}"
    )


def check_declared_fields(kind: type) -> None:
    """Raise unless what a class of the user's annotates as settings are fields of a dataclass.

    Classes with an `__init__` of their own are left alone, and so are names with an underscore and class variables.

    Raises:
        ValueError: annotations of a class without `@dataclass`, which are no fields.
    """
    for part in kind.__mro__:
        if is_built_in(part) or not issubclass(part, Registered) or _makes_instances(part):
            continue
        shared = {name for base in part.__mro__[1:] for name in _list_class_variables(base)}
        names = [name for name in inspect.get_annotations(part) if not name.startswith("_") and name not in shared]
        if lost := [name for name in names if name not in _list_class_variables(part)]:
            raise ValueError(
                f"{part.__name__} is no dataclass, so that {', '.join(lost)} are no settings of it; write "
                "@dataclass(frozen=True, kw_only=True) above it"
            )


def _makes_instances(part: type) -> bool:
    """Whether a class itself, not one that it extends, says how its instances are made."""
    return "__init__" in vars(part) or "__dataclass_fields__" in vars(part)


def _list_class_variables(part: type) -> list[str]:
    found = inspect.get_annotations(part).items()
    return [
        name for name, hint in found if get_origin(hint) is ClassVar or re.match(r"([\w.]*\.)?ClassVar\b", str(hint))
    ]


def name_kind(kind: type[Registered]) -> str:
    """What files and records call a class, so that another process finds it: its name, or "package.module:Class".

    The user's classes that cannot be imported (of a notebook, or of a function) have their name alone.
    """
    importable = kind.__module__ != "__main__" and "<locals>" not in kind.__qualname__
    return f"{kind.__module__}:{kind.__qualname__}" if importable and not is_built_in(kind) else kind.registered_name
