"""Figures that are registered for a kind of result, so that its pages and notebooks show them."""

from __future__ import annotations

import abc
import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from mechconn.core import log_warnings
from mechconn.plotting._sections import Drawing, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ResultFigure(abc.ABC):
    """A figure of one kind of result: extend it for pictures of your own.

    A subclass is registered where it is defined. From then on the page of every result of the class `of`, and its
    representation in notebooks, end with the figure under its title.
    """

    of: ClassVar[type]
    """The class of results that it is of, such as `mechconn.Invariance`."""
    title: ClassVar[str]
    """Its heading."""
    registered: ClassVar[dict[str, type[ResultFigure]]] = {}
    """Full name of the class, module:class -> every figure; one that is defined again replaces itself."""

    def __init_subclass__(cls, **others: Any) -> None:
        super().__init_subclass__(**others)
        if inspect.isabstract(cls):
            return
        missing = [name for name in ("of", "title") if not hasattr(cls, name)]
        if missing:
            raise TypeError(
                f"the figure {cls.__name__} must name what it is of and its heading, and lacks {', '.join(missing)}; "
                "write of = mechconn.Invariance and title = '...'"
            )
        if not isinstance(cls.of, type):
            raise TypeError(f"of must be a class of results, such as mechconn.Invariance, got {cls.of!r}")
        ResultFigure.registered[f"{cls.__module__}:{cls.__qualname__}"] = cls

    def suits(self, result: Any) -> bool:
        """Whether it can be drawn of this result; by default always."""
        return True

    @abc.abstractmethod
    def draw(self, result: Any) -> Figure:
        """The matplotlib figure."""

    @abc.abstractmethod
    def describe(self, result: Any) -> str:
        """What it shows, in words, for those who do not see it."""


def list_drawings(result: Any) -> list[Section]:
    """A section for each registered figure of a result, in the order in which they were defined.

    A figure that fails is drawn nowhere: its section says why, and the rest of the page stays.
    """
    kinds = [kind for kind in ResultFigure.registered.values() if isinstance(result, kind.of)]
    return [section for kind in kinds if (section := _make_section(kind, result)) is not None]


def _make_section(kind: type[ResultFigure], result: Any) -> Section | None:
    """The section of one figure; None where it does not suit the result."""
    try:
        own = kind()
        if not own.suits(result):
            return None
        drawn, words = own.draw(result), own.describe(result)
        if not hasattr(drawn, "savefig"):
            raise TypeError(f"draw must give a matplotlib Figure, got a {type(drawn).__name__}")
    except Exception as error:
        why = f"the figure {kind.__name__} could not be drawn: {type(error).__name__}: {error}"
        log_warnings("page", [why])
        return Section(kind.title, text=f"{why[0].upper()}{why[1:]}.")
    return Section(kind.title, figures=(Drawing(lambda: drawn, words),))
