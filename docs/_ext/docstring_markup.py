"""Docstrings as they are written in this code base, turned into reStructuredText.

Single backticks hold code; a public name in them becomes a link. Bars, asterisks and trailing underscores are
characters, no markup. A block that is indented more than the text around it is an equation, shown as it stands.
"""

import builtins
import inspect
import re
import sys
from functools import cache
from typing import Any

from docutils.nodes import Text, document
from public_names import SOURCE, find_by_name, resolve
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring

FIELDS = ("Args:", "Attributes:", "Raises:")
TEXTS = ("Example:", "Note:", "Returns:")
CODE = re.compile(r"(\w?)(``[^`]+``|`[^`]+`)(\w?)")


def escape(text: str) -> str:
    """Text without markup."""
    return re.sub(r"(?<=\w)_(?!\w)|[\\*|]", lambda found: "\\" + found[0], text)


def mark_code(code: str, own: frozenset[str]) -> str:
    """Code as a link where it is a public name and no argument of the object's own, else as a literal."""
    name = code.removesuffix("()")
    head, _, rest = name.partition(".")
    if re.fullmatch(r"[\w.]+", name) and head not in own:
        public = resolve(name) or (find_by_name().get(head) if rest else None)
        if public and not name.startswith("torch."):
            return f":py:obj:`{code} <{public.target}>`"
    return f"``{code}``"


def mark_text(text: str, own: frozenset[str]) -> str:
    """A paragraph with its code marked and the rest escaped."""
    parts, end = [], 0
    for found in CODE.finditer(text):
        before, code, after = found.groups()
        parts += [escape(text[end : found.start()]), escape(before), "\\ " * bool(before)]
        marked = code if code.startswith("``") else mark_code(" ".join(code[1:-1].split()), own)
        parts += [marked, "\\ " * bool(after)]
        end = found.end() - len(after)
    return "".join([*parts, escape(text[end:])])


def indent_of(line: str) -> int:
    """Number of leading spaces."""
    return len(line) - len(line.lstrip())


def split_blocks(lines: list[str]) -> list[list[str]]:
    """Runs of lines between blank lines; the blank lines are runs too."""
    blocks: list[list[str]] = []
    for line in lines:
        if not blocks or bool(line.strip()) != bool(blocks[-1][0].strip()):
            blocks.append([])
        blocks[-1].append(line)
    return blocks


def is_equation(block: list[str], base: int, after_blank: bool) -> bool:
    """Whether a block stands further right than the text around it, and is no example."""
    return after_blank and min(map(indent_of, block)) >= base + 4 and not block[0].lstrip().startswith(">>>")


def open_section(block: list[str], own: frozenset[str]) -> tuple[list[str], list[str]]:
    """(heading, what follows it) of a block that begins a section, or (nothing, the block)."""
    head = block[0].strip()
    if indent_of(block[0]) or head not in FIELDS + TEXTS:
        return [], block
    if head == "Returns:":  # Napoleon would take what stands before a colon for the type
        return [":returns: " + mark_text(block[1].strip(), own)], block[2:]
    return [head], block[1:]


def convert(lines: list[str], own: frozenset[str] = frozenset()) -> list[str]:
    """The lines of a docstring as reStructuredText with Google's sections."""
    result: list[str] = []
    base = 0  # where the text of the section begins: below the name of a field, its description goes on
    for position, block in enumerate(split_blocks(lines)):
        if not block[0].strip():
            result += block
            continue
        heading, rest = open_section(block, own)
        if indent_of(block[0]) == 0:
            base = 0 if not heading else 8 if heading[0] in FIELDS else 4
        result += heading
        if rest and is_equation(rest, base, position > 0):
            margin = " " * base
            result += [margin + ".. code-block:: none", margin + "   :class: equation", "", *rest]
        else:
            result += mark_lines(rest, own)
    return result


def mark_lines(block: list[str], own: frozenset[str]) -> list[str]:
    """The lines of a block of text, marked; code may run over the end of a line, and an example may follow."""
    start = next((i for i, line in enumerate(block) if line.lstrip().startswith(">>>")), len(block))
    marked = []
    text = "\n".join(block[:start])
    # A code span that goes on in the next line is moved there as a whole.
    text = re.sub(r"`([^`\n]*)\n(\s*)([^`\n]*)`(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\n\2`\1 \3`", text)
    for line in text.split("\n"):
        if line.strip():
            margin = line[: indent_of(line)]
            line = margin + re.sub(r"^([A-Za-z]\. )", r"\\\1", mark_text(line.lstrip(), own))
        marked.append(line)
    return marked + ([""] if 0 < start < len(block) else []) + block[start:]


def list_own_names(thing: Any) -> frozenset[str]:
    """The arguments and fields of an object."""
    try:
        names = set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        names = set()
    return frozenset(names | set(getattr(thing, "__annotations__", ())))


def process_docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """What autodoc calls before Napoleon reads the sections."""
    lines[:] = convert(lines, list_own_names(thing))
    if what in ("property", "attribute"):  # Napoleon would take what its first line has before a colon for the type
        lines[:] = ["..", "", *GoogleDocstring(lines, app.config, app, "method", name, thing, options).lines()]


# ---------------------------------------------------------------- signatures


def write_value(value: Any) -> str:
    """A default value, short."""
    if inspect.isroutine(value) or inspect.isclass(value):
        return value.__name__
    text = repr(value)
    return "..." if text.startswith("<") or " at 0x" in text else text


def write_annotation(annotation: Any) -> str:
    """A type as the source writes it."""
    if isinstance(annotation, str):
        return re.sub(r"^Annotated\[(.*), \w+\(.*\)\]$", r"\1", annotation)  # what pydantic reads it by
    return inspect.formatannotation(annotation).replace("collections.abc.", "").replace("typing.", "")


def write_signature(signature: inspect.Signature) -> tuple[str, str]:
    """(arguments, result) with types as the source writes them: aliases stay aliases."""
    words, stars, last = [], False, None
    for parameter in signature.parameters.values():
        kind = parameter.kind
        if last is parameter.POSITIONAL_ONLY and kind is not parameter.POSITIONAL_ONLY:
            words.append("/")
        if kind is parameter.KEYWORD_ONLY and not stars:
            words.append("*")
        stars = stars or kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        word = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(kind, "") + parameter.name
        typed = parameter.annotation is not parameter.empty
        word += f": {write_annotation(parameter.annotation)}" if typed else ""
        if parameter.default is not parameter.empty:
            word += (" = " if typed else "=") + write_value(parameter.default)
        words.append(word)
        last = kind
    words += ["/"] * (last is inspect.Parameter.POSITIONAL_ONLY)
    result = signature.return_annotation
    return f"({', '.join(words)})", "" if result is signature.empty else write_annotation(result)


def process_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str, str] | None:
    """What autodoc calls for every signature that it has found."""
    if signature is None or what not in ("function", "method", "class", "exception"):
        return None
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    parameters = list(found.parameters.values())
    if parameters and parameters[0].name in ("self", "cls") and what == "method":
        found = found.replace(parameters=parameters[1:])
    arguments, returned = write_signature(found)
    return arguments, "" if what in ("class", "exception") else returned


@cache
def list_known_names() -> frozenset[str]:
    """Names of Python and those that a module of ours defines or imports: a type that is none of these is a mistake."""
    names = {*dir(builtins), *sys.stdlib_module_names}
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        names |= set(re.findall(r"^(?:class )?(\w+)\b.*[:=]", text, re.M))
        names |= set(re.findall(r"(?:^ *from |\b(?:np|nn|torch)\.)(\w+)", text, re.M))
        for line in re.findall(r"^ *(?:from \S+ )?import ([\w., ]+|\([^)]+\))", text, re.M):
            names |= set(re.findall(r"\w+", line))
    return frozenset(names)


def settle_references(app: Sphinx, doctree: document) -> None:
    """Lead types to the entries of ours, and leave as text those without an entry that the source knows.

    Sphinx would find them too, by a search through all objects for each.
    """
    for node in list(doctree.findall(pending_xref)):
        if node.get("refdomain") != "py" or node["reftype"] == "obj":
            continue
        target = node["reftarget"]
        head, last = target.split(".")[0], target.split(".")[-1]
        public = resolve(target) if head in (last, "mc", "mechconn") and target != "Path" else None  # pathlib's
        if public:
            node["reftarget"], node["refspecific"] = public.target, False
        elif "Annotated[" in target:  # an evaluated type with what pydantic reads it by
            bare = re.sub(r"Annotated\[([^,]+),.*\)\]", r"\1", target)
            node.replace_self(Text(re.sub(r"~?\w[\w.]*\.", "", bare)))
        elif head in list_known_names() or (head == "mechconn" and last in list_known_names()):
            node.replace_self(node.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Join autodoc before Napoleon does (500)."""
    app.connect("autodoc-process-docstring", process_docstring, priority=400)
    app.connect("autodoc-process-signature", process_signature)
    app.connect("doctree-read", settle_references)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
