"""Functions named by text, as configurations and command lines give them: package.module:function."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from mechconn.core._rng import isolate_rng

NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def import_function(what: str, text: str, kind: str = "function") -> Callable[..., Any]:
    """The function or class that `text` names; see `import_object`.

    Raises:
        ValueError: as in `import_object`, or what is named cannot be called.

    Example:
        >>> import_function("the function", "math:sqrt")(4.0)
        2.0
    """
    found = import_object(what, text, kind)
    if not callable(found):
        raise ValueError(f"{what} {text!r} must be a {kind}, it is a {type(found).__name__}; name a {kind}")
    return found


def import_object(what: str, text: str, kind: str = "function") -> Any:
    """Whatever `text` names, imported from the installed packages or else from the working directory.

    Args:
        what: what it is for, in errors.
        text: "package.module:function".
        kind: "function" or "class", in errors.

    Raises:
        ValueError: the text is no such name, the module is not there or fails, or it has nothing of that name.

    Example:
        >>> round(import_object("the number", "math:pi"), 4)
        3.1416
    """
    if not NAME.fullmatch(text):
        raise ValueError(f"{what} must be named as 'package.module:{kind}', got {text!r}")
    module_name, _, name = text.partition(":")
    found: Any = _import_module(what, module_name)
    where = getattr(found, "__file__", None) or module_name
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{what} {text!r}: {where} has no {part!r}; name a {kind} that is defined there")
        found = getattr(found, part)
    return found


@contextmanager
def append_working_directory() -> Iterator[None]:
    """Context manager: append the working directory to the import path.

    Installed modules come first, so that a file in the working directory cannot shadow a library.
    """
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        last = len(sys.path) - 1 - sys.path[::-1].index(here) if here in sys.path else None
        if last is not None:
            del sys.path[last]


def _import_module(what: str, name: str) -> ModuleType:
    with append_working_directory(), isolate_rng(0, "import"):
        importlib.invalidate_caches()
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or name
            if name == missing or name.startswith(f"{missing}."):
                raise ValueError(
                    f"{what}: there is no module {missing!r}, neither installed nor in {os.getcwd()}; check its "
                    "name or change the folder"
                ) from error
            raise ValueError(_explain_import_error(what, name, str(error))) from error
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(_explain_import_error(what, name, why)) from error


def _explain_import_error(what: str, name: str, why: str) -> str:
    return f"{what}: the module {name!r} cannot be imported ({why}); correct it, or install what it needs"
