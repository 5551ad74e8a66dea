"""Options of interventions that name data beside the rows: a column of these, other rows, masks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mechconn.core import read_named
from mechconn.interventions import Intervention, SideData

Result = TypeVar("Result")
CLASS = "class"
"""In place of a column of groups: the label of each row."""


@dataclass(frozen=True)
class SideOption:
    """An option of an intervention that names side data.

    Attributes:
        intervention: what it is called.
        option: the option's name.
        kind: what it names.
        place: what stands there.
    """

    intervention: str
    option: str
    kind: SideData
    place: str

    @property
    def described(self) -> str:
        """How errors name it."""
        return f"interventions.{self.intervention}: {self.option} = {self.place!r}"

    @property
    def rows_name(self) -> str:
        """What the other rows are called beside the splits."""
        return f"{self.option} of interventions.{self.intervention}"


def list_side_options(named: Mapping[str, Any], kind: SideData | None = None) -> list[SideOption]:
    """The options that name side data, of one kind or of all; of what names nothing none."""
    found = [option for name, value in named.items() for option in _list_own(name, value)]
    return [option for option in found if kind in (None, option.kind)]


def fill_side_options(named: Mapping[str, Any], values: Mapping[SideOption, Any]) -> dict[str, Any]:
    """The same with side data in the place of their names."""
    filled = dict(named)
    for option, value in values.items():
        filled[option.intervention] = {**filled[option.intervention], option.option: value}
    return filled


def _list_own(name: str, value: Any) -> Iterator[SideOption]:
    if not isinstance(value, Mapping):
        return
    with contextlib.suppress(ValueError, TypeError):  # which reading the interventions raises again
        found, options = read_named(name, Intervention, value)
        if isinstance(found, type) and issubclass(found, Intervention):
            for option, kind in found.side_data.items():
                place = options.get(option)
                if isinstance(place, str) and not _is_plain(kind, place):
                    yield SideOption(name, option, kind, place)


def _is_plain(kind: SideData, place: str) -> bool:
    """Whether a text stands for itself: the labels in place of a column, a function in place of masks."""
    return (kind == "column" and place == CLASS) or (kind == "masks" and ":" in place)


def say_which(name: str, read: Callable[[], Result]) -> Result:
    """What is read; errors name the intervention.

    Raises:
        ValueError, TypeError: as `read` raises, after the name.
    """
    try:
        return read()
    except (ValueError, TypeError) as error:
        raise type(error)(str(error) if repr(name) in str(error) else f"interventions.{name}: {error}") from error
