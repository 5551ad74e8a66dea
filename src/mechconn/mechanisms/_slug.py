"""Names as parts of files' names."""

from __future__ import annotations

import re

from mechconn.core import sha256


def make_slug(name: str) -> str:
    """A name as a file's: its letters and figures, and a hash that tells it from names that differ in other signs."""
    letters = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
    return f"{letters}-{sha256(name.encode())[:6]}"
