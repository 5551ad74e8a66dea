"""The logger "mechconn": silent until a program listens to it, as in `logging.basicConfig(level="INFO")`."""

from __future__ import annotations

import logging
from collections.abc import Iterable

LOGGER = logging.getLogger("mechconn")
LOGGER.addHandler(logging.NullHandler())  # else Python prints warnings that no handler takes


def log(text: str) -> None:
    """Log what is worth knowing and changes no result, at level INFO."""
    LOGGER.info(text)


def log_warnings(what: str, texts: Iterable[object]) -> None:
    """Log what a reader of a result must know, at level WARNING; call it once, where the result is made.

    Args:
        what: the verb or stage that made the result.
        texts: a line for each warning.
    """
    for text in texts:
        LOGGER.warning("%s: %s", what, text)
