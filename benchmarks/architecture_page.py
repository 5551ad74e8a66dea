"""docs/architectures.md, written from the results of `architectures.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

HEAD = """# A table of architectures

This page answers: can my architecture be read, and which of its symmetries are known?

For {families} families of networks, with small sizes and random weights: whether the operations can be read, how much
of the network its symmetries cover, and whether its function stays. `benchmarks/architectures.py` builds them from
configurations and writes this page; nothing is downloaded.

{summary}

What the columns say:

- *exports*: `torch.export` reads the forward pass, so that `mc.symmetry_of` finds something.
- *permuted*, *signs*, *scales*, *linear*, *orthogonal*: shares of the parameters' hidden axes that each kind moves,
  `symmetry.coverage_by_kind`. Axes of inputs, outputs, positions and tables of indices are not counted.
- *groups*, *units*: groups of units that may be permuted, and how many units these are.
- *error*: the largest relative change of the outputs by two random elements of all kinds together, at the size of the
  example and at another one (longer texts, larger images, more rows; more rows alone where the model has one size).
  The script compares two networks for this, without `symmetry.verify`: every parameter and statistic gets noise
  first, so that no gain is one and no bias is zero. Numbers are float64, also where a forward pass asks for
  float32; rows with * run in float32 alone.
- *proved*: `symmetry.verify` accepts.
- Rows with ° were measured before the rules for heads, experts, writes in place and looks at values; some of what they
  lack is found by now.
- *s*: seconds for `symmetry_of` and for `verify`, on one thread, with other programs on the machine.
- *what stays*: why hidden axes are not permuted, the commonest reasons first and on how many axes; or why the forward
  pass cannot be read.

## Running it again

Transformers come with the development packages. torchvision and timm need an environment of their own, as their torch
is another build than the one in `constraints.txt`:

```
python benchmarks/architectures.py --suite transformers
python -m venv vision && vision/bin/pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 -e .
vision/bin/python benchmarks/architectures.py --suite vision
```

`--only bert,vit` measures families whose names have these parts; the rows of the others stay. `--json` names the file
of the results, `benchmarks/architectures.json` if not given, and `--page` writes this page from it.
"""

KINDS = {
    "permutation": "permuted",
    "sign": "signs",
    "scale": "scales",
    "linear": "linear",
    "orthogonal": "orthogonal",
}
REASON = 220
"""Characters of a reason that fit into a row."""


FAR = 1000.0
"""A change that is larger than so many times the one that rounding of the weights makes is none of it."""
LEAST = 1e-15
"""Rounding is taken to change the outputs by no less."""


def is_right(row: Row) -> bool:
    """Whether nothing moved but by rounding, here and in the package's own proof where that one could run."""
    rounding = row.get("rounding", math.inf)  # rows of earlier versions of the script lack it
    small = max(row["errors"]) <= min(row["bar"], FAR * max(rounding, LEAST))
    return small and (row["verified"] == "yes" or "could not be run in float64" in row["verified"])


def write_page(stored: Mapping[str, Any]) -> str:
    """The page."""
    rows = [row for suite in stored.values() for row in suite["rows"]]
    parts = [HEAD.format(families=len(rows), summary=summarise(rows))]
    for suite in stored.values():
        versions = ", ".join(f"{name} {version}" for name, version in suite["versions"].items())
        for kind in dict.fromkeys(row["kind"] for row in suite["rows"]):
            own = [row for row in suite["rows"] if row["kind"] == kind]
            parts.append(f"## {kind}\n\n{versions}.\n\n{write_table(own)}\n")
    return "\n".join(parts)


def summarise(rows: Sequence[Row]) -> str:
    """How many export, how much is covered, and the largest error."""
    read = [row for row in rows if row.get("exports")]
    whole = sum(row["coverage"] == 1.0 for row in read)
    nearly = sum(row["coverage"] >= 0.9 for row in read)
    proved = sum(row["verified"] == "yes" for row in read)
    wide = [max(row["errors"]) for row in read if row["type"] == "float64"]
    narrow = [max(row["errors"]) for row in read if row["type"] != "float64"]
    wrong = [row["name"] for row in read if not is_right(row)]
    mean = sum(row["coverage"] for row in read) / max(len(read), 1)
    text = (
        f"{len(read)} of {len(rows)} can be read. In {whole} of these all hidden units may be permuted, in {nearly} at "
        f"least 90 % of the hidden axes; the mean is {mean:.0%}. `verify` proves {proved} of {len(read)}. The largest "
        f"error is {max(wide, default=0.0):.0e} in float64"
    )
    text += f" and {max(narrow):.0e} in float32 ({len(narrow)} families). " if narrow else ". "
    return text + (f"Wrong: {', '.join(wrong)}." if wrong else "No symmetry is wrong.")


def write_table(rows: Sequence[Row]) -> str:
    """The rows of one kind."""
    kinds = list(dict.fromkeys(k for row in rows for k in row.get("by_kind", KINDS)))
    headings = ["family", "class", "exports", *(KINDS.get(k, k) for k in kinds), "groups", "units"]
    headings += ["error", "error, other size", "proved", "s", "what stays"]
    lines = [headings, ["---"] * len(headings), *(list_cells(row, kinds) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def list_cells(row: Row, kinds: Sequence[str]) -> list[str]:
    """One row; what was not measured is a dash."""
    name, made = row["name"].partition(" (t")[0], f"`{row.get('class', row['model'])}`"
    name += "" if "rounding" in row else " °"
    if not row.get("exports"):
        reason = row.get("why") or row.get("failed", "")
        return [name, made, "no", *["-"] * (len(kinds) + 5), f"{row.get('seconds', 0.0):.1f}", shorten(reason)]
    star = "" if row["type"] == "float64" else " *"
    first, second = (f"{error:.0e}{star}" for error in row["errors"])
    proved = "yes" if row["verified"] == "yes" else "not in float64" if "float64" in row["verified"] else "no"
    seconds = f"{row['seconds']:.1f} + {row['verify_seconds']:.1f}"
    shares = [f"{row['by_kind'].get(kind, 0.0):.0%}" for kind in kinds]
    counts = [str(row["groups"]), str(row["units"])]
    return [name, made, "yes", *shares, *counts, first, second, proved, seconds, shorten(row["why"])]


def shorten(text: str) -> str:
    """A reason as a cell holds it."""
    text = text.replace("|", "/").replace("\n", " ")
    return text if len(text) <= REASON else text[: REASON - 3].rstrip() + "..."
