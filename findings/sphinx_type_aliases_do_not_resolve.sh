#!/usr/bin/env bash
# Sphinx 9.0.4: autodoc_type_aliases names a documented type for an alias in signatures, as its manual shows.
# Expected: the annotation becomes a link to the named type, and a nitpicky build (-n) has no warning.
# Seen: the build warns of a reference target TypeAliasForwardRef, a class of Sphinx's own, that is not found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check sphinx==9.0.4
mkdir -p "$folder/docs"
cd "$folder/docs"
cat > shapes.py <<'PY'
"""Shapes."""

from __future__ import annotations

from typing import Union

Size = Union[int, str]
"""A number or a name."""


def draw(size: Size, more: list[Size] | None = None) -> Size:
    """Draw it."""
    return size
PY
cat > conf.py <<'PY'
import sys

sys.path.insert(0, ".")
project, extensions = "shapes", ["sphinx.ext.autodoc"]
autodoc_type_aliases = {"Size": "shapes.Size"}
PY
printf 'Shapes\n======\n\n.. automodule:: shapes\n   :members:\n' > index.rst
"$folder/venv/bin/python" -m sphinx -n -q -b html . out > told.txt 2>&1 || true
"$folder/venv/bin/python" -c 'import sphinx; print("sphinx", sphinx.__version__)'
grep -i "reference target not found" told.txt | sed 's/.*WARNING/WARNING/' | sort | uniq -c || true
grep -q "TypeAliasForwardRef" told.txt
