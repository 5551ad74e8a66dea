"""What a command prints of its result."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any


def print_result(found: Any, as_json: bool, told: str) -> None:
    """One JSON object, without the samples of the page; or the sentences, and where the files are."""
    from mechconn.plotting import Examples

    if not as_json:
        sys.stdout.write(f"{found}\n\n{told}\n")
        return
    bare = replace(found, examples=Examples()) if hasattr(found, "examples") else found
    sys.stdout.write(f"{bare.to_json()}\n")
