"""The public names of mechconn, read from `__init__.pyi` and from the `__init__.py` of every package."""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mechconn

SOURCE = Path(mechconn.__file__).parent


@dataclass(frozen=True)
class PublicName:
    """A name that a package exports.

    Attributes:
        package: the package, without "mechconn.".
        name: the name in the package.
        module: the module that defines it.
        flat: whether `mechconn` has the name too.
    """

    package: str
    name: str
    module: str
    flat: bool

    @property
    def target(self) -> str:
        """Where the site documents it: under its shortest name."""
        return f"mechconn.{self.name}" if self.flat else self.alias

    @property
    def alias(self) -> str:
        """Its name in the package."""
        return f"mechconn.{self.package}.{self.name}"

    def load(self) -> Any:
        """The object itself."""
        return getattr(importlib.import_module(f"mechconn.{self.package}"), self.name)


def list_imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of what a file imports from mechconn under its own name, outside of conditions."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            module = "mechconn." * bool(node.level) + (node.module or "")
            if module.startswith("mechconn"):
                yield from ((module, alias.name) for alias in node.names if not alias.name.startswith("_"))


@cache
def list_packages() -> tuple[str, ...]:
    """The packages that the stub of `mechconn` names."""
    imports = list_imports(SOURCE / "__init__.pyi")
    return tuple(name for module, name in imports if module == "mechconn.")


@cache
def list_public_names() -> tuple[PublicName, ...]:
    """All of them, package by package."""
    flat = {(module, name) for module, name in list_imports(SOURCE / "__init__.pyi")}
    return tuple(
        PublicName(package, name, module, (f"mechconn.{package}", name) in flat)
        for package in list_packages()
        for module, name in sorted(set(list_imports(SOURCE / package / "__init__.py")), key=lambda pair: pair[1])
    )


@cache
def find_by_name() -> dict[str, PublicName]:
    """The names that mean one thing in all packages, and the flat ones."""
    found: dict[str, PublicName | None] = {}
    for public in list_public_names():
        found[public.name] = None if public.name in found else public
    found |= {public.name: public for public in list_public_names() if public.flat}
    return {name: public for name, public in found.items() if public}


def resolve(text: str) -> PublicName | None:
    """What `align`, `mc.align`, `mechconn.alignment.align` or `mechconn.alignment._align.align` names."""
    full = text.removeprefix("mc.").removeprefix("mechconn.")
    *folders, name = full.split(".")
    if folders:
        packages = {public.package: public for public in list_public_names() if public.name == name}
        return packages.get(folders[0])
    return find_by_name().get(name)
