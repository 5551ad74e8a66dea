"""One page for every package of mechconn, written from its public names to docs/api/, which git ignores."""

import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

from docstring_markup import convert, mark_text, write_annotation, write_value
from docutils.nodes import make_id
from outside_pages import write_folder
from public_names import SOURCE, PublicName, list_packages, list_public_names
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry
from sphinx.pycode import ModuleAnalyzer

INDEX = """\
API
===

``import mechconn as mc``. Names of ``mc`` are for everyone; each is documented once, on the page of its package.
A package has further names: those that parts of your own are made of (:doc:`/extending`), and those that one package
offers to the others, which may change without notice.

.. toctree::
   :hidden:

"""


@cache
def list_recommended(folder: Path) -> frozenset[tuple[str, str]]:
    """(package, name) of what the pages and the README tell readers to use, and of what packages list in `__all__`."""
    pages = [folder.parent / "README.md", *sorted(folder.glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found = set(re.findall(r"(\w+)\.(\w+)", text))
    for package, names in re.findall(r"from mechconn\.(\w+) import \(?([\w, \n]+)", text):
        found |= {(package, name) for name in re.findall(r"\w+", names)}
    for package in list_packages():
        listed = re.search(r"__all__ = \[(.*?)\]", (SOURCE / package / "__init__.py").read_text("utf-8"), re.S)
        found |= {(package, name) for name in re.findall(r'"(\w+)"', listed[1] if listed else "")}
    return frozenset(found)


def is_for_users(public: PublicName, folder: Path) -> bool:
    """Whether a name is recommended, or a class, which is what functions for users return."""
    return (public.package, public.name) in list_recommended(folder) or inspect.isclass(public.load())


def read_comment(public: PublicName) -> list[str]:
    """The docstring below a constant or an alias of types."""
    documented = ModuleAnalyzer.for_module(public.module).find_attr_docs()
    own = type(public.load())
    text = (inspect.getdoc(own) or "") if own.__module__.startswith("mechconn") else ""  # instances of our classes
    return documented.get(("", public.name), text.split("\n"))


def is_code(public: PublicName) -> bool:
    """Whether a name is a class or a function."""
    thing = public.load()
    return inspect.isfunction(thing) or (inspect.isclass(thing) and getattr(thing, "__name__", "") == public.name)


def summarise(public: PublicName) -> str:
    """The first line of a docstring."""
    text = (inspect.getdoc(public.load()) or "") if is_code(public) else "\n".join(read_comment(public))
    return mark_text(text.split("\n\n")[0].split("\n")[0].strip(), frozenset()) if text else ""


def write_table(names: list[PublicName], *, entries: bool = False) -> list[str]:
    """Names and first lines; the names lead to their entries, or are the entries that references lead to."""
    lines = [".. list-table::", "   :widths: 30 70", "   :class: names", ""]
    for public in names:
        name = f"_`{public.target}`" if entries else f":py:obj:`{public.name} <{public.target}>`"
        lines += [f"   * - {name}", f"     - {summarise(public)}"]
    return [*lines, ""]


def write_entry(public: PublicName) -> list[str]:
    """The directive that documents a name."""
    thing = public.load()
    if is_code(public):
        exception = inspect.isclass(thing) and issubclass(thing, BaseException)
        kind = "autofunction" if inspect.isfunction(thing) else "autoexception" if exception else "autoclass"
        return [f".. {kind}:: {public.target}", ""]
    value = write_value(thing) if isinstance(thing, str | int | float | tuple | frozenset) else write_annotation(thing)
    shown = [f"   :value: {value}"] if len(value) <= 200 else []
    module, _, name = public.target.rpartition(".")
    comment = ["   " + line for line in convert(read_comment(public))]
    return [f".. py:data:: {name}", f"   :module: {module}", *shown, "", *comment, ""]


def write_title(text: str, line: str) -> list[str]:
    """A heading."""
    return [text, line * len(text), ""]


def read_module(package: str) -> list[str]:
    """The docstring of a package."""
    return convert((importlib.import_module(f"mechconn.{package}").__doc__ or "").strip().split("\n"))


def write_package(package: str, folder: Path) -> str:
    """The page of a package: tables of names, then the names themselves."""
    names = [public for public in list_public_names() if public.package == package]
    flat = [public for public in names if public.flat]
    users = [public for public in names if not public.flat and is_for_users(public, folder)]
    others = [public for public in names if not public.flat and public not in users]
    lines = [*write_title(f"mechconn.{package}", "="), f".. py:module:: mechconn.{package}", ""]
    lines += [*read_module(package), ""]
    for title, part in (("Names of mc", flat), (f"Names of mc.{package}", users)):
        lines += write_title(title, "-") + write_table(part) if part else []
    if flat + users:
        lines += write_title("Reference", "-")
        lines += [line for public in flat + users for line in write_entry(public)]
    if others:
        lines += [*write_title("Offered to other packages", "-"), "These may change without notice.", ""]
        lines += write_table(others, entries=True)
    return "\n".join(lines)


def write_api(app: Sphinx) -> None:
    """Write all pages, and their index, which lists the names of mc."""
    folder, pages = Path(app.srcdir), {}
    lines = [INDEX, *(f"   mc.{package} <{package}>" for package in list_packages()), "", ".. py:module:: mechconn", ""]
    for package in list_packages():
        pages[f"{package}.rst"] = write_package(package, folder)
        flat = [public for public in list_public_names() if public.package == package and public.flat]
        lines += [*write_title(f"mc.{package}", "-"), *read_module(package)[:1], f"See :doc:`{package}`.", ""]
        lines += write_table(flat) if flat else []
    write_folder(folder / "api", pages | {"index.rst": "\n".join(lines)})


def add_entries(app: Sphinx, env: Any) -> None:
    """Lead `mechconn.alignment.align` to the entry of `mechconn.align`, and a name without one to its row."""
    objects = env.domains["py"].objects
    for public in list_public_names():
        entry = objects.get(public.target)
        if entry and public.alias != public.target:
            objects[public.alias] = ObjectEntry(entry.docname, entry.node_id, entry.objtype, True)
        elif not entry:
            kind = "function" if inspect.isfunction(public.load()) else "data"
            objects[public.target] = ObjectEntry(f"api/{public.package}", make_id(public.target), kind, False)


def setup(app: Sphinx) -> dict[str, bool]:
    """Write pages before Sphinx looks for them."""
    app.connect("builder-inited", write_api)
    app.connect("env-updated", add_entries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
