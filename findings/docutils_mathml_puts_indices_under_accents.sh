#!/usr/bin/env bash
# docutils 0.22.4: its own TeX-to-MathML converter on an accented letter with an index: \tilde z_i, \hat y_t.
# Expected: the index stands beside the letter, as TeX sets it (msub), as it does without an accent.
# Seen: the index lands below the letter like a limit (munderover), in display and in inline style.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check docutils==0.22.4
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import re
from importlib.metadata import version

from docutils.utils.math.latex2mathml import tex2mathml

KINDS = r"<(msub|munder|munderover|msubsup)\b"
found = {
    (text, block): sorted(set(re.findall(KINDS, tex2mathml(text, as_block=block))))
    for text in (r"\tilde z_i", r"\hat y_t", "z_i")
    for block in (True, False)
}
print("docutils", version("docutils"))
for (text, block), kinds in found.items():
    print(f"  {text:12} {'display' if block else 'inline ':8} {kinds}")
assert found["z_i", True] == found["z_i", False] == ["msub"]
for text in (r"\tilde z_i", r"\hat y_t"):
    assert found[text, True] == found[text, False] == ["munderover"]
PY
