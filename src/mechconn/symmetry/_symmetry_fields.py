"""Reading the fields of a symmetry, as it is in memory and as its files hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from mechconn.symmetry import _pattern
from mechconn.symmetry._action import Action
from mechconn.symmetry._pattern import Pattern

UnitPlace: TypeAlias = tuple[str, int]
"""A tensor's name and the number of one of its axes."""


def read_axes(value: Mapping[str, Any]) -> dict[str, tuple[Pattern, ...]]:
    """Patterns, from patterns or from their texts.

    Raises:
        ValueError: neither, or a text that is no pattern.
    """
    if not isinstance(value, Mapping) or not all(isinstance(patterns, list | tuple) for patterns in value.values()):
        raise ValueError("axes must be a table: tensor -> a list with one pattern for each of its axes")
    return {str(name): tuple(map(_read_pattern, patterns)) for name, patterns in value.items()}


def _read_pattern(value: Any) -> Pattern:
    if isinstance(value, tuple) and all(isinstance(factor, str | int | _pattern.Sum) for factor in value):
        return value
    if not isinstance(value, str):
        raise ValueError(f"axes must hold patterns as texts, such as 'conv2 49', got {value!r}")
    return _pattern.parse(value)


def read_frozen(value: Any) -> dict[UnitPlace, str]:
    """Reasons by place, or a list of (tensor, axis, reason).

    Raises:
        ValueError: neither.
    """
    if isinstance(value, Mapping):
        value = [(*place, reason) if isinstance(place, tuple) else place for place, reason in value.items()]
    if not isinstance(value, list | tuple) or not all(map(_is_frozen_axis, value)):
        raise ValueError("frozen must be a list of [tensor, number of the axis, reason]")
    return {(name, axis): reason for name, axis, reason in value}


def _is_frozen_axis(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    name, axis, reason = value
    return isinstance(name, str) and type(axis) is int and isinstance(reason, str)


def read_actions(value: Any) -> tuple[Action, ...]:
    """Actions, or tables with their fields.

    Raises:
        ValueError: neither.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(part, Action | Mapping) for part in value):
        raise ValueError("actions must be a list of tables with name, kind, units and members")
    return tuple(part if isinstance(part, Action) else _read_action(part) for part in value)


def _read_action(value: Mapping[str, Any]) -> Action:
    names = {"name", "kind", "units", "members"}
    if not names <= set(value) <= {*names, "error"}:
        raise ValueError(
            f"an action must have name, kind, units and members, got {', '.join(map(str, value)) or 'none'}"
        )
    members, units, error = value["members"], value["units"], value.get("error")
    if not isinstance(value["name"], str) or not isinstance(units, list | tuple):
        raise ValueError("an action must have a name, and a list of the groups of its units")
    if error is not None and not isinstance(error, int | float):
        raise ValueError(f"the error of an action must be a number, got {error!r}")
    return Action(value["name"], value["kind"], tuple(map(str, units)), members, error)
