"""The logger "mechconn": silent until a program listens to it, as in `logging.basicConfig(level="INFO")`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOGGER = logging.getLogger("mechconn")
LOGGER.addHandler(logging.NullHandler())  # else Python prints warnings that no handler takes
_WARNED: ContextVar[list[str] | None] = ContextVar("_WARNED", default=None)


def log(text: str) -> None:
    """Log what is worth knowing and changes no result, at level INFO."""
    LOGGER.info(text)


def log_warnings(what: str, texts: Iterable[object]) -> None:
    """Log what a reader of a result must know, at level WARNING; call it once, where the result is made.

    Args:
        what: the verb or stage that made the result.
        texts: a line for each warning.
    """
    warned = _WARNED.get()
    for text in map(str, texts):
        if warned is None or text not in warned:
            LOGGER.warning("%s: %s", what, text)
        if warned is not None and text not in warned:
            warned.append(text)


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Within the block a text is logged as a warning once; gives the list that these texts are added to."""
    warned: list[str] = []
    token = _WARNED.set(warned)
    try:
        yield warned
    finally:
        _WARNED.reset(token)
