"""Which parameters make a block: by depth, by pattern, or by a mapping of names to patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from mechconn.core import check_choice, check_count

BlockChoice: TypeAlias = int | str | Mapping[str, str]
"""A depth in the module tree, a regular expression, or names of blocks with one each."""
BlockOrder: TypeAlias = Literal["forward", "backward"] | Sequence[str]
"""In which order blocks join those that move: the model's own, its reverse, or names of blocks."""


def group_parameters(
    names: Sequence[str], blocks: BlockChoice, leave_out: str | None
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """(block -> its parameters, parameters left out), both in the order of `names`."""
    pattern = None if leave_out is None else _compile_pattern("leave_out", leave_out)
    left_out = tuple(name for name in names if pattern is not None and pattern.match(name))
    if pattern is not None and not left_out:
        raise ValueError(_explain_no_match("leave_out", repr(leave_out)))
    rest = [name for name in names if name not in left_out]
    owners = {name: _find_owners(name, blocks) for name in rest}
    without = [name for name, found in owners.items() if not found]
    twice = [f"{name} ({' and '.join(found)})" for name, found in owners.items() if len(found) > 1]
    if without:
        raise ValueError(
            f"these parameters belong to no block: {', '.join(without)}; add a pattern for them, or name them with "
            "leave_out='...'"
        )
    if twice:
        raise ValueError(
            f"these parameters belong to two blocks: {', '.join(twice)}; every parameter moves with one block only"
        )
    result: dict[str, tuple[str, ...]] = {block: () for block in blocks} if isinstance(blocks, Mapping) else {}
    for name, (block,) in owners.items():
        result[block] = (*result.get(block, ()), name)
    empty = [block for block, found in result.items() if not found]
    if empty or not result:
        raise ValueError(_explain_no_match("blocks", ", ".join(map(repr, empty)) or "none"))
    return result, left_out


def _find_owners(name: str, blocks: BlockChoice) -> list[str]:
    """The blocks that a parameter belongs to."""
    if isinstance(blocks, Mapping):
        return [block for block, pattern in blocks.items() if _compile_pattern(f"block {block!r}", pattern).match(name)]
    if isinstance(blocks, str):
        found = _compile_pattern("blocks", blocks).match(name)
        text = found and (found[1] if found.re.groups else found[0])
        return [text] if text else []
    parts = name.split(".")
    return [".".join(parts[:-1][: check_count("blocks", blocks)]) or name]


def _compile_pattern(what: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what}: {pattern!r} is no regular expression ({error})") from None


def _explain_no_match(what: str, patterns: str) -> str:
    return f"{what}: no parameter matches {patterns}; patterns are matched from the start of a parameter's name"


def accumulate_blocks(groups: Mapping[str, tuple[str, ...]], order: BlockOrder) -> dict[str, tuple[str, ...]]:
    """The block that joins -> all parameters that move from then on, in the order in which blocks join.

    Example:
        >>> accumulate_blocks({"stem": ("stem.weight",), "head": ("head.weight",)}, "backward")
        {'head': ('head.weight',), 'stem': ('head.weight', 'stem.weight')}
    """
    if isinstance(order, str):
        check_choice("cumulative", order, ("forward", "backward"))
        names = list(groups) if order == "forward" else list(groups)[::-1]
    else:
        names = list(order) if isinstance(order, Iterable) else [order]
        if sorted(map(repr, names)) != sorted(map(repr, groups)):
            raise ValueError(
                f"cumulative must name every block once, {list(groups)}, in the order in which they join, got {names}"
            )
    moving: tuple[str, ...] = ()
    result = {}
    for name in names:
        moving = (*moving, *groups[name])
        result[name] = moving
    return result
